"""The reader of numpy's files, `.npy`: images of any number type and of any number of bands."""

from __future__ import annotations

import io
import math
from typing import IO

import numpy
from torch import Tensor

from translate.data.images import bits_of, from_array
from translate.errors import DataError
from translate.plugins.types import Header, Reader


def _npy_header(file: IO[bytes]) -> Header:
    """Of an array (H, W); (H, W, C) if the last axis is at most 16 long; else (C, H, W)."""
    shape, dtype = _npy_shape(file)
    if dtype.kind not in "buif" or len(shape) not in (2, 3):
        raise DataError(f"an array {shape} of {dtype}; expected numbers (H, W), (H, W, C) or (C, H, W)")
    height, width, channels = (*shape, 1) if len(shape) == 2 else shape if shape[2] <= 16 else (*shape[1:], shape[0])
    return Header(width, height, channels, bits_of(dtype))


def _npy_shape(file: IO[bytes]) -> tuple[tuple[int, ...], numpy.dtype[numpy.generic]]:
    version = numpy.lib.format.read_magic(file)
    readers = {(1, 0): numpy.lib.format.read_array_header_1_0, (2, 0): numpy.lib.format.read_array_header_2_0}
    if version not in readers:
        raise DataError(f"a .npy of version {version}; 1.0 and 2.0 are read")
    shape, _, dtype = readers[version](file)
    return shape, dtype


def _decode_npy(data: bytes) -> Tensor:
    file = io.BytesIO(data)
    shape, dtype = _npy_shape(file)
    if math.prod(shape) * dtype.itemsize > len(data) - file.tell():
        raise DataError(f"damaged (it ends before its {math.prod(shape):,} values)")
    file.seek(0)
    values = numpy.load(file, allow_pickle=False)
    return from_array(values if values.ndim == 2 or shape[2] <= 16 else values.transpose(1, 2, 0))


NUMPY = Reader("numpy", (".npy",), _npy_header, _decode_npy)
