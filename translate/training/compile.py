"""Compiling a model's `forward` and losses, as functions.

Modules are never compiled: a compiled module cannot be differentiated twice, as penalties do, which run uncompiled. For
each loss always the same parameters are frozen, so that compiled code stays valid.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import torch

from translate.cache import cache_folder

# At import, because the first optimizer fixes the folder in which torch keeps compiled code.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))

LONG_ENOUGH = 2000
"""Least steps of a run for which `auto` compiles on a GPU: an assumption, not measured yet."""


def should_compile(choice: str, device: torch.device, steps: int) -> bool:
    """Whether to compile in a run of so many steps. choice: "auto", "on" or "off"."""
    return choice == "on" or (choice == "auto" and device.type == "cuda" and steps >= LONG_ENOUGH)


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled in its first call, or taken from the cache. Shapes never change during training."""
    # Otherwise it warns of a missing CUDA compiler on machines without a GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    return torch.compile(function, dynamic=False)


def compile_errors() -> tuple[type[Exception], ...]:
    """The errors of a failed compilation: of tracing, of the compiler, or of an unsupported backward."""
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError

    return TorchDynamoException, InductorError


def first_line(error: BaseException) -> str:
    """The type of an error and the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
