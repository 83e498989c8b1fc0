"""Which image comes when, and with which crop and flip: pure functions of the seed and the step.

The random bits come from the counter-based generator Philox (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As
Easy as 1, 2, 3, SC 2011), whose raw stream numpy keeps the same in all versions and on all platforms. Nothing has a
state, so resuming needs the step alone.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor


def random_bits(count: int, *key: object) -> NDArray[numpy.uint64]:
    """So many random 64-bit numbers that depend on nothing but the key."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return numpy.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(count)


@lru_cache(maxsize=16)
def permutation(seed: int, stream: str, epoch: int, count: int) -> NDArray[numpy.int64]:
    """The order in which one epoch visits `count` images."""
    return numpy.argsort(random_bits(count, seed, "order", stream, epoch), kind="stable").astype(numpy.int64)


def indices(seed: int, stream: str, step: int, batch: int, count: int) -> Tensor:
    """The images of one step: int64 (batch,) in [0, count).

    The positions of a step follow those of the step before; every epoch of `count` positions has its own permutation,
    so that an image comes again only when all others have come.
    """
    positions = range(step * batch, (step + 1) * batch)
    return torch.tensor([permutation(seed, stream, p // count, count)[p % count] for p in positions])


def geometry(seed: int, stream: str, step: int, batch: int, slack: int, augmentations: frozenset[str]) -> Tensor:
    """top, left and flip (0 or 1) of every image of one step: int64 (batch, 3).

    slack: how many pixels the stored images are larger than the crop; without "crop" the crop is the centre.
    """
    bits = random_bits(3 * batch, seed, "geometry", stream, step).reshape(batch, 3)
    ranges = numpy.array([slack + 1, slack + 1, 2], dtype=numpy.uint64)
    drawn = torch.from_numpy((bits % ranges).astype(numpy.int64))
    if "crop" not in augmentations:
        drawn[:, :2] = slack // 2
    if "flip" not in augmentations:
        drawn[:, 2] = 0
    return drawn


def crop_and_flip(store: Tensor, rows: Tensor, drawn: Tensor, size: int) -> Tensor:
    """Crops of some rows of the store, flipped where drawn: uint8 (N, C, L, L) -> (len(rows), C, size, size).

    rows, drawn: what `indices` and `geometry` give, on the CPU. The result is where the store is. The two ways are
    exact copies and therefore equal; on the CPU slices are nine times as fast, on a GPU they would be N launches.
    """
    if store.device.type == "cpu":
        return crop_by_slices(store, rows, drawn, size)
    return crop_by_gather(store, rows, drawn, size)


def crop_by_slices(store: Tensor, rows: Tensor, drawn: Tensor, size: int) -> Tensor:
    """`crop_and_flip`, one image after the other."""
    out = torch.empty((len(rows), store.shape[1], size, size), dtype=store.dtype, device=store.device)
    for image, row, (top, left, flip) in zip(out, rows.tolist(), drawn.tolist(), strict=True):
        crop = store[row, :, top : top + size, left : left + size]
        image.copy_(crop.flip(-1) if flip else crop)
    return out


def crop_by_gather(store: Tensor, rows: Tensor, drawn: Tensor, size: int) -> Tensor:
    """`crop_and_flip` in one indexing kernel."""
    along = torch.arange(size)
    top, left, flip = drawn.unbind(1)
    y = top[:, None] + along  # (N, size)
    x = left[:, None] + torch.where(flip[:, None] == 1, along.flip(0), along)  # (N, size)
    rows, y, x = (index.to(store.device, non_blocking=True) for index in (rows, y, x))
    channels = torch.arange(store.shape[1], device=store.device)
    return store[rows[:, None, None, None], channels[None, :, None, None], y[:, None, :, None], x[:, None, None, :]]
