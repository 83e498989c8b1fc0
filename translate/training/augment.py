"""Augmentation of what a discriminator sees, so that it cannot memorise a small set of images.

    diffaugment  Zhao, Liu, Lin, Zhu, Han: Differentiable Augmentation for Data-Efficient GAN Training, NeurIPS 2020,
                 arXiv:2006.10738: colour, translation and cutout, always.
    ada          Karras, Aittala, Hellsten, Laine, Lehtinen, Aila: Training Generative Adversarial Networks with Limited
                 Data, NeurIPS 2020, arXiv:2006.06676: pixel blitting, general geometry and colour ("bgc" there), each
                 with a probability p that follows the overfitting of the discriminator.

Real and fake images go through the same policy. It may be differentiated twice with respect to the images, as R1 does,
and nothing here waits for the device.

Images are moved by gathers: grid_sample has no second derivative in torch 2.11, and no deterministic first one on a
GPU. kornia's warps use it too, and kornia evaluates `p == 1` on the host, which would wait for a p on the device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from translate.errors import UsageError

Policy = Literal["diffaugment", "ada"]

TARGET = 0.6  # of the mean sign of the scores of real images
RISE = 500_000  # images in which p can go from 0 to 1
INTERVAL = 4  # batches between two updates of p


class DiscriminatorAugment:
    """A policy, and for "ada" the probability p that it adapts.

    r_t = E[sign(D(real))] (eq. 1 of the paper) is near 1 when the discriminator has memorised the real images.
    Every 4 batches p changes by (images seen since) / 500,000: up if r_t is above 0.6, else down. It stays in [0, 1].
    The paper has no upper bound, but a p above 1 acts as 1 and only takes longer to come down again.
    """

    def __init__(self, policy: Policy, device: torch.device) -> None:
        self.policy = policy
        self.p = torch.zeros((), device=device)
        self.signs = torch.zeros((), device=device)  # sum of signs since p last changed, one sign an image
        self.images = torch.zeros((), device=device)  # seen since then
        self.batches = torch.zeros((), device=device)  # seen since then

    def __call__(self, inputs: Tensor, image_channels: slice = slice(None)) -> Tensor:
        """The augmented input of a discriminator. Draws for each image, from torch's default generator of the device.

        inputs: (N, C, H, W), floating point, images in [-1, 1]; computed and returned in float32, or float64.
        image_channels: the channels that hold images. If their number is a multiple of 3, each three are a colour
            image, else each is a grey image. Colours change only there, in all of them by the same draw; all channels
            move by the same draw.
        Raises UsageError for inputs that are not images.
        """
        if inputs.dim() != 4:
            raise UsageError(
                f"--discriminator-augment {self.policy} takes images (N, C, H, W); a discriminator was shown "
                f"{tuple(inputs.shape)}. Choose --discriminator-augment none."
            )
        inputs = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
        with torch.autocast(inputs.device.type, enabled=False):
            if self.policy == "ada":
                return adaptive(inputs, image_channels, self.p)
            return diff_augment(inputs, image_channels)

    @torch.no_grad()
    def update_p(self, real_sign: Tensor, images: int) -> None:
        """Call once a batch. real_sign: scalar, the mean sign of the scores of `images` (augmented) real images."""
        self.signs += real_sign * images
        self.images += images
        self.batches += 1
        due = self.batches == INTERVAL
        self.p += due * (self.signs / self.images - TARGET).sign() * self.images / RISE
        self.p.clamp_(0, 1)
        for count in (self.signs, self.images, self.batches):
            count.masked_fill_(due, 0)

    def tensors(self) -> dict[str, Tensor]:
        """The state by name: p and the sums for its next update; empty for a policy without state."""
        if self.policy != "ada":
            return {}
        return {"p": self.p, "signs": self.signs, "images": self.images, "batches": self.batches}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state that `tensors` returned."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])


def diff_augment(inputs: Tensor, image_channels: slice) -> Tensor:
    """DiffAugment with all three of its parts (section 4 there): colour, translation, cutout.

    Colour: brightness ± 0.5, saturation × [0, 2], contrast × [0.5, 1.5] about the image's mean. Translation: by whole
    pixels, up to an eighth of each side; pixels from outside are 0. Cutout: a rectangle of half of each side, centred
    anywhere in the image, is set to 0.
    """
    height, width = inputs.shape[2:]
    draw = _Draws(inputs)
    brightness, saturation, contrast = draw.uniform(0.5), 1 + draw.uniform(1), 1 + draw.uniform(0.5)
    mean = inputs[:, image_channels].mean((1, 2, 3))
    # Brightness, saturation, contrast, in this order; saturation does not change the mean.
    inputs = recolour(
        inputs,
        image_channels,
        contrast,
        contrast * saturation,
        torch.zeros_like(mean),
        brightness + (1 - contrast) * mean,
    )
    y, x = torch.arange(height, device=inputs.device), torch.arange(width, device=inputs.device)
    rows = y - (draw.uniform(1 / 8) * height).round().long()[:, None]  # (N, H): where each row comes from
    columns = x - (draw.uniform(1 / 8) * width).round().long()[:, None]  # (N, W)
    cut_rows = (y - (0.5 + draw.uniform(0.5)[:, None]) * height).abs() < height / 4
    cut_columns = (x - (0.5 + draw.uniform(0.5)[:, None]) * width).abs() < width / 4
    empty = (rows != rows.clamp(0, height - 1))[:, :, None] | (columns != columns.clamp(0, width - 1))[:, None]
    empty = empty | (cut_rows[:, :, None] & cut_columns[:, None])
    moved = _pick(inputs, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None])
    return moved.masked_fill(empty[:, None], 0)


def adaptive(inputs: Tensor, image_channels: slice, p: Tensor) -> Tensor:
    """ADA's pipeline "bgc" (appendix B there), every part with probability p; p = 0 returns the inputs exactly.

    p: scalar in [0, 1] on the inputs' device. The parameters of a motion are drawn for its inverse, from output to
    input: their distributions are symmetric.

    Deviations: the warp is bilinear between pixels, without the wavelet filter around it: moved by half a pixel, a wave
    8 pixels long keeps 85 % of its variance, one of 4 pixels 50 %. Pixels from outside are the image's reflection,
    however far it has moved. Only square images are rotated by quarter turns.
    """
    height, width = inputs.shape[2:]
    draw = _Draws(inputs, p)
    draw_angle = _Draws(inputs, 1 - (1 - p).sqrt())  # at least one of two rotations happens with probability p
    mirror = 1 - 2 * draw.integer(2)
    quarter = draw.integer(4 if height == width else 1) * (math.pi / 2)
    shift = draw.uniform(1 / 8, 2)
    scale, stretch = draw.normal(0.2).exp2(), draw.normal(0.2).exp2()
    drift = draw.normal(1 / 8, 2)
    blit = _scaling(mirror, torch.ones_like(mirror)) @ _rotation(quarter)
    stretched = _scaling(stretch, 1 / stretch) @ _rotation(draw_angle.uniform(math.pi))
    linear = blit @ _scaling(scale, scale) @ _rotation(draw_angle.uniform(math.pi)) @ stretched
    moved = torch.stack([(shift[:, 0] * width).round(), (shift[:, 1] * height).round()], 1)
    drifted = torch.stack([drift[:, 0] * width, drift[:, 1] * height], 1)
    inputs = warp(inputs, linear, (blit @ moved[:, :, None] + linear @ drifted[:, :, None]).squeeze(2))

    brightness, contrast, hue = draw.normal(0.2), draw.normal(0.5).exp2(), draw.uniform(math.pi)
    luma = contrast * (1 - 2 * draw.integer(2))  # the luma flip
    chroma = contrast * draw.normal(1.0).exp2()  # the saturation
    return recolour(inputs, image_channels, luma, chroma * hue.cos(), chroma * hue.sin(), luma * brightness)


def warp(inputs: Tensor, linear: Tensor, offset: Tensor) -> Tensor:
    """Warp images by an affine map, bilinear between pixels, reflected at their edges.

    linear (N, 2, 2), offset (N, 2): a pixel of the output shows the input at linear · c + offset, where c = (x, y) is
    its position in pixels from the centre of the image. Whole pixels are moved exactly.
    """
    height, width = inputs.shape[2:]
    x = torch.arange(width, device=inputs.device) - (width - 1) / 2
    y = (torch.arange(height, device=inputs.device) - (height - 1) / 2)[:, None]
    (xx, xy), (yx, yy) = (row.unbind(1) for row in linear[:, :, :, None, None].unbind(1))  # each (N, 1, 1)
    column = xx * x + xy * y + (offset[:, 0, None, None] + (width - 1) / 2)  # (N, H, W)
    row = yx * x + yy * y + (offset[:, 1, None, None] + (height - 1) / 2)
    left, top = column.floor(), row.floor()
    right_share, bottom_share = (column - left)[:, None], (row - top)[:, None]  # (N, 1, H, W)
    columns = [_reflect(left.long() + step, width) for step in (0, 1)]
    rows = [_reflect(top.long() + step, height) for step in (0, 1)]
    above, below = (_pick(inputs, line, columns[0]).lerp(_pick(inputs, line, columns[1]), right_share) for line in rows)
    return above.lerp(below, bottom_share)


def recolour(inputs: Tensor, channels: slice, luma: Tensor, chroma: Tensor, rotation: Tensor, offset: Tensor) -> Tensor:
    """Recolour the images in these channels: luma · grey + chroma · colour + rotation · K colour + offset.

    All parameters are (N,). Grey is the mean of a pixel's three channels, colour the rest. K rotates colour about the
    grey axis by 90°, so that chroma and rotation are saturation times cosine and sine of a hue angle. A single channel
    is grey only.
    """
    images = inputs[:, channels]
    group = 3 if images.shape[1] % 3 == 0 else 1
    one = torch.eye(group, dtype=inputs.dtype, device=inputs.device)
    grey = torch.full_like(one, 1 / group)
    quarter = (one.roll(1, 0) - one.roll(-1, 0)) / math.sqrt(3)  # K; 0 for a lone channel
    luma, chroma, rotation = (parameter[:, None, None] for parameter in (luma, chroma, rotation))
    matrix = luma * grey + chroma * (one - grey) + rotation * quarter  # (N, group, group)
    pixels = images.reshape(len(images), -1, group, images.shape[2] * images.shape[3])
    coloured = matrix[:, None] @ pixels + offset[:, None, None, None]
    return torch.slice_scatter(inputs, coloured.view(images.shape), 1, *channels.indices(inputs.shape[1]))


class _Draws:
    """Random parameters, one row for each image: drawn with this probability, else 0, which must mean no change."""

    def __init__(self, images: Tensor, probability: Tensor | float = 1.0) -> None:
        self.images = images
        self.probability = probability

    def uniform(self, bound: float, *shape: int) -> Tensor:
        """In [-bound, bound): (N, *shape)."""
        return self._sometimes(self._empty(*shape).uniform_(-bound, bound))

    def normal(self, deviation: float, *shape: int) -> Tensor:
        """With mean 0: (N, *shape)."""
        return self._sometimes(self._empty(*shape).normal_(0, deviation))

    def integer(self, end: int) -> Tensor:
        """From 0 to end − 1, as floating point: (N,)."""
        images = self.images
        return self._sometimes(torch.randint(end, (len(images),), dtype=images.dtype, device=images.device))

    def _empty(self, *shape: int) -> Tensor:
        return self.images.new_empty((len(self.images), *shape))

    def _sometimes(self, drawn: Tensor) -> Tensor:
        happens = self._empty(*(1,) * (drawn.dim() - 1)).uniform_() < self.probability
        return drawn * happens


def _rotation(angle: Tensor) -> Tensor:
    """Angles (N,) in radians -> matrices (N, 2, 2)."""
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([cosine, -sine, sine, cosine], 1).view(-1, 2, 2)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    """Factors (N,) along x and y -> matrices (N, 2, 2)."""
    return torch.stack([x, y], 1).diag_embed()


def _reflect(index: Tensor, size: int) -> Tensor:
    """Any integer as an index in [0, size), by reflection at the edges."""
    index = index % (2 * size)
    return torch.minimum(index, 2 * size - 1 - index)


def _pick(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels of images (N, C, H, W) at rows and columns, int64, which broadcast to (N, H, W)."""
    indices = (rows * images.shape[3] + columns).flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, indices).view(images.shape)
