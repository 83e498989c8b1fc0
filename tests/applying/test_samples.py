import errno
import os

import pytest
import torch
from PIL import Image

from translate.applying.folder import apply
from translate.applying.model_file import write_model_file
from translate.applying.sampler import Sampler, sample_grid
from translate.applying.samples import sample
from translate.contact_sheet import grid
from translate.data.files.readers import decode
from translate.data.images import as_pixels
from translate.errors import CheckpointError, DataError, UsageError

PETS = ("bird", "cat", "dog")
EXACT = {"device": "cpu", "precision": "fp32"}


@pytest.fixture
def model_file(build, tmp_path):
    """Write a tiny sampling model's file and return its path: model_file("discs", classes=("cat", "dog"))."""

    def write(name, **options):
        model = build(name, **options)
        path = tmp_path / f"{name}.safetensors"
        write_model_file(path, model, model.state_dict(), run={"steps": 7, "images": 28, "precision": "fp32"})
        return path

    return write


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def read(path):
    return decode(path.read_bytes(), str(path))


def files(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def close(found, expected):
    """Equal up to rounding to whole numbers."""
    torch.testing.assert_close(found.int(), expected.int(), rtol=0, atol=1)


def test_a_folder_holds_the_image_of_each_seed_under_its_name(model_file, out):
    model = model_file("splash")
    result = sample(model, out, n=5, seed=9, batch=2, **EXACT)
    assert (result.written, result.skipped) == (5, 0)
    assert files(out) == [f"{seed:06d}.png" for seed in range(9, 14)]
    images = as_pixels(Sampler.load(model, "cpu", "fp32")(range(9, 14)))
    close(torch.stack([read(out / name) for name in files(out)]), images)


def test_classes_become_sub_folders_in_turn(model_file, out):
    model = model_file("discs", classes=PETS)
    sample(model, out, n=4, **EXACT)
    assert files(out) == ["bird/000000.png", "bird/000003.png", "cat/000001.png", "dog/000002.png"]
    close(read(out / "dog/000002.png"), as_pixels(Sampler.load(model, "cpu", "fp32")([2], [2])[0]))
    sample(model, out / "chosen", n=2, labels=["dog", "bird"], **EXACT)
    assert files(out / "chosen") == ["bird/000001.png", "dog/000000.png"]


def test_what_exists_is_not_made_again_unless_overwriting(model_file, out):
    model = model_file("splash")
    sample(model, out, n=3, **EXACT)
    made = (out / "000001.png").read_bytes()
    (out / "000001.png").write_bytes(b"mine")
    result = sample(model, out, n=4, **EXACT)
    assert (result.written, result.skipped) == (1, 3)
    assert (out / "000001.png").read_bytes() == b"mine"
    assert sample(model, out, n=4, overwrite=True, **EXACT).written == 4
    assert (out / "000001.png").read_bytes() == made


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_grey_and_transparent_images_stay_so(model_file, out, channels):
    model = model_file("splash", channels=channels)
    for format in ("png", "webp", "tiff"):
        sample(model, out / format, n=1, format=format, **EXACT)
    with Image.open(out / "png/000000.png") as image:
        assert image.mode == ("L", "LA", "RGB", "RGBA")[channels - 1]
    if channels in (2, 4):
        with pytest.raises(DataError, match="JPEG has no transparency"):
            sample(model, out / "jpg", n=1, format="jpg", **EXACT)
        assert files(out / "jpg") == []
    sample(model, out / "ways.gif", interpolate=[1, 2], **EXACT)


def test_one_picture_of_each_kind(model_file, out):
    model = model_file("discs")
    sampler = Sampler.load(model, "cpu", "fp32")
    assert sample(model, out / "grid.png", n=5, seed=2, grid=True, **EXACT).written == 1
    close(read(out / "grid.png"), sample_grid(sampler, 5, seed=2))
    sample(model, out / "ways.png", interpolate=[1, 2, 3], frames=4, truncation=0.7, **EXACT)
    close(read(out / "ways.png"), grid(list(as_pixels(sampler.interpolate([1, 2, 3], 4, truncation=0.7)))))
    sample(model, out / "mixed.tiff", mix=[1, 2, 3], **EXACT)
    mixed = read(out / "mixed.tiff")
    assert mixed.shape[1] == 18 + 3 * 18
    close(mixed[:, -54:, -54:], grid(list(as_pixels(sampler.mix([1, 2, 3]))))[:, 2:, 2:])
    assert files(out) == ["grid.png", "mixed.tiff", "ways.png"]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_passes_each_seed_once_and_plays_for_ever(model_file, out, suffix):
    model = model_file("discs", channels=1)
    sample(model, out / f"ways{suffix}", interpolate=[1, 2, 3], frames=5, **EXACT)
    with Image.open(out / f"ways{suffix}") as image:
        assert (image.n_frames, image.info["loop"]) == (9, 0)
    if suffix == ".webp":
        close(read(out / "ways.webp")[:1], as_pixels(Sampler.load(model, "cpu", "fp32")([1])[0]))


def test_an_interpolation_or_mixture_is_of_the_first_class_by_default(model_file, out):
    model = model_file("discs", classes=PETS)
    sampler = Sampler.load(model, "cpu", "fp32")
    sample(model, out / "birds.png", interpolate=[1, 2], frames=3, **EXACT)
    close(read(out / "birds.png"), grid(list(as_pixels(sampler.interpolate([1, 2], 3, [0, 0])))))
    sample(model, out / "change.png", interpolate=[1, 2], frames=3, labels=["dog", "cat"], **EXACT)
    close(read(out / "change.png"), grid(list(as_pixels(sampler.interpolate([1, 2], 3, [2, 1])))))
    sample(model, out / "mixed.png", mix=[1, 2], **EXACT)


def test_a_picture_that_exists_is_skipped_unless_overwriting(model_file, tmp_path):
    file = tmp_path / "grid.png"
    file.write_bytes(b"mine")
    assert sample("absent", file, grid=True).skipped == 1
    assert file.read_bytes() == b"mine"
    assert sample(model_file("discs"), file, grid=True, n=1, overwrite=True, **EXACT).written == 1
    assert len(read(file)) == 3


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("x.png", {}, "is a file, but samples need a folder; --grid"),
        ("x.gif", {}, "is a file, but samples need a folder; --grid"),
        ("x", {"grid": True}, r"is not the file name of a picture; give a file name that ends in \.jpeg"),
        ("x.gif", {"grid": True}, "--grid makes one picture"),
        ("x.gif", {"mix": [1, 2]}, "--mix makes one picture"),
        ("x.mp4", {"interpolate": [1, 2]}, r"that ends in \.gif, \.jpeg"),
        ("", {"grid": True}, "is a folder; give a file name"),
        ("x.png", {"grid": True, "mix": [1]}, "--grid and --mix make one picture each"),
        ("x.png", {"grid": True, "format": "png"}, "OUTPUT's extension is the format"),
        ("x", {"format": "gif"}, "--format 'gif' is unknown"),
        ("x", {"n": 0}, "must be at least 1"),
        ("x", {"truncation": 0.5}, "no mean style"),
        ("x.png", {"mix": [1, 2]}, "no styles to mix"),
        ("x", {"labels": ["dog"]}, "without classes"),
        ("x.png", {"interpolate": [1]}, "needs two seeds"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_written(model_file, tmp_path, output, options, message):
    model = model_file("splash")
    before = files(tmp_path)
    with pytest.raises(UsageError, match=message):
        sample(model, tmp_path / output, **options, **EXACT)
    assert files(tmp_path) == before


def test_the_wrong_command_for_a_model_names_the_right_one(model_file, tmp_path, out):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    with pytest.raises(UsageError, match="use `translate sample`"):
        apply(model_file("discs"), tmp_path / "x.png", out)


def test_a_strangers_classes_never_lead_out_of_the_folder(model_file, out):
    for name in ("..", ".", "a/b", "/tmp", "", "a\0b"):
        with pytest.raises(CheckpointError, match="cannot be the name of a folder"):
            sample(model_file("discs", classes=("cat", name)), out, n=2, **EXACT)
    assert not out.exists()


def test_a_full_disk_is_reported_and_leaves_only_whole_files(model_file, out, monkeypatch):
    model = model_file("splash")
    replace, left = os.replace, iter(range(3))

    def full(path, target):
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(path, target)

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(CheckpointError, match="The disk is full"):
        sample(model, out, n=8, batch=2, **EXACT)
    assert len(files(out)) == 3
    assert all(read(out / name).shape == (3, 16, 16) for name in files(out))


def test_a_folder_that_cannot_be_made_is_reported(model_file, out):
    out.write_text("a file")
    for output, options in (
        (out / "folder", {}),
        (out / "x.png", {"grid": True}),
        (out / "x.gif", {"interpolate": [1, 2]}),
    ):
        with pytest.raises(CheckpointError, match="could not be written"):
            sample(model_file("splash"), output, n=1, **options, **EXACT)
