"""A generator that translates images with StyleGAN2's layers."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from translate_networks.layers import PositiveInt
from translate_networks.stylegan2.layers import (
    GAIN,
    SLOPE,
    SQRT_HALF,
    Convolution,
    Linear,
    ModulatedConvolution,
    StyledLayer,
    level_widths,
)


class StyledResidualBlock(nn.Module):
    """Two styled layers, added to their input."""

    def __init__(self, width: int, style_width: int) -> None:
        super().__init__()
        self.first = StyledLayer(width, width, style_width, equalized=False)
        self.second = StyledLayer(width, width, style_width, gain=GAIN * SQRT_HALF, equalized=False)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        change = self.second(self.first(features, style), style)
        return torch.add(change, features, alpha=SQRT_HALF)


class StyleGenerator(nn.Module):
    """An encoder, and a synthesis that starts from the encoder's features instead of a constant.

    The encoder's mean features give one style for all layers. Its features of every size are added to those of the
    synthesis, so that content keeps its position. Deviations from StyleGAN2:

    - There is no noise, so that a translation is a function of its source.
    - Layers that double the sides have instance norm instead of demodulation. With demodulation, the network learned
      from mostly white images to produce only white, and did not recover.
    - No learning rate is equalised: translators train with rates near 2e-4, at which an equalised network learned to
      copy slowly.
    """

    def __init__(self, in_channels: int, out_channels: int, *, width: int, downs: int, blocks: int) -> None:
        super().__init__()
        self.stride = 2**downs
        widths = level_widths(width, downs, most=4)
        deepest = style_width = widths[-1]
        self.encoder = nn.ModuleList([Convolution(in_channels, width, 3, equalized=False)])
        self.decoder = nn.ModuleList()
        for outer, inner in pairwise(widths):
            self.encoder.append(Convolution(outer, inner, 3, down=True, equalized=False))
            up = StyledLayer(inner, outer, style_width, gain=1.0, up=True, norm=True, equalized=False)
            self.decoder.insert(0, up)
        self.style = Linear(deepest, style_width, gain=GAIN, equalized=False)
        self.blocks = nn.ModuleList(StyledResidualBlock(deepest, style_width) for _ in range(blocks))
        self.to_rgb = ModulatedConvolution(
            width, out_channels, 3, style_width, gain=1.0, demodulate=False, equalized=False
        )

    def encode(self, images: Tensor) -> list[Tensor]:
        """The encoder's features, highest resolution first: (N, C_i, H / 2^i, W / 2^i) for i from 0 to `downs`."""
        features: list[Tensor] = []
        for layer in self.encoder:
            images = F.leaky_relu(layer(images), SLOPE, inplace=True)
            features.append(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, C, H, W) in [-1, 1], H and W multiples of `stride`. The result has the same size and range."""
        *skips, features = self.encode(images)
        style = F.leaky_relu(self.style(features.mean((2, 3))), SLOPE)
        for block in self.blocks:
            features = block(features, style)
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            features = torch.add(level(features, style), skip, alpha=SQRT_HALF)
        return torch.tanh(self.to_rgb(features, style))


def generator(
    in_channels: int, out_channels: int, *, width: PositiveInt = 64, downs: PositiveInt = 3, blocks: PositiveInt = 6
) -> StyleGenerator:
    """Style-based translation generator with the layers of StyleGAN2 (Karras et al., CVPR 2020).

    width: channels at full resolution, doubled by each halving up to 4 × width. downs: halvings; sides are multiples of
    2^downs. blocks: residual blocks at the lowest resolution.
    """
    return StyleGenerator(in_channels, out_channels, width=width, downs=downs, blocks=blocks)
