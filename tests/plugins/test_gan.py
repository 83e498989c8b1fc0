"""The models that make images of noise: their losses against plain float64 formulas, their labels, the moves."""

import copy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from translate.device import autocast
from translate.domains import DomainSpec, Spec
from translate.errors import UsageError
from translate.players import Discriminators, Generators
from translate.training.step import Stepper
from translate_gan import CGAN, DCGAN, GAN, WGANGP, Fake
from translate_networks import dcgan, mlp

CPU = torch.device("cpu")
CLASSES = ("boot", "coat", "gown")
DCGAN_NETWORKS = {"generator": "dcgan(width=4)", "discriminator": "dcgan(width=4)"}
MLP_NETWORKS = {"generator": "mlp(width=8)", "discriminator": "mlp(width=8)"}
SMOOTH = {"generator": "mlp(width=8)", "discriminator": 'dcgan(width=4, norm="layer")'}


def build(kind, size=16, channels=1, **options):
    """A small model of a kind, untrained."""
    torch.manual_seed(0)
    classes = CLASSES if kind is CGAN else ()
    spec = Spec({"images": DomainSpec(name="images", channels=channels, size=size, classes=classes)})
    return kind(kind.Config(**{"latents": 5, **DCGAN_NETWORKS, **options}), spec)


def batch_of(model, n=6, seed=0):
    """A batch of noise, as the model's declaration has it."""
    domain, generator = model.spec.images, torch.Generator().manual_seed(seed)
    images = torch.rand(n, domain.channels, domain.size, domain.size, generator=generator) * 2 - 1
    labels = [torch.arange(n) % len(domain.classes)] if domain.classes else []
    return model.data.batch_type(images, *labels)


def player(model, kind):
    (found,) = [each for each in model.players() if isinstance(each, kind)]
    return found


@pytest.mark.parametrize("kind", [GAN, DCGAN, CGAN, WGANGP])
@pytest.mark.parametrize("adversarial", ["bce", "minimax", "lsgan", "hinge", "wgan", "relativistic"])
def test_every_model_plays_a_step_with_every_loss(kind, adversarial):
    model = build(kind, adversarial=adversarial, discriminator_steps=1)
    stepper = Stepper(model, device=CPU, precision="fp32")
    stepper.run(batch_of(model), 0, 0.0)
    terms = {"discriminators.adversarial", "discriminators.real_sign", "generators.adversarial"}
    penalty = {"discriminators.penalty"} if adversarial in ("wgan", "relativistic") else set()
    assert stepper.records.read().keys() == terms | penalty


def test_the_penalty_is_that_of_the_paper_per_image_and_two_sided():
    model = build(WGANGP, adversarial="wgan(penalty=7)", **SMOOTH)
    model.discriminator[-2].weight.data *= 4  # norms on both sides of 1
    batch, fake = batch_of(model), batch_of(model, seed=1).images
    torch.manual_seed(3)
    found = model.penalty(batch, Fake(fake))["penalty"]

    torch.manual_seed(3)
    shares, norms = torch.rand(len(fake), 1, 1, 1).double(), []
    critic = copy.deepcopy(model.discriminator).double()
    for x, y, share in zip(batch.images.double(), fake.double(), shares, strict=True):
        between = (share * x + (1 - share) * y)[None].requires_grad_()
        (gradient,) = torch.autograd.grad(critic(between).sum(), between)
        norms.append(gradient.square().sum().sqrt())
    norms = torch.stack(norms)
    assert norms.min() < 1 < norms.max()
    torch.testing.assert_close(found, 7 * (norms - 1).square().mean().float())


def test_the_critic_estimates_the_wasserstein_distance_without_batch_norm():
    model = build(WGANGP, **SMOOTH)
    batch, fake = batch_of(model), batch_of(model, seed=1).images
    terms, stats = model.discriminator_loss(batch, Fake(fake))
    real_scores, fake_scores = model.discriminator(batch.images), model.discriminator(fake)
    torch.testing.assert_close(terms["adversarial"], fake_scores.mean() - real_scores.mean())
    torch.testing.assert_close(stats["real_sign"], real_scores.sign().mean())
    torch.testing.assert_close(model.generator_loss(batch, Fake(fake))["adversarial"], -fake_scores.mean())
    default = WGANGP(WGANGP.Config(), model.spec).discriminator
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in default.modules())


