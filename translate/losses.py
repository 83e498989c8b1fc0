"""Adversarial losses as pure functions of a discriminator's raw scores (no sigmoid), each with its paper.

Scores are float32 tensors of any shape; every loss is a mean over all of them, so that micro-batches and ranks average
exactly. `register_losses` offers further ones by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from translate.hookspecs import hookimpl

if TYPE_CHECKING:  # this module is a plugin, which `translate --help` loads; torch would cost it seconds
    from torch import Tensor


@dataclass(frozen=True)
class AdversarialLoss:
    """A game between a discriminator and a generator.

    discriminator: (real scores, fake scores) -> scalar that the discriminator minimises: the sum of both halves. Papers
    that halve it to slow the discriminator down (Pix2Pix, CycleGAN) do so in the model.
    generator: (fake scores) -> scalar that the generator minimises.
    about: one line for `translate models --networks`, with the paper.
    """

    name: str
    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    about: str


def bce_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """−E log σ(D(x)) − E log(1 − σ(D(G(z)))): Goodfellow et al., NIPS 2014, arXiv:1406.2661, eq. 1, from logits."""
    from torch.nn.functional import softplus

    return softplus(-real).mean() + softplus(fake).mean()


def bce_generator(fake: Tensor) -> Tensor:
    """−E log σ(D(G(z))): the non-saturating form of section 3 there."""
    from torch.nn.functional import softplus

    return softplus(-fake).mean()


def lsgan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E (D(x) − 1)² + E D(G(z))²: Mao et al., Least Squares GAN, ICCV 2017, arXiv:1611.04076, eq. 9 without its ½."""
    return (real - 1).square().mean() + fake.square().mean()


def lsgan_generator(fake: Tensor) -> Tensor:
    """E (D(G(z)) − 1)²: eq. 9 there, likewise without the ½."""
    return (fake - 1).square().mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E max(0, 1 − D(x)) + E max(0, 1 + D(G(z))): Lim and Ye, Geometric GAN, 2017, arXiv:1705.02894."""
    return (1 - real).relu().mean() + (1 + fake).relu().mean()


def wgan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E D(G(z)) − E D(x): Arjovsky, Chintala, Bottou, ICML 2017, arXiv:1701.07875, eq. 2; needs a Lipschitz penalty."""
    return fake.mean() - real.mean()


def negative_mean(fake: Tensor) -> Tensor:
    """−E D(G(z)): the generator's side of the hinge and of the Wasserstein loss."""
    return -fake.mean()


BUILT_IN = (
    AdversarialLoss("bce", bce_discriminator, bce_generator, "Non-saturating cross-entropy. Goodfellow 2014."),
    AdversarialLoss("lsgan", lsgan_discriminator, lsgan_generator, "Least squares. Mao 2017."),
    AdversarialLoss("hinge", hinge_discriminator, negative_mean, "Hinge. Lim and Ye 2017."),
    AdversarialLoss("wgan", wgan_discriminator, negative_mean, "Wasserstein; add a penalty. Arjovsky 2017."),
)


@hookimpl
def register_losses(register: Callable[[AdversarialLoss], None]) -> None:
    for loss in BUILT_IN:
        register(loss)


def adversarial(name: str) -> AdversarialLoss:
    """The registered adversarial loss of that name. Raises UsageError with near matches."""
    from translate import plugins

    return plugins.losses()[name]


def _known(name: str) -> str:
    from translate.errors import UsageError

    try:
        return adversarial(name).name
    except UsageError as error:
        raise ValueError(str(error)) from error


LossName = Annotated[str, AfterValidator(_known)]
"""The type of a config field that names an adversarial loss: `adversarial: LossName = "lsgan"`."""
