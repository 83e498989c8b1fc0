import shutil
import zipfile
from dataclasses import replace

import pytest

from translate.data.files.sources import open_source
from translate.data.layout import detection
from translate.data.layout.detection import detect_layout
from translate.data.options import DataOptions
from translate.domains import Images, Labelled, Paired, Unpaired
from translate.errors import DataError, UsageError


def find(batch_spec, **options):
    return detect_layout(batch_spec, DataOptions(**options))


def names(entries):
    return [entry.name for entry in entries]


def train_names(layout):
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
    assert train_names(layout) == [["0.png", "1.png", "2.png"], ["0.png", "1.png"]]
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
    assert train_names(layout) == [["a.png"], ["b.png"]]
    assert held_out(layout) == [["ta.png"], ["tb.png"]]
    swapped = find(Unpaired(), data=str(data), swap=True)
    assert train_names(swapped) == [["b.png"], ["a.png"]]
    assert held_out(swapped) == [["tb.png"], ["ta.png"]]
    assert "Swapped: a is" in swapped.notes[0]


def test_two_sub_folders_without_a_split(draw, tmp_path):
    draw("x/B", ["b"])
    draw("x/a", ["a"])
    assert train_names(find(Unpaired(), data=str(tmp_path / "x"))) == [["a.png"], ["b.png"]]


@pytest.mark.parametrize(("train", "test"), [("x", None), ("x/train", "x/val"), ("x/train", "x/test")])
def test_side_by_side_images(draw, tmp_path, train, test):
    draw(train, 3, size=(16, 8))
    if test:
        draw(test, 2, size=(16, 8))
    for data in {"x", train}:
        layout = find(Paired(), data=str(tmp_path / data))
        assert [domain.part for domain in layout.domains] == ["left", "right"]
        assert [domain.title for domain in layout.domains] == ["x, left", "x, right"]
        assert train_names(layout) == [["0.png", "1.png", "2.png"]] * 2
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
    assert train_names(layout) == [["2.png", "3.png"], ["2.jpg", "3.jpg"]]
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
    assert (train_names(layout), held_out(layout)) == ([["1.png"]], [["2.png"]])
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
        "sub-folders or side-by-side images; two sub-folders; images twice as wide as high (left and right); a list of "
        "pairs (pairs.csv, paths.txt)."
    )


