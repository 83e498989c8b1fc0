"""One training step: every player, in order, makes its moves on one batch.

`Trainer` (trainer.py) calls it for each batch. `PlainLoop` (../benchmarking/plain.py) makes the same step in ordinary
PyTorch, and is the easier one to read first. What is kept for each player between steps is in player_state.py.

For each move the engine freezes every parameter except the mover's, calls the model's forward and loss under mixed
precision, runs backward, and lets the fused optimizer step, unless something was not finite. Nothing here waits for the
device.

    step       one batch offered to every player
    move       one loss, backward, optimizer step
    objective  a move or a penalty: a loss, and the parameters that a step on it moves
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from translate.device import Precision, autocast, is_out_of_memory
from translate.distributed.group import Group
from translate.errors import PluginError, TranslateError, UsageError
from translate.model import Model
from translate.players import Discriminators, Outputs
from translate.training.augment import DiscriminatorAugment, Policy
from translate.training.compile import compile_errors, compile_function, first_line
from translate.training.memory_order import to_memory_order
from translate.training.player_state import Objective, PlayerState, check_players, to_float
from translate.training.records import Records


class MicroBatch:
    """A part of a batch, and the outputs that `forward` made of it in this step."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch
        self.live: Outputs | None = None  # with its graph, for the next move of a Generators player
        self.detached: Outputs | None = None  # for Discriminators
        self.pooled: dict[str, Outputs] = {}  # by player: the detached outputs, through the player's pools


