"""What images there are: a folder, a zip or tar archive read in place, or one file, as a list of entries.

Nothing is ever extracted, changed or deleted. Archives come from strangers: names and links that point outside are
refused, no link is followed, and the number of files, the bytes of each and the bytes of all are limited.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import posixpath
import re
import stat
import struct
import tarfile
import tempfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from translate.errors import DataError
from translate.plugins import registry

MAX_FILES = 2_000_000
MAX_FILE_BYTES = 512 * 2**20
MAX_ARCHIVE_BYTES = 64 * 2**30
# Beyond so many unpacked bytes, an archive may not be so many times smaller than what is in it: images hardly shrink.
UNSUSPICIOUS_BYTES = 2**30
MAX_RATIO = 100
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif", ".jp2", ".tga"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
LIST_SUFFIXES = frozenset({".csv", ".tsv", ".txt"})
_ARCHIVE_NAME = re.compile(r"\.(zip|tgz|tar(\.\w+)?)$", re.IGNORECASE)
_READ_ERRORS = (
    *(OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, tarfile.TarError),
    *(ValueError, OverflowError, struct.error),  # of headers that make no sense
)
_DECOMPRESSORS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


@dataclass(frozen=True, eq=False)
class Entry:
    """One image file.

    name: relative to its source, with forward slashes; what pairs are matched by.
    origin: the name to show to a user, with the source it is in.
    size: in bytes, as the folder or archive declares it.
    open: opens the file for reading; safe to call from several threads.
    modified: when the file, or the archive that it is in, was last changed, in nanoseconds.
    pair: what it shares with its partner in the other domain alone, if a list says so.
    """

    name: str
    origin: str
    size: int
    open: Callable[[], IO[bytes]]
    modified: int = 0
    pair: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """The name without its extension."""
        return str(PurePosixPath(self.name).with_suffix(""))

    @property
    def key(self) -> tuple[str, ...]:
        """What the two images of a pair have in common: what a list says, otherwise the name without its extension."""
        return self.pair or (self.stem,)

    def read(self) -> bytes:
        """The whole file; DataError if it is too large or cannot be read."""
        if self.size > MAX_FILE_BYTES:
            raise DataError(f"{self.origin}: {self.size:,} bytes; a file may have {MAX_FILE_BYTES:,}")
        try:
            with self.open() as file:
                data = file.read(self.size + 1)  # memory for so much is allocated, so not for what could be at most
        except _READ_ERRORS as error:
            raise DataError(f"{self.origin}: {_reason(error)}") from error
        if len(data) > self.size:
            raise DataError(f"{self.origin}: it has more than the {self.size:,} bytes that it had when it was found")
        return data


@dataclass(frozen=True, eq=False)
class Source:
    """The image files of one folder, archive or file, sorted by name.

    location: as a user would write it, with a slash at the end of a folder.
    others: names of the files that are no images by their extension, and of an archive's links; they are ignored.
    path: the folder on disk, None inside an archive.
    lists: those of the others that may be lists of pairs, by their names.
    """

    location: str
    entries: tuple[Entry, ...]
    others: tuple[str, ...] = ()
    path: Path | None = None
    lists: tuple[Entry, ...] = ()

    @property
    def title(self) -> str:
        """The last part of the location, without an archive's or file's extension."""
        name = PurePosixPath(self.location.replace(os.sep, "/")).name or self.location
        return name if self.location.endswith("/") else name.split(".")[0] or name

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
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return _sorted_source(_location(path), _folder_entries(path), path)
        if path.suffix.lower() in image_suffixes():
            return Source(str(path), (file_entry(path, path.name),))
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path} is neither a file nor a folder.")
        if zipfile.is_zipfile(path):
            return _sorted_source(str(path), _limited(path, _zip_entries(path)))
        if tarfile.is_tarfile(path):
            return _sorted_source(str(path), _limited(path, _tar_entries(path)))
    except _READ_ERRORS as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}.") from error
    if path.suffix.lower() in LIST_SUFFIXES:
        raise DataError(f"{path} is neither an image nor an archive, by its name; a list of pairs is given as --data.")
    if _ARCHIVE_NAME.search(path.name):
        raise DataError(f"{path} is no zip or tar archive, despite its name; it may be incomplete: fetch it again.")
    raise DataError(f"{path} is neither an image, by its name, nor a zip or tar archive.")


def file_entry(path: Path, name: str) -> Entry:
    """A file on disk under a name of its own; OSError if it is not there."""
    status = path.stat()
    return Entry(name, str(path), status.st_size, partial(_open_regular, path), status.st_mtime_ns)


def image_suffixes() -> frozenset[str]:
    """The extensions, in lower case and with their dot, that some reader reads."""
    return IMAGE_SUFFIXES.union(*(reader.suffixes for reader in registry.readers().values()))


def _location(folder: Path) -> str:
    return f"{str(folder).rstrip('/')}/"


def _sorted_source(location: str, found: Iterable[Entry | str], path: Path | None = None) -> Source:
    """Sorts by name, drops hidden files, sets aside what is no image (a name alone never is), limits the number."""
    suffixes = image_suffixes()
    images: dict[str, Entry] = {}
    others: list[str] = []
    lists: list[Entry] = []
    for count, item in enumerate(found, start=1):
        name = item if isinstance(item, str) else item.name
        suffix = PurePosixPath(name).suffix.lower()
        if count > MAX_FILES:
            raise DataError(f"{location} holds more than {MAX_FILES:,} files, which is the limit.")
        if any(part.startswith(".") or part == "__MACOSX" for part in name.split("/")):
            continue
        if not isinstance(item, str) and suffix in suffixes:
            images[name] = item
            continue
        others.append(name)
        if not isinstance(item, str) and suffix in LIST_SUFFIXES:
            lists.append(item)
    entries = tuple(images[name] for name in sorted(images))
    return Source(location, entries, tuple(sorted(others)), path, tuple(lists))


def _folder_entries(folder: Path) -> Iterator[Entry]:
    """All files below a folder. Links are followed, but not to a folder that they are in."""
    location = _location(folder)
    around = frozenset(_identity(os.stat(parent)) for parent in folder.resolve().parents)
    pending = [("", around)]
    for opened in range(MAX_FILES):
        if not pending:
            return
        inside, around = pending.pop()
        try:
            items = list(os.scandir(os.path.join(folder, inside)))
        except OSError as error:
            raise DataError(f"{location}{_printable(inside)} cannot be read: {_reason(error)}.") from error
        if opened and {"run.toml", "samples"} <= {item.name for item in items}:
            continue  # a run: its grids are no images of this folder
        around |= {_identity(os.stat(os.path.join(folder, inside)))}
        for item in items:
            name, status = inside + item.name, _status(item.path)
            if status is not None and stat.S_ISDIR(status.st_mode):
                if not item.name.startswith(".") and _identity(status) not in around:
                    pending.append((f"{name}/", around))
            elif status is None or stat.S_ISREG(status.st_mode):
                # What a broken link points to is an entry that cannot be read, and is reported.
                size, modified = (status.st_size, status.st_mtime_ns) if status else (0, 0)
                shown = _printable(name)
                yield Entry(shown, location + shown, size, partial(_open_regular, Path(item.path)), modified)
    raise DataError(f"{location} holds more than {MAX_FILES:,} folders, which is the limit.")


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    """The same for a folder by whatever name."""
    return status.st_dev, status.st_ino


def _open_regular(path: Path) -> IO[bytes]:
    """Opens a file, but not a pipe or device that would block for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("not a regular file")
    return path.open("rb")


