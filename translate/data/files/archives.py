"""Zip and tar archives, read in place: their files as a list of members.

Nothing is ever extracted. Archives come from strangers: names and links that point outside are refused, no link is
followed, and the bytes of each file and of all files are limited.
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
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, NamedTuple

from translate.errors import DataError
from translate.formatting import printable

MAX_FILE_BYTES = 512 * 2**20
MAX_ARCHIVE_BYTES = 64 * 2**30
# Beyond so many unpacked bytes, an archive may not be so many times smaller than what is in it: images hardly shrink.
UNSUSPICIOUS_BYTES = 2**30
MAX_RATIO = 100
READ_ERRORS = (
    *(OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, tarfile.TarError),
    *(ValueError, OverflowError, struct.error),  # of headers that make no sense
)
"""What reading a damaged archive, or a file in it, may raise."""
_DECOMPRESSORS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


class Member(NamedTuple):
    """One file in an archive. open: safe to call from several threads.

    A link, and what is no regular file, is empty, and its name ends with what it is: "1.png (a link)" is no image.
    """

    name: str
    size: int = 0
    open: Callable[[], IO[bytes]] = io.BytesIO


def read_archive(path: Path) -> Iterator[Member] | None:
    """The files of a zip or tar archive as they are listed; None for any other file.

    Raises DataError for an archive that is encrypted, points outside of itself or declares too many unpacked bytes, in
    all or for its own size; one of READ_ERRORS if it is damaged.
    """
    if zipfile.is_zipfile(path):
        return _limited(path, _zip_members(path))
    return _limited(path, _tar_members(path)) if tarfile.is_tarfile(path) else None


def _limited(path: Path, members: Iterator[Member]) -> Iterator[Member]:
    total, own = 0, path.stat().st_size
    for member in members:
        total += member.size
        if total > MAX_ARCHIVE_BYTES:
            raise DataError(f"{path} declares more than {MAX_ARCHIVE_BYTES:,} unpacked bytes, which is the limit.")
        yield member
    if total > max(UNSUSPICIOUS_BYTES, MAX_RATIO * own):
        raise DataError(
            f"{path} declares {total:,} unpacked bytes, more than {MAX_RATIO} times its own {own:,}; no images shrink "
            "so much, and such archives are refused."
        )


def _zip_members(path: Path) -> Iterator[Member]:
    archive = zipfile.ZipFile(path)  # reads under its own lock, and closes with the last entry
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
            yield Member(name, info.file_size, partial(archive.open, info))


def _tar_members(path: Path) -> Iterator[Member]:
    slices = _Slices(_uncompressed(path))
    with tarfile.open(fileobj=slices.file, mode="r:") as archive:
        for member in archive:
            if member.size < 0:  # would lead back to where the archive was read already
                raise DataError(f"{path} is damaged: {member.name!r} has a size of {member.size}.")
            name = _safe_name(path, member.name)
            if member.issym() or member.islnk():
                yield _link(path, name, member.linkname, posixpath.dirname(name) if member.issym() else "")
            elif member.isreg() and not member.issparse():
                yield Member(name, member.size, partial(slices.open, member.offset_data, member.size))
            elif not member.isdir():
                yield Member(f"{name} (no regular file)")


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
        weakref.finalize(self, file.close)

    def open(self, offset: int, size: int) -> IO[bytes]:
        if size > MAX_FILE_BYTES:  # all of it comes into memory, and be it for the header alone
            raise DataError(f"{size:,} bytes; a file may have {MAX_FILE_BYTES:,}")
        return io.BytesIO(os.pread(self.file.fileno(), size, offset))


def _safe_name(archive: Path, name: str) -> str:
    """The normalised name. Raises DataError if it points outside: outputs are written under the same names."""
    if _leads_outside(name):
        raise DataError(f"{archive} holds the name {name!r}, which points outside of it; such archives are refused.")
    return printable(str(PurePosixPath(name)))


def _link(archive: Path, name: str, target: str, folder: str) -> Member:
    """A link, which is not followed. Raises DataError if its target is outside the archive."""
    if PureWindowsPath(target).anchor or _leads_outside(posixpath.normpath(posixpath.join(folder, target))):
        raise DataError(
            f"{archive} holds the link {name!r} to {target!r}, which points outside of it; such archives are refused."
        )
    return Member(f"{name} (a link)")


def _leads_outside(name: str) -> bool:
    """Whether a path, read as on any system, is absolute or goes up; a name with a NUL may mean anything."""
    path = PureWindowsPath(name)
    return "\0" in name or ".." in path.parts or bool(path.root) or re.match("[A-Za-z]:", name) is not None
