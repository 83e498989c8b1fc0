"""The cache folder of this machine, and what is made in it once for all processes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from translate.errors import DataError


def cache_folder() -> Path:
    """Where this machine keeps what can be made again: $TRANSLATE_CACHE, or translate/ in the user's cache folder."""
    if chosen := os.environ.get("TRANSLATE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "translate"


def made_once(final: Path, make: Callable[[Path], None]) -> Path:
    """A folder in the cache, complete or absent, filled if it is not there; while one process does it, others wait.

    make: fills the empty folder that it is given. Raises DataError if that cannot be written, and what `make` raises.
    """
    if final.is_dir():
        return final
    temporary = final.with_name(f".{final.name}.part")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with _acquire_lock(final):
            if final.is_dir():  # another process was first
                return final
            shutil.rmtree(temporary, ignore_errors=True)  # what a killed process left
            temporary.mkdir()
            try:
                make(temporary)
                temporary.rename(final)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{final} cannot be made: {error.strerror or error}. TRANSLATE_CACHE can name another folder."
        ) from error
    return final


def _acquire_lock(final: Path) -> AbstractContextManager[object]:
    """No other process makes this folder until the lock is released, at the end of a `with`."""
    from filelock import FileLock, Timeout

    lock = FileLock(final.with_name(f".{final.name}.lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print(f"Another process is making {final}; waiting for it.", file=sys.stderr)
        return lock.acquire()
