"""Every built-in model keeps the contract."""

import pytest
import torch

from translate import testing
from translate.plugins import registry

RESNET, PATCHGAN = "resnet(blocks=1, width=4)", "patchgan(layers=2, width=4)"
SMALL = {
    "cgan": {"generator": "dcgan(width=4)", "discriminator": "dcgan(width=4)", "latents": 8},
    "cut": {"generator": RESNET, "discriminator": PATCHGAN, "patches": 16},
    "cyclegan": {"generator": RESNET, "discriminator": PATCHGAN},
    "dcgan": {"generator": "dcgan(width=4)", "discriminator": "dcgan(width=4)", "latents": 8},
    "fastcut": {"generator": RESNET, "discriminator": PATCHGAN, "patches": 16},
    "gan": {"generator": "mlp(width=16)", "discriminator": "mlp(width=16)", "latents": 8},
    "pix2pix": {"generator": "unet(width=4)", "discriminator": 'patchgan(layers=2, width=4, norm="batch")'},
    "stylegan2": {
        "width": 4,
        "latents": 8,
        "style_width": 8,
        "mapping_layers": 2,
        "discriminator": "stylegan2(width=4, stddev_group=2, equalized=True)",
    },
    "wgan-gp": {"generator": "dcgan(width=4)", "discriminator": 'dcgan(width=4, norm="layer")', "latents": 8},
}


STYLE = {"generator": "stylegan2(width=4, downs=2, blocks=1)"}
VARIANTS = {
    "cyclegan by style": ("cyclegan", STYLE | {"discriminator": "stylegan2(width=4)"}),
    "cut by style": ("cut", SMALL["cut"] | STYLE),
    "pix2pix by style": ("pix2pix", SMALL["pix2pix"] | STYLE),
    "cyclegan, relativistic": ("cyclegan", SMALL["cyclegan"] | {"adversarial": "relativistic"}),
    "cut, wgan": ("cut", SMALL["cut"] | {"adversarial": "wgan(penalty=1)"}),
    "pix2pix, multiscale hinge": (
        "pix2pix",
        SMALL["pix2pix"] | {"discriminator": "multiscale(layers=1, width=4)", "adversarial": "hinge"},
    ),
    "cgan, projection": ("cgan", SMALL["cgan"] | {"conditioning": "projection"}),
    "gan, minimax": ("gan", SMALL["gan"] | {"adversarial": "minimax"}),
}
"""Parts that can be exchanged, in a model that did not bring them."""
CASES = {name: (name, options) for name, options in SMALL.items()} | VARIANTS


@pytest.fixture(scope="module", params=sorted(CASES))
def case(request, tmp_path_factory):
    name, options = CASES[request.param]
    return testing.Case(name, tmp_path_factory.mktemp(name), **options)


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
def test_model(case, check):
    check(case)


def test_every_registered_model_is_small_here():
    assert set(SMALL) == set(registry.model_names())


def test_check_model_takes_a_name():
    torch.manual_seed(0)
    testing.check_model("pix2pix", **SMALL["pix2pix"])


def test_two_processes_give_each_player_the_gradient_of_one(tmp_path):
    testing.check_ranks([testing.Case(name, tmp_path / name, **options) for name, options in SMALL.items()])
