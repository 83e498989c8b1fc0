import io

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from translate.data.synthesis import parse
from translate.errors import DataError, UsageError

ALL = ("gray(b)", "edges(b)", "downscale(b, 3)", "mask(b)", "jpeg(b)", "noise(b)", "blur(b)")


def picture(number: int = 0, height: int = 40, width: int = 56, channels: int = 3) -> torch.Tensor:
    """A smooth image with an edge, of 8 bits: (channels, height, width) in [-1, 1]."""
    generator = torch.Generator().manual_seed(number)
    small = torch.rand(1, channels, 5, 7, generator=generator)
    image = F.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)[0]
    image[:, height // 3 :, width // 2 :] *= 0.5
    return (image * 255).round() / 127.5 - 1


def pictures(count: int = 3, **shape: int) -> torch.Tensor:
    return torch.stack([picture(number, **shape) for number in range(count)])


@pytest.mark.parametrize(
    "text", ["photos", "b", "./photos (1)", "photos(1)", "mask (1)", "a/b(c)", "", "data.zip", "(b)"]
)
def test_paths_and_domains_are_no_synthesis(text):
    assert parse(text) is None


def test_defaults_and_keywords_are_spelled_out_in_the_text():
    for written, text in {
        "gray(b)": "gray(b)",
        " downscale( b,4 ) ": "downscale(b, 4)",
        "downscale(b, factor=4)": "downscale(b, 4)",
        "downscale(b)": "downscale(b, 4)",
        "mask(a)": "mask(a, 0.1, 0.4)",
        "jpeg(b, quality=(10, 60))": "jpeg(b, 10, 60)",
        "jpeg(b, 20, 20)": "jpeg(b, 20)",
        "noise(b, 0.1)": "noise(b, 0.1)",
        "blur(b, 2)": "blur(b, 2)",
    }.items():
        assert parse(written).text == text
        assert parse(text) == parse(written)
        assert f"({parse(text).source}" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grey(b)", r"no synthesis 'grey'\. Did you mean 'gray'\?"),
        ("sepia(b)", r"Known: blur, downscale, edges, gray, jpeg, mask, noise\."),
        ("gray()", r"Write gray\(DOMAIN\); it takes no number\."),
        ("gray(b, 1)", "takes no number"),
        ("gray(1)", "takes no number"),
        ("jpeg(b", r"jpeg\(DOMAIN, QUALITY\), or jpeg\(DOMAIN, LOW, HIGH\) for a range; the quality is a whole number"),
        ("jpeg(b, 0)", r"from 1 to 100 \[default: 10 to 60\]"),
        ("jpeg(b, 60, 10)", "LOW, HIGH"),
        ("jpeg(b, 10, 20, 30)", "LOW, HIGH"),
        ("jpeg(b, 10.5)", "whole"),
        ("jpeg(b, True)", "whole"),
        ("jpeg(b, strong)", "whole"),
        ("jpeg(b, level=10)", "QUALITY"),
        ("jpeg(b, 10, quality=20)", "QUALITY"),
        ("jpeg(b, quality=[10])", "QUALITY"),
        (
            "downscale(b, 2, 4)",
            r"Write downscale\(DOMAIN, FACTOR\); the factor is a whole number from 2 to 16 \[default: 4",
        ),
        ("noise(b, 1e999)", "deviation"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(text, message):
    with pytest.raises(UsageError, match=message):
        parse(text)


@pytest.mark.parametrize("text", ALL)
@pytest.mark.parametrize(("height", "width"), [(40, 56), (8, 8), (37, 23)])
def test_each_image_depends_on_itself_and_its_seed_alone(text, height, width):
    synthesis, images = parse(text), pictures(height=height, width=width)
    state = torch.get_rng_state()
    before, degraded = images.clone(), synthesis(images, [5, 6, 7])
    assert degraded.shape == (3, synthesis.channels(3), height, width)
    assert degraded.dtype == torch.float32
    assert degraded.abs().max() <= 1
    assert torch.equal(degraded[2:], synthesis(images[2:], [7]))
    assert torch.equal(degraded.flip(0), synthesis(images.flip(0), numpy.array([7, 6, 5])))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before)


@pytest.mark.parametrize("text", ALL)
def test_another_seed_gives_another_image_unless_nothing_is_drawn(text):
    first, second = parse(text)(torch.stack([picture()] * 2), [0, 1])
    assert torch.equal(first, second) == (text in ("gray(b)", "downscale(b, 3)"))


@pytest.mark.parametrize("text", [text for text in ALL if "jpeg" not in text])
@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_any_number_of_channels_will_do(text, channels):
    synthesis = parse(text)
    degraded = synthesis(pictures(1, channels=channels), [0])
    assert degraded.shape[1] == synthesis.channels(channels)


def test_jpeg_has_one_channel_or_three():
    for channels in (2, 4):
        with pytest.raises(DataError, match=rf"1 or 3 channels, as JPEG does, .* domain b have {channels}"):
            parse("jpeg(b)").channels(channels)
    assert parse("jpeg(b)")(pictures(1, channels=1), [0]).shape[1] == 1


def test_no_gradient_is_kept():
    assert not parse("blur(b)")(pictures().requires_grad_(), [0, 1, 2]).requires_grad


def test_grey_is_luma_of_three_channels_and_the_mean_of_others():
    weights = torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(parse("gray(b)")(pictures(), [0, 0, 0])[0, 0], (picture().permute(1, 2, 0) @ weights))
    torch.testing.assert_close(parse("gray(b)")(pictures(1, channels=2), [0])[0, 0], picture(channels=2).mean(0))


@pytest.mark.parametrize("contrast", [1, 0.2])
def test_edges_are_thin_and_dark_where_the_brightness_changes(contrast):
    step = torch.ones(3, 32, 32) * contrast
    step[:, :, 16:] *= -1
    drawings = parse("edges(b)")(step.expand(20, -1, -1, -1), range(20))
    assert (drawings[:, :, :, 15:18].amin(-1) < -0.9).all()
    assert (drawings[:, :, :, :12] == 1).all()
    assert (drawings[:, :, :, 26:] == 1).all()
    assert (drawings == drawings[:, :, :1]).all()
    assert len(drawings[:, 0, 0].unique(dim=0)) == 20


def test_flat_images_have_no_edges():
    assert (parse("edges(b)")(torch.full((1, 3, 16, 16), 0.3), [0]) == 1).all()


@pytest.mark.parametrize(("height", "width"), [(32, 48), (31, 45)])
def test_a_real_small_image_is_enlarged_as_in_training(height, width):
    """Pillow's bicubic reduction of an image, accepted, is what training made of that image."""
    pixels = picture(height=32, width=48)
    small = [Image.fromarray(plane.numpy()).resize((12, 8), Image.Resampling.BICUBIC) for plane in pixels]
    real = torch.stack([torch.from_numpy(numpy.array(plane)) for plane in small])
    synthesis = parse("downscale(b, 4)")
    accepted = synthesis.accept(real.clamp(-1, 1))
    assert synthesis.scale == 4
    assert accepted.shape == (3, 32, 48)
    torch.testing.assert_close(synthesis(pixels[None], [0])[0], accepted, atol=1e-5, rtol=0)
    cropped = synthesis(pixels[None, :, :height, :width], [0])[0]
    torch.testing.assert_close(cropped[:, :20, :32], accepted[:, :20, :32], atol=0.05, rtol=0)


@given(seed=st.integers(0, 2**64 - 1), share=st.floats(0.01, 0.9), height=st.integers(8, 40), width=st.integers(8, 40))
@settings(max_examples=50, deadline=None)
def test_holes_are_black_transparent_and_of_the_share_asked_for(seed, share, height, width):
    image = picture(height=height, width=width)
    masked = parse(f"mask(b, {share:.6f})")(image[None], [seed])[0]
    hole = masked[-1] == -1
    assert torch.equal(masked[-1], torch.where(hole, -1.0, 1.0))
    assert (masked[:3, hole] == -1).all()
    assert torch.equal(masked[:3, ~hole], image[:, ~hole])
    more = int(hole.sum()) - share * height * width
    assert -1 <= more <= max(height, width) + 1  # rectangles grow by rows and columns


def test_holes_cover_the_whole_range_of_shares_in_both_shapes():
    masked = parse("mask(b)")(pictures(1, height=64, width=64).expand(200, -1, -1, -1), range(200))
    holes = masked[:, -1] == -1
    shares = holes.float().mean((1, 2))
    assert 0.09 <= shares.min() < 0.12
    assert 0.38 < shares.max() <= 0.41
    assert holes.float().mean(0).min() > 0.02  # no part of the picture is spared
    # The rows of rectangles repeat: a hole made of them has few different rows, one of strokes many.
    rectangles = torch.tensor([len(hole.unique(dim=0)) <= 9 for hole in holes])
    assert 0.3 < rectangles.float().mean() < 0.7


def test_real_holes_lose_the_colour_under_them_and_their_soft_rims():
    synthesis, image = parse("mask(b)"), torch.cat([picture(), torch.linspace(-1, 1, 56).expand(1, 40, -1)])
    accepted = synthesis.accept(image)
    assert accepted[-1].unique().tolist() == [-1, 1]
    assert (accepted[:, :, :28] == -1).all()
    assert torch.equal(accepted[:3, :, 28:], image[:3, :, 28:])


@pytest.mark.parametrize("text", [text for text in ALL if "downscale" not in text])
def test_accepting_what_training_made_changes_nothing(text):
    synthesis = parse(text)
    (degraded,) = synthesis(pictures(1), [3])
    assert torch.equal(synthesis.accept(degraded), degraded)


def in_pillow(image: torch.Tensor, quality: int) -> torch.Tensor:
    """What a JPEG file gives back: (C, H, W) in [-1, 1] of 8 bits."""
    pixels = ((image + 1) * 127.5).round().byte().permute(1, 2, 0).squeeze(2).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    decoded = torch.from_numpy(numpy.atleast_3d(numpy.array(Image.open(file))))
    return decoded.permute(2, 0, 1) / 127.5 - 1


def agreement(ours: torch.Tensor, real: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([ours.flatten(), real.flatten()]))[0, 1])


