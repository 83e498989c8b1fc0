"""What the core itself offers, by the hooks that every plugin uses. Plugins come first where both offer the same."""

from __future__ import annotations

from collections.abc import Callable

from translate.plugins.hooks import hookimpl
from translate.plugins.types import AdversarialLoss, Reader


@hookimpl(trylast=True)
def register_losses(register: Callable[[AdversarialLoss], None]) -> None:
    """Offer the adversarial losses; imported here, so that asking for help does not load torch."""
    from translate.losses import BUILT_IN

    for loss in BUILT_IN:
        register(loss)


@hookimpl(trylast=True)
def register_readers(register: Callable[[Reader], None]) -> None:
    """Offer the reader of numpy's files."""
    from translate.data.files.numpy_files import NUMPY

    register(NUMPY)
