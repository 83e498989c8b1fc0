import gzip
import io
import os
import zipfile
from pathlib import Path

import numpy
import pytest
from cli import installed
from cli.installed import install
from data.drawn_images import encoded
from downloading import PAIRS, datasets_of_cards, serving, sha256, tarred, write_card, zipped
from PIL import Image

from translate.cache import cache_folder
from translate.data import datasets
from translate.data.datasets import offered, resolve
from translate.data.files import archives, sources
from translate.data.layout.detection import detect_layout
from translate.data.options import DataOptions
from translate.domains import Paired, Unpaired
from translate.errors import DataError, PluginError
from translate.plugins import registry
from translate_cards import cards, downloads

site = installed.site


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """The only data sets are those of the cards in tmp_path/cards."""
    monkeypatch.setattr(registry, "datasets", datasets_of_cards)
    monkeypatch.setattr(cards, "PACKAGED", tmp_path)
    monkeypatch.setenv("TRANSLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRANSLATE_DATASETS", str(tmp_path / "cards"))
    monkeypatch.setattr(downloads, "WAITS", (0, 0))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server(folders, monkeypatch):
    """A server; whoever is asked whether to download says yes."""
    monkeypatch.setattr(datasets, "require_consent", lambda dataset: None)
    with serving() as server:
        yield server


def served(server, tmp_path, content, name="stripes.zip", **card):
    """A card of an archive that is served."""
    server.content[f"/{name}"] = content
    write_card(tmp_path / "cards", f"{server.url}/{name}", **card)


def names(source):
    return [entry.name for entry in source.entries]


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("name", "pack"), [("stripes.zip", zipped), ("stripes.tar.gz", tarred)])
def test_a_cards_domains_are_downloaded_once_and_nothing_else_is_unpacked(server, tmp_path, name, pack):
    served(server, tmp_path, pack({**PAIRS, "stripes/README": b"hello", "stripes/trainC/0.png": encoded()}), name)
    layout = detect_layout(Unpaired(), DataOptions(a="broad", b="fine"))
    assert [(domain.title, len(domain.train), len(domain.held_out)) for domain in layout.domains] == [
        ("broad", 3, 3),
        ("fine", 3, 3),
    ]
    folder = cache_folder() / "datasets" / "stripes-1"
    assert {path.split("/")[1] for path in files_in(folder)} == {"broad", "fine"}
    assert (folder / "train" / "fine" / "2.png").read_bytes() == PAIRS["stripes/trainB/2.png"]
    assert len(server.requests) == 1
    assert files_in(cache_folder() / "downloads") == [f"stripes/{name}.sha256.json"]


def test_side_by_side_images_are_kept_once_for_both_domains(server, tmp_path):
    served(server, tmp_path, zipped({"s/train/1.png": encoded(size=(24, 12)), "s/val/2.png": encoded(size=(24, 12))}))
    card = tmp_path / "cards" / "stripes.toml"
    text = card.read_text()
    for side in "AB":
        half = {"A": "left", "B": "right"}[side]
        text = text.replace(f'"stripes/train{side}"', f'"s/train"\npart = "{half}"').replace(
            f"stripes/test{side}", "s/val"
        )
    card.write_text(text)
    left, right = resolve("broad"), resolve("stripes/fine")
    assert (left.part, right.part) == ("left", "right")
    assert left.location == right.location
    assert files_in(cache_folder() / "datasets" / "stripes-1") == ["test/2.png", "train/1.png"]


def test_files_are_chosen_by_pattern_and_named_by_its_star(server, tmp_path):
    files = {f"stripes/{split}{side}/city/{n}_{kind}.png": encoded() for split in ("train", "test") for side in "AB"
             for n in range(2) for kind in ("color", "ids")}  # fmt: skip
    served(server, tmp_path, zipped(files))
    card = tmp_path / "cards" / "stripes.toml"
    card.write_text(card.read_text().replace("train = ", 'match = "*_color.png"\ntrain = '))
    assert names(resolve("broad")) == ["city/0.png", "city/1.png"]


def test_a_set_without_test_images_holds_none_out(server, tmp_path):
    served(server, tmp_path, zipped(PAIRS))
    card = tmp_path / "cards" / "stripes.toml"
    card.write_text("\n".join(line for line in card.read_text().splitlines() if not line.startswith("test")))
    assert resolve("broad").held_out is None


def test_an_archive_that_is_not_as_the_card_says_is_named(server, tmp_path):
    served(server, tmp_path, zipped({name.replace("trainB", "b"): data for name, data in PAIRS.items()}))
    with pytest.raises(DataError, match=r"stripes.zip should have images in stripes/trainB/ for stripes/fine; none is"):
        resolve("fine")
    assert not (cache_folder() / "datasets" / "stripes-1").exists()
    assert files_in(cache_folder() / "downloads") == []


def test_a_page_instead_of_an_archive_is_not_taken_for_one_later(server, tmp_path):
    served(server, tmp_path, b"<html>Please log in</html>")
    with pytest.raises(DataError, match="is no zip or tar archive, despite its name"):
        resolve("fine")
    server.content["/stripes.zip"] = zipped(PAIRS)
    assert len(names(resolve("fine"))) == 3