@pytest.mark.parametrize("quality", [1, 10, 30, 60])
@pytest.mark.parametrize(("height", "width", "channels"), [(64, 64, 3), (50, 71, 3), (50, 71, 1)])
def test_jpeg_errs_as_real_files_do(quality, height, width, channels):
    image = picture(1, height, width, channels)
    image = (((image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))) + 1) * 127.5).round()
    image = image.clamp(0, 255) / 127.5 - 1
    (ours,) = parse(f"jpeg(b, {quality})")(image[None], [0])
    real = in_pillow(image, quality)
    assert agreement(ours - image, real - image) > 0.98
    # What a file lost is lost here too: where ours and the file differ, the original does not shine through.
    assert abs(agreement(ours - real, image - real)) < 0.15


def test_noise_has_its_deviation_and_is_white():
    noise = parse("noise(b, 0.05)")(torch.zeros(1, 3, 128, 128), [0])[0] / 2
    assert abs(noise.std() - 0.05) < 0.001
    assert abs(noise.mean()) < 0.001
    assert abs(agreement(noise[:, :, 1:], noise[:, :, :-1])) < 0.02


def test_blur_of_a_point_is_a_gaussian():
    point = torch.full((1, 1, 33, 33), -1.0)
    point[..., 16, 16] = 1
    blurred = (parse("blur(b, 2)")(point, [0])[0, 0] + 1) / 2
    away = torch.arange(33) - 16.0
    deviation = (blurred.sum(0) * away.square()).sum().sqrt()
    torch.testing.assert_close(blurred.sum(), torch.tensor(1.0), atol=1e-4, rtol=0)
    assert abs(deviation - 2) < 0.05
    assert (parse("blur(b, 9)")(torch.full((1, 3, 8, 8), 0.5), [0]) - 0.5).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["facades/val", "horse2art/testA", "emoji/testA"])
def test_real_pictures_become_drawings_and_files(real_data, name):
    path = min((real_data / name).iterdir())
    image = torch.from_numpy(numpy.array(Image.open(path).convert("RGB"))).permute(2, 0, 1) / 127.5 - 1
    ink = (parse("edges(b)")(image.expand(10, -1, -1, -1), range(10)) < 0).float().mean((1, 2, 3))
    assert 0.01 < ink.min() < ink.max() < 0.33
    ours = parse("jpeg(b, 20)")(image[None], [0])[0]
    assert agreement(ours - image, in_pillow(image, 20) - image) > 0.95


@pytest.mark.gpu
@pytest.mark.parametrize("text", [text for text in ALL if "noise" not in text])
def test_the_device_makes_no_difference(text):
    synthesis, images = parse(text), pictures(height=64, width=64)
    on_device = synthesis(images.cuda(), [0, 1, 2])
    assert on_device.device.type == "cuda"
    different = (on_device.cpu() - synthesis(images, [0, 1, 2])).abs() > 0.02
    assert different.float().mean() < 0.02
