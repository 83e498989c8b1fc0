import errno
import io
import zipfile

import pytest
import torch
from PIL import Image

from translate.applying import folder
from translate.applying.folder import apply
from translate.applying.model_file import write_model_file
from translate.data.files.readers import decode
from translate.data.files.writers import save
from translate.domains import Spec
from translate.errors import DataError, UsageError
from translate.plugins.types import Dataset

EXACT = {"device": "cpu", "precision": "fp32"}


def draw(path, height=8, width=8, channels=3, seed=0):
    """A random image file; its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 255, (channels, height, width), dtype=torch.uint8, generator=generator)
    save(pixels, path)
    return pixels


def read(path):
    return decode(path.read_bytes(), str(path))


def files(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.fixture
def source(tmp_path):
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_names_folders_and_sizes_stay(model_file, source, out):
    drawn = {
        name: draw(source / name, height, width, seed=height)
        for name, height, width in [("a.png", 8, 8), ("b.png", 7, 13), ("x/c.png", 7, 13), ("x/y/d.webp", 1, 3)]
    }
    result = apply(model_file("blocks"), source, out, batch=2, **EXACT)
    assert (result.written, result.skipped, result.failed) == (4, 0, {})
    assert files(out) == sorted(drawn)
    for name, pixels in drawn.items():
        assert torch.equal(read(out / name), 255 - pixels), name


def test_batch_size_and_company_change_nothing(model_file, source, tmp_path):
    for index in range(7):
        draw(source / f"{index}.png", 8, 8 + 4 * (index % 3), seed=index)
    model = model_file("noisy")
    for batch in (1, 2, 8):
        assert apply(model, source, tmp_path / str(batch), batch=batch, seed=3, **EXACT).written == 7
    apply(model, source / "4.png", tmp_path / "alone", seed=3, **EXACT)
    for name in files(source):
        assert torch.equal(read(tmp_path / "1" / name), read(tmp_path / "8" / name))
        assert torch.equal(read(tmp_path / "1" / name), read(tmp_path / "2" / name))
    assert torch.equal(read(tmp_path / "1/4.png"), read(tmp_path / "alone/4.png"))


def test_what_exists_is_skipped_unless_overwriting(model_file, source, out):
    drawn = draw(source / "a.png")
    draw(source / "b.png")
    draw(out / "a.png", seed=9)
    kept = (out / "a.png").read_bytes()
    result = apply(model_file("invert"), source, out, **EXACT)
    assert (result.written, result.skipped) == (1, 1)
    assert (out / "a.png").read_bytes() == kept
    assert apply(model_file("invert"), source, out, overwrite=True, **EXACT).written == 2
    assert torch.equal(read(out / "a.png"), 255 - drawn)


def test_bad_files_cost_themselves_and_are_named_with_their_reasons(model_file, source, out):
    for name in ("a.png", "b.png", "z.png"):
        draw(source / name)
    (source / "cut.png").write_bytes((source / "a.png").read_bytes()[:60])
    (source / "empty.jpg").touch()
    save(torch.full((3, 8, 8), 255, dtype=torch.uint8), source / "white.png")
    save(torch.zeros(3, 8, 8, dtype=torch.uint16), source / "deep.png")
    result = apply(model_file("broken"), source, out, batch=8, **EXACT)
    assert result.written == 3
    assert files(out) == ["a.png", "b.png", "z.png"]
    assert list(result.failed) == ["cut.png", "deep.png", "empty.jpg", "white.png"]
    assert "damaged" in result.failed["cut.png"]
    assert "16 bits" in result.failed["deep.png"]
    assert result.failed["empty.jpg"] == "the file is empty"
    assert result.failed["white.png"] == "RuntimeError: too bright"


def test_a_result_that_is_not_finite_is_a_failure_and_not_a_black_image(model_file, source, out):
    draw(source / "a.png")
    result = apply(model_file("invert", gain=float("1e39")), source, out, **EXACT)
    assert "not finite" in result.failed["a.png"]
    assert not out.exists()


def test_formats_change_the_extension_and_same_keeps_what_can_be_written(model_file, source, tmp_path):
    for name in ("a.jpg", "b.JPEG", "c.tif"):
        draw(source / name)
    Image.new("RGB", (8, 8)).save(source / "d.gif")
    model = model_file("invert")
    expected = {
        "same": ["a.jpg", "b.JPEG", "c.tif", "d.png"],
        "jpg": ["a.jpg", "b.JPEG", "c.jpg", "d.jpg"],
        "png": ["a.png", "b.png", "c.png", "d.png"],
        "tiff": ["a.tiff", "b.tiff", "c.tif", "d.tiff"],
        "webp": ["a.webp", "b.webp", "c.webp", "d.webp"],
    }
    for format, names in expected.items():
        assert apply(model, source, tmp_path / format, format=format, **EXACT).failed == {}
        assert files(tmp_path / format) == names
    with Image.open(tmp_path / "webp/a.webp") as image:
        assert image.format == "WEBP"


def test_transparent_results_of_jpegs_become_png(model_file, source, out):
    draw(source / "a.jpg")
    apply(model_file("invert", out_channels=4), source, out, **EXACT)
    assert files(out) == ["a.png"]


def test_two_inputs_never_share_an_output(model_file, source, out):
    draw(source / "x.jpg", seed=1)
    second = draw(source / "x.png", seed=2)
    result = apply(model_file("invert"), source, out, format="png", **EXACT)
    assert result.written == 1
    assert result.failed == {"x.png": "its translation would have the same name as that of x.jpg: x.png"}
    assert not torch.equal(read(out / "x.png"), 255 - second)


def test_one_image_goes_to_a_file_or_into_a_folder(model_file, source, tmp_path):
    drawn = draw(source / "a.png")
    model = model_file("invert")
    apply(model, source / "a.png", tmp_path / "new" / "b.tiff", **EXACT)
    apply(model, source / "a.png", tmp_path / "folder", **EXACT)
    assert torch.equal(read(tmp_path / "new/b.tiff"), 255 - drawn)
    assert torch.equal(read(tmp_path / "folder/a.png"), 255 - drawn)
    for output, options, words in [
        (source / "a.png", {}, "is the input itself"),
        (tmp_path / "b.gif", {}, "extension must be one of"),
        (tmp_path / "b.png", {"format": "jpg"}, "contradict"),
    ]:
        with pytest.raises(UsageError, match=words):
            apply(model, source / "a.png", output, overwrite=True, **EXACT, **options)


def test_inputs_are_never_overwritten(model_file, tmp_path):
    photos = tmp_path / "photos"
    draw(photos / "a.png")
    draw(photos / "sub/sub/a.png")
    draw(photos / "sub/a.png")
    before = {name: (photos / name).read_bytes() for name in files(photos)}
    model = model_file("invert")
    with pytest.raises(UsageError, match="is the folder of the inputs"):
        apply(model, photos, photos / "sub" / "..", overwrite=True, **EXACT)
    result = apply(model, photos / "sub", photos, overwrite=True, **EXACT)
    assert "overwrite the input" in result.failed["sub/a.png"]
    assert (photos / "sub/a.png").read_bytes() == before["sub/a.png"]
    assert (photos / "sub/sub/a.png").read_bytes() == before["sub/sub/a.png"]


def test_an_output_folder_inside_the_input_is_no_input(model_file, source):
    draw(source / "a.png")
    model = model_file("invert")
    for _ in range(2):
        apply(model, source, source / "out", overwrite=True, **EXACT)
    assert files(source) == ["a.png", "out/a.png"]


def test_the_half_that_the_model_learned_from_is_cut_out(model_file, source, tmp_path):
    pixels = draw(source / "pair.png", 8, 16)
    square = draw(source / "square.png", 8, 8)
    for part, side, expected in [
        ("right", "auto", pixels[:, :, 8:]),
        ("left", "auto", pixels[:, :, :8]),
        ("left", "right", pixels[:, :, 8:]),
        ("left", "whole", pixels),
        (None, "auto", pixels),
        (None, "left", pixels[:, :, :8]),
    ]:
        out = tmp_path / f"{part}-{side}"
        result = apply(model_file("invert", part=part), source, out, side=side, **EXACT)
        assert torch.equal(read(out / "pair.png"), 255 - expected)
        assert bool(result.notes) == (part is not None and side == "auto")
        if side in ("auto", "whole"):
            assert torch.equal(read(out / "square.png"), 255 - square)


def test_grey_models_read_and_write_grey(model_file, source, out):
    save(torch.arange(64, dtype=torch.uint8).view(1, 8, 8).expand(3, -1, -1), source.parent / "grey-as-rgb.png")
    draw(source / "colour.png")
    (source.parent / "grey-as-rgb.png").rename(source / "grey.png")
    result = apply(model_file("invert", channels=1), source, out, **EXACT)
    assert list(result.failed) == ["colour.png"]
    assert read(out / "grey.png").shape == (1, 8, 8)


def test_archives_are_read_in_place(model_file, tmp_path, out):
    pixels = draw(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "deep/a.png")
    apply(model_file("invert"), tmp_path / "set.zip", out, **EXACT)
    assert torch.equal(read(out / "deep/a.png"), 255 - pixels)


def test_a_domains_name_means_its_images_and_its_held_out_ones(model_file, tmp_path, monkeypatch):
    def prepare(root):
        for part in ("train", "test"):
            draw(root / part / "squares" / f"{part}.png")

    shapes = Dataset("shapes", ("squares",), prepare)
    monkeypatch.setenv("TRANSLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("translate.plugins.registry.datasets", lambda: {"shapes": shapes})
    for word, expected in [
        ("squares", "train.png"),
        ("squares:train", "train.png"),
        ("shapes/squares:test", "test.png"),
    ]:
        apply(model_file("invert"), word, tmp_path / expected[:-4], **EXACT)
        assert files(tmp_path / expected[:-4]) == [expected]
    with pytest.raises(DataError, match="has no held-out images"):
        apply(model_file("invert"), f"{tmp_path / 'train'}:test", tmp_path / "out", **EXACT)


def test_nothing_to_translate_is_an_error_that_says_what_was_found(model_file, source, out):
    source.mkdir()
    (source / "notes.txt").touch()
    model = model_file("invert")
    with pytest.raises(DataError, match="has no images: it holds 1 file, but none"):
        apply(model, source, out, **EXACT)
    with pytest.raises(DataError, match="no file or folder"):
        apply(model, source / "absent", out, **EXACT)
    draw(source / "a.png")
    draw(source / "b.png")
    with pytest.raises(UsageError, match="is a file"):
        apply(model, source, source / "notes.txt", **EXACT)


def test_wrong_words_are_refused_with_near_matches(model_file, source, out):
    with pytest.raises(UsageError, match=r"--format 'pgn' is unknown\. Did you mean 'png'"):
        apply(model_file("invert"), source, out, format="pgn")
    with pytest.raises(UsageError, match="--batch 0"):
        apply(model_file("invert"), source, out, batch=0)


def test_a_full_disk_stops_with_whole_files_only(model_file, source, out, monkeypatch):
    for index in range(6):
        draw(source / f"{index}.png")
    real, calls = Image.Image.save, []

    def full_after_three(self, file, *args, **kwargs):
        calls.append(file)
        if len(calls) > 3:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, file, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", full_after_three)
    monkeypatch.setattr(folder, "WORKERS", 1)
    with pytest.raises(DataError, match=r"The disk is full: .*3 translations are whole"):
        apply(model_file("invert"), source, out, **EXACT)
    assert files(out) == ["0.png", "1.png", "2.png"]
    assert all(read(path).shape == (3, 8, 8) for path in out.iterdir())


def test_nothing_is_printed_off_a_terminal(model_file, source, out, capsys):
    draw(source / "a.png")
    apply(model_file("invert"), source, out, **EXACT)
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_drawn_on_a_terminal(model_file, source, out, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    draw(source / "a.png")
    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", screen)
    apply(model_file("invert"), source, out, **EXACT)
    assert "translating" in screen.getvalue()


def test_label_maps_are_written_without_loss(make, source, out, tmp_path):
    draw(source / "a.jpg")
    model = make("invert")
    model.spec = Spec({**model.spec, "b": model.spec.b.model_copy(update={"kind": "labels"})})
    write_model_file(tmp_path / "m.safetensors", model, dict(model.state_dict()), run={})
    apply(tmp_path / "m.safetensors", source, out, **EXACT)
    assert files(out) == ["a.png"]


def test_a_format_that_does_not_hold_the_images_is_refused_at_once(model_file, source, out):
    draw(source / "a.png", channels=4)
    model = model_file("blocks", channels=4)
    for target, format in ((out, "jpg"), (out.with_suffix(".jpg"), "same")):
        with pytest.raises(UsageError, match=r"\.jpg does not hold .* 4 channels with 8 bits each; \.png does"):
            apply(model, source / "a.png", target, format=format, **EXACT)
    assert not out.exists()
