"""A model under test: options that make it small, images drawn for it, and trainers of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from translate.data import images as pictures
from translate.data.batches.training_data import TrainingData
from translate.data.files import writers
from translate.data.loading import open_training_data
from translate.device import Precision
from translate.distributed.group import Group
from translate.domains import Labelled
from translate.model import Model, find_model
from translate.training.config import FitConfig
from translate.training.player_state import Objective, PlayerState
from translate.training.step import MicroBatch, Stepper
from translate.training.trainer import Trainer

CPU = torch.device("cpu")


class Case:
    """A model under test with options that make it small, and images drawn for it."""

    def __init__(self, name: str, folder: Path, *, size: int = 32, **options: Any) -> None:
        self.name = name
        self.kind = find_model(name)
        self.folder = folder
        self.options = options
        self.size = size
        self.images = draw_images(folder / "images", self.kind, size)

    def trainer(
        self,
        *,
        batch: int = 2,
        precision: Precision = "fp32",
        steps: int = 6,
        group: Group | None = None,
        **engine: Any,
    ) -> Trainer:
        """A trainer at its first step. engine: further options of FitConfig."""
        group = group or Group()
        config = FitConfig(
            model=self.kind.name,
            size=self.size,
            batch=batch,
            options=self.options,
            **self.images,
            **engine,
        )
        data = self.data(config, group)
        return Trainer(self.kind, data, config, steps=steps, device=CPU, precision=precision, group=group)

    def data(self, config: FitConfig, group: Group) -> TrainingData:
        """The drawn images, in the batches that the model declares."""
        return open_training_data(self.kind.data, config, CPU, (group.rank, group.world_size))


def draw_images(folder: Path, kind: type[Model[Any]], size: int, count: int = 6) -> dict[str, Any]:
    """Draw colour images for each domain of a model, discs on gradients; returns the data options that find them."""
    generator = torch.Generator().manual_seed(0)
    paths = {}
    for name in kind.data.names:
        for number in range(count):
            inner = f"class{number % 2}" if isinstance(kind.data, Labelled) else ""
            path = folder / name / inner / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            writers.save(_disc(size + 4, generator), path)
        paths[name] = str(folder / name)
    return paths


def _disc(side: int, generator: torch.Generator) -> Tensor:
    """uint8 (3, side, side)."""
    x, y, radius = torch.rand(3, generator=generator).tolist()
    axis = torch.linspace(0, 1, side)
    inside = (axis[None] - x).square() + (axis[:, None] - y).square() < (0.1 + radius / 3) ** 2
    colours = torch.rand(2, 3, 1, 1, generator=generator)
    image = torch.where(inside, colours[0], colours[1] * axis)
    return pictures.as_pixels(image * 2 - 1)


# ------------------------------------------------------------------ what a trainer computed


def flat_gradient(stepper: Stepper, state: PlayerState, objective: Objective, parts: list[MicroBatch]) -> Tensor:
    """The gradient of one objective as a vector, before the optimizer; zeros where a parameter has none. Clears it."""
    terms = stepper.compute_gradient(state, objective, parts)
    if stepper.group.world_size > 1:
        stepper.average_over_ranks(state, objective, terms)
    gradients = [p.grad for p in objective.parameters]
    for parameter in objective.parameters:
        parameter.grad = None
    return flatten_gradients(objective.parameters, gradients)


def flatten_gradients(parameters: list[Any], gradients: list[Tensor | None]) -> Tensor:
    """Gradients as a vector; zeros for a parameter without one."""
    pairs = zip(parameters, gradients, strict=True)
    return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in pairs])


def disable_pools(stepper: Stepper) -> None:
    """Show discriminators the newest images, since pools of different pasts make different gradients."""
    for state in stepper.players:
        for pool in state.pools.values():
            pool.size = 0


def checkpoint_tensors(trainer: Trainer) -> dict[str, Tensor]:
    """All tensors that a checkpoint of this trainer would hold."""
    checkpoint = trainer.checkpoint()
    return {**checkpoint.model, **checkpoint.training}
