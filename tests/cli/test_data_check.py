import io
import json
from pathlib import Path

import numpy
import pytest
from PIL import Image


def png(seed=0, size=(40, 30)) -> bytes:
    pixels = numpy.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=numpy.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def horses(tmp_path) -> Path:
    """Two domains, with nothing wrong."""
    for i, name in enumerate(("trainA/a", "trainA/b", "trainB/c", "testA/d", "testB/e")):
        file = tmp_path / "horses" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(i))
    return tmp_path / "horses"


def test_the_report_says_what_there_is_and_how_to_train_on_it(horses, translate):
    answer = translate("data", "check", str(horses))
    assert answer.status == 0
    lines = answer.out.splitlines()
    assert lines[0] == f"{horses}: trainA/ and trainB/ with testA/ and testB/; no pairs by name"
    assert lines[3].split() == ["a,", "train", "trainA/", "2", "40×30", "RGB,", "8", "bit", "2,400", "7.4", "kB"]
    assert f"  translate fit MODEL --data {horses}" in lines
    assert lines[-1].startswith("0 problems, ")
    assert lines[-1].endswith("no contact sheet (--sheet FILE.png writes one)")


def test_a_problem_is_exit_status_one_and_names_three_files(horses, translate):
    for i in range(5):
        (horses / "trainA" / f"x{i}.png").write_bytes(b"")
    answer = translate("data", "check", str(horses))
    assert answer.status == 1
    assert "- 5 files cannot be used" in answer.out
    assert [line for line in answer.out.splitlines() if "the file is empty" in line] == [
        f"    trainA/x{i}.png: the file is empty" for i in range(3)
    ]
    assert "    and 2 more" in answer.out
    printed = json.loads(translate("data", "check", str(horses), "--json").out)
    assert len(printed["problems"][0]["files"]) == 5


def test_json_has_stdout_to_itself(horses, translate):
    answer = translate("data", "check", str(horses / "trainA"), str(horses / "trainB"), "--json")
    printed = json.loads(answer.out)
    assert (answer.status, answer.err) == (0, "")
    assert [split["domain"] for split in printed["splits"]] == ["a", "b", "a", "b"]
    assert printed["fit"]["command"].startswith("translate fit MODEL --a ")


def test_a_contact_sheet_is_written_when_asked_for(horses, translate, tmp_path):
    sheet = tmp_path / "sheet.png"
    answer = translate("data", "check", str(horses), "--sheet", str(sheet))
    assert answer.out.endswith(f"contact sheet in {sheet}\n")
    with Image.open(sheet) as image:
        assert image.size[0] > 80


@pytest.mark.parametrize("sheet", ["sheet.jpg", "nowhere/sheet.png", "horses/sheet.png"])
def test_a_contact_sheet_goes_into_no_folder_of_images(horses, translate, tmp_path, sheet):
    before = sorted(tmp_path.rglob("*"))
    assert translate("data", "check", str(horses), "--sheet", str(tmp_path / sheet)).status == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_a_contact_sheet_that_cannot_be_written_is_one_line(horses, translate, tmp_path):
    (tmp_path / "sheet.png").mkdir()
    answer = translate("data", "check", str(horses), "--sheet", str(tmp_path / "sheet.png"))
    assert answer.status == 1
    assert "could not be written" in answer.err


def test_wrong_arguments_are_wrong_usage(horses, translate):
    assert translate("data", "check").status == 2
    assert translate("data", "check", "a", "b", "c").status == 2
    assert translate("data", "check", str(horses / "none")).status == 1


def test_lines_fit_into_a_narrow_terminal(horses, translate):
    assert max(map(len, translate("data", "check", str(horses)).out.splitlines()[1:8])) < 100
