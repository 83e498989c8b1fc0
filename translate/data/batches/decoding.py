"""Files -> stores: what is to be decoded, by the headers of the files, and the decoding with all cores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor

from translate.data.batches.preparing import part_shape, stored_shape
from translate.data.batches.store import DomainImages, Store, available_memory
from translate.data.files.readers import Opened, open_image, read_header, read_image
from translate.data.files.sources import Entry
from translate.data.images import DTYPES, common_channels, crop_part, match, resize
from translate.data.layout.detection import DomainFiles
from translate.data.options import DataOptions
from translate.domains import Depth, DomainSpec
from translate.errors import DataError
from translate.progress import progress_bar
from translate.threads import in_parallel

Range = tuple[float, float]
"""The smallest and the largest value."""


@dataclass(frozen=True)
class DecodePlan:
    """Files that are each decoded once, for one domain or for the two domains of side-by-side images.

    opened: each file with its header read, or why it cannot be read.
    domains: with stores that have no pixels yet, and specs that lack the value range.
    """

    location: str
    entries: tuple[Entry, ...]
    opened: Sequence[Opened | str]
    domains: tuple[DomainImages, ...]

    @property
    def num_bytes(self) -> int:
        """What the pixels of all stores take."""
        return sum(domain.store.flat.nbytes for domain in self.domains)


class DecodeResult(NamedTuple):
    """A store for each domain of a plan, the range of its values, and why files cannot be used, by their index."""

    stores: list[Store]
    value_ranges: list[Range]
    failures: dict[int, str]


def plan_decoding(domains: Sequence[DomainFiles], options: DataOptions, partner: Store | None = None) -> DecodePlan:
    """What is to be decoded of the files that these domains share.

    partner: of the other domain of a model that needs pairs. Images are kept in the sizes of their partners, so that
        both are cropped alike.
    """
    first = domains[0]
    opened = _open_all(first.train)
    headers = [file.header for file in opened if isinstance(file, Opened)]
    channels = common_channels({header.channels for header in headers}, options.background == "keep")
    bits = cast(Depth, max((header.bits for header in headers), default=8))
    planned = []
    for files in domains:
        spec = DomainSpec(
            name=files.name,
            title=files.title,
            kind="labels" if files.name in options.label_domains else "images",
            channels=channels,
            size=options.size,
            bit_depth=bits,
            background=options.background,
            part=files.part,
            classes=files.classes,
        )
        sizes = [part_shape(file.header, files.part) if isinstance(file, Opened) else None for file in opened]
        shapes = [(0, 0) if size is None else stored_shape(size, options, options.stored_size) for size in sizes]
        if partner is not None:
            shapes = [partner.shape(row) if all(partner.shape(row)) else shape for row, shape in enumerate(shapes)]
        planned.append(DomainImages(files, spec, Store.planned(shapes, channels, DTYPES[bits])))
    return DecodePlan(first.location, first.train, opened, tuple(planned))


def _open_all(entries: Sequence[Entry]) -> list[Opened | str]:
    """Each file with its header read, or why it cannot be read.

    If all files together are small beside the memory, they stay in it until they are decoded. Otherwise they are read
    again for their pixels.
    """
    keep = 8 * sum(entry.size for entry in entries) < (available_memory() or 0)

    def attempt(entry: Entry) -> Opened | str:
        try:
            if keep:
                return open_image(entry.read(), entry.origin)
            return Opened(read_header(entry), partial(read_image, entry))
        except DataError as error:
            return str(error)

    # One thread is faster than many, unless the storage makes it wait.
    started = time.perf_counter()
    opened = [attempt(entry) for entry in entries[:16]]
    waits = time.perf_counter() - started > 0.002 * len(opened)
    return opened + (in_parallel(attempt, entries[16:]) if waits else [attempt(entry) for entry in entries[16:]])


def decode_into_memory(plan: DecodePlan, device: torch.device) -> DecodeResult:
    """Decode the files of a plan into main memory, and move the stores to a device.

    Raises DataError for an image that does not fit its domain without a loss. Files that cannot be read are in the
    result's failures.
    """
    stores = [domain.store.with_buffer(torch.empty_like(domain.store.flat, device="cpu")) for domain in plan.domains]
    value_ranges, failures = decode_files(plan, lambda i, row, image: copy_planes(image, stores[i].image(row)))
    return DecodeResult([store.with_buffer(store.flat.to(device)) for store in stores], value_ranges, failures)


def decode_files(plan: DecodePlan, write: Callable[[int, int, Tensor], None]) -> tuple[list[Range], dict[int, str]]:
    """Decode every file, and write its image for each domain. Returns value ranges and failures of the result.

    write: gets the index of the domain, the index of the file, and the image, (C, H, W) as the store keeps it. It is
        called from several threads.
    """

    def decode_file(row: int) -> list[Range] | str:
        advance()
        file = plan.opened[row]
        if isinstance(file, str):
            return file
        try:
            pixels = file.decode()
        except DataError as error:
            return str(error)
        ranges = []
        for i, domain in enumerate(plan.domains):
            spec, name = domain.spec, plan.entries[row].origin
            image = match(crop_part(pixels, spec.part), spec.channels, spec.bit_depth, spec.background, name)
            ranges.append(_value_range(image))  # before resizing, which overshoots it
            write(i, row, resize(image, *domain.store.shape(row), nearest=spec.kind == "labels"))
        return ranges

    with progress_bar(f"reading {plan.location}", len(plan.entries)) as advance:
        results = in_parallel(decode_file, range(len(plan.entries)))
    failures = {row: result for row, result in enumerate(results) if isinstance(result, str)}
    decoded = [result for result in results if not isinstance(result, str)] or [[(0.0, 255.0)] * len(plan.domains)]
    ranges = [(min(low for low, _ in found), max(high for _, high in found)) for found in zip(*decoded, strict=True)]
    return ranges, failures


def _value_range(image: Tensor) -> Range:
    if image.dtype == torch.uint8:
        return 0.0, 255.0  # whatever occurs, 8 bits have this range
    low, high = (image.to(torch.int32) if image.dtype == torch.uint16 else image).aminmax()
    return float(low), float(high)


def copy_planes(image: Tensor, out: Tensor) -> None:
    """Copy an image (C, H, W) to memory that holds one plane after the other.

    Decoders give the channels of a pixel together; OpenCV separates them four times as fast as torch copies them.
    """
    pixels = image.permute(1, 2, 0)  # (H, W, C)
    if image.dtype == torch.uint8 and len(image) in (3, 4) and pixels.is_contiguous():
        import cv2

        cv2.split(pixels.numpy(), list(out.numpy()))
    else:
        out.copy_(image)
