"""What a plugin may offer besides models: plain declarations, which the core builds on.

Nothing here imports torch, so that a plugin that offers one of these does not slow down `translate --help`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import ValidationError, validate_call

from translate.errors import PluginError, UsageError, did_you_mean
from translate.players import Loss, Penalty

if TYPE_CHECKING:
    from torch import Tensor, nn

# ------------------------------------------------------------------ networks

Role = Literal["generator", "discriminator", "synthesis", "features"]
ROLES: dict[Role, str] = {
    "generator": "generator",
    "discriminator": "discriminator",
    "synthesis": "generator from noise",
    "features": "feature network",
}
"""The roles of networks, and what a network of each is called."""
CORE_ARGUMENTS = ("in_channels", "out_channels", "size")
"""The arguments that the core passes to a network's factory; all others are the user's options."""


@dataclass(frozen=True)
class Network:
    """A network that a user may name, and the function that builds it (see translate/networks.py)."""

    name: str
    factory: Callable[..., nn.Module]

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The options that a user may set."""
        return {name: p for name, p in inspect.signature(self.factory).parameters.items() if name not in CORE_ARGUMENTS}

    def build(self, options: dict[str, Any], **given: int) -> nn.Module:
        """The module. given: the core arguments of the network's role. Raises UsageError."""
        for option in options:
            if option not in self.options:
                raise UsageError(
                    f"The network {self.name!r} has no option {option!r}. {did_you_mean(option, self.options)}"
                )
        parameters = inspect.signature(self.factory).parameters
        if given.get("out_channels", 1) != 1 and "out_channels" not in parameters:
            raise UsageError(
                f"The network {self.name!r} gives one score for an image; {given['out_channels']} are needed."
            )
        given = {name: value for name, value in given.items() if name in parameters}
        try:
            return validate_call(self.factory)(**given, **options)
        except ValidationError as error:
            what = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in error.errors())
            raise UsageError(f"The network {self.name!r} cannot be built: {what}.") from error


# ------------------------------------------------------------------ losses

ScoreFunction = Callable[["Tensor"], "Tensor"]
"""A discriminator, or a function that calls one: images (N, C, H, W) -> raw scores, with the images as first axis."""


@dataclass(frozen=True)
class AdversarialLoss:
    """What a discriminator and a generator minimise against each other.

    discriminator: (real scores, fake scores) -> scalar that the discriminator minimises, the sum of the terms of real
    and fake. Models of papers that halve it, to slow the discriminator down, do so themselves.
    generator: (fake scores) -> scalar that the generator minimises; (real scores, fake scores) -> if relativistic.
    about: one line for `translate models --networks`, with the paper.
    relativistic: the generator's loss needs the scores of real images, too.
    boundary: the score halfway between real and fake; `real_sign` is relative to it.
    penalty: (score function, real images, fake images) -> scalar that is added to the discriminator's loss, times
    penalty_weight; None if the loss has no penalty.
    """

    name: str
    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[..., Tensor]
    about: str
    relativistic: bool = False
    boundary: float = 0.0
    penalty: Callable[[ScoreFunction, Tensor, Tensor], Tensor] | None = None
    penalty_weight: float = 0.0

    def generator_loss(self, score: ScoreFunction, real: Tensor, fake: Tensor) -> Tensor:
        """The generator's loss on real and fake images (N, C, H, W). Only a relativistic loss scores the real ones."""
        if self.relativistic:
            return self.generator(score(real), score(fake))
        return self.generator(score(fake))

    def real_sign(self, real: Tensor) -> Tensor:
        """The mean sign of real scores, a stat to which ADA adapts: 1 if all score as real, 0 by chance."""
        return (real.detach() - self.boundary).sign().mean()

    def penalties(self, loss: Loss) -> list[Penalty]:
        """[Penalty(loss)] if this loss has a penalty, else []. `loss` is a method that calls `penalty_loss`."""
        return [Penalty(loss)] if self.penalty is not None and self.penalty_weight else []

    def penalty_loss(self, score: ScoreFunction, real: Tensor, fake: Tensor) -> Tensor:
        """The weighted penalty of the discriminator on real and fake images (N, C, H, W)."""
        if self.penalty is None:
            raise ValueError(f"the loss {self.name!r} has no penalty; list `penalties(...)` in the player")
        return self.penalty_weight * self.penalty(score, real, fake)


# ------------------------------------------------------------------ images


@dataclass(frozen=True)
class Dataset:
    """Images that have a name.

    name: of the data set; `--data NAME` means its first two domains.
    domains: their names, which `--a` and `--b` take, alone or as NAME/DOMAIN.
    prepare: fills the folder it is given with train/DOMAIN/* and, where images are held out, test/DOMAIN/*; called
        once, and again after `version` was raised.
    licence, about: one line each, for people.
    parts: for each domain which half of side-by-side images it is; these lie in train/* and test/*.
    """

    name: str
    domains: tuple[str, ...]
    prepare: Callable[[Path], None]
    licence: str = ""
    about: str = ""
    version: int = 1
    parts: tuple[Literal["left", "right"] | None, ...] = ()


class Header(NamedTuple):
    """What a file says before its pixels are decoded.

    Upright width and height in pixels, channels as `decode` gives them, and their bits: 8, 16, or 32 for float32.
    """

    width: int
    height: int
    channels: int
    bits: int


@dataclass(frozen=True)
class Reader:
    """A way to read files of some extensions.

    suffixes: the extensions, in lower case with their dot.
    header: reads what it must of an open file; None passes the file on to the next reader, in the end to Pillow.
    decode: the pixels of a file whose header was given; `images.from_array` makes them of a numpy array.

    Both may raise anything for a file that is damaged: it costs that file alone, and is reported with its name.
    """

    name: str
    suffixes: Collection[str]
    header: Callable[[IO[bytes]], Header | None]
    decode: Callable[[bytes], Tensor]

    def __post_init__(self) -> None:
        if not self.suffixes or not all(suffix == suffix.lower() and suffix[0] == "." for suffix in self.suffixes):
            raise PluginError(
                f"The reader {self.name!r} has the suffixes {self.suffixes!r}; expected some in lower case with their "
                "dot, as in ('.dcm',)."
            )
