"""What translating and sampling share, above all to leave the model and the random generators as they were."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn

from translate.model import Model

WORKERS = min(8, os.cpu_count() or 1)
"""Threads that decode or encode image files."""


def generates_from_noise(model: Model[Any]) -> bool:
    """Whether a model generates images from random numbers alone, that is, whether it defines `latents`."""
    return type(model).latents is not Model.latents


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[Callable[[], None]]:
    """Put all modules into train or eval mode, and back into their own modes at the end.

    Yields a function that restores the buffers, which is also called at the end: in train mode, a forward updates
    running statistics and the vectors of spectral norms.
    """
    modes = [(module, module.training) for module in model.modules()]
    saved = [(buffer, buffer.clone()) for buffer in model.buffers()] if training else []

    def restore_buffers() -> None:
        for buffer, value in saved:
            buffer.copy_(value)

    model.train(training)
    try:
        yield restore_buffers
    finally:
        restore_buffers()
        for module, mode in modes:
            module.training = mode


def preserving_random_state(device: torch.device) -> AbstractContextManager[None]:
    """Inside, `torch.manual_seed` may be called; at the end the generators of the CPU and the device are as before."""
    return torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type)
