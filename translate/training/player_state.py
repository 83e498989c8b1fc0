"""What the engine keeps for each player: losses with their parameters, optimizer, scaler, image pools, augmentation."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from translate.device import Precision
from translate.errors import PluginError
from translate.players import Discriminators, Generators, Loss, Outputs, Player
from translate.training.augment import DiscriminatorAugment
from translate.training.memory_order import from_memory_order, to_memory_order
from translate.training.pool import ImagePool

SCALER_STATE = ("scale", "_growth_tracker")
"""The entries of a scaler's state that change: the factor on the loss, and the steps since it last changed."""


class Objective:
    """A loss, and the parameters that an optimizer step on it moves: one of a player's moves or penalties.

    declared_loss: as the plugin wrote it. loss: what is called, which may be compiled.
    Raises PluginError if the loss takes more than (batch, outputs).
    """

    def __init__(self, loss: Loss, parameters: list[nn.Parameter], every: int = 1) -> None:
        self.loss = self.declared_loss = loss
        self.parameters = parameters
        self.every = every
        self.name = getattr(loss, "__name__", type(loss).__name__)
        required = [p.name for p in inspect.signature(loss).parameters.values() if p.default is p.empty]
        self.num_arguments = len(required)  # how many of (batch, outputs) it takes
        if self.num_arguments > 2:
            raise PluginError(f"{self.name} takes {', '.join(required)}; expected (batch) or (batch, outputs).")
        self.wants_outputs = self.num_arguments == 2


class PlayerState:
    """A player's declaration, and the optimizer, scaler, pools and augmentation that go with it.

    summed_penalties are part of the first move. Each of lazy_penalties has its own backward and optimizer step.
    """

    def __init__(self, player: Player, device: torch.device, precision: Precision) -> None:
        self.player = player
        self.name = player.name
        self.gets_graph = isinstance(player, Generators)
        self.parameters = player.parameters()
        self.dense_views = {parameter: to_memory_order(parameter.detach(), parameter) for parameter in self.parameters}
        self.moves = [Objective(move.loss, player.parameters(move.networks)) for move in player.moves]
        self.penalties = [Objective(penalty.loss, self.parameters, penalty.every) for penalty in player.penalties]
        self.summed_penalties = [penalty for penalty in self.penalties if penalty.every == 1]
        self.lazy_penalties = [penalty for penalty in self.penalties if penalty.every > 1]
        self.optimizer = self._make_optimizer()
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        size, fields = (player.pool_size, player.pool) if isinstance(player, Discriminators) else (0, ())
        self.pools = {field: ImagePool(size) for field in fields}
        self.augmentation: DiscriminatorAugment | None = None
        self.real_signs: list[Tensor] = []  # the values of that stat in this step
        if precision != "fp32":  # losses compute in float32
            for network in _called_modules(player.networks):
                network.register_forward_hook(_output_to_float)

    def augment(self, augmentation: DiscriminatorAugment) -> None:
        """Augment what the player's networks see from now on, whoever calls them."""
        assert isinstance(self.player, Discriminators)
        self.augmentation, channels = augmentation, self.player.image_channels

        def augmented(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return augmentation(inputs[0], channels), *inputs[1:]

        for network in _called_modules(self.player.networks):
            network.register_forward_pre_hook(augmented)

    def _make_optimizer(self) -> torch.optim.Adam:
        """Fused Adam on the dense views.

        With lazy penalties, lr and betas are corrected for the additional steps (StyleGAN2, appendix B).
        """
        adam = self.player.optimizer
        correction = 1 / (1 + sum(1 / penalty.every for penalty in self.lazy_penalties))
        factors = {id(p): factor for network, factor in adam.scale.items() for p in network.parameters()}
        groups: dict[float, list[Tensor]] = {}
        for parameter in self.parameters:
            groups.setdefault(factors.get(id(parameter), 1.0), []).append(self.dense_views[parameter])
        return torch.optim.Adam(
            [{"params": params, "lr": adam.lr * correction * factor} for factor, params in groups.items()],
            betas=(adam.betas[0] ** correction, adam.betas[1] ** correction),
            eps=adam.eps,
            fused=True,
        )

    @property
    def objectives(self) -> list[Objective]:
        """Everything that the optimizer makes a step on: the moves, then the lazy penalties."""
        return [*self.moves, *self.lazy_penalties]

    def own_step(self, step: int) -> int | None:
        """The number of this step among those in which the player moves; None if it does not move in this one."""
        number, rest = divmod(step + 1, self.player.every)
        return number - 1 if rest == 0 else None

    def apply_pools(self, outputs: Outputs) -> Outputs:
        """The outputs, with some images of the pooled fields replaced by past ones."""
        return outputs._replace(**{field: pool(getattr(outputs, field)) for field, pool in self.pools.items()})

    # ------------------------------------------------------------------ what a checkpoint holds

    def tensors(self, names: Mapping[nn.Parameter, str]) -> dict[str, Tensor]:
        """Optimizer state, scaler, pools and augmentation by name. names: of the parameters, as the model has them."""
        found: dict[str, Tensor] = {}
        for parameter, dense in self.dense_views.items():
            for key, value in self.optimizer.state[dense].items():
                named = value if key == "step" else from_memory_order(value, parameter)
                found[f"optimizer.{self.name}.{names[parameter]}.{key}"] = named
        if state := self.scaler.state_dict():
            found[f"scaler.{self.name}"] = torch.tensor([state[key] for key in SCALER_STATE], dtype=torch.float64)
        for field, pool in self.pools.items():
            found |= {f"pool.{self.name}.{field}.{key}": value for key, value in pool.tensors().items()}
        if self.augmentation is not None:
            state = self.augmentation.tensors()
            found |= {f"augmentation.{self.name}.{key}": value for key, value in state.items()}
        return found

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], names: Mapping[nn.Parameter, str], device: torch.device) -> None:
        """Restore the state that `tensors` returned; tensors of other players are ignored."""
        for parameter, dense in self.dense_views.items():
            state = _with_prefix(tensors, f"optimizer.{self.name}.{names[parameter]}.")
            if state:
                self.optimizer.state[dense] = {
                    key: value.to(device)
                    if key == "step"
                    else torch.empty_like(dense).copy_(to_memory_order(value, parameter))
                    for key, value in state.items()
                }
        if (scaler := tensors.get(f"scaler.{self.name}")) is not None:
            scale, steps = scaler.tolist()
            changed = {SCALER_STATE[0]: scale, SCALER_STATE[1]: int(steps)}
            self.scaler.load_state_dict({**self.scaler.state_dict(), **changed})
        for field, pool in self.pools.items():
            pool.load(_with_prefix(tensors, f"pool.{self.name}.{field}."), device)
        if self.augmentation is not None:
            self.augmentation.load(_with_prefix(tensors, f"augmentation.{self.name}."))


def check_players(players: list[Player]) -> None:
    """Raise PluginError unless the declarations of the players fit together."""
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


def to_float(tensor: Tensor) -> Tensor:
    """A floating point tensor in float32; any other as it is."""
    return tensor.float() if tensor.is_floating_point() else tensor


def _output_to_float(module: nn.Module, inputs: Any, output: Any) -> Any:
    return tree_map(lambda value: to_float(value) if isinstance(value, Tensor) else value, output)


def _called_modules(networks: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """The modules that a model calls: a list of networks stands for its members."""
    for network in networks:
        if isinstance(network, nn.ModuleList | nn.ModuleDict):
            yield from _called_modules(network.children())
        else:
            yield network


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
