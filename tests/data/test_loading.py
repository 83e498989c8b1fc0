import os
import subprocess
import sys
import threading

import pytest
import torch
from drawn_images import encoded
from PIL import Image
from pydantic import ValidationError

from translate.data.files.readers import decode
from translate.data.files.writers import save
from translate.data.images import as_pixels
from translate.data.loading import open_training_data
from translate.data.options import DataOptions
from translate.domains import Images, Labelled, Paired, Unpaired
from translate.errors import DataError, UsageError

CPU = torch.device("cpu")


def load(batch_spec=None, **options):
    options = {"size": 8, "augment": "none", **options}
    return open_training_data(batch_spec or Unpaired(), DataOptions(**options), CPU)


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
    [(["L", "1"], 1), (["L", "RGB"], 3), (["RGBA", "RGB"], 4), (["LA", "RGBA"], 4), (["LA", "LA"], 4)],
)
def test_a_domain_has_the_channels_that_all_its_images_fit_into(tmp_path, modes, channels):
    for i, mode in enumerate(modes):
        (tmp_path / f"{i}.png").write_bytes(encoded(i, mode="L" if mode == "1" else mode))
    data = load(Images(), images=str(tmp_path), batch=2, background="keep")
    assert data.spec.images.channels == channels
    assert data.batch(0).images.shape == (2, channels, 8, 8)


def test_unused_transparency_is_dropped(tmp_path):
    for i in range(3):
        Image.new("RGBA", (8, 8), (i, 0, 0, 255)).save(tmp_path / f"{i}.png")
    assert load(Images(), images=str(tmp_path)).spec.images.channels == 3


@pytest.mark.parametrize(("background", "shade"), [("white", 255), ("black", 0), ("#7f7f7f", 127)])
def test_transparency_is_laid_on_the_background_and_noted(tmp_path, background, shade):
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "0.png")
    Image.new("RGBA", (8, 8), (9, 9, 9, 0)).save(tmp_path / "1.png")
    data = load(Images(), images=str(tmp_path), batch=2, background=background)
    assert sorted(shades(data.batch(0).images)) == sorted([255, shade])
    assert data.spec.images.background == background
    assert "1 image in " in data.notes[0]
    assert f"transparent parts are laid on {background}" in data.notes[0]


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


def test_options_are_checked_with_near_matches():
    with pytest.raises(ValidationError, match=r"'flpi'.*Did you mean 'flip'"):
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
    code = "import sys, translate.data.options, translate.domains; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.gpu
