"""The generator of CycleGAN: two halvings, residual blocks, two doublings.

Johnson, Alahi, Fei-Fei: Perceptual Losses for Real-Time Style Transfer and Super-Resolution, ECCV 2016,
arXiv:1603.08155; as used by Zhu, Park, Isola, Efros: Unpaired Image-to-Image Translation using Cycle-Consistent
Adversarial Networks, ICCV 2017, arXiv:1703.10593, section 7.2.
"""

from typing import Literal

from torch import Tensor, nn

from translate_networks.layers import InitName, NormName, Positive, Probability, ReflectionPad, initialize, norm_layer

Upsampling = Literal["transposed", "resize"]


class ResNet(nn.Module):
    """Layers in a row: c7s1-w, d2w, d4w, R4w × blocks, u2w, uw, c7s1-out, in the notation of CycleGAN's section 7.2."""

    stride = 4

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, C, H, W) in [-1, 1], H and W multiples of 4 and at least 8; so is the result."""
        translated: Tensor = self.layers(images)
        return translated


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
    init: InitName = "normal",
) -> ResNet:
    """Residual generator of CycleGAN (Johnson et al., ECCV 2016): 9 blocks for 256 pixels, 6 for 128.

    width: channels at full resolution, 4 × as many in the blocks. upsample: "transposed" is the paper's; "resize"
    doubles by nearest neighbour before a 3×3 convolution, against checkerboard patterns (Odena, Dumoulin, Olah:
    Deconvolution and Checkerboard Artifacts, Distill 2016).
    """
    bias = norm != "batch"  # a batch norm's own shift would make it useless

    def normed(*convolution: nn.Module, channels: int) -> list[nn.Module]:
        return [*convolution, norm_layer(norm, channels), nn.ReLU(inplace=True)]

    def doubling(channels: int) -> list[nn.Module]:
        if upsample == "transposed":
            return [nn.ConvTranspose2d(2 * channels, channels, 3, 2, padding=1, output_padding=1, bias=bias)]
        return [nn.Upsample(scale_factor=2), ReflectionPad(1), nn.Conv2d(2 * channels, channels, 3, bias=bias)]

    network = ResNet(
        [
            *normed(ReflectionPad(3), nn.Conv2d(in_channels, width, 7, bias=bias), channels=width),
            *normed(nn.Conv2d(width, 2 * width, 3, 2, padding=1, bias=bias), channels=2 * width),
            *normed(nn.Conv2d(2 * width, 4 * width, 3, 2, padding=1, bias=bias), channels=4 * width),
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