def _limited(path: Path, entries: Iterable[Entry | str]) -> Iterator[Entry | str]:
    """Refuses an archive that declares too many unpacked bytes, in all or for its size."""
    total, own = 0, path.stat().st_size
    for entry in entries:
        total += 0 if isinstance(entry, str) else entry.size
        if total > MAX_ARCHIVE_BYTES:
            raise DataError(f"{path} declares more than {MAX_ARCHIVE_BYTES:,} unpacked bytes, which is the limit.")
        yield entry
    if total > max(UNSUSPICIOUS_BYTES, MAX_RATIO * own):
        raise DataError(
            f"{path} declares {total:,} unpacked bytes, more than {MAX_RATIO} times its own {own:,}; no images shrink "
            "so much, and such archives are refused."
        )


def _zip_entries(path: Path) -> Iterator[Entry | str]:
    archive = zipfile.ZipFile(path)  # reads under its own lock, and closes with the last entry
    modified = path.stat().st_mtime_ns
    locked = sum(info.flag_bits & 1 for info in archive.infolist())
    if locked:
        raise DataError(
            f"{path} is encrypted: {locked:,} of {len(archive.infolist()):,} entries need a password; unpack it with "
            "the password, and give the folder."
        )
    for info in archive.infolist():
        made_by_unix = info.create_system == 3  # where a backslash is a letter like any other
        name = info.orig_filename if made_by_unix else info.orig_filename.replace("\\", "/")
        if name.endswith("/"):
            continue
        name = _safe_name(path, name)
        if stat.S_ISLNK(info.external_attr >> 16):
            with archive.open(info) as file:
                target = file.read(4096).decode("utf-8", "backslashreplace")
            yield _link(path, name, target, posixpath.dirname(name))
        else:
            yield Entry(name, f"{path}/{name}", info.file_size, partial(archive.open, info), modified)


