import os
from pathlib import Path

import pytest

from translate.data.files.sources import open_source
from translate.errors import DataError


def contents(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read() for entry in open_source(path).entries}


def test_folder_is_read_recursively_and_sorted_without_hidden_files(draw):
    folder = draw("x/b", ["2", "1"]).parent
    draw("x/a", ["3", ".hidden"])
    draw("x/.git", 1)
    (folder / "notes.txt").write_text("no image")
    source = open_source(folder)
    assert [entry.name for entry in source.entries] == ["a/3.png", "b/1.png", "b/2.png"]
    assert source.others == ("notes.txt",)
    assert list(source.folders()) == ["a", "b"]
    assert source.folders()["b"].location == f"{folder}/b/"
    assert source.entries[0].size == (folder / "a/3.png").stat().st_size


def test_a_run_inside_the_folder_gives_no_images(draw):
    folder = draw("x", ["1"])
    run = draw("x/run/samples", ["000000000"]).parent
    (run / "run.toml").write_text("")
    assert list(contents(folder)) == ["1.png"]
    assert list(contents(run / "samples")) == ["000000000.png"], "named itself, it is a folder like any other"


def test_one_file_is_a_source(draw):
    source = open_source(draw("", 1) / "0.png")
    assert [entry.name for entry in source.entries] == ["0.png"]


def test_links_are_followed_but_not_in_circles(draw, tmp_path):
    folder = draw("x", 1)
    draw("elsewhere", 1)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "self").symlink_to(folder)
    (folder / "broken.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "elsewhere/back").symlink_to(folder)
    (tmp_path / "elsewhere/again").symlink_to(folder)
    (folder / "up").symlink_to(tmp_path)
    (folder / "loop.png").symlink_to(folder / "loop.png")
    source = open_source(folder)
    assert [entry.name for entry in source.entries] == ["0.png", "broken.png", "linked/0.png", "loop.png"]
    with pytest.raises(DataError, match=r"broken.png: No such file"):
        source.entries[1].read()


def test_a_pipe_does_not_block(draw):
    folder = draw("x", 1)
    os.mkfifo(folder / "pipe.png")
    assert [entry.name for entry in open_source(folder).entries] == ["0.png"]
