import pytest
import torch
from torch import nn

from translate import networks
from translate.errors import DataError, PluginError
from translate.evaluating.measurements import Measurements, fingerprint, in_8_bits

CPU = torch.device("cpu")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Means(nn.Module):
    def forward(self, images):
        assert images.shape[1] == 3
        return images.mean((2, 3))


def test_every_kind_of_image_becomes_rgb():
    measurements = Measurements(Means(), CPU)
    colour = in_8_bits(drawn(2, 3, 4, 4))
    clear, opaque = torch.full((2, 1, 4, 4), -1.0), torch.ones(2, 1, 4, 4)
    for images in (colour, torch.cat([colour, opaque], 1), torch.cat([colour, clear], 1), colour[:, :1]):
        measurements.add("generated", images)
    plain, on_white, nothing, grey = measurements._features["generated"]
    assert torch.allclose(on_white, plain)
    assert torch.equal(nothing, torch.ones(2, 3))
    assert torch.allclose(grey, plain[:, :1].expand(2, 3))
    with pytest.raises(DataError, match="5 channels"):
        measurements.add("generated", drawn(2, 5, 4, 4))


def test_features_of_another_shape_are_the_plugins_fault():
    with pytest.raises(PluginError, match=r"returned \(2, 3, 4, 4\); expected \(2, D\)"):
        Measurements(nn.Identity(), CPU).add("generated", drawn(2, 3, 4, 4))


def test_images_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="not finite"):
        Measurements(None, CPU).add_pairs(drawn(1, 3, 4, 4) / 0, drawn(1, 3, 4, 4), drawn(1, 3, 4, 4))


def test_the_standard_error_is_that_of_the_mean_over_all_batches():
    truths = torch.zeros(4, 1, 2, 2)
    made = in_8_bits(torch.linspace(-1, 1, 4).view(4, 1, 1, 1).expand_as(truths))
    whole, parts = Measurements(None, CPU), Measurements(None, CPU)
    whole.add_pairs(made, made, truths)
    for row in range(4):
        parts.add_pairs(made[row : row + 1], made[row : row + 1], truths[row : row + 1])
    error = whole.errors()["l1"]
    values = made[:, 0, 0, 0].abs() / 2
    assert error == parts.errors()["l1"]
    assert error.made == error.unchanged
    assert error.made.mean == pytest.approx(float(values.mean()))
    assert error.made.standard_error == pytest.approx(float(values.std()) / 2)


def test_one_pair_has_no_standard_error_and_other_channels_no_comparison():
    measurements = Measurements(None, CPU)
    measurements.add_pairs(drawn(1, 3, 4, 4), drawn(1, 1, 4, 4), drawn(1, 3, 4, 4))
    error = measurements.errors()["l1"]
    assert error.made.standard_error is None
    assert error.unchanged is None
    assert measurements.distances(0) == {}


def test_fewer_than_four_real_images_have_no_floor():
    measurements = Measurements(Means(), CPU)
    for kind, count in (("generated", 5), ("real", 3), ("baseline", 5)):
        measurements.add(kind, drawn(count, 3, 4, 4))
    assert {each.floor for each in measurements.distances(0).values()} == {None}


def test_the_fingerprint_is_that_of_the_weights():
    network, other = nn.Linear(3, 2), nn.Linear(3, 2)
    other.load_state_dict(network.state_dict())
    assert fingerprint(network) == fingerprint(other)
    nn.init.zeros_(other.bias)
    assert fingerprint(network) != fingerprint(other)
    assert fingerprint(networks.features("pixels")) is None
