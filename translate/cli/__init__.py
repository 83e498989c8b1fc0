"""The command `translate`: one module a command, which parses and prints; the work is done by the functions it calls.

Nothing but the standard library is imported here before it is known that the package `translate` is this one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import packages_distributions

DISTRIBUTION = "translate-img2img"


def rivals() -> list[str]:
    """Other installed distributions with a module `translate`: pip lets them overwrite this one without a word."""
    return sorted({name for name in packages_distributions().get("translate", []) if name != DISTRIBUTION})


def remedy(others: Sequence[str]) -> str:
    """What to do about distributions that share the module's name."""
    names = " ".join(others) or "translate translate-toolkit"
    return (
        f"Run `pip uninstall {names} {DISTRIBUTION}`, then `pip install {DISTRIBUTION}`; "
        "give each an environment of its own if you need both."
    )


def _overwritten() -> bool:
    import translate

    return not hasattr(translate, "_HOMES") or not hasattr(translate, "__version__")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    arguments: the words after `translate`; by default those of the process.
    """
    if _overwritten():
        print(
            f"error: Another distribution has overwritten the module `translate`. {remedy(rivals())}", file=sys.stderr
        )
        return 1
    from translate.cli.app import run

    return run(list(sys.argv[1:] if arguments is None else arguments))
