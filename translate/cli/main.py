"""START HERE for the command line: what the command `translate` runs.

Nothing but the standard library is imported before it is known that the package `translate` is this one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from translate.cli.name_clash import conflicting_distributions, is_overwritten, remedy


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    arguments: the words after `translate`; by default those of the process.
    """
    if is_overwritten():
        clash = f"Another distribution has overwritten the module `translate`. {remedy(conflicting_distributions())}"
        print(f"error: {clash}", file=sys.stderr)
        return 1
    from translate.cli.app import run

    return run(list(sys.argv[1:] if arguments is None else arguments))
