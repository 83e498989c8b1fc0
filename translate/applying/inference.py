"""What translating and sampling share: they leave a model's modes and the random generators as they found them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn

from translate.model import Model


def needs_no_input(model: Model[Any]) -> bool:
    """Whether a model makes images of random numbers alone: it says what its latents are."""
    return type(model).latents is not Model.latents


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[Callable[[], None]]:
    """The networks in train or eval mode; yields a function that undoes what forwards in it did to buffers.

    In train mode a forward updates running statistics and the vectors of spectral norms.
    """
    modes = [(module, module.training) for module in model.modules()]
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()] if training else []

    def restore() -> None:
        for buffer, value in kept:
            buffer.copy_(value)

    model.train(training)
    try:
        yield restore
    finally:
        restore()
        for module, mode in modes:
            module.training = mode


def own_random_numbers(device: torch.device) -> AbstractContextManager[None]:
    """Within, generators may be seeded with `torch.manual_seed`; afterwards they are as they were."""
    return torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type)
