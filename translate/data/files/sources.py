"""What images there are: a folder, a zip or tar archive (archives.py) or one file, as an ordered list of entries."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from translate.data.files import archives
from translate.domains import Part
from translate.errors import DataError
from translate.formatting import plural, printable
from translate.plugins import registry

MAX_FILES = 2_000_000
_IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif", ".jp2", ".tga"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
LIST_SUFFIXES = frozenset({".csv", ".tsv", ".txt"})
_ARCHIVE_NAME = re.compile(r"\.(zip|tgz|tar(\.\w+)?)$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Entry:
    """One image file.

    name: relative to its source, with forward slashes; what pairs are matched by.
    origin: the name to show to a user, with the source it is in.
    size: in bytes, as the folder or archive declares it.
    open: opens the file for reading; safe to call from several threads.
    modified: when the file, or the archive that it is in, was last changed, in nanoseconds.
    pair: what it shares with its partner in the other domain only, if it is from a list of pairs.
    """

    name: str
    origin: str
    size: int
    open: Callable[[], IO[bytes]]
    modified: int = 0
    pair: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """The extension, in lower case and with its dot."""
        return PurePosixPath(self.name).suffix.lower()

    @property
    def stem(self) -> str:
        """The name without its extension."""
        return str(PurePosixPath(self.name).with_suffix(""))

    @property
    def key(self) -> tuple[str, ...]:
        """The same for both images of a pair: from a list of pairs, otherwise the name without its extension."""
        return self.pair or (self.stem,)

    def read(self) -> bytes:
        """The whole file; DataError if it is too large or cannot be read."""
        if self.size > archives.MAX_FILE_BYTES:
            raise DataError(f"{self.origin}: {self.size:,} bytes; a file may have {archives.MAX_FILE_BYTES:,}")
        try:
            with self.open() as file:
                data = file.read(self.size + 1)  # read() allocates as many bytes as it is given
        except archives.READ_ERRORS as error:
            raise DataError(f"{self.origin}: {_reason(error)}") from error
        if len(data) > self.size:
            raise DataError(f"{self.origin}: it has more than the {self.size:,} bytes that it had when it was found")
        return data


@dataclass(frozen=True, eq=False)
class Source:
    """The image files at one place, sorted by name.

    location: as a user would write it, with a slash at the end of a folder.
    title: what the user calls it: the name of the folder, or of the file without its extension.
    others: names of the files that are no images by their extension, and of an archive's links; they are ignored.
    lists: those of the others that may be lists of pairs, by their names.
    path: the folder on disk, None inside an archive.
    part: which half of each image is meant, None for the whole.
    held_out: the held-out images that go with these, once they are known.
    notes: sentences for the user about how these images were chosen.
    """

    location: str
    title: str
    entries: tuple[Entry, ...]
    others: tuple[str, ...] = ()
    lists: tuple[Entry, ...] = ()
    path: Path | None = None
    part: Part = None
    held_out: Source | None = None
    notes: tuple[str, ...] = ()

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
                title=folder,
                entries=tuple(groups[folder]),
                others=tuple(others.get(folder, ())),
                path=self.path and self.path / folder,
            )
            for folder in sorted(groups, key=lambda name: (name.lower(), name))
        }

    def files(self) -> list[Entry]:
        """The images in no sub-folder."""
        return [entry for entry in self.entries if "/" not in entry.name]

    def require_images(self) -> None:
        """Raises DataError, saying what is there instead, if there are no images."""
        if not self.entries:
            others = plural(len(self.others), "file")
            held = f"{others}, but none is an image by its name" if self.others else "no files"
            raise DataError(
                f"{self.location} has no images: it holds {held}. Read are {', '.join(sorted(image_suffixes()))}."
            )


def open_source(path: Path) -> Source:
    """The images of a folder (recursive), a zip or tar archive, or one image file; DataError if it is none of these."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            location = _location(path)
            return _sorted_source(location, path.name or location, _folder_entries(path), path)
        title = path.name.split(".")[0] or path.name
        if path.suffix.lower() in image_suffixes():
            return Source(str(path), title, (file_entry(path, path.name),))
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path} is neither a file nor a folder.")
        members = archives.read_archive(path)
        if members is not None:
            modified = status.st_mtime_ns
            entries = (Entry(name, f"{path}/{name}", size, opener, modified) for name, size, opener in members)
            return _sorted_source(str(path), title, entries)
    except archives.READ_ERRORS as error:
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
    return _IMAGE_SUFFIXES.union(*(reader.suffixes for reader in registry.readers().values()))


def _location(folder: Path) -> str:
    return f"{str(folder).rstrip('/')}/"


def _sorted_source(location: str, title: str, found: Iterable[Entry], path: Path | None = None) -> Source:
    """The files of one place, without hidden ones, sorted by name. Raises DataError if there are too many."""
    suffixes = image_suffixes()
    images: dict[str, Entry] = {}
    others: list[Entry] = []
    for count, entry in enumerate(found, start=1):
        if count > MAX_FILES:
            raise DataError(f"{location} holds more than {MAX_FILES:,} files, which is the limit.")
        if any(part.startswith(".") or part == "__MACOSX" for part in entry.name.split("/")):
            continue
        if entry.suffix in suffixes:
            images[entry.name] = entry
        else:
            others.append(entry)
    return Source(
        location,
        title,
        entries=tuple(images[name] for name in sorted(images)),
        others=tuple(sorted(entry.name for entry in others)),
        lists=tuple(entry for entry in others if entry.suffix in LIST_SUFFIXES),
        path=path,
    )


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
            raise DataError(f"{location}{printable(inside)} cannot be read: {_reason(error)}.") from error
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
                shown = printable(name)
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


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__
