import contextlib
import io
import threading
import time

import pytest
from drawn_images import encoded

from translate.cache import cache_folder
from translate.data.datasets import prepared, resolve, size_of, two_domains_of_set
from translate.data.layout.detection import detect_layout
from translate.data.options import DataOptions
from translate.domains import Unpaired
from translate.errors import DataError, PluginError
from translate.plugins import registry
from translate.plugins.types import Dataset, Download


def prepare(folder):
    for part in ("train", "test"):
        for domain in ("serif", "sans"):
            (folder / part / domain).mkdir(parents=True)
            (folder / part / domain / "x.png").write_bytes(encoded())


@pytest.fixture
def by_plugins(monkeypatch, tmp_path):
    """Data sets that plugins offer; `glyphs` among them."""
    sets = {"glyphs": Dataset("glyphs", ("serif", "sans"), prepare)}
    monkeypatch.setattr(registry, "datasets", lambda: sets)
    monkeypatch.setenv("TRANSLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return sets


def names(source):
    return [entry.name for entry in source.entries]


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_domain_is_found_by_name_and_made_once(by_plugins):
    found = resolve("sans")
    assert (found.title, found.part) == ("sans", None)
    assert names(found) == ["x.png"]
    assert found.held_out.location.endswith("glyphs-1/test/sans/")
    by_plugins["glyphs"] = Dataset("glyphs", ("serif", "sans"), lambda folder: pytest.fail("made twice"))
    assert resolve("glyphs/sans").location == found.location


def test_a_data_set_stands_for_its_domains_in_their_order(by_plugins):
    layout = detect_layout(Unpaired(), DataOptions(data="glyphs"))
    assert [domain.title for domain in layout.domains] == ["serif", "sans"]
    assert layout.paired_held_out


def test_an_existing_path_wins(by_plugins, draw):
    draw("sans", ["mine"])
    assert names(resolve("sans")) == ["mine.png"]
    draw("glyphs", 1)
    assert two_domains_of_set("glyphs") is None


def test_an_empty_text_is_not_the_current_folder():
    with pytest.raises(DataError, match=r"An empty text is given for a folder"):
        resolve("")


@pytest.mark.parametrize("text", ["x" * 300, "no\0name", "x" * 300 + "/y", "~nobody-of-this-name/x"])
def test_texts_that_can_be_no_path_are_unknown_names(by_plugins, text):
    for ask in (resolve, two_domains_of_set):
        with contextlib.suppress(DataError):
            assert ask(text) is None
    with pytest.raises(DataError, match="is no file or folder"):
        resolve(text)


def test_unknown_names_get_near_matches_of_names_and_paths(by_plugins, draw):
    draw("horses", 1)
    with pytest.raises(DataError, match=r"no domain of a data set that is known here. Did you mean 'serif'"):
        resolve("serfi")
    with pytest.raises(DataError, match="Did you mean 'horses'"):
        resolve("hroses")
    with pytest.raises(DataError, match="Domains offered by name: sans, serif"):
        resolve("qqqq")
    with pytest.raises(DataError, match="a data set of several domains; name one of them: glyphs/serif, glyphs/sans"):
        resolve("glyphs")


def test_a_domain_of_two_data_sets_must_be_told_apart(by_plugins):
    by_plugins["letters"] = Dataset("letters", ("sans",), prepare)
    with pytest.raises(DataError, match="'sans' is offered by 2 data sets; say glyphs/sans or letters/sans"):
        resolve("sans")
    with pytest.raises(DataError, match="has one domain, 'sans'; --data needs two"):
        two_domains_of_set("letters")


def test_a_failed_preparation_leaves_nothing_behind(by_plugins):
    def broken(folder):
        (folder / "half").mkdir()
        raise ValueError("no fonts")

    for function, text in ((broken, "ValueError: no fonts"), (lambda folder: None, "made no folder train/d/")):
        with pytest.raises(PluginError, match=text):
            prepared(Dataset("x", ("d",), function))
    assert files_in(cache_folder() / "datasets") in ([], [".x-1.lock"])
    assert not [path for path in (cache_folder() / "datasets").iterdir() if path.is_dir()]


def test_what_a_killed_process_left_is_no_hindrance(by_plugins):
    left = cache_folder() / "datasets" / ".x-1.part" / "train" / "sans"
    left.mkdir(parents=True)
    (left / "half.png").touch()
    folder = prepared(Dataset("x", ("serif", "sans"), prepare))
    assert files_in(folder / "train") == ["sans/x.png", "serif/x.png"]


def test_of_two_that_prepare_at_once_one_waits_and_takes_the_others_work(by_plugins, monkeypatch):
    made, started, shown = [], threading.Event(), io.StringIO()
    monkeypatch.setattr("sys.stderr", shown)

    def slowly(folder):
        made.append(folder)
        started.set()
        while "waiting" not in shown.getvalue():
            time.sleep(0.01)
        prepare(folder)

    dataset = Dataset("x", ("sans", "serif"), slowly)
    folders = []
    threads = [threading.Thread(target=lambda: folders.append(prepared(dataset))) for _ in range(2)]
    threads[0].start()
    started.wait(10)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert folders[0] == folders[1]
    assert len(made) == 1


def test_a_raised_version_is_made_anew(by_plugins):
    assert prepared(Dataset("x", ("sans",), prepare)) != prepared(Dataset("x", ("sans",), prepare, version=2))


def test_a_cache_that_cannot_be_written_is_named(by_plugins, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRANSLATE_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"file/datasets/x-1 cannot be made: .*TRANSLATE_CACHE can name another folder"):
        prepared(Dataset("x", ("sans",), prepare))


# Consent -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def answers(by_plugins, type_in):
    """A user who types."""
    return type_in


def fetched(**download):
    """A data set of a plugin that downloads it."""
    return Dataset(
        "letters", ("upper", "lower"), fetch, licence="CC0", about="Letters.", download=Download(**download),
        citation="Nobody, 2020", homepage="https://example.org/letters",
    )  # fmt: skip


def fetch(folder):
    for domain in ("upper", "lower"):
        (folder / "train" / domain).mkdir(parents=True)
        (folder / "train" / domain / "x.png").write_bytes(encoded())


def test_before_a_plugin_downloads_the_user_sees_what_it_costs_and_is_asked(by_plugins, answers):
    by_plugins["letters"] = fetched(num_bytes=2_147_000_000, approximate=True)
    shown = answers("n\n")
    with pytest.raises(DataError, match="'letters' was not downloaded"):
        resolve("upper")
    folder = cache_folder() / "datasets" / "letters-1"
    assert shown.getvalue() == (
        "letters: Letters.\n"
        "  size:    about 2.1 GB to download\n"
        "  licence: CC0\n"
        "  cite:    Nobody, 2020\n"
        "  from:    https://example.org/letters\n"
        f"  to:      {folder}\n"
        "Download it now? [y/N] "
    )
    assert not folder.exists()
    answers("y\n")
    assert names(resolve("upper")) == ["x.png"]
    shown = answers("")
    assert names(resolve("lower")) == ["x.png"]
    assert shown.getvalue() == "", "it is there by now"


def test_the_server_is_asked_for_an_unknown_size_when_the_user_is(by_plugins, answers):
    asked = []
    by_plugins["letters"] = fetched(ask_server=lambda: asked.append(1) or 1500)
    assert size_of(by_plugins["letters"]) == "unknown"
    assert not asked
    shown = answers("n\n")
    with pytest.raises(DataError, match="not downloaded"):
        resolve("upper")
    assert "size:    1.5 kB to download" in shown.getvalue()


def test_a_size_that_cannot_be_asked_for_is_the_servers_or_the_plugins_fault(by_plugins, answers):
    def unreachable():
        raise DataError("No server answers.")

    for function, error, text in (
        (unreachable, DataError, r"^No server answers\.$"),
        (lambda: 1 / 0, PluginError, "The size of the data set 'letters' could not be found: ZeroDivisionError"),
    ):
        by_plugins["letters"] = fetched(ask_server=function)
        answers("y\n")
        with pytest.raises(error, match=text):
            resolve("upper")


def test_what_a_plugin_downloads_is_not_without_a_terminal(by_plugins):
    by_plugins["letters"] = fetched(num_bytes=1500)
    with pytest.raises(
        DataError, match=r"1\.5 kB to download, licence: CC0\)\. Run `translate data get letters --yes`"
    ):
        resolve("upper")


def test_for_files_that_are_got_by_hand_nobody_is_asked(by_plugins):
    by_plugins["letters"] = fetched(by_hand=True)
    assert names(resolve("upper")) == ["x.png"]
