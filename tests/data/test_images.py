import io
import struct
import zlib

import numpy
import pytest
import torch
from drawn_images import encoded
from PIL import Image

from translate.data import images
from translate.data.images import as_float, as_uint8, decode, grid, match_channels, read_header, resize, save
from translate.data.sources import Entry
from translate.errors import DataError


def stored(image: Image.Image, kind="PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def reference(image: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(numpy.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def random_image(mode="RGB", size=(7, 5)) -> Image.Image:
    return Image.open(io.BytesIO(encoded(1, size, mode)))


def header(data: bytes):
    return read_header(Entry("x", "x", len(data), lambda: io.BytesIO(data)))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pixels_come_out_as_they_went_in(mode):
    image = random_image(mode)
    assert torch.equal(decode(stored(image), "x"), reference(image))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_to_pixels_and_header(orientation, kind):
    upright = random_image()
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that the orientation undoes
    lying = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = stored(lying, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    assert torch.equal(decode(data, "x"), reference(upright))
    assert header(data) == (7, 5, 3)


def test_palette_becomes_colour_and_its_transparency_alpha():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert decode(stored(image), "x")[:, 0].T.tolist() == [[255, 0, 0], [0, 0, 255]]
    data = stored(image, transparency=bytes([128, 255]))
    assert decode(data, "x")[:, 0].T.tolist() == [[255, 0, 0, 128], [0, 0, 255, 255]]
    assert header(data).channels == 4
    gif = stored(image, "GIF", transparency=1)
    assert decode(gif, "x")[3, 0].tolist() == [255, 0]


def test_transparent_colour_of_grey_and_rgb_becomes_alpha():
    assert decode(stored(Image.new("L", (2, 1), 9), transparency=9), "x")[:, 0, 0].tolist() == [9, 0]
    assert decode(stored(Image.new("RGB", (2, 1), (1, 2, 3)), transparency=(1, 2, 3)), "x")[3].tolist() == [[0, 0]]


def test_one_bit_becomes_grey():
    assert decode(stored(Image.new("1", (3, 2), 1)), "x").unique().tolist() == [255]


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red, green, blue = decode(stored(image, "JPEG", quality=100), "x")[:, 8, 8].tolist()
    assert red > 250
    assert max(green, blue) < 5


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = stored(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data, "x")[:3, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_images_are_refused(mode):
    data = stored(Image.new(mode, (4, 4)), "TIFF")
    bits = 16 if mode == "I;16" else 32
    with pytest.raises(DataError, match=rf"^scan\.tif: {bits} bits a channel; this version reads 8$"):
        decode(data, "scan.tif")


def test_sixteen_bit_rgb_png_is_refused_although_pillow_reads_it_as_eight():
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(b"\0" + bytes(12))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    with pytest.raises(DataError, match="x: 16 bits a channel"):
        decode(data + chunk(b"IDAT", rows) + chunk(b"IEND", b""), "x")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"not an image at all", "not an image of a known format"),
        (encoded(0, (64, 64), kind="JPEG")[:900], r"damaged \(image file is truncated"),
        (encoded(0, (64, 64))[:900], r"damaged \(image file is truncated"),
    ],
)
def test_what_cannot_be_decoded_is_named_with_its_reason(data, reason):
    with pytest.raises(DataError, match=f"^horses/1.jpg: {reason}"):
        decode(data, "horses/1.jpg")


def test_too_many_pixels_are_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    with pytest.raises(DataError, match="x: 12 × 12 pixels; at most 100 are read"):
        decode(encoded(), "x")


def test_absurd_declared_size_is_refused():
    data = bytearray(encoded())
    data[16:24] = struct.pack(">II", 2**30, 2**30)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(DataError, match=r"^x: "):
        decode(bytes(data), "x")


def test_channels_are_matched_where_nothing_is_lost():
    grey = reference(random_image("L"))
    opaque = torch.full_like(grey, 255)
    forms = {1: grey, 2: torch.cat([grey, opaque]), 3: grey.expand(3, -1, -1)}
    forms[4] = torch.cat([forms[3], opaque])
    for image in forms.values():
        for channels, expected in forms.items():
            assert torch.equal(match_channels(image, channels, "x"), expected)


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 1), ("RGBA", 3), ("LA", 1), ("LA", 3), ("RGBA", 2), ("RGB", 5)])
def test_channels_that_would_lose_something_are_refused(mode, channels):
    image = reference(random_image(mode))
    with pytest.raises(DataError, match=rf"^x\.png has {len(image)} channels .*, but {channels} channel"):
        match_channels(image, channels, "x.png")


def test_resize_keeps_constants_and_ignores_the_colour_of_transparent_pixels():
    assert resize(torch.full((3, 9, 9), 77, dtype=torch.uint8), 5, 4).unique().tolist() == [77]
    image = torch.zeros(4, 8, 8, dtype=torch.uint8)
    image[0, :, :4] = 255  # transparent red beside opaque black
    image[3, :, 4:] = 255
    assert resize(image, 4, 4)[0, :, 2:].max() == 0


def test_float_and_back_is_exact_for_all_values():
    values = torch.arange(256, dtype=torch.uint8)
    floats = as_float(values)
    assert (floats.min(), floats.max()) == (-1, 1)
    assert torch.equal(as_uint8(floats), values)
    assert as_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_saved_images_come_back(tmp_path, suffix, mode):
    image = reference(random_image(mode))
    if mode == "RGBA":
        image[3] = image[3].clamp(min=1)  # WebP may drop the colour of what cannot be seen
    save(image, tmp_path / f"x{suffix}")
    back = decode((tmp_path / f"x{suffix}").read_bytes(), "x")
    assert torch.equal(match_channels(back, len(image), "x"), image)


def test_saving_leaves_nothing_behind_and_refuses_the_impossible(tmp_path):
    image = reference(random_image("RGBA"))
    with pytest.raises(DataError, match="JPEG has no transparency; choose png"):
        save(image, tmp_path / "x.jpg")
    with pytest.raises(DataError, match="the extension must be one of"):
        save(image, tmp_path / "x.gif")
    save(image[:3], tmp_path / "x.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["x.jpg"]


def test_grid_places_images_of_all_kinds_in_rows_and_columns():
    red = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None].expand(3, 8, 8)
    clear = torch.zeros(4, 8, 8, dtype=torch.uint8)
    sheet = grid([[red, red[:1]], [clear]], gap=2)
    assert sheet.shape == (3, 22, 22)
    assert torch.equal(sheet[:, 2:10, 2:10], red)
    assert (sheet[:, 2:10, 12:20] == 255).all()
    assert (sheet[:, 12:20, 2:10] == 255).all()


def test_titles_are_written_above_the_columns():
    image = torch.full((3, 40, 40), 255, dtype=torch.uint8)
    plain, titled = grid([[image, image]]), grid([[image, image]], ["input", "a very long title that is cut"])
    assert titled.shape[1] == plain.shape[1] + 16
    assert (titled[:, :16] < 128).any()
    assert (titled[:, 16:] == 255).all()
