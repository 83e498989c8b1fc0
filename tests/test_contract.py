"""Papers in terms of the contract, with networks on vectors of 48 in place of images, trained by the engine.

They measure whether the contract can express every paper. The author of a plugin would only add typed options,
registered networks, the field's names and docstrings. Stages, `unless` and `Domains` come with the first model that
needs them.
"""

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import softplus

from translate import Adam, Discriminators, Generators, Images, Model, ModelConfig, Move, Paired, Penalty, Unpaired
from translate.domains import Spec
from translate.training.step import Stepper

PIXELS, LATENTS, BATCH, STEPS = 48, 8, 4, 10


def net(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 16), nn.LeakyReLU(0.2), nn.Linear(16, outputs))


def latents(batch) -> Tensor:
    return torch.randn(len(batch.images), LATENTS)


class Fake(NamedTuple):
    fake: Tensor


class FakeB(NamedTuple):
    fake_b: Tensor
    same_b: Tensor


class CUT(Model[ModelConfig]):
    """Park et al., ECCV 2020, arXiv:2007.15651: the discriminator moves first."""

    data = Unpaired("a", "b")

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.g, self.d, self.f = net(PIXELS, PIXELS), net(PIXELS, 1), net(PIXELS, 16)

    def players(self):
        yield Discriminators([self.d], self.discriminator_loss)
        yield Generators([self.g, self.f], self.generator_loss)

    def forward(self, batch):
        return FakeB(*self.g(torch.cat([batch.a, batch.b])).chunk(2))

    def nce(self, query, key):
        query, key = F.normalize(self.f(query)), F.normalize(self.f(key)).detach()  # eq. 3 stops the gradient
        return F.cross_entropy(query @ key.T / 0.07, torch.arange(len(query)))

    def generator_loss(self, batch, outputs):
        return {
            "adversarial": (self.d(outputs.fake_b) - 1).square().mean(),
            "nce": (self.nce(outputs.fake_b, batch.a) + self.nce(outputs.same_b, batch.b)) / 2,
        }

    def discriminator_loss(self, batch, outputs):
        return {"d": ((self.d(batch.b) - 1).square().mean() + self.d(outputs.fake_b).square().mean()) / 2}


class StyleGAN2(Model[ModelConfig]):
    """Karras et al., CVPR 2020, arXiv:1912.04958: lazy R1 and path length, a slower mapping network, a running mean."""

    data = Images("images")
    fresh_outputs = True
    averaged = ("mapping", "synthesis")

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.mapping, self.synthesis, self.d = net(LATENTS, LATENTS), net(LATENTS, PIXELS), net(PIXELS, 1)
        self.register_buffer("mean", torch.zeros(()))

    def players(self):
        adam = Adam(2.5e-3, (0, 0.99), scale={self.mapping: 0.01})
        path, r1 = Penalty(self.path, every=4), Penalty(self.r1, every=16)
        yield Generators([self.mapping, self.synthesis], self.generator_loss, adam, penalties=[path])
        yield Discriminators([self.d], self.discriminator_loss, Adam(2.5e-3, (0, 0.99)), penalties=[r1])

    def forward(self, batch):
        return Fake(self.synthesis(self.mapping(latents(batch))))

    def generator_loss(self, batch, outputs):
        return {"g": softplus(-self.d(outputs.fake)).mean()}

    def discriminator_loss(self, batch, outputs):
        real = self.d(batch.images)
        terms = {"d": softplus(-real).mean() + softplus(self.d(outputs.fake)).mean()}
        return terms, {"real_sign": real.sign().mean()}

    def r1(self, batch):
        images = batch.images.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.d(images).sum(), images, create_graph=True)
        return {"r1": 0.5 * gradient.square().sum(1).mean()}

    def path(self, batch):
        styles = self.mapping(latents(batch)[::2])
        images = self.synthesis(styles)
        (gradient,) = torch.autograd.grad((images * torch.randn_like(images)).sum() / 4, styles, create_graph=True)
        length = gradient.square().sum(1).sqrt()
        self.mean.lerp_(length.mean().detach(), 0.01)
        return {"path": 2 * (length - self.mean).square().mean()}


class WGANGP(Model[ModelConfig]):
    """Gulrajani et al., NIPS 2017, arXiv:1704.00028: five moves of the critic for one of the generator."""

    data = Images("images")
    fresh_outputs = True

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.g, self.d = net(LATENTS, PIXELS), net(PIXELS, 1)

    def players(self):
        critic = Adam(1e-4, (0, 0.9))
        yield Discriminators([self.d], self.critic_loss, critic, penalties=[Penalty(self.gradient_penalty)])
        yield Generators([self.g], self.generator_loss, Adam(1e-4, (0, 0.9)), every=5)

    def forward(self, batch):
        return Fake(self.g(latents(batch)))

    def generator_loss(self, batch, outputs):
        return {"g": -self.d(outputs.fake).mean()}

    def critic_loss(self, batch, outputs):
        return {"critic": self.d(outputs.fake).mean() - self.d(batch.images).mean()}

    def gradient_penalty(self, batch, outputs):
        between = torch.lerp(outputs.fake, batch.images, torch.rand(len(batch.images), 1)).requires_grad_()
        (gradient,) = torch.autograd.grad(self.d(between).sum(), between, create_graph=True)
        return {"penalty": 10 * (gradient.norm(dim=1) - 1).square().mean()}


