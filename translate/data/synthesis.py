"""Synthesised inputs: degraded images made from those of another domain, on the device, anew for every batch.

They turn one folder of good images into a paired task: "gray(b)" colourisation, "edges(b)" drawings to photographs,
"downscale(b, 4)" super-resolution, "mask(b)" inpainting, "jpeg(b)", "noise(b)" and "blur(b)" restoration. An image here
is a tensor (C, H, W) float32 in [-1, 1]; its degraded image depends on it and its seed alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from translate.errors import DataError, UsageError, did_you_mean
from translate.random_bits import random_bits
from translate.spec_parsing import Call, parse_call


@dataclass(frozen=True)
class Synthesis:
    """How degraded images are made from those of a domain; `parse` makes one of these.

    source: the name of the domain that is degraded.
    strengths: none, one number for all images, or the ends of the range that each image draws its own from.
    """

    name: str
    source: str
    strengths: tuple[float, ...] = ()

    @property
    def text(self) -> str:
        """As a user would write it, with every default spelled out: `parse` gives the same synthesis again."""
        return f"{self.name}({', '.join([self.source, *(str(each).removesuffix('.0') for each in self.strengths)])})"

    @property
    def scale(self) -> int:
        """How many times smaller a real degraded image is than its translation, in width and in height."""
        return round(self.strengths[0]) if self.name == "downscale" else 1

    @property
    def adds_alpha(self) -> bool:
        """Whether degraded images have one more channel, which marks the holes to fill in."""
        return self.name == "mask"

    def channels(self, source_channels: int) -> int:
        """The channels of degraded images. Raises DataError if images of `source_channels` cannot be degraded."""
        if self.name == "jpeg" and source_channels not in (1, 3):
            raise DataError(
                f"{self.text} works on images of 1 or 3 channels, as JPEG does, but those of domain {self.source} have "
                f"{source_channels}."
            )
        return 1 if self.name in ("gray", "edges") else source_channels + self.adds_alpha

    @torch.no_grad()
    def __call__(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """Degraded images: (N, C, H, W) float32 in [-1, 1], one seed an image -> (N, channels(C), H, W), likewise.

        The result is on the images' device. Noise of one seed differs from device to device; nothing else does, beyond
        rounding.
        """
        self.channels(images.shape[1])
        low, high = (self.strengths or (0.0,))[0], (self.strengths or (0.0,))[-1]
        degraded = []
        for image, seed in zip(images, map(int, seeds), strict=True):
            (drawn,) = _uniform(1, seed, "strength")
            degraded.append(_KINDS[self.name].make(image, low + (high - low) * drawn, seed))
        return torch.stack(degraded).clamp_(-1, 1)

    @torch.no_grad()
    def accept(self, image: Tensor) -> Tensor:
        """A degraded image that a user has -> as in training: (channels, H, W) float32 in [-1, 1].

        For a mask, alpha becomes 1 or -1, and colours become -1 where alpha is -1. A small image is enlarged to
        (C, scale × H, scale × W). Others are returned unchanged.
        """
        if self.adds_alpha:
            return _blanked(image[:-1], image[-1:] < 0)
        return _enlarged(image, self.scale) if self.name == "downscale" else image


def parse(text: str) -> Synthesis | None:
    """The synthesis that a text such as "downscale(b, 4)" names; None for paths and names of domains.

    Raises UsageError for the call of an unknown synthesis, and for arguments that do not fit.
    """
    written, call = re.match(r"(\w+)\(", text.strip()), parse_call(text)
    name = written[1] if written else ""
    of_a_domain = call is not None and bool(call.arguments) and isinstance(call.arguments[0], str)
    if name not in _KINDS:
        if not name or not of_a_domain:
            return None  # a path, even "photos(1)", as file managers name the copy of a folder
        raise UsageError(f"{text!r}: there is no synthesis {name!r}. {did_you_mean(name, _KINDS)}")
    kind = _KINDS[name]
    numbers = kind.numbers(call) if call is not None and of_a_domain else None
    if call is None or numbers is None:
        raise UsageError(f"{text!r} is not understood. {kind.usage(name)}")
    return Synthesis(name, call.arguments[0], numbers)


def _uniform(count: int, seed: int, purpose: str) -> list[float]:
    """`count` numbers in [0, 1), the same on all platforms."""
    return [(bits >> 11) * 2.0**-53 for bits in random_bits(count, seed, "synthesis", purpose).tolist()]


def _like(image: Tensor, values: Any) -> Tensor:
    """Numbers as a float32 tensor on the device of an image, without waiting for it."""
    return torch.as_tensor(values, dtype=torch.float32).to(image.device, non_blocking=True)


def _gray(image: Tensor, strength: float = 0.0, seed: int = 0) -> Tensor:
    """Luma as in ITU-R BT.601 of three channels, the mean of others: (1, H, W)."""
    if len(image) != 3:
        return image.mean(0, keepdim=True)
    return torch.einsum("dc,chw->dhw", _like(image, _TO_YCBCR[:1]), image)


def _blur(image: Tensor, sigma: float, seed: int = 0) -> Tensor:
    """Gaussian blur, sigma in pixels; the border pixels are replicated outwards."""
    radius = math.ceil(3 * sigma)
    kernel = _like(image, [math.exp(-((x / sigma) ** 2) / 2) for x in range(-radius, radius + 1)])
    kernel = (kernel / kernel.sum()).expand(len(image), 1, 1, -1)
    rows = F.conv2d(F.pad(image[None], (radius, radius, 0, 0), mode="replicate"), kernel, groups=len(image))
    return F.conv2d(F.pad(rows, (0, 0, radius, radius), mode="replicate"), kernel.mT, groups=len(image))[0]


def _edges(image: Tensor, strength: float, seed: int) -> Tensor:
    """Dark lines on white, as a pen draws them on the dark side of an edge: (1, H, W).

    A difference of Gaussians under a soft threshold: Winnemöller, Kyprianidis, Olsen: XDoG: An eXtended
    difference-of-Gaussians compendium including advanced image stylization, Computers & Graphics 2012, with tau = 1.
    Deviation: the threshold is relative to how strong the image's own differences are, so that faint images have
    lines too. The width of the lines and the threshold are drawn for each image, so that no model depends on one.
    """
    width, threshold = _uniform(2, seed, "edges")
    sigma = 0.7 + 0.9 * width  # in pixels
    luma = _gray(image)
    differences = _blur(luma, sigma) - _blur(luma, 1.6 * sigma)  # 1.6: nearest to the Laplacian (Marr, Hildreth 1980)
    usual = differences.square().mean().sqrt().clamp(min=0.01)  # at least, so that nothing is drawn on a flat image
    return 1 + 2 * torch.tanh(3 * (differences / usual + 0.4 + 0.8 * threshold)).clamp(max=0)


def _downscale(image: Tensor, factor: float, seed: int) -> Tensor:
    """Reduced, bicubic with antialiasing, and enlarged again; sides are first padded to multiples of the factor."""
    by = round(factor)
    height, width = image.shape[1:]
    whole = F.pad(image[None], (0, -width % by, 0, -height % by), mode="replicate")
    small = F.interpolate(whole, scale_factor=1 / by, mode="bicubic", antialias=True).clamp(-1, 1)[0]
    return _enlarged(small, by)[:, :height, :width]


def _enlarged(image: Tensor, factor: int) -> Tensor:
    return F.interpolate(image[None], scale_factor=factor, mode="bicubic").clamp(-1, 1)[0]


def _mask(image: Tensor, share: float, seed: int) -> Tensor:
    """An image with holes, rectangles or free-form strokes with equal chance: (C + 1, H, W), the last one alpha.

    The holes are the given share of the pixels, up to a row: those nearest to four random figures. A figure is a line
    of three pieces with a width, or a point, from which distances are measured by a rectangle.
    """
    height, width = image.shape[1:]
    kind, *drawn = _uniform(1 + 4 * 10, seed, "mask")
    numbers = _like(image, drawn).reshape(4, 10, 1, 1)
    extent = 0.1 + 0.9 * numbers[:, 2:4]
    start = numbers[:, :2] * _like(image, [width, height]).reshape(2, 1, 1)
    x, y = torch.arange(width, device=image.device), torch.arange(height, device=image.device)[:, None]
    if kind < 0.5:
        across, down = (x - start[:, 0]) / extent[:, 0], (y - start[:, 1]) / extent[:, 1]
        distance = torch.maximum(across.abs(), down.abs()).amin(0)
    else:
        steps = (numbers[:, 4:].reshape(4, 3, 2, 1, 1) - 0.5) * min(height, width)
        ends = start[:, None] + steps.cumsum(1)
        x, y = x - (ends - steps)[:, :, 0], y - (ends - steps)[:, :, 1]  # (4, 3, H, W), from where each piece begins
        along = ((x * steps[:, :, 0] + y * steps[:, :, 1]) / steps.square().sum(2).clamp(min=1e-6)).clamp_(0, 1)
        away = torch.hypot(x - along * steps[:, :, 0], y - along * steps[:, :, 1])
        distance = (away.amin(1) / extent[:, 0]).amin(0)
    farthest = distance.flatten().kthvalue(max(1, round(share * height * width))).values
    return _blanked(image, (distance <= farthest)[None])


def _blanked(colour: Tensor, holes: Tensor) -> Tensor:
    """Black and transparent in the holes, bool (1, H, W), and opaque elsewhere: (C + 1, H, W)."""
    return torch.cat([colour.masked_fill(holes, -1), 1 - 2 * holes.to(colour.dtype)])


def _noise(image: Tensor, deviation: float, seed: int) -> Tensor:
    """White Gaussian noise; the deviation is a share of the full range of values."""
    generator = torch.Generator(image.device).manual_seed(int(random_bits(1, seed, "synthesis", "noise")[0]))
    return image + 2 * deviation * torch.randn(image.shape, generator=generator, device=image.device)


# Quantisation of luminance and chrominance at quality 50, row by row: ITU-T T.81, tables K.1 and K.2.
_LUMINANCE = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
)
_CHROMINANCE = (
    "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99" + 32 * " 99"
)
_TO_YCBCR = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]  # JFIF
_COSINES = [
    [math.sqrt((1 + (u > 0)) / 8) * math.cos((2 * x + 1) * u * math.pi / 16) for x in range(8)] for u in range(8)
]


def _jpeg(image: Tensor, quality: float, seed: int) -> Tensor:
    """The image after a JPEG file of this quality: 8 bits, chrominance at half the resolution, as libjpeg does it.

    The rounding is that of JPEG. A differentiable approximation would let through a little of what it should remove:
    enough for a model to learn to amplify it, and to fail on real files.
    """
    height, width = image.shape[1:]
    pixels = ((image + 1) * 127.5).round()[None]
    pixels = F.pad(pixels, (0, -width % 16, 0, -height % 16), mode="replicate")[0]
    if len(image) == 1:
        pixels = _coded(pixels - 128, _LUMINANCE, quality) + 128
    else:
        to_ycbcr = torch.tensor(_TO_YCBCR)
        planes = torch.einsum("dc,chw->dhw", _like(image, to_ycbcr), pixels).round()
        luma = _coded(planes[:1] - 128, _LUMINANCE, quality) + 128
        chroma = _coded(F.avg_pool2d(planes[1:], 2).round(), _CHROMINANCE, quality)
        chroma = F.interpolate(chroma[None], scale_factor=2, mode="bilinear")[0].round()
        pixels = torch.einsum("cd,dhw->chw", _like(image, to_ycbcr.inverse()), torch.cat([luma, chroma]))
    return pixels.round().clamp(0, 255)[:, :height, :width] / 127.5 - 1


def _coded(planes: Tensor, table: str, quality: float) -> Tensor:
    """Planes in [-128, 127], (C, H, W), after the quantisation of the frequencies of their 8 × 8 blocks."""
    percent = 5000 // round(quality) if quality < 50 else 200 - 2 * round(quality)  # libjpeg's scale
    steps = [min(max((int(step) * percent + 50) // 100, 1), 255) for step in table.split()]
    quantum, cosines = _like(planes, steps).reshape(8, 1, 8), _like(planes, _COSINES)
    channels, height, width = planes.shape
    blocks = planes.reshape(channels, height // 8, 8, width // 8, 8)
    frequencies = torch.einsum("ui,chiwj,vj->chuwv", cosines, blocks, cosines)
    frequencies = (frequencies / quantum).round() * quantum
    blocks = torch.einsum("ui,chuwv,vj->chiwj", cosines, frequencies, cosines)
    return blocks.reshape(planes.shape).round().clamp(-128, 127)


class _Kind(NamedTuple):
    """One kind of synthesis: its function, and the name, default and limits of its strength.

    default: no number, one, or the two ends of a range; a user may write as many.
    """

    make: Callable[[Tensor, float, int], Tensor]
    strength: str = ""
    default: tuple[float, ...] = ()
    least: float = 0.0
    most: float = 0.0
    whole: bool = False

    def numbers(self, call: Call) -> tuple[float, ...] | None:
        """The strengths of a call, by position or by keyword, or the default; None if they do not fit."""
        given = call.arguments[1:]
        if call.options:
            if given or [*call.options] != [self.strength]:
                return None
            value = call.options[self.strength]
            given = value if isinstance(value, tuple) else (value,)
        types = (int,) if self.whole else (int, float)
        fit = all(type(each) in types and self.least <= each <= self.most for each in given)
        if not fit or len(given) > len(self.default) or list(given) != sorted(given):
            return None
        return tuple(float(each) for each in dict.fromkeys(given or self.default))

    def usage(self, name: str) -> str:
        """How to write it, as a sentence."""
        if not self.default:
            return f"Write {name}(DOMAIN); it takes no number."
        ranges = f", or {name}(DOMAIN, LOW, HIGH) for a range" if len(self.default) == 2 else ""
        default = " to ".join(f"{number:g}" for number in self.default)
        return (
            f"Write {name}(DOMAIN, {self.strength.upper()}){ranges}; the {self.strength} is a"
            f"{' whole' * self.whole} number from {self.least:g} to {self.most:g} [default: {default}]."
        )


_KINDS = {
    "gray": _Kind(_gray),
    "edges": _Kind(_edges),
    "downscale": _Kind(_downscale, "factor", (4,), 2, 16, whole=True),
    "mask": _Kind(_mask, "share", (0.1, 0.4), 0.01, 0.9),
    "jpeg": _Kind(_jpeg, "quality", (10, 60), 1, 100, whole=True),
    "noise": _Kind(_noise, "deviation", (0.02, 0.2), 0.001, 1),
    "blur": _Kind(_blur, "sigma", (0.5, 3), 0.1, 50),
}
