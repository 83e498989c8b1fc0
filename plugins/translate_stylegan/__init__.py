"""StyleGAN2 with adaptive augmentation: images from noise, with styles that can be mixed and truncated.

Karras, Laine, Aittala, Hellsten, Lehtinen, Aila: Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020,
arXiv:1912.04958; classes and augmentation from Karras, Aittala, Hellsten, Laine, Lehtinen, Aila: Training Generative
Adversarial Networks with Limited Data, NeurIPS 2020, arXiv:2006.06676; the engine does the augmentation
(`--discriminator-augment`). Deviations: styles are mixed image by image rather than for a whole batch; a conditional
discriminator has one score for each class, the product with a learned vector of the class, without a mapping network
before it; the penalty's gradient treats the running mean of path lengths as a constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from pydantic import Field
from torch import Tensor

import translate
from translate import Adam, Discriminators, Generators, LossName, NetworkSpec, Penalty, losses, networks
from translate_networks.stylegan2.synthesis import MappingNetwork, SynthesisNetwork

BATCH = 32


class StyleGAN2Config(translate.ModelConfig):
    """Images from noise, by class where the folder has sub-folders; the defaults are the paper's for small images."""

    width: int = Field(
        64, ge=1, description="Channels of the synthesis at full resolution; lower ones have up to 8 times as many."
    )
    latents: int = Field(512, ge=1, description="Random numbers behind an image.")
    style_width: int = Field(512, ge=1, description="Numbers of a style.")
    mapping_layers: int = Field(8, ge=1, description="Layers of the mapping from latents to styles.")
    discriminator: NetworkSpec = Field(
        "stylegan2(stddev_group=4, equalized=True)", description="Network of the discriminator."
    )
    adversarial: LossName = Field("bce", description="Adversarial loss; bce is the paper's, non-saturating.")
    mixing: float = Field(0.9, ge=0, le=1, description="Share of the images that get the styles of two latents.")
    gamma: float | None = Field(
        None, ge=0, description=f"Weight of the R1 penalty; by default 0.0002 × size² / {BATCH}, as in StyleGAN2-ADA."
    )
    lambda_path: float = Field(2.0, ge=0, description="Weight of the path length penalty.")
    learning_rate: float = Field(
        2.5e-3, gt=0, description="Learning rate of Adam for all networks; a hundredth for the mapping."
    )


class Batch(Protocol):
    """images: (N, C, size, size) float32 in [-1, 1]; labels: int64 (N,), zeros where there are no classes."""

    images: Tensor
    labels: Tensor


class Fake(NamedTuple):
    """(N, C, size, size), about [-1, 1]."""

    images: Tensor


