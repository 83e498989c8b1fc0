"""Style-based networks: what StyleGAN2 is made of, and a generator that translates images with the same layers.

Karras, Laine, Aittala, Hellsten, Lehtinen, Aila: Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020,
arXiv:1912.04958 (StyleGAN2); conditioning from Karras et al., Training Generative Adversarial Networks with Limited
Data, NeurIPS 2020, arXiv:2006.06676 (StyleGAN2-ADA).

Deviations. Convolutions are modulated by scaling what goes in and what comes out, as section 2.2 derives it, and not by
one set of weights for each image, which computes the same and took three times as long on a CPU. The gain √2 of a leaky
ReLU is part of the weights' factor, and that of a residual sum too, so that neither costs a pass. Small RGB images are
enlarged bilinearly, which is the filter [1, 3, 3, 1] but for the borders: they repeat the outermost pixels instead of
zeros. Widths are stated at full resolution and double up to 8 × there, as in the other networks here.

Under mixed precision the convolutions run in bf16, demodulation and the statistics of a batch in float32.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from translate.errors import UsageError
from translate_networks.layers import InstanceNorm, Positive

SLOPE = 0.2
GAIN = math.sqrt(2)  # keeps the variance through a leaky ReLU, as the papers have it
HALF = math.sqrt(0.5)  # keeps the variance of a sum of two
EPSILON = 1e-8


# ------------------------------------------------------------------ layers


class Equalized(nn.Module):
    """A weight and a bias with factors at run time: the equalised learning rate.

    Karras, Aila, Laine, Lehtinen: Progressive Growing of GANs, ICLR 2018, arXiv:1710.10196, section 4.1. Weights are
    drawn from N(0, 1) / lr_multiplier and multiplied by gain · lr_multiplier / √fan-in (He's factor) wherever they are
    used, so that an optimizer whose steps do not depend on the gradient's scale moves all layers at one relative speed,
    times lr_multiplier. The factor makes Adam's steps small: it wants a rate near 2e-3, where other networks have 2e-4.
    equalized=False draws the same network with its factors inside the weights, for such other rates.

    shape: of the weight, outputs first. bias: what all biases start from.
    """

    def __init__(
        self, *shape: int, gain: float, bias: float = 0.0, lr_multiplier: float = 1.0, equalized: bool = True
    ) -> None:
        super().__init__()
        he = gain / math.sqrt(math.prod(shape[1:]))
        self.factor = he * lr_multiplier if equalized else 1.0
        self.bias_factor = lr_multiplier
        self.weight = nn.Parameter(torch.randn(shape) * (he / self.factor))
        self.bias = nn.Parameter(torch.full(shape[:1], bias / lr_multiplier))

    def scaled_weight(self) -> Tensor:
        """The weight that the layer works with."""
        return self.weight if self.factor == 1 else self.weight * self.factor

    def scaled_bias(self) -> Tensor:
        """The bias that the layer works with, (outputs,)."""
        return self.bias if self.bias_factor == 1 else self.bias * self.bias_factor


class Linear(Equalized):
    """A dense layer: (N, inputs) -> (N, outputs)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        gain: float = 1.0,
        bias: float = 0.0,
        lr_multiplier: float = 1.0,
        equalized: bool = True,
    ) -> None:
        super().__init__(outputs, inputs, gain=gain, bias=bias, lr_multiplier=lr_multiplier, equalized=equalized)

    def forward(self, features: Tensor) -> Tensor:
        # The factor goes to the input, which is smaller, and so the weight itself is cast, which happens once a step.
        return F.linear(features * self.factor, self.weight, self.scaled_bias())


class Blur(nn.Module):
    """The low-pass filter [1, 3, 3, 1] along both axes, with zeros beyond the border.

    Sides grow by 2 · padding − 3. gain: the sum of the filter's taps; 4 where zeros were put between pixels.
    """

    taps: Tensor

    def __init__(self, padding: int, gain: float = 1.0) -> None:
        super().__init__()
        self.padding = padding
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("taps", gain * line[:, None] * line, persistent=False)  # (4, 4)

    def forward(self, images: Tensor) -> Tensor:
        blurred: Tensor = _Blurred.apply(images, self.taps, self.padding)
        return blurred