def _tar_entries(path: Path) -> Iterator[Entry | str]:
    slices = _Slices(_uncompressed(path))
    modified = path.stat().st_mtime_ns
    with tarfile.open(fileobj=slices.file, mode="r:") as archive:
        for member in archive:
            if member.size < 0:  # would lead back to where the archive was read already
                raise DataError(f"{path} is damaged: {member.name!r} has a size of {member.size}.")
            name = _safe_name(path, member.name)
            if member.issym() or member.islnk():
                yield _link(path, name, member.linkname, posixpath.dirname(name) if member.issym() else "")
            elif member.isreg() and not member.issparse():
                opener = partial(slices.open, member.offset_data, member.size)
                yield Entry(name, f"{path}/{name}", member.size, opener, modified)
            elif not member.isdir():
                yield f"{name} (no regular file)"


def _uncompressed(path: Path) -> IO[bytes]:
    """The tar file itself, or an unnamed temporary copy without the compression, which allows no random access."""
    file = path.open("rb")
    start = file.read(6)
    decompress = next((opener for magic, opener in _DECOMPRESSORS.items() if start.startswith(magic)), None)
    file.seek(0)
    if decompress is None:
        return file
    own = path.stat().st_size
    limit = min(MAX_ARCHIVE_BYTES, max(UNSUSPICIOUS_BYTES, MAX_RATIO * own))
    copy: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        with file, decompress(file) as stream:
            while block := stream.read(2**20):
                if copy.tell() + len(block) > limit:
                    raise DataError(f"{path} unpacks to more than {limit:,} bytes, the limit for its own {own:,}.")
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
        self._length = os.fstat(file.fileno()).st_size
        self._lock = threading.Lock()
        weakref.finalize(self, file.close)

    def open(self, offset: int, size: int) -> IO[bytes]:
        if size > MAX_FILE_BYTES:  # all of it comes into memory, and be it for the header alone
            raise DataError(f"{size:,} bytes; a file may have {MAX_FILE_BYTES:,}")
        with self._lock:
            self.file.seek(offset)
            return io.BytesIO(self.file.read(max(0, min(size, self._length - offset))))


def _safe_name(archive: Path, name: str) -> str:
    """The normalised name; refuses what points outside the archive, since outputs are written under the same names."""
    if _leads_outside(name):
        raise DataError(f"{archive} holds the name {name!r}, which points outside of it; such archives are refused.")
    return _printable(str(PurePosixPath(name)))


def _link(archive: Path, name: str, target: str, folder: str) -> str:
    """What a link is called among the files that are no images; refuses one whose target is outside the archive."""
    if PureWindowsPath(target).anchor or _leads_outside(posixpath.normpath(posixpath.join(folder, target))):
        raise DataError(
            f"{archive} holds the link {name!r} to {target!r}, which points outside of it; such archives are refused."
        )
    return f"{name} (a link)"


def _leads_outside(name: str) -> bool:
    """Whether a path, read as on any system, is absolute or goes up; a name with a NUL may mean anything."""
    path = PureWindowsPath(name)
    return "\0" in name or ".." in path.parts or bool(path.root) or re.match("[A-Za-z]:", name) is not None


def _printable(name: str) -> str:
    """A name with the bytes that are no UTF-8 spelled out, so that it can be printed and written to any file."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # lone surrogates that stand for no byte
        return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__
