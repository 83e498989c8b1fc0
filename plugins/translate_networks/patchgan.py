"""Discriminators of patches: one raw score (logit) for each patch, no sigmoid at the end.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017,
arXiv:1611.07004, section 6.1.2.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from translate.errors import UsageError
from translate_networks.layers import BlurPool, InitName, NormName, PositiveInt, initialize, norm_layer


def patchgan(
    in_channels: int,
    *,
    out_channels: int = 1,
    layers: PositiveInt = 3,
    width: PositiveInt = 64,
    norm: NormName = "instance",
    antialias: bool = False,
    init: InitName = "normal",
) -> nn.Module:
    """PatchGAN of Pix2Pix and CycleGAN (Isola et al., CVPR 2017): 3 layers see patches of 70×70 pixels.

    Takes images (N, in_channels, H, W), gives logits (N, out_channels, about H / 2^layers, about W / 2^layers). layers:
    the halvings; 1, 2, 3, 4, 5 see 16, 34, 70, 142, 286 pixels. width: channels of the first layer, doubled by each
    layer up to 8 × width. antialias: halve by a blur after the layer's ReLU (Zhang, ICML 2019, arXiv:1904.11486), as
    in CUT; the patches are then 18, 40, 84, 172, 348 pixels.
    """
    halving, blur = (1, [BlurPool()]) if antialias else (2, [])
    widths = [width * min(2**layer, 8) for layer in range(layers + 1)]
    modules: list[nn.Module] = [
        nn.Conv2d(in_channels, width, 4, halving, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
        *blur,
    ]
    for layer in range(1, layers + 1):
        last = layer == layers  # the last layer does not halve
        modules += [
            nn.Conv2d(widths[layer - 1], widths[layer], 4, 1 if last else halving, padding=1, bias=norm != "batch"),
            norm_layer(norm, widths[layer]),
            nn.LeakyReLU(0.2, inplace=True),
            *([] if last else blur),
        ]
    network = nn.Sequential(*modules, nn.Conv2d(widths[-1], out_channels, 4, padding=1))
    initialize(network, init)
    return network


class Multiscale(nn.Module):
    """Discriminators of the image, of the image at half size, at a quarter, …, in this order."""

    def __init__(self, scales: list[nn.Module]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(scales)

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, C, H, W); logits (N, scales · out_channels, h, w), those of the finest scale first.

        Coarser maps are enlarged to the size of the finest, so that a mean over all scores weighs the scales equally.
        """
        maps = []
        for number, discriminator in enumerate(self.scales):
            if number:
                images = F.avg_pool2d(images, 3, 2, padding=1, count_include_pad=False)
            maps.append(discriminator(images))
        return torch.cat([F.interpolate(scores, size=maps[0].shape[2:]) for scores in maps], 1)


def multiscale(
    in_channels: int,
    *,
    size: int,
    out_channels: int = 1,
    scales: PositiveInt = 2,
    layers: PositiveInt = 3,
    width: PositiveInt = 64,
    norm: NormName = "instance",
    antialias: bool = False,
    init: InitName = "normal",
) -> nn.Module:
    """Several PatchGANs, each on images half as large as the one before. Wang et al., pix2pixHD, CVPR 2018.

    Wang, Liu, Zhu, Tao, Kautz, Catanzaro: High-Resolution Image Synthesis and Semantic Manipulation with Conditional
    GANs, arXiv:1711.11585, section 3.2, eq. 3; there the losses of 3 scales are summed, here a loss is their mean.
    size: side of the training images in pixels, at least 2^(scales - 1) · 3 · 2^layers. The rest is `patchgan`'s.
    """
    least = 2 ** (scales - 1) * 3 * 2**layers
    if size < least:
        raise UsageError(
            f"multiscale(scales={scales}, layers={layers}) takes images of {least} pixels or more; got {size}. "
            f"Take fewer scales or layers."
        )
    scale = partial(
        patchgan,
        in_channels,
        out_channels=out_channels,
        layers=layers,
        width=width,
        norm=norm,
        antialias=antialias,
        init=init,
    )
    return Multiscale([scale() for _ in range(scales)])


def pixel(
    in_channels: int,
    *,
    out_channels: int = 1,
    width: PositiveInt = 64,
    norm: NormName = "instance",
    init: InitName = "normal",
) -> nn.Module:
    """PixelGAN of Pix2Pix (Isola et al., CVPR 2017): scores each pixel by its colour alone.

    Takes images (N, in_channels, H, W), gives logits (N, out_channels, H, W). width: channels of the first layer,
    doubled by the second.
    """
    network = nn.Sequential(
        nn.Conv2d(in_channels, width, 1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(width, 2 * width, 1, bias=norm != "batch"),
        norm_layer(norm, 2 * width),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(2 * width, out_channels, 1),
    )
    initialize(network, init)
    return network
