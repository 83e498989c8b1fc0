"""Headers and pixels of TIFF files, by tifffile."""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING, Any

import numpy
from torch import Tensor

from translate.data.files.decoders import TIFF_STARTS
from translate.data.images import bits_of, from_array, upright
from translate.errors import DataError
from translate.plugins.types import Header

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

_BANDS = 16  # up to so many pages of one array are bands; more are a film or a volume, of which the first is read
# values of the tag PhotometricInterpretation, and their numbers of samples
_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_SAMPLES = {_WHITE_IS_0: 1, _BLACK_IS_0: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}


def header(file: IO[bytes]) -> Header | None:
    """The header of the first image; None if the file is no TIFF, or if Pillow reads all of it."""
    import tifffile

    start = file.read(4)
    file.seek(0)
    if start not in TIFF_STARTS:
        return None
    with tifffile.TiffFile(file) as tiff:
        pages = _pages(tiff)
        if len(pages) == 1 and _is_plain(pages[0]):
            return None
        first = pages[0]
        if first.photometric not in (_WHITE_IS_0, _BLACK_IS_0, _RGB) or first.dtype is None:
            raise DataError(f"a TIFF of {first.photometric!r} {first.dtype}; convert it to grey or RGB")
        size = first.imagewidth, first.imagelength
        width, height = size[::-1] if _orientation(first) >= 5 else size
        return Header(width, height, sum(page.samplesperpixel for page in pages), bits_of(first.dtype))


def decode(data: bytes) -> Tensor:
    """All bands, planar or contiguous; grey whose 0 is white is inverted, premultiplied alpha is divided out."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        pages = _pages(tiff)
        samples = numpy.concatenate([_samples(page) for page in pages], axis=2)
        return upright(from_array(samples), _orientation(pages[0]))


def _pages(tiff: TiffFile) -> list[TiffPage]:
    """The first page, or all pages of the first array if the file's metadata says that they are its bands."""
    first = tiff.pages.first
    if not (tiff.is_shaped or tiff.is_imagej or tiff.is_ome):
        return [first]
    series = tiff.series[0]
    pages = [axis for axis in series.axes if axis not in "YXS"]
    if pages == ["C"] or (pages == ["Q"] and series.kind == "shaped" and len(series.pages) <= _BANDS):
        return [page.aspage() for page in series.pages if page is not None]
    return [first]


def _is_plain(page: TiffPage) -> bool:
    """Whether Pillow reads all of a page: up to 8 bits, a colour space that it knows, no extra sample but alpha."""
    alpha = all(extra in (1, 2) for extra in page.extrasamples)
    samples = _SAMPLES.get(page.photometric, 0)
    whole = page.samplesperpixel == samples + len(page.extrasamples) and len(page.extrasamples) <= 1
    return page.bitspersample <= 8 and page.sampleformat == 1 and alpha and whole


def _samples(page: TiffPage) -> numpy.ndarray[Any, Any]:
    """(H, W, samples) of one page; of a volume, its first slice."""
    values = page.asarray(squeeze=False, maxworkers=1)  # (planes, slices, H, W, samples of a pixel)
    values = values[:, 0].transpose(1, 2, 0, 3).reshape(page.imagelength, page.imagewidth, page.samplesperpixel)
    if values.dtype.kind != "u":
        return values
    top = numpy.iinfo(values.dtype).max
    if page.photometric == _WHITE_IS_0:
        values = top - values
    if page.photometric == _RGB and page.extrasamples == (1,):
        alpha = values[..., 3:].astype(numpy.float64)
        colour = (values[..., :3] * (top / numpy.maximum(alpha, 1))).round().clip(0, top)
        values = numpy.concatenate([colour.astype(values.dtype), values[..., 3:]], axis=2)
    return values


def _orientation(page: TiffPage) -> int:
    tag = page.tags.get("Orientation")
    return int(tag.value) if tag is not None else 1
