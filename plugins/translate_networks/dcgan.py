"""The convolutional networks of DCGAN: latents to images, and images to scores.

Radford, Metz, Chintala: Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks,
ICLR 2016, arXiv:1511.06434, section 3 and figure 1.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from translate.errors import UsageError
from translate_networks.layers import PositiveInt, initialize


class DCGANSynthesis(nn.Module):
    """A projection to 4×4 and transposed convolutions that double the side, with batch norm and ReLU between them."""

    def __init__(self, latents: int, channels: int, widths: list[int]) -> None:
        """widths: channels at sides 4, 8, … up to half the images' side."""
        super().__init__()
        modules: list[nn.Module] = []
        for before, after in pairwise([latents, *widths]):
            stride, padding = (2, 1) if modules else (1, 0)  # the first maps one pixel to 4×4: a projection
            modules += [
                nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*modules, nn.ConvTranspose2d(widths[-1], channels, 4, 2, padding=1), nn.Tanh())
        initialize(self)

    def forward(self, latents: Tensor) -> Tensor:
        """latents: (N, latents); images (N, channels, size, size) in [-1, 1]."""
        images: Tensor = self.layers(latents[:, :, None, None])
        return images


def synthesis(in_channels: int, out_channels: int, *, size: int, width: PositiveInt = 64) -> nn.Module:
    """DCGAN's generator (Radford et al., ICLR 2016): transposed convolutions from 4×4 up.

    Takes latents (N, in_channels), gives images (N, out_channels, size, size) in [-1, 1]. width: channels of the last
    hidden layer, doubled by each layer before it up to 8 × width; figure 1 of the paper has 128 at size 64. Raises
    UsageError if size is not 8, 16, 32, ….
    """
    return DCGANSynthesis(in_channels, out_channels, _widths(size, width)[::-1])


def discriminator(
    in_channels: int,
    *,
    out_channels: int = 1,
    size: int,
    width: PositiveInt = 64,
    norm: Literal["batch", "layer", "none"] = "batch",
) -> nn.Module:
    """DCGAN's discriminator (Radford et al., ICLR 2016): strided convolutions down to one score.

    Takes images (N, in_channels, size, size), gives scores (N, out_channels). width: channels of the first layer,
    doubled by each layer up to 8 × width. norm: for a gradient penalty, "layer" (over all channels and pixels of one
    image) or "none"; batch norm would make it depend on other images. Raises UsageError if size is not 8, 16, 32, ….
    """
    widths = _widths(size, width)
    modules: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, 2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
    for before, after in pairwise(widths):
        modules.append(nn.Conv2d(before, after, 4, 2, padding=1, bias=norm != "batch"))
        if norm != "none":
            modules.append(nn.BatchNorm2d(after) if norm == "batch" else nn.GroupNorm(1, after))
        modules.append(nn.LeakyReLU(0.2, inplace=True))
    network = nn.Sequential(*modules, nn.Conv2d(widths[-1], out_channels, 4), nn.Flatten())
    initialize(network)
    return network


def _widths(size: int, width: int) -> list[int]:
    """Channels at half the images' side, a quarter of it, … down to 4 pixels. Raises UsageError."""
    halvings = max(1, (size // 4).bit_length() - 1)
    if size != 4 * 2**halvings:
        near = [4 * 2**halvings, 8 * 2**halvings] if size > 8 else [8]
        raise UsageError(
            f"The networks of DCGAN take images of size 8, 16, 32, 64, …; got {size}; try --size "
            f"{' or '.join(map(str, near))}."
        )
    return [width * min(2**layer, 8) for layer in range(halvings)]
