"""Operations on images as tensors: match to a domain, crop, resize, convert to floats and back.

An image is a tensor (C, H, W) of uint8, uint16 or float32; C is 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha, or
any other number of bands. torch has few operations on uint16: its values are computed in float32, which holds them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from translate.domains import Part
from translate.errors import DataError

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
DTYPES = {8: torch.uint8, 16: torch.uint16, 32: torch.float32}
_TOP = {torch.uint8: 255, torch.uint16: 65535}  # the values of white and of opaque
_DEPTHS = {torch.uint8: "8 bits", torch.uint16: "16 bits", torch.float32: "floating point values"}
_CHANNELS = {1: "channel (grey)", 2: "channels (grey, alpha)", 3: "channels (RGB)", 4: "channels (RGB, alpha)"}
_EXACT = 2**24  # whole numbers up to here are exact in float32


def bits_of(dtype: numpy.dtype[Any]) -> int:
    """The bits per channel of an image that is made of such an array: 8, 16, or 32 for all but bytes and uint16."""
    return 8 * dtype.itemsize if dtype.kind in "bu" and dtype.itemsize <= 2 else 32


def from_array(array: numpy.ndarray[Any, Any]) -> Tensor:
    """An image from an array (H, W) or (H, W, C): uint8 and uint16 as they are, all other numbers as float32.

    True is 255 of 8 bits. Raises DataError for values that are no finite numbers, and for whole numbers beyond 2^24,
    which float32 does not hold.
    """
    if array.dtype.kind == "b":
        array = array * numpy.uint8(255)
    if array.dtype.kind not in "uif":
        raise DataError(f"values of type {array.dtype}; expected integers or floating point numbers")
    if bits_of(array.dtype) < 32:
        array = numpy.require(array, array.dtype.newbyteorder("="), "W")
    else:
        if array.dtype.kind != "f" and array.size and not -_EXACT <= array.min() <= array.max() <= _EXACT:
            raise DataError(f"whole numbers beyond ±{_EXACT:,}, which 32-bit floating point numbers do not hold")
        with numpy.errstate(over="ignore"):  # of float64 too large; refused below
            array = numpy.require(array, numpy.float32, "W")
        if not numpy.isfinite(array).all():
            raise DataError("values that are no finite numbers (NaN or infinity); replace them first")
    pixels = torch.from_numpy(numpy.ascontiguousarray(array))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def upright(image: Tensor, orientation: int) -> Tensor:
    """The image (C, H, W) as it should be seen, from one that is stored with an EXIF orientation, 1 to 8."""
    if orientation >= 5:
        image = image.transpose(1, 2)
    axes = {2: (2,), 3: (1, 2), 4: (1,), 6: (2,), 7: (1, 2), 8: (1,)}.get(orientation)
    return image.flip(axes) if axes else image


def common_channels(found: Collection[int], keep_alpha: bool = False) -> int:
    """The channels of a domain, by those of its files: the most bands, or 1 (grey), 3 (RGB) or 4 (RGB, kept alpha)."""
    if max(found, default=0) > 4:
        return max(found)
    if keep_alpha and not {2, 4}.isdisjoint(found):
        return 4
    return 1 if {3, 4}.isdisjoint(found) else 3


def match(image: Tensor, channels: int, bit_depth: int, background: str, name: str) -> Tensor:
    """A decoded image with the channels and the bits of its domain, if that loses nothing.

    Transparent images are laid on the background, a colour as in "white" or "#rrggbb", unless it is "keep"; grey
    becomes RGB, and RGB that is grey everywhere becomes grey; 8 bits in a domain of 16 are multiplied by 257, and whole
    numbers in a domain of floating point values keep their values. Raises DataError naming the file, what it has and
    what is expected.
    """
    dtype = DTYPES[bit_depth]
    if image.dtype != dtype:
        if dtype == torch.uint8 or image.dtype == torch.float32:
            raise DataError(
                f"{name} has {_DEPTHS[image.dtype]} a channel, but {_DEPTHS[dtype]} are expected, "
                "and converting it would lose information."
            )
        factor = 257 if dtype == torch.uint16 else 1
        image = (image.to(torch.int32) * factor).to(dtype)
    if len(image) in (2, 4) and len(image) != channels and image.dtype in _TOP and background != "keep":
        image = _on_background(image, background)
    return match_channels(image, channels, name)


def match_channels(image: Tensor, channels: int, name: str) -> Tensor:
    """The same image with other channels, if that loses nothing: grey as RGB, without opaque alpha, and back.

    image: (C, H, W). Raises DataError naming the file and both counts if colour or transparency would be lost.
    """
    if len(image) == channels:
        return image
    if max(len(image), channels) <= 4:
        opaque = _TOP.get(image.dtype)  # no value of floats means opaque
        colour, alpha = (image[:-1], image[-1:]) if len(image) in (2, 4) else (image, None)
        if channels <= 2 and len(colour) == 3 and (colour[0] == colour[1]).all() and (colour[0] == colour[2]).all():
            colour = colour[:1]
        elif channels > 2 and len(colour) == 1:
            colour = colour.expand(3, -1, -1)
        if channels in (2, 4) and (alpha is not None or opaque is not None):
            colour = torch.cat([colour, torch.full_like(image[:1], opaque or 0) if alpha is None else alpha])
            alpha = None
        if len(colour) == channels and (alpha is None or (opaque is not None and bool((alpha == opaque).all()))):
            return colour
    found, expected = (f"{count} {_CHANNELS.get(count, 'channels')}" for count in (len(image), channels))
    raise DataError(
        f"{name} has {found}, but {expected} {'is' if channels == 1 else 'are'} expected, and converting it would lose "
        "information."
    )


def _on_background(image: Tensor, background: str) -> Tensor:
    """uint8 or uint16 with alpha (2 or 4, H, W) -> without it: (1, H, W) of grey on grey, or else (3, H, W)."""
    top = _TOP[image.dtype]
    if bool((image[-1] == top).all()):
        return image[:-1]
    names = {"white": "#ffffff", "black": "#000000"}
    red, green, blue = (byte / 255 * top for byte in bytes.fromhex(names.get(background, background)[1:]))
    ground = torch.tensor([red] if len(image) == 2 and red == green == blue else [red, green, blue]).view(-1, 1, 1)
    colour, alpha = image[:-1].float(), image[-1:].float() / top
    return (colour * alpha + ground * (1 - alpha)).round().to(image.dtype)


def on_white(image: Tensor) -> Tensor:
    """uint8 (C, H, W) -> uint8 (3, H, W) to be shown: transparent images on white, of many bands the first three."""
    if len(image) > 4:
        return image[:3]
    return match_channels(_on_background(image, "white") if len(image) in (2, 4) else image, 3, "image")


def is_side_by_side(height: int, width: int) -> bool:
    """Whether an image of this size may be two of one size, side by side: about twice as wide as high."""
    return 1.9 <= width / height <= 2.1


def crop_part(image: Tensor, part: Part) -> Tensor:
    """One half of a side-by-side image (C, H, W), or all of it; of an odd width the middle column is in neither."""
    half = image.shape[2] // 2
    return image if part is None else image[:, :, :half] if part == "left" else image[:, :, -half:]


def resize(image: Tensor, height: int, width: int, nearest: bool = False) -> Tensor:
    """(C, H, W) -> (C, height, width) of the same dtype: bicubic with antialiasing; colours are weighted by alpha.

    nearest: each pixel is one of the image, for label maps, whose values must not be blended.
    """
    if image.shape[1:] == (height, width):
        return image
    if nearest:
        rows, columns = (_nearest(old, new) for old, new in zip(image.shape[1:], (height, width), strict=True))
        return image[:, rows[:, None], columns]
    if image.dtype == torch.uint8 and len(image) in MODES and image.device.type == "cpu":
        return from_pillow(to_pillow(image).resize((width, height), Image.Resampling.BICUBIC))
    values, top = image.to(torch.float32), _TOP.get(image.dtype)
    weighted = top is not None and len(image) in (2, 4)
    if weighted:
        values = torch.cat([values[:-1] * values[-1:], values[-1:]])
    values = interpolate(values[None], (height, width), mode="bicubic", antialias=True)[0]
    if weighted:
        values = torch.cat([values[:-1] / values[-1:].clamp(min=1), values[-1:]])
    return values if top is None else values.round_().clamp_(0, top).to(image.dtype)


def _nearest(old: int, new: int) -> Tensor:
    """Along one axis: which of the old pixels holds the centre of each new one."""
    return ((torch.arange(new) + 0.5) * (old / new)).long()


def as_float(pixels: Tensor, value_range: tuple[float, float] = (0.0, 255.0)) -> Tensor:
    """Pixels of any dtype and shape -> float32 in [-1, 1]: the range becomes [-1, 1], the rest is clipped."""
    clip = pixels.dtype != torch.uint8 or value_range != (0, 255)
    return normalise_(pixels.to(torch.float32, copy=True), value_range, clip)


def normalise_(values: Tensor, value_range: tuple[float, float], clip: bool) -> Tensor:
    """Moves float32 in place so that the ends of a range become -1 and 1. clip: to [-1, 1].

    The middle of the range is subtracted first: that is exact for 8 and 16 bits, and leaves one rounding.
    """
    low, high = value_range
    values.sub_((low + high) / 2).mul_(2 / (high - low))
    return values.clamp_(-1, 1) if clip else values


def as_pixels(images: Tensor, bit_depth: int = 8, value_range: tuple[float, float] = (0.0, 255.0)) -> Tensor:
    """Floats in [-1, 1] -> pixels of 8, 16 or 32 bits, of any shape; undoes `as_float`.

    By default uint8 in [0, 255], to be shown. uint8 and uint16 are rounded, and clipped to what they hold; float32 is
    neither.
    """
    low, high = value_range
    dtype = DTYPES[bit_depth]
    values = images.detach().float().add(1).mul_((high - low) / 2)
    values = values.add_(low) if low else values
    return values if bit_depth == 32 else values.round_().clamp_(0, _TOP[dtype]).to(dtype)


def from_pillow(image: Image.Image) -> Tensor:
    """L, LA, RGB or RGBA -> uint8 (C, H, W), with the channels innermost in memory."""
    return from_array(numpy.array(image))


def to_pillow(image: Tensor) -> Image.Image:
    """uint8 (C, H, W) of 1 to 4 channels -> L, LA, RGB or RGBA."""
    mode = MODES[len(image)]
    pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    return Image.frombytes(mode, (image.shape[2], image.shape[1]), numpy.ascontiguousarray(pixels.numpy()).tobytes())
