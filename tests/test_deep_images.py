"""From files of more than 8 bits through a training to files of the same kind, with real parts all the way."""

import numpy
import pytest
import torch

import translate
from translate.data.files.readers import decode
from translate.data.files.writers import save

SMALL = {"generator": "unet(downs=3, width=8)", "discriminator": "patchgan(layers=1, width=8)"}


def fitted(tmp_path, options=SMALL, **config):
    settings = {"model": "pix2pix", "size": 32, "steps": 2, "run": str(tmp_path / "run"), "options": options}
    return translate.fit(translate.FitConfig(**settings | config))


def ramp(folder, count, kind):
    """Smooth images with thousands of values, and a different one in every file."""
    folder.mkdir()
    y, x = torch.meshgrid(torch.linspace(0, 1, 40), torch.linspace(0, 1, 48), indexing="ij")
    for i in range(count):
        image = ((x * (i + 1) + y) % 1)[None]
        if kind == "grey16":
            save((image * 65535).round().to(torch.int32).to(torch.uint16), folder / f"{i}.png")
        else:
            save(torch.cat([image * k - 1 for k in range(1, 6)]), folder / f"{i}.tif")
    return str(folder)


def read(path):
    return decode(path.read_bytes(), path.name)


def test_16_bits_of_one_channel_stay_16_bits(tmp_path):
    folder = ramp(tmp_path / "a", 4, "grey16")
    run = fitted(tmp_path, a=folder, b=folder)
    result = translate.apply(run, folder, tmp_path / "out", device="cpu")
    assert result.written == 4
    for i in range(4):
        translated = read(tmp_path / "out" / f"{i}.png")
        assert translated.dtype == torch.uint16
        assert translated.shape == (1, 40, 48)
        assert len(numpy.unique(translated.numpy())) > 256
        assert len(numpy.unique(translated.numpy() & 0xFF)) > 64  # the low byte is no filling
    model = translate.load(run).model
    assert model.spec.b.bit_depth == 16
    assert model.spec.b.value_range == (0, 65535)


def test_domains_may_differ_in_channels_and_depth(tmp_path):
    pytest.importorskip("tifffile")
    bands, grey = ramp(tmp_path / "a", 4, "bands"), ramp(tmp_path / "b", 4, "grey16")
    run = fitted(tmp_path, a=bands, b=grey)
    spec = translate.load(run).model.spec
    assert (spec.a.channels, spec.a.bit_depth, spec.b.channels, spec.b.bit_depth) == (5, 32, 1, 16)
    assert spec.a.value_range == pytest.approx((-1, 4), abs=0.2)
    assert translate.apply(run, bands, tmp_path / "out", device="cpu").written == 4
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".tif"}
    assert read(tmp_path / "out" / "0.tif").dtype == torch.uint16
    back = fitted(tmp_path / "back", a=grey, b=bands)
    translate.apply(back, grey, tmp_path / "bands", device="cpu")
    translated = read(tmp_path / "bands" / "0.tif")
    assert translated.dtype == torch.float32
    assert translated.shape == (5, 40, 48)
    assert spec.a.value_range[0] <= translated.min() < translated.max() <= spec.a.value_range[1]


def test_a_model_of_synthesised_inputs_takes_real_ones_or_makes_them(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(4):
        save(torch.randint(256, (3, 48, 64), dtype=torch.uint8), photos / f"{i}.png")
    run = fitted(tmp_path, a="downscale(b, 2)", b=str(photos), holdout="25%")
    assert translate.apply(run, photos, tmp_path / "larger", device="cpu").written == 4
    assert read(tmp_path / "larger" / "0.png").shape == (3, 96, 128)
    assert translate.apply(run, photos, tmp_path / "degraded", device="cpu", degrade=True).written == 4
    assert read(tmp_path / "degraded" / "0.png").shape == (3, 48, 64)
    measured = translate.evaluate(run, features="none", device="cpu")
    assert measured.pairs == 1
    greyed = fitted(tmp_path / "greyed", a="gray(b)", b=str(photos))
    refused = translate.apply(greyed, photos, tmp_path / "grey", device="cpu")
    assert (refused.written, refused.notes) == (
        0,
        ("This model takes images that gray(b) was applied to; --degrade applies it to others.",),
    )
    plain = fitted(tmp_path / "plain", a=str(photos), b=str(photos))
    with pytest.raises(translate.UsageError, match="--degrade does not fit: this model learned from images of 'a'"):
        translate.apply(plain, photos, tmp_path / "x", degrade=True)


def test_a_start_that_cannot_succeed_leaves_no_run(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    for i in range(3):
        save(torch.randint(256, (3, 44, 60), dtype=torch.uint8), folder / f"{i}.png")
    dropout, images = tmp_path / "resize.toml", {"a": str(folder), "b": str(folder)}
    dropout.write_text('[[albumentations]]\ntransform = "Resize"\nheight = 9\nwidth = 9\np = 1.0\n')
    with pytest.raises(translate.TranslateError, match="Resize"):
        fitted(tmp_path, **images, augment=f"crop,{dropout}")
    with pytest.raises(translate.UsageError, match="Images of 60×44 are no multiples of 8, as networks need"):
        fitted(tmp_path, **images, preprocess="none")
    (tmp_path / "deep").mkdir()
    save(torch.zeros(3, 44, 60, dtype=torch.uint16), tmp_path / "deep" / "0.png")
    with pytest.raises(translate.TranslateError, match=r"None of the held-out images can be read: .*16 bits"):
        fitted(tmp_path, **images, test_a=str(tmp_path / "deep"), test_b=str(tmp_path / "deep"))
    assert not (tmp_path / "run").exists()
    assert fitted(tmp_path, **images).is_dir()
