"""The generator of Pix2Pix: an encoder and a decoder with skip connections between them.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017,
arXiv:1611.07004, section 6.1.1; Ronneberger, Fischer, Brox: U-Net, MICCAI 2015, arXiv:1505.04597.
"""

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from translate_networks.layers import InitName, NormName, Positive, Probability, initialize, join, norm_layer


class UNet(nn.Module):
    """A stack of levels: `encoders[i]` halves what level i - 1 gave, `decoders[i]` doubles it again, skips in between.

    widths: the channels that each encoder gives, outermost first. dropouts: the number of innermost decoders that have
    dropout.
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
            # No norm outermost, as in the paper, nor innermost, where a map of 1×1 pixel would become 0.
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
        """images: (N, C, H, W) in [-1, 1], H and W multiples of `stride`; so is the result."""
        skips: list[Tensor] = []
        features = images
        for level, encoder in enumerate(self.encoders):
            # In place, skips included: the decoder's ReLU makes the same of them with or without a leaky one before.
            features = encoder(F.leaky_relu(features, 0.2, inplace=True) if level else features)
            skips.append(features)
        features = skips.pop()
        for decoder in reversed(self.decoders):
            features = decoder(F.relu(features, inplace=True))
            if skips:
                features = join(skips.pop(), features)
        return features

    def encode(self, images: Tensor) -> list[Tensor]:
        """The images and what the outermost encoders give, four at most and not the innermost one, whose map is small.

        They are what CUT compares of a U-Net; its paper has none. In training each call counts for the running
        statistics of a batch norm, as `forward` does. images: (N, C, H, W) in [-1, 1].
        """
        found = [images]
        for level, encoder in enumerate(self.encoders[: min(4, len(self.encoders) - 1)]):
            found.append(encoder(F.leaky_relu(found[-1], 0.2) if level else images))
        return found


def unet(
    in_channels: int,
    out_channels: int,
    *,
    size: int,
    downs: Annotated[int, Field(ge=2, le=12)] | None = None,
    width: Positive = 64,
    norm: NormName = "batch",
    dropout: Probability = 0.5,
    init: InitName = "normal",
) -> UNet:
    """U-Net generator of Pix2Pix (Isola et al., CVPR 2017): 8 halvings for 256 pixels, with dropout as its noise.

    size: side of the training images in pixels. downs: halvings; by default as often as `size` can be halved, which
    for a power of two ends at 1×1, but 2 to 8 times. width: channels of the first level, doubled by each up to
    8 × width. dropout: its probability in the first three decoder levels of 8 × width (the paper's CD512).
    """
    if downs is None:
        evenly = (size & -size).bit_length() - 1  # the number of times that 2 divides size
        downs = min(max(evenly, 2), 8)
    widths = [width * min(2**level, 8) for level in range(downs)]
    full_width_decoders = widths[:-1].count(8 * width)
    network = UNet(in_channels, out_channels, widths, norm, dropout, min(full_width_decoders, 3))
    initialize(network, init)
    return network
