import io

import numpy
import pytest
import torch
from drawn_images import encoded
from PIL import Image

from translate.data.images import (
    as_float,
    as_pixels,
    from_array,
    match,
    match_channels,
    resize,
    upright,
)
from translate.errors import DataError

DTYPES = {8: torch.uint8, 16: torch.uint16, 32: torch.float32}


def reference(mode="RGB", size=(7, 5)) -> torch.Tensor:
    """Random pixels, uint8 (C, H, W)."""
    pixels = torch.from_numpy(numpy.array(Image.open(io.BytesIO(encoded(1, size, mode)))))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def deep(image: torch.Tensor) -> torch.Tensor:
    """The same picture with 16 bits."""
    return (image.to(torch.int32) * 257).to(torch.uint16)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([[True, False]], torch.tensor([[[255, 0]]], dtype=torch.uint8)),
        (numpy.array([[1, 65535]], ">u2"), torch.tensor([[[1, 65535]]], dtype=torch.uint16)),
        (numpy.array([[-5, 16_777_216]], numpy.int64), torch.tensor([[[-5.0, 16_777_216.0]]])),
        (numpy.array([[[0.5, 2.0]]], numpy.float16), torch.tensor([[[0.5]], [[2.0]]])),
    ],
)
def test_arrays_keep_their_values_and_get_one_of_three_types(given, expected):
    assert torch.equal(from_array(numpy.asarray(given)), expected)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (numpy.array([[2**24 + 1]]), "whole numbers beyond ±16,777,216"),
        (numpy.array([[numpy.nan]]), "no finite numbers"),
        (numpy.array([[1e300]]), "no finite numbers"),
        (numpy.array([[1j]]), "values of type complex128"),
        (numpy.array([["a"]]), "values of type <U1"),
    ],
)
def test_arrays_that_no_type_holds_are_refused(values, reason):
    with pytest.raises(DataError, match=reason):
        from_array(values)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_undone_as_pillow_undoes_them(orientation, dtype):
    image = reference()
    ways = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # Pillow's transpositions
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    turned = picture if orientation == 1 else picture.transpose(Image.Transpose(ways[orientation]))
    expected = torch.from_numpy(numpy.array(turned)).permute(2, 0, 1)
    assert torch.equal(upright(image.to(dtype), orientation), expected.to(dtype))


@pytest.mark.parametrize("kind", [lambda image: image, deep], ids=["8 bits", "16 bits"])
def test_channels_are_matched_where_nothing_is_lost(kind):
    grey = kind(reference("L"))
    opaque = kind(torch.full((1, 5, 7), 255, dtype=torch.uint8))
    forms = {1: grey, 2: torch.cat([grey, opaque]), 3: grey.expand(3, -1, -1)}
    forms[4] = torch.cat([forms[3], opaque])
    for image in forms.values():
        for channels, expected in forms.items():
            assert torch.equal(match_channels(image, channels, "x"), expected)


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 1), ("RGBA", 3), ("LA", 1), ("LA", 3), ("RGBA", 2), ("RGB", 5)])
def test_channels_that_would_lose_something_are_refused(mode, channels):
    image = reference(mode)
    with pytest.raises(DataError, match=rf"^x\.png has {len(image)} channels .*, but {channels} channel"):
        match_channels(image, channels, "x.png")


@pytest.mark.parametrize("background", ["white", "black", "#4080c0", "keep"])
def test_what_a_domain_has_already_stays_as_it_is(background):
    for bits, dtype in DTYPES.items():
        for channels in range(1, 7):
            image = torch.zeros(channels, 3, 2, dtype=dtype)
            assert match(image, channels, bits, background, "x") is image


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    ("background", "expected"), [("white", (255, 128, 255)), ("black", (0, 128, 0)), ("#4080c0", (64, 128, 192))]
)
def test_transparent_images_are_laid_on_the_background(background, expected, bits):
    image = torch.tensor([[[9, 255, 0]], [[9, 1, 128]], [[9, 1, 0]], [[0, 255, 255]]], dtype=torch.uint8)
    image = image if bits == 8 else deep(image)
    clear, opaque, green = match(image, 3, bits, background, "x")[:, 0].T.to(torch.int32).tolist()
    one = 1 if bits == 8 else 257
    assert clear == [
        round(value * one) for value in {"white": (255,) * 3, "black": (0,) * 3}.get(background, (64, 128, 192))
    ]
    assert opaque == [255 * one, one, one]
    assert green == [0, 128 * one, 0]


def test_half_transparency_is_a_mean_and_grey_stays_grey_on_grey():
    image = torch.tensor([[[200]], [[51]]], dtype=torch.uint8)  # a fifth
    assert match(image, 1, 8, "white", "x").tolist() == [[[244]]]
    assert match(image, 3, 8, "#ff0000", "x").flatten().tolist() == [244, 40, 40]
    with pytest.raises(DataError, match=r"^x has 3 channels"):
        match(image, 1, 8, "#ff0000", "x")


