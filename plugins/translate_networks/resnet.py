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
    PositiveInt,
    Probability,
    ReflectionPad,
    initialize,
    norm_layer,
)

Upsampling = Literal["transposed", "resize"]


class ResNet(nn.Module):
    """c7s1-w, d2w, d4w, R4w × blocks, u2w, uw, c7s1-out, in the notation of CycleGAN's section 7.2."""

    stride = 4

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        convolutions = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
        blocks = [index for index, layer in enumerate(layers) if isinstance(layer, ResidualBlock)]
        # 0, 4, 8, 12 and 16 for 9 blocks with anti-aliasing, as in CUT's code
        self.levels = sorted({0, *convolutions[1:3], blocks[0], blocks[len(blocks) // 2]})

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, C, H, W) in [-1, 1], H and W multiples of 4, from 8. The result has the same size and range."""
        translated: Tensor = self.layers(images)
        return translated

    def encode(self, images: Tensor) -> list[Tensor]:
        """The features that CUT compares (Park et al., ECCV 2020, arXiv:2007.15651, section 4), outermost first.

        These are the padded images, the outputs of the two halving convolutions before their norm, and the outputs of
        the first and the middle residual block (5th of 9, 4th of 6, 3rd of 4). A single block is listed once.

        images: (N, C, H, W) in [-1, 1]. The features are (N, C_i, H_i, W_i).
        """
        features, compared = images, []
        for index, layer in enumerate(islice(self.layers, self.levels[-1] + 1)):
            features = layer(features)
            if index in self.levels:
                compared.append(features)
        return compared


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
    blocks: PositiveInt = 9,
    width: PositiveInt = 64,
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
    is, as in CUT.
    """
    bias = norm != "batch"  # a bias has no effect before a batch norm

    def normed(*convolution: nn.Module, channels: int) -> list[nn.Module]:
        # Without a norm in between, an in-place ReLU would change the convolution's output, which `encode` returns.
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
