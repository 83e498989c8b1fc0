"""StyleGAN2: its losses against plain float64 formulas, its styles, its classes."""

import pytest
import torch
import torch.nn.functional as F

from translate.domains import DomainSpec, Spec
from translate.errors import UsageError
from translate.players import Discriminators, Generators
from translate.training.step import Stepper
from translate_stylegan import StyleGAN2, StyleGAN2Config

CLASSES = ("boot", "coat", "gown")
ALONE = "stylegan2(width=4, equalized=True)"
SMALL = {
    "width": 4,
    "latents": 6,
    "style_width": 8,
    "mapping_layers": 2,
    "discriminator": "stylegan2(width=4, stddev_group=2, equalized=True)",
}


def build(size=8, classes=(), **options):
    """A small model, untrained, in evaluation mode."""
    torch.manual_seed(0)
    spec = Spec({"images": DomainSpec(name="images", size=size, classes=classes)})
    return StyleGAN2(StyleGAN2Config(**SMALL | options), spec).eval()


def batch_of(model, n=4):
    domain = model.spec.images
    labels = torch.arange(n) % max(len(domain.classes), 1)
    return model.data.batch_type(torch.rand(n, 3, domain.size, domain.size) * 2 - 1, labels)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# ------------------------------------------------------------------ losses


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("classes", [(), CLASSES])
def test_the_losses_are_the_non_saturating_logistic_ones_of_the_image_s_class(classes):
    model = build(classes=classes, discriminator=ALONE)
    batch = batch_of(model)
    fake = model(batch)
    real_scores, fake_scores = (
        torch.stack(
            [model.discriminator(image[None])[0, label] for image, label in zip(images, batch.labels, strict=True)]
        )
        for images in (batch.images, fake.images)
    )
    terms, stats = model.discriminator_loss(batch, fake)
    assert torch.allclose(terms["adversarial"], F.softplus(-real_scores).mean() + F.softplus(fake_scores).mean())
    assert torch.allclose(model.generator_loss(batch, fake)["adversarial"], F.softplus(-fake_scores).mean())
    assert torch.equal(stats["real_sign"], real_scores.sign().mean())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("classes", [(), CLASSES])
def test_r1_is_half_gamma_times_the_mean_squared_gradient_of_each_real_image(classes):
    model = build(classes=classes, discriminator=ALONE, gamma=3.0)
    batch = batch_of(model)
    squares = []
    for image, label in zip(batch.images, batch.labels, strict=True):
        gradient = torch.autograd.functional.jacobian(lambda x, y=label: model.discriminator(x[None])[0, y], image)
        squares.append(gradient.square().sum())
    assert torch.allclose(model.r1(batch)["r1"], 1.5 * torch.stack(squares).mean())


@pytest.mark.parametrize(("size", "gamma"), [(64, 0.0256), (16, 0.0016)])
def test_gamma_is_by_default_the_heuristic_of_the_paper(size, gamma):
    assert build(size=size).gamma == pytest.approx(gamma)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("count", "half"), [(4, 2), (5, 3), (1, 1)])
def test_the_path_length_is_the_distance_of_jacobian_products_to_their_running_mean(count, half):
    model = build(lambda_path=3.0)
    model.path_mean.fill_(0.7)
    torch.manual_seed(1)
    found = model.path_length(batch_of(model, count))["path_length"]

    torch.manual_seed(1)
    batch_of(model, count)
    styles = model.mixed_styles(torch.zeros(half, dtype=torch.int64))
    noise = torch.randn(half, 3, 8, 8) / 8
    lengths = []
    for style, y in zip(styles, noise, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda w: model.synthesis(w[None])[0], style)  # (3, 8, 8, L, W)
        products = torch.einsum("chwlk,chw->lk", jacobian, y)
        lengths.append(products.square().sum(1).mean().sqrt())
    lengths = torch.stack(lengths)
    assert torch.allclose(found, 3 * (lengths - 0.7).square().mean())
    assert torch.allclose(model.path_mean, 0.99 * 0.7 + 0.01 * lengths.mean())


def test_penalties_come_as_often_as_in_the_paper_and_not_at_weight_0():
    def penalties(model):
        return {
            type(player): [(each.loss.__name__, each.every) for each in player.penalties] for player in model.players()
        }

    assert penalties(build()) == {Generators: [("path_length", 4)], Discriminators: [("r1", 16)]}
    assert penalties(build(gamma=0, lambda_path=0)) == {Generators: [], Discriminators: []}


@pytest.mark.parametrize("adversarial", ["bce", "lsgan", "hinge", "wgan", "relativistic"])
def test_it_plays_with_every_loss(adversarial):
    model = build(adversarial=adversarial, classes=CLASSES)
    stepper = Stepper(model, device=torch.device("cpu"), precision="fp32")
    stepper.run(batch_of(model), 0, 0.0)
    assert all(torch.isfinite(torch.tensor(list(stepper.records.read().values()))))


# ------------------------------------------------------------------ styles


def test_truncation_0_gives_every_latent_the_mean_style():
    model = build()
    model.mapping.mean.normal_()
    styles = model.styles(model.latents(3), truncation=0.0)
    assert torch.equal(styles, model.mapping.mean.expand(3, model.synthesis.layers, 8))
    images = model.synthesize(styles)
    assert torch.allclose(images, images[:1].expand_as(images), atol=1e-6)


@pytest.mark.parametrize(("mixing", "kinds"), [(0.0, {1}), (0.5, {1, 2}), (1.0, {2})])
def test_mixing_gives_an_image_the_styles_of_one_latent_and_then_of_another(mixing, kinds):
    model = build(size=16, mixing=mixing)
    styles = model.mixed_styles(torch.zeros(64, dtype=torch.int64))
    assert styles.shape == (64, model.synthesis.layers, 8)
    changes = (styles[:, 1:] != styles[:, :-1]).any(2).sum(1)  # from one layer to the next
    assert set((1 + changes).tolist()) == kinds
    assert len(styles[:, 0].unique(dim=0)) == 64  # and no image shares them


def test_an_image_is_a_function_of_its_latents_in_evaluation():
    model = build()
    latents = model.latents(3)
    images = model.sample(latents)
    assert images.shape == (3, 3, 8, 8)
    assert torch.equal(images, model.sample(latents))
    assert torch.allclose(images[:1], model.sample(latents[:1]), atol=1e-5)


def test_fakes_have_fresh_noise_in_training():
    model = build(mixing=0.0).train()
    for noise in (module for module in model.synthesis.modules() if hasattr(module, "strength")):
        torch.nn.init.ones_(noise.strength)
    styles = model.styles(model.latents(2))
    assert not torch.equal(model.synthesize(styles), model.synthesize(styles))


# ------------------------------------------------------------------ classes and sizes


def test_labels_change_the_images():
    model = build(classes=CLASSES)
    latents = model.latents(1).expand(3, -1)
    images = model.sample(latents, torch.arange(3))
    assert not any(torch.allclose(images[i], images[(i + 1) % 3]) for i in range(3))


def test_the_discriminator_scores_an_image_by_its_class_alone():
    model = build(classes=CLASSES, discriminator=ALONE)
    image = batch_of(model).images[:1].expand(3, -1, -1, -1)
    assert torch.allclose(
        model.score_function(torch.arange(3))(image)[:, 0], model.discriminator(image[:1])[0], atol=1e-6
    )


def test_a_size_that_it_cannot_make_is_refused_by_naming_others():
    with pytest.raises(UsageError, match=r"got 48\. Try --size 32 or --size 64"):
        build(size=48)
