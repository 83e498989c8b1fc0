import shutil
import zipfile

import pytest

from translate.data.domains import Images, Labelled, Paired, Unpaired
from translate.data.layouts import recognise
from translate.data.options import DataOptions
from translate.errors import DataError, UsageError


def find(needs, **options):
    return recognise(needs, DataOptions(**options))


def names(entries):
    return [entry.name for entry in entries]


def sides(layout):
    return [names(domain.train) for domain in layout.domains]


def held_out(layout):
    return [names(domain.held_out) for domain in layout.domains]


def zipped(folder, wrapper=""):
    path = folder.parent / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*.png"):
            archive.write(file, wrapper + file.relative_to(folder).as_posix())
    return path


def test_two_folders(draw):
    layout = find(Unpaired(), a=str(draw("horses", 3)), b=str(draw("zebras", 2)))
    assert sides(layout) == [["0.png", "1.png", "2.png"], ["0.png", "1.png"]]
    assert [domain.title for domain in layout.domains] == ["horses", "zebras"]
    assert held_out(layout) == [[], []]
    assert layout.notes == ()


@pytest.mark.parametrize(
    "folders",
    [
        ("trainA", "trainB", "testA", "testB"),
        ("train_a", "train_b", "val_a", "val_b"),
        ("train/A", "train/B", "test/A", "test/B"),
        ("train/cats", "train/dogs", "val/cats", "val/dogs"),
    ],
)
@pytest.mark.parametrize("archive", ["", "zip", "wrapped zip"])
def test_train_and_test_folders_in_one_place(draw, tmp_path, folders, archive):
    root = tmp_path / "root"
    for folder, image_names in zip(folders, (["a"], ["b"], ["ta"], ["tb"]), strict=True):
        draw(f"root/{folder}", image_names)
    data = root if not archive else zipped(root, "root/" if "wrapped" in archive else "")
    layout = find(Unpaired(), data=str(data))
    assert sides(layout) == [["a.png"], ["b.png"]]
    assert held_out(layout) == [["ta.png"], ["tb.png"]]
    swapped = find(Unpaired(), data=str(data), swap=True)
    assert sides(swapped) == [["b.png"], ["a.png"]]
    assert held_out(swapped) == [["tb.png"], ["ta.png"]]
    assert "Swapped: a is" in swapped.notes[0]


def test_two_sub_folders_without_a_split(draw, tmp_path):
    draw("x/B", ["b"])
    draw("x/a", ["a"])
    assert sides(find(Unpaired(), data=str(tmp_path / "x"))) == [["a.png"], ["b.png"]]


@pytest.mark.parametrize(("train", "test"), [("x", None), ("x/train", "x/val"), ("x/train", "x/test")])
def test_side_by_side_images(draw, tmp_path, train, test):
    draw(train, 3, size=(16, 8))
    if test:
        draw(test, 2, size=(16, 8))
    for data in {"x", train}:
        layout = find(Paired(), data=str(tmp_path / data))
        assert [domain.part for domain in layout.domains] == ["left", "right"]
        assert [domain.title for domain in layout.domains] == ["x, left", "x, right"]
        assert sides(layout) == [["0.png", "1.png", "2.png"]] * 2
        assert held_out(layout) == [["0.png", "1.png"] if test else []] * 2
        assert layout.paired_held_out
        assert [d.part for d in find(Paired(), data=str(tmp_path / data), swap=True).domains] == ["right", "left"]


def test_held_out_folders_beside_the_training_folders_are_found_and_said(draw):
    a, b = draw("trainA", 2), draw("trainB", 2)
    draw("testA", ["t"])
    draw("testB", ["t"])
    layout = find(Unpaired(), a=str(a), b=str(b))
    assert held_out(layout) == [["t.png"], ["t.png"]]
    assert layout.paired_held_out
    assert layout.notes[0] == f"Held out: 1 image in {a.parent}/testA/."


def test_held_out_folders_are_taken_as_given(draw):
    options = {name: str(draw(name, [name])) for name in ("a", "b", "test_a", "test_b")}
    layout = find(Unpaired(), **options)
    assert held_out(layout) == [["test_a.png"], ["test_b.png"]]
    assert not layout.paired_held_out
    train, test = draw("whole", 2, size=(16, 8)), draw("halves", 1, size=(16, 8))
    assert held_out(find(Paired(), data=str(train), test_data=str(test))) == [["0.png"]] * 2
    draw("p/a", 1)
    other = str(draw("p/b", 1).parent)
    with pytest.raises(DataError, match="laid out otherwise"):
        find(Paired(), data=str(train), test_data=other)


def test_pairs_are_matched_by_name_and_what_is_alone_is_reported(draw):
    a, b = draw("a", ["1", "2", "3"]), draw("b", ["2", "3", "4", "5", "6", "7"], suffix=".jpg")
    layout = find(Paired(), a=str(a), b=str(b))
    assert sides(layout) == [["2.png", "3.png"], ["2.jpg", "3.jpg"]]
    assert layout.notes == (
        f"Left out {a}/1.png: no partner in {b}/.",
        f"Left out {b}/4.jpg, {b}/5.jpg, {b}/6.jpg and 1 more: no partner in {a}/.",
    )


