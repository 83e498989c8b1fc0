import io

import pytest
from rich.console import Console

from translate.formatting import first_few, format_bytes, plural
from translate.progress import progress_bar


def test_sizes_are_for_people():
    assert [format_bytes(size) for size in (5, 29_515, 116_867_962, 2_147_000_000)] == [
        "5 bytes",
        "30 kB",
        "117 MB",
        "2.1 GB",
    ]


def test_many_names_are_three_and_a_number():
    assert (plural(1, "image"), plural(1200, "image")) == ("1 image", "1,200 images")
    assert first_few("abc") == "a, b, c"
    assert first_few("abcd" * 500, "; ") == "a; b; c and 1,997 more"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_bar_shows_a_title_with_brackets_as_it_is(monkeypatch, is_terminal):
    shown = io.StringIO()
    monkeypatch.setattr(
        "rich.console.Console", lambda stderr: Console(file=shown, force_terminal=is_terminal, width=100)
    )
    with progress_bar("reading photos[/red]/", 2) as advance:
        advance()
        advance()
    assert ("reading photos[/red]/" in shown.getvalue()) == is_terminal
