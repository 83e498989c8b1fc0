"""What is at a path, seen without changing anything: every image is decoded once, and a few numbers of it are kept.

`find` recognises the layout; `Found.look` decodes. What follows from it is told by translate/data/check/checking.py.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from translate.data.domains import Labelled, Paired, Part, Unpaired
from translate.data.files.readers import read_image
from translate.data.files.sources import Entry
from translate.data.images import as_uint8, crop_part, resize
from translate.data.layout.detection import DomainFiles, Layout, detect_layout
from translate.data.options import DataOptions
from translate.errors import DataError, UsageError
from translate.threads import in_parallel

LARGEST = {8: 255.0, 16: 65535.0}
MODES = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGB with alpha"}
_THUMBNAIL = 128
_MEASURED = 2**16  # pixels of an image


class Seen(NamedTuple):
    """What is kept of a decoded image.

    name: of its file, as it is shown. digest: of its pixels, shape and depth.
    deviation: the largest standard deviation of a channel; low, high: the extremes; all in values of the source.
    """

    name: str
    width: int
    height: int
    channels: int
    bits: int
    digest: bytes
    deviation: float
    low: float
    high: float
    transparent: bool

    @property
    def mode(self) -> str:
        """What its channels are, in words."""
        return MODES.get(self.channels, f"{self.channels} channels")

    @property
    def depth(self) -> str:
        """How its values are kept, in words."""
        return "32-bit float" if self.bits == 32 else f"{self.bits} bit"


@dataclass
class Split:
    """One domain's training files, or its held-out ones, and what was seen in those that can be read."""

    domain: DomainFiles
    held_out: bool
    entries: Sequence[Entry]
    images: list[Seen] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """What is at the paths, before any image is decoded.

    layout: every file of every domain. pairs: the domains with the files that correspond only; empty if none do.
    refused: why the files are not taken as two domains, or as pairs; empty where they are.
    folder: the folder that holds everything; names are shown relative to it.
    """

    paths: tuple[str, ...]
    options: DataOptions
    layout: Layout
    pairs: tuple[DomainFiles, ...]
    refused: str
    folder: str

    def shown(self, name: str) -> str:
        """A path relative to the folder that holds everything, with a slash at the end of a folder."""
        relative = os.path.relpath(os.path.abspath(name), self.folder)
        return relative + "/" if name.endswith("/") else relative

    @property
    def paired(self) -> str:
        """What tells which images belong together; empty if nothing does."""
        if not self.pairs:
            return ""
        domain = self.pairs[0]
        return "side by side" if domain.part else "by a list" if domain.train[0].pair else "by name"

    def count(self) -> int:
        """The files that `look` decodes."""
        return len({entry for domain in self.layout.domains for entry in (*domain.train, *domain.held_out)})

    def look(self, advance: Callable[[], object]) -> tuple[list[Split], dict[str, str]]:
        """Decodes each file once, with all cores: what was seen, training images first, and why files cannot be read.

        advance: called after each file, from any thread.
        """
        domains = self.layout.domains
        splits = [Split(domain, False, domain.train) for domain in domains]
        splits += [Split(domain, True, domain.held_out) for domain in domains if domain.held_out]
        wanted: dict[Entry, list[Split]] = defaultdict(list)
        for split in splits:
            for entry in split.entries:
                wanted[entry].append(split)

        def work(entry: Entry) -> list[Seen] | str:
            result = _seen(entry, self.shown(entry.origin), [split.domain.part for split in wanted[entry]])
            advance()
            return result

        failures = {}
        for entry, result in zip(wanted, in_parallel(work, list(wanted)), strict=True):
            if isinstance(result, str):
                failures[self.shown(entry.origin)] = result
            else:
                for split, image in zip(wanted[entry], result, strict=True):
                    split.images.append(image)
        return splits, failures


def find(paths: Sequence[str]) -> Found:
    """Recognises what is at one path (both domains, or one domain) or at two (one domain each).

    Raises UsageError for more than two paths; DataError if there are no images, or none of a known layout.
    """
    if len(paths) > 2:
        raise UsageError(f"{len(paths)} PATHs are given; give one, or two that hold one domain each.")
    given = {"data": paths[0]} if len(paths) == 1 else dict(zip("ab", paths, strict=True))
    options = DataOptions.model_validate(given)
    pairs: tuple[DomainFiles, ...] = ()
    refused = ""
    try:
        layout = detect_layout(Unpaired(), options)
    except DataError as error:
        if len(paths) == 2:
            raise
        refused, options = str(error), DataOptions.model_validate({"images": paths[0]})
        try:
            layout = detect_layout(Labelled(optional=True), options)
        except DataError:
            raise error from None  # what is wrong with a list or a data set, of which one domain is no part
    else:
        try:
            pairs = detect_layout(Paired(), options).domains
        except DataError as error:
            refused = str(error)
    if any(domain.synthesis for domain in layout.domains):
        raise UsageError(
            "Images that are made from another domain are not checked; give the PATH of that domain alone."
        )
    return Found(tuple(paths), options, layout, pairs, refused, _folder(paths, layout.domains))


def thumbnail(entry: Entry, part: Part) -> Tensor | None:
    """uint8 (C, H, W) with at most 128 pixels a side, or None for a file that cannot be read."""
    try:
        image = read_image(entry, part)
    except DataError:
        return None
    image = image[:3] if len(image) > 4 else image
    if image.dtype != torch.uint8:  # as dark and as light as the display can
        values = image.float()
        low, high = float(values.min()), float(values.max())
        image = as_uint8((values - low) / max(high - low, 1e-12) * 2 - 1)
    scale = min(1.0, _THUMBNAIL / max(image.shape[1:]))
    height, width = (max(1, round(side * scale)) for side in image.shape[1:])
    return resize(image, height, width)


def _folder(paths: Sequence[str], domains: Sequence[DomainFiles]) -> str:
    """The folder, or archive, that holds all files and the paths that are folders."""
    entries = [entry for domain in domains for entry in (*domain.train, *domain.held_out)]
    places = {os.path.dirname(os.path.abspath(entry.origin)) for entry in entries}
    return os.path.commonpath(places | {os.path.abspath(path) for path in paths if os.path.isdir(path)})


def _seen(entry: Entry, name: str, parts: Sequence[Part]) -> list[Seen] | str:
    """What is kept of each part of a file, or the reason why it cannot be read."""
    try:
        image = read_image(entry)
    except DataError as error:
        return str(error).removeprefix(f"{entry.origin}: ")
    return [_measured(crop_part(image, part), name) for part in parts]


def _measured(image: Tensor, name: str) -> Seen:
    """image: (C, H, W) of any depth. The deviation of a large image is that of an even grid of its pixels."""
    pixels = numpy.ascontiguousarray(image.numpy().transpose(1, 2, 0))  # (H, W, C), as most decoders lay them out
    height, width, channels = pixels.shape
    bits = pixels.itemsize * 8
    digest = hashlib.blake2b(repr((pixels.shape, bits)).encode(), digest_size=16)
    digest.update(pixels.data)
    step = math.ceil(math.sqrt(height * width / _MEASURED))
    sample = numpy.ascontiguousarray(pixels[::step, ::step].reshape(-1, channels).T, dtype=numpy.float64)  # (C, N)
    alpha = pixels[..., -1] if channels in (2, 4) and bits in LARGEST else None
    return Seen(
        name, width, height, channels, bits, digest.digest(),
        deviation=float(sample.std(axis=1).max()),
        low=float(pixels.min()),
        high=float(pixels.max()),
        transparent=alpha is not None and bool(alpha.min() < LARGEST[bits]),
    )  # fmt: skip
