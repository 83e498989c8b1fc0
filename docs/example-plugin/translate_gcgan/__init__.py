"""Offers the network of this distribution's model, which every other model can use as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import translate

if TYPE_CHECKING:
    from translate.plugins.hooks import RegisterNetwork


@translate.hookimpl
def register_networks(register: RegisterNetwork) -> None:
    """Offer the network. Its module is imported here, so that `translate --help` does not load torch."""
    from translate_gcgan.network import can

    register("can", can, role="generator")
