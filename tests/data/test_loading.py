import os
import subprocess
import sys

import pytest
import torch
from drawn_images import encoded
from PIL import Image
from pydantic import ValidationError

from translate.data import store
from translate.data.domains import Images, Labelled, Paired, Unpaired
from translate.data.images import decode
from translate.data.loading import open_training_data
from translate.data.options import DataOptions
from translate.errors import DataError

CPU = torch.device("cpu")


def load(needs=None, **options):
    options = {"size": 8, "augment": "none", **options}
    return open_training_data(needs or Unpaired(), DataOptions(**options), CPU)


def constant(folder, count, shade=lambda i: 10 * i):
    """Images of one grey value each, so that a crop tells which image it is from."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("L", (12, 12), shade(i)).save(folder / f"{i}.png")
    return str(folder)


def shades(images):
    return (images[:, 0, 0, 0] + 1).mul(127.5).round().int().tolist()


def test_batches_are_floats_of_the_right_shape_and_range(draw):
    data = load(a=str(draw("a", 5)), b=str(draw("b", 3)), batch=2, augment="crop,flip")
    batch = data.batch(0)
    for images in batch:
        assert images.shape == (2, 3, 8, 8)
        assert images.dtype == torch.float32
        assert -1 <= images.min() < images.max() <= 1
    assert batch._fields == ("a", "b")
    assert data.epoch == 5


def test_a_batch_is_a_pure_function_of_seed_and_step(draw):
    options = {"a": str(draw("a", 5)), "b": str(draw("b", 3)), "batch": 2, "augment": "crop,flip"}
    data, again = load(**options), load(**options)
    batches = [data.batch(step) for step in range(6)]
    for step in (4, 1, 5, 0):
        assert torch.equal(again.batch(step).a, batches[step].a)
        assert torch.equal(again.batch(step).b, batches[step].b)
    assert not torch.equal(load(**options, seed=1).batch(0).a, batches[0].a)


def test_every_image_comes_once_an_epoch_and_the_smaller_domain_goes_around(tmp_path):
    data = load(a=constant(tmp_path / "a", 6), b=constant(tmp_path / "b", 3), batch=2)
    batches = [data.batch(step) for step in range(3)]
    assert sorted(shades(torch.cat([batch.a for batch in batches]))) == [0, 10, 20, 30, 40, 50]
    assert sorted(shades(torch.cat([batch.b for batch in batches]))) == [0, 0, 10, 10, 20, 20]


def test_pairs_share_order_and_geometry(tmp_path, draw):
    a, b = draw("a", 6), tmp_path / "b"
    b.symlink_to(a)
    for step in range(6):
        batch = load(Paired(), a=str(a), b=str(b), augment="crop,flip", batch=3).batch(step)
        assert torch.equal(batch.a, batch.b)


def test_unpaired_domains_share_neither(tmp_path):
    folder = constant(tmp_path / "a", 20)
    data = load(a=folder, b=folder)
    assert sum(shades(data.batch(step).a) == shades(data.batch(step).b) for step in range(40)) < 12


def test_crops_are_cut_from_the_resized_image_without_resampling(draw):
    folder = draw("a", 1, size=(10, 10))
    image = decode((folder / "0.png").read_bytes(), "x")
    crops = {image[:, y : y + 8, x : x + 8].numpy().tobytes() for y in range(3) for x in range(3)}
    data = load(Images(), images=str(folder), augment="crop", load_size=10)
    seen = {(data.batch(step).images[0] + 1).mul(127.5).round().byte().numpy().tobytes() for step in range(100)}
    assert seen == crops


def test_the_reference_resizes_to_286_for_crops_of_256():
    assert DataOptions().stored_size == 286
    assert DataOptions(augment="flip").stored_size == 256
    assert DataOptions(size=128).stored_size == 143
    assert DataOptions(load_size=300).stored_size == 300


def test_side_by_side_images_are_cut_and_swapped(draw):
    folder = draw("x", 2, size=(16, 8))
    whole = decode((folder / "0.png").read_bytes(), "x")
    for swap, expected in ((False, (whole[:, :, :8], whole[:, :, 8:])), (True, (whole[:, :, 8:], whole[:, :, :8]))):
        data = load(Paired(), data=str(folder), swap=swap)
        for images, half in zip(data.held_out(2), expected, strict=True):
            assert torch.equal((images[0] + 1).mul(127.5).round().byte(), half)
        assert data.spec.a.part == ("right" if swap else "left")


def test_labels_go_with_their_images(tmp_path):
    constant(tmp_path / "x" / "dark", 3)
    constant(tmp_path / "x" / "light", 3, lambda i: 200 + i)
    data = load(Labelled(), images=str(tmp_path / "x"), batch=6)
    batch = data.batch(0)
    assert batch.labels.dtype == torch.int64
    assert [shade >= 200 for shade in shades(batch.images)] == [bool(label) for label in batch.labels]
    assert data.spec.images.classes == ("dark", "light")
    held_out = data.held_out(4)
    assert [shade >= 200 for shade in shades(held_out.images)] == [bool(label) for label in held_out.labels]


def test_without_classes_all_labels_are_0(tmp_path, draw):
    data = load(Labelled(optional=True), images=str(draw("plain", 4)), batch=3)
    assert data.batch(0).labels.tolist() == [0, 0, 0]
    assert data.held_out(2).labels.tolist() == [0, 0]


def test_held_out_images_are_spread_evenly_and_match_where_names_do(tmp_path):
    options = {name: constant(tmp_path / name, 2) for name in ("a", "b")}
    options |= {name: constant(tmp_path / name, 10) for name in ("test_a", "test_b")}
    data = load(**options, augment="crop,flip")
    assert data.paired_held_out
    assert shades(data.held_out(5).a) == shades(data.held_out(5).b) == [0, 20, 40, 60, 80]
    assert len(data.held_out(99).a) == 10


def test_training_images_stand_in_for_held_out_ones(tmp_path):
    data = load(a=constant(tmp_path / "a", 4), b=constant(tmp_path / "b", 8))
    assert shades(data.held_out(2).a) == [0, 20]
    assert shades(data.held_out(2).b) == [0, 40]
    assert not data.paired_held_out


def test_unreadable_held_out_images_are_passed_over(tmp_path):
    options = {name: constant(tmp_path / name, 3) for name in ("a", "b", "test_a", "test_b")}
    (tmp_path / "test_a" / "0.png").write_bytes(b"")
    held_out = load(**options).held_out(2)
    assert shades(held_out.a) == shades(held_out.b) == [10, 20]


@pytest.mark.parametrize(
    ("modes", "channels"),
    [(["L", "1"], 1), (["L", "RGB"], 3), (["RGBA", "RGBA"], 4), (["LA", "RGBA"], 4), (["LA", "LA"], 4)],
)
def test_a_domain_has_the_channels_that_all_its_images_fit_into(tmp_path, modes, channels):
    for i, mode in enumerate(modes):
        (tmp_path / f"{i}.png").write_bytes(encoded(i, mode="L" if mode == "1" else mode))
    data = load(Images(), images=str(tmp_path), batch=2)
    assert data.spec.images.channels == channels
    assert data.batch(0).images.shape == (2, channels, 8, 8)


def test_unused_transparency_is_dropped(tmp_path):
    for i in range(3):
        Image.new("RGBA", (8, 8), (i, 0, 0, 255)).save(tmp_path / f"{i}.png")
    assert load(Images(), images=str(tmp_path)).spec.images.channels == 3


def test_transparency_in_some_images_is_an_error_that_names_one(tmp_path):
    (tmp_path / "0.png").write_bytes(encoded())
    (tmp_path / "1.png").write_bytes(encoded(mode="RGBA"))
    with pytest.raises(DataError, match=r"1.png has 4 channels \(RGB, alpha\), but 3 channels \(RGB\) are expected"):
        load(Images(), images=str(tmp_path))


def test_unreadable_files_are_left_out_with_their_partners_and_named(draw):
    a, b = draw("a", 9), draw("b", 9)
    (a / "2.png").write_bytes(b"")
    (b / "5.png").write_bytes(encoded(0, (40, 40))[:500])
    data = load(Paired(), a=str(a), b=str(b), batch=7)
    assert data.epoch == 7
    assert data.fingerprint["a"]["images"] == data.fingerprint["b"]["images"] == 7
    assert data.notes == [
        f"Left out 1 of 9 images in {a}/ that cannot be read: {a}/2.png: the file is empty.",
        f"Left out 1 of 9 images in {b}/ that cannot be read: {b}/5.png: damaged (image file is truncated).",
    ]
    (a / "2.png").unlink()
    (b / "5.png").unlink()
    without = load(Paired(), a=str(a), b=str(b), batch=7)
    assert torch.equal(without.batch(1).a, data.batch(1).a)
    assert torch.equal(without.batch(1).b, data.batch(1).b)


def test_mostly_unreadable_folders_are_an_error(draw):
    folder = draw("a", 5)
    for i in range(4):
        (folder / f"{i}.png").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"4 of 5 images in .*a/ cannot be read: .*0.png: the file is empty; .* and 1 more"
    ):
        load(Images(), images=str(folder))


def test_too_few_images_for_the_batch(draw, tmp_path, monkeypatch):
    draw("horses", 3)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        load(Images(), images="horses", batch=8)
    assert str(error.value) == ("horses/ has 3 images but --batch 8 needs at least 8; add images or lower --batch.")


def test_too_little_memory_is_said_with_numbers(draw, monkeypatch):
    monkeypatch.setattr(store, "available_memory", lambda: 100)
    with pytest.raises(DataError, match=r"3 images of 8 × 8 × 3 need 0.0 GB of memory, and 0.0 GB are free; lower"):
        load(Images(), images=str(draw("a", 3)))


def test_options_are_checked_with_near_matches():
    with pytest.raises(ValidationError, match=r"'flpi' is no augmentation. Did you mean 'flip'\?"):
        DataOptions(augment="crop,flpi")
    with pytest.raises(ValidationError, match="--load-size 100 is smaller than --size 128, so no crop fits into it"):
        DataOptions(size=128, load_size=100)


def test_the_fingerprint_changes_with_names_and_sizes_only(draw):
    folder = draw("a", 3)
    before = load(Images(), images=str(folder)).fingerprint
    os.utime(folder / "0.png", (0, 0))
    assert load(Images(), images=str(folder)).fingerprint == before
    (folder / "0.png").rename(folder / "9.png")
    assert load(Images(), images=str(folder)).fingerprint != before


def test_nothing_is_written_into_the_folders(draw):
    folder = draw("a", 3)
    folder.chmod(0o555)
    before = {path: path.stat() for path in folder.iterdir()}
    load(Images(), images=str(folder)).batch(0)
    assert {path: path.stat().st_mtime for path in folder.iterdir()} == {p: s.st_mtime for p, s in before.items()}
    folder.chmod(0o755)


def test_real_data_sets_are_recognised(real_data):
    facades = load(Paired(), data=str(real_data / "facades" / "train"), swap=True, size=32, batch=4)
    assert (facades.epoch, facades.spec.a.part, facades.paired_held_out) == (400, "right", True)
    horses = load(data=str(real_data / "horse2art"), size=32, batch=4)
    assert (horses.epoch, horses.paired_held_out, len(horses.held_out(99).a)) == (181, False, 20)


def test_options_need_no_torch():
    code = "import sys, translate.data.options, translate.data.domains; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_a_gpu_equal_those_on_the_cpu(draw, monkeypatch):
    options = DataOptions(a=str(draw("a", 5)), b=str(draw("b", 4)), size=8, batch=3)
    expected = open_training_data(Unpaired(), options, CPU)
    for share in (0.4, 0.0):  # resident on the device, and in main memory
        monkeypatch.setattr(store, "_DEVICE_SHARE", share)
        data = open_training_data(Unpaired(), options, torch.device("cuda"))
        for step in range(5):
            assert torch.equal(data.batch(step).a.cpu(), expected.batch(step).a)
