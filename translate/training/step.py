"""One step of the game: every player, in order, makes its moves on one batch.

For each move the engine freezes every parameter but the mover's, asks the model for outputs and loss under mixed
precision, runs backward, and lets the fused optimizer step, unless something was not finite. Nothing here waits for the
device.

    step     one batch offered to every player
    turn     a player's share of a step: its moves, then the lazy penalties that are due
    move     one loss, backward, optimizer step
"""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from translate.device import Precision, autocast, is_out_of_memory
from translate.distributed.group import Group
from translate.errors import NonFiniteError, PluginError, TranslateError, UsageError
from translate.model import Model
from translate.players import Discriminators, Generators, Loss, Outputs, Player
from translate.training.augment import DiscriminatorAugment, Policy
from translate.training.compile import compiled, failures, reason
from translate.training.pool import ImagePool

GRADIENT = "the gradient"
SCALER = ("scale", "_growth_tracker")
"""What changes in the state of a scaler: the factor on the loss, and the steps since it last did."""


class Update:
    """A loss, and the parameters that a step on it moves."""

    def __init__(self, loss: Loss, parameters: list[nn.Parameter], every: int = 1) -> None:
        self.loss = self.declared = loss
        self.parameters = parameters
        self.every = every
        self.name = getattr(loss, "__name__", type(loss).__name__)
        asked = [p for p in inspect.signature(loss).parameters.values() if p.default is p.empty]
        self.arguments = len(asked)  # how many of (batch, outputs) it asks for
        if self.arguments > 2:
            raise PluginError(
                f"{self.name} takes {', '.join(p.name for p in asked)}; expected (batch) or (batch, outputs)."
            )
        self.wants_outputs = self.arguments == 2


