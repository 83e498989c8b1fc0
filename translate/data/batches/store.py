"""The decoded images of one domain, and where they are kept: on the device, in memory, or in a file on disk.

A store is one flat buffer and the position of each image in it, so that images may differ in size. Its readers need not
know where the buffer is.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from translate.data.batches.preparing import Shape
from translate.data.layout.detection import DomainFiles
from translate.data.synthesis import Synthesis, parse
from translate.domains import DomainSpec
from translate.errors import DataError
from translate.formatting import format_bytes

DEVICE_SHARE = 0.4  # the rest of a GPU's free memory is for the networks
MEMORY_SHARE = 0.5
MAX_TOUCHED = 256 * 2**20  # bytes of a mapped file that are read before its pages are given back to the system


class Extent(NamedTuple):
    """Where an image begins in a flat buffer, in values, and its height and width in pixels."""

    offset: int
    height: int
    width: int


class Store:
    """The images of one domain.

    flat: all pixels, uint8, uint16 or float32, one image after the other, each (C, H, W). On the meta device it has
        a size, but no pixels yet.
    extents: the position and size of each image in `flat`.
    mapping: the file that `flat` is a view of, None for a buffer in memory or on the device.
    """

    def __init__(
        self, flat: Tensor, extents: Sequence[Extent], channels: int, mapping: mmap.mmap | None = None
    ) -> None:
        self.flat = flat
        self.extents = extents
        self.channels = channels
        self._mapping = mapping
        self._touched = 0

    @classmethod
    def planned(cls, shapes: Sequence[Shape], channels: int, dtype: torch.dtype) -> Store:
        """A store on the meta device for images of these sizes."""
        *offsets, length = accumulate((channels * height * width for height, width in shapes), initial=0)
        extents = [Extent(offset, *shape) for offset, shape in zip(offsets, shapes, strict=True)]
        return cls(torch.empty(length, dtype=dtype, device="meta"), extents, channels)

    def __len__(self) -> int:
        return len(self.extents)

    def shape(self, row: int) -> Shape:
        """Height and width of an image."""
        return self.extents[row][1:]

    def image(self, row: int) -> Tensor:
        """One image, (C, H, W), without a copy."""
        offset, height, width = self.extents[row]
        count = self.channels * height * width
        if self._mapping is not None:
            self._limit_pages(count * self.flat.itemsize)
        return self.flat[offset : offset + count].view(self.channels, height, width)

    def will_need(self, rows: Sequence[int]) -> None:
        """Have the system read images of a mapped file ahead, without waiting for it."""
        if self._mapping is None or not hasattr(mmap, "MADV_WILLNEED"):
            return
        for row in rows:
            offset, height, width = self.extents[row]
            start = offset * self.flat.itemsize
            length = self.channels * height * width * self.flat.itemsize
            page = start - start % mmap.PAGESIZE
            self._mapping.madvise(mmap.MADV_WILLNEED, page, start - page + length)

    def select(self, rows: Sequence[int]) -> Store:
        """The store of some of the images, over the same buffer."""
        return Store(self.flat, [self.extents[row] for row in rows], self.channels, self._mapping)

    def with_buffer(self, flat: Tensor, mapping: mmap.mmap | None = None) -> Store:
        """The same extents over another buffer, such as `flat` on another device."""
        return Store(flat, self.extents, self.channels, mapping)

    def _limit_pages(self, count: int) -> None:
        """Bound the memory that a mapped file takes: pages that were given back are read again when needed.

        count: bytes that are about to be read.
        """
        self._touched += count
        if self._touched > MAX_TOUCHED and self._mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._touched = 0
            self._mapping.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class DomainImages:
    """The images of one domain.

    files: of each image in the store, `files.train` in the same order; and the held-out ones.
    spec: of the domain as the model sees it.
    shuffle_key: domains with the same key share order and geometry.
    source: for a synthesised domain, the domain that it is made from: the store has the images of that one.
    """

    files: DomainFiles
    spec: DomainSpec
    store: Store
    shuffle_key: str = ""
    source: DomainSpec | None = None

    @cached_property
    def labels(self) -> Tensor:
        """int64 (N,) on the CPU: the class of each image, 0 without classes."""
        return torch.tensor([self.files.label(entry) for entry in self.files.train])

    @cached_property
    def synthesis(self) -> Synthesis | None:
        """How images of this domain are made from those in the store; None if they are those in the store."""
        return parse(self.spec.synthesis)


def choose_storage(wanted: str, num_bytes: int, device: torch.device, budget: float | None) -> str:
    """Where decoded images are kept: "device", "memory" or "disk".

    wanted: one of these, or "auto" for the first of them with enough room. On a CPU the device is the memory.
    budget: gigabytes of memory, by default half of what is free. Where torchrun has started several processes on this
        machine, each keeps all images and gets its share of what is free.
    Raises DataError if they do not fit where they are wanted.
    """
    free = available_memory()
    free_share = float("inf") if free is None else free // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    on_device = DEVICE_SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0.0
    in_memory = MEMORY_SHARE * free_share if budget is None else budget * 1e9
    if wanted == "auto":
        return "device" if num_bytes <= on_device else "memory" if num_bytes <= in_memory else "disk"
    storage = "memory" if wanted == "device" and device.type != "cuda" else wanted
    limits = {"device": on_device, "memory": 0.9 * free_share if budget is None else in_memory}
    if storage in limits and num_bytes > limits[storage]:
        raise DataError(
            f"The images need {format_bytes(num_bytes)}, and there is room for {format_bytes(int(limits[storage]))} "
            f"with --store {storage}; use --store disk, lower --load-size or --size, or use fewer images."
        )
    return storage


def available_memory() -> int | None:
    """Bytes of main memory that a process can still get, None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
