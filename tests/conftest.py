"""What all tests share: one thread, `--slow`, and a user at a terminal."""

import io

import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take more than ten seconds")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def type_in(monkeypatch):
    """A user at a terminal: call it with what is typed; it returns what is shown on stderr."""

    def answers(text):
        shown = Terminal()
        monkeypatch.setattr("sys.stdin", Terminal(text))
        monkeypatch.setattr("sys.stderr", shown)
        return shown

    return answers
