"""Which images are in the batch of a step, and which part of each: pure functions of the seed and the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy
from numpy.typing import NDArray

from translate.data.batches.preparing import Shape
from translate.data.batches.store import Store
from translate.random_bits import random_bits


@lru_cache(maxsize=16)
def permutation(seed: int, shuffle_key: str, epoch: int, count: int) -> NDArray[numpy.int64]:
    """The order in which one epoch visits `count` images."""
    return numpy.argsort(random_bits(count, seed, "order", shuffle_key, epoch), kind="stable").astype(numpy.int64)


def sample_rows(seed: int, shuffle_key: str, step: int, batch: int, count: int) -> list[int]:
    """The images of one step: `batch` numbers in [0, count).

    The positions of a step follow those of the step before; every epoch of `count` positions has its own permutation,
    so that an image comes again only when all others have come.
    """
    positions = range(step * batch, (step + 1) * batch)
    return [int(permutation(seed, shuffle_key, p // count, count)[p % count]) for p in positions]


class Crop(NamedTuple):
    """The part of one image that is in a batch: a window, in pixels, and its orientation.

    row: index of the image in its store. flip, vflip: mirrored left to right, top to bottom.
    transpose: rows and columns are exchanged, after the mirroring.
    """

    row: int
    top: int
    left: int
    height: int
    width: int
    flip: bool = False
    vflip: bool = False
    transpose: bool = False


def sample_crops(
    seed: int,
    shuffle_key: str,
    step: int,
    store: Store,
    rows: Sequence[int],
    size: Shape,
    built_in: Mapping[str, Any],
) -> list[Crop]:
    """The part of each image of one step.

    size: height and width of the batch. built_in: the built-in operations of `--augment`, with their
    arguments. Without "crop" and "zoom" the window is the centre.
    """
    bits = random_bits(3 * len(rows), seed, "geometry", shuffle_key, step).reshape(-1, 3).tolist()
    more_bits = random_bits(3 * len(rows), seed, "turns", shuffle_key, step).reshape(-1, 3).tolist()
    crops = []
    # 64 random bits for each of six properties of a crop.
    for row, (top, left, flip), (zoom, vflip, rotation) in zip(rows, bits, more_bits, strict=True):
        shape = store.shape(row)
        height, width = size
        if "zoom" in built_in:
            low, high = built_in["zoom"]
            height, width = _window(shape, size, low + (high - low) * zoom / 2**64)
        slack = (shape[0] - height, shape[1] - width)
        if "crop" in built_in or "zoom" in built_in:
            corner = (top % (slack[0] + 1), left % (slack[1] + 1))
        else:
            corner = (slack[0] // 2, slack[1] // 2)
        quarters = rotation % 4 if "rotate90" in built_in else 0  # by 90° is a transposition and a mirroring
        flipped = bool(flip % 2 and "flip" in built_in) ^ (quarters in (2, 3))
        vflipped = bool(vflip % 2 and "vflip" in built_in) ^ (quarters in (1, 2))
        crops.append(Crop(row, *corner, height, width, flipped, vflipped, quarters in (1, 3)))
    return crops


def _window(shape: Shape, size: Shape, share: float) -> Shape:
    """The window with the aspect ratio of `size` whose sides are a share of those of the largest one in an image."""
    scale = share * min(shape[0] / size[0], shape[1] / size[1])
    return min(shape[0], max(1, round(size[0] * scale))), min(shape[1], max(1, round(size[1] * scale)))
