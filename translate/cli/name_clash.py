"""Finds other distributions with a module called `translate`, with which pip overwrites this one without a warning."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import packages_distributions

DISTRIBUTION = "translate-img2img"  # not from translate.version, which may have been overwritten


def conflicting_distributions() -> list[str]:
    """The other installed distributions with a module `translate`."""
    return sorted({name for name in packages_distributions().get("translate", []) if name != DISTRIBUTION})


def is_overwritten() -> bool:
    """Whether the package `translate` that is imported is another distribution's."""
    package = sys.modules["translate"]  # imported before this module, which is part of it
    return not hasattr(package, "_MODULES") or not hasattr(package, "__version__")


def remedy(others: Sequence[str]) -> str:
    """What to do about distributions that share the module's name."""
    names = " ".join(others) or "translate translate-toolkit"
    return (
        f"Run `pip uninstall {names} {DISTRIBUTION}`, then `pip install {DISTRIBUTION}`; "
        "give each an environment of its own if you need both."
    )
