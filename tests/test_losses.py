"""Adversarial losses and penalties, each held against its formula in float64, and the grammar of their names."""

import pytest
import torch
from torch import nn
from torch.nn.functional import logsigmoid

from translate import losses
from translate.errors import UsageError
from translate.plugins import registry

REAL, FAKE = torch.randn(2, 6, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def small_discriminator(patches=False):
    """A small smooth discriminator of (N, 2, 5, 5) in float64: one score an image, or a map."""
    torch.manual_seed(0)
    last = [] if patches else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Conv2d(4, 1, 2), *last).double()


def images(count=3):
    return torch.randn(count, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(count))


def gradient_of(network, image):
    """The gradient of one image's mean score by its pixels, by central differences."""
    found = torch.zeros_like(image)
    for place in range(image.numel()):
        step = torch.zeros(image.numel(), dtype=torch.float64)
        step[place] = 1e-5
        ahead, behind = (network((image + sign * step.view_as(image))[None]).mean() for sign in (1, -1))
        found.view(-1)[place] = (ahead - behind) / 2e-5
    return found


FORMULAS = {
    "bce": (-(logsigmoid(REAL).mean() + logsigmoid(-FAKE).mean()), -logsigmoid(FAKE).mean()),
    "minimax": (-(logsigmoid(REAL).mean() + logsigmoid(-FAKE).mean()), logsigmoid(-FAKE).mean()),
    "lsgan": (((REAL - 1) ** 2).mean() + (FAKE**2).mean(), ((FAKE - 1) ** 2).mean()),
    "hinge": ((1 - REAL).clamp(min=0).mean() + (1 + FAKE).clamp(min=0).mean(), -FAKE.mean()),
    "wgan": (FAKE.mean() - REAL.mean(), -FAKE.mean()),
    "relativistic": (-logsigmoid(REAL - FAKE).mean(), -logsigmoid(FAKE - REAL).mean()),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_loss_is_its_papers_formula(name):
    loss = losses.adversarial(name)
    shown = []

    def show(scores):
        shown.append(scores)
        return scores

    for_discriminator, for_generator = FORMULAS[name]
    torch.testing.assert_close(loss.discriminator(REAL, FAKE), for_discriminator)
    torch.testing.assert_close(loss.generator_loss(show, REAL, FAKE), for_generator)
    assert len(shown) == 1 + loss.relativistic  # only a relativistic loss scores real images


def test_every_built_in_loss_has_a_formula_here():
    assert {loss.name for loss in losses.BUILT_IN} == set(FORMULAS) <= set(registry.losses())


@pytest.mark.parametrize("patches", [False, True])
def test_r1_is_the_mean_squared_gradient_of_each_image(patches):
    network, real = small_discriminator(patches), images()
    direct = torch.stack([gradient_of(network, image).square().sum() for image in real]).mean()
    torch.testing.assert_close(losses.r1(network, real), direct, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("patches", [False, True])
def test_the_gradient_penalty_is_two_sided_per_image_and_between_pairs(patches):
    network, real, fake = small_discriminator(patches), images(), images(3).flip(0)
    torch.manual_seed(1)
    shares = torch.rand(3, 1, 1, 1)
    between = fake + shares * (real - fake)
    norms = torch.stack([gradient_of(network, image).square().sum().sqrt() for image in between])
    torch.manual_seed(1)
    found = losses.gradient_penalty(network, real, fake)
    torch.testing.assert_close(found, ((norms - 1) ** 2).mean(), rtol=1e-6, atol=1e-9)
    assert (norms < 1).any()  # where a one-sided penalty would be silent


def test_a_penalty_can_be_minimised():
    network, real, fake = small_discriminator(), images(), images(4)[:3]
    for name in ("wgan", "relativistic"):
        losses.adversarial(name).penalty_loss(network, real, fake).backward()
        assert all(p.grad is not None for p in network.parameters() if p.dim() > 1)
        network.zero_grad()


def test_relativistic_has_r1_and_r2_at_half_weight():
    network, real, fake = small_discriminator(), images(), images(4)[:3]
    found = losses.adversarial("relativistic(penalty=3)").penalty_loss(network, real, fake)
    torch.testing.assert_close(found, 1.5 * (losses.r1(network, real) + losses.r1(network, fake)))


def test_the_weight_of_a_penalty_is_an_option_of_its_loss():
    assert losses.adversarial("wgan").penalty_weight == 10
    assert losses.adversarial("wgan(penalty=2.5)").penalty_weight == 2.5

    def method(batch, outputs): ...

    assert [penalty.loss for penalty in losses.adversarial("wgan").penalties(method)] == [method]
    assert losses.adversarial("wgan(penalty=0)").penalties(method) == []
    assert losses.adversarial("lsgan").penalties(method) == []


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("wagn", "Did you mean 'wgan'"),
        ("hinge(penalty=3)", "has no options"),
        ("wgan(weight=3)", "its one option is penalty"),
        ("wgan(penalty=-1)", "expected a number from 0"),
        ("wgan(penalty='high')", "expected a number from 0"),
    ],
)
def test_what_cannot_be_had_is_explained(spec, sentence):
    with pytest.raises(UsageError, match=sentence.replace("(", r"\(")):
        losses.adversarial(spec)


def test_real_sign_is_taken_about_the_boundary_of_the_loss():
    scores = torch.tensor([0.2, 0.4, 0.9, 2.0])
    assert losses.adversarial("bce").real_sign(scores) == 1
    assert losses.adversarial("lsgan").real_sign(scores) == 0
