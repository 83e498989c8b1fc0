"""The ordinary formats: JPEG, PNG, WebP, TIFF and others that Pillow opens.

Pillow only reads the headers. The pixels come from the first of torchcodec, torchvision and Pillow that gives them as
Pillow does (the first two decode JPEG 1.2 to 1.7 times as fast); 16 bits of colour, which Pillow does not read, from
torchcodec or opencv. JPEG 2000 and AVIF in colour are read with 8 bits whatever they have.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import IO

import numpy
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from translate.data.images import DTYPES, MODES, from_array, from_pillow, upright
from translate.errors import DataError
from translate.plugins.types import Header
from translate.version import DISTRIBUTION

# Never the formats that run another program (EPS) or that nobody keeps pictures in.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA")
_CHANNELS = {mode: channels for channels, mode in MODES.items()}
_DEEP_PNG = {"LA;16B": 2, "RGB;16B": 3, "RGBA;16B": 4}  # Pillow's raw modes, which it halves, and their channels
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NEEDS_TIFF = (
    f'a TIFF of a kind that Pillow does not read whole; `pip install "{DISTRIBUTION}[tiff]"` adds a reader of '
    "such files, if they are called .tif or .tiff"
)
_DEFLATED = 1032  # bytes that one byte of a PNG can stand for at most
# Pillow warns and logs of oddities that harm nothing, without a name; a file that cannot be read is an error here.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


def open_ordinary(file: IO[bytes]) -> tuple[ImageFile, Header]:
    """An image whose pixels are not decoded yet, and its header.

    Raises DataError for an image that Pillow would reduce, UnidentifiedImageError for one of no known format.
    """
    start = file.read(4)
    file.seek(0)
    if not start:
        raise DataError("the file is empty")
    try:
        image = Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError:
        if start in TIFF_STARTS:
            raise DataError(_NEEDS_TIFF) from None
        raise
    width, height = image.size[::-1] if _orientation(image) >= 5 else image.size
    return image, Header(width, height, *_channels_and_bits(image))


def decode_ordinary(image: ImageFile, header: Header, data: bytes) -> Tensor:
    """The pixels of an image that `open_ordinary` opened, as the header announces them: (C, H, W), upright.

    data: the whole file. Raises DataError, or any of the decoders' errors, if it is damaged.
    """
    if image.format == "PNG" and header.width * header.height / 8 > _DEFLATED * len(data):
        raise DataError(f"damaged ({header.width} × {header.height} pixels cannot be in {len(data):,} bytes)")
    pixels = _decode_fast(data, image, header)
    return _decode_with_pillow(image, header) if pixels is None else pixels


def fits_header(pixels: Tensor, header: Header) -> bool:
    """Whether decoded pixels are what the header announced; a batch is allocated by it."""
    width, height, channels, bits = header
    return pixels.shape == (channels, height, width) and DTYPES.get(bits) == pixels.dtype


def _channels_and_bits(image: ImageFile) -> tuple[int, int]:
    """The channels and bits of the decoded image. Raises DataError for an image that Pillow would silently reduce."""
    deep_grey = image.mode.startswith("I;16")
    if isinstance(image, TiffImageFile):  # Pillow leaves out samples, and bits of colour, that it has no mode for
        samples, bits = image.tag_v2.get(277, 1), max(image.tag_v2.get(258, (1,)))
        if samples != len(image.getbands()) or (bits > 8 and not deep_grey and image.mode not in ("I", "F")):
            raise DataError(_NEEDS_TIFF)
    codec, raw_mode = (image.tile[0].codec_name, image.tile[0].args) if image.tile else ("", None)
    if codec == "ppm" and isinstance(raw_mode, tuple) and image.mode == "RGB" and raw_mode[1] > 255:
        raise DataError("16 bits a channel in colour; of this format only grey is read with them: save it as PNG")
    if image.mode in ("I", "F"):
        return 1, 16 if image.format == "PPM" and image.mode == "I" else 32
    if deep_grey or raw_mode in _DEEP_PNG:
        return _DEEP_PNG.get(str(raw_mode), 1) + ("transparency" in image.info), 16
    return _CHANNELS[_plain_mode(image)], 8


def _plain_mode(image: ImageFile) -> str:
    """The mode of L, LA, RGB, RGBA that holds all of an image of 8 bits."""
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        return "LA" if grey else "RGBA"
    return "L" if grey else "RGB"


def _orientation(image: ImageFile) -> int:
    """The EXIF orientation, 1 to 8, of an opened image.

    Only of EXIF data that stand before the pixels, and not of XMP, as browsers and the fast decoders have it: asking
    Pillow for more would decode a PNG. Pillow rotates a TIFF by itself.
    """
    if image.format == "TIFF" or "exif" not in image.info:
        return 1
    exif = Image.Exif()
    try:
        exif.load(image.info["exif"])
        value = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF data are no reason to refuse a picture; Pillow raises errors of many types
        return 1
    return value if value in range(1, 9) else 1


def _decode_with_pillow(image: ImageFile, header: Header) -> Tensor:
    orientation = _orientation(image)
    if header.bits == 8:
        mode = _plain_mode(image)
        return upright(from_pillow(image if image.mode == mode else image.convert(mode)), orientation)
    if image.mode in _CHANNELS:
        raise DataError("16 bits a channel in colour need torchcodec or opencv, and neither reads this file")
    values = numpy.array(image)
    if header.bits == 16:
        values = values.astype(numpy.uint16)
        if isinstance(image, TiffImageFile) and image.tag_v2.get(262) == 0:
            values = 65535 - values  # 0 is white; Pillow inverts images of 8 bits only
    return _with_key(upright(from_array(values), orientation), image)


def _with_key(pixels: Tensor, image: ImageFile) -> Tensor:
    """16 bits with the alpha of a PNG's transparent colour, if it has one; no decoder applies that."""
    if "transparency" not in image.info or len(pixels) not in (1, 3):
        return pixels
    key = torch.tensor(numpy.array(image.info["transparency"], numpy.uint16)).view(-1, 1, 1)
    alpha = (pixels != key).any(0, keepdim=True).to(torch.int32) * 65535
    return torch.cat([pixels, alpha.to(torch.uint16)])


