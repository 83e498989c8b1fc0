"""Downloads that can be interrupted: one file from the first of several servers that has it, checked before use.

An incomplete NAME is called NAME.part. NAME.part.json beside it says which version of the file the server was sending,
so that a later attempt asks for the rest of that version, or starts over if the server has another one by then.
"""

from __future__ import annotations

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
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from translate.atomic_files import is_disk_full
from translate.errors import DataError
from translate.formatting import format_bytes
from translate.progress import byte_progress_bar
from translate_cards.cards import File

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
    """One version of a file, as a server describes it.

    tag: its ETag or else its Last-Modified, by which the rest of this version can be requested; may be empty.
    total: bytes of the whole file, None if unknown.
    """

    url: str
    tag: str
    total: int | None

    @classmethod
    def of(cls, response: Any, url: str) -> Version:
        """The version that an answer sends, all or part of it. A weak ETag does not identify bytes and is not used."""
        headers = response.headers
        tag = headers.get("ETag", "")
        tag = headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
        partial = response.status == http.client.PARTIAL_CONTENT  # "bytes 500-999/1000"
        total = headers.get("Content-Range", "").rpartition("/")[2] if partial else headers.get("Content-Length", "")
        return cls(url, tag, int(total) if total.isdigit() else None)


class _Part:
    """The file that a download grows in, and what is known of the version that it belongs to."""

    def __init__(self, final: Path) -> None:
        self.path = final.with_name(f"{final.name}.part")
        self._state = final.with_name(f"{final.name}.part.json")

    def version(self, url: str) -> Version | None:
        """The version that has begun to arrive from this url, if one has."""
        try:
            version = Version(**json.loads(self._state.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return version if version.url == url and self.path.exists() else None

    def begin(self, version: Version) -> None:
        self._state.write_text(json.dumps(version._asdict()))

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)


def download(file: File, folder: Path) -> Path:
    """The file in the folder, fetched unless it is there, and with the size and checksum that are known of it.

    Raises DataError with the reason for each url. What has arrived stays for the next attempt, unless it is wrong.
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
    rest = " Run this again to go on from there." if _Part(path).path.exists() else ""
    raise DataError(f"{file.name} could not be downloaded. {'; '.join(failures)}.{rest}")


def remote_size(file: File) -> int | None:
    """The bytes that the first server to answer declares; None if it does not say. Raises DataError if none answers."""
    failures = []
    for url in file.urls:
        try:
            with _open(url, {}, method="HEAD") as response:
                return Version.of(response, url).total
        except TransferError as failure:
            failures.append(f"{url}: {failure}")
    raise DataError(f"{file.name} cannot be had. {'; '.join(failures)}.")


def remember(path: Path) -> None:
    """Record the checksum of a file that has proved good, for comparison with later downloads of it."""
    record = _record_of(path)
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


def _fetch(file: File, url: str, path: Path) -> None:
    """Receive, check and rename; after a failure that may pass, wait and go on from there."""
    part = _Part(path)
    for wait in (*WAITS, None):
        try:
            _receive(file, url, part)
            if wrong := _what_is_wrong(file, part.path, path):
                part.remove()
                raise TransferError(f"what it sends {wrong}; it was removed")
            part.path.replace(path)
            part.remove()
            return
        except TransferError as failure:
            if wait is None or not failure.again:
                raise
            print(f"{file.name}: {failure}; trying again", file=sys.stderr)
            time.sleep(wait)


def _receive(file: File, url: str, part: _Part) -> None:
    """Complete the part with what the server has of the file: all of it, or the rest of the version that has begun."""
    before = part.version(url)
    start = part.path.stat().st_size if before and (before.tag or file.has_checksum) else 0
    if before and start == before.total:
        return
    headers = {"Range": f"bytes={start}-"} if start else {}
    if before and before.tag and start:
        headers["If-Range"] = before.tag
    try:
        response = _open(url, headers)
    except TransferError as failure:
        if start and failure.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.remove()
            raise TransferError("it has become shorter", again=True) from failure
        raise
    with response:
        version = Version.of(response, url)
        if response.status != http.client.PARTIAL_CONTENT:
            start = 0  # the server knows no ranges, or has another version by now, and sends all of it
        elif version != before or not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.remove()
            raise TransferError("it went on with another part or version than was asked for", again=True)
        if file.bytes and version.total and version.total != file.bytes:
            raise TransferError(f"the server has {version.total:,} bytes, where the card says {file.bytes:,}")
        require_space(part.path.parent, (version.total or file.size or 0) - start, f"The rest of {file.name}")
        part.begin(version)
        _write(response, part.path, start, version.total or file.bytes, file.name)
    arrived = part.path.stat().st_size
    if version.total and arrived < version.total:
        raise TransferError(f"it broke off after {arrived:,} of {version.total:,} bytes", again=True)


def _write(response: Any, path: Path, start: int, total: int | None, name: str) -> None:
    """What the server sends, from that byte of the file on."""
    title = f"{'Downloading' if start == 0 else 'Going on with'} {name}" + (f", {format_bytes(total)}" if total else "")
    try:
        with path.open("r+b" if start else "wb") as stream, byte_progress_bar(title, total, start) as advance:
            stream.seek(start)
            while block := response.read1(BLOCK):
                stream.write(block)
                advance(len(block))
                if stream.tell() > (total or MAX_BYTES):
                    raise TransferError(f"the server sends more than {total or MAX_BYTES:,} bytes")
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and is_disk_full(error):
            raise DataError(f"The disk is full. Make room and run this again to go on with {path}.") from error
        raise _transfer_error(error) from error


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
        raise _transfer_error(error) from error


def _transfer_error(error: Exception) -> TransferError:
    """A network error in words, and whether it may pass."""
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


def _what_is_wrong(file: File, found: Path, path: Path) -> str:
    """How a whole file differs from the card, or from the record of an earlier download; empty if it does not."""
    size = found.stat().st_size
    if file.bytes and size != file.bytes:
        return f"has {size:,} bytes, where the card says {file.bytes:,}"
    known = {"sha256": file.sha256, "md5": file.md5}
    source = "the card says"
    if not any(known.values()) and (record := _record_of(path)).exists():
        recorded = json.loads(record.read_text())
        known = {"sha256": recorded["sha256"]}
        source = f"the download of {recorded['date']}, recorded in {record}, had"
    for kind, expected in known.items():
        if expected and (digest := _digest(found, kind)) != expected:
            return f"has the {kind} {digest}, where {source} {expected}"
    return ""


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=kind != "md5")).hexdigest()


def _record_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256.json")
