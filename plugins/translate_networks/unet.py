"""The generator of Pix2Pix: an encoder and a decoder with skip connections between them.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017,
arXiv:1611.07004, section 6.1.1; Ronneberger, Fischer, Brox: U-Net, MICCAI 2015, arXiv:1505.04597.
"""

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from translate_networks.layers import InitName, NormName, PositiveInt, Probability, concatenate, initialize, norm_layer


class UNet(nn.Module):
    """Levels with skip connections: `encoders[i]` halves the output of encoder i - 1, `decoders[i]` doubles it again.

    widths: output channels of the encoders, outermost first. dropouts: how many innermost decoders have dropout.
    """

    def __init__(
        self, in_channels: int, out_channels: int, widths: list[int], norm: NormName, dropout: float, dropouts: int
    ) -> None:
        super().__init__()
        downs, bias = len(widths), norm != "batch"
        self.stride = 2**downs
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            innermost, outermost = level == downs - 1, level == 0
            outer = in_channels if outermost else widths[level - 1]
            # No norm in the outermost level, as in the paper, nor in the innermost, where a 1×1 map would become 0.
            down_norm = nn.Identity() if innermost or outermost else norm_layer(norm, width)
            self.encoders.append(nn.Sequential(nn.Conv2d(outer, width, 4, 2, padding=1, bias=bias), down_norm))
            inner = width if innermost else 2 * width
            if outermost:
                up: list[nn.Module] = [nn.ConvTranspose2d(inner, out_channels, 4, 2, padding=1), nn.Tanh()]
            else:
                up = [nn.ConvTranspose2d(inner, outer, 4, 2, padding=1, bias=bias), norm_layer(norm, outer)]
            if dropout and level >= downs - dropouts:
                up.append(nn.Dropout(dropout))
            self.decoders.append(nn.Sequential(*up))

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, C, H, W) in [-1, 1], H and W multiples of `stride`. The result has the same size and range."""
        skips: list[Tensor] = []
        features = images
        for level, encoder in enumerate(self.encoders):
            # In place, which changes the skips, too: a ReLU gives the same result with or without a leaky one before.
            features = encoder(F.leaky_relu(features, 0.2, inplace=True) if level else features)
            skips.append(features)
        features = skips.pop()
        for decoder in reversed(self.decoders):
            features = decoder(F.relu(features, inplace=True))
            if skips:
                features = concatenate(skips.pop(), features)
        return features

    def encode(self, images: Tensor) -> list[Tensor]:
        """The features that CUT compares: the images, and the outputs of up to four outermost encoders.

        The innermost encoder, whose map is small, is left out. CUT's paper has no U-Net. In training each call updates
        the running statistics of batch norms, as `forward` does. images: (N, C, H, W) in [-1, 1].
        """
        features = [images]
        for level, encoder in enumerate(self.encoders[: min(4, len(self.encoders) - 1)]):
            features.append(encoder(F.leaky_relu(features[-1], 0.2) if level else images))
        return features


def unet(
    in_channels: int,
    out_channels: int,
    *,
    size: int,
    downs: Annotated[int, Field(ge=2, le=12)] | None = None,
    width: PositiveInt = 64,
    norm: NormName = "batch",
    dropout: Probability = 0.5,
    init: InitName = "normal",
) -> UNet:
    """U-Net generator of Pix2Pix (Isola et al., CVPR 2017): 8 halvings for 256 pixels, with dropout as its noise.

    size: side of the training images in pixels. downs: halvings; by default as often as 2 divides `size`, but 2 to 8
    times; a power of two ends at 1×1. width: channels of the first level, doubled by each level up to 8 × width.
    dropout: its probability in the first three decoder levels of 8 × width (the paper's CD512).
    """
    if downs is None:
        evenly = (size & -size).bit_length() - 1  # the number of times that 2 divides size
        downs = min(max(evenly, 2), 8)
    widths = [width * min(2**level, 8) for level in range(downs)]
    full_width_decoders = widths[:-1].count(8 * width)
    network = UNet(in_channels, out_channels, widths, norm, dropout, min(full_width_decoders, 3))
    initialize(network, init)
    return network
