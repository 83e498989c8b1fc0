import sys

import numpy
import pytest
import torch
from PIL import Image

from translate.data.files.readers import decode
from translate.data.files.writers import save, save_animation
from translate.data.images import match_channels
from translate.errors import DataError

TYPES = {"8 bits": torch.uint8, "16 bits": torch.uint16, "floats": torch.float32}


def picture(channels: int, kind: str = "8 bits") -> torch.Tensor:
    """Random values, the whole range of their type; nothing is quite transparent."""
    values = torch.rand(channels, 24, 17, generator=torch.Generator().manual_seed(channels))
    top = {"8 bits": 255, "16 bits": 65535, "floats": 1}[kind]
    values = values * 3 - 1 if kind == "floats" else (values * top).round().clamp(1, top)
    return values.to(TYPES[kind])


def back(image: torch.Tensor, path) -> torch.Tensor:
    save(image, path)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    return decode(path.read_bytes(), str(path))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff", ".npy"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_eight_bits_come_back(tmp_path, suffix, channels):
    image = picture(channels)
    assert torch.equal(match_channels(back(image, tmp_path / f"x{suffix}"), channels, "x"), image)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_come_back(tmp_path, suffix, channels):
    image = picture(channels, "16 bits")
    loaded = back(image, tmp_path / f"x{suffix}")
    assert loaded.dtype == torch.uint16
    assert torch.equal(match_channels(loaded, channels, "x"), image)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("suffix", [".TIF", ".npy"])
@pytest.mark.parametrize("channels", [1, 3, 5, 16])
def test_bands_of_any_type_come_back(tmp_path, suffix, channels, kind):
    image = picture(channels, kind)
    assert torch.equal(back(image, tmp_path / f"x{suffix}"), image)


@pytest.mark.parametrize(
    ("name", "channels", "kind", "reason"),
    [
        ("x.jpg", 4, "8 bits", "JPEG has no transparency; choose png, webp or tiff"),
        ("x.jpg", 3, "16 bits", "JPEG does not hold 3 channels of 16 bits; choose png, tiff or npy"),
        ("x.webp", 1, "16 bits", "WEBP does not hold 1 channels of 16 bits; choose png, tiff or npy"),
        ("x.png", 1, "floats", "PNG does not hold 1 channels of floating point values; choose tiff or npy"),
        ("x.png", 5, "8 bits", "PNG does not hold 5 channels of 8 bits; choose tiff or npy"),
        ("x.gif", 3, "8 bits", "the extension must be one of .png, "),
    ],
)
def test_what_a_format_does_not_hold_is_refused_and_leaves_nothing_behind(tmp_path, name, channels, kind, reason):
    with pytest.raises(DataError, match=rf"{name} cannot be written: {reason}"):
        save(picture(channels, kind), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_without_tifffile_only_grey_goes_into_a_deep_tiff(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    for kind in ("16 bits", "floats"):
        image = picture(1, kind)
        save(image, tmp_path / "x.tif")
        assert numpy.array_equal(numpy.array(Image.open(tmp_path / "x.tif")), image[0].numpy())
        with pytest.raises(DataError, match=r"needs `pip install \"translate-img2img\[tiff\]\"`; or choose npy"):
            save(picture(5, kind), tmp_path / "y.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tif"]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_hold_all_frames(tmp_path, suffix):
    frames = [torch.full((3, 8, 8), value, dtype=torch.uint8) for value in (0, 90, 255)]
    save_animation(frames, tmp_path / f"x{suffix}")
    with Image.open(tmp_path / f"x{suffix}") as image:
        assert image.n_frames == 3
    with pytest.raises(DataError, match=r"an animation's extension must be one of .gif, .webp"):
        save_animation(frames, tmp_path / "x.png")
