"""What this distribution offers besides its model: the network that the model uses, for every other model as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import translate

if TYPE_CHECKING:
    from translate.plugins.hooks import RegisterNetwork


@translate.hookimpl
def register_networks(register: RegisterNetwork) -> None:
    """Imported here and not above, so that `translate --help` does not wait for torch."""
    from translate_gcgan.network import can

    register("can", can, role="generator")
