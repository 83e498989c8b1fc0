"""The reader of numpy's files, `.npy`: images of any number type and of any number of bands."""

from __future__ import annotations

import io
import math
import threading
from typing import IO

import numpy
from torch import Tensor

from translate.data.images import bits_of, from_array
from translate.errors import DataError
from translate.plugins.types import Header, Reader

# numpy parses the header with ast.literal_eval. In CPython 3.11, parsing in several threads at once can raise
# "AST constructor recursion depth mismatch"; a good file would then be left out as damaged.
_parsing = threading.Lock()


def _npy_header(file: IO[bytes]) -> Header:
    """Of an array (H, W); (H, W, C) if the last axis is at most 16 long; else (C, H, W)."""
    shape, _, dtype = _parse_header(file)
    if dtype.kind not in "buif" or len(shape) not in (2, 3):
        raise DataError(f"an array {shape} of {dtype}; expected numbers (H, W), (H, W, C) or (C, H, W)")
    height, width, channels = (*shape, 1) if len(shape) == 2 else shape if shape[2] <= 16 else (*shape[1:], shape[0])
    return Header(width, height, channels, bits_of(dtype))


def _parse_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, numpy.dtype[numpy.generic]]:
    """The shape, whether the order is Fortran's, and the type of the values, which follow in the file."""
    version = numpy.lib.format.read_magic(file)
    readers = {(1, 0): numpy.lib.format.read_array_header_1_0, (2, 0): numpy.lib.format.read_array_header_2_0}
    if version not in readers:
        raise DataError(f"a .npy of version {version}; 1.0 and 2.0 are read")
    with _parsing:
        return readers[version](file)


def _decode_npy(data: bytes) -> Tensor:
    file = io.BytesIO(data)
    shape, fortran_order, dtype = _parse_header(file)
    count = math.prod(shape)
    if count * dtype.itemsize > len(data) - file.tell():
        raise DataError(f"damaged (it ends before its {count:,} values)")
    # not numpy.load, which would parse the header again, outside of the lock
    values = numpy.frombuffer(data, dtype, count, file.tell()).reshape(shape, order="F" if fortran_order else "C")
    return from_array(values if values.ndim == 2 or shape[2] <= 16 else values.transpose(1, 2, 0))


NUMPY = Reader("numpy", (".npy",), _npy_header, _decode_npy)
