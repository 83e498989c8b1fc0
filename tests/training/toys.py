"""Players on vectors of four numbers, small enough to compute by hand."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import translate
from translate.domains import Spec
from translate.training.step import Stepper


class Batch(NamedTuple):
    a: Tensor
    b: Tensor


class Fake(NamedTuple):
    fake: Tensor


class Toy(translate.Model[translate.ModelConfig]):
    """Networks, players and forward are what a test says; counts the calls of forward."""

    name = "toy"
    data = translate.Unpaired("a", "b")

    def __init__(
        self,
        players: Callable[[Any], Iterable[translate.Player]],
        *,
        forward: Callable[[Any, Batch], Any] | None = None,
        fresh_outputs: bool = False,
        averaged: tuple[str, ...] = (),
        **networks: nn.Module,
    ) -> None:
        super().__init__(translate.ModelConfig(), Spec({}))
        for name, network in networks.items():
            setattr(self, name, network)
        self._players, self._forward = players, forward
        self.fresh_outputs, self.averaged = fresh_outputs, averaged
        self.forwards = 0

    def players(self):
        return self._players(self)

    def forward(self, batch: Batch) -> Any:
        self.forwards += 1
        return self._forward(self, batch) if self._forward else Fake(self.g(batch.a))


def net(outputs: int = 4, seed: int = 0) -> nn.Module:
    """Two layers, so that a stale graph holds weights that have changed since."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, outputs))


def batch(seed: int = 0, size: int = 4) -> Batch:
    return Batch(*torch.randn(2, size, 4, generator=torch.Generator().manual_seed(seed)))


def make_stepper(model: Toy, **options: Any) -> Stepper:
    """A stepper for this model, on the CPU in fp32."""
    return Stepper(model, **{"device": torch.device("cpu"), "precision": "fp32"} | options)


def gradients_left(model: nn.Module) -> list[tuple[str, Tensor]]:
    """A list that fills with (parameter, gradient) whenever a backward pass leaves one."""
    found: list[tuple[str, Tensor]] = []
    for name, parameter in model.named_parameters():
        was = parameter.requires_grad
        parameter.requires_grad_(True).register_post_accumulate_grad_hook(
            lambda p, name=name: found.append((name, p.grad.clone()))
        )
        parameter.requires_grad_(was)
    return found


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def moved(before: dict[str, Tensor], model: nn.Module) -> set[str]:
    """The networks whose weights are no longer what they were."""
    return {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(before[name], value)}
