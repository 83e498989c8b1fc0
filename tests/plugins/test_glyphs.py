import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from translate.data.files.readers import decode
from translate.errors import DataError
from translate.evaluating.paired import errors_by_name, mean_absolute_error
from translate_glyphs import glyphs
from translate_glyphs.demo import well_known


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("glyphs")
    glyphs.prepare(made)
    return made


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def characters(folder: Path) -> set[str]:
    return {chr(int(name[1:].split("-")[0], 16)) for name in names(folder)}


def pixels(folder: Path) -> torch.Tensor:
    """uint8 (N, 1, H, W) of all files, by name."""
    return torch.stack([decode(path.read_bytes(), path.name) for path in sorted(folder.iterdir())])


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(f.relative_to(folder)).encode() + f.read_bytes() for f in files)).hexdigest()


def test_there_are_thousands_of_pairs_and_a_tenth_is_held_out(folder):
    train, test = names(folder / "train" / "sans"), names(folder / "test" / "sans")
    assert len(train) > 5000
    assert 0.07 < len(test) / (len(train) + len(test)) < 0.13
    for part, found in (("train", train), ("test", test)):
        assert found == names(folder / part / "serif")


def test_no_character_and_no_base_letter_is_on_both_sides(folder):
    train, test = characters(folder / "train" / "sans"), characters(folder / "test" / "sans")
    assert not train & test
    for family in ("aáặᵃ", "sśṩₛ", "uůữᵘ", "YŸỶ", "eéѐ"):
        assert set(family) & train == set() or set(family) & test == set()


def test_no_picture_without_serifs_comes_twice_in_one_style(folder):
    for style in ("book", "bold", "italic", "bold-italic"):
        files = [path for path in folder.glob(f"*/sans/*-{style}.png") if path.stem.split("-", 1)[1] == style]
        assert len({decode(path.read_bytes(), path.name).numpy().tobytes() for path in files}) == len(files) > 1000


@pytest.mark.parametrize("domain", ["sans", "serif"])
def test_glyphs_are_black_on_white_and_touch_no_border(folder, domain):
    for part in ("train", "test"):
        images = pixels(folder / part / domain)
        assert images.shape[1:] == (1, glyphs.SIDE, glyphs.SIDE)
        inside = images[:, :, 1:-1, 1:-1].flatten(1)
        border = images.flatten(1).int().sum(1) - inside.int().sum(1)
        assert (border == 255 * (4 * glyphs.SIDE - 4)).all()
        assert (inside.amin(1) < 128).all()


def test_every_pair_differs(folder):
    for part in ("train", "test"):
        sans, serif = (pixels(folder / part / domain).int() for domain in ("sans", "serif"))
        assert ((sans - serif).abs().float().mean((1, 2, 3)) >= 1).all()


def test_both_fonts_share_the_baseline(folder):
    for letter in "HTn":
        (part,) = (part for part in ("train", "test") if letter in characters(folder / part / "sans"))
        for domain in ("sans", "serif"):
            file = folder / part / domain / f"u{ord(letter):04x}-book.png"
            dark_rows = (decode(file.read_bytes(), file.name)[0] < 128).any(1).nonzero()
            assert dark_rows.max() == glyphs.BASELINE - 1


def test_the_bytes_are_the_same_every_time(folder, tmp_path):
    glyphs.prepare(tmp_path)
    assert digest(tmp_path) == digest(folder)


def test_importing_the_plugin_loads_neither_torch_nor_matplotlib():
    code = "import sys, translate_glyphs.demo; sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    source = Path(glyphs.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (source.parent, source)))}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=60, check=False).returncode == 0


def test_the_picture_shows_different_unaccented_letters_in_all_styles(folder):
    shown = well_known((path.stem for path in (folder / "test" / "sans").iterdir()), 12)
    letters = [chr(int(name[1:].split("-")[0], 16)) for name in shown]
    assert len(set(letters)) == 12
    assert sum(letter.isascii() for letter in letters) >= 6
    assert {name.split("-", 1)[1] for name in shown} == set(glyphs.STYLES)


def test_the_error_is_0_for_equal_and_1_for_opposite_images():
    black, white = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.full((2, 1, 4, 4), 255, dtype=torch.uint8)
    assert mean_absolute_error(black, black) == 0
    assert mean_absolute_error(black, white) == 1
    assert mean_absolute_error(torch.full((1, 4), -1.0), torch.zeros(1, 4)) == 0.5


def test_folders_are_compared_by_name(folder, tmp_path):
    test = folder / "test"
    errors = errors_by_name(test / "sans", test / "serif")
    assert errors.keys() == {Path(name).stem for name in names(test / "sans")}
    assert 0.03 < sum(errors.values()) / len(errors) < 0.06
    assert set(errors_by_name(test / "sans", test / "sans").values()) == {0.0}
    with pytest.raises(DataError, match=r"No image in .* has the name of one in"):
        errors_by_name(test / "sans", tmp_path)
    (name, *_) = sorted(names(test / "sans"))
    Image.new("L", (9, 8)).save(tmp_path / name)
    with pytest.raises(DataError, match="differ in size: 9 × 8 and 64 × 64 pixels"):
        errors_by_name(tmp_path, test / "sans")


@pytest.mark.slow
def test_the_demo_trains_translates_and_can_be_repeated(tmp_path):
    source = Path(glyphs.__file__).parents[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (source.parent, source))),
        "TRANSLATE_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    answers = []
    for _ in range(2):
        words = ["demo", "--steps", "30", "--run", "demo"]
        done = subprocess.run(
            [sys.executable, "-m", "translate", *words],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        answers.append(done.stdout)
    assert answers[0] == answers[1]
    assert "left as they are" in answers[0]
    with Image.open(tmp_path / "demo" / "demo.png") as sheet:
        assert sheet.width > 9 * 128
        assert sheet.height > 4 * 128
