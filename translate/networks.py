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

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from pydantic import AfterValidator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from translate.data.domains import DomainSpec
from translate.errors import UsageError
from translate.plugins import registry
from translate.plugins.types import Role
from translate.spec_parsing import parse_call


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


def _build(role: Role, spec: str, **given: int) -> nn.Module:
    name, options = parse(spec)
    return registry.networks(role)[name].build(options, **given)


def forward_batched(network: nn.Module, *batches: Tensor) -> tuple[Tensor, ...]:
    """What `network` makes of each of several batches, (N, C, H, W) each, in a single call where that changes nothing.

    It does change something where images of a batch are coupled (batch norm, minibatch stddev): one call each.
    """
    if _unbatched or any(
        isinstance(each, _BatchNorm) or getattr(each, "couples_batch", False) for each in network.modules()
    ):
        return tuple(network(batch) for batch in batches)
    parts: tuple[Tensor, ...] = network(torch.cat(batches)).split([len(batch) for batch in batches])
    return parts


@contextmanager
def unbatched() -> Iterator[None]:
    """Inside, `forward_batched` makes one call for each batch, so that what it does can be measured and checked."""
    _unbatched.append(True)
    try:
        yield
    finally:
        _unbatched.pop()


_unbatched: list[bool] = []  # not empty inside `unbatched`