class Seat:
    """A player at the table: its declaration, and the optimizer, scaler and pools that go with it."""

    def __init__(self, player: Player, device: torch.device, precision: Precision) -> None:
        self.player = player
        self.name = player.name
        self.gets_graph = isinstance(player, Generators)
        self.parameters = player.parameters()
        # What the optimizer moves: on the CPU it copies what is not contiguous, as weights in channels_last are not.
        self.laid = {parameter: as_it_lies(parameter.detach(), parameter) for parameter in self.parameters}
        self.moves = [Update(move.loss, player.parameters(move.networks)) for move in player.moves]
        self.penalties = [Update(penalty.loss, self.parameters, penalty.every) for penalty in player.penalties]
        self.summed = [penalty for penalty in self.penalties if penalty.every == 1]
        self.lazy = [penalty for penalty in self.penalties if penalty.every > 1]
        self.optimizer = self._optimizer()
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        size, fields = (player.pool_size, player.pool) if isinstance(player, Discriminators) else (0, ())
        self.pools = {field: ImagePool(size) for field in fields}
        self.augmentation: DiscriminatorAugment | None = None  # of what its networks are shown
        self.real_signs: list[Tensor] = []  # the stats of that name in this turn

    def augment(self, augmentation: DiscriminatorAugment) -> None:
        """Show the player's networks augmented images from now on, whoever calls them."""
        assert isinstance(self.player, Discriminators)
        self.augmentation, channels = augmentation, self.player.image_channels

        def augmented(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return augmentation(inputs[0], channels), *inputs[1:]

        for network in _callable(self.player.networks):
            network.register_forward_pre_hook(augmented)

    def _optimizer(self) -> torch.optim.Adam:
        """Fused Adam; with lazy penalties, lr and betas are corrected for the extra steps (StyleGAN2, appendix B)."""
        adam = self.player.optimizer
        correction = 1 / (1 + sum(1 / penalty.every for penalty in self.lazy))
        factors = {id(p): factor for network, factor in adam.scale.items() for p in network.parameters()}
        groups: dict[float, list[Tensor]] = {}
        for parameter in self.parameters:
            groups.setdefault(factors.get(id(parameter), 1.0), []).append(self.laid[parameter])
        return torch.optim.Adam(
            [{"params": params, "lr": adam.lr * correction * factor} for factor, params in groups.items()],
            betas=(adam.betas[0] ** correction, adam.betas[1] ** correction),
            eps=adam.eps,
            fused=True,
        )

    def turn(self, step: int) -> int | None:
        """Which turn of this player falls on this step; None if it sits this step out."""
        turn, rest = divmod(step + 1, self.player.every)
        return turn - 1 if rest == 0 else None

    def show(self, outputs: Outputs) -> Outputs:
        """The outputs with pooled fields exchanged for past ones."""
        return outputs._replace(**{field: pool(getattr(outputs, field)) for field, pool in self.pools.items()})


class Chunk:
    """A micro-batch, and what `forward` made of it in this step."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch
        self.live: Outputs | None = None  # with its graph, for the next move of a Generators player
        self.detached: Outputs | None = None  # for Discriminators
        self.shown: dict[str, Outputs] = {}  # what each player with pools was shown


class Step:
    """Plays steps; holds what they change besides the model: optimizers, pools, augmentations, running sums.

    Raises PluginError when the players or losses of the model break the contract.
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
        """augment: what discriminators are shown is augmented in this way. compile: forward and losses.

        group: the ranks that play together.
        """
        self.model = model
        self.group = group or Group()
        self.forward: Callable[..., Any] = model.forward
        self.device = device
        self.precision = precision
        self.micro_batches = micro_batches
        self.seats = [Seat(player, device, precision) for player in _checked(list(model.players()))]
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, float] = {}
        self._failure = torch.full((3,), -1, dtype=torch.int64, device=device)  # step, update, term
        self._updates: dict[tuple[str, str], tuple[int, list[str]]] = {}  # (player, loss) -> number, names of its terms
        model.requires_grad_(False)
        if precision != "fp32":  # what a loss computes with is float32
            for seat in self.seats:
                for network in _callable(seat.player.networks):
                    network.register_forward_hook(_to_float)
        if augment is not None:
            judges = [seat for seat in self.seats if isinstance(seat.player, Discriminators)]
            if not judges:
                raise UsageError(f"--discriminator-augment {augment}: the model {model.name!r} has no discriminator.")
            for seat in judges:
                seat.augment(DiscriminatorAugment(augment, device))
        self.compile = compile
        self.uncompiled = ""  # why nothing is compiled any more
        if compile:
            torch.compiler.reset()  # torch gives up on functions that it compiled too often for others
            self.exchange(compiled)

    def exchange(self, change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Exchange every loss, and forward unless a penalty differentiates it twice, for what is made of it."""
        twice = any(penalty.wants_outputs for seat in self.seats if seat.gets_graph for penalty in seat.penalties)
        self.forward = self.model.forward if twice else change(self.model.forward)
        for seat in self.seats:
            for move in seat.moves:
                move.loss = change(move.declared)

    def play(self, batch: Any, step: int, progress: float) -> None:
        """Play step number `step` (from 0) on a batch of the model's declaration; progress in [0, 1]."""
        self.model.train()
        self.model.progress.fill_(progress)
        chunks = [Chunk(part) for part in _split(batch, self.micro_batches)]
        turns = [(seat, turn) for seat in self.seats if (turn := seat.turn(step)) is not None]
        coming = [(seat, move) for seat, _ in turns for move in seat.moves]
        for seat, turn in turns:
            for group, rate in zip(seat.optimizer.param_groups, seat.rates, strict=True):
                group["lr"] = rate * seat.player.schedule(progress)
            for move in seat.moves:
                coming.pop(0)
                self._update(seat, move, self._move(seat, move, chunks, coming), step)
            for penalty in seat.lazy:
                if turn % penalty.every == 0:
                    self._update(seat, penalty, self._gradient(seat, penalty, chunks), step)
            self._steer(seat, len(batch[0]) * self.group.world_size)

    def _move(
        self, seat: Seat, move: Update, chunks: list[Chunk], coming: list[tuple[Seat, Update]]
    ) -> dict[str, Tensor]:
        """Leave the gradient of a move in its parameters; the detached terms."""
        try:
            if move.wants_outputs and not seat.gets_graph:
                self._forward_ahead(chunks, coming)
            return self._gradient(seat, move, chunks)
        except Exception as error:
            # Compilers fail in many ways; what is wrong with the function itself is raised once more by the second try.
            if not self.compile or self.uncompiled or isinstance(error, TranslateError) or is_out_of_memory(error):
                raise
            if self.group.world_size > 1:  # no second try, since the others may be in the midst of an exchange
                if not isinstance(error, failures()):
                    raise
                raise TranslateError(
                    f"Rank {self.group.rank} cannot compile ({reason(error)}); go on with --compile off."
                ) from error
            self.exchange(lambda function: function)
            self.uncompiled = reason(error)
            seat.real_signs.clear()
            for chunk in chunks:
                chunk.live = None
            for parameter in move.parameters:
                parameter.grad = None
            return self._move(seat, move, chunks, coming)

    def _steer(self, seat: Seat, images: int) -> None:
        """After a turn of a discriminator: let its augmentation follow how surely it knew the real images."""
        signs, seat.real_signs = seat.real_signs, []
        if seat.augmentation is None or seat.augmentation.policy != "ada":
            return
        if not signs:
            raise PluginError(
                f"--discriminator-augment ada is steered by the stat 'real_sign', which no loss of {seat.name} of "
                f"{self.model.name} returns; use diffaugment, or return losses' real_sign beside the terms."
            )
        seat.augmentation.steer(torch.stack(signs).mean(), images)
        self._record(seat, {"augmented": seat.augmentation.p.clone()})

    def _gradient(self, seat: Seat, update: Update, chunks: list[Chunk]) -> dict[str, Tensor]:
        """Leave the gradient of an update in its parameters; the detached terms.

        A lazy penalty comes alone, in float32, and weighs k, since it is due on every k-th turn.
        """
        terms: dict[str, Tensor] = {}
        lazy = update in seat.lazy
        with unfrozen(update.parameters):
            for chunk in chunks:
                # One region, so that weights are cast once for forward and loss.
                with autocast(self.device, "fp32" if lazy else self.precision):
                    outputs = self._outputs(chunk, seat) if update.wants_outputs else None
                    found = self._evaluate(seat, update, chunk, outputs)
                for penalty in seat.summed if update is seat.moves[0] else []:
                    if penalty.wants_outputs and outputs is None:
                        outputs = self._outputs(chunk, seat)
                    more = self._evaluate(seat, penalty, chunk, outputs)
                    if taken := found.keys() & more.keys():
                        raise PluginError(
                            f"{update.name} and {penalty.name} both have a term {min(taken)!r}; rename one."
                        )
                    found |= more
                self._backward(seat, found, update.every / len(chunks), terms)
        return terms

    # ------------------------------------------------------------------ outputs

    def _forward(self, chunk: Chunk) -> Outputs:
        outputs = self.forward(chunk.batch)
        if not (isinstance(outputs, tuple) and hasattr(outputs, "_fields")):
            raise PluginError(f"{self.model.name}: forward returned {type(outputs).__name__}; expected a NamedTuple.")
        return type(outputs)(*(_float(tensor) for tensor in outputs))

    def _forward_ahead(self, chunks: list[Chunk], coming: list[tuple[Seat, Update]]) -> None:
        """Run forward for a generator that moves later in this step, so that both sides judge the same outputs.

        With micro-batches this is left out: it would keep every chunk's graph alive until then.
        """
        mover = next((move for seat, move in coming if seat.gets_graph and move.wants_outputs), None)
        chunk = chunks[0]
        if mover is None or len(chunks) > 1 or self.model.fresh_outputs or chunk.detached is not None:
            return
        with unfrozen(mover.parameters), autocast(self.device, self.precision):
            chunk.live = self._forward(chunk)
        chunk.detached = _detach(chunk.live)

    def _outputs(self, chunk: Chunk, seat: Seat) -> Outputs:
        """What this player's loss gets: the live graph, once, for generators; detached tensors for discriminators."""
        if seat.gets_graph:
            live = chunk.live if chunk.live is not None else self._forward(chunk)
            chunk.live = None
            chunk.detached = _detach(live)
            return live
        if self.model.fresh_outputs or chunk.detached is None:
            with torch.no_grad():
                chunk.detached = self._forward(chunk)
            chunk.shown.pop(seat.name, None)
        if seat.name not in chunk.shown:
            chunk.shown[seat.name] = seat.show(chunk.detached)
        return chunk.shown[seat.name]

    # ------------------------------------------------------------------ losses and updates

    def _evaluate(self, seat: Seat, update: Update, chunk: Chunk, outputs: Outputs | None) -> dict[str, Tensor]:
        """Call a loss with what it asks for, by position; its terms. Stats go to the running sums."""
        found = update.loss(*(chunk.batch, outputs)[: update.arguments])
        terms, stats = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
        if not isinstance(terms, Mapping) or not terms or terms.keys() & stats.keys():
            raise PluginError(
                f"{self.model.name}: {update.name} returned {reprlib.repr(found)}; expected a float32 scalar for each "
                f"term, by name, or these and stats of other names."
            )
        for name, term in terms.items():
            if not isinstance(term, Tensor) or term.dim() or term.dtype != torch.float32:
                kind = f"{term.dtype} {tuple(term.shape)}" if isinstance(term, Tensor) else type(term).__name__
                raise PluginError(
                    f"{self.model.name}: the term {name!r} of {update.name} is {kind}; expected a float32 scalar."
                )
        stats = {name: stat.detach() for name, stat in stats.items()}
        self._record(seat, stats, 1 / self.micro_batches)
        if "real_sign" in stats:
            seat.real_signs.append(stats["real_sign"].clone())
        return dict(terms)

    def _backward(self, seat: Seat, found: Mapping[str, Tensor], weight: float, terms: dict[str, Tensor]) -> None:
        """Backward through the weighted sum of the terms, scaled; adds the detached terms up over the chunks."""
        total = torch.stack(list(found.values())).sum() * weight
        if not total.requires_grad:
            raise PluginError(
                f"{self.model.name}: the terms {', '.join(found)} do not depend on the networks that they shall move."
            )
        seat.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        for name, term in found.items():
            part = term.detach() / self.micro_batches
            terms[name] = terms[name] + part if name in terms else part

    def _share(self, seat: Seat, update: Update, terms: dict[str, Tensor]) -> None:
        """Make what an update is made of its mean over the ranks, in place: one all-reduce.

        Beside gradients and terms these are the float buffers, and what steers an augmentation. Integer buffers count
        calls, which are the same on every rank. A parameter without a gradient has none on any rank; its zeros keep the
        buffer's layout, so that `Group.compare` finds a rank that disagrees, which does not shift the others' values.
        """
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in update.parameters]
        buffers = [buffer for buffer in self.model.buffers() if buffer.is_floating_point()]
        self.group.average_([*gradients, *terms.values(), *buffers, *seat.real_signs])

    @torch.no_grad()
    def _update(self, seat: Seat, update: Update, terms: dict[str, Tensor], step: int) -> None:
        """One optimizer step, which the device skips if a term or the gradient is not finite; clears the gradients."""
        if self.group.world_size > 1:
            self._share(seat, update, terms)
        for parameter in update.parameters:
            gradient, parameter.grad = parameter.grad, None
            seat.laid[parameter].grad = None if gradient is None else as_it_lies(gradient, parameter)
        gradients = [laid.grad for laid in seat.laid.values() if laid.grad is not None]
        if not gradients:
            raise PluginError(
                f"{self.model.name}: {update.name} leaves the networks of {seat.name} without a gradient."
            )
        seat.scaler.unscale_(seat.optimizer)
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        finite = torch.stack([*terms.values(), norm]).isfinite()
        if seat.player.optimizer.clip is not None:
            torch._foreach_mul_(gradients, (seat.player.optimizer.clip / (norm + 1e-12)).clamp(max=1))
        seat.optimizer.found_inf = (~finite.all()).float()  # type: ignore[attr-defined]
        seat.optimizer.step()
        if seat.scaler.is_enabled():  # a gradient that overflows costs a step and halves the scale, down to 1
            finite[-1] |= seat.scaler.scale(torch.ones_like(norm)) > 1
            seat.scaler.update()
        seat.optimizer.zero_grad()
        # A fused step leaves the version counters alone; with them, backward through a stale graph raises.
        torch.autograd.graph.increment_version(update.parameters)
        self._note_failure(seat, update, list(terms), finite, step)
        self._record(seat, terms)

    def _note_failure(self, seat: Seat, update: Update, terms: list[str], finite: Tensor, step: int) -> None:
        """Keep step, update and term of the first value that was not finite, in a tensor."""
        number, _ = self._updates.setdefault((seat.name, update.name), (len(self._updates), [*terms, GRADIENT]))
        where = torch.full_like(self._failure, step)
        where[1:2].fill_(number)
        where[2:3].copy_(finite.to(torch.int64).argmin(keepdim=True))
        self._failure = torch.where((self._failure[0] < 0) & ~finite.all(), where, self._failure)

    def _record(self, seat: Seat, values: Mapping[str, Tensor], weight: float = 1.0) -> None:
        for name, value in values.items():
            key = f"{seat.name}.{name}"
            self._sums[key] = self._sums[key] + value * weight if key in self._sums else value * weight
            self._counts[key] = self._counts.get(key, 0.0) + weight

    # ------------------------------------------------------------------ at ticks: these wait for the device

    def read(self) -> dict[str, float]:
        """The mean of every term and stat since the last call, by "player.name".

        Raises NonFiniteError with step, player and term if an update was skipped.
        """
        self.check()
        sums = torch.stack(list(self._sums.values())) if self._sums else torch.zeros(0)
        self.group.average_([sums])  # each rank has seen its own stats
        means = {name: total / self._counts[name] for name, total in zip(self._sums, sums.tolist(), strict=True)}
        self._sums, self._counts = {}, {}
        return means

    def check(self) -> None:
        """Raise NonFiniteError if any update so far was skipped because something was NaN or infinite."""
        step, update, term = self._failure.tolist()
        if step >= 0:
            (player, loss), (_, names) = list(self._updates.items())[update]
            raise NonFiniteError(
                f"Step {step + 1}: {names[term]} of {player} ({loss}) is NaN or infinite. The update was skipped, and "
                f"nothing that holds it was saved. Lower the learning rate, try --precision fp32, or check the images."
            )

    # ------------------------------------------------------------------ state

    def tensors(self) -> dict[str, Tensor]:
        """Optimizer states, pools and augmentations by name, as they are between two steps."""
        found: dict[str, Tensor] = {}
        for seat, name, parameter in self._named_parameters():
            for key, value in seat.optimizer.state[seat.laid[parameter]].items():
                found[f"optimizer.{seat.name}.{name}.{key}"] = value if key == "step" else as_named(value, parameter)
        for seat in self.seats:
            if state := seat.scaler.state_dict():
                found[f"scaler.{seat.name}"] = torch.tensor([state[key] for key in SCALER], dtype=torch.float64)
            for field, pool in seat.pools.items():
                found |= {f"pool.{seat.name}.{field}.{key}": value for key, value in pool.tensors().items()}
            if seat.augmentation is not None:
                state = seat.augmentation.tensors()
                found |= {f"augmentation.{seat.name}.{key}": value for key, value in state.items()}
        return found

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over a state that `tensors` gave."""
        for seat, name, parameter in self._named_parameters():
            state = _under(tensors, f"optimizer.{seat.name}.{name}.")
            if state:
                laid = seat.laid[parameter]
                seat.optimizer.state[laid] = {
                    key: value.to(self.device)
                    if key == "step"
                    else torch.empty_like(laid).copy_(as_it_lies(value, parameter))
                    for key, value in state.items()
                }
        for seat in self.seats:
            if (scaler := tensors.get(f"scaler.{seat.name}")) is not None:
                scale, steps = scaler.tolist()
                seat.scaler.load_state_dict({**seat.scaler.state_dict(), SCALER[0]: scale, SCALER[1]: int(steps)})
            for field, pool in seat.pools.items():
                pool.load(_under(tensors, f"pool.{seat.name}.{field}."), self.device)
            if seat.augmentation is not None:
                seat.augmentation.load(_under(tensors, f"augmentation.{seat.name}."))

    def _named_parameters(self) -> Iterator[tuple[Seat, str, nn.Parameter]]:
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        for seat in self.seats:
            for parameter in seat.parameters:
                yield seat, names[id(parameter)], parameter


@contextmanager
def unfrozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Only these parameters get gradients inside; everything else of the model is frozen throughout."""
    chosen = list(parameters)
    for parameter in chosen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in chosen:
            parameter.requires_grad_(False)


