"""TIFF files that Pillow does not read whole, written by tifffile and compared with what went in."""

import io
from functools import partial

import numpy
import pytest
import torch
from cli.installed import site
from PIL import Image

import translate_tiff
from translate.data.files.readers import Header, decode, read_header
from translate.data.files.sources import Entry
from translate.errors import DataError
from translate.plugins import registry
from translate_tiff import reading

__all__ = ["site"]  # a fixture
tifffile = pytest.importorskip("tifffile")
BANDS = {"photometric": "minisblack", "planarconfig": "contig"}


@pytest.fixture(autouse=True)
def registered():
    assert registry.readers()["tiff"].decode is reading.decode


def values(*shape, dtype="u2", seed=0) -> numpy.ndarray:
    """Random numbers, of the whole range of an integer type."""
    generator, kind = numpy.random.default_rng(seed), numpy.dtype(dtype)
    if kind.kind == "f":
        return generator.normal(size=shape).astype(kind)
    top = min(numpy.iinfo(kind).max, 2**24)
    return generator.integers(max(numpy.iinfo(kind).min, -(2**24)), top, shape, endpoint=True).astype(kind)


def written(array: numpy.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def read(data: bytes) -> torch.Tensor:
    """The pixels, after checking that the header announced them."""
    image = decode(data, "a/x.tif")
    header = read_header(Entry("x.tif", "a/x.tif", len(data), partial(io.BytesIO, data)))
    bits = {torch.uint8: 8, torch.uint16: 16, torch.float32: 32}[image.dtype]
    assert header == Header(image.shape[2], image.shape[1], image.shape[0], bits)
    return image


def expected(array: numpy.ndarray) -> torch.Tensor:
    array = array if array.dtype in ("u1", "u2") else array.astype("f4")
    return torch.from_numpy(numpy.ascontiguousarray(array if array.ndim == 3 else array[None]))


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f2", "f4", "f8"])
def test_five_bands_of_all_types_come_out_as_they_went_in(dtype, planar, compression):
    array = values(5, 12, 9, dtype=dtype)
    data = written(
        array if planar == "separate" else array.transpose(1, 2, 0),
        photometric="minisblack",
        planarconfig=planar,
        compression=compression,
    )
    assert torch.equal(read(data), expected(array))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(("channels", "alpha"), [(3, None), (4, "unassalpha")])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour_of_sixteen_bits_keeps_them(channels, alpha, planar, byteorder):
    array = values(channels, 12, 9)
    data = written(
        array if planar == "separate" else array.transpose(1, 2, 0),
        photometric="rgb",
        planarconfig=planar,
        extrasamples=[alpha] if alpha else None,
        byteorder=byteorder,
        tile=(16, 16),
        predictor=planar == "contig",
        compression="zlib",
    )
    assert torch.equal(read(data), expected(array))


@pytest.mark.parametrize("dtype", ["u2", "i2", "f2", "f4", "f8", "bool"])
@pytest.mark.parametrize("size", [(12, 9), (1, 9), (12, 1)])
def test_grey_of_all_types_and_sizes(dtype, size):
    array = values(*size, dtype="u1") > 99 if dtype == "bool" else values(*size, dtype=dtype)
    data = written(array, photometric="minisblack")
    assert torch.equal(read(data), expected(array.astype("u1") * 255 if dtype == "bool" else array))


def test_white_that_is_0_is_inverted():
    array = values(12, 9)
    data = written(array, photometric="miniswhite")
    assert torch.equal(read(data), expected(65535 - array))
    assert torch.equal(decode(data, "x"), expected(65535 - array))  # without this reader


def test_premultiplied_alpha_is_divided_out():
    colour, alpha = values(3, 12, 9), values(1, 12, 9).clip(1000)
    premultiplied = (colour.astype("f8") * alpha / 65535).round().astype("u2")
    array = numpy.concatenate([premultiplied, alpha]).transpose(1, 2, 0)
    image = read(written(array, photometric="rgb", extrasamples=["assocalpha"]))
    assert torch.equal(image[3:], expected(alpha))
    assert (image[:3].int() - expected(colour).int()).abs().max() <= 33  # half a step of 1000 in 65535


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [3, 5])
def test_orientation_is_applied(orientation, channels):
    array = values(12, 9, channels)
    options = BANDS if channels == 5 else {"photometric": "rgb"}
    data = written(array, extratags=[(274, "H", 1, orientation)], **options)
    flips = {2: "h", 3: "hv", 4: "v", 6: "h", 7: "hv", 8: "v"}.get(orientation, "")
    upright = array.transpose(1, 0, 2) if orientation >= 5 else array
    upright = upright[:, ::-1] if "h" in flips else upright
    upright = upright[::-1] if "v" in flips else upright
    assert torch.equal(read(data), expected(upright.transpose(2, 0, 1)))


@pytest.mark.parametrize(
    "options", [{"imagej": True, "metadata": {"axes": "CYX"}}, {"ome": True, "metadata": {"axes": "CYX"}}, {}]
)
def test_bands_may_be_pages(options):
    array = values(5, 12, 9)
    data = written(array, photometric="minisblack", **options)
    assert torch.equal(read(data), expected(array))


def test_of_films_and_volumes_the_first_image_is_read():
    for count, options in ((3, {"imagej": True, "metadata": {"axes": "TYX"}}), (40, {}), (3, {"metadata": None})):
        array = values(count, 12, 9)
        assert torch.equal(read(written(array, photometric="minisblack", **options)), expected(array[0]))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_what_pillow_reads_whole_is_left_to_it(mode, compression):
    picture = Image.fromarray(values(12, 9, 4, dtype="u1"))  # which cannot become everything at once
    picture = picture.convert({"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}.get(mode, mode)).convert(mode)
    file = io.BytesIO()
    picture.save(file, "TIFF", compression=compression)
    assert reading.header(io.BytesIO(file.getvalue())) is None
    assert torch.equal(decode(file.getvalue(), "x.tif"), decode(file.getvalue(), "x"))


def test_a_fourth_sample_that_is_no_alpha_is_a_band():
    array = values(4, 12, 9, dtype="u1")
    data = written(array.transpose(1, 2, 0), photometric="rgb", extrasamples=["unspecified"])
    assert torch.equal(read(data), expected(array))


def test_other_files_of_the_name_are_read_by_what_they_are():
    file = io.BytesIO()
    Image.new("RGB", (9, 12), "red").save(file, "PNG")
    assert read(file.getvalue())[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("keep", [4, 8, 100, -1])
def test_a_damaged_file_is_named(keep, caplog, capfd):
    data = written(values(60, 90, 5), compression="zlib", **BANDS)
    with pytest.raises(DataError, match=r"^a/x\.tif: "):
        decode(data[:keep] if keep > 0 else data[:200] + bytes(200) + data[400:], "a/x.tif")
    assert capfd.readouterr().err == ""


def test_colours_that_it_does_not_know_are_refused():
    with pytest.raises(DataError, match=r"^a/x\.tif: a TIFF of .*SEPARATED.* convert it to grey or RGB"):
        decode(written(values(12, 9, 4), photometric="separated"), "a/x.tif")


def test_nothing_is_registered_without_tifffile(monkeypatch):
    found = []
    monkeypatch.setattr(translate_tiff, "find_spec", lambda name: None)
    translate_tiff.register_readers(found.append)
    assert found == []
