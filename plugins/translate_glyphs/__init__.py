"""Letters without and with serifs: real images that need no download, and `translate demo`, which learns from them.

Two domains, `sans` and `serif`, of the same thousands of characters, rendered from DejaVu Sans and DejaVu Serif, which
matplotlib ships. Files pair by name, so that the right answer of every translation is known.
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
