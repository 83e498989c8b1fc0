"""Downloads that break off and go on: one file from the first of several servers that has it, checked before use.

Beside NAME lie, while it is incomplete, NAME.part and NAME.part.json, which says what the server called that version:
so that a later attempt asks for the rest of the same version, and starts over if there is another by now.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import shutil
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from translate.data.catalogue.cards import File
from translate.errors import DataError
from translate.formatting import format_bytes

WAITS = (1.0, 3.0, 9.0)  # seconds before each further attempt at the same url
TIMEOUT = 30.0  # seconds without a byte
BLOCK = 2**20
MAX_BYTES = 64 * 2**30  # of a file whose size nobody states
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}


class TransferError(Exception):
    """An attempt that failed.

    again: whether another at the same url may do better.
    status: what the server answered, 0 if it did not.
    """

    def __init__(self, reason: str, *, again: bool = False, status: int = 0) -> None:
        super().__init__(reason)
        self.again = again
        self.status = status


class Version(NamedTuple):
    """What a server says of the file that it sends.

    tag: its ETag or else its Last-Modified, by which the rest of this version can be asked for; may be empty.
    total: bytes of the whole file, None if it does not say.
    """

    url: str
    tag: str
    total: int | None


def download(file: File, folder: Path) -> Path:
    """The file in the folder, fetched unless it is there, and with the size and checksum that are known of it.

    Raises DataError that says of each url what went wrong. What has arrived stays for the next attempt, unless it was
    found to be wrong.
    """
    path = folder / file.name
    if path.exists():
        if wrong := _what_is_wrong(file, path, path):
            raise DataError(f"{path} {wrong}. Delete it, or put the right file there.")
        return path
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for url in file.urls:
        try:
            _fetch(file, url, path)
            return path
        except TransferError as failure:
            failures.append(f"{url}: {failure}")
    rest = " Run this again to go on from there." if _part(path).exists() else ""
    raise DataError(f"{file.name} could not be downloaded. {'; '.join(failures)}.{rest}")


def remote_size(file: File) -> int | None:
    """The bytes that the first server to answer declares; None if it does not say. Raises DataError if none answers."""
    failures = []
    for url in file.urls:
        try:
            with _open(url, {}, method="HEAD") as response:
                return _length(response)
        except TransferError as failure:
            failures.append(f"{url}: {failure}")
    raise DataError(f"{file.name} cannot be had. {'; '.join(failures)}.")


def remember(path: Path) -> None:
    """Record the checksum of a file that has proved good, for comparison with later downloads of it."""
    record = _record(path)
    if not record.exists():
        aside = record.with_name(f".{record.name}-writing")
        aside.write_text(json.dumps({"sha256": _digest(path, "sha256"), "date": date.today().isoformat()}) + "\n")
        aside.replace(record)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise DataError unless so many bytes are free on the disk of the folder."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{what} needs {format_bytes(needed)}, but {folder} has {format_bytes(free)} free. Make room, or set "
            "TRANSLATE_CACHE to a folder on another disk."
        )


@contextmanager
def progress(title: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], object]]:
    """Inside, a terminal shows a bar of bytes, which the function moves on; elsewhere the title is one line."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        print(title, file=sys.stderr)
        yield lambda amount: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=total, completed=done)
        yield lambda amount: bar.advance(task, amount)


# One url -------------------------------------------------------------------------------------------------------------


def _fetch(file: File, url: str, path: Path) -> None:
    """Receive, check and rename; after a failure that may pass, wait and go on from there."""
    for wait in (*WAITS, None):
        try:
            part = _receive(file, url, path)
            if wrong := _what_is_wrong(file, part, path):
                _forget(part)
                raise TransferError(f"what it sends {wrong}; it was removed")
            part.replace(path)
            _forget(part)
            return
        except TransferError as failure:
            if wait is None or not failure.again:
                raise
            print(f"{file.name}: {failure}; trying again", file=sys.stderr)
            time.sleep(wait)


def _receive(file: File, url: str, path: Path) -> Path:
    """The part, with everything that the server has of the file."""
    part = _part(path)
    before = _known_version(part, url)
    start = part.stat().st_size if before and (before.tag or file.has_checksum) else 0
    if before and start == before.total:
        return part
    with _ask(part, url, before, start) as response:
        version = _version(response, url)
        if response.status != http.client.PARTIAL_CONTENT:
            start = 0  # the server knows no ranges, or has another version by now, and sends all of it
        elif not before or version != before or not _content_range(response).startswith(f"{start}-"):
            _forget(part)
            raise TransferError("it went on with another part or version than was asked for", again=True)
        if file.bytes and version.total and version.total != file.bytes:
            raise TransferError(f"the server has {version.total:,} bytes, where the card says {file.bytes:,}")
        require_space(part.parent, (version.total or file.size or 0) - start, f"The rest of {file.name}")
        _state(part).write_text(json.dumps(version._asdict()))
        _write(response, part, start, version.total or file.bytes, file.name)
    arrived = part.stat().st_size
    if version.total and arrived < version.total:
        raise TransferError(f"it broke off after {arrived:,} of {version.total:,} bytes", again=True)
    return part


