"""What `translate bench` measures: the plain loop, and the engine with one more lever in each row."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from translate.benchmarking.plain import PlainLoop
from translate.device import Precision, memory_format, resolve_precision
from translate.domains import BatchSpec, DomainSpec, Labelled, Spec
from translate.model import find_model
from translate.networks import unbatched
from translate.training.config import FitConfig
from translate.training.trainer import Trainer

STEPS = 1_000_000
"""Length of the run of which the first steps are measured: long, so that no schedule ends."""


@dataclass(frozen=True)
class Variant:
    """A row of the table. batched: several calls of one network become one, where the result is the same."""

    name: str
    plain: bool = False
    precision: Precision = "fp32"
    channels_last: bool = False
    batched: bool = False
    compiled: bool = False


def variants(device: torch.device) -> list[Variant]:
    """The rows for a device; the last two are what `fit` does there without and with --compile."""
    fast = resolve_precision("auto", device)
    kept = memory_format(device, fast) == torch.channels_last
    rows = [Variant("plain loop", plain=True), Variant("engine"), Variant("+ channels_last", channels_last=True)]
    if fast != "fp32":
        rows.append(Variant(f"+ {fast}", precision=fast, channels_last=True))
    batched = "+ batched" if kept else "engine + batched"
    rows.append(Variant(batched, precision=fast, channels_last=kept, batched=True))
    rows.append(Variant("+ compile", precision=fast, channels_last=kept, batched=True, compiled=True))
    return rows


class RandomBatches:
    """Replaces the loader: one batch of random images, always the same, so that only the step is measured.

    Images have three channels of eight bits. A model that needs classes gets two.
    """

    def __init__(self, batch_spec: BatchSpec, config: FitConfig, device: torch.device) -> None:
        classes = ("0", "1") if isinstance(batch_spec, Labelled) and not batch_spec.optional else ()
        self.shape = (config.size, config.size)
        self.spec = Spec({name: DomainSpec(name=name, size=config.size, classes=classes) for name in batch_spec.names})
        images = torch.rand(len(batch_spec.names), config.batch, 3, *self.shape, device=device) * 2 - 1
        labels = [torch.arange(config.batch, device=device) % max(1, len(classes))]
        self.fixed = batch_spec.batch_type(*images, *(labels if isinstance(batch_spec, Labelled) else []))

    def batch(self, step: int) -> Any:
        """The batch, whatever the step."""
        return self.fixed


class VariantRun:
    """A training by one variant, from its first step; `advance` runs the next step and does not wait for the device.

    Raises UsageError, as `fit` does, for a size, a batch or options that the networks cannot take.
    """

    def __init__(self, variant: Variant, config: FitConfig, device: torch.device) -> None:
        kind = find_model(config.model)
        data: Any = RandomBatches(kind.data, config, device)
        self.variant = variant
        self.trainer: Trainer | None = None
        self.loop: PlainLoop | None = None
        self.advance: Callable[[], object]
        if variant.plain:
            torch.manual_seed(config.seed)
            self.model = kind(kind.Config.model_validate(config.options), data.spec).to(device)
            loop = self.loop = PlainLoop(self.model, steps=STEPS)
            self.advance = lambda: loop.step(data.fixed)
            return
        weights_format = torch.channels_last if variant.channels_last else torch.contiguous_format
        config = config.model_copy(update={"compile": "on" if variant.compiled else "off"})
        self.trainer = Trainer(
            kind, data, config, steps=STEPS, device=device, precision=variant.precision, weights_format=weights_format
        )
        self.model = self.trainer.model
        self.advance = self._advance_trainer

    def _advance_trainer(self) -> None:
        assert self.trainer is not None
        with nullcontext() if self.variant.batched else unbatched():
            self.trainer.advance()

    @property
    def compile_error(self) -> str:
        """Why a variant that should be compiled is not, after its first steps; empty if it is."""
        return self.trainer.stepper.compile_error if self.trainer is not None else ""

    @property
    def cycle(self) -> int:
        """The steps after which the same moves and lazy penalties come again."""
        players = list(self.model.players())
        return math.lcm(*(player.every * k for player in players for k in (1, *(p.every for p in player.penalties))))

    @property
    def steps_until_all_moved(self) -> int:
        """The number of steps after which every player has moved at least once."""
        return max(player.every for player in self.model.players())
