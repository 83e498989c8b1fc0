"""Files that are complete or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from translate.errors import CheckpointError

TEMPORARY = ".writing-"
"""The prefix of the names of incomplete files, such as a killed process leaves."""


def write_file(path: Path, content: bytes) -> dict[str, Any]:
    """Write, flush to the disk, and return size and sha256."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return size_and_sha256(content)


def write_atomically(path: Path, content: bytes) -> None:
    """Write under a temporary name, then rename: the file is the old one or the new one. Raises CheckpointError."""
    aside = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        write_file(aside, content)
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):  # the folder may not be a folder
            aside.unlink()
        raise explain_os_error(error, path) from error


@contextmanager
def open_atomically(path: Path) -> Iterator[IO[bytes]]:
    """A file under a temporary name of this thread's own, which becomes `path` if nothing is raised inside.

    It is not flushed to the disk, unlike `write_atomically`: an image can be made again. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_disk_full(error: OSError) -> bool:
    """Whether a write failed because there is no room, or because the user's quota is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def explain_os_error(error: OSError, path: Path) -> CheckpointError:
    """The error for a write that failed, such as on a full disk. Earlier files are intact: see TEMPORARY."""
    if is_disk_full(error):
        return CheckpointError(
            f"The disk is full: {path} could not be written; what was saved before is whole. Make room and go on."
        )
    return CheckpointError(f"{path} could not be written: {error.strerror or error}.")


def size_and_sha256(content: bytes) -> dict[str, Any]:
    """Size and sha256 of a file's content, as a checkpoint records them."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename in it lasts."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