class _Blurred(torch.autograd.Function):
    """A symmetric filter of 4×4 taps, the same for all channels, whose gradient is that filter with 3 − padding.

    Torch computes the second derivative of a convolution in groups group by group, which took 20 to 80 times as long.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, taps: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(taps)
        ctx.padding = padding
        channels = images.shape[1]
        return F.conv2d(images, taps.to(images.dtype).expand(channels, 1, 4, 4), padding=padding, groups=channels)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (taps,) = ctx.saved_tensors
        return _Blurred.apply(gradient, taps, 3 - ctx.padding), None, None


class Convolution(Equalized):
    """A convolution (N, inputs, H, W) -> (N, outputs, H, W), with `down` blurred before and (N, outputs, H/2, W/2)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, gain: float = GAIN, down: bool = False, equalized: bool = True
    ) -> None:
        super().__init__(outputs, inputs, kernel, kernel, gain=gain, equalized=equalized)
        # The filter's padding holds the convolution's own too: every second pixel of the blurred image is the middle
        # of four, and of nine that surround it.
        self.blur = Blur(padding=1 + kernel // 2) if down else None
        self.padding = 0 if down else kernel // 2

    def forward(self, features: Tensor) -> Tensor:
        weight, bias = self.scaled_weight(), self.scaled_bias()
        if self.blur is None:
            return F.conv2d(features, weight, bias, padding=self.padding)
        return F.conv2d(self.blur(features), weight, bias, stride=2)


class ModulatedConvolution(Equalized):
    """A convolution whose weights depend on a style: eqs. 1 to 3 of StyleGAN2, or without `demodulate` eq. 1 alone.

    (N, inputs, H, W) and styles (N, styles) -> (N, outputs, H, W), with `up` (N, outputs, 2H, 2W). An affine layer,
    1 at first, turns the style into one factor s_i for each input channel; the weight of an image is s_i w_ijk (eq. 1),
    divided by its norm √(Σ_ik (s_i w_ijk)² + ε) over everything that goes into an output channel j (eqs. 2, 3).
    Scaling input channels by s and output channels by the norms' reciprocals gives the same with weights that all
    images share. gain: of the output where it is demodulated, of the weights where it is not.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        styles: int,
        *,
        gain: float = GAIN,
        up: bool = False,
        demodulate: bool = True,
        equalized: bool = True,
    ) -> None:
        super().__init__(outputs, inputs, kernel, kernel, gain=1.0 if demodulate else gain, equalized=equalized)
        self.affine = Linear(styles, inputs, bias=1.0, equalized=equalized)
        self.gain = gain
        self.demodulate = demodulate
        self.blur = Blur(padding=1, gain=4.0) if up else None

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        scales = self.affine(style).to(self.weight.dtype) * self.factor  # (N, inputs): s, and the weights' factor
        features = features * _per_channel(scales, features)
        if self.blur is None:
            features = F.conv2d(features, self.weight, padding=self.weight.shape[-1] // 2)
        else:
            features = self.blur(F.conv_transpose2d(features, self.weight.transpose(0, 1), stride=2))
        bias = _per_channel(self.scaled_bias()[None], features)
        if not self.demodulate:
            return features + bias
        return torch.addcmul(bias, features, _per_channel(self.demodulation(scales), features))

    def demodulation(self, scales: Tensor) -> Tensor:
        """(N, outputs): the gain over the norm of each image's modulated weights, in the parameters' precision."""
        with torch.autocast(scales.device.type, enabled=False):
            energy = F.linear(scales.square(), self.weight.square().sum((2, 3)))
        return self.gain * (energy + EPSILON).rsqrt()


def _per_channel(values: Tensor, features: Tensor) -> Tensor:
    """Values (N, C) as what multiplies features (N, C, H, W) in their own dtype."""
    return values[:, :, None, None].to(features.dtype)


class Noise(nn.Module):
    """Adds Gaussian noise, one value a pixel, with one learned strength that starts at 0 (section 2.1 of StyleGAN2).

    Drawn anew in training; in evaluation it is a fixed picture of `side`² pixels.
    """

    fixed: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("fixed", torch.randn(1, 1, side, side))

    def forward(self, features: Tensor) -> Tensor:
        """features: (N, C, side, side)."""
        noise = self.fixed
        if self.training:  # in float32, whatever the features are, so that bf16 sees the noise that fp32 sees
            noise = torch.randn(len(features), 1, *features.shape[2:], device=features.device)
        return features + (noise * self.strength).to(features.dtype)


class StyledLayer(nn.Module):
    """A 3×3 modulated convolution, noise where `side` states the result's, and a leaky ReLU.

    norm: bring channels to mean 0 and variance 1 by their own statistics instead of demodulating them, which does so by
    those that are to be expected, and leaves the mean.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        styles: int,
        *,
        side: int | None = None,
        gain: float = GAIN,
        up: bool = False,
        norm: bool = False,
        equalized: bool = True,
    ) -> None:
        super().__init__()
        self.convolution = ModulatedConvolution(
            inputs, outputs, 3, styles, gain=gain, up=up, demodulate=not norm, equalized=equalized
        )
        self.norm = InstanceNorm() if norm else nn.Identity()
        self.noise = nn.Identity() if side is None else Noise(side)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        features = self.noise(self.norm(self.convolution(features, style)))
        return F.leaky_relu(features, SLOPE, inplace=True)


