"""Turns "resnet(blocks=9)" into a module: the registry of networks that users may name.

A spec is parsed as a literal call and never evaluated as code. A plugin offers a factory through `register_networks`,
for one of four roles:

    def painter(in_channels: int, out_channels: int, *, blocks: int = 9)     # generator: images -> images
    def critic(in_channels: int, *, out_channels: int = 1, layers: int = 3)  # discriminator: images -> raw scores
    def dreamer(in_channels: int, out_channels: int, *, size: int)           # synthesis: latents -> images
    def observer()                                                           # features: images -> vectors, for metrics

Its keyword options are validated against their annotations. A factory is told the side of the training crops in pixels
if it names a keyword `size`, and a discriminator's the number of scores if it names `out_channels`. What a network may
have besides:

    stride: int              the sides of its input are multiples of it
    smallest_batch: int      it cannot be trained on fewer images at once
    couples_batch = True     on any submodule whose result depends on who shares the batch (batch norm is known); it
                             takes tensors by position, (N, …), and returns one
    encode(images)           of a generator: the features of its encoder, outermost first, as a list of (N, C, H, W)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, ValidationError, validate_call
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from translate.calls import parse_call
from translate.data.domains import DomainSpec
from translate.errors import UsageError, did_you_mean

ROLES = {
    "generator": "generator",
    "discriminator": "discriminator",
    "synthesis": "generator from noise",
    "features": "network of features",
}
"""The roles of networks, and what a network of each is called."""
GIVEN = ("in_channels", "out_channels", "size")


@dataclass(frozen=True)
class Network:
    """A registered network: its name and the factory that makes it."""

    name: str
    factory: Callable[..., nn.Module]

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The options that a spec may set."""
        return {name: p for name, p in inspect.signature(self.factory).parameters.items() if name not in GIVEN}

    def build(self, options: dict[str, Any], **given: int) -> nn.Module:
        """The module; `given` is in_channels, out_channels and size, as far as the role has them. Raises UsageError."""
        for option in options:
            if option not in self.options:
                raise UsageError(
                    f"The network {self.name!r} has no option {option!r}. {did_you_mean(option, self.options)}"
                )
        named = inspect.signature(self.factory).parameters
        if given.get("out_channels", 1) != 1 and "out_channels" not in named:
            raise UsageError(
                f"The network {self.name!r} gives one score for an image; {given['out_channels']} are needed."
            )
        given = {name: value for name, value in given.items() if name in named}
        try:
            return validate_call(self.factory)(**given, **options)
        except ValidationError as error:
            what = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in error.errors())
            raise UsageError(f"The network {self.name!r} cannot be built: {what}.") from error


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """Split "name(option=literal, ...)" into name and options. Raises UsageError."""
    call = parse_call(spec)
    if call is None or call.arguments:
        raise UsageError(
            f"{spec!r} is no network: write a name, or a name with options as in 'resnet(blocks=6, norm=\"batch\")'."
        )
    return call.name, call.options


def _checked(spec: str) -> str:
    try:
        parse(spec)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return spec


NetworkSpec = Annotated[str, AfterValidator(_checked)]
"""The type of a config field that names a network: `generator: NetworkSpec = "resnet(blocks=9)"`."""


def generator(spec: str, source: DomainSpec, target: DomainSpec) -> nn.Module:
    """Build the named generator from images of `source` to images of `target`. Raises UsageError."""
    return _build("generator", spec, in_channels=source.channels, out_channels=target.channels, size=source.size)


def discriminator(spec: str, *domains: DomainSpec, extra_channels: int = 0, scores: int = 1) -> nn.Module:
    """Build the named discriminator of images, or of several domains' images concatenated. Raises UsageError.

    extra_channels: beside the images, as for planes that hold a label. scores: for each image or patch.
    """
    channels = sum(domain.channels for domain in domains) + extra_channels
    return _build("discriminator", spec, in_channels=channels, out_channels=scores, size=domains[0].size)


def synthesis(spec: str, latents: int, target: DomainSpec) -> nn.Module:
    """Build the named network from `latents` numbers to an image of `target`. Raises UsageError."""
    return _build("synthesis", spec, in_channels=latents, out_channels=target.channels, size=target.size)


def features(spec: str) -> nn.Module:
    """Build the named network of features, frozen, in eval mode. Raises UsageError."""
    return _build("features", spec).eval().requires_grad_(False)


def _build(role: str, spec: str, **given: int) -> nn.Module:
    from translate import plugins

    name, options = parse(spec)
    return plugins.networks(role)[name].build(options, **given)


def together(network: nn.Module, *batches: Tensor) -> tuple[Tensor, ...]:
    """What `network` makes of each of several batches, (N, C, H, W) each, in a single call where that changes nothing.

    It does change something where images of a batch are coupled (batch norm, minibatch stddev): one call each.
    """
    if _apart or any(
        isinstance(each, _BatchNorm) or getattr(each, "couples_batch", False) for each in network.modules()
    ):
        return tuple(network(batch) for batch in batches)
    parts: tuple[Tensor, ...] = network(torch.cat(batches)).split([len(batch) for batch in batches])
    return parts


@contextmanager
def apart() -> Iterator[None]:
    """Inside, `together` makes one call for each batch, so that what it does can be measured and checked."""
    _apart.append(True)
    try:
        yield
    finally:
        _apart.pop()


_apart: list[bool] = []  # not empty inside `apart`
