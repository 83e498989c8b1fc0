"""Layers that several networks share: norms and padding that keep the memory format, blur pooling, initialisation.

In bf16 on a CPU with matrix instructions, the copies around `nn.InstanceNorm2d` (which makes its input contiguous) and
`nn.ReflectionPad2d` (which autocast runs in float32) take more time than the convolutions. `InstanceNorm` and
`ReflectionPad` make no such copies.
"""

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

PositiveInt = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
NormName = Literal["instance", "batch", "none"]
InitName = Literal["normal", "xavier"]


def instance_norm(images: Tensor, eps: float = 1e-5) -> Tensor:
    """Bring each channel of each image to mean 0 and variance 1; on the CPU it keeps the memory format.

    Ulyanov, Vedaldi, Lempitsky: Instance Normalization: The Missing Ingredient for Fast Stylization, arXiv:1607.08022;
    without scale, shift and running statistics, as in CycleGAN. A constant channel becomes 0.

    images: (N, C, H, W) floating point with H·W > 1; the result has the same shape and dtype. Statistics are float32 if
    the dtype has less precision. Backward needs one stored tensor of the input's size.
    """
    if torch.compiler.is_compiling():  # a compiler fuses these operations with their neighbours
        variance, mean = torch.var_mean(images.float(), (2, 3), correction=0, keepdim=True)
        return ((images - mean) * (variance + eps).rsqrt()).to(images.dtype)
    # Scales in float32 make the kernels keep their statistics in float32; otherwise the CPU rounds them to bf16.
    scales = None if images.dtype == torch.float32 else _ones(images)
    if images.device.type != "cpu":
        return F.instance_norm(images, weight=scales, eps=eps)
    if images.is_contiguous():  # flattened, because torch misreads a channels_last gradient of one image
        return F.instance_norm(images.flatten(2), weight=scales, eps=eps).view_as(images)
    # For a single image batch norm equals instance norm, and its kernel reads channels_last without a copy. But it sums
    # naively: subtracting one of the pixels first, which changes neither result nor gradient, keeps float32 exact.
    if images.dtype == torch.float32:
        images = images - images[:, :, :1, :1].detach()
    if len(images) == 1:
        return F.batch_norm(images, None, None, scales, training=True, eps=eps)
    return torch.cat(
        [F.batch_norm(image, None, None, scales, training=True, eps=eps) for image in images.chunk(len(images))]
    )


def _ones(images: Tensor) -> Tensor:
    statistics = torch.promote_types(images.dtype, torch.float32)
    return torch.ones(images.shape[1], dtype=statistics, device=images.device)


class InstanceNorm(nn.Module):
    """`instance_norm` as a layer: no parameters, no running statistics, the same in training and evaluation."""

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, C, H, W)."""
        return instance_norm(images)


class ReflectionPad(nn.Module):
    """Pad an image on all sides by reflection, keeping its dtype and memory format.

    images: (N, C, H, W) with H and W above `pixels`; the result has sides H + 2·pixels and W + 2·pixels.
    """

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, C, H, W)."""
        with torch.autocast("cpu", enabled=False):  # autocast on the CPU, and only there, would pad in float32
            return F.pad(images, (self.pixels,) * 4, mode="reflect")


class _Concatenate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        ctx.channels = [first.shape[1], second.shape[1]]
        return torch.cat([first, second], 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return tuple(part.clone() for part in torch.split(gradient, ctx.channels, 1))


def concatenate(first: Tensor, second: Tensor) -> Tensor:
    """Concatenate channels as `torch.cat` does, but with gradients that are dense in memory.

    The gradients of `torch.cat` are slices. With these, the backward pass of batch norm in channels_last takes 13 to 40
    times as long on a CPU. first, second: (N, C₁, H, W) and (N, C₂, H, W).
    """
    result: Tensor = _Concatenate.apply(first, second)
    return result


class BlurPool(nn.Sequential):
    """Blur images, then halve them, so that shifting the input by a pixel hardly changes the result.

    Zhang: Making Convolutional Networks Shift-Invariant Again, ICML 2019, arXiv:1904.11486; the filter is [1, 2, 1] / 4
    along both axes, reflected at the borders, as in CUT. Two means over 2×2 pixels are that filter; they need no
    weights and keep dtype and memory format.

    images: (N, C, H, W) with H and W above 1; the result has sides ⌈H / 2⌉ and ⌈W / 2⌉.
    """

    def __init__(self) -> None:
        super().__init__(ReflectionPad(1), nn.AvgPool2d(2, stride=1), nn.AvgPool2d(2))


def norm_layer(norm: NormName, channels: int) -> nn.Module:
    """The layer for an option `norm`."""
    if norm == "instance":
        return InstanceNorm()
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()


@torch.no_grad()
def initialize(network: nn.Module, init: InitName = "normal") -> None:
    """Initialise the weights: "normal" is N(0, 0.02), "xavier" is Glorot's normal distribution with gain 0.02.

    Biases are 0, the scales of batch norm N(1, 0.02). DCGAN (Radford, Metz, Chintala, arXiv:1511.06434), CycleGAN and
    Pix2Pix use "normal"; CUT uses "xavier".
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            if init == "normal":
                nn.init.normal_(layer.weight, 0.0, 0.02)
            else:
                nn.init.xavier_normal_(layer.weight, gain=0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
