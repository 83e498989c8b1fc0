import contextlib
import socket

import pytest
from downloading import free_port, serving, sha256

from translate.errors import DataError
from translate_cards import downloads
from translate_cards.cards import File
from translate_cards.downloads import download, remember, remote_size, require_space

BODY = bytes(range(256)) * 4000


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "WAITS", (0, 0))
    with serving() as server:
        server.content["/x.zip"] = BODY
        yield server


def file(server, **fields):
    return File(urls=(f"{server.url}/x.zip",), **fields)


def ranges(server):
    return [wanted for _, _, wanted in server.requests]


def test_a_file_arrives_whole_and_is_not_fetched_twice(server, tmp_path):
    path = download(file(server, bytes=len(BODY), sha256=sha256(BODY)), tmp_path)
    assert path.read_bytes() == BODY
    download(file(server), tmp_path)
    assert ranges(server) == [None]
    assert [each.name for each in tmp_path.iterdir()] == ["x.zip"]


@pytest.mark.parametrize("tags", [True, False])
def test_a_download_that_breaks_off_goes_on_from_there(server, tmp_path, tags):
    server.tags = tags
    server.breaks_after = [1000, 500_000]
    path = download(file(server, sha256=sha256(BODY)), tmp_path)
    assert path.read_bytes() == BODY
    assert ranges(server) == [None, "bytes=1000-", "bytes=501000-"]


def test_what_cannot_be_recognised_is_not_gone_on_with(server, tmp_path):
    server.tags = False
    server.breaks_after = [1000]
    assert download(file(server), tmp_path).read_bytes() == BODY
    assert ranges(server) == [None, None]


def test_a_later_run_goes_on_too(server, tmp_path):
    server.breaks_after = [1000, 2000, 3000]
    with pytest.raises(
        DataError, match=r"broke off after 6,000 of 1,024,000 bytes\. Run this again to go on from there"
    ):
        download(file(server), tmp_path)
    assert (tmp_path / "x.zip.part").stat().st_size == 6000
    assert download(file(server), tmp_path).read_bytes() == BODY
    assert ranges(server)[-1] == "bytes=6000-"


def test_a_server_without_ranges_sends_all_of_it_again(server, tmp_path):
    server.ranges = False
    server.breaks_after = [1000]
    assert download(file(server), tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("now", [BODY[::-1], BODY[:500], BODY + BODY])
def test_a_file_that_changed_meanwhile_is_fetched_from_the_start(server, tmp_path, now):
    server.breaks_after = [1000, 1, 1]
    with pytest.raises(DataError):
        download(file(server), tmp_path)
    server.content["/x.zip"] = now
    assert download(file(server), tmp_path).read_bytes() == now


def test_a_range_of_another_version_is_not_glued_on(server, tmp_path, monkeypatch):
    server.tags = False  # so that nothing but the size tells the versions apart
    server.breaks_after = [1000, 1, 1]
    known = file(server, sha256=sha256(BODY + BODY))
    with pytest.raises(DataError):
        download(known, tmp_path)
    server.content["/x.zip"] = BODY + BODY
    assert download(known, tmp_path).read_bytes() == BODY + BODY


@pytest.mark.parametrize("wrong", [{"sha256": "0" * 64}, {"md5": "0" * 32}])
def test_a_wrong_checksum_is_refused_and_removed(server, tmp_path, wrong):
    with pytest.raises(DataError, match=r"where the card says 0{32,}; it was removed\.$"):
        download(file(server, **wrong), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_the_card_does_not_know_is_refused_before_anything_is_written(server, tmp_path):
    with pytest.raises(DataError, match="the server has 1,024,000 bytes, where the card says 7"):
        download(file(server, bytes=7), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", [10, len(BODY) + 10])
def test_a_server_that_lies_about_the_length_is_found_out(server, tmp_path, length):
    server.length = length
    with pytest.raises(DataError, match=r"sha256|broke off"):
        download(file(server, sha256=sha256(BODY)), tmp_path)
    assert not (tmp_path / "x.zip").exists()


def test_the_first_download_is_the_measure_of_later_ones(server, tmp_path):
    path = download(file(server), tmp_path)
    remember(path)
    path.unlink()
    assert download(file(server), tmp_path) == path
    path.unlink()
    server.content["/x.zip"] = BODY[::-1]
    with pytest.raises(
        DataError, match=rf"where the download of 20.*recorded in .*x.zip.sha256.json, had {sha256(BODY)}"
    ):
        download(file(server), tmp_path)
    assert not path.exists()


def test_a_file_that_was_put_there_by_hand_is_checked_and_left(server, tmp_path):
    (tmp_path / "x.zip").write_bytes(b"mine")
    with pytest.raises(
        DataError, match=r"x\.zip has 4 bytes, where the card says 7\. Delete it, or put the right file there"
    ):
        download(file(server, bytes=7), tmp_path)
    assert (tmp_path / "x.zip").read_bytes() == b"mine"
    assert server.requests == []


def test_mirrors_are_tried_in_their_order(server, tmp_path):
    urls = (f"http://127.0.0.1:{free_port()}/x.zip", f"{server.url}/gone.zip", f"{server.url}/x.zip")
    assert download(File(urls=urls), tmp_path).read_bytes() == BODY
    with pytest.raises(DataError, match=r"refuses the connection; .*/gone.zip: the server answers 404 Not Found\.$"):
        download(File(urls=urls[:2], name="y.zip"), tmp_path)


def test_an_error_of_the_server_is_tried_again(server, tmp_path):
    server.status = [503, 500]
    assert download(file(server), tmp_path).read_bytes() == BODY
    server.status = [500] * 9
    with pytest.raises(DataError, match="the server answers 500 Internal Server Error"):
        download(file(server, name="y.zip"), tmp_path)
    assert len(server.requests) == 6


def test_without_a_network_it_says_so_at_once(tmp_path):
    with pytest.raises(DataError, match="the host is not found; this machine may not be connected to the internet"):
        download(File(urls=("http://no-such-host.invalid/x.zip",)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_falls_silent_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT", 0.05)
    monkeypatch.setattr(downloads, "WAITS", ())
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(DataError, match="no answer within"):
            download(File(urls=(f"http://127.0.0.1:{silent.getsockname()[1]}/x.zip",)), tmp_path)


def test_ctrl_c_leaves_only_what_can_be_gone_on_with(server, tmp_path, monkeypatch):
    def press(amount):
        raise KeyboardInterrupt

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(downloads, "BLOCK", 1000)
        meanwhile.setattr(downloads, "byte_progress_bar", lambda *arguments: contextlib.nullcontext(press))
        with pytest.raises(KeyboardInterrupt):
            download(file(server), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.zip.part", "x.zip.part.json"]
    assert download(file(server), tmp_path).read_bytes() == BODY
    assert ranges(server) == [None, "bytes=1000-"]


def test_a_full_disk_is_seen_beforehand(server, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(DataError, match=r"needs 1\.0 MB, but .* has 1\.0 kB free. Make room, or set TRANSLATE_CACHE"):
        download(file(server), tmp_path)
    require_space(tmp_path / "not" / "there", 1000, "It")


def test_the_size_is_asked_of_the_server_without_a_download(server):
    assert remote_size(file(server)) == len(BODY)
    assert server.requests == [("HEAD", "/x.zip", None)]
    with pytest.raises(DataError, match=r"x\.zip cannot be had.*404"):
        remote_size(File(urls=(f"{server.url}/a/x.zip",)))
