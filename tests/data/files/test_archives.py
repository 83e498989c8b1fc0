import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from translate.data.files import archives, sources
from translate.data.files.readers import read_header
from translate.data.files.sources import open_source
from translate.errors import DataError
from translate.threads import in_parallel


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


@pytest.mark.parametrize("kind", ["x.zip", "x.tar", "x.tar.gz", "x.tar.bz2", "x.tar.xz"])
def test_archives_hold_what_their_folder_holds(draw, tmp_path, kind):
    folder = draw("x/b", 3).parent
    draw("x/a", 2)
    path = tmp_path / kind
    archive = zipped(folder, path) if kind == "x.zip" else tarred(folder, path, "w:" + kind[6:])
    assert contents(archive) == contents(folder)
    assert open_source(archive).title == "x"


@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "/etc/evil.png",
        "a/../../evil.png",
        "C:\\evil.png",
        "..\\evil.png",
        "a/b\\..\\..\\..\\evil.png",
        "\\\\host\\evil.png",
        "a\0b.png",
    ],
)
def test_archive_names_that_point_outside_are_refused(tmp_path, name):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("harmless.png")
        info.filename = info.orig_filename = name
        archive.writestr(info, b"x")
    with pytest.raises(DataError, match=r"x.zip holds the name .* points outside of it; such archives are refused"):
        open_source(path)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(name.replace("\0", "/../../")))
    with pytest.raises(DataError, match="points outside"):
        open_source(tmp_path / "x.tar")


def linked(path, name, target, kind=tarfile.SYMTYPE):
    """An archive with a link and an image, beside which the image is harmless."""
    if path.suffix == ".zip":
        link = zipfile.ZipInfo(name)
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("1.png", b"x")
            archive.writestr(link, target)
    else:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        with tarfile.open(path, "w") as archive:
            archive.addfile(tarfile.TarInfo("1.png"))
            archive.addfile(member)
    return path


@pytest.mark.parametrize("kind", ["x.zip", "x.tar"])
def test_links_in_archives_are_not_followed(tmp_path, kind):
    source = open_source(linked(tmp_path / kind, "a/2.png", "../1.png"))
    assert [entry.name for entry in source.entries] == ["1.png"]
    assert source.others == ("a/2.png (a link)",)


@pytest.mark.parametrize("kind", ["x.zip", "x.tar"])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../1.png", "../a/../../1.png", "..\\..\\1.png", "C:\\1.png"])
def test_an_archive_with_a_link_that_points_outside_is_refused(tmp_path, kind, target):
    with pytest.raises(DataError, match=rf"{kind} holds the link 'a/2.png' to .* points outside of it; such archives"):
        open_source(linked(tmp_path / kind, "a/2.png", target))


def test_hard_links_count_from_the_top_of_the_archive(tmp_path):
    path = tmp_path / "x.tar"
    assert open_source(linked(path, "a/2.png", "1.png", tarfile.LNKTYPE)).others == ("a/2.png (a link)",)
    with pytest.raises(DataError, match="points outside"):
        open_source(linked(path, "a/2.png", "../1.png", tarfile.LNKTYPE))


@pytest.mark.parametrize("kind", ["x.zip", "x.tar.gz"])
def test_bombs_are_refused_with_both_numbers(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(archives, "UNSUSPICIOUS_BYTES", 100_000)
    path = tmp_path / kind
    (tmp_path / "zeros.png").write_bytes(bytes(1_000_000))
    if kind == "x.zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(tmp_path / "zeros.png", "zeros.png")
        text = rf"x.zip declares 1,000,000 unpacked bytes, more than 100 times its own {path.stat().st_size:,};"
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(tmp_path / "zeros.png", "zeros.png")
        text = rf"unpacks to more than [\d,]+ bytes, the limit for its own {path.stat().st_size:,}"
    with pytest.raises(DataError, match=text):
        open_source(path)
    monkeypatch.setattr(archives, "UNSUSPICIOUS_BYTES", 2_000_000)
    assert len(open_source(path).entries) == 1


def test_odd_names_in_archives_can_be_printed(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in ("a//b.png", "./c.png", "\udcff.png"):
            archive.addfile(tarfile.TarInfo(name))
    assert [entry.name for entry in open_source(tmp_path / "x.tar").entries] == ["\\xff.png", "a/b.png", "c.png"]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        dos = zipfile.ZipInfo("harmless.png")
        dos.filename, dos.create_system = "a\\b.png", 0
        archive.writestr(dos, b"x")
        archive.writestr("\\c.png".replace("\\", "d\\"), b"x")
    names = [entry.name for entry in open_source(tmp_path / "x.zip").entries]
    assert names == ["a/b.png", "d\\c.png"], "a backslash is a folder's end on the system that wrote it, or is not"


def test_archives_are_limited_in_number_and_size(draw, tmp_path, monkeypatch):
    archive = zipped(draw("x", 4), tmp_path / "x.zip")
    monkeypatch.setattr(sources, "MAX_FILES", 3)
    with pytest.raises(DataError, match=r"x.zip holds more than 3 files, which is the limit"):
        open_source(archive)
    monkeypatch.setattr(sources, "MAX_FILES", 10)
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 1000)
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
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 100)
    for path in (draw("x", 1), zipped(tmp_path / "x", tmp_path / "x.zip")):
        with pytest.raises(DataError, match=r"0.png: \d+ bytes; a file may have 100"):
            open_source(path).entries[0].read()


def test_the_header_of_a_file_beyond_the_limit_is_not_read_out_of_a_tar(draw, tmp_path, monkeypatch):
    archive = tarred(draw("a", 1), tmp_path / "a.tar", "w")
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 10)
    with pytest.raises(DataError, match=r"0\.png: \d+ bytes; a file may have 10"):
        read_header(open_source(archive).entries[0])


def test_damaged_members_are_named(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", b"x" * 1000)
    data = bytearray(file.getvalue())
    data[40:45] = b"\xff" * 5
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"x.zip/1.png: "):
        open_source(tmp_path / "x.zip").entries[0].read()


def test_an_encrypted_archive_is_said_to_be_one(draw, tmp_path):
    path = zipped(draw("x", 2), tmp_path / "x.zip")
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"x.zip is encrypted: 1 of 2 entries need a password; unpack it"):
        open_source(path)


def test_what_is_no_archive_is_said_so(tmp_path):
    for name, data in {"x.zip": b"<html>not found</html>", "empty.tar": b"", "x.tar.gz": b"\x1f\x8bxxxxx"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=rf"{name} (is no zip or tar archive, despite its name|cannot be read)"):
            open_source(tmp_path / name)


def test_reading_from_several_threads_gives_the_right_bytes(draw, tmp_path):
    folder = draw("x", 40)
    for archive in (zipped(folder, tmp_path / "x.zip"), tarred(folder, tmp_path / "x.tar", "w")):
        entries = open_source(archive).entries
        assert in_parallel(lambda entry: entry.read(), entries) == list(contents(folder).values())


def test_half_an_archive_is_called_incomplete(draw, tmp_path):
    whole = zipped(draw("x", 3), tmp_path / "x.zip").read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"half\.zip is no zip or tar archive, despite its name; it may be incomplete"):
        open_source(tmp_path / "half.zip")
