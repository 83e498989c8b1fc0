import pytest
import torch
from translate_gcgan.model import rotate
from translate_gcgan.network import can

from translate.testing import check_model


@pytest.mark.parametrize("lambda_identity", [0.0, 5.0])
def test_the_model_keeps_the_contract(lambda_identity):
    check_model(
        "gcgan",
        generator="can(width=4, depth=2)",
        discriminator="patchgan(layers=2, width=4)",
        lambda_identity=lambda_identity,
    )


def test_the_network_translates_any_size_at_full_resolution():
    assert can(3, 1, width=4)(torch.zeros(2, 3, 21, 34)).shape == (2, 1, 21, 34)


def test_four_quarter_rotations_change_nothing():
    images = torch.rand(1, 3, 4, 6)
    assert torch.equal(rotate(rotate(rotate(rotate(images)))), images)
