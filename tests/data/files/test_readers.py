"""Decoded values against ground truth, with every decoder; and what cannot be decoded."""

import io
import struct
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache

import numpy
import pytest
import torch
from cli.installed import install, site
from drawn_images import encoded
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from translate.data.files import decoders, readers
from translate.data.files.readers import decode, read_header
from translate.data.files.sources import Entry, image_suffixes
from translate.errors import DataError, PluginError
from translate.plugins import registry

__all__ = ["site"]  # a fixture
ANY = pytest.mark.parametrize("decoders", ["torchcodec", "torchvision", "pillow"])


@pytest.fixture(autouse=True)
def only(request, monkeypatch):
    """Limits a test that asks for "decoders" to those of one library, and Pillow."""
    wanted = request.node.callspec.params.get("decoders") if hasattr(request.node, "callspec") else None
    libraries = {"torchcodec": "torchcodec", "torchvision": "torchvision", "opencv": "cv2"}
    if wanted in libraries:
        pytest.importorskip(libraries[wanted])
    for name in libraries.keys() - {wanted} if wanted else ():
        monkeypatch.setattr(decoders, f"_of_{name}", lambda kind: None)
    decoders._fast_decoder.cache_clear()
    yield
    decoders._fast_decoder.cache_clear()


def stored(image: Image.Image, kind="PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(image) -> torch.Tensor:
    values = torch.from_numpy(numpy.array(image))
    return values[None] if values.ndim == 2 else values.permute(2, 0, 1)


def random_image(mode="RGB", size=(7, 5)) -> Image.Image:
    return Image.open(io.BytesIO(encoded(1, size, mode)))


def smooth_image(mode="RGB", size=(70, 50)) -> Image.Image:
    return random_image("RGBA").resize(size).convert(mode)


def png(values: numpy.ndarray, colour: int, transparent=b"") -> bytes:
    """A PNG of 16 bits, written by hand: values (H, W, C) uint16; colour is PNG's number of the colour type."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in values))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0))
    key = chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + head + key + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def deep(channels: int) -> numpy.ndarray:
    return numpy.random.default_rng(channels).integers(0, 65536, (5, 7, channels), dtype=numpy.uint16)


def npy(values) -> bytes:
    file = io.BytesIO()
    numpy.save(file, values)
    return file.getvalue()


def entry(data: bytes, name="x") -> Entry:
    return Entry(name, name, len(data), lambda: io.BytesIO(data))


def decoded(data: bytes, name="x") -> torch.Tensor:
    """The pixels, after checking that the header announced them."""
    image, header = decode(data, name), read_header(entry(data, name))
    assert image.shape == (header.channels, header.height, header.width)
    assert image.dtype == {8: torch.uint8, 16: torch.uint16, 32: torch.float32}[header.bits]
    return image


# ------------------------------------------------------------------------------------------------------------- 8 bits


@ANY
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pixels_come_out_as_they_went_in(mode, kind, decoders):
    image = random_image(mode)
    truth = pixels(image.convert({"L": "RGB", "LA": "RGBA"}.get(mode, mode)) if kind == "WEBP" else image)
    assert torch.equal(
        decoded(stored(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))), truth
    )


@ANY
@pytest.mark.parametrize("options", [{}, {"quality": 5}, {"subsampling": 0, "quality": 95}, {"progressive": True}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_all_decoders_give_a_jpeg_as_pillow_does(mode, options, decoders):
    data = stored(smooth_image(mode), "JPEG", **options)
    truth = pixels(Image.open(io.BytesIO(data)))
    # they are equal here; versions of libjpeg may round the inverse transform differently
    assert (decoded(data).int() - truth.int()).abs().max() <= 2


@ANY
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_all_decoders_give_a_lossy_webp_as_pillow_does(mode, decoders):
    data = stored(smooth_image(mode), "WEBP", quality=60)
    assert (decoded(data).int() - pixels(Image.open(io.BytesIO(data))).int()).abs().max() <= 2


@ANY
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_exif_orientation_is_applied_to_pixels_and_header(orientation, kind, decoders):
    lying, options = smooth_image(), {"lossless": True} if kind == "WEBP" else {}
    exif = Image.Exif()
    exif[0x0112] = orientation
    truth = Image.open(io.BytesIO(stored(lying, kind, **options)))
    if orientation > 1:  # by the EXIF standard, in Pillow's transpositions
        truth = truth.transpose(Image.Transpose({2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}[orientation]))
    image = decoded(stored(lying, kind, exif=exif, **options))
    assert image.shape == pixels(truth).shape
    assert (image.int() - pixels(truth).int()).abs().max() <= (2 if kind == "JPEG" else 0)


@pytest.mark.filterwarnings("ignore:::PIL")  # as outside of the tests
def test_damaged_exif_data_are_no_reason_to_refuse_a_picture():
    image = smooth_image()
    for exif in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"nonsense", bytes(40)):
        assert decoded(stored(image, "JPEG", exif=exif)).shape == (3, 50, 70)


def test_palette_becomes_colour_and_its_transparency_alpha():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert decoded(stored(image))[:, 0].T.tolist() == [[255, 0, 0], [0, 0, 255]]
    data = stored(image, transparency=bytes([128, 255]))
    assert decoded(data)[:, 0].T.tolist() == [[255, 0, 0, 128], [0, 0, 255, 255]]
    gif = stored(image, "GIF", transparency=1)
    assert decoded(gif)[3, 0].tolist() == [255, 0]


def test_transparent_colour_of_grey_and_rgb_becomes_alpha():
    assert decoded(stored(Image.new("L", (2, 1), 9), transparency=9))[:, 0, 0].tolist() == [9, 0]
    assert decoded(stored(Image.new("RGB", (2, 1), (1, 2, 3)), transparency=(1, 2, 3)))[3].tolist() == [[0, 0]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_one_bit_becomes_grey(kind):
    image = Image.new("1", (3, 2), 1)
    image.putpixel((1, 1), 0)
    assert decoded(stored(image, kind)).tolist() == [[[255, 255, 255], [255, 0, 255]]]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind):
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red, green, blue = decoded(stored(image, kind, quality=100))[:, 8, 8].tolist()
    assert red > 250
    assert max(green, blue) < 5


@pytest.mark.parametrize("kind", ["BMP", "TGA", "PPM", "JPEG2000"])
def test_other_formats_without_loss_come_out_as_they_went_in(kind):
    image = random_image()
    assert torch.equal(decoded(stored(image, kind)), pixels(image))


@ANY
@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animation_gives_its_first_frame(kind, decoders):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = stored(
        frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    assert decoded(data)[:3, 0, 0].tolist() == [255, 0, 0]


# ------------------------------------------------------------------------------------------------------ 16 and 32 bits


@pytest.mark.parametrize("decoders", ["torchcodec", "opencv"])
@pytest.mark.parametrize(("channels", "colour"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_a_png_of_sixteen_bits_keeps_them(channels, colour, decoders):
    values = deep(channels)
    assert numpy.array_equal(decoded(png(values, colour)).permute(1, 2, 0).numpy(), values)


@pytest.mark.parametrize(("channels", "colour"), [(1, 0), (3, 2)])
def test_a_transparent_colour_of_sixteen_bits_becomes_alpha(channels, colour):
    values = deep(channels)
    image = decoded(png(values, colour, transparent=values[2, 3].astype(">u2").tobytes()))
    assert numpy.array_equal(image[:-1].permute(1, 2, 0).numpy(), values)
    assert (image[-1].to(torch.int32) == 0).nonzero().tolist() == [[2, 3]]


@ANY
def test_grey_of_sixteen_bits_needs_no_other_decoder_than_pillow(decoders):
    values = deep(1)
    for kind in ("PNG", "TIFF", "JPEG2000"):
        options = {"irreversible": False} if kind == "JPEG2000" else {}
        assert numpy.array_equal(
            decoded(stored(Image.fromarray(values[..., 0]), kind, **options))[0].numpy(), values[..., 0]
        )
    pgm = b"P5 7 5 65535\n" + values.astype(">u2").tobytes()
    assert numpy.array_equal(decoded(pgm)[0].numpy(), values[..., 0])


@pytest.mark.parametrize("decoders", ["pillow"])
def test_colour_of_sixteen_bits_is_refused_where_nothing_keeps_it(decoders):
    with pytest.raises(DataError, match=r"^x: 16 bits a channel in colour need torchcodec or opencv"):
        decode(png(deep(3), 2), "x")
    with pytest.raises(DataError, match=r"^x: 16 bits a channel in colour; of this format only grey"):
        decode(b"P6 7 5 65535\n" + deep(3).tobytes(), "x")


@pytest.mark.parametrize("mode", ["F", "I"])
def test_a_tiff_of_floats_or_integers_keeps_its_values(mode):
    values = numpy.linspace(-1000, 70000, 35).reshape(5, 7).astype({"F": numpy.float32, "I": numpy.int32}[mode])
    assert numpy.array_equal(decoded(stored(Image.fromarray(values), "TIFF"))[0].numpy(), values.astype(numpy.float32))


def test_a_tiff_that_pillow_would_read_in_part_names_the_extra_that_reads_it_whole():
    tifffile = pytest.importorskip("tifffile")
    bands = numpy.random.default_rng(0).random((5, 8, 9)).astype(numpy.float32)
    cases = [
        (bands, {"planarconfig": "separate", "photometric": "minisblack"}),
        (bands.transpose(1, 2, 0), {"planarconfig": "contig", "photometric": "minisblack"}),
        ((bands[:3] * 65535).astype(numpy.uint16), {"photometric": "rgb", "planarconfig": "separate"}),
        ((bands[:2] * 255).astype(numpy.uint8), {"photometric": "minisblack", "planarconfig": "separate"}),
    ]
    for values, options in cases:
        file = io.BytesIO()
        tifffile.imwrite(file, values, **options)
        with pytest.raises(DataError, match=r"^scan: a TIFF .* `pip install \"translate-img2img\[tiff\]\"`"):
            decode(file.getvalue(), "scan")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (numpy.array([[True, False]]), torch.tensor([[[255, 0]]], dtype=torch.uint8)),
        (numpy.arange(6, dtype=numpy.uint8).reshape(1, 2, 3), torch.tensor([[[0, 3]], [[1, 4]], [[2, 5]]]).byte()),
        (deep(1)[..., 0], torch.from_numpy(deep(1)[..., 0])[None]),
        (deep(5).astype(">u2"), torch.from_numpy(deep(5)).permute(2, 0, 1)),
        (numpy.asfortranarray(deep(3)), torch.from_numpy(deep(3)).permute(2, 0, 1)),
        (numpy.full((2, 3, 20), -7, numpy.int32), torch.full((2, 3, 20), -7.0)),
        (numpy.full((20, 3), 0.1), torch.full((1, 20, 3), 0.1)),
    ],
)
def test_numpy_arrays_are_images(values, expected):
    assert torch.equal(decoded(npy(values), "x.NPY"), expected)


def test_headers_of_numpy_files_are_parsed_in_one_thread_at_a_time(monkeypatch):
    parse, parsing = numpy.lib.format.read_array_header_1_0, []

    def watched(file):
        parsing.append(file)
        time.sleep(0.001)
        assert parsing == [file]
        found = parse(file)
        parsing.remove(file)
        return found

    monkeypatch.setattr(numpy.lib.format, "read_array_header_1_0", watched)
    data = npy(numpy.zeros((2, 2)))
    with ThreadPoolExecutor(4) as threads:
        assert len(list(threads.map(decode, [data] * 20, ["x.npy"] * 20))) == 20


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (npy(numpy.zeros(4)), r"an array \(4,\) of float64; expected numbers \(H, W\), "),
        (npy(numpy.zeros((2, 2, 2, 2))), r"an array \(2, 2, 2, 2\)"),
        (npy(numpy.zeros((2, 2), numpy.complex64)), r"an array \(2, 2\) of complex64"),
        (npy(numpy.array([[{}]])), r"an array \(1, 1\) of object"),
        (npy(numpy.zeros((0, 4))), "4 × 0 pixels of 1 channels: there is nothing in it"),
        (npy(numpy.zeros((40, 40)))[:-1], "damaged .it ends before its 1,600 values"),
        (npy(numpy.full((2, 2), numpy.nan)), "values that are no finite numbers"),
        (npy(numpy.zeros((2, 2)))[:20], "damaged"),
        (encoded(), "damaged"),
    ],
)
def test_arrays_that_are_no_images_are_refused(data, reason):
    with pytest.raises(DataError, match=f"^x.npy: {reason}"):
        decode(data, "x.npy")


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"not an image at all", "not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
        (encoded(0, (64, 64), kind="JPEG")[:900], r"damaged \(image file is truncated"),
        (encoded(0, (64, 64))[:900], r"damaged \(image file is truncated"),
    ],
)
def test_what_cannot_be_decoded_is_named_with_its_reason(data, reason):
    with pytest.raises(DataError, match=f"^horses/1.jpg: {reason}"):
        decode(data, "horses/1.jpg")


def test_a_file_that_cannot_be_opened_is_named_with_its_reason(tmp_path):
    missing = Entry("x", "horses/x.png", 9, (tmp_path / "x.png").open)
    with pytest.raises(DataError, match=r"^horses/x.png: cannot be read \(No such file"):
        read_header(missing)


@pytest.mark.parametrize("data", [encoded(), npy(numpy.zeros((12, 12)))], ids=["png", "npy"])
def test_too_many_pixels_are_refused_before_decoding(monkeypatch, data):
    monkeypatch.setattr(readers, "MAX_PIXELS", 100)
    for attempt in (
        lambda: decode(data, "x.npy" if data[0] == 0x93 else "x"),
        lambda: read_header(entry(data, "x.npy" if data[0] == 0x93 else "x")),
    ):
        with pytest.raises(DataError, match="12 × 12 pixels; at most 100 are read"):
            attempt()


@pytest.mark.filterwarnings("ignore:::PIL")  # as outside of the tests
@pytest.mark.parametrize("side", [9000, 2**15, 2**30])
def test_absurd_declared_size_is_refused(side):
    data = bytearray(encoded())
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(DataError, match=r"^x: .*at most 67,108,864 "):
        decode(bytes(data), "x")
    huge = io.BytesIO()
    numpy.lib.format.write_array_header_1_0(huge, {"shape": (side, 8, side), "fortran_order": False, "descr": "<f8"})
    with pytest.raises(DataError, match=r"^x\.npy: .* at most [\d,]+ (values )?are read"):
        decode(huge.getvalue(), "x.npy")


def test_a_png_too_short_for_its_pixels_is_refused_before_they_are_allocated():
    data = bytearray(png(deep(4), 6))
    data[16:24] = struct.pack(">II", 8000, 8000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(DataError, match=r"^x: damaged \(8000 × 8000 pixels cannot be in [\d,]+ bytes\)"):
        decode(bytes(data), "x")


def test_installed_decoders_that_do_not_load_are_left_out(monkeypatch):
    for name in ("torchcodec", "torchvision.io", "cv2"):
        monkeypatch.setitem(sys.modules, name, None)
    assert [decoders._fast_decoder(kind) for kind in ("jpeg", "webp", "deep_png")] == [None, None, None]
    data = stored(smooth_image(), "JPEG")
    assert torch.equal(decoded(data), pixels(Image.open(io.BytesIO(data))))


# ------------------------------------------------------------------------------------------------------------- plugins

READER = """
import torch
import translate
from translate.data.files.readers import Header, Reader

def header(file):
    width, height = file.read(2)
    return None if width == 99 else Header(width, height, 1, 8)

def decode(data):
    if len(data) < 3:
        raise EOFError("no pixels")
    return torch.full((1, data[1], data[0]), data[2], dtype=torch.uint8)

@translate.hookimpl
def register_readers(register):
    register(Reader("flat", (".flat", ".png"), header, decode))
"""


def test_a_plugin_reads_the_files_of_its_extensions_and_passes_others_on(site):
    install(site, "translate-flat", {"flat_reader.py": READER}, others={"flat": "flat_reader"})
    assert {".flat", ".jpg"} <= image_suffixes()
    assert decoded(bytes([4, 3, 7]), "a/b.FLAT").tolist() == [[[7] * 4] * 3]
    assert decoded(b"\x89P\7", "b.png").shape == (1, 80, 137)  # asked before the built-in ones
    with pytest.raises(DataError, match=r"^x\.flat: not an image of a known format"):
        decode(bytes([99, 0]), "x.flat")
    with pytest.raises(DataError, match=r"^x\.flat: damaged \(no pixels\)"):
        decode(bytes([4, 3]), "x.flat")
    with pytest.raises(DataError, match=r"^x\.flat: damaged"):
        read_header(entry(b"", "x.flat"))


def test_a_reader_is_held_to_its_header_and_to_the_limits(site, monkeypatch):
    text = READER.replace("data[1], data[0]", "2, 2")
    install(site, "translate-flat", {"flat_liar.py": text}, others={"flat": "flat_liar"})
    with pytest.raises(DataError, match=r"^x\.flat: the reader flat gave .*2, 2.* but its header says \(1, 3, 4\)"):
        decode(bytes([4, 3, 7]), "x.flat")
    monkeypatch.setattr(readers, "MAX_PIXELS", 9)
    with pytest.raises(DataError, match=r"^x\.flat: 4 × 3 pixels; at most 9 are read"):
        decode(bytes([4, 3, 7]), "x.flat")


def test_values_that_are_no_numbers_cost_their_file_whatever_reads_it(site):
    text = READER.replace("1, 8)", "1, 32)").replace("data[2], dtype=torch.uint8", 'float("nan")')
    install(site, "translate-flat", {"flat_nan.py": text}, others={"flat": "flat_nan"})
    with pytest.raises(DataError, match=r"^x\.flat: values that are no finite numbers"):
        decode(bytes([4, 3, 7]), "x.flat")


@pytest.mark.parametrize("suffixes", [(), ("dcm",), (".DCM",), ".dcm"])
def test_wrong_suffixes_are_refused_at_registration(suffixes):
    with pytest.raises(PluginError, match=r"The reader 'x' has the suffixes .* as in \('\.dcm',\)"):
        readers.Reader("x", suffixes, lambda file: None, lambda data: torch.empty(0))


# ------------------------------------------------------------------------------------------------------------- fuzzing


@cache
def samples() -> dict[str, bytes]:
    """A small file of every kind, by a name with its extension."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image, frames = (
        smooth_image(size=(20, 14)),
        {"save_all": True, "append_images": [smooth_image(size=(20, 14)).rotate(90)]},
    )
    found = {
        "a.jpg": stored(image, "JPEG", exif=exif),
        "b.jpg": stored(image.convert("CMYK"), "JPEG"),
        "c.jpg": stored(image.convert("L"), "JPEG", progressive=True),
        "d.png": stored(image, exif=exif),
        "e.png": stored(image.convert("P"), transparency=3),
        "f.png": png(deep(4), 6),
        "g.png": stored(image, **frames),
        "h.webp": stored(image, "WEBP", exif=exif),
        "i.webp": stored(image, "WEBP", lossless=True, **frames),
        "j.gif": stored(image, "GIF", **frames),
        "k.bmp": stored(image, "BMP"),
        "l.tga": stored(image, "TGA", compression="tga_rle"),
        "m.jp2": stored(image, "JPEG2000"),
        "n.avif": stored(image, "AVIF"),
        "o.pgm": b"P5 7 5 4095\n" + (deep(1) // 16).astype(">u2").tobytes(),
        "p.tif": stored(image, "TIFF", compression="tiff_lzw"),
        "q.tif": stored(Image.fromarray(deep(1)[..., 0]), "TIFF"),
        "r.npy": npy(deep(3)),
        "s.tif": _bands(),
        "t.jpg": b"",
    }
    return found


def _bands() -> bytes:
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    tifffile.imwrite(file, deep(5), photometric="minisblack", planarconfig="contig", compression="zlib")
    return file.getvalue()


@st.composite
def damaged(draw) -> tuple[str, bytes]:
    """A file with changed bits and bytes, cut off, or of random bytes altogether."""
    name = draw(st.sampled_from(sorted(samples())))
    data = bytearray(samples()[name] or draw(st.binary(max_size=200)))
    for place in draw(st.lists(st.integers(0, max(len(data) - 1, 0)), max_size=6)) if data else ():
        data[place] = draw(st.integers(0, 255))
    return name, bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@pytest.mark.filterwarnings("ignore:::PIL")  # as outside of the tests
@settings(max_examples=800, deadline=timedelta(seconds=5))
@given(damaged())
def test_damaged_files_give_an_image_of_the_headers_size_or_an_error_with_their_name(file):
    name, data = file
    header = outcome(lambda: read_header(entry(data, f"folder/{name}")), f"folder/{name}: ")
    image = outcome(lambda: decode(data, f"folder/{name}"), f"folder/{name}: ")
    if image is not None:
        assert image.shape == (header.channels, header.height, header.width)
        assert image.dtype == {8: torch.uint8, 16: torch.uint16, 32: torch.float32}[header.bits]


def outcome(attempt, start: str):
    """What is returned, or None for a DataError that starts so."""
    try:
        return attempt()
    except DataError as error:
        if not str(error).startswith(start):
            raise
    return None


def test_undamaged_samples_are_read():
    assert [name for name, data in samples().items() if data and decoded(data, name).numel() == 0] == []
    assert "tiff" in registry.readers()
