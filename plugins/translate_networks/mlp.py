"""Multi-layer perceptrons: latents to images of any size, and images of any size to scores.

Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio: Generative Adversarial Nets, NIPS 2014,
arXiv:1406.2661, section 5. Deviations, as nearly all have had them since DCGAN: LeakyReLU for the generator's ReLU and
the discriminator's maxout, no dropout, tanh at the end. Weights start as in He, Zhang, Ren, Sun: Delving Deep into
Rectifiers, ICCV 2015, arXiv:1502.01852, eq. 15, so that any width starts alike.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from translate_networks.layers import Positive

SLOPE = 0.2


def synthesis(
    in_channels: int, out_channels: int, *, size: int, width: Positive = 1024, layers: Positive = 2
) -> nn.Module:
    """Fully connected generator (Goodfellow et al., NIPS 2014): for small images.

    Takes latents (N, in_channels), gives images (N, out_channels, size, size) in [-1, 1]. layers: the hidden ones, of
    `width` units each.
    """
    shape = (out_channels, size, size)
    return nn.Sequential(
        *_perceptron(in_channels, width, layers, out_channels * size**2), nn.Tanh(), nn.Unflatten(1, shape)
    )


def discriminator(
    in_channels: int, *, out_channels: int = 1, size: int, width: Positive = 512, layers: Positive = 2
) -> nn.Module:
    """Fully connected discriminator (Goodfellow et al., NIPS 2014): for small images.

    Takes images (N, in_channels, size, size), gives scores (N, out_channels). layers: the hidden ones, of `width`
    units each.
    """
    return nn.Sequential(nn.Flatten(), *_perceptron(in_channels * size**2, width, layers, out_channels))


def _perceptron(inputs: int, width: int, layers: int, outputs: int) -> list[nn.Module]:
    """Linear layers with LeakyReLU between them."""
    widths = [inputs, *[width] * layers, outputs]
    modules: list[nn.Module] = []
    for before, after in pairwise(widths):
        linear = nn.Linear(before, after)
        nn.init.kaiming_normal_(linear.weight, SLOPE)
        nn.init.zeros_(linear.bias)
        modules += [linear, nn.LeakyReLU(SLOPE, inplace=True)]
    return modules[:-1]
