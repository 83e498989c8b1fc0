"""GcGAN: one generator; rotating an image and then translating it must give the same as translating and then rotating.

Fu, Gong, Wang, Batmanghelich, Zhang, Tao: Geometry-Consistent Generative Adversarial Networks for One-Sided
Unsupervised Domain Mapping, CVPR 2019, arXiv:1809.05852. The transformation is the rotation by 90°, one of the paper's
two; the loss weights are those of the authors' code.
Deviation: the default generator is a small context aggregation network (network.py).
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


class GcGANConfig(translate.ModelConfig):
    """Each field is a flag of `translate fit gcgan`."""

    generator: NetworkSpec = Field("can", description="Network of the generator.")
    discriminator: NetworkSpec = Field("patchgan(layers=3)", description="Network of both discriminators.")
    adversarial: LossName = Field("lsgan", description="Adversarial loss.")
    lambda_geometry: float = Field(20.0, ge=0, description="Weight of the geometry consistency.")
    lambda_identity: float = Field(5.0, ge=0, description="Weight of the identity loss.")


class Fakes(NamedTuple):
    """(N, C, H, W) in [-1, 1].

    fake_b: translations of images of domain a. rotated_b: translations of the same images rotated by 90°.
    identity_b: what the generator makes of images of domain b, for the identity loss.
    """

    fake_b: Tensor
    rotated_b: Tensor
    identity_b: Tensor


class GcGAN(translate.Model[GcGANConfig]):
    """Unpaired, one way: rotating and translating an image give the same in either order. Fu et al. 2019."""

    name = "gcgan"
    data = translate.Unpaired("a", "b")
    averaged = ("generator",)
    renamed = {"judge": "discriminator", "judge_turned": "discriminator_rotated"}  # noqa: RUF012  names in older checkpoints

    def __init__(self, config: GcGANConfig, spec: translate.Spec) -> None:
        super().__init__(config, spec)
        self.uses_identity_loss = config.lambda_identity > 0 and spec.a.channels == spec.b.channels
        self.generator = networks.generator(config.generator, spec.a, spec.b)
        self.discriminator = networks.discriminator(config.discriminator, spec.b)
        self.discriminator_rotated = networks.discriminator(config.discriminator, spec.b)
        self.adversarial = losses.adversarial(config.adversarial)

    def players(self) -> Iterator[translate.Player]:
        adam, decay = Adam(2e-4, (0.5, 0.999)), LinearDecay(start=0.5)
        yield Generators([self.generator], self.generator_loss, adam, decay)
        yield Discriminators(
            [self.discriminator, self.discriminator_rotated],
            self.discriminator_loss,
            adam,
            decay,
            pool=("fake_b", "rotated_b"),
            pool_size=50,
            penalties=self.adversarial.penalties(self.penalty),
        )

    def forward(self, batch: translate.Pair) -> Fakes:
        views = [batch.a, rotate(batch.a)]
        if self.uses_identity_loss:
            fake_b, rotated_b, identity_b = networks.forward_batched(self.generator, *views, batch.b)
            return Fakes(fake_b, rotated_b, identity_b)
        fake_b, rotated_b = networks.forward_batched(self.generator, *views)
        return Fakes(fake_b, rotated_b, batch.b)  # no loss uses identity_b

    def generator_loss(self, batch: translate.Pair, fakes: Fakes) -> translate.Terms:
        """Adversarial terms, geometry consistency, and identity on images of domain b."""
        rotated = rotate(batch.b)
        terms = {
            "adversarial": self.adversarial.generator_loss(self.discriminator, batch.b, fakes.fake_b),
            "adversarial_rotated": self.adversarial.generator_loss(
                self.discriminator_rotated, rotated, fakes.rotated_b
            ),
            "geometry": self.config.lambda_geometry * F.l1_loss(fakes.rotated_b, rotate(fakes.fake_b)),
        }
        if self.uses_identity_loss:
            terms["identity"] = self.config.lambda_identity * F.l1_loss(fakes.identity_b, batch.b)
        return terms

    def discriminator_loss(self, batch: translate.Pair, fakes: Fakes) -> tuple[translate.Terms, translate.Terms]:
        """(terms, stats): the sum of the terms is minimised. The stat `real_sign` is logged; ADA adapts to it."""
        real, fake = networks.forward_batched(self.discriminator, batch.b, fakes.fake_b)
        real_rotated, fake_rotated = networks.forward_batched(
            self.discriminator_rotated, rotate(batch.b), fakes.rotated_b
        )
        terms = {
            "adversarial": 0.5 * self.adversarial.discriminator(real, fake),
            "adversarial_rotated": 0.5 * self.adversarial.discriminator(real_rotated, fake_rotated),
        }
        return terms, {"real_sign": self.adversarial.real_sign(torch.cat([real, real_rotated]))}

    def penalty(self, batch: translate.Pair, fakes: Fakes) -> translate.Terms:
        """The penalty of an adversarial loss that has one, such as wgan; `players` declares it."""
        return {
            "penalty": self.adversarial.penalty_loss(self.discriminator, batch.b, fakes.fake_b),
            "penalty_rotated": self.adversarial.penalty_loss(
                self.discriminator_rotated, rotate(batch.b), fakes.rotated_b
            ),
        }

    def translate(self, images: Tensor, *, to: str, style: Tensor | None = None) -> Tensor:
        fake: Tensor = self.generator(images)
        return fake


def rotate(images: Tensor) -> Tensor:
    """Rotate images by 90°: (N, C, H, W) -> (N, C, W, H)."""
    return torch.rot90(images, dims=(2, 3))


@translate.hookimpl
def register_models(register: Callable[[type[translate.Model[Any]]], None]) -> None:
    register(GcGAN)
