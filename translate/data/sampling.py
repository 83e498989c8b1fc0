"""Which image comes when: pure functions of the seed and the step.

The random bits come from the counter-based generator Philox (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As
Easy as 1, 2, 3, SC 2011), whose raw stream numpy keeps the same in all versions and on all platforms. Nothing has a
state, so resuming needs the step alone.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy
from numpy.typing import NDArray


def random_bits(count: int, *key: object) -> NDArray[numpy.uint64]:
    """So many random 64-bit numbers that depend on nothing but the key."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return numpy.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(count)


@lru_cache(maxsize=16)
def permutation(seed: int, stream: str, epoch: int, count: int) -> NDArray[numpy.int64]:
    """The order in which one epoch visits `count` images."""
    return numpy.argsort(random_bits(count, seed, "order", stream, epoch), kind="stable").astype(numpy.int64)


def indices(seed: int, stream: str, step: int, batch: int, count: int) -> list[int]:
    """The images of one step: `batch` numbers in [0, count).

    The positions of a step follow those of the step before; every epoch of `count` positions has its own permutation,
    so that an image comes again only when all others have come.
    """
    positions = range(step * batch, (step + 1) * batch)
    return [int(permutation(seed, stream, p // count, count)[p % count]) for p in positions]