def test_batches_on_a_gpu_equal_those_on_the_cpu(draw, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSLATE_CACHE", str(tmp_path))
    options = DataOptions(a=str(draw("a", 5)), b=str(draw("b", 4)), size=8, batch=3)
    expected = open_training_data(Unpaired(), options, CPU)
    for storage in ("device", "memory", "disk"):
        stored = options.model_copy(update={"store": storage})
        data = open_training_data(Unpaired(), stored, torch.device("cuda"))
        for step in range(5):
            assert torch.equal(data.batch(step).a.cpu(), expected.batch(step).a)


@pytest.mark.gpu
def test_albumentations_go_with_images_that_are_kept_on_the_device(draw):
    options = DataOptions(images=str(draw("a", 4)), size=8, batch=2, augment="blur(p=1)", store="device")
    with open_training_data(Images(), options, torch.device("cuda")) as data:
        assert data.batch(0).images.is_cuda


# ------------------------------------------------------------------ sizes, depths, shares, threads


@pytest.mark.parametrize(
    ("preprocess", "load_size", "expected"),
    [
        ("resize-and-crop", 12, (12, 12)),
        ("scale-width", 20, (10, 20)),
        ("scale-short-side", 10, (10, 20)),
        ("scale-width", 12, (8, 16)),  # too low for a crop of 8, so enlarged in proportion
        ("crop", None, (20, 40)),
    ],
)
def test_images_are_kept_as_preprocess_says(draw, preprocess, load_size, expected):
    folder = draw("a", 2, size=(40, 20))
    data = load(Images(), images=str(folder), preprocess=preprocess, load_size=load_size, augment="crop")
    assert data._domains[0].store.shape(0) == expected
    assert data.batch(0).images.shape == data.held_out(1).images.shape == (1, 3, 8, 8)


def test_whole_images_are_trained_on_as_they_are_if_all_have_one_size(draw):
    folder = draw("a", 3, size=(24, 16))
    data = load(Images(), images=str(folder), preprocess="none", batch=3)
    assert data.shape == (16, 24)
    whole = {decode((folder / f"{i}.png").read_bytes(), "x").numpy().tobytes() for i in range(3)}
    seen = (data.batch(0).images + 1).mul(127.5).round().byte()
    assert {image.numpy().tobytes() for image in seen} == whole
    with pytest.raises(UsageError, match="rotate90 turns squares only, and the images are 24×16"):
        load(Images(), images=str(folder), preprocess="none", augment="rotate90")
    (folder / "more.png").write_bytes(encoded(0, (30, 10)))
    with pytest.raises(DataError, match=r"one size; here are 2, from 24×16 to 30×10. Use --preprocess crop"):
        load(Images(), images=str(folder), preprocess="none")


def deep(folder, count, top):
    folder.mkdir()
    for i in range(count):
        save((torch.rand(1, 10, 10) * top).to(torch.int32).to(torch.uint16), folder / f"{i}.png")
    return str(folder)


def test_16_bits_arrive_with_all_their_values(tmp_path):
    folder = deep(tmp_path / "a", 3, 65535)
    data = load(Images(), images=folder, load_size=10, size=10, batch=3)
    assert (data.spec.images.bit_depth, data.spec.images.value_range) == (16, (0, 65535))
    found = as_pixels(data.batch(0).images, 16, (0, 65535)).to(torch.int32)
    files = {decode((tmp_path / "a" / f"{i}.png").read_bytes(), "x").numpy().tobytes() for i in range(3)}
    assert {image.to(torch.uint16).numpy().tobytes() for image in found} == files


def test_a_small_part_of_the_16_bit_range_is_noted_and_can_be_named(tmp_path):
    folder = deep(tmp_path / "a", 3, 4000)
    assert "--value-range 0,4095" in load(Images(), images=folder).notes[0]
    data = load(Images(), images=folder, value_range="0,4095")
    assert data.spec.images.value_range == (0, 4095)
    assert not data.notes
    assert data.batch(0).images.std() > 0.3


def test_floats_are_scaled_by_what_is_found(tmp_path):
    for i in range(2):
        save(torch.linspace(-3 - i, 5, 100).view(1, 10, 10), tmp_path / f"{i}.npy")
    data = load(Images(), images=str(tmp_path), size=10, load_size=10, batch=2)
    assert (data.spec.images.bit_depth, data.spec.images.value_range) == (32, (-4, 5))
    images = data.batch(0).images
    assert (images.min(), images.max()) == (-1, 1)


def test_the_shares_of_all_ranks_are_the_batch(draw):
    options = DataOptions(a=str(draw("a", 5)), b="gray(a)", size=8, batch=4, augment="crop,flip,zoom(0.5, 1)")
    whole = open_training_data(Paired(), options, CPU)
    parts = [open_training_data(Paired(), options, CPU, (rank, 2)) for rank in range(2)]
    for step in range(5):
        for field in ("a", "b"):
            shares = torch.cat([getattr(part.batch(step), field) for part in parts])
            assert torch.equal(shares, getattr(whole.batch(step), field))


@pytest.mark.parametrize("augment", ["crop,flip", "crop,colour", "affine", "crop,compression,affine"])
def test_a_resumed_run_gets_the_batches_of_a_straight_one(draw, augment):
    options = {"images": str(draw("a", 5)), "augment": augment, "batch": 2, "size": 16}
    straight, resumed = load(Images(), **options), load(Images(), **options)
    expected = [straight.batch(step).images for step in range(8)]
    for step in (5, 6, 7):
        assert torch.equal(resumed.batch(step).images, expected[step])


def test_closing_leaves_no_thread_and_no_file(draw):
    before = set(threading.enumerate())
    files = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    with load(Images(), images=str(draw("a", 5)), augment="crop,colour", size=16) as data:
        for step in range(5):
            data.batch(step)
        assert set(threading.enumerate()) - before
    assert not set(threading.enumerate()) - before
    if files:
        assert len(os.listdir("/proc/self/fd")) <= len(files)


def test_an_error_in_a_thread_reaches_the_caller(draw, tmp_path):
    folder = draw("a", 3, size=(12, 12))
    for path in folder.iterdir():
        Image.open(path).convert("L").save(path)
    (tmp_path / "dropout.toml").write_text('[[albumentations]]\ntransform = "ChannelDropout"\n')
    with (
        load(Images(), images=str(folder), augment=str(tmp_path / "dropout.toml")) as data,
        pytest.raises(DataError, match=r"ChannelDropout.*channel"),
    ):
        data.batch(0)


def test_label_maps_keep_their_values_through_everything(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for i in range(4):
        codes = torch.tensor([0, 100, 255], dtype=torch.uint8)[torch.randint(3, (1, 30, 40))]
        save(codes, tmp_path / "a" / f"{i}.png")
        (tmp_path / "b" / f"{i}.png").write_bytes(encoded(i, (40, 30)))
    options = {"a": str(tmp_path / "a"), "b": str(tmp_path / "b"), "labels": "a", "size": 16}
    with load(Paired(), **options, augment="crop,flip,zoom(0.5, 1),affine,colour", batch=4) as data:
        assert data.spec.a.kind == "labels"
        for step in range(3):
            values = set((data.batch(step).a + 1).mul(127.5).round().int().unique().tolist())
            assert values <= {0, 100, 255}
    with pytest.raises(UsageError, match="--labels 'c' is not a domain of this model, which has a, b"):
        load(Paired(), **{**options, "labels": "c"})


def test_a_synthesised_domain_is_made_of_the_very_crops_of_the_other(draw):
    data = load(Paired(), a="gray(b)", b=str(draw("b", 5)), batch=3, augment="crop,flip", size=16)
    assert (data.spec.a.channels, data.spec.a.synthesis) == (1, "gray(b)")
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    for batch in (data.batch(0), data.batch(7), data.held_out(2)):
        assert torch.allclose(batch.a, (batch.b * luma).sum(1, keepdim=True), atol=1e-5)


def test_held_out_images_that_cannot_be_read_are_named_with_their_reasons(tmp_path):
    options = {name: constant(tmp_path / name, 2) for name in ("images", "test_images")}
    for path in (tmp_path / "test_images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(
        DataError, match=r"None of the held-out images can be read: .*0.png: the file is empty; .*1.png"
    ):
        load(Images(), **options).held_out(2)


def test_a_range_for_8_bits_is_noted_to_be_ignored(draw):
    assert (
        "--value-range is ignored for domain 'images', whose images have 8 bits"
        in load(Images(), images=str(draw("a", 2)), value_range="0,9").notes[0]
    )
