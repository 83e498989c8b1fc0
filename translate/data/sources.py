"""What images there are: a folder, a zip or tar archive read in place, or one file, as a list of entries.

Nothing is ever extracted, changed or deleted. Archives come from strangers: names that point outside are refused, and
the number of files, the bytes of each and the bytes of all are limited.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import tarfile
import tempfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

from translate.errors import DataError

MAX_FILES = 2_000_000
MAX_FILE_BYTES = 512 * 2**20
MAX_ARCHIVE_BYTES = 64 * 2**30
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif", ".jp2", ".tga"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
_READ_ERRORS = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, tarfile.TarError)
_DECOMPRESSORS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, eq=False)
class Entry:
    """One image file.

    name: relative to its source, with forward slashes; what pairs are matched by.
    origin: the name to show to a user, with the source it is in.
    size: in bytes, as the folder or archive declares it.
    open: opens the file for reading; safe to call from several threads.
    """

    name: str
    origin: str
    size: int
    open: Callable[[], IO[bytes]]

    @property
    def stem(self) -> str:
        """The name without its extension."""
        return str(PurePosixPath(self.name).with_suffix(""))

    def read(self) -> bytes:
        """The whole file; DataError if it is too large or cannot be read."""
        try:
            with self.open() as file:
                data = file.read(MAX_FILE_BYTES + 1) if self.size <= MAX_FILE_BYTES else b""
        except _READ_ERRORS as error:
            raise DataError(f"{self.origin}: {_reason(error)}") from error
        if max(self.size, len(data)) > MAX_FILE_BYTES:
            raise DataError(f"{self.origin}: {self.size:,} bytes; a file may have {MAX_FILE_BYTES:,}")
        return data


@dataclass(frozen=True, eq=False)
class Source:
    """The image files of one folder, archive or file, sorted by name.

    location: as a user would write it, with a slash at the end of a folder.
    others: names of the files that are no images by their extension; they are ignored.
    path: the folder on disk, None inside an archive.
    """

    location: str
    entries: tuple[Entry, ...]
    others: tuple[str, ...] = ()
    path: Path | None = None

    @property
    def title(self) -> str:
        """The last part of the location, without an archive's or file's extension."""
        name = PurePosixPath(self.location.replace(os.sep, "/")).name or self.location
        return name if self.location.endswith("/") else name.split(".")[0]

    def folders(self) -> dict[str, Source]:
        """The top-level sub-folders that hold images, by name, in order of name without regard to case."""
        groups: dict[str, list[Entry]] = {}
        others: dict[str, list[str]] = {}
        for entry in self.entries:
            folder, slash, rest = entry.name.partition("/")
            if slash:
                groups.setdefault(folder, []).append(replace(entry, name=rest))
        for name in self.others:
            folder, _, rest = name.partition("/")
            others.setdefault(folder, []).append(rest)
        return {
            folder: Source(
                location=f"{self.location.rstrip('/')}/{folder}/",
                entries=tuple(groups[folder]),
                others=tuple(others.get(folder, ())),
                path=self.path and self.path / folder,
            )
            for folder in sorted(groups, key=lambda name: (name.lower(), name))
        }

    def files(self) -> list[Entry]:
        """The images that lie in no sub-folder."""
        return [entry for entry in self.entries if "/" not in entry.name]


def open_source(path: Path) -> Source:
    """The images of a folder (recursive), a zip or tar archive, or one image file; DataError if it is none of these."""
    try:
        if path.is_dir():
            return _sorted_source(f"{str(path).rstrip('/')}/", _folder_entries(path), path)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            file = Entry(path.name, str(path), path.stat().st_size, partial(_open_regular, path))
            return Source(str(path), (file,))
        if zipfile.is_zipfile(path):
            return _sorted_source(str(path), _zip_entries(path))
        if not tarfile.is_tarfile(path):
            raise DataError(f"{path} is neither an image, by its name, nor a zip or tar archive.")
        return _sorted_source(str(path), _tar_entries(path))
    except _READ_ERRORS as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}.") from error


def in_parallel(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """The function of each item, in order, by as many threads as there are cores; the first error ends it at once."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            return list(pool.map(function, items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _sorted_source(location: str, found: Iterable[Entry], path: Path | None = None) -> Source:
    """Sorts by name, drops hidden files, sets aside what is no image, and enforces the limits."""
    images: dict[str, Entry] = {}
    others: list[str] = []
    total = 0
    for count, entry in enumerate(found, start=1):
        total += entry.size
        if count > MAX_FILES:
            raise DataError(f"{location} holds more than {MAX_FILES:,} files, which is the limit.")
        if path is None and total > MAX_ARCHIVE_BYTES:
            raise DataError(f"{location} declares more than {MAX_ARCHIVE_BYTES:,} unpacked bytes, which is the limit.")
        if any(part.startswith(".") or part == "__MACOSX" for part in entry.name.split("/")):
            continue
        if PurePosixPath(entry.name).suffix.lower() in IMAGE_SUFFIXES:
            images[entry.name] = entry
        else:
            others.append(entry.name)
    return Source(location, tuple(images[name] for name in sorted(images)), tuple(sorted(others)), path)


