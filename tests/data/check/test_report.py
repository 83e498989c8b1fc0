import dataclasses
import io
import json
import zipfile
from pathlib import Path

import numpy
import pytest
import torch
from drawn_images import encoded
from PIL import Image

from translate.data.check.detected_data import detect
from translate.data.check.report import Report, contact_sheet, make_report
from translate.data.check.scan import scan
from translate.errors import DataError, UsageError


def report(*paths) -> Report:
    data = detect([str(path) for path in paths])
    return make_report(data, scan(data))


def problems(answer: Report) -> dict[str, tuple[str, ...]]:
    return {finding.kind: finding.files for finding in answer.problems}


def remarks(answer: Report) -> dict[str, tuple[str, ...]]:
    return {finding.kind: finding.files for finding in answer.remarks}


def flags(answer: Report) -> set[str]:
    return set(answer.fit.suggestions)


def grey16(path: Path, values: numpy.ndarray) -> None:
    Image.fromarray(values.astype(numpy.uint16)).save(path)


def reference(data: bytes) -> tuple[tuple[int, int], bytes]:
    """The pixels as Pillow decodes them."""
    with Image.open(io.BytesIO(data)) as image:
        return image.size, image.convert("RGB").tobytes()


# Layouts -------------------------------------------------------------------------------------------------------------


def test_two_folders_in_one_and_what_fit_would_do_with_them(draw, tmp_path):
    for folder, count in (("trainA", 3), ("trainB", 2), ("testA", 1), ("testB", 1)):
        draw(folder, [f"{folder}{i}" for i in range(count)], size=(300, 300))
    answer = report(tmp_path)
    assert answer.layout == "trainA/ and trainB/ with testA/ and testB/"
    assert [(split.domain, split.held_out, split.location, split.images) for split in answer.splits] == [
        ("a", False, "trainA/", 3), ("b", False, "trainB/", 2), ("a", True, "testA/", 1), ("b", True, "testB/", 1),
    ]  # fmt: skip
    a = answer.splits[0]
    assert (a.sizes, a.modes, a.bit_depths) == ((((300, 300), 3),), {"RGB": 3}, {"8 bit": 3})
    assert a.pixels == 3 * 300 * 300
    assert a.bytes == sum(file.stat().st_size for file in (tmp_path / "trainA").iterdir())
    assert answer.pairs == 0
    assert answer.fit.command == f"translate fit MODEL --data {tmp_path}"
    assert answer.fit.decoded_bytes == 5 * 3 * 286 * 286
    assert not answer.problems


def test_halves_of_side_by_side_images_are_measured_each(tmp_path):
    for split, count in (("train", 2), ("val", 1)):
        (tmp_path / split).mkdir()
        for i in range(count):
            (tmp_path / split / f"{i}.png").write_bytes(encoded(len(split) + i, (24, 12)))
    answer = report(tmp_path)
    assert answer.layout == "side-by-side pairs, left is a, right is b"
    assert (answer.pairs, answer.paired) == (2, "side by side")
    assert [(split.part, split.sizes) for split in answer.splits[:2]] == [
        ("left", (((12, 12), 2),)),
        ("right", (((12, 12), 2),)),
    ]


def test_two_paths_are_a_and_b(draw):
    answer = report(draw("horses", ["x"]), draw("zebras", ["x"]))
    assert (answer.layout, answer.pairs) == ("two folders", 1)
    assert [split.location for split in answer.splits] == ["horses/", "zebras/"]
    assert " --a " in answer.fit.command
    assert " --b " in answer.fit.command


def test_a_list_pairs_images(draw, tmp_path):
    draw("photos", ["first", "second", "third"])
    draw("maps", ["one", "two"])
    (tmp_path / "pairs.csv").write_text("photos/first.png,maps/one.png\nphotos/second.png,maps/two.png\n")
    answer = report(tmp_path / "pairs.csv")
    assert (answer.layout, answer.pairs, answer.paired) == ("list of pairs", 2, "by a list")
    assert [split.images for split in answer.splits] == [2, 2]
    folder = report(tmp_path)
    assert (folder.layout, folder.pairs, folder.paired) == ("maps/ and photos/", 2, "by a list")
    assert remarks(folder)["no-partner"] == ("photos/third.png",)


