"""The networks that the built-in models share: generators, discriminators, and generators from noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import translate

if TYPE_CHECKING:
    from translate.plugins.hooks import RegisterNetwork


@translate.hookimpl
def register_networks(register: RegisterNetwork) -> None:
    """Offer the networks by name. Their modules are imported here, so that `translate --help` does not load torch."""
    from translate_networks import dcgan, mlp, patchgan, resnet, unet
    from translate_networks.stylegan2 import discriminator, generator

    register("resnet", resnet.resnet, role="generator")
    register("unet", unet.unet, role="generator")
    register("stylegan2", generator.generator, role="generator")
    register("patchgan", patchgan.patchgan, role="discriminator")
    register("multiscale", patchgan.multiscale, role="discriminator")
    register("pixel", patchgan.pixel, role="discriminator")
    register("dcgan", dcgan.discriminator, role="discriminator")
    register("mlp", mlp.discriminator, role="discriminator")
    register("stylegan2", discriminator.discriminator, role="discriminator")
    register("dcgan", dcgan.synthesis, role="synthesis")
    register("mlp", mlp.synthesis, role="synthesis")
