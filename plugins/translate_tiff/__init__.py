"""Reads TIFF files that Pillow cannot read, or reads only in part: many bands, 16 bits of colour, all number types.

An example of a reader plugin: `Reader.header` decides which files it reads, `Reader.decode` returns their pixels. The
plugin needs tifffile and imagecodecs (`pip install "translate-img2img[tiff]"`) and offers nothing without them. Slow
imports are in a module of their own, because every plugin is imported to list the commands.
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

        # tifffile also logs the errors that it raises; they appear only if a program configures logging
        logging.getLogger("tifffile").addHandler(logging.NullHandler())
        register(Reader("tiff", (".tif", ".tiff"), header, decode))