def test_a_domain_that_is_made_from_another_is_not_checked(draw):
    with pytest.raises(UsageError, match="made from another domain"):
        detect(["gray(b)", str(draw("photos"))])


def test_one_domain_and_its_classes(draw, tmp_path):
    one = report(draw("plain", 2))
    assert (one.layout, one.pairs, one.splits[0].classes) == ("one domain", None, {})
    assert one.fit.command.startswith("translate fit MODEL --images ")
    for name, count in (("k/x", 1), ("k/y", 2), ("k/z", 1)):
        draw(name, count)
    classes = report(tmp_path / "k")
    assert (classes.layout, classes.splits[0].classes) == ("class sub-folders", {"x": 1, "y": 2, "z": 1})


def test_an_archive_is_described_like_a_folder(draw, tmp_path):
    draw("trainA", 2)
    draw("trainB", ["p"])
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in sorted(tmp_path.glob("train*/*")):
            archive.write(file, file.relative_to(tmp_path))
    answer = report(tmp_path / "set.zip")
    assert answer.layout == "trainA/ and trainB/"
    assert [split.images for split in answer.splits] == [2, 1]


def test_a_command_survives_the_shell(draw):
    assert report(draw("my photos")).fit.command.endswith("my photos'")


@pytest.mark.parametrize("paths", [("a", "b", "c")])
def test_more_than_two_paths_are_wrong_usage(paths):
    with pytest.raises(UsageError, match="3 PATHs"):
        detect(paths)


def test_an_error_in_a_list_is_reported_and_not_a_missing_folder(tmp_path):
    (tmp_path / "pairs.csv").write_text("a/1.png,b/1.png\n")
    with pytest.raises(DataError, match=r"pairs\.csv, line 1: 'a/1\.png' is not there"):
        detect([str(tmp_path / "pairs.csv")])


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        detect([str(tmp_path / "nowhere")])


# Problems ------------------------------------------------------------------------------------------------------------


def test_unreadable_files_are_named_with_their_reasons_once(tmp_path):
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(encoded(i, (24, 12)))
    (tmp_path / "cut.png").write_bytes(encoded(9, (24, 12))[:60])
    (tmp_path / "none.png").write_bytes(b"")
    answer = report(tmp_path)
    (files,) = problems(answer).values()
    assert [file.partition(": ")[0] for file in files] == ["cut.png", "none.png"]
    assert "empty" in files[1]
    assert [(split.files, split.images) for split in answer.splits] == [(6, 4), (6, 4)]


def test_a_domain_that_is_mostly_unreadable_is_too_small_for_fit(draw, tmp_path):
    draw("", 1)
    for name in ("x", "y"):
        (tmp_path / f"{name}.png").write_bytes(b"no image")
    assert problems(report(tmp_path)).keys() == {"unreadable", "too-few"}


