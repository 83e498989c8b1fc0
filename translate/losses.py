"""Adversarial losses as functions of a discriminator's raw scores (no sigmoid), and gradient penalties.

Scores are float32 tensors of any shape with the images as first axis. Every loss is a mean over all scores, and every
penalty a mean over images, so that averages over micro-batches and ranks are exact. Plugins offer further losses by
name with `register_losses`. A user may set the weight of a loss's penalty, as in `--adversarial "wgan(penalty=5)"`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor
from torch.nn.functional import softplus

from translate.errors import UsageError
from translate.networks import parse
from translate.plugins import registry
from translate.plugins.types import AdversarialLoss, ScoreFunction


def input_gradients(score: ScoreFunction, images: Tensor) -> Tensor:
    """The gradient of each image's score with respect to its pixels: (N, C·H·W) float32, with its autograd graph.

    images: (N, C, H, W). If an image has several scores, one for each patch, the gradient is that of their mean.
    """
    images = images.detach().requires_grad_()
    scores = score(images).flatten(1).mean(1)  # (N,)
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.flatten(1)


def r1(score: ScoreFunction, images: Tensor) -> Tensor:
    """E ‖∇D(x)‖²: Mescheder, Geiger, Nowozin, ICML 2018, arXiv:1801.04406, eq. 9 without its γ/2."""
    return input_gradients(score, images).square().sum(1).mean()


def gradient_penalty(score: ScoreFunction, real: Tensor, fake: Tensor) -> Tensor:
    """E (‖∇D(x)‖ − 1)² at x between real and fake: Gulrajani et al., NIPS 2017, arXiv:1704.00028, eq. 3 (no λ)."""
    shares = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device)
    norms: Tensor = input_gradients(score, fake + shares * (real - fake)).norm(dim=1)
    return (norms - 1).square().mean()


def zero_centred(score: ScoreFunction, real: Tensor, fake: Tensor) -> Tensor:
    """½ E ‖∇D(x)‖² on real and on fake images (R1 + R2), as in R3GAN: Huang et al., NeurIPS 2024, arXiv:2501.05441."""
    return 0.5 * (r1(score, real) + r1(score, fake))


def bce_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """−E log σ(D(x)) − E log(1 − σ(D(G(z)))): Goodfellow et al., NIPS 2014, arXiv:1406.2661, eq. 1, from logits."""
    return softplus(-real).mean() + softplus(fake).mean()


def bce_generator(fake: Tensor) -> Tensor:
    """−E log σ(D(G(z))): the non-saturating form in section 3 of Goodfellow et al."""
    return softplus(-fake).mean()


def minimax_generator(fake: Tensor) -> Tensor:
    """E log(1 − σ(D(G(z)))): G's part of eq. 1 of Goodfellow et al.; saturates if the discriminator wins."""
    return -softplus(fake).mean()


def lsgan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E (D(x) − 1)² + E D(G(z))²: Mao et al., Least Squares GAN, ICCV 2017, arXiv:1611.04076, eq. 9 without its ½."""
    return (real - 1).square().mean() + fake.square().mean()


def lsgan_generator(fake: Tensor) -> Tensor:
    """E (D(G(z)) − 1)²: eq. 9 of Mao et al. without its ½."""
    return (fake - 1).square().mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E max(0, 1 − D(x)) + E max(0, 1 + D(G(z))): Lim and Ye, Geometric GAN, 2017, arXiv:1705.02894."""
    return (1 - real).relu().mean() + (1 + fake).relu().mean()


def wgan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E D(G(z)) − E D(x): Arjovsky, Chintala, Bottou, ICML 2017, arXiv:1701.07875, eq. 2; needs a Lipschitz penalty."""
    return fake.mean() - real.mean()


def negative_mean(fake: Tensor) -> Tensor:
    """−E D(G(z)): the generator's part of the hinge and of the Wasserstein loss."""
    return -fake.mean()


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E softplus(D(G(z)) − D(x)) over pairs of a batch: Jolicoeur-Martineau, ICLR 2019, arXiv:1807.00734."""
    return softplus(fake - real).mean()


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss with real and fake exchanged."""
    return relativistic_discriminator(fake, real)


BUILT_IN = (
    AdversarialLoss("bce", bce_discriminator, bce_generator, "Non-saturating cross-entropy. Goodfellow 2014."),
    AdversarialLoss("minimax", bce_discriminator, minimax_generator, "Saturating cross-entropy. Goodfellow 2014."),
    AdversarialLoss("lsgan", lsgan_discriminator, lsgan_generator, "Least squares. Mao 2017.", boundary=0.5),
    AdversarialLoss("hinge", hinge_discriminator, negative_mean, "Hinge. Lim and Ye 2017."),
    AdversarialLoss(
        "wgan",
        wgan_discriminator,
        negative_mean,
        "Wasserstein, with the gradient penalty of Gulrajani 2017. Arjovsky 2017.",
        penalty=gradient_penalty,
        penalty_weight=10.0,
    ),
    AdversarialLoss(
        "relativistic",
        relativistic_discriminator,
        relativistic_generator,
        "Real against fake in pairs, with R1 and R2. Huang 2024 (R3GAN).",
        relativistic=True,
        penalty=zero_centred,
        penalty_weight=1.0,
    ),
)


def adversarial(spec: str) -> AdversarialLoss:
    """The adversarial loss that a user named, as in "hinge" or "wgan(penalty=5)". Raises UsageError."""
    name, options = parse(spec)
    loss = registry.losses()[name]
    weight = options.pop("penalty", loss.penalty_weight)
    if options or (loss.penalty is None and weight):
        known = "its one option is penalty, a weight" if loss.penalty else "it has no options"
        raise UsageError(f"The adversarial loss {spec!r} cannot be had: {known}.")
    if type(weight) not in (int, float) or weight < 0:
        raise UsageError(f"The adversarial loss {spec!r} has a penalty of {weight!r}; expected a number from 0.")
    return replace(loss, penalty_weight=float(weight))


def _known(spec: str) -> str:
    try:
        adversarial(spec)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return spec


LossName = Annotated[str, AfterValidator(_known)]
"""The type of a config field that names an adversarial loss: `adversarial: LossName = "lsgan"`."""
