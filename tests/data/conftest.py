"""Tiny images drawn by code."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from PIL import Image

Draw = Callable[..., Path]


def encoded(seed=0, size=(12, 12), mode="RGB", kind="PNG", **options) -> bytes:
    """A file with random pixels; size is (width, height)."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0]) if channels == 1 else (size[1], size[0], channels)
    pixels = numpy.random.default_rng(seed).integers(0, 256, shape, dtype=numpy.uint8)
    file = io.BytesIO()
    Image.frombytes(mode, size, pixels.tobytes()).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def draw(tmp_path) -> Draw:
    """draw("trainA", 3) makes trainA/0.png, 1.png, 2.png with random pixels; returns the folder."""

    def make(folder="", names=1, suffix=".png", **image) -> Path:
        path = tmp_path / folder
        path.mkdir(parents=True, exist_ok=True)
        for name in map(str, range(names)) if isinstance(names, int) else names:
            kind = {".jpg": "JPEG"}.get(suffix, "PNG")
            (path / f"{name}{suffix}").write_bytes(encoded(sum(map(ord, folder + name)), kind=kind, **image))
        return path

    return make


@pytest.fixture
def real_data() -> Path:
    folder = os.environ.get("TRANSLATE_TEST_DATA")
    if not folder:
        pytest.skip("TRANSLATE_TEST_DATA names no folder of real images")
    return Path(folder)
