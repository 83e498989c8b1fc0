"""The whole training of any model in ordinary PyTorch: eager, float32, torch's own Adam, no tricks.

This is the best first file to read: it shows what a step does to the players that a model declares, without anything
that makes it fast, safe or resumable. The engine (`translate.training`) adds those, and must compute the same gradients
and weights: the conformance kit compares the two, and `translate bench` measures the engine against this loop. Here
`forward_batched` calls a network once for each of its batches. Random numbers are drawn in the engine's order.

Next: translate/data/loading.py, where a batch comes from, or translate/training/trainer.py, the engine.
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
    """Trains a model on its device.

    optimizers, pools: in the order of the players. averages: of the networks in `Model.averaged`, by name.
    """

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
        # What the players of this step share.
        self.batch, self.progress = batch, self.steps_done / self.steps
        self.live: Outputs = None  # with its graph, for the next move of generators
        self.detached: Outputs = None  # for discriminators
        self.model.train()
        self.model.progress.fill_(self.progress)
        self.steps_done += 1
        terms: dict[str, Tensor] = {}
        with unbatched():
            for index, player in enumerate(self.players):
                if self.steps_done % player.every == 0:
                    player_terms = self.move_player(index, player, self.steps_done // player.every - 1)
                    terms |= {f"{player.name}.{name}": term for name, term in player_terms.items()}
        self.update_averages(len(batch[0]))
        return terms

    def move_player(self, index: int, player: Player, own_step: int) -> dict[str, Tensor]:
        """A player's moves, then the lazy penalties that are due: each makes an optimizer step. Returns their terms.

        index: of the player. own_step: the number of this step among those in which the player moves.
        """
        self.pooled: Outputs = None  # the detached outputs, through the pools of this player
        for group in self.optimizers[index].param_groups:
            group["lr"] = group["base_lr"] * player.schedule(self.progress)
        summed_penalties = [penalty.loss for penalty in player.penalties if penalty.every == 1]
        terms: dict[str, Tensor] = {}
        for i, move in enumerate(player.moves):
            losses = [move.loss, *(summed_penalties if i == 0 else [])]
            terms |= self.update(index, losses, player.parameters(move.networks))
        for penalty in player.penalties:
            if penalty.every > 1 and own_step % penalty.every == 0:
                terms |= self.update(index, [penalty.loss], player.parameters(), weight=penalty.every)
        return terms

    def update(
        self, index: int, losses: list[Loss], parameters: list[nn.Parameter], weight: int = 1
    ) -> dict[str, Tensor]:
        """One optimizer step of a player on the weighted sum of some losses. Returns their terms.

        parameters: those that get a gradient; all others are frozen.
        """
        outputs: Outputs = None
        terms: dict[str, Tensor] = {}
        with unfrozen(parameters):
            for loss in losses:
                required = [p for p in inspect.signature(loss).parameters.values() if p.default is p.empty]
                if len(required) == 2 and outputs is None:
                    outputs = self.outputs(index)
                result = loss(*(self.batch, outputs)[: len(required)])  # terms, or terms and stats
                terms |= result[0] if isinstance(result, tuple) else result
            total = weight * torch.stack(list(terms.values())).sum()
            gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        self.optimizers[index].zero_grad()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        if (clip := self.players[index].optimizer.clip) is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        self.optimizers[index].step()
        return {name: term.detach() for name, term in terms.items()}

    def outputs(self, index: int) -> Outputs:
        """The outputs with their graph for generators; for discriminators detached, and through the pools."""
        if isinstance(self.players[index], Generators):
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
            fields = {field: pool(getattr(self.detached, field)) for field, pool in self.pools[index].items()}
            self.pooled = self.detached._replace(**fields)
        return self.pooled

    def forward(self) -> Outputs:
        """The model's outputs of the batch; a detached copy is kept for discriminators."""
        outputs = self.model(self.batch)
        self.detached = type(outputs)(*(tensor.detach() for tensor in outputs))
        return outputs

    @torch.no_grad()
    def update_averages(self, num_images: int) -> None:
        """Move the averages towards the live weights, parameter by parameter; see `translate.training.ema`."""
        self.images_seen += num_images
        keep = 0.5 ** (num_images / min(self.model.average_half_life, RAMP * self.images_seen))
        for name, average in self.averages.items():
            live = getattr(self.model, name)
            for slow, fast in zip(average.parameters(), live.parameters(), strict=True):
                slow.mul_(keep).add_(fast, alpha=1 - keep)
            for slow, fast in zip(average.buffers(), live.buffers(), strict=True):
                slow.copy_(fast)


def adam(player: Player) -> torch.optim.Adam:
    """Torch's Adam with the player's scales of the learning rate; corrected for lazy penalties as in `Penalty`."""
    declared = player.optimizer
    correction = 1 / (1 + sum(1 / penalty.every for penalty in player.penalties if penalty.every > 1))
    scales = {id(p): factor for network, factor in declared.scale.items() for p in network.parameters()}
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in player.parameters():
        groups.setdefault(declared.lr * correction * scales.get(id(parameter), 1.0), []).append(parameter)
    return torch.optim.Adam(
        [{"params": parameters, "lr": lr, "base_lr": lr} for lr, parameters in groups.items()],
        betas=(declared.betas[0] ** correction, declared.betas[1] ** correction),
        eps=declared.eps,
    )


def pools(player: Player) -> dict[str, ImagePool]:
    """A pool for each field of the outputs that the player gets through one."""
    if not isinstance(player, Discriminators):
        return {}
    return {field: ImagePool(player.pool_size) for field in player.pool}
