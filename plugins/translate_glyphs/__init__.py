"""Letters without and with serifs: real images that need no download, and `translate demo`, which trains on them.

The domains `sans` and `serif` hold the same thousands of characters, rendered from DejaVu Sans and DejaVu Serif, which
come with matplotlib. Files pair by name, so that the true translation of every image is known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import translate


@translate.hookimpl
def register_datasets(register: Callable[[translate.Dataset], None]) -> None:
    from translate_glyphs.glyphs import DATASET

    register(DATASET)


@translate.hookimpl
def register_commands(register: Callable[[str, Callable[..., Any]], None]) -> None:
    from translate_glyphs.demo import demo

    register("demo", demo)
