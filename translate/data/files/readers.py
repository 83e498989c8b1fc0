"""Bytes to tensors: which reader reads a file, what its header says, and its pixels.

An image is a tensor (C, H, W), upright: uint8, uint16, or float32 with the values of the file. Of 1 to 4 channels they
are grey; grey and alpha; RGB; RGB and alpha. More are bands.

Readers that plugins offer are asked first, by a file's extension; then the one of `.npy`; everything else is Pillow's.
Pillow only opens ordinary files, for their headers. Their pixels come from the first of torchcodec, torchvision and
Pillow that gives them as Pillow does (the first two decode JPEG 1.2 to 1.7 times as fast); 16 bits of colour, which
Pillow does not read, from torchcodec or opencv. JPEG 2000 and AVIF in colour are read with 8 bits whatever they have.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import PurePosixPath
from typing import IO, NamedTuple

import numpy
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from translate.data.domains import Part
from translate.data.files.sources import Entry
from translate.data.images import MODES, crop_part, from_array, from_pillow, upright
from translate.errors import DataError
from translate.plugins import registry
from translate.plugins.types import Header, Reader
from translate.version import DISTRIBUTION

MAX_PIXELS = 8192 * 8192
# Never the formats that run another program (EPS) or that nobody keeps pictures in.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA")
_CHANNELS = {mode: channels for channels, mode in MODES.items()}
_BITS = {torch.uint8: 8, torch.uint16: 16, torch.float32: 32}
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


def read_header(entry: Entry) -> Header:
    """The header of an image file, without decoding its pixels; DataError naming the file and the reason."""
    with _reported(entry.origin), entry.open() as file:
        for reader in _readers(entry.origin):
            header = reader.header(file)
            file.seek(0)
            if header is not None:
                return _within_limits(header)
        return _opened(file)[1]


def decode(data: bytes, name: str) -> Tensor:
    """The pixels of an image file: (C, H, W), upright, uint8, uint16 or float32; the first frame of an animation.

    Palettes and 1-bit images come out as grey or RGB, with alpha if they have transparency; CMYK as RGB. Raises
    DataError naming the file and the reason if it is empty, damaged or too large, or is of a kind that no reader reads.
    """
    return open_image(data, name).decode()


def read_image(entry: Entry, part: Part = None) -> Tensor:
    """The pixels of an image file, or of one half of it, as `decode` gives them. Raises DataError as `decode` does."""
    return crop_part(decode(entry.read(), entry.origin), part)


class Opened(NamedTuple):
    """An image file in memory whose header was read, and what decodes its pixels; both as `decode` describes."""

    header: Header
    decode: Callable[[], Tensor]


def open_image(data: bytes, name: str) -> Opened:
    """`decode` in two steps, for those who want to know the header before. Raises DataError as `decode` does."""
    with _reported(name):
        for reader in _readers(name):
            header = reader.header(io.BytesIO(data))
            if header is not None:
                return Opened(_within_limits(header), partial(_decode_by, reader, data, header, name))
        image, header = _opened(io.BytesIO(data))
        return Opened(header, partial(_decode_ordinary, data, image, header, name))


def _decode_by(reader: Reader, data: bytes, header: Header, name: str) -> Tensor:
    with _reported(name):
        return _as_announced(reader.decode(data), header, reader.name)


def _decode_ordinary(data: bytes, image: ImageFile, header: Header, name: str) -> Tensor:
    with _reported(name):
        if image.format == "PNG" and header.width * header.height / 8 > _DEFLATED * len(data):
            raise DataError(f"damaged ({header.width} × {header.height} pixels cannot be in {len(data):,} bytes)")
        pixels = _decode_fast(data, image, header)
        return _decode_with_pillow(image, header) if pixels is None else pixels


@contextmanager
def _reported(name: str) -> Iterator[None]:
    """Errors of any kind, which decoders raise for damaged files, as a DataError with the file's name."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error}") from error.__cause__
    except MemoryError as error:
        raise DataError(f"{name}: there is not enough memory to decode it") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not an image of a known format") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name}: it is too large; at most {MAX_PIXELS:,} pixels are read") from error
    except Exception as error:
        said = error.strerror if isinstance(error, OSError) and error.errno else None
        reason = f"cannot be read ({said})" if said else f"damaged ({str(error) or type(error).__name__})"
        raise DataError(f"{name}: {reason}") from error


