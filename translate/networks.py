"""Builds the networks that users name, as in "resnet(blocks=9)".

Such a string is a network's `spec`. It is parsed as a call with literal arguments and never evaluated as code. A plugin
registers a factory, a function that returns a module, with `register_networks`, for one of four roles. The factory gets
these arguments:

    role            arguments                             the network maps
    generator       in_channels, out_channels, *, size    images (N, in_channels, H, W) to (N, out_channels, H, W)
    discriminator   in_channels, *, out_channels, size    images (N, in_channels, H, W) to raw scores of each image,
                                                          (N, out_channels), or patch, (N, out_channels, h, w)
    synthesis       in_channels, out_channels, *, size    latents (N, in_channels) to images (N, out_channels, H, W)
    features        none                                  images (N, 3, H, W) to vectors (N, D), for metrics

`size`, the side of the training crops in pixels, is passed only if the factory has a parameter of that name, and so is
a discriminator's `out_channels`. All other parameters are the user's options; their values are validated against the
annotations:

    def my_generator(in_channels: int, out_channels: int, *, blocks: int = 9) -> nn.Module
    def my_discriminator(in_channels: int, *, out_channels: int = 1, layers: int = 3) -> nn.Module
    def my_synthesis(in_channels: int, out_channels: int, *, size: int, width: int = 64) -> nn.Module
    def my_features() -> nn.Module

A network may define:

    stride: int              height and width of its input must be multiples of it
    smallest_batch: int      training needs at least this many images at once
    couples_batch = True     on any submodule whose result for one image depends on the other images of the batch; batch
                             norm does not need this mark. The submodule takes tensors (N, …) by position and returns
                             one tensor
    encode(images)           of a generator: the features of its encoder, a list of (N, C, H, W), from the highest
                             resolution to the lowest
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from pydantic import AfterValidator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from translate.domains import DomainSpec
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
    """Build a generator that maps images of `source` to images of `target`. Raises UsageError."""
    return _build("generator", spec, in_channels=source.channels, out_channels=target.channels, size=source.size)


def discriminator(spec: str, *domains: DomainSpec, extra_channels: int = 0, scores: int = 1) -> nn.Module:
    """Build a discriminator. Its input is the images of all `domains`, concatenated by channels. Raises UsageError.

    extra_channels: input channels besides the images, as for label planes. scores: how many for each image or patch.
    """
    channels = sum(domain.channels for domain in domains) + extra_channels
    return _build("discriminator", spec, in_channels=channels, out_channels=scores, size=domains[0].size)


def synthesis(spec: str, latents: int, target: DomainSpec) -> nn.Module:
    """Build a generator from noise: it maps latents (N, `latents`) to images of `target`. Raises UsageError."""
    return _build("synthesis", spec, in_channels=latents, out_channels=target.channels, size=target.size)


def features(spec: str) -> nn.Module:
    """Build a feature network, frozen and in eval mode. Raises UsageError."""
    return _build("features", spec).eval().requires_grad_(False)


def _build(role: Role, spec: str, **given: int) -> nn.Module:
    name, options = parse(spec)
    return registry.networks(role)[name].build(options, **given)


def forward_batched(network: nn.Module, *batches: Tensor) -> tuple[Tensor, ...]:
    """Apply `network` to several batches (N, C, H, W); one result for each.

    It is called once, on the concatenated batches, if the result is the same. It is called once for each batch if an
    image's result depends on the other images of its batch (batch norm, minibatch stddev).
    """
    if _unbatched or any(
        isinstance(each, _BatchNorm) or getattr(each, "couples_batch", False) for each in network.modules()
    ):
        return tuple(network(batch) for batch in batches)
    parts: tuple[Tensor, ...] = network(torch.cat(batches)).split([len(batch) for batch in batches])
    return parts


@contextmanager
def unbatched() -> Iterator[None]:
    """Inside, `forward_batched` makes one call for each batch, for the plain training loop and benchmarks."""
    _unbatched.append(True)
    try:
        yield
    finally:
        _unbatched.pop()


_unbatched: list[bool] = []  # not empty inside `unbatched`
