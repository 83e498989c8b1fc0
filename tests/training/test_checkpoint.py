"""Checkpoints are complete or absent, and say when they are damaged."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from translate.errors import CheckpointError
from translate.training import checkpoint as checkpoints
from translate.training.checkpoint import MODEL, STATE, TRAINING, Checkpoint

FILES = (MODEL, TRAINING, STATE)


def made(step: int) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    return Checkpoint(
        step,
        {"g.weight": torch.randn(3, 4, 2, 2, generator=generator).to(memory_format=torch.channels_last)},
        {"random.cpu": torch.arange(8, dtype=torch.uint8), "optimizer.step": torch.tensor(float(step))},
    )


def same(one: Checkpoint, other: Checkpoint) -> bool:
    return one.step == other.step and all(
        mine.keys() == yours.keys() and all(torch.equal(mine[name], yours[name]) for name in mine)
        for mine, yours in ((one.model, other.model), (one.training, other.training))
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Checkpoints of steps 1, 2 and 3."""
    for step in (1, 2, 3):
        checkpoints.write(tmp_path, made(step))
    return tmp_path


def test_what_is_written_is_read(folder):
    assert [path.name for path in sorted(folder.iterdir())] == ["000000001", "000000002", "000000003"]
    assert same(checkpoints.read(folder / "000000002"), made(2))
    found, complaints = checkpoints.newest(folder)
    assert same(found, made(3))
    assert not complaints


def test_the_same_state_gives_the_same_bytes(tmp_path):
    one, other = (checkpoints.write(tmp_path / name, made(5)) for name in "ab")
    assert all((one / file).read_bytes() == (other / file).read_bytes() for file in FILES)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("file", FILES)
def test_if_the_newest_is_damaged_the_one_before_is_used_and_said(folder, file, damage):
    damage(folder / "000000003" / file)
    found, (complaint,) = checkpoints.newest(folder)
    assert same(found, made(2))
    assert str(folder / "000000003") in complaint
    assert complaint.endswith("The one before it is used.")


def test_two_damaged_ones_are_both_said_and_if_none_is_whole_that_is_an_error(folder):
    for name in ("000000003", "000000002"):
        (folder / name / STATE).unlink()
    found, complaints = checkpoints.newest(folder)
    assert same(found, made(1))
    assert len(complaints) == 2
    truncate(folder / "000000001" / MODEL)
    with pytest.raises(CheckpointError, match=r"No checkpoint in .* is whole: .*000000003.*000000001.*"):
        checkpoints.newest(folder)


def test_whatever_bit_of_the_state_flips_nothing_else_is_read(folder):
    path = folder / "000000003" / STATE
    whole = path.read_bytes()
    for place in range(0, 8 * len(whole), 11):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            found = checkpoints.read(path.parent)
        except CheckpointError:
            continue
        assert same(found, made(3)), f"bit {place % 8} of {whole[max(0, place // 8 - 20) : place // 8 + 5]}"


@pytest.mark.parametrize("content", ["[]", "3", '"x"', "null", '{"format": 1, "files": [], "step": 3}', "{}"])
def test_a_state_of_another_shape_is_damaged_too(folder, content):
    (folder / "000000003" / STATE).write_text(content)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.read(folder / "000000003")


def test_a_newer_format_says_to_upgrade(folder):
    state = folder / "000000003" / STATE
    state.write_text(json.dumps(json.loads(state.read_text()) | {"format": 2}))
    with pytest.raises(CheckpointError, match="has format 2; upgrade"):
        checkpoints.read(folder / "000000003")


def test_an_empty_or_missing_folder_has_no_checkpoint(tmp_path):
    assert checkpoints.newest(tmp_path) == (None, [])
    assert checkpoints.newest(tmp_path / "missing") == (None, [])


def test_what_an_interrupted_write_left_is_ignored_and_removed(folder):
    shutil.copytree(folder / "000000003", folder / ".writing-000000004")
    found, complaints = checkpoints.newest(folder)
    assert (found.step, complaints) == (3, [])
    checkpoints.write(folder, made(4))
    shutil.copytree(folder / "000000003", folder / ".writing-000000009")
    checkpoints.prune(folder / "000000004", keep=2)
    assert sorted(path.name for path in folder.iterdir()) == ["000000003", "000000004"]


def test_pruning_keeps_the_newest(folder):
    checkpoints.prune(folder / "000000003", keep=5)
    assert len(list(folder.iterdir())) == 3
    checkpoints.prune(folder / "000000003", keep=1)
    assert [path.name for path in folder.iterdir()] == ["000000003"]


def test_pruning_never_keeps_a_damaged_one_for_a_whole_one(folder):
    truncate(folder / "000000003" / MODEL)
    shutil.rmtree(folder / "000000002")
    found, _ = checkpoints.newest(folder)
    assert found.step == 1
    checkpoints.prune(checkpoints.write(folder, made(2)), keep=1)
    assert checkpoints.newest(folder)[0].step == 2


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="could not be written: Not a directory"):
        checkpoints.write(tmp_path / "file", made(4))


# ------------------------------------------------------------------ a full disk

ON_A_SMALL_DISK = """
from pathlib import Path
import sys, torch
from translate.errors import CheckpointError
from translate.atomic_files import write_atomically
from translate.training import checkpoint as checkpoints
from translate.training.checkpoint import Checkpoint

folder = Path(sys.argv[1])
small = Checkpoint(1, {"w": torch.ones(1000)}, {"m": torch.ones(1000)})
checkpoints.write(folder, small)
write_atomically(folder / "file", b"before")
for write in (
    lambda: checkpoints.write(folder, Checkpoint(2, {"w": torch.ones(1000)}, {"m": torch.ones(300_000)})),
    lambda: write_atomically(folder / "file", bytes(2_000_000)),
):
    try:
        write()
    except CheckpointError as error:
        print(error)
found, complaints = checkpoints.newest(folder)
assert found.step == 1 and not complaints
assert torch.equal(found.model["w"], small.model["w"])
print(sorted(path.name for path in folder.iterdir()))
print((folder / "file").read_text())
checkpoints.write(folder, Checkpoint(2, small.model, small.training))
print(checkpoints.newest(folder)[0].step)
"""


def test_a_full_disk_leaves_the_last_checkpoint_whole_and_says_so(tmp_path, small_disk):
    answer = small_disk("1m", [sys.executable, "-c", ON_A_SMALL_DISK, "."])
    assert answer.returncode == 0, answer.stderr
    full, also, names, content, step = answer.stdout.splitlines()
    for sentence in (full, also):
        assert sentence.startswith("The disk is full: ")
        assert "what was saved before is whole" in sentence
    assert names == "['000000001', 'file']"
    assert content == "before"
    assert step == "2", "with room again, it goes on"
