"""The networks that the built-in models share: ResNet and U-Net generators, PatchGAN and PixelGAN discriminators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import translate

if TYPE_CHECKING:
    from translate.hookspecs import RegisterNetwork


@translate.hookimpl
def register_networks(register: RegisterNetwork) -> None:
    """Offer the networks by name; their modules are imported here, so that asking for help does not load torch."""
    from translate_networks.patchgan import patchgan, pixel
    from translate_networks.resnet import resnet
    from translate_networks.unet import unet

    register("resnet", resnet, role="generator")
    register("unet", unet, role="generator")
    register("patchgan", patchgan, role="discriminator")
    register("pixel", pixel, role="discriminator")
