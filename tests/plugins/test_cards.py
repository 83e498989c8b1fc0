import re

import pytest
from downloading import write_card

from translate.errors import DataError
from translate_cards import cards as module
from translate_cards.cards import CHECKOUT, cards, read_card, users_folder

SHIPPED = sorted(CHECKOUT.glob("*.toml"))


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """The user's folder of cards."""
    monkeypatch.setenv("TRANSLATE_DATASETS", str(tmp_path / "mine"))
    return tmp_path / "mine"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_card_that_is_shipped_is_right_and_says_where_its_facts_are_from(path):
    card = read_card(path)
    assert path.read_text().startswith("# Where the facts are from:\n# - ")
    assert re.search(r"\b(19|20)\d\d\b", card.citation)
    assert card.licence
    assert card.about


def test_the_public_sets_of_the_field_are_there(folder):
    names = {"horse2zebra", "apple2orange", "summer2winter_yosemite", "monet2photo", "cezanne2photo", "ukiyoe2photo"}
    names |= {"vangogh2photo", "facades", "maps", "cityscapes", "edges2shoes", "night2day", "fashion-mnist", "afhq"}
    assert cards().keys() == names == {path.stem for path in SHIPPED}
    assert list(cards()["horse2zebra"].domains) == ["horses", "zebras"]
    assert list(cards()["afhq"].domains) == ["cats", "dogs", "wild"]
    assert [domain.part for domain in cards()["facades"].domains.values()] == ["left", "right"]


def test_no_name_is_that_of_a_set_and_of_a_domain_of_another(folder):
    domains = {domain for card in cards().values() for domain in card.domains}
    assert not domains & cards().keys()


def test_cards_of_an_installed_wheel_lie_in_the_package(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PACKAGED", tmp_path / "package")
    write_card(tmp_path / "package", "http://127.0.0.1/x.zip")
    assert list(cards()) == ["stripes"]


def test_a_users_card_is_found_and_replaces_one_of_its_name(folder):
    write_card(folder, "http://127.0.0.1/x.zip")
    write_card(folder, "http://127.0.0.1/mine.zip", "facades")
    assert cards()["stripes"].files[0].name == "x.zip"
    assert cards()["facades"].files[0].urls == ("http://127.0.0.1/mine.zip",)


def test_the_users_folder_is_where_configs_are(monkeypatch, tmp_path):
    monkeypatch.delenv("TRANSLATE_DATASETS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert users_folder() == tmp_path / "translate" / "datasets"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert users_folder() == tmp_path / ".config" / "translate" / "datasets"


def test_a_wrong_card_costs_one_line_and_not_the_others(folder, capsys):
    write_card(folder, "http://127.0.0.1/x.zip")
    (folder / "broken.toml").write_text("name = ")
    found = cards()
    assert "stripes" in found
    assert "broken" not in found
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: The card {folder / 'broken.toml'} is no TOML: ")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            ('about = "Stripes."', 'abuot = "Stripes."'),
            r"about is required.*There is no field abuot.*Did you mean 'about'",
        ),
        (("urls =", "sha265 = 'x'\nurls ="), r"There is no field files\[0\]\.sha265\. Did you mean 'sha256'"),
        (("train = ", "trian = "), r"domains\.broad\.train is required"),
        (("urls =", "sha256 = 'x'\nurls ="), r"files\[0\]\.sha256: String should match"),
        (("http://", "file://"), r"files\[0\]\.urls\[0\]: String should match"),
        (("urls =", "name = '../x'\nurls ="), r"files\[0\]\.name: String should match"),
        (('urls = ["http://127.0.0.1/x.zip"]', ""), "A file needs urls, or, if it is to be got by hand, a name"),
        (('urls = ["http://127.0.0.1/x.zip"]', 'name = "x"'), "The file x has no urls, and by_hand does not say how"),
        (('test = "stripes/testA"', 'part = "left"'), "part goes with two domains, one left and one right"),
        (("train = ", "match = 'x'\ntrain = "), r"domains\.broad\.match: String should match"),
        (('name = "stripes"', 'name = "spots"'), "is of 'spots'; call it spots.toml, or change its name"),
        (("citation", "bytes = 1\ncitation"), "There is no field bytes"),
    ],
)
def test_errors_name_the_file_and_the_field(tmp_path, change, text):
    path = write_card(tmp_path, "http://127.0.0.1/x.zip")
    path.write_text(path.read_text().replace(*change, 1))
    with pytest.raises(DataError, match=f"(?s){re.escape(str(path))} .*{text}"):
        read_card(path)


def test_a_card_that_cannot_be_read_says_so(tmp_path):
    with pytest.raises(DataError, match=r"none\.toml cannot be read: No such file or directory"):
        read_card(tmp_path / "none.toml")
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"x\.toml is no TOML"):
        read_card(tmp_path / "x.toml")


def test_the_card_in_the_documentation_is_one(tmp_path):
    page = (CHECKOUT.parent / "docs" / "datasets.md").read_text()
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "leaves.toml").write_text(text)
    assert list(read_card(tmp_path / "leaves.toml").domains) == ["green", "red"]
