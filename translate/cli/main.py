"""START HERE for the command line: the entry point of the command `translate`.

    app.py               the commands, and how errors are printed
    fit.py, apply.py, …  one module for each command: parsing and printing
    flags.py             options made of the fields of a config
    model_commands.py    commands with a sub-command for each model

Only the standard library is imported before `main` has checked that another distribution has not overwritten the
package `translate`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from translate.cli.name_clash import conflicting_distributions, is_overwritten, remedy


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    arguments: those after `translate`; by default those of the process.
    """
    if is_overwritten():
        clash = f"Another distribution has overwritten the module `translate`. {remedy(conflicting_distributions())}"
        print(f"error: {clash}", file=sys.stderr)
        return 1
    from translate.cli.app import run

    return run(list(sys.argv[1:] if arguments is None else arguments))
