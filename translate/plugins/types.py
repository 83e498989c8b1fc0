"""What a plugin may register besides models: plain dataclasses, which the rest of the core uses.

Nothing here imports torch, so a plugin that registers one of these does not slow down `translate --help`.
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
from translate.validation import list_problems

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
"""The roles of networks, and the noun for a network of each role."""
SHAPE_ARGUMENTS = ("in_channels", "out_channels", "size")
"""The arguments of a network's factory that the core sets; all others are options of the user."""


@dataclass(frozen=True)
class Network:
    """A network that a user may name, and the function that builds it (see translate/networks.py)."""

    name: str
    factory: Callable[..., nn.Module]

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The options that a user may set."""
        return {
            name: p for name, p in inspect.signature(self.factory).parameters.items() if name not in SHAPE_ARGUMENTS
        }

    def build(self, options: dict[str, Any], **shape: int) -> nn.Module:
        """Build the network. shape: those of in_channels, out_channels and size that its role has.

        Raises UsageError for options that the factory does not take, and for more than one output channel if it has
        no `out_channels`.
        """
        for option in options:
            if option not in self.options:
                raise UsageError(
                    f"The network {self.name!r} has no option {option!r}. {did_you_mean(option, self.options)}"
                )
        parameters = inspect.signature(self.factory).parameters
        if shape.get("out_channels", 1) != 1 and "out_channels" not in parameters:
            raise UsageError(
                f"The network {self.name!r} gives one score for an image; {shape['out_channels']} are needed."
            )
        shape = {name: value for name, value in shape.items() if name in parameters}
        try:
            return validate_call(self.factory)(**shape, **options)
        except ValidationError as error:
            raise UsageError(f"The network {self.name!r} cannot be built: {list_problems(error)}.") from error


# ------------------------------------------------------------------ losses

ScoreFunction = Callable[["Tensor"], "Tensor"]
"""A discriminator, or a function that calls one: images (N, C, H, W) -> raw scores (N, …)."""


@dataclass(frozen=True)
class AdversarialLoss:
    """The losses of a discriminator and a generator that are trained against each other.

    discriminator: (real scores, fake scores) -> scalar that the discriminator minimises, the sum of a real and a fake
    part. Models of papers that halve the sum, to slow the discriminator down, halve it themselves.
    generator: (fake scores) -> scalar that the generator minimises; (real scores, fake scores) if relativistic.
    about: one line for `translate models --networks`, with the paper.
    relativistic: whether the generator's loss needs the scores of real images, too.
    boundary: the score that is neither real nor fake; `real_sign` counts scores above it as real.
    penalty: (score function, real images, fake images) -> scalar that the discriminator also minimises, times
    penalty_weight; None without a penalty.
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
        """The generator's loss on real and fake images. Only a relativistic loss scores the real ones."""
        if self.relativistic:
            return self.generator(score(real), score(fake))
        return self.generator(score(fake))

    def real_sign(self, real: Tensor) -> Tensor:
        """The mean sign of real scores: 1 if all are taken for real, 0 by chance. ADA adapts to this stat (its r_t)."""
        return (real.detach() - self.boundary).sign().mean()

    def penalties(self, loss: Loss) -> list[Penalty]:
        """The penalties to declare for a discriminator: one if this loss has a penalty, otherwise none.

        loss: the model's function for it, which calls `penalty_loss`.
        """
        return [Penalty(loss)] if self.penalty is not None and self.penalty_weight else []

    def penalty_loss(self, score: ScoreFunction, real: Tensor, fake: Tensor) -> Tensor:
        """The discriminator's weighted penalty on real and fake images."""
        if self.penalty is None:
            raise ValueError(f"the loss {self.name!r} has no penalty; list `penalties(...)` in the player")
        return self.penalty_weight * self.penalty(score, real, fake)


# ------------------------------------------------------------------ images


@dataclass(frozen=True)
class Download:
    """What is downloaded to prepare a data set, as far as it is known before.

    num_bytes: its size. approximate: the size is rounded.
    ask_server: asks the server for a size that is not known: bytes, or None if it does not say. It is called before the
        user is asked for consent, and raises TranslateError if no server answers.
    by_hand: no program may download the files. The user is not asked; `prepare` raises a TranslateError that says how
        to get the files and where to put them, until they are there.
    """

    num_bytes: int | None = None
    approximate: bool = False
    ask_server: Callable[[], int | None] | None = None
    by_hand: bool = False


@dataclass(frozen=True)
class Dataset:
    """A data set that a user may name.

    name: `--data NAME` means the first two domains.
    domains: names of the domains, which `--a` and `--b` take, alone or as NAME/DOMAIN.
    prepare: fills the folder that it is called with: train/DOMAIN/* and, for held-out images, test/DOMAIN/*. It is
        called once, and again when `version` has been raised.
    licence, about: one line each, for the user.
    parts: for side-by-side images, which half each domain is; these images are in train/* and test/*.
    download: what `prepare` downloads. The user sees size, licence, citation and homepage, and is asked for consent.
    citation, homepage: the publication to cite, and a web page about the data set.
    """

    name: str
    domains: tuple[str, ...]
    prepare: Callable[[Path], None]
    licence: str = ""
    about: str = ""
    version: int = 1
    parts: tuple[Literal["left", "right"] | None, ...] = ()
    download: Download | None = None
    citation: str = ""
    homepage: str = ""


class Header(NamedTuple):
    """The format of an image, from the header of its file.

    width, height: in pixels, of the upright image. channels: those of the decoded image. bits: of each channel: 8, 16,
    or 32 for float32.
    """

    width: int
    height: int
    channels: int
    bits: int


@dataclass(frozen=True)
class Reader:
    """Reads image files with certain extensions.

    suffixes: the extensions, in lower case with their dot.
    header: an open file -> its Header, or None if another reader should read it; the last one is Pillow.
    decode: the content of a file whose header was read -> the pixels (C, H, W) (see `images.from_array`).

    Both may raise any exception for a damaged file. The file is then left out, and reported with its name.
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