def _folder_entries(folder: Path) -> Iterator[Entry]:
    def refuse(error: OSError) -> None:
        raise error

    for root, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        if root != str(folder) and {"run.toml", "samples"} <= {
            *files,
            *folders,
        }:  # a run: its grids are no images of it
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".") and not _is_loop(Path(root, name))]
        for file in files:
            path = Path(root, file)
            if path.is_file() or path.is_symlink():  # a broken link is an entry that cannot be read, and is reported
                size = path.stat().st_size if path.exists() else 0
                name = path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape")
                shown = name.decode("utf-8", "backslashreplace")  # always printable
                yield Entry(shown, f"{str(folder).rstrip('/')}/{shown}", size, partial(_open_regular, path))


def _open_regular(path: Path) -> IO[bytes]:
    """Opens a file, but not a pipe or device that would block for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("not a regular file")
    return path.open("rb")


def _is_loop(folder: Path) -> bool:
    """Whether a symbolic link leads back to a folder that it is in."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def _zip_entries(path: Path) -> Iterator[Entry]:
    archive = zipfile.ZipFile(path)  # reads under its own lock, and closes with the last entry
    for info in archive.infolist():
        if not info.is_dir():
            name = _safe_name(path, info.filename.replace("\\", "/"))
            yield Entry(name, f"{path}/{name}", info.file_size, partial(archive.open, info))


def _tar_entries(path: Path) -> Iterator[Entry]:
    slices = _Slices(_uncompressed(path))
    with tarfile.open(fileobj=slices.file, mode="r:") as archive:
        for member in archive:
            if member.isreg() and not member.issparse():
                name = _safe_name(path, member.name)
                yield Entry(name, f"{path}/{name}", member.size, partial(slices.open, member.offset_data, member.size))


def _uncompressed(path: Path) -> IO[bytes]:
    """The tar file itself, or an unnamed temporary copy without the compression, which allows no random access."""
    file = path.open("rb")
    start = file.read(6)
    decompress = next((opener for magic, opener in _DECOMPRESSORS.items() if start.startswith(magic)), None)
    file.seek(0)
    if decompress is None:
        return file
    copy: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        with file, decompress(file) as stream:
            while block := stream.read(2**20):
                if copy.tell() + len(block) > MAX_ARCHIVE_BYTES:
                    raise DataError(f"{path} unpacks to more than {MAX_ARCHIVE_BYTES:,} bytes, which is the limit.")
                copy.write(block)
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return copy


class _Slices:
    """Byte ranges of one open file, for several threads; the file closes with the last of them."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self._lock = threading.Lock()
        weakref.finalize(self, file.close)

    def open(self, offset: int, size: int) -> IO[bytes]:
        with self._lock:
            self.file.seek(offset)
            return io.BytesIO(self.file.read(size))


def _safe_name(archive: Path, name: str) -> str:
    """The normalised name; refuses what points outside the archive, since outputs are written under the same names."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
        raise DataError(f"{archive} holds the name {name!r}, which points outside of it; such archives are refused.")
    return str(path)


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__
