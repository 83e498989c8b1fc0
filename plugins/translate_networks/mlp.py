"""Multi-layer perceptrons: latents to images of any size, and images of any size to scores.

Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio: Generative Adversarial Nets, NIPS 2014,
arXiv:1406.2661, section 5. Deviations, common since DCGAN: LeakyReLU in place of the generator's ReLU and the
discriminator's maxout; no dropout; a tanh at the end; batch norm between the generator's layers, without which images
stay speckled for long.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from translate_networks.layers import PositiveInt, initialize


class MLPSynthesis(nn.Sequential):
    """The generator's layers. Batch norm gets one value per unit and image, so that a batch needs two images."""

    smallest_batch = 2


def synthesis(
    in_channels: int, out_channels: int, *, size: int, width: PositiveInt = 1024, layers: PositiveInt = 2
) -> nn.Module:
    """Fully connected generator (Goodfellow et al., NIPS 2014): for small images.

    Takes latents (N, in_channels), gives images (N, out_channels, size, size) in [-1, 1]. layers: the hidden ones, of
    `width` units each.
    """
    modules: list[nn.Module] = []
    for before, after in pairwise([in_channels, *[width] * layers]):
        modules += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.LeakyReLU(0.2, inplace=True)]
    image = nn.Unflatten(1, (out_channels, size, size))
    network = MLPSynthesis(*modules, nn.Linear(width, out_channels * size**2), nn.Tanh(), image)
    initialize(network)
    return network


def discriminator(
    in_channels: int, *, out_channels: int = 1, size: int, width: PositiveInt = 512, layers: PositiveInt = 2
) -> nn.Module:
    """Fully connected discriminator (Goodfellow et al., NIPS 2014): for small images.

    Takes images (N, in_channels, size, size), gives scores (N, out_channels). layers: the hidden ones, of `width`
    units each.
    """
    modules: list[nn.Module] = []
    for before, after in pairwise([in_channels * size**2, *[width] * layers]):
        modules += [nn.Linear(before, after), nn.LeakyReLU(0.2, inplace=True)]
    network = nn.Sequential(nn.Flatten(), *modules, nn.Linear(width, out_channels))
    initialize(network)
    return network
