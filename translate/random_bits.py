"""Random numbers without a state: pure functions of a key, the same in all versions and on all platforms.

They come from the counter-based generator Philox (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2,
3, SC 2011), whose raw stream numpy never changes.
"""

from __future__ import annotations

import hashlib

import numpy
from numpy.typing import NDArray


def random_bits(count: int, *key: object) -> NDArray[numpy.uint64]:
    """`count` random 64-bit numbers that depend on the key alone."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return numpy.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(count)
