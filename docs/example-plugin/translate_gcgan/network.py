"""The context aggregation network: a small generator at full resolution, with a large receptive field by dilation.

Chen, Xu, Koltun: Fast Image Processing with Fully-Convolutional Networks, ICCV 2017, arXiv:1709.00643, section 3.
Deviations: instance norm in place of the adaptive batch norm, so that an image's result does not depend on its batch;
reflection in place of zero padding, against dark borders; a tanh at the end, since images are in [-1, 1].
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn


class ContextAggregation(nn.Module):
    """3×3 convolutions with dilations 1, 2, 4, … and a last one of 1, then a 1×1 convolution to the image."""

    def __init__(self, in_channels: int, out_channels: int, width: int, dilations: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, dilation in zip([in_channels, *[width] * len(dilations)], dilations, strict=False):
            layers += [
                nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation, padding_mode="reflect"),
                nn.InstanceNorm2d(width, affine=True),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, out_channels, 1), nn.Tanh())

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, C, H, W) in [-1, 1], sides above the largest dilation. The result has the same size and range."""
        translated: Tensor = self.layers(images)
        return translated


def can(
    in_channels: int,
    out_channels: int,
    *,
    width: Annotated[int, Field(ge=1)] = 24,
    depth: Annotated[int, Field(ge=1, le=8)] = 5,
) -> ContextAggregation:
    """Context aggregation network (Chen et al., ICCV 2017): full resolution, dilated convolutions, few weights.

    width: channels. depth: dilated layers; 5 see 65 × 65 pixels.
    """
    return ContextAggregation(in_channels, out_channels, width, [*(2**layer for layer in range(depth)), 1])
