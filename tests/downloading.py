"""A server on this machine that behaves like servers on the net, and archives for it to serve."""

import hashlib
import http.server
import io
import random
import re
import socket
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image

from translate.plugins.registry import Registry
from translate.plugins.types import Dataset
from translate_cards import register_datasets


class Server:
    """What is served, how, and which requests came.

    content: bytes by path. breaks_after: the next answers end after so many bytes. status: answered next, then 200.
    requests: method, path and range of each, in order.
    ranges, tags: whether it knows Range, and sends ETags. length: sent as Content-Length instead of the true one.
    """

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.breaks_after: list[int] = []
        self.status: list[int] = []
        self.ranges = True
        self.tags = True
        self.length: int | None = None
        self.requests: list[tuple[str, str, str | None]] = []
        self.url = ""

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.requests.append((handler.command, handler.path, wanted))
        body = self.content.get(handler.path)
        status = self.status.pop(0) if self.status else 200
        if body is None or status != 200:
            handler.send_error(404 if body is None else status)
            return
        tag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.ranges else 0
        if start and handler.headers.get("If-Range", tag) != tag:
            start = 0
        if start >= len(body) > 0:
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(self.length or len(body) - start))
        if self.tags:
            handler.send_header("ETag", tag)
        handler.end_headers()
        if handler.command == "GET":
            end = start + self.breaks_after.pop(0) if self.breaks_after else len(body)
            with suppress(ConnectionError):  # the client may have hung up
                handler.wfile.write(body[start:end])


@contextmanager
def serving() -> Iterator[Server]:
    """A server in a thread, stopped at the end."""
    server = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.answer(self)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.url = f"http://127.0.0.1:{listener.server_address[1]}"
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def picture(seed: int) -> bytes:
    """A PNG of random pixels."""
    stream = io.BytesIO()
    Image.frombytes("RGB", (12, 12), random.Random(seed).randbytes(3 * 12 * 12)).save(stream, "PNG")
    return stream.getvalue()


PAIRS = {
    f"stripes/{split}{side}/{n}.png": picture(100 * len(split) + 10 * ord(side) + n)
    for split in ("train", "test")
    for side in "AB"
    for n in range(3)
}


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(files: dict[str, bytes | str]) -> bytes:
    """A compressed tar archive; text stands for a symbolic link to it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_card(folder: Path, url: str, name: str = "stripes", fields: str = "", more: str = "") -> Path:
    """A card with two domains, `broad` and `fine`; fields: of its file, more: of the card."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(
        f'name = "{name}"\nabout = "Stripes."\nlicence = "CC0"\ncitation = "Nobody, 2020"\n{more}\n'
        f'[[files]]\nurls = ["{url}"]\n{fields}\n'
        '[domains.broad]\ntrain = "stripes/trainA"\ntest = "stripes/testA"\n'
        '[domains.fine]\ntrain = "stripes/trainB"\ntest = "stripes/testB"\n'
    )
    return path


def datasets_of_cards() -> Registry[Dataset]:
    """Instead of `registry.datasets`: only those of the cards, read anew at each call."""
    found: Registry[Dataset] = Registry("data set")
    register_datasets(lambda dataset: found.add(dataset.name, dataset, "cards"))
    return found
