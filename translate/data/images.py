"""Bytes to uint8 tensors and back: decode, resize, match channels, save, contact sheets. Pillow stays inside this file.

An image is a uint8 tensor (C, H, W) in [0, 255]; C is 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
"""

from __future__ import annotations

import io
import math
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy
import torch
from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from torch import Tensor

from translate.data.domains import Part
from translate.data.sources import Entry
from translate.errors import DataError

MAX_PIXELS = 8192 * 8192
# Never the formats that run another program (EPS) or that nobody keeps pictures in.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA")
SAVED_AS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
ANIMATED = {".gif": "GIF", ".webp": "WEBP"}
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_CHANNELS = {mode: channels for channels, mode in _MODES.items()}
_FONT = ImageFont.load_default(11)
# 16 bits a channel in the raw modes of Pillow's decoders, as in "RGB;16B"; "BGR;16" is 5 + 6 + 5 bits.
_SIXTEEN_BITS = re.compile(r";16[BLNS]")


class Header(NamedTuple):
    """What an image's header says: upright width and height in pixels, and the channels that `decode` gives."""

    width: int
    height: int
    channels: int


def read_header(entry: Entry) -> Header:
    """The header of an image file, without decoding its pixels; DataError naming the file and the reason."""
    try:
        with entry.open() as file, _opened(file, entry.origin) as image:
            # A PNG without EXIF would be decoded to ask for it, and Pillow has turned the size of a TIFF already.
            exif = image.getexif() if "exif" in image.info and image.format != "TIFF" else {}
            turned = exif.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            width, height = image.size[::-1] if turned else image.size
            return Header(width, height, _CHANNELS[_plain_mode(image)])
    except DataError:
        raise
    except Exception as error:  # Pillow raises errors of many types for damaged data
        raise DataError(f"{entry.origin}: {_reason(error)}") from error


def decode(data: bytes, name: str) -> Tensor:
    """The pixels of an image file: uint8 (C, H, W), upright, the first frame of an animation.

    Palettes and 1-bit images come out as grey or RGB, with alpha if they have transparency; CMYK as RGB. Raises
    DataError naming the file and the reason if it is empty, damaged, too large, or has more than 8 bits a channel.
    """
    try:
        with _opened(io.BytesIO(data), name) as image:
            ImageOps.exif_transpose(image, in_place=True)
            mode = _plain_mode(image)
            return _to_tensor(image if image.mode == mode else image.convert(mode))
    except DataError:
        raise
    except Exception as error:  # Pillow raises errors of many types for damaged data
        raise DataError(f"{name}: {_reason(error)}") from error


def match_channels(image: Tensor, channels: int, name: str) -> Tensor:
    """The same image with so many channels, if nothing is lost: grey as RGB, opaque without its alpha, and back.

    image: uint8 (C, H, W). Raises DataError naming the file and both counts if colour or transparency would be lost.
    """
    if len(image) == channels:
        return image
    if max(len(image), channels) <= 4:
        colour, alpha = (image[:-1], image[-1:]) if len(image) in (2, 4) else (image, None)
        if channels <= 2 and len(colour) == 3 and (colour[0] == colour[1]).all() and (colour[0] == colour[2]).all():
            colour = colour[:1]
        elif channels > 2 and len(colour) == 1:
            colour = colour.expand(3, -1, -1)
        if channels in (2, 4):
            colour = torch.cat([colour, torch.full_like(image[:1], 255) if alpha is None else alpha])
            alpha = None
        if len(colour) == channels and (alpha is None or bool((alpha == 255).all())):
            return colour
    raise DataError(
        f"{name} has {len(image)} {_described(len(image))}, but {channels} {_described(channels)} are expected, "
        "and converting it would lose information."
    )


def is_side_by_side(height: int, width: int) -> bool:
    """Whether an image of this size may be two of one size, side by side: about twice as wide as high."""
    return 1.9 <= width / height <= 2.1


def cut(image: Tensor, part: Part) -> Tensor:
    """One half of a side-by-side image (C, H, W), or all of it; of an odd width the middle column is in neither."""
    half = image.shape[2] // 2
    return image if part is None else image[:, :, :half] if part == "left" else image[:, :, -half:]


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """uint8 (C, H, W) -> uint8 (C, height, width), bicubic with antialiasing; alpha is weighted as it should be."""
    if image.shape[1:] == (height, width):
        return image
    if len(image) not in _MODES:
        raise DataError(f"An image of {len(image)} channels cannot be resized; this version resizes 1 to 4.")
    return _to_tensor(_to_pillow(image).resize((width, height), Image.Resampling.BICUBIC))


def as_float(images: Tensor) -> Tensor:
    """uint8 in [0, 255] -> float32 in [-1, 1], of any shape."""
    return images.to(torch.float32).div_(127.5).sub_(1)


