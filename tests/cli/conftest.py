from collections.abc import Callable
from typing import NamedTuple

import installed
import pytest

from translate.cli.main import main

site = installed.site


class Answer(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def translate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Run the command in this process: its exit status, and what it printed."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> Answer:
        status = main(words)
        out, err = capsys.readouterr()
        return Answer(status, out, err)

    return run
