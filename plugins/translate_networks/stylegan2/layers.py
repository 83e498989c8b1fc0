"""The layers of style-based networks."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from translate.errors import UsageError
from translate_networks.layers import InstanceNorm

SLOPE = 0.2  # of every leaky ReLU
GAIN = math.sqrt(2)  # keeps the variance through a leaky ReLU, as in the papers
SQRT_HALF = math.sqrt(0.5)  # keeps the variance of a sum of two
EPSILON = 1e-8


class EqualizedLayer(nn.Module):
    """A weight and a bias that are multiplied by constants at run time: the equalised learning rate.

    Karras, Aila, Laine, Lehtinen: Progressive Growing of GANs, ICLR 2018, arXiv:1710.10196, section 4.1. Weights are
    drawn from N(0, 1) / lr_multiplier and multiplied by gain · lr_multiplier / √fan-in (He's factor) wherever they are
    used. An optimizer whose steps do not depend on the gradient's scale then changes all layers at the same relative
    speed, times lr_multiplier. The factor makes Adam's steps small: such layers need a learning rate near 2e-3, others
    near 2e-4. equalized=False draws the same function with the factors inside the weights, for rates near 2e-4.

    shape: of the weight, outputs first. bias: initial value of all biases.
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
        """The weight times its factor."""
        return self.weight if self.factor == 1 else self.weight * self.factor

    def scaled_bias(self) -> Tensor:
        """The bias times its factor, (outputs,)."""
        return self.bias if self.bias_factor == 1 else self.bias * self.bias_factor


class Linear(EqualizedLayer):
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
        # The input is multiplied, because it is smaller, and because autocast then casts the weight once a step.
        return F.linear(features * self.factor, self.weight, self.scaled_bias())


class Blur(nn.Module):
    """The low-pass filter [1, 3, 3, 1] along both axes, with zero padding.

    Sides grow by 2 · padding − 3. gain: sum of the filter's taps; 4 after an upsampling that inserts zeros.
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
    """A symmetric filter of 4×4 taps, the same for all channels. Its gradient is the same filter with 3 − padding.

    Torch computes the second derivative of a grouped convolution group by group, which took 20 to 80 times as long.
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


class Convolution(EqualizedLayer):
    """A convolution: (N, inputs, H, W) -> (N, outputs, H, W). down: blur, then stride 2: (N, outputs, H/2, W/2)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, gain: float = GAIN, down: bool = False, equalized: bool = True
    ) -> None:
        super().__init__(outputs, inputs, kernel, kernel, gain=gain, equalized=equalized)
        # The blur's padding includes the convolution's own. An output pixel is then centred on 2×2 input pixels.
        self.blur = Blur(padding=1 + kernel // 2) if down else None
        self.padding = 0 if down else kernel // 2

    def forward(self, features: Tensor) -> Tensor:
        weight, bias = self.scaled_weight(), self.scaled_bias()
        if self.blur is None:
            return F.conv2d(features, weight, bias, padding=self.padding)
        return F.conv2d(self.blur(features), weight, bias, stride=2)


class ModulatedConvolution(EqualizedLayer):
    """A convolution whose weights depend on a style: eqs. 1 to 3 of StyleGAN2, or only eq. 1 without `demodulate`.

    (N, inputs, H, W) and styles (N, style_width) -> (N, outputs, H, W), with `up` (N, outputs, 2H, 2W). An affine layer
    with bias 1 maps the style to one factor s_i for each input channel. The weight of an image is s_i w_ijk (eq. 1),
    divided by its norm √(Σ_ik (s_i w_ijk)² + ε) over all inputs of an output channel j (eqs. 2, 3). Scaling input
    channels by s and output channels by the norms' reciprocals gives the same result with weights that all images
    share. gain: of the output with `demodulate`, of the weights without.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        style_width: int,
        *,
        gain: float = GAIN,
        up: bool = False,
        demodulate: bool = True,
        equalized: bool = True,
    ) -> None:
        super().__init__(outputs, inputs, kernel, kernel, gain=1.0 if demodulate else gain, equalized=equalized)
        self.affine = Linear(style_width, inputs, bias=1.0, equalized=equalized)
        self.gain = gain
        self.demodulate = demodulate
        self.blur = Blur(padding=1, gain=4.0) if up else None

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        scales = self.affine(style).to(self.weight.dtype) * self.factor  # (N, inputs): s times the weights' factor
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
        """(N, outputs): gain divided by the norm of each image's modulated weights, in the parameters' precision."""
        with torch.autocast(scales.device.type, enabled=False):
            energy = F.linear(scales.square(), self.weight.square().sum((2, 3)))
        return self.gain * (energy + EPSILON).rsqrt()


def _per_channel(values: Tensor, features: Tensor) -> Tensor:
    """Values (N, C) as (N, C, 1, 1), in the dtype of features (N, C, H, W)."""
    return values[:, :, None, None].to(features.dtype)


class Noise(nn.Module):
    """Adds Gaussian noise, one value a pixel, with one learned strength that starts at 0 (section 2.1 of StyleGAN2).

    Training draws new noise in each call; evaluation uses a fixed noise image of side × side pixels.
    """

    fixed: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("fixed", torch.randn(1, 1, side, side))

    def forward(self, features: Tensor) -> Tensor:
        """features: (N, C, side, side)."""
        noise = self.fixed
        if self.training:  # drawn in float32, so that bf16 gets the same noise as fp32
            noise = torch.randn(len(features), 1, *features.shape[2:], device=features.device)
        return features + (noise * self.strength).to(features.dtype)


class StyledLayer(nn.Module):
    """A 3×3 modulated convolution, noise if `side` (of the result) is given, and a leaky ReLU.

    norm: instance norm in place of demodulation. Instance norm brings channels to mean 0 and variance 1 by their actual
    statistics; demodulation scales by the expected variance and keeps the mean.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        style_width: int,
        *,
        side: int | None = None,
        gain: float = GAIN,
        up: bool = False,
        norm: bool = False,
        equalized: bool = True,
    ) -> None:
        super().__init__()
        self.convolution = ModulatedConvolution(
            inputs, outputs, 3, style_width, gain=gain, up=up, demodulate=not norm, equalized=equalized
        )
        self.norm = InstanceNorm() if norm else nn.Identity()
        self.noise = nn.Identity() if side is None else Noise(side)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        features = self.noise(self.norm(self.convolution(features, style)))
        return F.leaky_relu(features, SLOPE, inplace=True)


class MinibatchStddev(nn.Module):
    """Appends one channel: the standard deviation over the images of a group, averaged over channels and pixels.

    Karras et al., Progressive Growing of GANs, ICLR 2018, arXiv:1710.10196, section 3. The size of a group is the
    largest divisor of N up to `group`; image i is grouped with i + N/size, i + 2N/size, …
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


def level_widths(width: int, halvings: int, most: int = 8) -> list[int]:
    """Channels at full resolution and after each halving: doubled each time, up to `most` × width."""
    return [width * min(2**level, most) for level in range(halvings + 1)]


def halvings_to_4(size: int, part: str) -> int:
    """How many halvings reduce a side of `size` pixels to 4. Raises UsageError if size is not 8, 16, 32, …

    part: the network, for the message.
    """
    halvings = max(size.bit_length() - 3, 1)
    if size != 4 << halvings:
        raise UsageError(
            f"The {part} of StyleGAN2 takes images of 8, 16, 32, 64, … pixels a side; got {size}. "
            f"Try --size {4 << halvings} or --size {8 << halvings}."
        )
    return halvings
