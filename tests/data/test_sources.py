import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from translate.data import sources
from translate.data.sources import open_source
from translate.errors import DataError


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def tarred(folder: Path, path: Path, mode: str) -> Path:
    with tarfile.open(path, mode) as archive:
        archive.add(folder, ".")
    return path


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


@pytest.mark.parametrize("kind", ["x.zip", "x.tar", "x.tar.gz", "x.tar.bz2", "x.tar.xz"])
def test_archives_hold_what_their_folder_holds(draw, tmp_path, kind):
    folder = draw("x/b", 3).parent
    draw("x/a", 2)
    path = tmp_path / kind
    archive = zipped(folder, path) if kind == "x.zip" else tarred(folder, path, "w:" + kind[6:])
    assert contents(archive) == contents(folder)
    assert open_source(archive).title == "x"


def test_one_file_is_a_source(draw):
    source = open_source(draw("", 1) / "0.png")
    assert [entry.name for entry in source.entries] == ["0.png"]


def test_links_are_followed_but_not_in_circles(draw, tmp_path):
    folder = draw("x", 1)
    draw("elsewhere", 1)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "self").symlink_to(folder)
    (folder / "broken.png").symlink_to(tmp_path / "gone.png")
    source = open_source(folder)
    assert [entry.name for entry in source.entries] == ["0.png", "broken.png", "linked/0.png"]
    with pytest.raises(DataError, match=r"broken.png: No such file"):
        source.entries[1].read()


def test_a_pipe_does_not_block(draw):
    folder = draw("x", 1)
    os.mkfifo(folder / "pipe.png")
    assert [entry.name for entry in open_source(folder).entries] == ["0.png"]


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "C:\\evil.png", "..\\evil.png"])
def test_archive_names_that_point_outside_are_refused(tmp_path, name):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(DataError, match=r"x.zip holds the name .* points outside of it; such archives are refused"):
        open_source(path)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../evil.png"))
    with pytest.raises(DataError, match="points outside"):
        open_source(tmp_path / "x.tar")


def test_archives_are_limited_in_number_and_size(draw, tmp_path, monkeypatch):
    archive = zipped(draw("x", 4), tmp_path / "x.zip")
    monkeypatch.setattr(sources, "MAX_FILES", 3)
    with pytest.raises(DataError, match=r"x.zip holds more than 3 files, which is the limit"):
        open_source(archive)
    monkeypatch.setattr(sources, "MAX_FILES", 10)
    monkeypatch.setattr(sources, "MAX_ARCHIVE_BYTES", 1000)
    with pytest.raises(DataError, match="declares more than 1,000 unpacked bytes"):
        open_source(archive)
    with pytest.raises(DataError, match="unpacks to more than 1,000 bytes"):
        open_source(tarred(tmp_path / "x", tmp_path / "x.tar.gz", "w:gz"))


def test_a_file_of_absurd_declared_size_is_refused_without_reading_it(tmp_path):
    member = tarfile.TarInfo("big.png")
    member.size = 2**40
    (tmp_path / "x.tar").write_bytes(member.tobuf() + bytes(1024))
    with pytest.raises(DataError, match="declares more than 68,719,476,736 unpacked bytes"):
        open_source(tmp_path / "x.tar")


def test_a_file_that_is_larger_than_the_limit_is_refused(draw, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 100)
    for path in (draw("x", 1), zipped(tmp_path / "x", tmp_path / "x.zip")):
        with pytest.raises(DataError, match=r"0.png: \d+ bytes; a file may have 100"):
            open_source(path).entries[0].read()


def test_encrypted_and_damaged_members_are_named(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", b"x" * 1000)
    data = bytearray(file.getvalue())
    data[40:45] = b"\xff" * 5
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"x.zip/1.png: "):
        open_source(tmp_path / "x.zip").entries[0].read()
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "y.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"y.zip/1.png: .*encrypted"):
        open_source(tmp_path / "y.zip").entries[0].read()


def test_what_is_no_archive_is_said_so(tmp_path):
    for name, data in {"x.zip": b"<html>not found</html>", "empty.tar": b"", "x.tar.gz": b"\x1f\x8bxxxxx"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(
            DataError, match=rf"{name} (is neither an image, by its name, nor a zip or tar archive|cannot be read)"
        ):
            open_source(tmp_path / name)


def test_reading_from_several_threads_gives_the_right_bytes(draw, tmp_path):
    folder = draw("x", 40)
    for archive in (zipped(folder, tmp_path / "x.zip"), tarred(folder, tmp_path / "x.tar", "w")):
        entries = open_source(archive).entries
        assert sources.in_parallel(lambda entry: entry.read(), entries) == list(contents(folder).values())