def _checked(players: list[Player]) -> list[Player]:
    names = [player.name for player in players]
    if not players or len(set(names)) < len(names):
        raise PluginError(f"A model needs players with different names; these are: {', '.join(names) or 'none'}.")
    owner: dict[int, str] = {}
    for player in players:
        for parameter in player.parameters():
            if owner.setdefault(id(parameter), player.name) != player.name:
                raise PluginError(f"The players {owner[id(parameter)]!r} and {player.name!r} share a network.")
        if min(player.every, *(penalty.every for penalty in player.penalties), 1) < 1:
            raise PluginError(f"`every` is at least 1; the player {player.name!r} or a penalty of it has less.")
        named = [*player.optimizer.scale, *(n for move in player.moves for n in move.networks or ())]
        if any(owner.get(id(parameter)) != player.name for parameter in player.parameters(named)):
            raise PluginError(
                f"A move or a scale of the player {player.name!r} names a network that is not the player's."
            )
    return players


def _callable(networks: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """The modules that a model calls: a list of networks stands for its members."""
    for network in networks:
        if isinstance(network, nn.ModuleList | nn.ModuleDict):
            yield from _callable(network.children())
        else:
            yield network


def _float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _to_float(module: nn.Module, inputs: Any, output: Any) -> Any:
    return tree_map(lambda value: _float(value) if isinstance(value, Tensor) else value, output)


def _detach(outputs: Outputs) -> Outputs:
    return type(outputs)(*(tensor.detach() for tensor in outputs))


def _split(batch: Any, parts: int) -> list[Any]:
    """A batch as `parts` batches of the same size, in order."""
    if parts == 1:
        return [batch]
    return [type(batch)(*tensors) for tensors in zip(*(tensor.chunk(parts) for tensor in batch), strict=True)]


@cache
def _axes(strides: tuple[int, ...]) -> list[int]:
    """The axes of a tensor with these strides in the order of its memory, the slowest first."""
    return sorted(range(len(strides)), key=strides.__getitem__, reverse=True)


def as_it_lies(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A view with the axes in the order of the parameter's memory: contiguous if it lies as the parameter does."""
    return tensor.permute(_axes(parameter.stride()))


def as_named(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A view of what `as_it_lies` gave, with the axes as the parameter has them."""
    axes = _axes(parameter.stride())
    return tensor.permute(sorted(range(len(axes)), key=axes.__getitem__))


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
