"""StyleGAN2's residual discriminator: images of one size to raw scores."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from translate_networks.layers import PositiveInt
from translate_networks.stylegan2.layers import (
    GAIN,
    SLOPE,
    SQRT_HALF,
    Convolution,
    Linear,
    MinibatchStddev,
    halvings_to_4,
    level_widths,
)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, the second with stride 2, added to a 1×1 convolution of the input with stride 2."""

    def __init__(self, inputs: int, outputs: int, equalized: bool) -> None:
        super().__init__()
        self.first = Convolution(inputs, inputs, 3, equalized=equalized)
        self.second = Convolution(inputs, outputs, 3, gain=GAIN * SQRT_HALF, down=True, equalized=equalized)
        self.skip = Convolution(inputs, outputs, 1, gain=SQRT_HALF, down=True, equalized=equalized)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H/2, W/2)."""
        change = F.leaky_relu(self.first(features), SLOPE, inplace=True)
        change = F.leaky_relu(self.second(change), SLOPE, inplace=True)
        skipped: Tensor = self.skip(features)
        return skipped + change


class Discriminator(nn.Module):
    """Residual blocks down to 4×4 pixels, then dense layers: the residual discriminator of section 4.1 of StyleGAN2."""

    def __init__(
        self, in_channels: int, out_channels: int, *, size: int, width: int, stddev_group: int, equalized: bool
    ) -> None:
        super().__init__()
        self.smallest_batch = min(stddev_group, 2)
        widths = level_widths(width, halvings_to_4(size, "discriminator"))
        self.from_rgb = Convolution(in_channels, width, 1, equalized=equalized)
        self.blocks = nn.Sequential(*(ResidualBlock(outer, inner, equalized) for outer, inner in pairwise(widths)))
        self.stddev = MinibatchStddev(stddev_group) if stddev_group > 1 else nn.Identity()
        deepest = widths[-1]
        self.last = Convolution(deepest + (stddev_group > 1), deepest, 3, equalized=equalized)
        self.dense = Linear(16 * deepest, deepest, gain=GAIN, equalized=equalized)
        self.score = Linear(deepest, out_channels, equalized=equalized)

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, in_channels, size, size) in [-1, 1]; raw scores (N, out_channels)."""
        features = self.blocks(F.leaky_relu(self.from_rgb(images), SLOPE, inplace=True))
        features = F.leaky_relu(self.last(self.stddev(features)), SLOPE, inplace=True)
        features = F.leaky_relu(self.dense(features.flatten(1)), SLOPE, inplace=True)
        scores: Tensor = self.score(features)
        return scores


def discriminator(
    in_channels: int,
    *,
    out_channels: int = 1,
    size: int,
    width: PositiveInt = 64,
    stddev_group: PositiveInt = 1,
    equalized: bool = False,
) -> Discriminator:
    """Residual discriminator of StyleGAN2 (Karras et al., CVPR 2020): one score for a whole image of `size` pixels.

    size: a power of two from 8. width: channels at full resolution, doubled by each halving up to 8 × width.
    stddev_group: group size of minibatch stddev: 4 in the paper; 1 leaves it out, for translators, whose discriminators
    score each image by itself. equalized: the paper's equalised learning rate, for Adam's rates near 2e-3; without it,
    near 2e-4. Raises UsageError for another size.
    """
    return Discriminator(
        in_channels, out_channels, size=size, width=width, stddev_group=stddev_group, equalized=equalized
    )