def test_projection_is_a_common_score_and_an_inner_product_with_the_row_of_the_label():
    model = build(CGAN, conditioning="projection", discriminator='dcgan(width=4, norm="none")').double()
    batch = batch_of(model)
    images = batch.images.double()
    *before, last, flatten = model.discriminator
    features = flatten(nn.Sequential(*before)(images))  # (N, C·4·4), what the last convolution sees as a whole
    rows = last.weight.flatten(1)
    psi, embedding = features @ rows[0] + last.bias[0], rows[1:]
    expected = psi + (features * embedding[batch.labels]).sum(1) + last.bias[1:][batch.labels]
    torch.testing.assert_close(model.score_function(batch)(images), expected[:, None])
    assert rows.shape[0] == 1 + len(CLASSES)


def test_concatenation_puts_the_label_beside_every_pixel_and_beside_the_latents():
    model = build(CGAN, **MLP_NETWORKS).double()
    batch = batch_of(model)
    images, latents = batch.images.double(), model.latents(6).double()
    one_hot = F.one_hot(batch.labels, len(CLASSES)).double()
    planes = one_hot[:, :, None, None] * torch.ones(1, 1, 16, 16)
    torch.testing.assert_close(model.score_function(batch)(images), model.discriminator(torch.cat([images, planes], 1)))
    expected = model.generator(torch.cat([latents, one_hot], 1))
    torch.testing.assert_close(model.sample(latents, batch.labels), expected)


@pytest.mark.parametrize("conditioning", ["concat", "projection"])
def test_the_label_of_an_image_reaches_both_networks_and_no_other_image(conditioning):
    networks = {"generator": "mlp(width=8)", "discriminator": 'dcgan(width=4, norm="none")'}
    model = build(CGAN, conditioning=conditioning, **networks).eval()
    batch, latents = batch_of(model), model.latents(6)
    other = batch._replace(labels=torch.cat([(batch.labels[:1] + 1) % 3, batch.labels[1:]]))
    scores = (
        (model.score_function(batch)(batch.images) - model.score_function(other)(batch.images)).flatten(1).abs().amax(1)
    )
    images = (model.sample(latents, batch.labels) - model.sample(latents, other.labels)).flatten(1).abs().amax(1)
    for difference in (scores, images):
        assert (difference > 0).tolist() == [True] + [False] * 5
    assert player(model, Discriminators).image_channels == slice(0, 1)


def test_fakes_are_of_the_classes_of_their_batch():
    model = build(CGAN, **MLP_NETWORKS)
    batch = batch_of(model)
    torch.manual_seed(1)
    found = model.forward(batch).fake
    torch.manual_seed(1)
    assert torch.equal(found, model.sample(model.latents(6), batch.labels))


def test_the_generator_of_wgan_gp_moves_on_each_fifth_step_after_five_of_the_critic():
    model = build(WGANGP, **SMOOTH)
    stepper = Stepper(model, device=CPU, precision="fp32")
    moves = []
    for number in range(10):
        before = {name: value.clone() for name, value in model.named_parameters()}
        stepper.run(batch_of(model, seed=number), number, 0.0)
        moves.append({name.split(".")[0] for name, value in model.named_parameters() if (value != before[name]).any()})
    assert moves == ([{"discriminator"}] * 4 + [{"discriminator", "generator"}]) * 2


def test_hyper_parameters_are_those_of_the_papers():
    for kind, lr, betas, every in ((DCGAN, 2e-4, (0.5, 0.999), 1), (WGANGP, 1e-4, (0.0, 0.9), 5)):
        players = list(kind(kind.Config(), build(kind, size=64).spec).players())
        assert [type(each) for each in players] == [Discriminators, Generators]
        assert {(each.optimizer.lr, each.optimizer.betas) for each in players} == {(lr, betas)}
        assert players[1].every == every


