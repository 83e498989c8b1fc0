"""Images from noise: GAN, DCGAN, conditional GAN and WGAN-GP; they differ in networks and losses.

Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio: Generative Adversarial Nets, NIPS 2014,
    arXiv:1406.2661.
Radford, Metz, Chintala: Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks,
    ICLR 2016, arXiv:1511.06434.
Mirza, Osindero: Conditional Generative Adversarial Nets, 2014, arXiv:1411.1784.
Miyato, Koyama: cGANs with Projection Discriminator, ICLR 2018, arXiv:1802.05637.
Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville: Improved Training of Wasserstein GANs, NIPS 2017, arXiv:1704.00028.

Deviations: an average of the generator's weights is kept for sampling; latents are normally distributed in all models,
as in WGAN-GP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

import translate
from translate import Adam, Discriminators, Generators, LossName, NetworkSpec, losses, networks


class GANConfig(translate.ModelConfig):
    """Images from noise, by fully connected networks."""

    generator: NetworkSpec = Field("mlp", description="Network that makes images of noise.")
    discriminator: NetworkSpec = Field("mlp", description="Network of the discriminator.")
    adversarial: LossName = Field("bce", description="Adversarial loss.")
    latents: int = Field(100, ge=1, description="Random numbers that an image is made of.")
    learning_rate: float = Field(2e-4, gt=0, description="Learning rate of Adam for both networks.")
    discriminator_steps: int = Field(1, ge=1, description="Steps of the discriminator for one of the generator.")


class Fake(NamedTuple):
    """(N, C, H, W) in [-1, 1]."""

    fake: Tensor


class GAN(translate.Model[GANConfig]):
    """From noise: a generator and a discriminator of fully connected layers. Goodfellow et al. 2014.

    Deviation: Adam in place of momentum, as in DCGAN.
    """

    name = "gan"
    data: ClassVar[translate.Images | translate.Labelled] = translate.Images("images")
    preset = {"size": 28, "batch": 64, "augment": "none"}  # noqa: RUF012
    averaged = ("generator",)
    fresh_outputs = True
    couples_batch = True  # batch norm, and random latents
    betas: ClassVar[tuple[float, float]] = (0.5, 0.999)
    """Of Adam."""

    def __init__(
        self,
        config: GANConfig,
        spec: translate.Spec,
        *,
        extra_latents: int = 0,
        extra_channels: int = 0,
        scores: int = 1,
    ) -> None:
        """extra_latents: inputs of the generator besides the latents. extra_channels: of the discriminator's input.

        scores: the discriminator's scores for one image.
        """
        super().__init__(config, spec)
        self.generator = networks.synthesis(config.generator, config.latents + extra_latents, spec.images)
        self.discriminator = networks.discriminator(
            config.discriminator, spec.images, extra_channels=extra_channels, scores=scores
        )
        self.adversarial = losses.adversarial(config.adversarial)

    def players(self) -> Iterator[translate.Player]:
        """Algorithm 1 of Goodfellow et al., and of Gulrajani et al.: k steps of D on fresh batches, then one of G."""
        adam = Adam(self.config.learning_rate, self.betas)
        yield Discriminators(
            [self.discriminator],
            self.discriminator_loss,
            adam,
            penalties=self.adversarial.penalties(self.penalty),
            image_channels=slice(0, self.spec.images.channels),
        )
        yield Generators([self.generator], self.generator_loss, adam, every=self.config.discriminator_steps)

    def forward(self, batch: Any) -> Fake:
        return Fake(self.generator(self.latents(len(batch.images))))

    def score_function(self, batch: Any) -> translate.ScoreFunction:
        """D for images of this batch: (N, C, H, W) -> raw scores (N, 1)."""
        return self.discriminator

    def discriminator_loss(self, batch: Any, outputs: Fake) -> tuple[translate.Terms, translate.Terms]:
        """D's side of eq. 1 of Goodfellow et al. Two calls, because batch norm must not mix real and fake."""
        score = self.score_function(batch)
        real, fake = score(batch.images), score(outputs.fake)
        terms = {"adversarial": self.adversarial.discriminator(real, fake)}
        return terms, {"real_sign": self.adversarial.real_sign(real)}

    def generator_loss(self, batch: Any, outputs: Fake) -> translate.Terms:
        """G's side of eq. 1 of Goodfellow et al.; "bce" is the non-saturating form of their section 3."""
        return {"adversarial": self.adversarial.generator_loss(self.score_function(batch), batch.images, outputs.fake)}

    def penalty(self, batch: Any, outputs: Fake) -> translate.Terms:
        """The penalty of a loss that has one: for "wgan" the last term of eq. 3 of Gulrajani et al."""
        return {"penalty": self.adversarial.penalty_loss(self.score_function(batch), batch.images, outputs.fake)}

    def latents(self, n: int) -> Tensor:
        return torch.randn(n, self.config.latents, device=self.progress.device)

    def sample(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        images: Tensor = self.generator(latents)
        return images


class DCGANConfig(GANConfig):
    """Images from noise, by convolutional networks; the defaults are the paper's, at half its width."""

    generator: NetworkSpec = Field("dcgan", description="Network that makes images of noise.")
    discriminator: NetworkSpec = Field("dcgan", description="Network of the discriminator.")


class DCGAN(GAN):
    """From noise: convolutions and batch norm. Radford et al. 2016."""

    name = "dcgan"
    Config = DCGANConfig
    preset = {"size": 64, "batch": 128, "augment": "flip"}  # noqa: RUF012


class WGANGPConfig(DCGANConfig):
    """Images from noise, with a critic whose gradient is bounded; the defaults are the paper's Algorithm 1's."""

    # Batch norm would make the penalty of one image depend on the others (section 4 of the paper).
    discriminator: NetworkSpec = Field('dcgan(norm="layer")', description="Network of the critic, without batch norm.")
    adversarial: LossName = Field("wgan(penalty=10)", description="Adversarial loss, and the weight of its penalty.")
    latents: int = Field(128, ge=1, description="Random numbers that an image is made of.")
    learning_rate: float = Field(1e-4, gt=0, description="Learning rate of Adam for both networks.")
    discriminator_steps: int = Field(5, ge=1, description="Steps of the critic for one of the generator.")


class WGANGP(GAN):
    """From noise: a critic that estimates the Wasserstein distance, kept smooth by a penalty. Gulrajani et al. 2017."""

    name = "wgan-gp"
    Config = WGANGPConfig
    preset = {"size": 64, "batch": 64, "augment": "flip"}  # noqa: RUF012
    betas = (0.0, 0.9)


class CGANConfig(DCGANConfig):
    """Images of a class from noise; with "mlp" networks it is the paper's, by default it has DCGAN's."""

    conditioning: Literal["concat", "projection"] = Field(
        "concat",
        description="How the discriminator gets the label: as planes beside the image, or as scores to pick from.",
    )


class CGAN(GAN):
    """From noise and a label: both networks get the class. Mirza and Osindero 2014; Miyato and Koyama 2018.

    The generator gets the label one-hot beside the latents (eq. 2 of Mirza and Osindero), the discriminator as constant
    planes beside the image. With "projection", D(x, y) = ψ(φ(x)) + ⟨e_y, φ(x)⟩ (section 3 of Miyato and Koyama): φ is
    the input of the discriminator's last layer. As ψ is linear, that layer has one row for ψ and one for each e_y.
    Deviations: the label enters with the latents, not by a layer of its own; each e_y has a bias, as ψ has.
    """

    name = "cgan"
    data = translate.Labelled("images")
    Config = CGANConfig
    preset = {"size": 64, "batch": 128, "augment": "flip"}  # noqa: RUF012
    config: CGANConfig

    def __init__(self, config: CGANConfig, spec: translate.Spec) -> None:
        classes = len(spec.images.classes)
        concat = config.conditioning == "concat"
        super().__init__(
            config,
            spec,
            extra_latents=classes,
            extra_channels=classes if concat else 0,
            scores=1 if concat else 1 + classes,
        )

    def forward(self, batch: Any) -> Fake:
        """Fakes get the labels of the batch, so that real and fake images are scored with the same labels."""
        return Fake(self.sample(self.latents(len(batch.images)), batch.labels))

    def score_function(self, batch: Any) -> translate.ScoreFunction:
        """D(·, y) with the labels y of this batch: (N, C, H, W) -> raw scores (N, 1)."""
        conditional = self.concat_scores if self.config.conditioning == "concat" else self.projection_scores
        return partial(conditional, batch.labels)

    def concat_scores(self, labels: Tensor, images: Tensor) -> Tensor:
        """D(x|y) of eq. 2 of Mirza and Osindero."""
        planes = self.one_hot(labels)[:, :, None, None].expand(-1, -1, *images.shape[2:])
        scores: Tensor = self.discriminator(torch.cat([images, planes], dim=1))
        return scores

    def projection_scores(self, labels: Tensor, images: Tensor) -> Tensor:
        """ψ(φ(x)) + ⟨e_y, φ(x)⟩ of section 3 of Miyato and Koyama: the common score plus the label's."""
        scores: Tensor = self.discriminator(images)
        common, of_classes = scores.tensor_split([1], dim=1)  # (N, 1), (N, classes)
        return common + of_classes.gather(1, labels[:, None])

    def one_hot(self, labels: Tensor) -> Tensor:
        """(N,) int64 -> (N, classes) float32, without a host synchronisation."""
        return (labels[:, None] == torch.arange(len(self.spec.images.classes), device=labels.device)).float()

    def sample(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None, "a domain with classes has labels"
        images: Tensor = self.generator(torch.cat([latents, self.one_hot(labels)], dim=1))
        return images


@translate.hookimpl
def register_models(register: Callable[[type[translate.Model[Any]]], None]) -> None:
    for model in (GAN, DCGAN, CGAN, WGANGP):
        register(model)