class Stepper:
    """Runs steps; holds what they change besides the model: optimizers, pools, augmentations, records.

    Raises PluginError when the players or losses of the model break the contract, UsageError if there is no
    discriminator to augment.
    """

    def __init__(
        self,
        model: Model[Any],
        *,
        device: torch.device,
        precision: Precision,
        micro_batches: int = 1,
        augment: Policy | None = None,
        compile: bool = False,
        group: Group | None = None,
    ) -> None:
        """augment: how the discriminators' inputs are augmented. compile: forward and losses.

        group: the ranks that train together.
        """
        self.model = model
        self.group = group or Group()
        self.forward: Callable[..., Any] = model.forward
        self.device = device
        self.precision = precision
        self.micro_batches = micro_batches
        players = list(model.players())
        check_players(players)
        self.players = [PlayerState(player, device, precision) for player in players]
        self.records = Records(device, self.group)
        model.requires_grad_(False)
        if augment is not None:
            discriminators = [state for state in self.players if isinstance(state.player, Discriminators)]
            if not discriminators:
                raise UsageError(f"--discriminator-augment {augment}: the model {model.name!r} has no discriminator.")
            for state in discriminators:
                state.augment(DiscriminatorAugment(augment, device))
        self.compile = compile
        self.compile_error = ""  # why nothing is compiled any more
        if compile:
            torch.compiler.reset()  # torch gives up on functions that it compiled too often for others
            self.wrap_functions(compile_function)

    def wrap_functions(self, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Replace each move's loss by `wrap(loss)`; likewise forward, unless a penalty differentiates it twice."""
        twice = any(penalty.wants_outputs for state in self.players if state.gets_graph for penalty in state.penalties)
        self.forward = self.model.forward if twice else wrap(self.model.forward)
        for state in self.players:
            for move in state.moves:
                move.loss = wrap(move.declared_loss)

    def run(self, batch: Any, step: int, progress: float) -> None:
        """Run step number `step` (from 0) on a batch as the model declares it; progress in [0, 1]."""
        self.model.train()
        self.model.progress.fill_(progress)
        parts = [MicroBatch(part) for part in _split_batch(batch, self.micro_batches)]
        moving = [(state, own_step) for state in self.players if (own_step := state.own_step(step)) is not None]
        upcoming = [(state, move) for state, _ in moving for move in state.moves]
        for state, own_step in moving:
            for group, rate in zip(state.optimizer.param_groups, state.base_rates, strict=True):
                group["lr"] = rate * state.player.schedule(progress)
            for move in state.moves:
                upcoming.pop(0)
                self._update(state, move, self._compute_move(state, move, parts, upcoming), step)
            for penalty in state.lazy_penalties:
                if own_step % penalty.every == 0:
                    self._update(state, penalty, self.compute_gradient(state, penalty, parts), step)
            self._update_augmentation(state, len(batch[0]) * self.group.world_size)

    def _compute_move(
        self,
        state: PlayerState,
        move: Objective,
        parts: list[MicroBatch],
        upcoming: list[tuple[PlayerState, Objective]],
    ) -> dict[str, Tensor]:
        """`compute_gradient` of a move; if its compilation fails, once more with everything uncompiled.

        upcoming: the moves that follow in this step, with their players.
        """
        try:
            if move.wants_outputs and not state.gets_graph:
                self._forward_ahead(parts, upcoming)
            return self.compute_gradient(state, move, parts)
        except Exception as error:
            # Compilers fail in many ways. An error of the function itself is raised again by the second try.
            if not self.compile or self.compile_error or isinstance(error, TranslateError) or is_out_of_memory(error):
                raise
            if self.group.world_size > 1:  # no second try: other ranks may be waiting in an all-reduce
                if not isinstance(error, compile_errors()):
                    raise
                raise TranslateError(
                    f"Rank {self.group.rank} cannot compile ({first_line(error)}); go on with --compile off."
                ) from error
            self.wrap_functions(lambda function: function)
            self.compile_error = first_line(error)
            state.real_signs.clear()
            for part in parts:
                part.live = None
            for parameter in move.parameters:
                parameter.grad = None
            return self._compute_move(state, move, parts, upcoming)

    def _update_augmentation(self, state: PlayerState, images: int) -> None:
        """After a discriminator's moves: let ADA's p follow the mean sign of its scores of real images."""
        signs, state.real_signs = state.real_signs, []
        if state.augmentation is None or state.augmentation.policy != "ada":
            return
        if not signs:
            raise PluginError(
                f"--discriminator-augment ada follows the stat 'real_sign', which no loss of {state.name} of "
                f"{self.model.name} returns; use diffaugment, or return losses' real_sign beside the terms."
            )
        state.augmentation.update_p(torch.stack(signs).mean(), images)
        self.records.add(state.name, {"augmented": state.augmentation.p.clone()})

    def compute_gradient(self, state: PlayerState, objective: Objective, parts: list[MicroBatch]) -> dict[str, Tensor]:
        """Leave the gradient of an objective in its parameters' `grad`; returns the detached terms.

        The penalties with every=1 are added to the player's first move. A lazy penalty is computed alone, in float32,
        and weighted by k, since it is due on every k-th step of its player.
        """
        terms: dict[str, Tensor] = {}
        lazy = objective in state.lazy_penalties
        with unfrozen(objective.parameters):
            for part in parts:
                # One autocast region, so that weights are cast once for forward and loss.
                with autocast(self.device, "fp32" if lazy else self.precision):
                    outputs = self._outputs(part, state) if objective.wants_outputs else None
                    found = self._evaluate(state, objective, part, outputs)
                # Penalties are computed in float32, so outside of that region.
                for penalty in state.summed_penalties if objective is state.moves[0] else []:
                    if penalty.wants_outputs and outputs is None:
                        outputs = self._outputs(part, state)
                    more = self._evaluate(state, penalty, part, outputs)
                    if taken := found.keys() & more.keys():
                        raise PluginError(
                            f"{objective.name} and {penalty.name} both have a term {min(taken)!r}; rename one."
                        )
                    found |= more
                self._backward(state, found, objective.every / len(parts))
                for name, term in found.items():
                    share = term.detach() / self.micro_batches
                    terms[name] = terms[name] + share if name in terms else share
        return terms

    # ------------------------------------------------------------------ outputs, shared by the moves of a step

    def _forward(self, part: MicroBatch) -> Outputs:
        outputs = self.forward(part.batch)
        if not (isinstance(outputs, tuple) and hasattr(outputs, "_fields")):
            raise PluginError(f"{self.model.name}: forward returned {type(outputs).__name__}; expected a NamedTuple.")
        return type(outputs)(*(to_float(tensor) for tensor in outputs))

    def _forward_ahead(self, parts: list[MicroBatch], upcoming: list[tuple[PlayerState, Objective]]) -> None:
        """Run forward for a generator that moves later in this step, so that both players see the same outputs.

        Not done with micro-batches: the graph of every part would stay in memory until then.
        """
        generator_move = next((move for state, move in upcoming if state.gets_graph and move.wants_outputs), None)
        part = parts[0]
        if generator_move is None or len(parts) > 1 or self.model.fresh_outputs or part.detached is not None:
            return
        with unfrozen(generator_move.parameters), autocast(self.device, self.precision):
            part.live = self._forward(part)
        part.detached = _detach_outputs(part.live)

    def _outputs(self, part: MicroBatch, state: PlayerState) -> Outputs:
        """A player's outputs: for generators with the graph, which serves one move; for discriminators detached."""
        if state.gets_graph:
            live = part.live if part.live is not None else self._forward(part)
            part.live = None
            part.detached = _detach_outputs(live)
            return live
        if self.model.fresh_outputs or part.detached is None:
            with torch.no_grad():
                part.detached = self._forward(part)
            part.pooled.pop(state.name, None)
        if state.name not in part.pooled:
            part.pooled[state.name] = state.apply_pools(part.detached)
        return part.pooled[state.name]

    # ------------------------------------------------------------------ losses and updates

    def _evaluate(
        self, state: PlayerState, objective: Objective, part: MicroBatch, outputs: Outputs | None
    ) -> dict[str, Tensor]:
        """Call a loss with the arguments that it takes, by position; its terms. Stats are recorded."""
        found = objective.loss(*(part.batch, outputs)[: objective.num_arguments])
        terms, stats = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
        if not isinstance(terms, Mapping) or not terms or terms.keys() & stats.keys():
            raise PluginError(
                f"{self.model.name}: {objective.name} returned {reprlib.repr(found)}; expected a float32 scalar for "
                f"each term, by name, or these and stats of other names."
            )
        for name, term in terms.items():
            if not isinstance(term, Tensor) or term.dim() or term.dtype != torch.float32:
                kind = f"{term.dtype} {tuple(term.shape)}" if isinstance(term, Tensor) else type(term).__name__
                raise PluginError(
                    f"{self.model.name}: the term {name!r} of {objective.name} is {kind}; expected a float32 scalar."
                )
        stats = {name: stat.detach() for name, stat in stats.items()}
        self.records.add(state.name, stats, 1 / self.micro_batches)
        if "real_sign" in stats:
            state.real_signs.append(stats["real_sign"].clone())
        return dict(terms)

    def _backward(self, state: PlayerState, terms: Mapping[str, Tensor], weight: float) -> None:
        """Backward through the weighted and scaled sum of the terms."""
        total = torch.stack(list(terms.values())).sum() * weight
        if not total.requires_grad:
            raise PluginError(
                f"{self.model.name}: the terms {', '.join(terms)} do not depend on the networks that they should move."
            )
        state.scaler.scale(total).backward()  # type: ignore[no-untyped-call]

    def average_over_ranks(self, state: PlayerState, objective: Objective, terms: dict[str, Tensor]) -> None:
        """Make gradients, terms, float buffers and real signs their means over the ranks, in place: one all-reduce.

        Integer buffers count calls, so they are equal on every rank. A parameter without a gradient has none on any
        rank. Zeros stand for it in the flat buffer: if one rank disagrees, the values of other parameters are not
        shifted, and `Group.require_equal` finds the difference.
        """
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in objective.parameters]
        buffers = [buffer for buffer in self.model.buffers() if buffer.is_floating_point()]
        self.group.average_([*gradients, *terms.values(), *buffers, *state.real_signs])

    @torch.no_grad()
    def _update(self, state: PlayerState, objective: Objective, terms: dict[str, Tensor], step: int) -> None:
        """One optimizer step, which the device skips if a term or the gradient is not finite; clears the gradients."""
        if self.group.world_size > 1:
            self.average_over_ranks(state, objective, terms)
        for parameter in objective.parameters:
            gradient, parameter.grad = parameter.grad, None
            state.dense_views[parameter].grad = None if gradient is None else to_memory_order(gradient, parameter)
        gradients = [dense.grad for dense in state.dense_views.values() if dense.grad is not None]
        if not gradients:
            raise PluginError(
                f"{self.model.name}: {objective.name} leaves the networks of {state.name} without a gradient."
            )
        state.scaler.unscale_(state.optimizer)
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        finite = torch.stack([*terms.values(), norm]).isfinite()
        if state.player.optimizer.clip is not None:
            torch._foreach_mul_(gradients, (state.player.optimizer.clip / (norm + 1e-12)).clamp(max=1))
        state.optimizer.found_inf = (~finite.all()).float()  # type: ignore[attr-defined]
        state.optimizer.step()
        if state.scaler.is_enabled():  # a gradient that overflows costs a step and halves the scale, down to 1
            finite[-1] |= state.scaler.scale(torch.ones_like(norm)) > 1
            state.scaler.update()
        state.optimizer.zero_grad()
        # A fused step does not change the version counters; changed here, they make backward on an old graph raise.
        torch.autograd.graph.increment_version(objective.parameters)
        self.records.note_finite(state.name, objective.name, list(terms), finite, step)
        self.records.add(state.name, terms)

    # ------------------------------------------------------------------ what a checkpoint holds

    def tensors(self) -> dict[str, Tensor]:
        """Optimizer states, scalers, pools and augmentations by name, as they are between two steps."""
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        found: dict[str, Tensor] = {}
        for state in self.players:
            found |= state.tensors(names)
        return found

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state that `tensors` returned."""
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        for state in self.players:
            state.load(tensors, names, self.device)


@contextmanager
def unfrozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Inside, only these parameters get gradients; everything else of the model is always frozen."""
    chosen = list(parameters)
    for parameter in chosen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in chosen:
            parameter.requires_grad_(False)


def _detach_outputs(outputs: Outputs) -> Outputs:
    return type(outputs)(*(tensor.detach() for tensor in outputs))


def _split_batch(batch: Any, parts: int) -> list[Any]:
    """A batch as `parts` batches of the same size, in order."""
    if parts == 1:
        return [batch]
    return [type(batch)(*tensors) for tensors in zip(*(tensor.chunk(parts) for tensor in batch), strict=True)]