def bomb() -> bytes:
    """A zip whose one image declares two gigabytes in some kilobytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(8):
            archive.writestr(f"stripes/trainA/{number}.png", bytes(2**20))
    return stream.getvalue()


HOSTILE = {
    "above": (zipped({**PAIRS, "../evil.png": b"x"}), "points outside"),
    "absolute": (tarred({**PAIRS, "/tmp/evil.png": b"x"}), "points outside"),
    "link": (tarred({**PAIRS, "stripes/trainA/evil": "../../../..", "stripes/trainA/evil/x.png": b"x"}), "evil"),
    "bomb": (bomb(), "refused"),
    "many": (zipped({f"stripes/trainA/{n}.png": b"" for n in range(200)}), "more than 100 files"),
    "truncated": (zipped(PAIRS)[:-200], "archive"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused_before_anything_is_written(server, tmp_path, monkeypatch, kind):
    content, text = HOSTILE[kind]
    monkeypatch.setattr(archives, "UNSUSPICIOUS_BYTES", 2**20)
    monkeypatch.setattr(sources, "MAX_FILES", 100)
    served(server, tmp_path, content, fields=f'sha256 = "{sha256(content)}"')
    before = files_in(tmp_path)
    with pytest.raises(DataError, match=text):
        resolve("fine")
    cache = {os.path.join("cache", path) for path in files_in(cache_folder())}
    assert cache <= {"cache/downloads/stripes/stripes.zip", "cache/datasets/.stripes-1.lock"}
    assert set(files_in(tmp_path)) - cache == set(before)


def test_a_damaged_image_leaves_no_half_set(server, tmp_path):
    content = zipped(PAIRS)
    at = content.index(PAIRS["stripes/trainB/1.png"])
    served(server, tmp_path, content[: at + 40] + b"\0\0\0" + content[at + 43 :])
    with pytest.raises(DataError, match=r"trainB/1\.png: Bad CRC-32"):
        resolve("fine")
    assert not [path for path in (cache_folder() / "datasets").iterdir() if path.is_dir()]


def test_room_for_the_images_is_looked_for_before_the_first_is_written(server, tmp_path, monkeypatch):
    served(server, tmp_path, zipped(PAIRS))
    free = iter([10**9] * 2 + [100])
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": next(free)}))
    with pytest.raises(DataError, match=r"Unpacking stripes needs .* kB, but .* has 100 bytes free"):
        resolve("fine")


def test_what_no_program_may_download_is_asked_for_and_taken_from_the_folder(folders, tmp_path):
    card = write_card(tmp_path / "cards", "http://127.0.0.1/x.zip", more='by_hand = "Register there."')
    card.write_text(card.read_text().replace('urls = ["http://127.0.0.1/x.zip"]', 'name = "x.zip"'))
    folder = cache_folder() / "downloads" / "stripes"
    with pytest.raises(
        DataError, match=f"Register there. Put x.zip into {folder}, then run `translate data get stripes`"
    ):
        resolve("fine")
    (folder / "x.zip").write_bytes(zipped(PAIRS))
    assert len(names(resolve("fine"))) == 3
    assert (folder / "x.zip").exists()


# Asking --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(folders, type_in):
    """A server, and a user who types."""
    with serving() as server:
        yield server, type_in


def test_the_user_is_asked_once_and_told_what_it_costs(terminal, tmp_path):
    server, answers = terminal
    archive = zipped(PAIRS)
    served(server, tmp_path, archive, fields="approximate_bytes = 2_147_000_000")
    shown = answers("n\n")
    with pytest.raises(DataError, match="'stripes' was not downloaded"):
        resolve("fine")
    for text in ("about 2.1 GB", "CC0", "Nobody, 2020", str(cache_folder() / "datasets" / "stripes-1"), "[y/N]"):
        assert text in shown.getvalue()
    server.requests.clear()
    shown = answers("y\n")
    write_card(tmp_path / "cards", f"{server.url}/stripes.zip")
    assert len(names(resolve("fine"))) == 3
    assert f"size:    {len(archive) / 1000:.1f} kB" in shown.getvalue(), "as the server says: the card does not know"
    assert [method for method, _, _ in server.requests] == ["HEAD", "GET"]
    assert len(names(resolve("broad"))) == 3
    assert shown.getvalue().count("[y/N]") == 1


def test_where_nobody_can_be_asked_it_says_what_to_run(terminal, tmp_path, monkeypatch):
    server, answers = terminal
    served(server, tmp_path, zipped(PAIRS))
    answers("y\n")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match="Run `translate data get stripes --yes` first"):
        resolve("fine")
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(DataError, match="licence: CC0"):
        resolve("fine")
    assert server.requests == []


# IDX -----------------------------------------------------------------------------------------------------------------


def idx(array) -> bytes:
    shape = b"".join(int(side).to_bytes(4, "big") for side in array.shape)
    return gzip.compress(bytes((0, 0, 8, array.ndim)) + shape + array.tobytes())


IMAGES = numpy.arange(6 * 28 * 28, dtype=numpy.uint8).reshape(6, 28, 28)
LABELS = numpy.array([2, 0, 1, 1, 0, 2], numpy.uint8)


def serve_idx(server, tmp_path, images=IMAGES, labels=LABELS):
    server.content |= {"/a-images-idx3-ubyte.gz": idx(images), "/a-labels-idx1-ubyte.gz": idx(labels)}
    (tmp_path / "cards").mkdir(exist_ok=True)
    (tmp_path / "cards" / "clothes.toml").write_text(
        'name = "clothes"\nabout = ""\nlicence = ""\ncitation = ""\n'
        f'[[files]]\nurls = ["{server.url}/a-images-idx3-ubyte.gz"]\n'
        f'[[files]]\nurls = ["{server.url}/a-labels-idx1-ubyte.gz"]\n'
        '[domains.worn]\ntrain = "a-images-idx3-ubyte.gz"\nclasses = ["hat", "coat", "boot"]\n'
    )


def test_idx_files_become_images_in_a_folder_for_each_class(server, tmp_path):
    serve_idx(server, tmp_path)
    found = resolve("worn")
    assert names(found) == [
        *("boot/00000.png", "boot/00005.png", "coat/00002.png", "coat/00003.png", "hat/00001.png", "hat/00004.png")
    ]
    with found.entries[2].open() as file:
        assert numpy.array_equal(numpy.asarray(Image.open(file)), IMAGES[2])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"labels": LABELS[:5]}, "has 6 images, and its file of labels 5 labels"),
        ({"labels": LABELS + 1}, "from 0 to 3; expected are as many, from 0 to 2"),
        ({"images": LABELS}, "is no IDX file of bytes in 3 dimensions, or is not whole"),
    ],
)
def test_idx_files_that_do_not_fit_are_refused(server, tmp_path, change, text):
    serve_idx(server, tmp_path, **change)
    with pytest.raises(DataError, match=text):
        resolve("worn")


def test_a_broken_idx_file_is_refused(server, tmp_path):
    serve_idx(server, tmp_path)
    server.content["/a-images-idx3-ubyte.gz"] = idx(IMAGES)[:-20]
    with pytest.raises(DataError, match=r"a-images-idx3-ubyte\.gz cannot be read"):
        resolve("worn")


# Real images ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    "TRANSLATE_TEST_DATA" not in os.environ, reason="TRANSLATE_TEST_DATA names no folder of real images"
)
def test_the_card_of_the_facades_fits_real_ones(server, tmp_path):
    real_data = Path(os.environ["TRANSLATE_TEST_DATA"])
    facades = cards.read_card(cards.CHECKOUT / "facades.toml")
    images = sorted((real_data / "facades" / "val").glob("*.jpg"))[:3]
    archive = tarred(
        {f"facades/{part}/{image.name}": image.read_bytes() for image in images for part in ("train", "test")}
    )
    server.content["/facades.tar.gz"] = archive
    text = (
        (cards.CHECKOUT / "facades.toml").read_text().replace(facades.files[0].urls[0], f"{server.url}/facades.tar.gz")
    )
    text = text.replace(str(facades.files[0].bytes), str(len(archive))).replace("md5 =", "# md5 =")
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "facades.toml").write_text(text)
    photos, labels = resolve("facades/photos"), resolve("labels")
    assert names(photos) == names(labels.held_out) == [image.name for image in images]
    assert (photos.part, labels.part) == ("left", "right")
    layout = detect_layout(Paired(), DataOptions(data="facades"))
    assert [(domain.title, domain.part, len(domain.train)) for domain in layout.domains] == [
        ("photos", "left", 3),
        ("labels", "right", 3),
    ]


# Registration --------------------------------------------------------------------------------------------------------

OTHER = """
import translate

