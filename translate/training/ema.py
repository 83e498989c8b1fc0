"""Exponential moving averages of networks, counted in images so that they do not depend on the batch size."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from translate.model import Model

RAMP = 0.05


class EMA:
    """Averaged copies of the networks that a model names in `averaged`.

    After a batch the averaged weights move towards the live weights by 1 − ½^(batch / h). The half-life h in images is
    the model's `average_half_life`, or 5 % of the images seen if that is less, so that early averages forget the random
    start (the ramp-up of Karras et al., StyleGAN2-ADA, arXiv:2006.06676). Buffers are copied.
    """

    def __init__(self, model: Model[Any]) -> None:
        self.half_life = model.average_half_life
        self.live: dict[str, nn.Module] = {name: getattr(model, name) for name in model.averaged}
        self.networks = {name: copy.deepcopy(network).requires_grad_(False) for name, network in self.live.items()}
        self._pairs = [
            (average.detach(), live.detach())
            for name in self.live
            for average, live in zip(self.networks[name].parameters(), self.live[name].parameters(), strict=True)
        ]

    @torch.no_grad()
    def update(self, num_images: int, images_seen: int) -> None:
        """num_images: of this step. images_seen: of the whole run, this step's included."""
        half_life = min(self.half_life, RAMP * images_seen)
        weight = 1 - 0.5 ** (num_images / half_life)
        if self._pairs:
            averages, lives = zip(*self._pairs, strict=True)
            torch._foreach_lerp_(list(averages), list(lives), weight)
        for name, network in self.live.items():
            for average, live in zip(self.networks[name].buffers(), network.buffers(), strict=True):
                average.copy_(live)

    @contextmanager
    def applied(self, model: Model[Any]) -> Iterator[None]:
        """Inside, the model's attributes are the averaged networks. Nothing is copied."""
        try:
            for name, network in self.networks.items():
                setattr(model, name, network)
            yield
        finally:
            for name, network in self.live.items():
                setattr(model, name, network)

    def tensors(self) -> dict[str, Tensor]:
        """The averaged parameters and buffers by name."""
        return {
            f"{name}.{key}": value
            for name, network in self.networks.items()
            for key, value in network.state_dict().items()
        }

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore the state that `tensors` returned."""
        for name, value in self.tensors().items():
            value.copy_(tensors[name])
