"""Every built-in model keeps the contract."""

import pytest
import torch

from translate import plugins, testing

SMALL = {
    "cyclegan": {"generator": "resnet(blocks=1, width=4)", "discriminator": "patchgan(layers=2, width=4)"},
    "pix2pix": {"generator": "unet(width=4)", "discriminator": 'patchgan(layers=2, width=4, norm="batch")'},
}


@pytest.fixture(scope="module", params=sorted(plugins.model_names()))
def case(request, tmp_path_factory):
    return testing.Case(request.param, tmp_path_factory.mktemp(request.param), **SMALL.get(request.param, {}))


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
def test_model(case, check):
    check(case)


def test_every_registered_model_is_small_here():
    assert set(SMALL) == set(plugins.model_names())


def test_check_model_takes_a_name():
    torch.manual_seed(0)
    testing.check_model("pix2pix", **SMALL["pix2pix"])
