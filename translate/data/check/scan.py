"""Stage 2 of `translate data check`: decodes every image once, and measures it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy
from torch import Tensor

from translate.data.check.detected_data import DetectedData
from translate.data.files.readers import read_image
from translate.data.files.sources import Entry
from translate.data.images import crop_part
from translate.data.layout.detection import DomainFiles
from translate.domains import Part
from translate.errors import DataError
from translate.threads import in_parallel

LARGEST = {8: 255.0, 16: 65535.0}
MODES = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGB with alpha"}
_MEASURED = 2**16  # pixels of an image


class ImageStats(NamedTuple):
    """Measurements of one image.

    name: of its file, relative to the folder that contains everything. digest: of its pixels, shape and depth.
    deviation: the largest standard deviation of a channel; low, high: the extreme values; all in values of the file.
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
    def short_side(self) -> int:
        return min(self.width, self.height)

    @property
    def mode(self) -> str:
        """Its channels in words."""
        return MODES.get(self.channels, f"{self.channels} channels")

    @property
    def depth(self) -> str:
        """Its bit depth in words."""
        return "32-bit float" if self.bits == 32 else f"{self.bits} bit"


class DomainScan(NamedTuple):
    """One domain, and the measurements of those of its images that can be read."""

    files: DomainFiles
    train: list[ImageStats]
    held_out: list[ImageStats]

    @property
    def images(self) -> list[ImageStats]:
        return self.train + self.held_out


class Scan(NamedTuple):
    """The domains, and the reason for each file that cannot be read, by the file's name."""

    domains: list[DomainScan]
    failures: dict[str, str]


def scan(data: DetectedData, advance: Callable[[], object] = lambda: None) -> Scan:
    """Decode and measure each file once, with all cores; `advance` is called after each file, from any thread."""
    parts = {domain.part for domain in data.domains}

    def read(entry: Entry) -> dict[Part, ImageStats] | str:
        try:
            image = read_image(entry)
            return {part: _measure(crop_part(image, part), data.relative(entry.origin)) for part in parts}
        except DataError as error:
            return str(error).removeprefix(f"{entry.origin}: ")
        finally:
            advance()

    results = dict(zip(data.files, in_parallel(read, data.files), strict=True))

    def readable(entries: Sequence[Entry], part: Part) -> list[ImageStats]:
        return [stats[part] for entry in entries if not isinstance(stats := results[entry], str)]

    return Scan(
        [
            DomainScan(domain, readable(domain.train, domain.part), readable(domain.held_out, domain.part))
            for domain in data.domains
        ],
        {data.relative(entry.origin): reason for entry, reason in results.items() if isinstance(reason, str)},
    )


def _measure(image: Tensor, name: str) -> ImageStats:
    """image: (C, H, W) of any depth. The deviation of a large image is that of an even grid of its pixels."""
    pixels = numpy.ascontiguousarray(image.numpy().transpose(1, 2, 0))  # (H, W, C), the order of most decoders
    height, width, channels = pixels.shape
    bits = pixels.itemsize * 8
    digest = hashlib.blake2b(repr((pixels.shape, bits)).encode(), digest_size=16)
    digest.update(pixels.data)
    step = math.ceil(math.sqrt(height * width / _MEASURED))
    sample = numpy.ascontiguousarray(pixels[::step, ::step].reshape(-1, channels).T, dtype=numpy.float64)  # (C, N)
    alpha = pixels[..., -1] if channels in (2, 4) and bits in LARGEST else None
    return ImageStats(
        name, width, height, channels, bits, digest.digest(),
        deviation=float(sample.std(axis=1).max()),
        low=float(pixels.min()),
        high=float(pixels.max()),
        transparent=alpha is not None and bool(alpha.min() < LARGEST[bits]),
    )  # fmt: skip