class MinibatchStddev(nn.Module):
    """Appends one channel: how much the images of a group differ, on average over channels and pixels.

    Karras et al., Progressive Growing of GANs, ICLR 2018, arXiv:1710.10196, section 3. Groups have the size of the
    largest divisor of N that is not above `group`; image i is grouped with i + N/size, i + 2N/size, …
    """

    couples_batch = True

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def forward(self, features: Tensor) -> Tensor:
        """features: (N, C, H, W); the result is (N, C + 1, H, W)."""
        count, _, height, width = features.shape
        size = max(size for size in range(1, min(self.group, count) + 1) if count % size == 0)
        precise = features.to(torch.promote_types(features.dtype, torch.float32))
        groups = precise.view(size, count // size, *features.shape[1:])
        variance = (groups - groups.mean(0)).square().mean(0)  # `var` takes 9 times as long on a CPU
        spread = (variance + EPSILON).sqrt().mean((1, 2, 3))  # (N / size,)
        channel = spread.repeat(size)[:, None, None, None].expand(count, 1, height, width)
        return torch.cat([features, channel.to(features.dtype)], 1)


# ------------------------------------------------------------------ latents to images


class Mapping(nn.Module):
    """Latents to styles: `layers` dense layers on the normalised latent, beside that of an embedded class.

    styles: their width. classes: 0 for unlabelled images. The layers learn at a hundredth of the rate (the papers'
    multiplier 0.01). `mean` is the running mean of the styles that training has seen, for truncation.
    """

    mean: Tensor
    DECAY = 0.995

    def __init__(self, latents: int, styles: int, *, classes: int = 0, layers: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, latents) if classes else None
        widths = [2 * latents if classes else latents, *[styles] * layers]
        self.layers = nn.ModuleList(
            Linear(inputs, outputs, gain=GAIN, lr_multiplier=0.01) for inputs, outputs in pairwise(widths)
        )
        self.register_buffer("mean", torch.zeros(styles))

    def forward(self, latents: Tensor, labels: Tensor | None = None, truncation: float = 1.0) -> Tensor:
        """Styles (N, styles) of latents (N, latents), and where there are classes of labels int64 (N,).

        truncation: 1 leaves the styles, 0 makes all of them the mean (StyleGAN, arXiv:1812.04948, section B).
        """
        features = _normalized(latents)
        if self.embedding is not None:
            features = torch.cat([features, _normalized(self.embedding(labels))], 1)
        for layer in self.layers:
            features = F.leaky_relu(layer(features), SLOPE, inplace=True)
        styles = features.to(self.mean.dtype)
        if self.training:
            self.mean.copy_(styles.detach().mean(0).lerp(self.mean, self.DECAY))
        return self.mean.lerp(styles, truncation)


def _normalized(vectors: Tensor) -> Tensor:
    """Vectors (N, C) with a mean square of 1: the pixel norm."""
    return vectors * (vectors.square().mean(1, keepdim=True) + EPSILON).rsqrt()


class Synthesis(nn.Module):
    """Styles to images: from a constant of 4×4 pixels, doubled up to `size`, each resolution adding to the RGB image.

    The skip architecture of section 4.1 of StyleGAN2. Each of the `layers` styles of an image goes to one convolution,
    and the one after the last of a resolution also to the layer that makes RGB of it.
    size: a power of two from 8 on. width: channels at full resolution, doubled by each halving up to 8 × width.
    """

    def __init__(self, styles: int, out_channels: int, *, size: int, width: int = 64) -> None:
        super().__init__()
        widths = _widths(width, _halvings(size, "synthesis") + 1)[::-1]  # from 4×4 pixels on
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.convolutions = nn.ModuleList([StyledLayer(widths[0], widths[0], styles, side=4)])
        for level in range(1, len(widths)):
            inner, outer, side = widths[level - 1], widths[level], 4 * 2**level
            self.convolutions.append(StyledLayer(inner, outer, styles, side=side, up=True))
            self.convolutions.append(StyledLayer(outer, outer, styles, side=side))
        self.to_rgb = nn.ModuleList(
            ModulatedConvolution(channels, out_channels, 1, styles, gain=1.0, demodulate=False) for channels in widths
        )
        self.layers = len(self.convolutions) + 1

    def forward(self, styles: Tensor) -> Tensor:
        """styles: (N, layers, width). Images (N, out_channels, size, size), unbounded, about [-1, 1] once trained."""
        style = styles.unbind(1)
        features = self.convolutions[0](self.constant.expand(len(styles), -1, -1, -1), style[0])
        images: Tensor = self.to_rgb[0](features, style[1]).to(styles.dtype)  # the sum over resolutions is not in bf16
        for level in range(1, len(self.to_rgb)):
            features = self.convolutions[2 * level - 1](features, style[2 * level - 1])
            features = self.convolutions[2 * level](features, style[2 * level])
            larger = F.interpolate(images, scale_factor=2, mode="bilinear")
            images = larger + self.to_rgb[level](features, style[2 * level + 1])
        return images


# ------------------------------------------------------------------ images to scores


class ResidualDown(nn.Module):
    """Two convolutions, the second of which halves the sides, added to a halved 1×1 convolution of the input."""

    def __init__(self, inputs: int, outputs: int, equalized: bool) -> None:
        super().__init__()
        self.first = Convolution(inputs, inputs, 3, equalized=equalized)
        self.second = Convolution(inputs, outputs, 3, gain=GAIN * HALF, down=True, equalized=equalized)
        self.skip = Convolution(inputs, outputs, 1, gain=HALF, down=True, equalized=equalized)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H/2, W/2)."""
        change = F.leaky_relu(self.first(features), SLOPE, inplace=True)
        change = F.leaky_relu(self.second(change), SLOPE, inplace=True)
        skipped: Tensor = self.skip(features)
        return skipped + change


class Discriminator(nn.Module):
    """Judges whole images of one size: residual blocks down to 4×4 pixels, then a dense layer.

    The residual discriminator of section 4.1 of StyleGAN2.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, size: int, width: int, stddev_group: int, equalized: bool
    ) -> None:
        super().__init__()
        self.smallest_batch = min(stddev_group, 2)
        widths = _widths(width, _halvings(size, "discriminator") + 1)
        self.from_rgb = Convolution(in_channels, width, 1, equalized=equalized)
        self.blocks = nn.Sequential(*(ResidualDown(outer, inner, equalized) for outer, inner in pairwise(widths)))
        self.stddev = MinibatchStddev(stddev_group) if stddev_group > 1 else nn.Identity()
        deepest = widths[-1]
        self.last = Convolution(deepest + (stddev_group > 1), deepest, 3, equalized=equalized)
        self.dense = Linear(16 * deepest, deepest, gain=GAIN, equalized=equalized)
        self.score = Linear(deepest, out_channels, equalized=equalized)

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, in_channels, size, size) in [-1, 1]; raw scores (N, out_channels)."""
        features = self.blocks(F.leaky_relu(self.from_rgb(images), SLOPE, inplace=True))
        features = F.leaky_relu(self.last(self.stddev(features)), SLOPE, inplace=True)
        features = F.leaky_relu(self.dense(features.flatten(1)), SLOPE, inplace=True)
        scores: Tensor = self.score(features)
        return scores


def discriminator(
    in_channels: int,
    *,
    out_channels: int = 1,
    size: int,
    width: Positive = 64,
    stddev_group: Positive = 1,
    equalized: bool = False,
) -> Discriminator:
    """Residual discriminator of StyleGAN2 (Karras et al., CVPR 2020): one score for a whole image of `size` pixels.

    size: a power of two from 8 on. width: channels at full resolution, doubled by each halving up to 8 × width.
    stddev_group: images whose spread is shown to the last layers (4 in the paper, 1 for none, since translators judge
    single images). equalized: the paper's equalised learning rate, for Adam's rates near 2e-3; without it, near 2e-4.
    Raises UsageError for another size.
    """
    return Discriminator(
        in_channels, out_channels, size=size, width=width, stddev_group=stddev_group, equalized=equalized
    )


# ------------------------------------------------------------------ images to images


class ResidualStyled(nn.Module):
    """Two styled layers, added to their input."""

    def __init__(self, width: int, styles: int) -> None:
        super().__init__()
        self.first = StyledLayer(width, width, styles, equalized=False)
        self.second = StyledLayer(width, width, styles, gain=GAIN * HALF, equalized=False)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        change = self.second(self.first(features, style), style)
        return torch.add(change, features, alpha=HALF)


class StyleGenerator(nn.Module):
    """Translates images by a synthesis that starts from an encoder's features instead of a constant.

    The encoder's mean features give the one style of all layers, and its features of every size are added to the
    synthesis's, so that the content stays where it is. Deviations from StyleGAN2: there is no noise, since a
    translation shall be a function of its source; layers that double the sides have instance norm instead of
    demodulation, without which the network learned from mostly white images to paint nothing but white, and stayed
    there; no rate is equalised, since translators train with rates near 2e-4, at which that made learning to copy slow.
    """

    def __init__(self, in_channels: int, out_channels: int, *, width: int, downs: int, blocks: int) -> None:
        super().__init__()
        self.stride = 2**downs
        widths = _widths(width, downs, most=4)
        deepest = styles = widths[-1]
        self.encoder = nn.ModuleList([Convolution(in_channels, width, 3, equalized=False)])
        self.decoder = nn.ModuleList()
        for outer, inner in pairwise(widths):
            self.encoder.append(Convolution(outer, inner, 3, down=True, equalized=False))
            up = StyledLayer(inner, outer, styles, gain=1.0, up=True, norm=True, equalized=False)
            self.decoder.insert(0, up)
        self.style = Linear(deepest, styles, gain=GAIN, equalized=False)
        self.blocks = nn.ModuleList(ResidualStyled(deepest, styles) for _ in range(blocks))
        self.to_rgb = ModulatedConvolution(width, out_channels, 3, styles, gain=1.0, demodulate=False, equalized=False)

    def encode(self, images: Tensor) -> list[Tensor]:
        """The encoder's features, outermost first: (N, C_i, H / 2^i, W / 2^i) for i from 0 to `downs`."""
        features: list[Tensor] = []
        for layer in self.encoder:
            images = F.leaky_relu(layer(images), SLOPE, inplace=True)
            features.append(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, C, H, W) in [-1, 1], H and W multiples of `stride`; so is the result."""
        *skips, features = self.encode(images)
        style = F.leaky_relu(self.style(features.mean((2, 3))), SLOPE)
        for block in self.blocks:
            features = block(features, style)
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            features = torch.add(level(features, style), skip, alpha=HALF)
        return torch.tanh(self.to_rgb(features, style))


def generator(
    in_channels: int, out_channels: int, *, width: Positive = 64, downs: Positive = 3, blocks: Positive = 6
) -> StyleGenerator:
    """Style-based translation generator with the layers of StyleGAN2 (Karras et al., CVPR 2020).

    width: channels at full resolution, doubled by each halving up to 4 × width. downs: halvings; sides are multiples of
    2^downs. blocks: residual blocks at the lowest resolution.
    """
    return StyleGenerator(in_channels, out_channels, width=width, downs=downs, blocks=blocks)


# ------------------------------------------------------------------ sizes


def _widths(width: int, halvings: int, most: int = 8) -> list[int]:
    """Channels at full resolution and after each halving: doubled, up to `most` × width."""
    return [width * min(2**level, most) for level in range(halvings + 1)]


def _halvings(size: int, part: str) -> int:
    """Halvings of a side until 8 pixels are left. Raises UsageError for what is no power of two from 8 on."""
    halvings = max(size.bit_length() - 4, 0)
    if size != 8 << halvings:
        raise UsageError(
            f"The {part} of StyleGAN2 takes images of 8, 16, 32, 64, … pixels a side; got {size}. "
            f"Try --size {8 << halvings} or --size {16 << halvings}."
        )
    return halvings