def test_real_and_fake_images_are_batches_of_their_own_for_batch_norm():
    model = build(DCGAN)
    batch, fake = batch_of(model), batch_of(model, seed=1).images * 0.1
    terms, _ = model.discriminator_loss(batch, Fake(fake))
    real_scores, fake_scores = model.discriminator(batch.images), model.discriminator(fake)
    torch.testing.assert_close(terms["adversarial"], F.softplus(-real_scores).mean() + F.softplus(fake_scores).mean())
    mixed = model.discriminator(torch.cat([batch.images, fake]))
    assert not torch.allclose(mixed, torch.cat([real_scores, fake_scores]), atol=1e-3)


@pytest.mark.parametrize("kind", [GAN, DCGAN, CGAN, WGANGP])
def test_a_sample_is_a_function_of_its_latents_whoever_shares_the_batch(kind):
    model = build(kind, channels=3).eval()
    latents, labels = model.latents(4), torch.arange(4) % 3 if kind is CGAN else None
    images = model.sample(latents, labels)
    assert images.shape == (4, 3, 16, 16)
    assert images.abs().max() <= 1
    alone = [model.sample(latents[i : i + 1], None if labels is None else labels[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(images, torch.cat(alone))


# ------------------------------------------------------------------ networks


@pytest.mark.parametrize("size", [8, 16, 64, 128])
def test_dcgan_grows_images_from_4_pixels_and_shrinks_them_to_one_score(size):
    images = dcgan.synthesis(5, 3, size=size, width=2)(torch.randn(2, 5))
    assert images.shape == (2, 3, size, size)
    assert dcgan.discriminator(3, out_channels=4, size=size, width=2)(images).shape == (2, 4)


def test_dcgan_has_the_parameters_of_the_papers_figure():
    with torch.device("meta"):
        network = dcgan.synthesis(100, 3, size=64, width=128)
    weights = [tuple(layer.weight.shape) for layer in network.modules() if isinstance(layer, nn.ConvTranspose2d)]
    channels = [100, 1024, 512, 256, 128, 3]
    assert weights == [(*pair, 4, 4) for pair in pairwise(channels)]


@pytest.mark.parametrize(
    ("size", "near"), [(4, "try --size 8"), (28, "try --size 16 or 32"), (200, "--size 128 or 256")]
)
@pytest.mark.parametrize(
    "make", [lambda size: dcgan.synthesis(5, 1, size=size), lambda size: dcgan.discriminator(1, size=size)]
)
def test_dcgan_refuses_other_sizes_and_names_those_it_takes(make, size, near):
    with pytest.raises(UsageError, match=rf"8, 16, 32, 64, …; got {size}; .*{near}"):
        make(size)


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_dcgan_normalises_all_but_the_first_and_the_last_layer(norm):
    network = dcgan.discriminator(1, size=32, width=2, norm=norm)
    kinds = [type(layer) for layer in network if not isinstance(layer, nn.LeakyReLU)]
    layer = {"batch": [nn.BatchNorm2d], "layer": [nn.GroupNorm], "none": []}[norm]
    assert kinds == [nn.Conv2d, *[nn.Conv2d, *layer] * 2, nn.Conv2d, nn.Flatten]


@pytest.mark.parametrize("size", [8, 13])
def test_mlp_takes_any_size(size):
    images = mlp.synthesis(5, 2, size=size, width=8, layers=3)(torch.randn(3, 5))
    assert images.shape == (3, 2, size, size)
    assert images.abs().max() <= 1
    assert mlp.discriminator(2, out_channels=4, size=size, width=8)(images).shape == (3, 4)


@pytest.mark.parametrize("make", [dcgan, mlp])
def test_networks_stay_close_to_float32_in_bf16(make):
    torch.manual_seed(0)
    generator, discriminator = (
        make.synthesis(5, 1, size=16, width=8).eval(),
        make.discriminator(1, size=16, width=8).eval(),
    )
    latents = torch.randn(8, 5)
    with torch.no_grad():
        images = generator(latents)
        scores = discriminator(images)
        with autocast(CPU, "bf16"):
            assert (generator(latents).float() - images).norm() <= 0.05 * images.norm()
            assert (discriminator(images).float() - scores).norm() <= 0.05 * scores.norm()
