"""The whole training of any model in ordinary PyTorch: eager, float32, torch's own Adam, no tricks.

This is the best first file to read: it shows what a step does to the players that a model declares, without anything
that makes it fast, safe or resumable. The engine (`translate.training`) adds those, and must compute the same gradients
and weights: the conformance kit compares the two, and `translate bench` measures the engine against this loop. A
network is called once for each of its roles in a loss. Random numbers are drawn in the engine's order.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from translate.model import Model
from translate.networks import unbatched
from translate.players import Discriminators, Generators, Loss, Outputs, Player
from translate.training.ema import RAMP
from translate.training.pool import ImagePool
from translate.training.step import unfrozen


class PlainLoop:
    """Trains a model, on its device; `optimizers` are in the order of its players, `averages` by name."""

    def __init__(self, model: Model[Any], *, steps: int) -> None:
        """steps: the length of the run, for the schedules."""
        self.model = model.requires_grad_(False)
        self.steps = steps
        self.steps_done = 0
        self.images_seen = 0
        self.players = list(model.players())
        self.optimizers = [adam(player) for player in self.players]
        self.pools = [pools(player) for player in self.players]
        self.averages = {name: copy.deepcopy(getattr(model, name)) for name in model.averaged}

    def step(self, batch: Any) -> dict[str, Tensor]:
        """One step on a batch as the model declares it; the terms of all losses, by "player.name"."""
        self.batch, self.progress = batch, self.steps_done / self.steps
        self.live: Outputs = None  # with its graph, for the generators' next move
        self.detached: Outputs = None
        self.model.train()
        self.model.progress.fill_(self.progress)
        self.steps_done += 1
        terms: dict[str, Tensor] = {}
        with unbatched():
            for number, player in enumerate(self.players):
                if self.steps_done % player.every == 0:
                    found = self.move_player(number, player, self.steps_done // player.every - 1)
                    terms |= {f"{player.name}.{name}": term for name, term in found.items()}
        self.update_averages(len(batch[0]))
        return terms

    def move_player(self, number: int, player: Player, own_step: int) -> dict[str, Tensor]:
        """A player's moves, then the lazy penalties that are due: each makes an optimizer step.

        own_step: the number of this step among those in which the player moves.
        """
        self.pooled: Outputs = None  # what a discriminator sees in this step
        for group in self.optimizers[number].param_groups:
            group["lr"] = group["rate"] * player.schedule(self.progress)
        summed = [penalty.loss for penalty in player.penalties if penalty.every == 1]
        terms: dict[str, Tensor] = {}
        for i, move in enumerate(player.moves):
            losses = [move.loss, *(summed if i == 0 else [])]
            terms |= self.update(number, losses, player.parameters(move.networks))
        for penalty in player.penalties:
            if penalty.every > 1 and own_step % penalty.every == 0:
                terms |= self.update(number, [penalty.loss], player.parameters(), weight=penalty.every)
        return terms

    def update(self, number: int, losses: list[Loss], moved: list[nn.Parameter], weight: int = 1) -> dict[str, Tensor]:
        """Outputs if a loss takes them, losses, backward to the parameters that are moved, optimizer."""
        outputs: Outputs = None
        terms: dict[str, Tensor] = {}
        with unfrozen(moved):
            for loss in losses:
                required = [p for p in inspect.signature(loss).parameters.values() if p.default is p.empty]
                if len(required) == 2 and outputs is None:
                    outputs = self.outputs(number)
                found = loss(*(self.batch, outputs)[: len(required)])
                terms |= found[0] if isinstance(found, tuple) else found
            total = weight * torch.stack(list(terms.values())).sum()
            gradients = torch.autograd.grad(total, moved, allow_unused=True)
        self.optimizers[number].zero_grad()
        for parameter, gradient in zip(moved, gradients, strict=True):
            parameter.grad = gradient
        if (clip := self.players[number].optimizer.clip) is not None:
            nn.utils.clip_grad_norm_(moved, clip)
        self.optimizers[number].step()
        return {name: term.detach() for name, term in terms.items()}

    def outputs(self, number: int) -> Outputs:
        """The outputs with their graph for generators; for discriminators detached, and through the pools."""
        if isinstance(self.players[number], Generators):
            live = self.live if self.live is not None else self.forward()
            self.live = None
            return live
        if self.model.fresh_outputs:
            with torch.no_grad():
                self.forward()
        elif self.detached is None:  # with a graph, so that the generators can use the same outputs later
            generators = [player for player in self.players if isinstance(player, Generators)]
            with unfrozen(p for player in generators for p in player.parameters()):
                self.live = self.forward()
        if self.pooled is None or self.model.fresh_outputs:
            fields = {field: pool(getattr(self.detached, field)) for field, pool in self.pools[number].items()}
            self.pooled = self.detached._replace(**fields)
        return self.pooled

    def forward(self) -> Outputs:
        """What the model makes of the batch; keeps a detached copy."""
        outputs = self.model(self.batch)
        self.detached = type(outputs)(*(tensor.detach() for tensor in outputs))
        return outputs

    @torch.no_grad()
    def update_averages(self, batch: int) -> None:
        """Move the averages towards the live weights, parameter by parameter; see `translate.training.ema`."""
        self.images_seen += batch
        keep = 0.5 ** (batch / min(self.model.average_half_life, RAMP * self.images_seen))
        for name, average in self.averages.items():
            live = getattr(self.model, name)
            for slow, fast in zip(average.parameters(), live.parameters(), strict=True):
                slow.mul_(keep).add_(fast, alpha=1 - keep)
            for slow, fast in zip(average.buffers(), live.buffers(), strict=True):
                slow.copy_(fast)


def adam(player: Player) -> torch.optim.Adam:
    """Torch's Adam with the player's scales; corrected for lazy penalties as in `Penalty`."""
    declared = player.optimizer
    correction = 1 / (1 + sum(1 / penalty.every for penalty in player.penalties if penalty.every > 1))
    scales = {id(p): factor for network, factor in declared.scale.items() for p in network.parameters()}
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in player.parameters():
        groups.setdefault(declared.lr * correction * scales.get(id(parameter), 1.0), []).append(parameter)
    return torch.optim.Adam(
        [{"params": parameters, "lr": rate, "rate": rate} for rate, parameters in groups.items()],
        betas=(declared.betas[0] ** correction, declared.betas[1] ** correction),
        eps=declared.eps,
    )


def pools(player: Player) -> dict[str, ImagePool]:
    """A pool for each field of the outputs that the player sees through one."""
    fields = player.pool if isinstance(player, Discriminators) else ()
    return {field: ImagePool(getattr(player, "pool_size", 0)) for field in fields}
