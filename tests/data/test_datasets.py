import threading

import pytest
from drawn_images import encoded

from translate import plugins
from translate.data.datasets import Dataset, cache_folder, prepared, resolve
from translate.data.domains import Unpaired
from translate.data.layouts import recognise
from translate.data.options import DataOptions
from translate.errors import DataError, PluginError


def prepare(folder):
    for part in ("train", "test"):
        for domain in ("serif", "sans"):
            (folder / part / domain).mkdir(parents=True)
            (folder / part / domain / "x.png").write_bytes(encoded())


@pytest.fixture
def offered(monkeypatch, tmp_path):
    """Data sets that plugins offer; `glyphs` among them."""
    datasets = {"glyphs": Dataset("glyphs", ("serif", "sans"), prepare)}
    monkeypatch.setattr(plugins, "datasets", lambda: datasets)
    monkeypatch.setenv("TRANSLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return datasets


def test_a_domain_is_found_by_name_and_made_once(offered):
    found = resolve("sans")
    assert found.title == "sans"
    assert [entry.name for entry in found.train.entries] == ["x.png"]
    assert found.held_out.location.endswith("glyphs-1/test/sans/")
    offered["glyphs"] = Dataset("glyphs", ("serif", "sans"), lambda folder: pytest.fail("made twice"))
    assert resolve("glyphs/sans").train.location == found.train.location


def test_a_data_set_stands_for_its_domains_in_their_order(offered):
    layout = recognise(Unpaired(), DataOptions(data="glyphs"))
    assert [domain.title for domain in layout.domains] == ["serif", "sans"]
    assert layout.paired_held_out


def test_an_existing_path_wins(offered, draw):
    draw("sans", ["mine"])
    assert [entry.name for entry in resolve("sans").train.entries] == ["mine.png"]


def test_unknown_names_get_near_matches_of_names_and_paths(offered, draw):
    draw("horses", 1)
    with pytest.raises(
        DataError, match=r"'serfi' is no file or folder, and no domain that a plugin offers. Did you mean 'serif'"
    ):
        resolve("serfi")
    with pytest.raises(DataError, match="Did you mean 'horses'"):
        resolve("hroses")
    with pytest.raises(DataError, match="Domains offered by name: sans, serif"):
        resolve("qqqq")
    with pytest.raises(DataError, match="a data set of several domains; name one of them: glyphs/serif, glyphs/sans"):
        resolve("glyphs")


def test_a_domain_of_two_data_sets_must_be_told_apart(offered):
    offered["letters"] = Dataset("letters", ("sans",), prepare)
    with pytest.raises(DataError, match="'sans' is offered by 2 data sets; say glyphs/sans or letters/sans"):
        resolve("sans")


def test_a_failed_preparation_leaves_nothing_behind(offered):
    def broken(folder):
        (folder / "half").mkdir()
        raise ValueError("no fonts")

    for function, text in ((broken, "ValueError: no fonts"), (lambda folder: None, "made no folder train/d/")):
        with pytest.raises(PluginError, match=text):
            prepared(Dataset("x", ("d",), function))
    assert list((cache_folder() / "datasets").iterdir()) == []


def test_two_that_prepare_at_once_end_with_one_whole_folder(offered):
    both_inside = threading.Barrier(2)

    def slowly(folder):
        both_inside.wait(10)
        prepare(folder)

    dataset = Dataset("x", ("sans", "serif"), slowly)
    folders = []
    threads = [threading.Thread(target=lambda: folders.append(prepared(dataset))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders[0] == folders[1]
    assert [path.name for path in (cache_folder() / "datasets").iterdir()] == ["x-1"]


def test_a_raised_version_is_made_anew(offered):
    assert prepared(Dataset("x", ("sans",), prepare)) != prepared(Dataset("x", ("sans",), prepare, version=2))
