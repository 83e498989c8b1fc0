"""The losses and readers of the core, registered by the same hooks as those of plugins, and after them."""

from __future__ import annotations

from collections.abc import Callable

from translate.plugins.hooks import hookimpl
from translate.plugins.types import AdversarialLoss, Reader


@hookimpl(trylast=True)
def register_losses(register: Callable[[AdversarialLoss], None]) -> None:
    """Register the adversarial losses; imported here, so that `translate --help` does not import torch."""
    from translate.losses import BUILT_IN

    for loss in BUILT_IN:
        register(loss)


@hookimpl(trylast=True)
def register_readers(register: Callable[[Reader], None]) -> None:
    """Register the reader of numpy's files."""
    from translate.data.files.numpy_files import NUMPY

    register(NUMPY)
