"""Discriminators that judge patches: one logit for each, no sigmoid at the end.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017,
arXiv:1611.07004, section 6.1.2.
"""

from torch import nn

from translate_networks.layers import InitName, NormName, Positive, initialize, norm_layer


def patchgan(
    in_channels: int,
    *,
    layers: Positive = 3,
    width: Positive = 64,
    norm: NormName = "instance",
    init: InitName = "normal",
) -> nn.Module:
    """PatchGAN of Pix2Pix and CycleGAN (Isola et al., CVPR 2017): 3 layers judge patches of 70×70 pixels.

    Takes images (N, in_channels, H, W), gives logits (N, 1, about H / 2^layers, about W / 2^layers). layers: the
    halvings; 1, 2, 3, 4, 5 see 16, 34, 70, 142, 286 pixels. width: channels of the first layer, doubled by each
    layer up to 8 × width.
    """
    widths = [width * min(2**layer, 8) for layer in range(layers + 1)]
    modules: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, 2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
    for layer in range(1, layers + 1):
        stride = 2 if layer < layers else 1
        modules += [
            nn.Conv2d(widths[layer - 1], widths[layer], 4, stride, padding=1, bias=norm != "batch"),
            norm_layer(norm, widths[layer]),
            nn.LeakyReLU(0.2, inplace=True),
        ]
    network = nn.Sequential(*modules, nn.Conv2d(widths[-1], 1, 4, padding=1))
    initialize(network, init)
    return network


def pixel(
    in_channels: int,
    *,
    width: Positive = 64,
    norm: NormName = "instance",
    init: InitName = "normal",
) -> nn.Module:
    """PixelGAN of Pix2Pix (Isola et al., CVPR 2017): judges each pixel by its colour alone.

    Takes images (N, in_channels, H, W), gives logits (N, 1, H, W). width: channels of the first layer, doubled by
    the second.
    """
    network = nn.Sequential(
        nn.Conv2d(in_channels, width, 1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(width, 2 * width, 1, bias=norm != "batch"),
        norm_layer(norm, 2 * width),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(2 * width, 1, 1),
    )
    initialize(network, init)
    return network
