"""What a model declares about its game: who plays, what each minimises, with which optimizer and schedule.

All of it is data. The engine (training/) freezes everybody but the mover, runs backward and the optimizer, and keeps
the pools, averages and counters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

Terms = Mapping[str, "Tensor"]
"""What a loss returns: named float32 scalars that are summed."""

Loss = Callable[..., "Terms | tuple[Terms, Terms]"]
"""A bound method of the model. It takes (), (batch) or (batch, outputs), by position, and returns its terms, or
(terms, stats). Only what it asks for is computed."""

Schedule = Callable[[float], float]
"""Progress of the run in [0, 1] -> factor on the learning rate."""


@dataclass(frozen=True)
class LinearDecay:
    """Constant until `start` (share of the run), then linearly to 0 at its end."""

    start: float = 0.5

    def __call__(self, progress: float) -> float:
        return 1.0 if progress <= self.start else max(0.0, (1 - progress) / (1 - self.start))


def constant(progress: float) -> float:
    """The schedule of a learning rate that never changes."""
    return 1.0


@dataclass(frozen=True)
class Adam:
    """Kingma and Ba, Adam, ICLR 2015, arXiv:1412.6980; the defaults are those of Radford, Metz, Chintala, ICLR 2016,
    arXiv:1511.06434, which most translators keep.

    scale: {network: factor} on the learning rate of some of the player's networks, as for a mapping network.
    clip: upper bound on the norm of the player's whole gradient; None leaves it.
    """

    lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    eps: float = 1e-8
    scale: Mapping[nn.Module, float] = field(default_factory=dict)
    clip: float | None = None


@dataclass(frozen=True)
class Move:
    """One loss, backward and optimizer step; `networks`: those of the player's networks that it moves (None: all)."""

    loss: Loss
    networks: Sequence[nn.Module] | None = None


@dataclass(frozen=True)
class Penalty:
    """A regularizer that may differentiate twice: evaluated eagerly, in float32, on (batch) or (batch, outputs).

    every=1: summed into its player's first move. every=k: its own backward and optimizer step after each k-th turn of
    its player, weighted by k, with the optimizer's lr and betas corrected (Karras et al., Analyzing and Improving the
    Image Quality of StyleGAN, CVPR 2020, arXiv:1912.04958, appendix B).
    """

    loss: Loss
    every: int = 1


@dataclass(frozen=True, eq=False)
class Player:
    """Networks that share one optimizer and move together; use `Generators` or `Discriminators`.

    networks: the modules whose parameters this player owns; no module is in two players.
    loss: one loss, or a list of losses or `Move`s, played in order.
    schedule: factor on the learning rate, by progress of the run.
    every: the player moves on each `every`-th step only.
    name: in logs and error messages; two players of one model need two names.
    """

    networks: Sequence[nn.Module]
    loss: Loss | Sequence[Loss | Move]
    optimizer: Adam = Adam()
    schedule: Schedule = constant
    every: int = 1
    penalties: Sequence[Penalty] = ()
    name: str = ""

    @property
    def moves(self) -> list[Move]:
        """The player's moves, in order."""
        losses = self.loss if isinstance(self.loss, Sequence) else [self.loss]
        return [loss if isinstance(loss, Move) else Move(loss) for loss in losses]

    def parameters(self, networks: Sequence[nn.Module] | None = None) -> list[nn.Parameter]:
        """The parameters of these networks (None: all of the player's), each once, in a stable order."""
        unique: dict[int, nn.Parameter] = {}
        for network in self.networks if networks is None else networks:
            for parameter in network.parameters():
                unique.setdefault(id(parameter), parameter)
        return list(unique.values())


@dataclass(frozen=True, eq=False)
class Generators(Player):
    """Players that get the outputs with their graph; the first move of a step spends it, a later one has a new one."""

    name: str = "generators"


@dataclass(frozen=True, eq=False)
class Discriminators(Player):
    """A player that gets the outputs detached.

    pool: fields of the outputs that are shown through a pool of past images (Shrivastava et al., CVPR 2017,
    arXiv:1612.07828).
    pool_size: images kept for each field; 0 shows the newest.
    image_channels: those of the networks' input that hold the image under judgement, all by default. What augments the
        input (`--discriminator-augment`) changes colours there alone, and moves all channels alike.
    """

    name: str = "discriminators"
    pool: Sequence[str] = ()
    pool_size: int = 0
    image_channels: slice = field(default_factory=lambda: slice(None))


Outputs = Any
"""The NamedTuple of tensors that a model's `forward` returns."""
