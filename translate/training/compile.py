"""Compiling what a model describes: its `forward` and its losses, as functions.

Never the modules: a compiled module refuses the double backward of a penalty, which therefore runs as it is. Freezing
gives every loss one stable mask of parameters, so that what was compiled stays valid.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import torch

from translate.cache import cache_folder

# Here, since the first optimizer that is made already settles where torch keeps what it compiled.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))

LONG_ENOUGH = 2000
"""Steps of a run from which on `auto` compiles on a GPU: an assumption, until one is at hand to measure it."""


def should_compile(choice: str, device: torch.device, steps: int) -> bool:
    """Whether a run of so many steps is compiled. choice: "auto", "on" or "off"."""
    return choice == "on" or (choice == "auto" and device.type == "cuda" and steps >= LONG_ENOUGH)


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled when it is first called, or taken from the cache. Shapes never change in a training."""
    # It would complain of a CUDA compiler on a machine without a GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    return torch.compile(function, dynamic=False)


def compile_errors() -> tuple[type[Exception], ...]:
    """The errors of a compilation that fails: of tracing, of the compiler, or of a backward that it does not know."""
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError

    return TorchDynamoException, InductorError


def first_line(error: BaseException) -> str:
    """The first line of what a compiler said."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
