"""Reads the TIFF files that Pillow cannot, or not whole: many bands, 16 bits of colour, all kinds of numbers.

An example of a reader plugin: a `Reader` says in `header` which files are its own, and gives their pixels in `decode`.
It needs tifffile and imagecodecs (`pip install "translate-img2img[tiff]"`), and offers nothing without them. What is
heavy to import is in a module of its own, since every plugin is imported to list the commands.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

import translate

if TYPE_CHECKING:
    from translate.plugins.types import Reader


@translate.hookimpl
def register_readers(register: Callable[[Reader], None]) -> None:
    if find_spec("tifffile") is not None:
        from translate.plugins.types import Reader
        from translate_tiff.reading import decode, header

        # tifffile also logs what it raises; that shows only where a program configures logging
        logging.getLogger("tifffile").addHandler(logging.NullHandler())
        register(Reader("tiff", (".tif", ".tiff"), header, decode))