@translate.hookimpl
def register_datasets(register):
    register(translate.Dataset("stripes", ("x",), lambda folder: None))
"""


def test_cards_are_registered_by_the_hook_and_wrong_ones_cost_one_warning_each(site, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRANSLATE_DATASETS", str(tmp_path / "cards"))
    install(site, "translate-cards", {}, others={"cards": "translate_cards"})
    write_card(tmp_path / "cards", "http://127.0.0.1/x.zip")
    (tmp_path / "cards" / "broken.toml").write_text("name = ")
    assert {"stripes", "horse2zebra"} < offered().keys()
    assert list(offered()) == sorted(offered())
    assert registry.datasets().provider("stripes") == "translate-cards (translate_cards)"
    (line,) = capsys.readouterr().err.splitlines()
    assert "broken.toml is no TOML" in line


def test_a_card_and_another_plugin_may_not_offer_one_name(site, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSLATE_DATASETS", str(tmp_path / "cards"))
    install(site, "translate-cards", {}, others={"cards": "translate_cards"})
    install(site, "translate-other", {"other.py": OTHER}, others={"other": "other"})
    write_card(tmp_path / "cards", "http://127.0.0.1/x.zip")
    with pytest.raises(
        PluginError,
        match=r"translate-cards \(translate_cards\) and translate-other \(other\) both offer the data set 'stripes'",
    ):
        offered()