def test_pairs_without_a_common_name_are_an_error(draw):
    with pytest.raises(
        DataError, match=r"a/ and .*b/ share no file name \(for example '1' and '2'\); images are paired"
    ):
        find(Paired(), a=str(draw("a", ["1"])), b=str(draw("b", ["2"])))


def test_names_that_differ_in_their_extension_only_are_an_error_for_pairs(draw):
    draw("a", ["1"], suffix=".jpg")
    with pytest.raises(DataError, match=r"1.jpg and .*1.png differ in their extension only"):
        find(Paired(), a=str(draw("a", ["1"])), b=str(draw("b", ["1"])))


def test_class_sub_folders_become_labels(draw, tmp_path):
    draw("x/cats", 2)
    draw("x/dogs/small", 1)
    draw("x", ["stray"])
    layout = find(Labelled(), images=str(tmp_path / "x"))
    (domain,) = layout.domains
    assert domain.classes == ("cats", "dogs")
    assert [domain.label(entry) for entry in domain.train] == [0, 0, 1]
    assert layout.notes == (f"Left out {tmp_path}/x/stray.png: in no class sub-folder.",)
    with pytest.raises(
        DataError, match=r"y/ has no sub-folders; this model needs one sub-folder of images for each class"
    ):
        find(Labelled(), images=str(draw("y", 2)))


def test_a_model_that_can_do_without_classes_takes_a_plain_folder(draw):
    (domain,) = find(Labelled(optional=True), images=str(draw("y", 2))).domains
    assert domain.classes == ()
    assert len(domain.train) == 2


def test_one_domain_may_have_train_and_test_inside(draw, tmp_path):
    draw("faces/train", ["1"])
    draw("faces/test", ["2"])
    layout = find(Images(), images=str(tmp_path / "faces"))
    assert (sides(layout), held_out(layout)) == ([["1.png"]], [["2.png"]])
    assert layout.domains[0].title == "faces"


def test_a_class_called_train_is_a_class(draw, tmp_path):
    draw("x/car", 1)
    draw("x/train", 1)
    assert find(Labelled(), images=str(tmp_path / "x")).domains[0].classes == ("car", "train")


def test_what_is_no_layout_is_described(draw, tmp_path):
    draw("x/a", 2)
    draw("x/b", 2, size=(24, 12))
    draw("x/c", 1)
    with pytest.raises(DataError) as error:
        find(Unpaired(), data=str(tmp_path / "x"))
    assert str(error.value) == (
        f"{tmp_path}/x/ does not look like two domains: it has 5 images, in 3 sub-folders (a, b, c), of 12×12 to 24×12 "
        "pixels, 2 twice as wide as high. Recognised are: two folders (--a, --b); trainA/ and trainB/; train/ with two "
        "sub-folders or side-by-side images; two sub-folders; images twice as wide as high (left and right)."
    )


@pytest.mark.parametrize(
    ("needs", "options", "text"),
    [
        (Unpaired(), {}, "Two domains are needed: none is given. Give --a and --b, or --data for both."),
        (Unpaired(), {"a": "x"}, "Two domains are needed: --a without --b. Give --a and --b, or --data for both."),
        (Unpaired(), {"b": "x"}, "--b without --a"),
        (Unpaired(), {"data": "x", "a": "y"}, "--data holds both domains, so --a and --b do not go with it"),
        (Unpaired(), {"a": "x", "b": "y", "swap": True}, "--swap exchanges the two sides of --data"),
        (Unpaired(), {"a": "x", "b": "y", "test_data": "z"}, "--test-data goes with --data"),
        (Unpaired(), {"data": "x", "test_a": "z"}, "with --data, give --test-data"),
        (
            Unpaired(),
            {"images": "x"},
            "--images does not fit: this model has two domains: give --a and --b, or --data.",
        ),
        (Images(), {"a": "x"}, "--a does not fit: this model has one domain: give --images."),
        (Images(), {}, "No images: give --images DOMAIN"),
    ],
)
def test_flags_that_do_not_fit_together_are_usage_errors(needs, options, text):
    with pytest.raises(UsageError) as error:
        find(needs, **options)
    assert text in str(error.value)


def test_missing_and_empty_folders_are_errors_that_say_what_is_there(draw, tmp_path):
    zebras = str(draw("zebras", 1))
    with pytest.raises(DataError, match=r"zebra' is no file or folder, and no domain .* Did you mean 'zebras'\?"):
        find(Unpaired(), a=str(tmp_path / "zebra"), b=zebras)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"empty/ has no images: it holds no files\. Read are \.avif, "):
        find(Unpaired(), a=zebras, b=str(empty))
    (empty / "scan.heic").write_bytes(b"x")
    with pytest.raises(DataError, match="holds 1 file, but none is an image by its name"):
        find(Unpaired(), a=zebras, b=str(empty))
    shutil.copy(empty / "scan.heic", tmp_path / "zebras")
    assert "Ignored in" in find(Unpaired(), a=zebras, b=zebras).notes[0]