def test_nothing_readable_is_a_report_too(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    answer = report(tmp_path)
    assert problems(answer).keys() == {"unreadable", "too-few"}
    assert answer.splits[0].values is None
    with pytest.raises(DataError, match="can be read"):
        contact_sheet(detect([str(tmp_path)]))


def test_a_held_out_image_that_is_trained_on_is_found_in_another_format(draw, tmp_path):
    draw("train", ["p", "q", "r"])
    draw("test", ["new"])
    with Image.open(tmp_path / "train" / "q.png") as pixels:
        pixels.save(tmp_path / "test" / "copy.webp", lossless=True)
    answer = report(tmp_path)
    assert problems(answer) == {"leak": ("test/copy.webp = train/q.png",)}


def test_images_of_many_bands_among_others_are_a_problem(draw, tmp_path):
    draw("", 3)
    numpy.save(tmp_path / "bands.npy", numpy.random.default_rng(0).integers(0, 256, (12, 12, 5)).astype(numpy.uint8))
    assert problems(report(tmp_path)) == {"channels": ("bands.npy (5 channels)",)}


def test_floats_need_an_alpha_that_is_kept_and_must_be_finite(tmp_path):
    values = numpy.random.default_rng(0).random((12, 12, 4), dtype=numpy.float32)
    numpy.save(tmp_path / "fine.npy", values)
    values[0, 0, 0] = numpy.nan
    numpy.save(tmp_path / "nan.npy", values)
    answer = report(tmp_path)
    assert problems(answer).keys() == {"unreadable", "float-alpha"}
    assert "finite" in problems(answer)["unreadable"][0]
    assert "--background keep" in flags(answer)


# Remarks -------------------------------------------------------------------------------------------------------------


def test_copies_within_a_split_and_between_domains_are_remarks(draw, tmp_path):
    draw("a", ["p", "q"])
    draw("b", ["r"])
    same = (tmp_path / "a" / "p.png").read_bytes()
    (tmp_path / "a" / "z.png").write_bytes(same)
    (tmp_path / "b" / "s.png").write_bytes(same)
    answer = report(tmp_path)
    assert remarks(answer)["copies"] == ("a/z.png = a/p.png",)
    assert remarks(answer)["both"] in {("b/s.png = a/p.png",), ("b/s.png = a/z.png",)}
    assert not answer.problems


def test_blank_images_are_named_and_are_no_copies_of_each_other(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "picture.png").write_bytes(encoded(len(split)))
        for i in range(2):
            Image.new("RGB", (12, 12), (255, 0, i)).save(tmp_path / split / f"red{i}.png")
    answer = report(tmp_path)
    assert not answer.problems
    assert set(remarks(answer)["near-blank"]) == {f"{split}/red{i}.png" for split in ("train", "test") for i in (0, 1)}
    assert "copies" not in remarks(answer)


def test_small_oblong_and_very_different_sizes_get_advice(tmp_path):
    for i, size in enumerate([(40, 40), (70, 71), (64, 20), (400, 400)]):
        (tmp_path / f"{i}.png").write_bytes(encoded(i, size))
    answer = report(tmp_path)
    assert remarks(answer)["small"] == ("0.png", "1.png", "2.png")
    assert remarks(answer)["oblong"] == ("2.png",)
    assert remarks(answer)["sizes"] == ("2.png (64×20)", "3.png (400×400)")
    assert flags(answer) == {"--size 32", "--preprocess scale-short-side"}


def test_what_is_true_of_all_images_names_none(draw):
    answer = report(draw("plain", 3))
    (small,) = (finding for finding in answer.remarks if finding.kind == "small")
    assert small.text.startswith("all 3 images are")
    assert small.files == ()


def test_without_held_out_images_a_share_is_suggested(draw):
    assert "--holdout 5%" in flags(report(draw("many", 20, size=(4, 4))))
    assert "few" in remarks(report(draw("few", 2)))


def test_transparency_and_grey_among_colour_are_reported(draw, tmp_path):
    draw("", 2)
    (tmp_path / "clear.png").write_bytes(encoded(5, mode="RGBA"))
    (tmp_path / "grey.png").write_bytes(encoded(6, mode="L"))
    Image.new("RGBA", (12, 12), (0, 0, 0, 255)).save(tmp_path / "opaque.png")
    answer = report(tmp_path)
    assert remarks(answer)["transparent"] == ("clear.png",)
    assert remarks(answer)["grey"] == ("grey.png",)
    assert answer.splits[0].modes == {"RGB": 2, "RGB with alpha": 2, "grey": 1}
    assert not answer.problems


def test_pairs_report_what_has_no_partner_and_what_does_not_fit(draw, tmp_path):
    draw("a", ["p", "q", "alone"], size=(20, 10))
    draw("b", ["p"], size=(40, 20))
    draw("b", ["q"], size=(20, 20))
    answer = report(tmp_path)
    assert answer.pairs == 2
    assert remarks(answer)["no-partner"] == ("a/alone.png",)
    assert remarks(answer)["misfits"] == ("a/q.png and b/q.png",)


def test_nearly_side_by_side_says_which_images_are_not(draw, tmp_path):
    draw("", 3, size=(24, 12))
    draw("", ["square"])
    assert remarks(report(tmp_path))["nearly-pairs"] == ("square.png",)


def test_one_train_folder_without_its_counterpart_is_reported(draw, tmp_path):
    draw("trainA", 2)
    draw("testA", 1)
    draw("trainC", 1)
    assert "one-domain" in remarks(report(tmp_path))


def test_depths_may_be_mixed(draw, tmp_path):
    draw("", 3)
    grey16(tmp_path / "deep.png", numpy.random.default_rng(0).integers(0, 65536, (12, 12)))
    answer = report(tmp_path)
    assert not answer.problems
    assert remarks(answer)["bit-depths"] == ("deep.png (16 bit)",)
    assert answer.splits[0].bit_depths == {"8 bit": 3, "16 bit": 1}


def test_deep_images_are_compared_with_the_range_they_use(tmp_path):
    rng = numpy.random.default_rng(0)
    for i in range(3):
        grey16(tmp_path / f"{i}.png", rng.integers(0, 4001, (12, 12)))
    grey16(tmp_path / "flat.png", 2000 + rng.integers(0, 10, (12, 12)))
    answer = report(tmp_path)
    assert answer.splits[0].bit_depths == {"16 bit": 4}
    assert remarks(answer)["near-blank"] == ("flat.png",)
    assert "--value-range 0,4095" in flags(answer)
    assert answer.fit.decoded_bytes == 4 * 286 * 286 * 2


# All of it -----------------------------------------------------------------------------------------------------------


def test_the_report_is_plain_values_and_nothing_is_changed(draw, tmp_path):
    draw("a", 3)
    draw("b", 2, suffix=".jpg")
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    seen: list[None] = []
    data = detect([str(tmp_path)])
    answer = make_report(data, scan(data, lambda: seen.append(None)))
    contact_sheet(data)
    assert json.loads(json.dumps(dataclasses.asdict(answer)))["splits"][1]["images"] == 2
    assert len(seen) == len(data.files) == 5
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_the_contact_sheet_has_a_row_a_split_and_keeps_images_small(draw, tmp_path):
    draw("trainA", 12, size=(300, 150))
    draw("trainB", ["x"], size=(10, 10))
    sheet = contact_sheet(detect([str(tmp_path)]))
    assert sheet.dtype == torch.uint8
    assert 8 * 128 < sheet.shape[2] < 8 * 128 + 120
    assert 2 * 64 < sheet.shape[1] < 2 * 64 + 20


def test_facades_are_described_correctly(real_data):
    answer = report(real_data / "facades")
    assert answer.layout == "side-by-side pairs, left is a, right is b"
    assert [(split.location, split.images, split.sizes) for split in answer.splits] == [
        (location, count, (((256, 256), count),)) for location, count in (("train/", 400),) * 2 + (("val/", 100),) * 2
    ]
    assert (answer.pairs, answer.problems, answer.remarks, answer.notes) == (400, (), (), ())


def test_horse2art_is_described_correctly(real_data):
    answer = report(real_data / "horse2art")
    assert [split.images for split in answer.splits] == [179, 181, 20, 20]
    assert {split.sizes[0][0] for split in answer.splits} == {(227, 227)}
    assert (answer.pairs, answer.problems, remarks(answer).keys(), flags(answer)) == (0, (), {"small"}, {"--size 224"})


def test_emoji_are_described_correctly_with_their_copies(real_data):
    answer = report(real_data / "emoji")
    assert ([split.images for split in answer.splits], answer.pairs) == ([1611, 1611, 300, 300], 1611)
    assert {split.sizes for split in answer.splits} == {(((64, 64), 1611),), (((64, 64), 300),)}
    leaks = [file for finding in answer.problems for file in finding.files]
    assert len(leaks) == 8  # flags and families that are drawn alike, such as those of Australia and of its islands
    for pair in leaks:
        first, second = ((real_data / "emoji" / name).read_bytes() for name in pair.split(" = "))
        assert reference(first) == reference(second)
