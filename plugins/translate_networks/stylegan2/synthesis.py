"""StyleGAN2's mapping and synthesis networks: latents to styles, and styles to images."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from translate_networks.stylegan2.layers import (
    EPSILON,
    GAIN,
    SLOPE,
    Linear,
    ModulatedConvolution,
    StyledLayer,
    halvings_to_4,
    level_widths,
)


class MappingNetwork(nn.Module):
    """Latents to styles: `layers` dense layers on the normalised latent and, if any, the normalised class embedding.

    style_width: width of a style. classes: 0 for unlabelled images. The layers train at a hundredth of the learning
    rate (the papers' multiplier 0.01). `mean` is the running mean of the styles seen in training, for truncation.
    """

    mean: Tensor
    DECAY = 0.995

    def __init__(self, latents: int, style_width: int, *, classes: int = 0, layers: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, latents) if classes else None
        widths = [2 * latents if classes else latents, *[style_width] * layers]
        self.layers = nn.ModuleList(
            Linear(inputs, outputs, gain=GAIN, lr_multiplier=0.01) for inputs, outputs in pairwise(widths)
        )
        self.register_buffer("mean", torch.zeros(style_width))

    def forward(self, latents: Tensor, labels: Tensor | None = None, truncation: float = 1.0) -> Tensor:
        """Latents (N, latents), and labels int64 (N,) where there are classes, to styles (N, style_width).

        truncation: 1 leaves the styles, 0 makes all of them the mean (StyleGAN, arXiv:1812.04948, section B).
        """
        features = _normalized(latents)
        if self.embedding is not None:
            features = torch.cat([features, _normalized(self.embedding(labels))], 1)
        for layer in self.layers:
            features = F.leaky_relu(layer(features), SLOPE, inplace=True)
        styles = features.to(self.mean.dtype)
        if self.training:
            self.mean.copy_(styles.detach().mean(0).lerp(self.mean, self.DECAY))
        return self.mean.lerp(styles, truncation)


def _normalized(vectors: Tensor) -> Tensor:
    """Scale vectors (N, C) to a mean square of 1: the pixel norm."""
    return vectors * (vectors.square().mean(1, keepdim=True) + EPSILON).rsqrt()


class SynthesisNetwork(nn.Module):
    """Styles to images: a learned constant of 4×4 pixels, doubled up to `size`; each resolution adds to the RGB image.

    The skip architecture of section 4.1 of StyleGAN2. Each convolution takes one of an image's `layers` styles. The
    layer that makes RGB takes the next style, which the first convolution of the following resolution takes, too.
    size: a power of two from 8. width: channels at full resolution, doubled by each halving up to 8 × width.
    """

    def __init__(self, style_width: int, out_channels: int, *, size: int, width: int = 64) -> None:
        super().__init__()
        widths = level_widths(width, halvings_to_4(size, "synthesis"))[::-1]  # from 4×4 pixels up
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.convolutions = nn.ModuleList([StyledLayer(widths[0], widths[0], style_width, side=4)])
        for level in range(1, len(widths)):
            inner, outer, side = widths[level - 1], widths[level], 4 * 2**level
            self.convolutions.append(StyledLayer(inner, outer, style_width, side=side, up=True))
            self.convolutions.append(StyledLayer(outer, outer, style_width, side=side))
        self.to_rgb = nn.ModuleList(
            ModulatedConvolution(channels, out_channels, 1, style_width, gain=1.0, demodulate=False)
            for channels in widths
        )
        self.layers = len(self.convolutions) + 1

    def forward(self, styles: Tensor) -> Tensor:
        """styles: (N, layers, style_width). Returns (N, out_channels, size, size), about [-1, 1] once trained."""
        style = styles.unbind(1)
        features = self.convolutions[0](self.constant.expand(len(styles), -1, -1, -1), style[0])
        # The sum over resolutions is in the styles' precision, not in bf16.
        images: Tensor = self.to_rgb[0](features, style[1]).to(styles.dtype)
        for level in range(1, len(self.to_rgb)):
            features = self.convolutions[2 * level - 1](features, style[2 * level - 1])
            features = self.convolutions[2 * level](features, style[2 * level])
            larger = F.interpolate(images, scale_factor=2, mode="bilinear")
            images = larger + self.to_rgb[level](features, style[2 * level + 1])
        return images
