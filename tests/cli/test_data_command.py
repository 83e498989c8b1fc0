import json

import pytest
from downloading import PAIRS, datasets_of_cards, serving, write_card, zipped

from translate.cache import cache_folder
from translate.cli.data import app
from translate.errors import DataError, UsageError
from translate.plugins import registry
from translate.plugins.types import Dataset
from translate_cards import cards


@pytest.fixture
def run(capsys):
    """Run `translate data ...`: what it printed on stdout and stderr."""

    def words(*arguments):
        app(list(arguments), prog_name="translate data", standalone_mode=False)
        return capsys.readouterr()

    return words


def registered():
    """The data sets of the cards, and `glyphs`."""
    found = datasets_of_cards()
    found.add("glyphs", Dataset("glyphs", ("sans",), lambda folder: None), "glyphs")
    return found


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with the archive of the card `stripes`; `glyphs` is offered by another plugin."""
    monkeypatch.setattr(cards, "PACKAGED", tmp_path)
    monkeypatch.setattr(registry, "datasets", registered)
    monkeypatch.setenv("TRANSLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRANSLATE_DATASETS", str(tmp_path / "cards"))
    with serving() as server:
        server.content["/x.zip"] = zipped(PAIRS)
        write_card(tmp_path / "cards", f"{server.url}/x.zip")
        yield server


def test_the_list_has_names_domains_size_licence_and_state(server, run, tmp_path):
    write_card(tmp_path / "cards", f"{server.url}/y.zip", "large", "approximate_bytes = 2_147_000_000")
    write_card(tmp_path / "cards", f"{server.url}/y.zip", "locked", more='by_hand = "Register."')
    rows = [line.split("  ") for line in run("list").out.splitlines()]
    rows = {cells[0]: [cell.strip() for cell in cells[1:] if cell] for cells in rows}
    assert rows["name"] == ["domains", "size", "licence", "state"]
    assert rows["large"] == ["broad, fine", "about 2.1 GB", "CC0", "not fetched"]
    assert rows["stripes"] == ["broad, fine", "unknown", "CC0", "not fetched"]
    assert rows["locked"][-1] == "by hand"
    assert rows["glyphs"] == ["sans", "-", "made when it is used"]


def test_the_cards_that_are_shipped_are_listed(run, monkeypatch, tmp_path):
    monkeypatch.setenv("TRANSLATE_DATASETS", str(tmp_path))
    found = {each["name"]: each for each in json.loads(run("list", "--json").out)}
    assert found["horse2zebra"]["domains"] == ["horses", "zebras"]
    assert found["horse2zebra"]["bytes"] == 116_867_962
    assert "Zhu" in found["horse2zebra"]["citation"]


def test_get_shows_what_it_is_first_and_fetches_once(server, run):
    answer = run("get", "stripes", "--yes")
    folder = cache_folder() / "datasets" / "stripes-1"
    assert answer.out == f"stripes is in {folder}\n"
    first = answer.err.index("licence: CC0")
    assert first < answer.err.index("cite:    Nobody, 2020") < answer.err.index("Downloading x.zip")
    assert (folder / "test" / "fine" / "0.png").is_file()
    asked = len(server.requests)
    assert run("get", "stripes").err == ""
    assert len(server.requests) == asked
    (row,) = json.loads(run("get", "stripes", "--json").out)
    assert (row["state"], row["folder"]) == ("here", str(folder))
    assert "stripes  broad, fine  unknown  CC0      here" in run("list").out


def test_get_asks_unless_yes_was_said(server, run):
    with pytest.raises(DataError, match="Run `translate data get stripes --yes` first"):
        run("get", "stripes")
    assert server.requests == []


def test_an_unknown_name_is_wrong_usage_and_nothing_is_fetched(server, run):
    with pytest.raises(UsageError, match=r"There is no data set 'stirpes'. Did you mean 'stripes'"):
        run("get", "stripes", "stirpes", "--yes")
    assert server.requests == []


def test_a_domain_is_no_data_set_but_has_one(server, run):
    with pytest.raises(UsageError, match=r"no data set 'sans'\. It is a domain of glyphs"):
        run("get", "sans")
