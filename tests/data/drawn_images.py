"""Tiny images drawn by code."""

import io

import numpy
from PIL import Image


def encoded(seed=0, size=(12, 12), mode="RGB", kind="PNG", **options) -> bytes:
    """A file with random pixels; size is (width, height)."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0]) if channels == 1 else (size[1], size[0], channels)
    pixels = numpy.random.default_rng(seed).integers(0, 256, shape, dtype=numpy.uint8)
    file = io.BytesIO()
    Image.frombytes(mode, size, pixels.tobytes()).save(file, kind, **options)
    return file.getvalue()
