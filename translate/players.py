"""What a model declares about its training: which networks train together, on which losses, optimizer and schedule.

These are declarations only. The engine (training/) freezes all other parameters, runs backward and the optimizer, and
keeps the pools, averages and counters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

Terms = Mapping[str, "Tensor"]
"""What a loss returns: named float32 scalars, whose sum is minimised."""

Loss = Callable[..., "Terms | tuple[Terms, Terms]"]
"""A bound method of the model. It takes (batch) or (batch, outputs), by position, and returns terms or (terms, stats).

`forward` runs only for losses that take the outputs.
"""

Schedule = Callable[[float], float]
"""Maps the progress of the run, in [0, 1], to a factor on the learning rate."""


@dataclass(frozen=True)
class LinearDecay:
    """A factor of 1 up to `start` (share of the run), then linearly to 0 at the end of the run."""

    start: float = 0.5

    def __call__(self, progress: float) -> float:
        return 1.0 if progress <= self.start else max(0.0, (1 - progress) / (1 - self.start))


def constant(progress: float) -> float:
    """The schedule of a constant learning rate."""
    return 1.0


@dataclass(frozen=True)
class Adam:
    """Kingma and Ba, Adam, ICLR 2015, arXiv:1412.6980.

    The defaults of lr and betas are those of Radford, Metz, Chintala, ICLR 2016, arXiv:1511.06434, which most
    translation models use.
    scale: {network: factor} on the learning rate of some of the player's networks, as for a mapping network.
    clip: upper bound on the norm of the gradient of a move, over all of its parameters; None does not clip.
    """

    lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    eps: float = 1e-8
    scale: Mapping[nn.Module, float] = field(default_factory=dict)
    clip: float | None = None


@dataclass(frozen=True)
class Move:
    """One loss, backward and optimizer step. networks: which of the player's networks it updates (None: all)."""

    loss: Loss
    networks: Sequence[nn.Module] | None = None


@dataclass(frozen=True)
class Penalty:
    """A regularizer that may differentiate twice. It runs eagerly and in float32.

    loss: takes (batch) or (batch, outputs), as the losses of moves do.
    every=1: the engine adds it to the loss of the player's first move. every=k: it gets its own backward and optimizer
    step after the moves of each k-th step in which the player moves. It is then multiplied by k, and the optimizer's
    lr and betas are corrected (lazy regularization: Karras et al., Analyzing and Improving the Image Quality of
    StyleGAN, CVPR 2020, arXiv:1912.04958, appendix B).
    """

    loss: Loss
    every: int = 1


@dataclass(frozen=True, eq=False)
class Player:
    """Networks that share one optimizer and are updated together; use `Generators` or `Discriminators`.

    networks: the modules whose parameters this player updates; no module is in two players.
    loss: one loss, or a list of losses or `Move`s, which are made in this order.
    schedule: maps the progress of the run to a factor on the learning rate.
    every: the player moves only in each `every`-th step.
    penalties: regularizers of this player's networks.
    name: used in logs, checkpoints and error messages; the players of a model have different names.
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
        """The parameters of these networks (None: all of the player's), each listed once, in a stable order."""
        unique: dict[int, nn.Parameter] = {}
        for network in self.networks if networks is None else networks:
            for parameter in network.parameters():
                unique.setdefault(id(parameter), parameter)
        return list(unique.values())


@dataclass(frozen=True, eq=False)
class Generators(Player):
    """A player whose losses get the outputs with their autograd graph.

    The first move of a step that takes the outputs uses the shared ones; each later one gets a new `forward`.
    """

    name: str = "generators"


@dataclass(frozen=True, eq=False)
class Discriminators(Player):
    """A player whose losses get the outputs detached.

    pool: names of outputs whose images are exchanged at random for past ones from an image pool (Shrivastava et al.,
        CVPR 2017, arXiv:1612.07828).
    pool_size: images kept for each of these names; 0 turns the pool off.
    image_channels: which channels of the networks' input are the real or fake image, and not a condition; all by
        default. `--discriminator-augment` changes colours only in these channels, and applies geometry to all channels.
    """

    name: str = "discriminators"
    pool: Sequence[str] = ()
    pool_size: int = 0
    image_channels: slice = field(default_factory=lambda: slice(None))


Outputs = Any
"""The NamedTuple of tensors that a model's `forward` returns."""