def test_transparency_is_kept_on_request():
    for mode in ("L", "LA", "RGB", "RGBA"):
        image = reference(mode)
        kept = match(image, 4, 8, "keep", "x")
        assert torch.equal(kept[:3], match_channels(image[: 1 if len(image) < 3 else 3], 3, "x"))
        assert torch.equal(kept[3], image[-1] if len(image) in (2, 4) else torch.full_like(image[0], 255))
    with pytest.raises(DataError, match=r"^x has 4 channels \(RGB, alpha\), but 3"):
        match(reference("RGBA"), 3, 8, "keep", "x")


def test_fewer_bits_fit_a_deeper_domain_and_more_are_refused():
    image = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    assert match(image, 1, 16, "white", "x").tolist() == [[[0, 257, 65535]]]
    assert match(image, 3, 32, "white", "x").tolist() == [[[0.0, 1.0, 255.0]]] * 3
    assert match(deep(image), 1, 32, "white", "x").tolist() == [[[0.0, 257.0, 65535.0]]]
    with pytest.raises(DataError, match=r"^x\.png has 16 bits a channel, but 8 bits are expected"):
        match(deep(image), 1, 8, "white", "x.png")
    for bits in (8, 16):
        with pytest.raises(DataError, match=rf"has floating point values a channel, but {bits} bits"):
            match(image.float(), 1, bits, "white", "x")


@pytest.mark.parametrize(("has", "expected"), [(5, 3), (3, 5), (6, 5)])
def test_bands_that_do_not_match_are_refused(has, expected):
    with pytest.raises(DataError, match=f"^x has {has} channels.*, but {expected} channels"):
        match(torch.zeros(has, 2, 2), expected, 32, "white", "x")


@pytest.mark.parametrize("kind", [lambda image: image, deep], ids=["8 bits", "16 bits"])
def test_resize_ignores_the_colour_of_transparent_pixels(kind):
    image = torch.zeros(4, 8, 8, dtype=torch.uint8)
    image[0, :, :4] = 255  # transparent red beside opaque black
    image[3, :, 4:] = 255
    assert not resize(kind(image), 4, 4)[0, :, 2:].to(torch.int32).any()


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("size", [(9, 9), (5, 4), (20, 13), (1, 1)])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_resize_keeps_type_and_constants(bits, size, nearest):
    for channels in (1, 2, 3, 4, 5):
        image = torch.full((channels, 9, 9), 77.0).to(DTYPES[bits])
        resized = resize(image, *size, nearest=nearest)
        assert resized.shape == (channels, *size)
        assert resized.dtype == image.dtype
        assert (resized.float() - 77).abs().max() <= (1 if bits == 8 else 1e-4)  # Pillow rounds what alpha weighs


def test_deep_images_are_resized_like_those_of_8_bits():
    image = reference(size=(24, 20)) // 2 + 64  # not so near the ends that Pillow clips between its two passes
    for size in ((10, 12), (40, 31)):
        shallow = resize(image, *size).float()
        assert (resize(deep(image), *size).float() / 257 - shallow).abs().max() <= 1.5
        floats = resize(image.float(), *size)
        assert (floats.clamp(0, 255) - shallow).abs().max() <= 1.5


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_labels_are_never_blended(bits):
    image = torch.tensor([[[0, 200], [90, 7]]]).to(DTYPES[bits])
    assert set(resize(image, 7, 5, nearest=True).unique().tolist()) == {0, 200, 90, 7}
    assert torch.equal(resize(resize(image, 6, 4, nearest=True), 2, 2, nearest=True), image)


def test_float_and_back_is_exact_for_all_values():
    values = torch.arange(256, dtype=torch.uint8)
    floats = as_float(values)
    assert (floats.min(), floats.max()) == (-1, 1)
    assert torch.equal(as_pixels(floats), values)
    assert as_pixels(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


@pytest.mark.parametrize("value_range", [(0, 65535), (0, 4095), (1000, 3000)])
def test_sixteen_bits_and_back_are_exact_within_the_range(value_range):
    low, high = value_range
    values = torch.arange(low, high + 1, dtype=torch.int32).to(torch.uint16)
    floats = as_float(values, value_range)
    assert (floats.min(), floats.max()) == (-1, 1)
    assert torch.equal(as_pixels(floats, 16, value_range), values)


def test_floats_are_clipped_to_their_range_and_written_back_unrounded():
    values = torch.tensor([-7.0, -2.0, 0.25, 6.0, 9.0])
    floats = as_float(values, (-2.0, 6.0))
    assert floats.tolist() == [-1, -1, -0.4375, 1, 1]
    assert as_pixels(floats, 32, (-2.0, 6.0)).tolist() == [-2, -2, 0.25, 6, 6]
    assert values.tolist() == [-7, -2, 0.25, 6, 9]  # neither was changed in place
    assert as_pixels(torch.tensor([-2.0, 2.0]), 16, (0, 65535)).tolist() == [0, 65535]
