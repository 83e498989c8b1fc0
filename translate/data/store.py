"""Every image decoded once, resized, into one uint8 tensor that stays in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from translate.data.domains import Part
from translate.data.images import cut, decode, match_channels, read_header, resize
from translate.data.sources import Entry, in_parallel
from translate.errors import DataError

# The rest of a GPU's free memory is for the networks.
_DEVICE_SHARE = 0.4


def load(entry: Entry, parts: Sequence[Part], channels: int, size: int) -> list[Tensor]:
    """The parts of one file, each uint8 (channels, size, size).

    Raises DataError if the file cannot be read, or if its channels cannot be matched without loss.
    """
    image = match_channels(decode(entry.read(), entry.origin), channels, entry.origin)
    return [resize(cut(image, part), size, size) for part in parts]


def common_channels(entries: Sequence[Entry]) -> int:
    """The channels of a domain: 1 if all images are grey, 3 if any has colour, 4 if all have alpha and one needs it.

    An image that then has colour or transparency too much is refused when it is loaded.
    """

    def channels(entry: Entry) -> int:
        try:
            return read_header(entry).channels
        except DataError:
            return 0  # reported when the file is decoded

    found = set(in_parallel(channels, entries)) - {0}
    if found and found <= {2, 4} and _any_transparent(entries):
        return 4
    return 3 if found & {3, 4} else 1


def fill(
    entries: Sequence[Entry], parts: Sequence[Part], channels: int, size: int
) -> tuple[list[Tensor], dict[int, str]]:
    """Decodes all files with all cores: one store uint8 (N, channels, size, size) a part, and the reasons of failures.

    The rows of files that failed are not written; `without` removes them. Raises DataError if memory does not suffice,
    or for an image whose channels cannot be matched without loss.
    """
    stores = [_allocate((len(entries), channels, size, size), len(parts)) for _ in parts]

    def work(row: int) -> str | None:
        entry = entries[row]
        try:
            image = decode(entry.read(), entry.origin)
        except DataError as error:
            return str(error)
        image = match_channels(image, channels, entry.origin)  # its error is not a reason to leave the file out
        for store, part in zip(stores, parts, strict=True):
            store[row] = resize(cut(image, part), size, size)
        return None

    reasons = in_parallel(work, range(len(entries)))
    return stores, {row: reason for row, reason in enumerate(reasons) if reason is not None}


def without(store: Tensor, rows: set[int]) -> Tensor:
    """The store without some rows; the others move up in place, so that no second copy is needed."""
    kept = [row for row in range(len(store)) if row not in rows]
    for new, old in enumerate(kept):
        if new != old:
            store[new] = store[old]
    return store[: len(kept)]


def fits_device(num_bytes: int, device: torch.device) -> bool:
    """Whether stores of so many bytes may live on the device beside the networks."""
    return device.type == "cuda" and num_bytes <= _DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]


def available_memory() -> int | None:
    """Bytes of main memory that a process can still get, where the system says so."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None


def _allocate(shape: tuple[int, int, int, int], copies: int) -> Tensor:
    count, channels, size, _ = shape
    needed, available = count * channels * size * size * copies, available_memory()
    if available is None or needed <= 0.9 * available:
        return torch.empty(shape, dtype=torch.uint8)
    raise DataError(
        f"{count:,} images of {size} × {size} × {channels} need {needed / 1e9:.1f} GB of memory, and "
        f"{available / 1e9:.1f} GB are free; lower --load-size or --size, or use fewer images."
    )


def _any_transparent(entries: Sequence[Entry]) -> bool:
    def transparent(entry: Entry) -> bool:
        try:
            image = decode(entry.read(), entry.origin)
        except DataError:
            return False
        return len(image) in (2, 4) and bool((image[-1] < 255).any())

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = any(pool.map(transparent, entries))
        pool.shutdown(wait=False, cancel_futures=True)  # one is enough
    return found
