import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from translate import plugins
from translate.cli import app, main

CACHED = (plugins.manager, plugins.load_all, plugins.networks, plugins.losses, plugins.datasets, plugins.commands)


class Answer(NamedTuple):
    status: int
    out: str
    err: str


def forget() -> None:
    for cached in (*CACHED, plugins.model, app._from_function):
        cached.cache_clear()
    plugins._failures.clear()
    plugins._origins.clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the path whose distributions are the only ones that offer plugins; see `installed.install`."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(plugins, "entry_points", lambda group: _entry_points(folder, group))
    forget()
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    forget()


def _entry_points(folder: Path, group: str) -> list[object]:
    from importlib.metadata import distributions

    found = distributions(path=[os.fspath(folder)])
    return [entry for each in found for entry in each.entry_points if entry.group == group]


@pytest.fixture
def translate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Run the command in this process: its exit status, and what it printed."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> Answer:
        status = main(words)
        out, err = capsys.readouterr()
        return Answer(status, out, err)

    return run
