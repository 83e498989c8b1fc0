"""CUT and FastCUT: unpaired, one way. A contrastive loss matches each translated patch with its source patch.

Park, Efros, Zhang, Zhu: Contrastive Learning for Unpaired Image-to-Image Translation, ECCV 2020, arXiv:2007.15651.
As in the authors' code, and not in the paper's equations: PatchNCE is a mean over levels and positions, where eq. 3
sums; CUT takes the mean of its two PatchNCE losses, where eq. 5 sums; keys get no gradient; the discriminator's loss is
halved. Deviations: FastCUT mirrors each image by chance, not the whole batch; the learning rate decays with every step
rather than every epoch; an average of the generator's weights is kept for inference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import translate
from translate import Adam, Discriminators, Generators, LinearDecay, LossName, NetworkSpec, losses, networks
from translate.errors import UsageError
from translate_networks.layers import initialize

TEMPERATURE = 0.07  # τ of eq. 2
EMBEDDING = 256  # width of the vector that a patch is mapped to


class CUTConfig(translate.ModelConfig):
    """Unpaired translation from domain a to domain b; the defaults are those of the authors."""

    generator: NetworkSpec = Field(
        'resnet(blocks=9, antialias=True, init="xavier")', description="Network of the generator; it has an encoder."
    )
    discriminator: NetworkSpec = Field(
        'patchgan(layers=3, antialias=True, init="xavier")', description="Network of the discriminator."
    )
    adversarial: LossName = Field("lsgan", description="Adversarial loss.")
    lambda_nce: float = Field(1.0, ge=0, description="Weight of the contrastive loss (PatchNCE).")
    patches: int = Field(256, ge=2, description="Patches of an image that are compared, at each level of the encoder.")
    learning_rate: float = Field(
        2e-4, gt=0, description="Learning rate of Adam for all networks; decays to 0 late in the run."
    )


class FastCUTConfig(CUTConfig):
    """CUT for shorter runs: no identity loss, a larger weight of the contrastive loss, mirrored inputs."""

    lambda_nce: float = Field(10.0, ge=0, description="Weight of the contrastive loss (PatchNCE).")


class Translated(NamedTuple):
    """(N, C, H, W) in [-1, 1]. fake_b: translations. identity_b: what the generator makes of images of b."""

    fake_b: Tensor
    identity_b: Tensor


class Mirrored(NamedTuple):
    """fake_b: (N, C, H, W) in [-1, 1], translations. mirrored: bool (N,), which of their sources were mirrored."""

    fake_b: Tensor
    mirrored: Tensor


class CUT(translate.Model[CUTConfig]):
    """Unpaired, one way: patches of source and translation compared by contrast. Park et al. 2020."""

    name = "cut"
    data = translate.Unpaired("a", "b")
    averaged = ("generator",)
    decay: ClassVar[LinearDecay] = LinearDecay(start=0.5)

    def __init__(self, config: CUTConfig, spec: translate.Spec) -> None:
        super().__init__(config, spec)
        if spec.a.channels != spec.b.channels:
            raise UsageError(
                f"{self.name} has one encoder for sources and translations, so both domains need the same number of "
                f"channels; there are {spec.a.channels} and {spec.b.channels}. Convert the images of one, or take "
                "another model."
            )
        self.generator = networks.generator(config.generator, spec.a, spec.b)
        self.discriminator = networks.discriminator(config.discriminator, spec.b)
        self.heads = projection_heads(self.generator, spec.a, config.generator)
        self.adversarial = losses.adversarial(config.adversarial)

    def players(self) -> Iterator[translate.Player]:
        adam = Adam(self.config.learning_rate, (0.5, 0.999))
        penalties = self.adversarial.penalties(self.penalty)
        yield Discriminators([self.discriminator], self.discriminator_loss, adam, self.decay, penalties=penalties)
        yield Generators([self.generator, self.heads], self.generator_loss, adam, self.decay)

    def forward(self, batch: translate.Pair) -> Translated | Mirrored:
        return Translated(*networks.forward_batched(self.generator, batch.a, batch.b))

    def discriminator_loss(
        self, batch: translate.Pair, fakes: Translated | Mirrored
    ) -> tuple[translate.Terms, translate.Terms]:
        """Half of eq. 1."""
        real, fake = networks.forward_batched(self.discriminator, batch.b, fakes.fake_b)
        terms = {"adversarial": 0.5 * self.adversarial.discriminator(real, fake)}
        return terms, {"real_sign": self.adversarial.real_sign(real)}

    def penalty(self, batch: translate.Pair, fakes: Translated | Mirrored) -> translate.Terms:
        """The penalty of an adversarial loss that has one; lsgan has none."""
        return {"penalty": self.adversarial.penalty_loss(self.discriminator, batch.b, fakes.fake_b)}

    def generator_loss(self, batch: translate.Pair, fakes: Any) -> translate.Terms:
        """Eq. 5 with λ_X = λ_Y = λ / 2. The second contrastive loss keeps images of domain b unchanged."""
        weight = self.config.lambda_nce / 2
        return {
            "adversarial": self.adversarial.generator_loss(self.discriminator, batch.b, fakes.fake_b),
            "nce": weight * self.patch_nce(encode(self.generator, fakes.fake_b), encode(self.generator, batch.a)),
            "nce_identity": weight
            * self.patch_nce(encode(self.generator, fakes.identity_b), encode(self.generator, batch.b)),
        }

    def patch_nce(self, queries: list[Tensor], keys: list[Tensor]) -> Tensor:
        """Eq. 3, as a mean over images, levels and positions: each translated patch should be most like its source.

        queries, keys: features of translations and of their sources, (N, C_i, H_i, W_i) for each level. Positions are
        drawn for each level and call; they are the same for all images.
        """
        losses_of_levels = []
        for head, query, key in zip(self.heads, queries, keys, strict=True):
            order = torch.rand(query[0, 0].numel(), device=query.device).argsort()
            positions = order[: self.config.patches]
            losses_of_levels.append(info_nce(embed(head, query, positions), embed(head, key, positions).detach()))
        return torch.stack(losses_of_levels).mean()

    def translate(self, images: Tensor, *, to: str, style: Tensor | None = None) -> Tensor:
        fake: Tensor = self.generator(images)
        return fake


class FastCUT(CUT):
    """CUT for shorter runs: no identity loss, mirrored inputs. Park et al. 2020."""

    name = "fastcut"
    Config = FastCUTConfig
    decay = LinearDecay(start=0.75)  # 150 of 200 epochs, as in the authors' code

    def forward(self, batch: translate.Pair) -> Mirrored:
        mirrored = torch.rand(len(batch.a), device=batch.a.device) < 0.5
        return Mirrored(self.generator(mirror(batch.a, mirrored)), mirrored)

    def generator_loss(self, batch: translate.Pair, fakes: Mirrored) -> translate.Terms:
        """Eq. 5 with λ_Y = 0. Queries are mirrored back: mirroring should commute with translating."""
        queries = [mirror(features, fakes.mirrored) for features in encode(self.generator, fakes.fake_b)]
        return {
            "adversarial": self.adversarial.generator_loss(self.discriminator, batch.b, fakes.fake_b),
            "nce": self.config.lambda_nce * self.patch_nce(queries, encode(self.generator, batch.a)),
        }


def projection_heads(generator: nn.Module, source: translate.DomainSpec, spec: str) -> nn.ModuleList:
    """H of eq. 3: one network with a hidden layer for each level of the encoder, (…, C_i) to (…, EMBEDDING).

    spec: the generator as the user named it, for the message. Raises UsageError if it has no encoder.
    """
    if not hasattr(generator, "encode"):
        raise UsageError(
            f"The generator {spec!r} has no encoder whose features could be compared; take one that has, as 'resnet' "
            f"and 'unet' do."
        )
    # The meta device computes shapes only: no arithmetic, no random numbers, no running statistics.
    images = torch.zeros(1, source.channels, source.size, source.size, device="meta")
    levels = encode(deepcopy(generator).to("meta").eval(), images)
    heads = nn.ModuleList(
        nn.Sequential(nn.Linear(level.shape[1], EMBEDDING), nn.ReLU(), nn.Linear(EMBEDDING, EMBEDDING))
        for level in levels
    )
    initialize(heads, "xavier")
    return heads


def encode(generator: nn.Module, images: Tensor) -> list[Tensor]:
    """The features of a generator's encoder, (N, C_i, H_i, W_i) for each level."""
    levels: list[Tensor] = generator.encode(images)  # type: ignore[operator]  # nn.Module does not know its methods
    return levels


