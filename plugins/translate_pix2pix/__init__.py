"""Pix2Pix: a generator learns from pairs; the discriminator sees input and output together.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017, arXiv:1611.07004.
Deviations: the learning rate decays over the second half of the run, as in the authors' own code; an average of the
generator's weights is kept for inference; the depth of the U-Net follows `--size`, so that its innermost map is one
pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

import translate
from translate import Adam, Discriminators, Generators, LinearDecay, LossName, NetworkSpec, losses, networks


class Pix2PixConfig(translate.ModelConfig):
    """Paired translation from domain a to domain b; the defaults are the paper's."""

    generator: NetworkSpec = Field("unet", description="Network of the generator.")
    discriminator: NetworkSpec = Field('patchgan(layers=3, norm="batch")', description="Network of the discriminator.")
    adversarial: LossName = Field("bce", description="Adversarial loss.")
    lambda_l1: float = Field(100.0, ge=0, description="Weight of the L1 distance to the true image.")
    learning_rate: float = Field(
        2e-4, gt=0, description="Learning rate of Adam for both networks; decays to 0 in the second half."
    )


class Fake(NamedTuple):
    """(N, C, H, W) in [-1, 1]."""

    fake_b: Tensor


class Pix2Pix(translate.Model[Pix2PixConfig]):
    """Paired: the discriminator sees the generator's input and output together. Isola et al. 2017."""

    name = "pix2pix"
    data = translate.Paired("a", "b")
    averaged = ("generator",)
    couples_batch = True  # batch norm, here and when translating
    # Dropout stays on, and batch norm uses the image's own statistics (section 3.4 of the paper).
    inference_mode = "train"

    def __init__(self, config: Pix2PixConfig, spec: translate.Spec) -> None:
        super().__init__(config, spec)
        self.generator = networks.generator(config.generator, spec.a, spec.b)
        self.discriminator = networks.discriminator(config.discriminator, spec.a, spec.b)
        self.adversarial = losses.adversarial(config.adversarial)

    def players(self) -> Iterator[translate.Player]:
        adam, decay = Adam(self.config.learning_rate, (0.5, 0.999)), LinearDecay(start=0.5)
        yield Discriminators(
            [self.discriminator],
            self.discriminator_loss,
            adam,
            decay,
            penalties=self.adversarial.penalties(self.penalty),
            image_channels=slice(self.spec.a.channels, None),
        )
        yield Generators([self.generator], self.generator_loss, adam, decay)

    def forward(self, batch: translate.Pair) -> Fake:
        return Fake(self.generator(batch.a))

    def discriminator_loss(self, batch: translate.Pair, fake: Fake) -> tuple[translate.Terms, translate.Terms]:
        """Half of eq. 1 (section 3.3). Two calls, because batch norm must not mix the statistics of real and fake."""
        score = self.score_function(batch.a)
        real = score(batch.b)
        terms = {"adversarial": 0.5 * self.adversarial.discriminator(real, score(fake.fake_b))}
        return terms, {"real_sign": self.adversarial.real_sign(real)}

    def penalty(self, batch: translate.Pair, fake: Fake) -> translate.Terms:
        """The penalty of an adversarial loss that has one; bce has none."""
        return {"penalty": self.adversarial.penalty_loss(self.score_function(batch.a), batch.b, fake.fake_b)}

    def generator_loss(self, batch: translate.Pair, fake: Fake) -> translate.Terms:
        """Eq. 4 of the paper."""
        return {
            "adversarial": self.adversarial.generator_loss(self.score_function(batch.a), batch.b, fake.fake_b),
            "l1": self.config.lambda_l1 * F.l1_loss(fake.fake_b, batch.b),
        }

    def score_function(self, source: Tensor) -> translate.ScoreFunction:
        """D(source, ·): maps images (N, C, H, W) to raw scores of the patches of (source, image)."""
        return lambda image: self.discriminator(torch.cat([source, image], dim=1))

    def translate(self, images: Tensor, *, to: str, style: Tensor | None = None) -> Tensor:
        fake: Tensor = self.generator(images)
        return fake


@translate.hookimpl
def register_models(register: Callable[[type[translate.Model[Any]]], None]) -> None:
    register(Pix2Pix)
