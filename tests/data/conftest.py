"""Folders of tiny images, and a folder of real ones."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from drawn_images import encoded

Draw = Callable[..., Path]


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