def embed(head: nn.Module, features: Tensor, positions: Tensor) -> Tensor:
    """Map the patches at these positions of features (N, C, H, W) to unit vectors (N, positions, EMBEDDING)."""
    # The gradient of this gather is contiguous. If patches were gathered as rows of features, torch's batch norm could
    # misread the gradient.
    patches = features.flatten(2).index_select(2, positions).transpose(1, 2)  # (N, positions, C)
    return F.normalize(head(patches), dim=2)


def info_nce(queries: Tensor, keys: Tensor) -> Tensor:
    """Eq. 2, as a mean: −log of the share of exp(v·v⁺ / τ) in the sum over all keys of the same image.

    queries, keys: unit vectors (N, positions, EMBEDDING); the key at a query's own position is v⁺, the others are v⁻.
    """
    similarities = (queries @ keys.transpose(1, 2)).float() / TEMPERATURE  # (N, query, key)
    return (similarities.logsumexp(2) - similarities.diagonal(dim1=1, dim2=2)).mean()


def mirror(images: Tensor, which: Tensor) -> Tensor:
    """Flip images or features (N, C, H, W) left to right where `which`, bool (N,), is true."""
    return torch.where(which[:, None, None, None], images.flip(3), images)


@translate.hookimpl
def register_models(register: Callable[[type[translate.Model[Any]]], None]) -> None:
    register(CUT)
    register(FastCUT)
