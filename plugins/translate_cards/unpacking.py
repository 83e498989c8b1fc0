"""From a data set's archives to folders of images: only the images that the card names are written.

translate/data/files/archives.py reads archives in place, and refuses those that point outside of themselves or declare
too many bytes. Before anything is written, it is checked that all the card's images are there and fit on the disk.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from translate.atomic_files import is_disk_full
from translate.data.files.sources import Entry, open_source
from translate.errors import DataError
from translate.progress import byte_progress_bar
from translate.threads import in_parallel
from translate_cards.cards import Card, CardDomain
from translate_cards.downloads import require_space

if TYPE_CHECKING:
    import numpy as np

MAX_IDX_BYTES = 2**30


def unpack(card: Card, files: Sequence[Path], folder: Path) -> None:
    """Fill the folder with train/DOMAIN/* and test/DOMAIN/*, or, of side-by-side images, train/* and test/*.

    Raises DataError if the files do not hold what the card describes.
    """
    pictures = {name: domain for name, domain in card.domains.items() if not domain.classes}
    jobs = _jobs(card, pictures, files, folder) if pictures else []
    try:
        with byte_progress_bar(f"Unpacking {card.name}", sum(entry.size for entry, _ in jobs)) as advance:
            in_parallel(lambda job: advance(_write(*job)), jobs)
        for name, domain in card.domains.items():
            if domain.classes:
                for split, images in domain.splits.items():
                    _unpack_idx(files, images, domain.classes, folder / split / name)
    except OSError as error:
        reason = "the disk is full" if is_disk_full(error) else error.strerror or error
        raise DataError(f"The images of {card.name!r} could not be written to {folder}: {reason}.") from error


def _jobs(card: Card, domains: dict[str, CardDomain], files: Sequence[Path], folder: Path) -> list[tuple[Entry, Path]]:
    """Each image and where it goes."""
    entries = [entry for file in files for entry in open_source(file).entries]
    jobs: dict[Path, Entry] = {}
    for name, domain in domains.items():
        for split, location in domain.splits.items():
            found = _chosen(entries, location, domain.match)
            if not found:
                pattern = f" called {domain.match}" if domain.match else ""
                names = " and ".join(file.name for file in files)
                raise DataError(
                    f"{names} should have images{pattern} in {location}/ for {card.name}/{name}; none is there."
                )
            target = folder / split if domain.part else folder / split / name
            jobs |= {target / image: entry for image, entry in found.items()}
    require_space(folder, sum(entry.size for entry in jobs.values()), f"Unpacking {card.name}")
    return [(entry, path) for path, entry in jobs.items()]


def _chosen(entries: Sequence[Entry], location: str, match: str | None) -> dict[str, Entry]:
    """The images below a folder of the archive, by the name that each gets."""
    prefix = f"{location.strip('/')}/"
    inside = {entry.name.removeprefix(prefix): entry for entry in entries if entry.name.startswith(prefix)}
    if match is None:
        return inside
    before, after = map(re.escape, match.split("*"))
    pattern = re.compile(f"((?:.*/)?){before}([^/]+){after}", re.DOTALL)
    found = {name: pattern.fullmatch(name) for name in inside}
    return {f"{m[1]}{m[2]}{PurePosixPath(name).suffix}": inside[name] for name, m in found.items() if m}


def _write(entry: Entry, path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.write_bytes(entry.read())


# IDX -----------------------------------------------------------------------------------------------------------------


def _unpack_idx(files: Sequence[Path], name: str, classes: Sequence[str], folder: Path) -> None:
    """PNG files in one sub-folder a class, from an IDX file of images and the one of their labels."""
    by_name = {file.name: file for file in files}
    images, labels = (
        _read_idx(by_name, each, dimensions)
        for each, dimensions in ((name, 3), (name.replace("images-idx3", "labels-idx1"), 1))
    )
    if len(images) != len(labels) or labels.max(initial=0) >= len(classes):
        raise DataError(
            f"{name} has {len(images):,} images, and its file of labels {len(labels):,} labels from 0 to "
            f"{labels.max(initial=0)}; expected are as many, from 0 to {len(classes) - 1}."
        )
    for label in classes:
        (folder / label).mkdir(parents=True, exist_ok=True)
    jobs = [(images[i], folder / classes[label] / f"{i:05d}.png") for i, label in enumerate(labels)]
    in_parallel(_write_png, jobs)


def _write_png(job: tuple[Any, Path]) -> None:
    from PIL import Image

    pixels, path = job
    Image.fromarray(pixels).save(path)


def _read_idx(files: dict[str, Path], name: str, dimensions: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The array of an IDX file of bytes: two zeros, the type 8, the number of dimensions, each as 4 bytes, the values.

    LeCun, Cortes, Burges: The MNIST Database, "the IDX file format".
    """
    import numpy as np

    if name not in files:
        raise DataError(f"The card has classes from {name}, but no such file to download.")
    with files[name].open("rb") as stream:
        opened = gzip.GzipFile(fileobj=stream) if stream.read(2) == b"\x1f\x8b" else stream
        stream.seek(0)
        try:
            content = opened.read(MAX_IDX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{files[name]} cannot be read: {error}.") from error
    start = 4 + 4 * dimensions
    shape = tuple(np.frombuffer(content[4:start].ljust(start - 4, b"\0"), ">u4").tolist())
    if content[:4] != bytes((0, 0, 8, dimensions)) or len(content) != start + int(np.prod(shape, dtype=np.uint64)):
        raise DataError(f"{files[name]} is no IDX file of bytes in {dimensions} dimensions, or is not whole.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