class Unrolled(Model[ModelConfig]):
    """Metz et al., ICLR 2017, arXiv:1611.02163: the generator looks five steps of the discriminator ahead."""

    data = Images("images")
    fresh_outputs = True

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.g, self.d = net(LATENTS, PIXELS), net(PIXELS, 1)

    def players(self):
        yield Generators([self.g], self.generator_loss, Adam(1e-3))
        yield Discriminators([self.d], self.discriminator_loss, Adam(1e-4))

    def forward(self, batch):
        return Fake(self.g(latents(batch)))

    def cross_entropy(self, score, batch, outputs):
        return softplus(-score(batch.images)).mean() + softplus(score(outputs.fake)).mean()

    def generator_loss(self, batch, outputs):
        weights = {name: p.detach().requires_grad_() for name, p in self.d.named_parameters()}

        def unrolled_score(images):
            return torch.func.functional_call(self.d, weights, images)

        for _ in range(5):
            loss = self.cross_entropy(unrolled_score, batch, outputs)
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            weights = {name: p - 1e-2 * g for (name, p), g in zip(weights.items(), gradients, strict=True)}
        return {"g": softplus(-unrolled_score(outputs.fake)).mean()}

    def discriminator_loss(self, batch, outputs):
        return {"d": self.cross_entropy(self.d, batch, outputs)}


class VAE(Model[ModelConfig]):
    """Kingma and Welling, ICLR 2014, arXiv:1312.6114: no forward, no discriminator."""

    data = Images("images")

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.encoder, self.decoder = net(PIXELS, 2 * LATENTS), net(LATENTS, PIXELS)

    def players(self):
        yield Generators([self.encoder, self.decoder], self.bound, Adam(1e-3, (0.9, 0.999)))

    def bound(self, batch):
        mean, log_variance = self.encoder(batch.images).chunk(2, 1)
        images = self.decoder(mean + (log_variance / 2).exp() * torch.randn_like(mean))
        return {
            "reconstruction": (images - batch.images).square().sum(1).mean(),
            "kl": self.progress * 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean(),
        }


class Flow(Model[ModelConfig]):
    """Liu, Gong, Liu, ICLR 2023, arXiv:2209.03003: rectified flow between pairs."""

    data = Paired("a", "b")

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.velocity = net(PIXELS + 1, PIXELS)

    def players(self):
        yield Generators([self.velocity], self.matching, Adam(1e-4, (0.9, 0.999)))

    def matching(self, batch):
        time = torch.rand(len(batch.a), 1)
        images = torch.lerp(batch.a, batch.b, time)
        return {"velocity": F.mse_loss(self.velocity(torch.cat([images, time], 1)), batch.b - batch.a)}

    def translate(self, images, *, to, style=None):
        for time in torch.arange(8) / 8:
            images = images + self.velocity(torch.cat([images, time.expand(len(images), 1)], 1)) / 8
        return images


class TwoWays(Model[ModelConfig]):
    """The moves of StarGAN v2 (Choi et al., CVPR 2020, arXiv:1912.01865): two of each player, one of a subset."""

    data = Images("images")

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.g, self.d = net(PIXELS + LATENTS, PIXELS), net(PIXELS, 1)
        self.mapping, self.style = net(LATENTS, LATENTS), net(PIXELS, LATENTS)

    def players(self):
        adam = Adam(1e-4, (0, 0.99), scale={self.mapping: 0.01})
        yield Discriminators([self.d], [self.d_latent, self.d_reference], Adam(1e-4, (0, 0.99)))
        yield Generators(
            [self.g, self.mapping, self.style], [self.g_latent, Move(self.g_reference, networks=[self.g])], adam
        )

    def generate(self, batch, style):
        return self.g(torch.cat([batch.images, style], 1))

    def discriminator_terms(self, batch, style):
        fake = self.generate(batch, style).detach()
        return {"d": softplus(-self.d(batch.images)).mean() + softplus(self.d(fake)).mean()}

    def generator_terms(self, batch, style):
        fake = self.generate(batch, style)
        return {
            "adversarial": softplus(-self.d(fake)).mean(),
            "style": F.l1_loss(self.style(fake), style),
            "diversity": -(1 - self.progress) * F.l1_loss(fake, self.generate(batch, style.flip(0)).detach()),
        }

    def d_latent(self, batch):
        return self.discriminator_terms(batch, self.mapping(latents(batch)))

    def d_reference(self, batch):
        return self.discriminator_terms(batch, self.style(batch.images.flip(0)))

    def g_latent(self, batch):
        return self.generator_terms(batch, self.mapping(latents(batch)))

    def g_reference(self, batch):
        return self.generator_terms(batch, self.style(batch.images.flip(0)))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", [CUT, StyleGAN2, WGANGP, Unrolled, VAE, Flow, TwoWays], ids=lambda kind: kind.__name__)
def test_every_network_of_a_paper_is_trained(kind, precision):
    torch.manual_seed(0)
    model = kind(ModelConfig(), Spec({}))
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    stepper = Stepper(model, device=torch.device("cpu"), precision=precision)
    fields = model.data.fields
    for number in range(STEPS):
        batch = model.data.batch_type(*(torch.randn(BATCH, PIXELS).clamp(-1, 1) for _ in fields))
        stepper.run(batch, number, number / STEPS)
    metrics = stepper.records.read()
    assert all(value == value for value in metrics.values())
    moved = {name.split(".")[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, _ in model.named_children()}
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert {name.split(".")[0] for name in metrics} == {player.name for player in model.players()}


def test_the_running_mean_of_a_penalty_is_state():
    model = StyleGAN2(ModelConfig(), Spec({}))
    assert "mean" in model.state_dict()
