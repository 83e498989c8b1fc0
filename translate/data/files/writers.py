"""From tensors to image files, complete or absent."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy
import torch
from PIL import Image
from torch import Tensor

from translate.atomic_files import open_atomically
from translate.data.images import MODES, match_channels, on_white, to_pillow
from translate.errors import DataError
from translate.version import DISTRIBUTION

SAVED_AS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".npy": "NPY",
}
ANIMATED = {".gif": "GIF", ".webp": "WEBP"}


def save(image: Tensor, path: Path, quality: int = 95) -> None:
    """Writes (C, H, W) by the extension, complete or not at all: PNG, JPEG, WebP (lossless), TIFF, or a numpy array.

    image: uint8 of 1 to 4 channels goes into all of them; uint16 of as many into PNG, grey and alpha as RGB and alpha.
    TIFF and .npy, as (H, W) or (H, W, C), hold everything. Raises DataError for an unknown extension or for one that
    does not hold the image, naming those that do; OSError if it cannot be written.
    """
    kind = SAVED_AS.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"{path} cannot be written: the extension must be one of {', '.join(SAVED_AS)}.")
    image, channels, bits = image.cpu(), len(image), image.dtype.itemsize * 8
    plain = bits == 8 and channels in MODES
    if not _holds(kind, channels, bits):
        if plain:
            raise DataError(f"{path} cannot be written: JPEG has no transparency; choose png, webp or tiff.")
        others = "png, tiff or npy" if _holds("PNG", channels, bits) else "tiff or npy"
        values = "floating point values" if bits == 32 else f"{bits} bits"
        raise DataError(
            f"{path} cannot be written: {kind} does not hold {channels} channels of {values}; choose {others}."
        )
    with open_atomically(path) as file:
        if kind == "NPY":
            numpy.save(file, _array(image))
        elif plain:
            to_pillow(image).save(file, kind, **({"quality": quality} if kind == "JPEG" else {"lossless": True}))
        elif channels == 1:
            Image.fromarray(_array(image)).save(file, kind)  # I;16 or F
        elif kind == "PNG":
            file.write(_deep_png(image))
        else:
            _write_tiff(image, file, path)


def save_animation(frames: Sequence[Tensor], path: Path) -> None:
    """Writes frames, uint8 (C, H, W) each, as a GIF or WebP (lossless) that plays for ever; complete or not at all.

    Each frame is shown for 80 milliseconds. Transparent frames are laid on white.
    Raises DataError for an unknown extension; OSError if it cannot be written.
    """
    kind = ANIMATED.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"{path} cannot be written: an animation's extension must be one of {', '.join(ANIMATED)}.")
    first, *rest = (to_pillow(frame if len(frame) in (1, 3) else on_white(frame)) for frame in frames)
    options = {"lossless": True} if kind == "WEBP" else {}
    with open_atomically(path) as file:
        first.save(file, kind, save_all=True, append_images=rest, duration=80, loop=0, **options)


def fitting_suffix(suffix: str, channels: int, bit_depth: int) -> str:
    """The extension itself if images of so many channels and bits can be saved so; otherwise .png, .tif or .npy."""
    if suffix in SAVED_AS and _holds(SAVED_AS[suffix], channels, bit_depth):
        return suffix
    if _holds("PNG", channels, bit_depth):
        return ".png"
    return ".tif" if channels == 1 or find_spec("tifffile") else ".npy"


def _holds(kind: str, channels: int, bits: int) -> bool:
    """Whether files of a kind hold images of so many channels and bits; 32 bits are floating point values."""
    most_bits = {"JPEG": 8, "WEBP": 8, "PNG": 16}.get(kind)
    return most_bits is None or (bits <= most_bits and channels in ((1, 3) if kind == "JPEG" else MODES))


def _array(image: Tensor) -> numpy.ndarray[Any, Any]:
    """(C, H, W) -> (H, W) of one channel, or (H, W, C)."""
    pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    return numpy.ascontiguousarray(pixels.numpy())


def _deep_png(image: Tensor) -> bytes:
    """16 bits of colour, which Pillow does not write."""
    import cv2

    rgb = image if len(image) == 3 else match_channels(image, 4, "image")
    bgr = rgb[[2, 1, 0, 3][: len(rgb)]]
    return cv2.imencode(".png", _array(bgr))[1].tobytes()


def _write_tiff(image: Tensor, file: IO[bytes], path: Path) -> None:
    """Contiguous and compressed without loss; 3 and 4 channels as RGB and alpha, others as bands."""
    try:
        import tifffile
    except ImportError:
        raise DataError(
            f'{path} cannot be written: a TIFF of this kind needs `pip install "{DISTRIBUTION}[tiff]"`; or choose npy.'
        ) from None
    colour = len(image) in (3, 4) and image.dtype != torch.float32
    tifffile.imwrite(
        file,
        _array(image),
        photometric="rgb" if colour else "minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"] if image.dtype != torch.float32 and len(image) in (2, 4) else None,
        compression="zlib",
        metadata=None,
    )
