"""CUT and FastCUT: PatchNCE as the paper has it, and what may not depend on what."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import translate_cut
from translate import DomainSpec, Spec
from translate.errors import UsageError
from translate.players import Discriminators, Generators
from translate_cut import CUT, TEMPERATURE, FastCUT, Mirrored, encode, mirror, projection_heads

TINY = {
    "generator": 'resnet(blocks=1, width=4, antialias=True, init="xavier")',
    "discriminator": "patchgan(layers=1, width=4)",
}
ALL = 10_000  # patches: more than there are, so that none is left out


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def build(kind=CUT, *, size=16, channels=(3, 3), **options):
    spec = Spec({name: DomainSpec(name=name, size=size, channels=n) for name, n in zip("ab", channels, strict=True)})
    return kind(kind.Config(**TINY | options), spec)


def images(number=2, size=16):
    return torch.rand(number, 3, size, size) * 2 - 1


def features(model, number=2):
    """Unrelated queries and keys of the right shapes."""
    levels = encode(model.generator, images(number))
    return [torch.randn_like(level) for level in levels], [torch.randn_like(level) for level in levels]


class Pointwise(nn.Module):
    """A generator that commutes with mirroring, pixel by pixel."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)

    def forward(self, scene):
        return self.outer(self.inner(scene).relu()).tanh()

    def encode(self, scene):
        return [scene, self.inner(scene)]


def test_patch_nce_equals_a_loop_over_levels_images_and_positions():
    model = build(patches=ALL)
    queries, keys = features(model)
    losses = []
    for head, query, key in zip(model.heads.double(), queries, keys, strict=True):
        for image in range(2):
            places = [(row, column) for row in range(query.shape[2]) for column in range(query.shape[3])]
            v, others = (
                [F.normalize(head(level[image, :, row, column].double()), dim=0) for row, column in places]
                for level in (query, key)
            )
            for place in range(len(places)):
                share = torch.stack([v[place] @ other / TEMPERATURE for other in others]).softmax(0)[place]
                losses.append(-share.log() / (len(places) * 2 * len(queries)))
    found = model.float().patch_nce(queries, keys)
    assert found.item() == pytest.approx(torch.stack(losses).sum().item(), rel=1e-5)


def test_patch_nce_of_a_batch_is_the_mean_over_its_images():
    model = build(patches=ALL)
    queries, keys = features(model, 3)
    single = [model.patch_nce([q[i : i + 1] for q in queries], [k[i : i + 1] for k in keys]) for i in range(3)]
    assert model.patch_nce(queries, keys).item() == pytest.approx(torch.stack(single).mean().item(), rel=1e-5)


def test_another_image_of_the_batch_gives_no_negatives():
    model = build(patches=ALL)
    queries, keys = features(model)
    query = queries[1].requires_grad_()
    (before,) = torch.autograd.grad(model.patch_nce(queries, keys), query)
    others = [torch.cat([level[:1], torch.randn_like(level[1:])]) for level in keys]
    (after,) = torch.autograd.grad(model.patch_nce(queries, others), query)
    assert torch.allclose(before[0], after[0])
    assert not torch.allclose(before[1], after[1])


def test_keys_get_no_gradient_and_queries_do():
    model = build()
    queries, keys = ([level.requires_grad_() for level in levels] for levels in features(model))
    model.patch_nce(queries, keys).backward()
    assert all(key.grad is None for key in keys)
    assert all(query.grad.abs().sum() > 0 for query in queries)


