"""Writes what every command prints for --help into docs/command-line.md: `python tests/docs/refresh.py`.

With --check nothing is written, and the exit status is 1 if the page is not what the commands print.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"
MARKER = "<!-- what follows is written by tests/docs/refresh.py -->"
ENVIRONMENT = {
    "COLUMNS": "100",
    "NO_COLOR": "1",
    "TERM": "dumb",
    "PYTHONUTF8": "1",  # the frames of the help
    "TRANSLATE_PLUGINS": "translate-img2img",
    "_TYPER_FORCE_DISABLE_TERMINAL": "1",  # CI services force one
}


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command, () for `translate` itself."""
    from typer.core import TyperGroup
    from typer.main import get_command

    from translate.cli.app import app

    def below(words: tuple[str, ...], command: object) -> Iterator[tuple[str, ...]]:
        yield words
        if isinstance(command, TyperGroup):
            for name in command.list_commands(None):
                yield from below((*words, name), command.get_command(None, name))

    return below((), get_command(app))


def help_of(words: tuple[str, ...]) -> str:
    from translate.cli.main import main

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = main([*words, "--help"])
    assert status == 0, f"translate {' '.join(words)} --help has exit status {status}"
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())


def page() -> str:
    by_hand = PAGE.read_text(encoding="utf-8").partition(MARKER)[0].rstrip()
    sections = [f"## {' '.join(('translate', *words))}\n\n```text\n{help_of(words)}\n```\n" for words in commands()]
    return "\n".join([f"{by_hand}\n", f"{MARKER}\n", *sections])


if __name__ == "__main__":
    if {name: os.environ.get(name) for name in ENVIRONMENT} != ENVIRONMENT:  # some of them are read at import only
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ENVIRONMENT)
    with mock.patch(
        "shellingham.detect_shell", return_value=("bash", "bash")
    ):  # help depends on whether there is a shell
        fresh = page()
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != fresh)
    PAGE.write_text(fresh, encoding="utf-8")
