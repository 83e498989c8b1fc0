"""From bytes to tensors: which reader reads a file, what its header says, and its pixels.

An image is a tensor (C, H, W), upright: uint8, uint16, or float32 with the values of the file. Of 1 to 4 channels they
are grey; grey and alpha; RGB; RGB and alpha. More are bands.

The readers of a file's extension are tried first, plugins' before the one of `.npy`; every other file is of an ordinary
format (decoders.py).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import IO, NamedTuple
from weakref import WeakKeyDictionary

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from translate.data.files.decoders import decode_ordinary, fits_header, open_ordinary
from translate.data.files.sources import Entry
from translate.data.images import crop_part
from translate.domains import Part
from translate.errors import DataError
from translate.plugins import registry
from translate.plugins.types import Header, Reader

MAX_PIXELS = 8192 * 8192
_known_headers: WeakKeyDictionary[Entry, Header] = WeakKeyDictionary()
"""Headers that were read before: both the layout and the loading of side-by-side images need them."""


class Opened(NamedTuple):
    """An image file whose header was read, and the function that decodes its pixels, as `decode` describes them."""

    header: Header
    decode: Callable[[], Tensor]


def read_header(entry: Entry) -> Header:
    """The header of an image file, without decoding its pixels; DataError naming the file and the reason."""
    header = _known_headers.get(entry)
    if header is None:
        with _named_errors(entry.origin), entry.open() as file:
            header = _known_headers[entry] = _identify(file, entry.origin)[0]
    return header


def read_image(entry: Entry, part: Part = None) -> Tensor:
    """The pixels of an image file, or of one half of it, as `decode` gives them. Raises DataError as `decode` does."""
    return crop_part(decode(entry.read(), entry.origin), part)


def decode(data: bytes, name: str) -> Tensor:
    """The pixels of an image file: (C, H, W), upright, uint8, uint16 or float32; the first frame of an animation.

    Palettes and 1-bit images come out as grey or RGB, with alpha if they have transparency; CMYK as RGB. Raises
    DataError naming the file and the reason if it is empty, damaged or too large, or is of a kind that no reader reads.
    """
    return open_image(data, name).decode()


def open_image(data: bytes, name: str) -> Opened:
    """The header of an image file in memory; its pixels are decoded later. Raises DataError as `decode` does."""
    with _named_errors(name):
        header, decode_pixels = _identify(io.BytesIO(data), name)

    def decode_named() -> Tensor:
        with _named_errors(name):
            return decode_pixels(data)

    return Opened(header, decode_named)


def _identify(file: IO[bytes], name: str) -> tuple[Header, Callable[[bytes], Tensor]]:
    """The header of a file, and the function that decodes the file's bytes."""
    suffix = PurePosixPath(name).suffix.lower()
    for reader in registry.readers().values():
        if suffix in reader.suffixes:
            header = reader.header(file)
            file.seek(0)
            if header is not None:
                return _within_limits(header), partial(_decode_by, reader, header)
    image, header = open_ordinary(file)
    return _within_limits(header), partial(decode_ordinary, image, header)


def _within_limits(header: Header) -> Header:
    width, height, channels, _ = header
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} × {height} pixels; at most {MAX_PIXELS:,} are read")
    if width * height * channels > 4 * MAX_PIXELS:
        raise DataError(f"{width} × {height} pixels of {channels} channels; at most {4 * MAX_PIXELS:,} values are read")
    if min(width, height, channels) < 1:
        raise DataError(f"{width} × {height} pixels of {channels} channels: there is nothing in it")
    return header


def _decode_by(reader: Reader, header: Header, data: bytes) -> Tensor:
    """The pixels by a registered reader. Raises DataError if they are not what the header announced."""
    pixels = reader.decode(data)
    width, height, channels, bits = header
    if not fits_header(pixels, header):
        raise DataError(
            f"the reader {reader.name} gave {pixels.dtype} {tuple(pixels.shape)}, but its header says "
            f"{(channels, height, width)} of {bits} bits"
        )
    if bits == 32 and not pixels.isfinite().all():
        raise DataError("values that are no finite numbers (NaN or infinity); replace them first")
    return pixels


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
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
        system = error.strerror if isinstance(error, OSError) and error.errno else None
        reason = f"cannot be read ({system})" if system else f"damaged ({str(error) or type(error).__name__})"
        raise DataError(f"{name}: {reason}") from error
