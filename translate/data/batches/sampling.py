"""Which image comes when: pure functions of the seed and the step.

Nothing has a state, so resuming needs the step alone.
"""

from __future__ import annotations

from functools import lru_cache

import numpy
from numpy.typing import NDArray

from translate.random_bits import random_bits


@lru_cache(maxsize=16)
def permutation(seed: int, shuffle_key: str, epoch: int, count: int) -> NDArray[numpy.int64]:
    """The order in which one epoch visits `count` images."""
    return numpy.argsort(random_bits(count, seed, "order", shuffle_key, epoch), kind="stable").astype(numpy.int64)


def indices(seed: int, shuffle_key: str, step: int, batch: int, count: int) -> list[int]:
    """The images of one step: `batch` numbers in [0, count).

    The positions of a step follow those of the step before; every epoch of `count` positions has its own permutation,
    so that an image comes again only when all others have come.
    """
    positions = range(step * batch, (step + 1) * batch)
    return [int(permutation(seed, shuffle_key, p // count, count)[p % count]) for p in positions]