# The fast decoders ---------------------------------------------------------------------------------------------------


def _decode_fast(data: bytes, image: ImageFile, header: Header) -> Tensor | None:
    """The pixels from a fast decoder; None if there is none for the file, or if it fails, as Pillow then may too."""
    kind = _fast_kind(image, header)
    found = _fast_decoder(kind) if kind else None
    if found is None:
        return None
    decoder, is_upright = found
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)  # a copy: torch warns of bytes that are read-only
    try:
        pixels = decoder(encoded)
    except Exception:  # Pillow may be more lenient, and its reason is the one reported
        return None
    pixels = pixels if is_upright else upright(pixels, _orientation(image))
    pixels = _with_key(pixels, image) if header.bits == 16 else pixels
    return pixels if fits_header(pixels, header) else None


def _fast_kind(image: ImageFile, header: Header) -> str | None:
    """The kind of file, if the fast decoders give exactly what Pillow gives, or 16 bits."""
    if image.format in ("JPEG", "MPO"):
        return "jpeg" if image.mode in ("L", "RGB") else None
    if getattr(image, "is_animated", False):
        return None
    if image.format == "PNG":
        plain = image.tile and image.tile[0].args == image.mode and "transparency" not in image.info
        return "deep_png" if header.bits == 16 else "png" if plain and image.mode in _CHANNELS else None
    return "webp" if image.format == "WEBP" else None


@cache
def _fast_decoder(kind: str) -> tuple[Callable[[Tensor], Tensor], bool] | None:
    """The first installed decoder of a kind of file: encoded bytes as uint8 -> (C, H, W), and whether it is upright.

    Only the first is loaded: importing torchvision takes a second. Its operators are called and not its functions:
    those warn at each call since 0.29, and warnings cannot be silenced in one thread alone. Its decoder of PNG (0.29)
    crashes the process for damaged files, and is left out.
    """
    for offer in (_of_torchcodec, _of_torchvision, _of_opencv):
        with suppress(ImportError, OSError, RuntimeError, AttributeError):  # as wheels for other libraries raise
            decoder = offer(kind)
            if decoder is not None:
                return decoder, offer is _of_torchcodec
    return None


def _of_torchcodec(kind: str) -> Callable[[Tensor], Tensor] | None:
    from torchcodec import decoders

    options = {"output_dtype": "auto"} if kind == "deep_png" else {}
    return partial(getattr(decoders, f"decode_{kind.removeprefix('deep_')}"), mode="UNCHANGED", **options)


def _of_torchvision(kind: str) -> Callable[[Tensor], Tensor] | None:
    if kind not in ("jpeg", "webp"):
        return None
    import torchvision.io  # type: ignore[import-untyped]  # noqa: F401, it registers the operators

    operator = getattr(torch.ops.image, f"decode_{kind}")
    return lambda encoded: operator(encoded, 0)  # 0: the channels that the file has


def _of_opencv(kind: str) -> Callable[[Tensor], Tensor] | None:
    if kind != "deep_png":
        return None
    import cv2

    def decode_png(encoded: Tensor) -> Tensor:
        data = encoded.numpy()
        Image.open(io.BytesIO(data.tobytes()), formats=("PNG",)).load()  # opencv takes seconds over a damaged file
        values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if values is None:
            raise DataError("opencv does not read it")
        pixels = from_array(values)
        if len(pixels) == 1:
            return pixels
        grey = encoded[25] == 4  # PNG's colour type, grey and alpha, which comes as BGR and alpha too
        return pixels[[0, 3] if grey else [2, 1, 0, 3][: len(pixels)]]

    return decode_png