def _readers(name: str) -> Iterator[Reader]:
    """The readers of a file's extension, plugins' first."""
    suffix = PurePosixPath(name).suffix.lower()
    return (reader for reader in registry.readers().values() if suffix in reader.suffixes)


def _within_limits(header: Header) -> Header:
    width, height, channels, _ = header
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} × {height} pixels; at most {MAX_PIXELS:,} are read")
    if width * height * channels > 4 * MAX_PIXELS:
        raise DataError(f"{width} × {height} pixels of {channels} channels; at most {4 * MAX_PIXELS:,} values are read")
    if min(width, height, channels) < 1:
        raise DataError(f"{width} × {height} pixels of {channels} channels: there is nothing in it")
    return header


def _as_announced(pixels: Tensor, header: Header, reader: str) -> Tensor:
    """The pixels, if they are what the header said; a batch is allocated by it."""
    width, height, channels, bits = header
    if pixels.shape != (channels, height, width) or _BITS.get(pixels.dtype) != bits:
        raise DataError(
            f"the reader {reader} gave {pixels.dtype} {tuple(pixels.shape)}, but its header says "
            f"{(channels, height, width)} of {bits} bits"
        )
    if bits == 32 and not pixels.isfinite().all():
        raise DataError("values that are no finite numbers (NaN or infinity); replace them first")
    return pixels


# ---------------------------------------------------------------------------------------------------------- ordinary


def _opened(file: IO[bytes]) -> tuple[ImageFile, Header]:
    """An image whose pixels are not decoded yet, and its header; refuses what is too large, or loses something."""
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
    return image, _within_limits(Header(width, height, *_channels_and_bits(image)))


def _channels_and_bits(image: ImageFile) -> tuple[int, int]:
    """Of an opened image, as `decode` gives it. Raises DataError for what Pillow would reduce without a word."""
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
    Pillow for more would decode a PNG. Pillow turns a TIFF by itself.
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
            values = 65535 - values  # 0 is white, which Pillow heeds for 8 bits only
    return _with_key(upright(from_array(values), orientation), image)


def _with_key(pixels: Tensor, image: ImageFile) -> Tensor:
    """16 bits with the alpha that a transparent colour stands for, where a PNG names one; which no decoder applies."""
    if "transparency" not in image.info or len(pixels) not in (1, 3):
        return pixels
    key = torch.tensor(numpy.array(image.info["transparency"], numpy.uint16)).view(-1, 1, 1)
    alpha = (pixels != key).any(0, keepdim=True).to(torch.int32) * 65535
    return torch.cat([pixels, alpha.to(torch.uint16)])


# -------------------------------------------------------------------------------------------------------------- fast


def _decode_fast(data: bytes, image: ImageFile, header: Header) -> Tensor | None:
    """The pixels from a fast decoder; None if Pillow is better, or must say what is wrong."""
    kind = _fast_kind(image, header)
    found = _fast_decoder(kind) if kind else None
    if found is None:
        return None
    decoder, turns = found
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)  # a copy: torch warns of bytes that are read-only
    try:
        pixels = decoder(encoded)
    except Exception:  # Pillow may be more lenient, and its reason is the one reported
        return None
    pixels = pixels if turns else upright(pixels, _orientation(image))
    pixels = _with_key(pixels, image) if header.bits == 16 else pixels
    fits = pixels.shape == (header.channels, header.height, header.width) and _BITS.get(pixels.dtype) == header.bits
    return pixels if fits else None


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