def _write(response: Any, part: Path, start: int, total: int | None, name: str) -> None:
    """What the server sends, from that byte of the part on."""
    title = f"{'Downloading' if start == 0 else 'Going on with'} {name}" + (f", {format_bytes(total)}" if total else "")
    try:
        with part.open("r+b" if start else "wb") as stream, progress(title, total, start) as advance:
            stream.seek(start)
            while block := response.read1(BLOCK):
                stream.write(block)
                advance(len(block))
                if stream.tell() > (total or MAX_BYTES):
                    raise TransferError(f"the server sends more than {total or MAX_BYTES:,} bytes")
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"The disk is full. Make room and run this again to go on with {part}.") from error
        raise _explained(error) from error


def _ask(part: Path, url: str, before: Version | None, start: int) -> Any:
    """The server's answer to a request for the whole file, or for the rest of the version that has begun to arrive."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    if before and before.tag and start:
        headers["If-Range"] = before.tag
    try:
        return _open(url, headers)
    except TransferError as failure:
        if start and failure.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            _forget(part)  # it became shorter
            raise TransferError("it has become shorter", again=True) from failure
        raise


def _open(url: str, headers: dict[str, str], method: str = "GET") -> Any:
    """The server's answer, redirections followed. Raises TransferError."""
    headers = {"User-Agent": "translate-img2img", "Accept-Encoding": "identity", **headers}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        again = error.code in _TRY_AGAIN
        raise TransferError(
            f"the server answers {error.code} {error.reason}", again=again, status=error.code
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _explained(error) from error


def _explained(error: Exception) -> TransferError:
    """A network error in words; what is no matter of chance is not tried again."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, socket.gaierror):
        return TransferError("the host is not found; this machine may not be connected to the internet")
    if isinstance(reason, ConnectionRefusedError):
        return TransferError("the server refuses the connection")
    if isinstance(reason, TimeoutError):
        return TransferError(f"no answer within {TIMEOUT:.0f} s", again=True)
    if isinstance(reason, ssl.SSLError):
        return TransferError(f"no secure connection: {reason.reason or reason}")
    again = isinstance(reason, ConnectionError | http.client.IncompleteRead)
    return TransferError(f"the connection broke: {reason or type(reason).__name__}", again=again)


def _version(response: Any, url: str) -> Version:
    """A weak ETag names no bytes and does not count."""
    tag = response.headers.get("ETag", "")
    tag = response.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
    if response.status == http.client.PARTIAL_CONTENT:
        whole = _content_range(response).partition("/")[2]
        return Version(url, tag, int(whole) if whole.isdigit() else None)
    return Version(url, tag, _length(response))


def _length(response: Any) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _content_range(response: Any) -> str:
    """As in 500-999/1000."""
    return str(response.headers.get("Content-Range", "")).removeprefix("bytes ")


# What lies beside a file ---------------------------------------------------------------------------------------------


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _state(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256.json")


def _known_version(part: Path, url: str) -> Version | None:
    """Of which version from this url the part is; None if that cannot be told."""
    try:
        version = Version(**json.loads(_state(part).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return version if version.url == url and part.exists() else None


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state(part).unlink(missing_ok=True)


def _what_is_wrong(file: File, found: Path, path: Path) -> str:
    """In which way a whole file is not the one that the card, or the record of an earlier download, speaks of."""
    size = found.stat().st_size
    if file.bytes and size != file.bytes:
        return f"has {size:,} bytes, where the card says {file.bytes:,}"
    known = {"sha256": file.sha256, "md5": file.md5}
    said = "the card says"
    if not any(known.values()) and (record := _record(path)).exists():
        recorded = json.loads(record.read_text())
        known = {"sha256": recorded["sha256"]}
        said = f"the download of {recorded['date']}, recorded in {record}, had"
    for kind, expected in known.items():
        if expected and (digest := _digest(found, kind)) != expected:
            return f"has the {kind} {digest}, where {said} {expected}"
    return ""


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=kind != "md5")).hexdigest()
