import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import translate_augmentations
from translate.data.augmentation.parsing import parse
from translate.errors import DataError
from translate.plugins import registry

NAMES = ("affine", "blur", "colour", "compression", "elastic", "noise", "perspective")
FIXED = {"blur": "blur(p=1)", "noise": "noise(p=1)", "compression": "compression(p=1)"}


def smooth(channels: int = 3) -> torch.Tensor:
    """(C, 48, 48) uint8 with no edges, so that what moves a little changes a little."""
    along = torch.linspace(40, 200, 48)
    return torch.stack([along[:, None] * (1 + c) / (1 + channels) + along / 4 for c in range(channels)]).to(torch.uint8)


def augmented(name: str, image: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """The image as float32 in [0, 255] after one augmentation, wherever it runs."""
    parsed = parse(FIXED.get(name, name))
    if parsed.albumentations:
        (image,) = parsed.albumentations([image], ["images"], seed, [(0, 255)])
    batch = image[None] / 127.5 - 1
    if parsed.kornia:
        (batch,) = parsed.kornia([batch], ["images"], seed)
    return (batch[0] + 1) * 127.5


def test_the_names_are_registered():
    assert set(NAMES) <= set(registry.augmentations())


@pytest.mark.parametrize("name", NAMES)
def test_each_changes_images_and_keeps_them_recognisable(name):
    image = smooth()
    for seed in range(4):
        difference = (augmented(name, image, seed) - image).abs().mean()
        assert 0 < difference < 40


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("colour",)])
@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_all_but_colour_go_with_any_channels(name, channels):
    assert augmented(name, smooth(channels)).shape == (channels, 48, 48)


def test_colour_takes_grey_and_refuses_other_channels():
    assert augmented("colour", smooth(1)).shape == (1, 48, 48)
    with pytest.raises(DataError, match=r"colour \(ColorJitter\) cannot be applied to images of 4 channels"):
        augmented("colour", smooth(4))


@pytest.mark.parametrize("name", ["affine", "perspective", "elastic"])
def test_geometry_leaves_no_black_borders(name):
    white = torch.full((3, 48, 48), 255, dtype=torch.uint8)
    assert all(augmented(name, white, seed).min() > 254 for seed in range(8))


@pytest.mark.parametrize("name", ["colour(0, 0, 0, 0)", "affine(0, 0, (1, 1))", "perspective(0)"])
def test_no_strength_is_no_change(name):
    torch.testing.assert_close(augmented(name, smooth()), smooth().float(), atol=1.01, rtol=0)


def test_importing_the_plugin_loads_no_library():
    code = (
        "import sys, translate_augmentations as t; t.register_augmentations(lambda name, factory: None)\n"
        "sys.exit(bool({'torch', 'numpy', 'kornia', 'albumentations', 'cv2'} & set(sys.modules)))"
    )
    source = Path(translate_augmentations.__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (source.parent, source)))}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=60, check=False).returncode == 0