def test_patches_are_compared_at_the_same_positions_in_every_image_and_anew_for_each_call():
    model = build(patches=5)
    level = torch.arange(64.0).view(1, 1, 8, 8).expand(2, 3, 8, 8)
    seen = []
    model.heads = nn.ModuleList([nn.Identity()])
    model.heads[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for _ in range(2):
        model.patch_nce([level], [level])
    for query, key in (seen[:2], seen[2:]):
        assert query.shape == (2, 5, 3)
        assert torch.equal(query[0], query[1])
        assert torch.equal(query, key)
        assert len(query[0, :, 0].unique()) == 5
    assert not torch.equal(seen[0], seen[2])


def test_patch_nce_is_smallest_where_each_patch_is_most_like_its_source():
    model = build(patches=ALL)
    queries, keys = features(model)
    assert model.patch_nce(keys, keys) < model.patch_nce(queries, keys)


def test_cut_weighs_translation_and_identity_by_half_each():
    model = build(patches=ALL, lambda_nce=3.0)
    batch = SimpleNamespace(a=images(), b=images())
    fakes = model.forward(batch)
    assert torch.allclose(fakes.fake_b, model.generator(batch.a))
    assert torch.allclose(fakes.identity_b, model.generator(batch.b))
    terms = model.generator_loss(batch, fakes)
    for name, fake, source in (("nce", fakes.fake_b, batch.a), ("nce_identity", fakes.identity_b, batch.b)):
        expected = 1.5 * model.patch_nce(encode(model.generator, fake), encode(model.generator, source))
        assert terms[name].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("mirrored", [[False, False], [True, True], [True, False]])
def test_fastcut_lines_mirrored_features_up_with_their_source(mirrored):
    model = build(FastCUT, patches=ALL)
    model.generator = Pointwise()
    model.heads = projection_heads(model.generator, model.spec.a, "pointwise")
    batch = SimpleNamespace(a=images(), b=images())
    which = torch.tensor(mirrored)
    terms = model.generator_loss(batch, Mirrored(model.generator(mirror(batch.a, which)), which))
    plain = model.patch_nce(encode(model.generator, model.generator(batch.a)), encode(model.generator, batch.a))
    assert terms["nce"].item() == pytest.approx(10 * plain.item(), rel=1e-5)


def test_fastcut_mirrors_each_image_by_chance():
    model = build(FastCUT)
    batch = SimpleNamespace(a=images(32), b=images(32))
    fakes = model.forward(batch)
    assert fakes.mirrored.shape == (32,)
    assert 5 < fakes.mirrored.sum() < 27
    sources = torch.stack([a.flip(2) if yes else a for a, yes in zip(batch.a, fakes.mirrored, strict=True)])
    assert torch.allclose(fakes.fake_b, model.generator(sources), atol=1e-6)


@pytest.mark.parametrize(("kind", "weight", "middle"), [(CUT, 1.0, 0.5), (FastCUT, 10.0, 1.0)])
def test_defaults_are_those_of_the_authors(kind, weight, middle):
    model = build(kind)
    discriminators, generators = model.players()
    assert isinstance(discriminators, Discriminators)
    assert isinstance(generators, Generators)
    assert generators.networks == [model.generator, model.heads]
    assert generators.schedule(0.75) == discriminators.schedule(0.75) == middle
    assert model.config.lambda_nce == weight
    assert discriminators.penalties == []


def test_discriminator_loss_is_halved():
    model = build()
    batch = SimpleNamespace(a=images(), b=images())
    fakes = model.forward(batch)
    terms, _ = model.discriminator_loss(batch, fakes)
    real, fake = model.discriminator(batch.b), model.discriminator(fakes.fake_b)
    expected = 0.5 * ((real - 1).square().mean() + fake.square().mean())
    assert terms["adversarial"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("generator", ["resnet(blocks=2, width=4)", "unet(width=4)"])
def test_heads_fit_every_generator_with_an_encoder(generator):
    model = build(generator=generator)
    batch = SimpleNamespace(a=images(), b=images())
    terms = model.generator_loss(batch, model.forward(batch))
    sum(terms.values()).backward()
    assert all(parameter.grad.abs().sum() > 0 for head in model.heads for parameter in head[0].parameters())


def test_building_the_heads_leaves_the_generator_alone():
    generator = build(generator="unet(width=4)").generator
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    projection_heads(generator, DomainSpec(name="a", size=16), "unet")
    assert generator.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())


def test_a_generator_without_an_encoder_is_refused():
    with pytest.raises(UsageError, match=r"'painter' has no encoder.*'resnet'"):
        projection_heads(nn.Conv2d(3, 3, 1), DomainSpec(name="a"), "painter")


def test_domains_of_different_channels_are_refused():
    with pytest.raises(UsageError, match="there are 1 and 3"):
        build(channels=(1, 3))


def test_plugin_offers_both_models():
    offered = []
    translate_cut.register_models(offered.append)
    assert [model.name for model in offered] == ["cut", "fastcut"]