@pytest.mark.parametrize(
    ("batch_spec", "options", "text"),
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
def test_flags_that_do_not_fit_together_are_usage_errors(batch_spec, options, text):
    with pytest.raises(UsageError) as error:
        find(batch_spec, **options)
    assert text in str(error.value)


def test_missing_and_empty_folders_are_errors_that_say_what_is_there(draw, tmp_path):
    zebras = str(draw("zebras", 1))
    with pytest.raises(DataError, match=r"zebra' is no file or folder, and no domain .* Did you mean 'zebras'"):
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


def test_images_in_no_domain_are_named(draw, tmp_path):
    for folder in ("trainA", "trainB", "testA", "testB", "valA", "masks"):
        draw(f"x/{folder}", 1)
    (note,) = [note for note in find(Unpaired(), data=str(tmp_path / "x")).notes if "Left out" in note]
    assert (
        note == f"Left out {tmp_path}/x/masks/0.png, {tmp_path}/x/valA/0.png: in no domain of the layout that was "
        "recognised."
    )


# Held out by share ----------------------------------------------------------------------------------------------------


def split_names(layout):
    return [(set(names(domain.train)), set(names(domain.held_out))) for domain in layout.domains]


def test_a_share_is_held_out_by_name_and_adding_images_moves_none(draw):
    few = find(Images(), images=str(draw("x", 200)), holdout="10%")
    ((train, held),) = split_names(few)
    assert 10 <= len(held) <= 30
    assert not train & held
    assert few.notes == (f"Held out: {len(held)} of 200 images of {few.domains[0].location} by --holdout 10%.",)
    ((more_train, more_held),) = split_names(find(Images(), images=str(draw("x", 260)), holdout="10%"))
    assert train <= more_train
    assert held <= more_held


@pytest.mark.parametrize("batch_spec", [Paired(), Unpaired()])
def test_both_images_of_a_pair_fall_on_the_same_side(draw, tmp_path, batch_spec):
    a, b = draw("x/a", 40), draw("x/b", 40, suffix=".jpg")
    halves = draw("y", 40, size=(16, 8))
    (tmp_path / "pairs.csv").write_text("".join(f"x/a/{i}.png,x/b/{39 - i}.jpg\n" for i in range(40)))
    flags = [{"a": str(a), "b": str(b)}, {"data": str(a.parent)}, {"data": str(halves)}]
    for given in [*flags, {"data": str(tmp_path / "pairs.csv")}]:
        layout = find(batch_spec, **given, holdout="20%")
        assert layout.paired_held_out
        for split in ("train", "held_out"):
            first, second = (getattr(domain, split) for domain in layout.domains)
            assert [entry.key for entry in first] == [entry.key for entry in second]
            assert (first is second) == (given.get("data") == str(halves))
        assert 2 <= len(layout.domains[0].held_out) <= 16


@pytest.mark.parametrize(("count", "share", "expected"), [(1, "5%", 0), (2, "1%", 1), (2, "99%", 1), (9, "0.01%", 1)])
def test_of_two_images_or_more_at_least_one_is_held_out_and_one_is_kept(draw, count, share, expected):
    (domain,) = find(Images(), images=str(draw("x", count)), holdout=share).domains
    assert len(domain.held_out) == expected
    assert len(domain.train) == count - expected


def test_a_share_is_not_taken_where_held_out_images_are_found(draw, tmp_path):
    draw("x/train", 3)
    draw("x/test", 1)
    layout = find(Images(), images=str(tmp_path / "x"), holdout="50%")
    assert split_names(layout) == [({"0.png", "1.png", "2.png"}, {"0.png"})]
    assert layout.notes[1] == f"--holdout 50% was not needed: {tmp_path}/x/train/ has held-out images."


def test_classes_are_held_out_with_their_labels(draw, tmp_path):
    draw("x/cats", 30)
    draw("x/dogs", 30)
    (domain,) = find(Labelled(), images=str(tmp_path / "x"), holdout="50%").domains
    assert (
        {domain.label(entry) for entry in domain.held_out} == {domain.label(entry) for entry in domain.train} == {0, 1}
    )


# Made from the other domain -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_spec", [Paired(), Unpaired()])
@pytest.mark.parametrize("made", ["a", "b"])
def test_a_domain_can_be_made_from_the_other(draw, batch_spec, made):
    other = "b" if made == "a" else "a"
    draw("x/test", 2)
    photos = draw("x/train", 5).parent
    layout = find(batch_spec, **{made: f"gray({other})", other: str(photos)})
    domains = {domain.name: domain for domain in layout.domains}
    assert list(domains) == ["a", "b"]
    assert domains[made].train is domains[other].train
    assert domains[made].held_out is domains[other].held_out
    assert (domains[made].synthesis, domains[made].title) == (f"gray({other})",) * 2
    assert (domains[other].synthesis, domains[other].title) == ("", "x")
    assert (len(domains[other].train), len(domains[other].held_out)) == (5, 2)
    assert layout.paired_held_out
    shared = find(batch_spec, **{made: f"gray({other})", other: str(photos / "train"), "holdout": "40%"})
    assert shared.domains[0].train is shared.domains[1].train


def test_real_images_of_a_domain_that_is_made_are_held_out_if_they_have_partners(draw):
    photos, tests = str(draw("b", 5)), str(draw("clean", ["x", "y", "z"]))
    options = {"a": "gray(b)", "b": photos, "test_b": tests}
    layout = find(Paired(), **options, test_a=str(draw("grey", ["y", "z"], suffix=".jpg")))
    assert held_out(layout) == [["y.jpg", "z.jpg"], ["y.png", "z.png"]]
    assert layout.domains[0].train is layout.domains[1].train
    strangers = str(draw("others", ["1"]))
    with pytest.raises(DataError, match="share no file name"):
        find(Paired(), **options, test_a=strangers)
    with pytest.raises(
        UsageError, match="needs held-out images of the other domain to be compared with: give --test-b"
    ):
        find(Paired(), a="gray(b)", b=photos, test_a=strangers)
    assert held_out(find(Unpaired(), a="gray(b)", b=photos, test_a=strangers)) == [["1.png"], []]


@pytest.mark.parametrize(
    ("batch_spec", "options", "text"),
    [
        (Paired(), {"a": "gray(a)", "b": "x"}, "--a 'gray(a)' makes a domain from itself; name the other one"),
        (Paired(), {"a": "gray(b)", "b": "gray(a)"}, "--a and --b are made from each other; give images for one"),
        (Paired(), {"a": "x", "b": "gray(c)"}, "from a domain that this model has not: its domains are a and b."),
        (Images(), {"images": "gray(b)"}, "from a domain that this model has not: it has one domain."),
        (Paired(), {"a": "gray(b)", "data": "x"}, "--data holds both domains, so --a and --b do not go with it"),
    ],
)
def test_what_cannot_be_made_is_a_usage_error(batch_spec, options, text):
    with pytest.raises(UsageError) as error:
        find(batch_spec, **options)
    assert text in str(error.value)


def test_a_folder_named_like_a_synthesis_is_a_folder(draw, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    draw("gray(b)", 2)
    draw("photos", 1)
    assert find(Unpaired(), a="gray(b)", b="photos").domains[0].synthesis == ""


# Domains by name ------------------------------------------------------------------------------------------------------


def test_two_domains_of_one_set_of_side_by_side_images_share_their_files(draw, monkeypatch, tmp_path):
    train, test = draw("set/train", 3, size=(16, 8)), draw("set/test", 2, size=(16, 8))
    parts = {"photos": "left", "labels": "right"}
    known = {
        word: lambda word=word: replace(open_source(train), title=word, part=parts[word], held_out=open_source(test))
        for word in parts
    }
    path = detection.resolve
    monkeypatch.setattr(detection, "resolve", lambda text: known[text]() if text in known else path(text))
    for words in (["photos", "labels"], ["labels", "photos"]):
        layout = find(Paired(), a=words[0], b=words[1])
        a, b = layout.domains
        assert [a.part, b.part] == [parts[word] for word in words]
        assert a.train is b.train
        assert a.held_out is b.held_out
        assert layout.paired_held_out
        assert len(a.held_out) == 2
        assert layout.notes == (f"Held out: 2 images in {test}/.",)
    with pytest.raises(DataError, match="laid out otherwise than the training images: whole images, left halves"):
        find(Paired(), a="photos", b="labels", test_a=str(draw("t", 1)), test_b=str(draw("t", 1)))


# Real images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parts", "train", "test"),
    [
        ("facades", ["left", "right"], [400, 400], [100, 100]),
        ("emoji", [None, None], [1611, 1611], [300, 300]),
        ("horse2art", [None, None], [179, 181], [20, 20]),
    ],
)
def test_real_data_sets_are_recognised_by_their_path_alone(real_data, name, parts, train, test):
    layout = find(Unpaired(), data=str(real_data / name))
    assert [domain.part for domain in layout.domains] == parts
    assert [len(domain.train) for domain in layout.domains] == train
    assert [len(domain.held_out) for domain in layout.domains] == test
    assert layout.paired_held_out == (name != "horse2art")
    if name != "horse2art":
        pairs = find(Paired(), data=str(real_data / name))
        assert [len(domain.train) for domain in pairs.domains] == train