def as_uint8(images: Tensor) -> Tensor:
    """Floats in [-1, 1] -> uint8 in [0, 255], of any shape: rounded, and clipped outside; undoes `as_float`."""
    return images.detach().float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def save(image: Tensor, path: Path, quality: int = 95) -> None:
    """Writes uint8 (C, H, W) as PNG, JPEG, WebP (lossless) or TIFF, by the extension; complete or not at all.

    Raises DataError for an unknown extension, or for an alpha channel in a JPEG; OSError if it cannot be written.
    """
    kind = SAVED_AS.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"{path} cannot be written: the extension must be one of {', '.join(SAVED_AS)}.")
    if kind == "JPEG" and len(image) in (2, 4):
        raise DataError(f"{path} cannot be written: JPEG has no transparency; choose png, webp or tiff.")
    with _complete_or_absent(path) as file:
        options = {"quality": quality} if kind == "JPEG" else {"lossless": True}
        _to_pillow(image.cpu()).save(file, kind, **options)


def save_animation(frames: Sequence[Tensor], path: Path) -> None:
    """Writes frames, uint8 (C, H, W) each, as a GIF or WebP (lossless) that plays for ever; complete or not at all.

    Each frame is shown for 80 milliseconds. Transparent frames are laid on white.
    Raises DataError for an unknown extension; OSError if it cannot be written.
    """
    kind = ANIMATED.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"{path} cannot be written: an animation's extension must be one of {', '.join(ANIMATED)}.")
    first, *rest = (_to_pillow(frame if len(frame) in (1, 3) else _on_white(frame)) for frame in frames)
    options = {"lossless": True} if kind == "WEBP" else {}
    with _complete_or_absent(path) as file:
        first.save(file, kind, save_all=True, append_images=rest, duration=80, loop=0, **options)


@contextmanager
def _complete_or_absent(path: Path) -> Iterator[IO[bytes]]:
    """A file under a temporary name, which becomes `path` if nothing is raised while it is written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def grid(
    rows: Sequence[Sequence[Tensor]], titles: Sequence[str] = (), row_titles: Sequence[str] = (), gap: int = 2
) -> Tensor:
    """A contact sheet: uint8 (3, H, W) from rows of uint8 (C, H, W), on white.

    titles stand over the columns, each cut to its column's width; row_titles stand before the rows.
    Images may differ in size and channels; transparent ones are laid on white.
    """
    cells = [image for row in rows for image in row]
    height, width = (max(image.shape[axis] for image in cells) + gap for axis in (1, 2))
    head = gap + (16 if titles else 0)
    side = gap + max((math.ceil(_FONT.getlength(title)) + 2 for title in row_titles), default=0)
    columns = max(len(row) for row in rows)
    sheet = torch.full((3, head + len(rows) * height, side + columns * width), 255, dtype=torch.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = head + i * height, side + j * width
            sheet[:, top : top + image.shape[1], left : left + image.shape[2]] = _on_white(image.cpu())
    marks = [((side + j * width, 2), _cut_to(width - gap, title)) for j, title in enumerate(titles)]
    marks += [((2, head + i * height + height // 2 - 8), title) for i, title in enumerate(row_titles)]
    return _written_on(sheet, marks) if marks else sheet


def _opened(file: IO[bytes], name: str) -> Image.Image:
    """An image whose pixels are not decoded yet; refuses what is too large or too deep."""
    start = file.read(1)
    file.seek(0)
    if not start:
        raise DataError(f"{name}: the file is empty")
    image = Image.open(file, formats=_FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{name}: {image.width} × {image.height} pixels; at most {MAX_PIXELS:,} are read")
    raw_mode = str(image.tile[0].args) if image.tile else ""
    bits = 32 if image.mode in ("I", "F") else 16 if "I;16" in image.mode or _SIXTEEN_BITS.search(raw_mode) else 8
    if bits != 8:
        raise DataError(f"{name}: {bits} bits a channel; this version reads 8")
    return image


def _plain_mode(image: Image.Image) -> str:
    """The mode of L, LA, RGB, RGBA that holds all of an image."""
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        return "LA" if grey else "RGBA"
    return "L" if grey else "RGB"


def _to_tensor(image: Image.Image) -> Tensor:
    """L, LA, RGB or RGBA -> uint8 (C, H, W), with the channels innermost in memory."""
    pixels = torch.from_numpy(numpy.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def _to_pillow(image: Tensor) -> Image.Image:
    mode = _MODES[len(image)]
    pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    return Image.frombytes(mode, (image.shape[2], image.shape[1]), numpy.ascontiguousarray(pixels.numpy()).tobytes())


def _on_white(image: Tensor) -> Tensor:
    rgba = match_channels(image, 4, "image")
    alpha = rgba[3:].float() / 255
    return (rgba[:3] * alpha + 255 * (1 - alpha)).round().to(torch.uint8)


def _cut_to(width: int, title: str) -> str:
    """As many of a title's letters as fit into so many pixels."""
    while title and _FONT.getlength(title) > width:
        title = title[:-1]
    return title


def _written_on(sheet: Tensor, marks: Sequence[tuple[tuple[int, int], str]]) -> Tensor:
    """The sheet with titles at places (x, y), in pixels from the left and from the top."""
    picture = _to_pillow(sheet)
    draw = ImageDraw.Draw(picture)
    for place, title in marks:
        draw.text(place, title, fill="black", font=_FONT)
    return _to_tensor(picture).contiguous()


def _described(channels: int) -> str:
    return {1: "channel (grey)", 2: "channels (grey, alpha)", 3: "channels (RGB)", 4: "channels (RGB, alpha)"}.get(
        channels, "channels"
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    return f"damaged ({str(error) or type(error).__name__})"
