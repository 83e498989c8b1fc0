"""The generator of CycleGAN: two halvings, residual blocks, two doublings.

Johnson, Alahi, Fei-Fei: Perceptual Losses for Real-Time Style Transfer and Super-Resolution, ECCV 2016,
arXiv:1603.08155; as used by Zhu, Park, Isola, Efros: Unpaired Image-to-Image Translation using Cycle-Consistent
Adversarial Networks, ICCV 2017, arXiv:1703.10593, section 7.2.
"""

from itertools import islice
from typing import Literal

from torch import Tensor, nn

from translate_networks.layers import (
    BlurPool,
    InitName,
    NormName,
    Positive,
    Probability,
    ReflectionPad,
    initialize,
    norm_layer,
)

Upsampling = Literal["transposed", "resize"]


class ResNet(nn.Module):
    """Layers in a row: c7s1-w, d2w, d4w, R4w × blocks, u2w, uw, c7s1-out, in the notation of CycleGAN's section 7.2."""

    stride = 4

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        convolutions = [place for place, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
        blocks = [place for place, layer in enumerate(layers) if isinstance(layer, ResidualBlock)]
        # 0, 4, 8, 12 and 16 for 9 blocks with anti-aliasing, as CUT's code numbers them
        self.levels = sorted({0, *convolutions[1:3], blocks[0], blocks[len(blocks) // 2]})

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, C, H, W) in [-1, 1], H and W multiples of 4 and at least 8; so is the result."""
        translated: Tensor = self.layers(images)
        return translated

    def encode(self, images: Tensor) -> list[Tensor]:
        """The features that CUT compares (Park et al., ECCV 2020, arXiv:2007.15651, section 4), outermost first.

        The padded images, what the two halving convolutions give before their norm, and the first and the middle
        residual block, 5th of 9, 4th of 6, 3rd of 4; of a single block it is the same and comes once.

        images: (N, C, H, W) in [-1, 1]; the features (N, C_i, H_i, W_i).
        """
        features, found = images, []
        for place, layer in enumerate(islice(self.layers, self.levels[-1] + 1)):
            features = layer(features)
            if place in self.levels:
                found.append(features)
        return found


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions whose result is added to their input."""

    def __init__(self, width: int, norm: NormName, dropout: float) -> None:
        super().__init__()
        bias = norm != "batch"
        self.layers = nn.Sequential(
            ReflectionPad(1),
            nn.Conv2d(width, width, 3, bias=bias),
            norm_layer(norm, width),
            nn.ReLU(inplace=True),
            *([nn.Dropout(dropout)] if dropout else []),
            ReflectionPad(1),
            nn.Conv2d(width, width, 3, bias=bias),
            norm_layer(norm, width),
        )

    def forward(self, features: Tensor) -> Tensor:
        """features: (N, width, H, W)."""
        change: Tensor = self.layers(features)
        return features + change


def resnet(
    in_channels: int,
    out_channels: int,
    *,
    blocks: Positive = 9,
    width: Positive = 64,
    norm: NormName = "instance",
    dropout: Probability = 0.0,
    upsample: Upsampling = "transposed",
    antialias: bool = False,
    init: InitName = "normal",
) -> ResNet:
    """Residual generator of CycleGAN (Johnson et al., ECCV 2016): 9 blocks for 256 pixels, 6 for 128.

    width: channels at full resolution, 4 × as many in the blocks. upsample: "transposed" is the paper's; "resize"
    doubles by nearest neighbour before a 3×3 convolution, against checkerboard patterns (Odena, Dumoulin, Olah:
    Deconvolution and Checkerboard Artifacts, Distill 2016). antialias: halve by a blur after the layer's ReLU (Zhang,
    ICML 2019, arXiv:1904.11486), and double by the filter [1, 3, 3, 1] before a 3×3 convolution, whatever `upsample`
    says; CUT has it so.
    """
    bias = norm != "batch"  # a batch norm's own shift would make it useless

    def normed(*convolution: nn.Module, channels: int) -> list[nn.Module]:
        # Where there is no norm in between, a ReLU in place would spoil the convolution's result for `encode`.
        return [*convolution, norm_layer(norm, channels), nn.ReLU(inplace=norm != "none")]

    def halving(channels: int) -> list[nn.Module]:
        stride = 1 if antialias else 2
        convolution = nn.Conv2d(channels // 2, channels, 3, stride, padding=1, bias=bias)
        return normed(convolution, channels=channels) + ([BlurPool()] if antialias else [])

    def doubling(channels: int) -> list[nn.Module]:
        if antialias:  # bilinear interpolation is the filter [1, 3, 3, 1], with replicated borders
            smooth = nn.Upsample(scale_factor=2, mode="bilinear")
            return [smooth, nn.Conv2d(2 * channels, channels, 3, padding=1, bias=bias)]
        if upsample == "transposed":
            return [nn.ConvTranspose2d(2 * channels, channels, 3, 2, padding=1, output_padding=1, bias=bias)]
        return [nn.Upsample(scale_factor=2), ReflectionPad(1), nn.Conv2d(2 * channels, channels, 3, bias=bias)]

    network = ResNet(
        [
            *normed(ReflectionPad(3), nn.Conv2d(in_channels, width, 7, bias=bias), channels=width),
            *halving(2 * width),
            *halving(4 * width),
            *(ResidualBlock(4 * width, norm, dropout) for _ in range(blocks)),
            *normed(*doubling(2 * width), channels=2 * width),
            *normed(*doubling(width), channels=width),
            ReflectionPad(3),
            nn.Conv2d(width, out_channels, 7),
            nn.Tanh(),
        ]
    )
    initialize(network, init)
    return network