class StyleGAN2(translate.Model[StyleGAN2Config]):
    """Images from noise, through styles that can be mixed and truncated. Karras et al. 2020."""

    name = "stylegan2"
    data = translate.Labelled("images", optional=True)
    preset = {"batch": BATCH, "size": 64, "augment": "flip", "discriminator_augment": "ada"}  # noqa: RUF012
    averaged = ("mapping", "synthesis")
    average_half_life = 10_000  # of StyleGAN2-ADA for batches of 32
    fresh_outputs = True
    couples_batch = True  # minibatch stddev, and random noise in training

    path_mean: Tensor

    def __init__(self, config: StyleGAN2Config, spec: translate.Spec) -> None:
        super().__init__(config, spec)
        images, classes = spec.images, len(spec.images.classes)
        self.mapping = MappingNetwork(config.latents, config.style_width, classes=classes, layers=config.mapping_layers)
        self.synthesis = SynthesisNetwork(config.style_width, images.channels, size=images.size, width=config.width)
        self.discriminator = networks.discriminator(config.discriminator, images, scores=max(classes, 1))
        self.adversarial = losses.adversarial(config.adversarial)
        self.gamma = 0.0002 * images.size**2 / BATCH if config.gamma is None else config.gamma
        self.register_buffer("path_mean", torch.zeros(()))

    def players(self) -> Iterator[translate.Player]:
        adam = Adam(self.config.learning_rate, (0.0, 0.99))
        path = [Penalty(self.path_length, every=4)] if self.config.lambda_path else []
        penalties = [Penalty(self.r1, every=16)] if self.gamma else []
        penalties += self.adversarial.penalties(self.penalty)
        yield Generators([self.mapping, self.synthesis], self.generator_loss, adam, penalties=path)
        yield Discriminators([self.discriminator], self.discriminator_loss, adam, penalties=penalties)

    def forward(self, batch: Batch) -> Fake:
        return Fake(self.synthesis(self.mixed_styles(batch.labels)))

    def mixed_styles(self, labels: Tensor) -> Tensor:
        """Styles (N, layers, width) with style mixing: of one fresh latent up to a random layer, of another from there.

        Karras, Laine, Aila: A Style-Based Generator Architecture for Generative Adversarial Networks, CVPR 2019,
        arXiv:1812.04948, section 3.1.
        """
        count, layers, device = len(labels), self.synthesis.layers, labels.device
        pairs = self.mapping(self.latents(2 * count), labels.repeat_interleave(2))
        first, second = pairs.unflatten(0, (count, 2)).unbind(1)  # each (N, width)
        change = torch.randint(1, layers, (count, 1), device=device)
        change = torch.where(torch.rand(count, 1, device=device) < self.config.mixing, change, layers)
        late = torch.arange(layers, device=device) >= change  # (N, layers)
        return torch.where(late[:, :, None], second[:, None], first[:, None])

    def score_function(self, labels: Tensor) -> translate.ScoreFunction:
        """D(·, labels): maps images (N, C, size, size) to the raw scores of their classes (N, 1)."""
        return lambda images: self.discriminator(images).gather(1, labels[:, None])

    def generator_loss(self, batch: Batch, fake: Fake) -> translate.Terms:
        score = self.score_function(batch.labels)
        return {"adversarial": self.adversarial.generator_loss(score, batch.images, fake.images)}

    def discriminator_loss(self, batch: Batch, fake: Fake) -> tuple[translate.Terms, translate.Terms]:
        """Two calls, because minibatch stddev must compare real images with real ones and fakes with fakes."""
        score = self.score_function(batch.labels)
        real = score(batch.images)
        terms = {"adversarial": self.adversarial.discriminator(real, score(fake.images))}
        return terms, {"real_sign": self.adversarial.real_sign(real)}

    def r1(self, batch: Batch) -> translate.Terms:
        """γ/2 E ‖∇D(x)‖² (appendix B of StyleGAN2)."""
        return {"r1": self.gamma / 2 * losses.r1(self.score_function(batch.labels), batch.images)}

    def penalty(self, batch: Batch, fake: Fake) -> translate.Terms:
        """The penalty of an adversarial loss that has one; bce has none."""
        return {"penalty": self.adversarial.penalty_loss(self.score_function(batch.labels), batch.images, fake.images)}

    def path_length(self, batch: Batch) -> translate.Terms:
        """E (‖Jᵀy‖ − a)²: eq. 4 of StyleGAN2, on every second image of the batch.

        Jᵀy is the gradient of the inner product of image and Gaussian noise y with respect to the image's styles. Its
        length is the square root of the mean over layers of the squared norm. a is the running mean of lengths before
        this batch, so that the term is a mean over images.
        """
        styles = self.mixed_styles(batch.labels[::2])
        images = self.synthesis(styles)
        noise = torch.randn(images.shape, device=images.device) / math.sqrt(images[0, 0].numel())
        (gradient,) = torch.autograd.grad((images * noise).sum(), styles, create_graph=True)
        lengths = gradient.square().sum(2).mean(1).sqrt()
        expected = self.path_mean.clone()
        self.path_mean.lerp_(lengths.detach().mean(), 0.01)
        return {"path_length": self.config.lambda_path * (lengths - expected).square().mean()}

    def latents(self, n: int) -> Tensor:
        return torch.randn(n, self.config.latents, device=self.progress.device)

    def styles(self, latents: Tensor, labels: Tensor | None = None, truncation: float = 1.0) -> Tensor:
        styles: Tensor = self.mapping(latents, labels, truncation)
        return styles[:, None].expand(-1, self.synthesis.layers, -1)

    def synthesize(self, styles: Tensor) -> Tensor:
        images: Tensor = self.synthesis(styles)
        return images


@translate.hookimpl
def register_models(register: Callable[[type[translate.Model[Any]]], None]) -> None:
    register(StyleGAN2)
