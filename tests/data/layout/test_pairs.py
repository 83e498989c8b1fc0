import zipfile

import pytest

from translate.data.layout.detection import detect_layout
from translate.data.options import DataOptions
from translate.domains import Paired, Unpaired
from translate.errors import DataError


def find(batch_spec, data, **options):
    return detect_layout(batch_spec, DataOptions(data=str(data), **options))


def pairs(layout, split="train"):
    a, b = (getattr(domain, split) for domain in layout.domains)
    return [(first.name, second.name) for first, second in zip(a, b, strict=True)]


@pytest.fixture
def listed(draw, tmp_path):
    """listed("pairs.csv", text) writes a list beside in/1.png, 2.png, 3.png and out/x.jpg, y.jpg, z.jpg."""
    draw("in", ["1", "2", "3"])
    draw("out", ["x", "y", "z"], suffix=".jpg")

    def write(name, text):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    return write


CROSSED = [("in/1.png", "out/z.jpg"), ("in/2.png", "out/y.jpg"), ("in/3.png", "out/x.jpg")]


@pytest.mark.parametrize("batch_spec", [Paired(), Unpaired()])
@pytest.mark.parametrize("name", ["pairs.csv", "paths.txt", "list.tsv"])
@pytest.mark.parametrize("separator", [",", "\t", ";", " ", "   ", " , "])
def test_pairs_go_by_line_whatever_the_separator(listed, batch_spec, name, separator):
    lines = [separator.join(pair) for pair in CROSSED]
    layout = find(batch_spec, listed(name, "\n".join(lines)))
    assert pairs(layout) == CROSSED
    assert layout.notes == ()
    swapped = find(batch_spec, listed(name, "\r\n".join(reversed(lines)) + "\r\n"), swap=True)
    assert pairs(swapped) == [(b, a) for a, b in CROSSED], "in order of the first name, as folders are"


def test_titles_comments_quotes_and_empty_lines(listed, draw):
    draw("in", ["a, b c"])
    text = '\ufeff# made by hand\n\nsketch,photo,split\n"in/a, b c.png", out/x.jpg\n\n  # more\nin/1.png,out/y.jpg,\n'
    layout = find(Paired(), listed("pairs.csv", text))
    assert pairs(layout) == [("in/1.png", "out/y.jpg"), ("in/a, b c.png", "out/x.jpg")]
    assert [domain.title for domain in layout.domains] == ["sketch", "photo"]
    assert [d.title for d in find(Paired(), listed("l.txt", "in/1.png out/x.jpg")).domains] == ["l, first", "l, second"]


def test_a_third_column_says_the_split(listed):
    text = "in/1.png out/z.jpg train\nin/2.png out/y.jpg TEST\nin/3.png out/x.jpg val\n"
    layout = find(Unpaired(), listed("paths.txt", text))
    assert (pairs(layout), pairs(layout, "held_out")) == (CROSSED[:1], CROSSED[1:2])
    assert layout.paired_held_out
    assert any("Left out 1 line of" in note and note.endswith("others, not val.") for note in layout.notes)


def test_held_out_pairs_may_have_a_list_of_their_own(listed):
    train, test = listed("train.csv", "in/1.png,out/z.jpg"), listed("test.csv", "in/2.png,out/y.jpg")
    layout = find(Paired(), train, test_data=str(test))
    assert (pairs(layout), pairs(layout, "held_out")) == (CROSSED[:1], CROSSED[1:2])


def test_one_image_may_be_in_several_pairs_but_a_line_counts_once(listed):
    path = listed("pairs.csv", "in/1.png,out/x.jpg\nin/1.png,out/y.jpg\nin/2.png,out/y.jpg\nin/1.png,out/x.jpg\n")
    layout = find(Paired(), path)
    assert pairs(layout) == [("in/1.png", "out/x.jpg"), ("in/1.png", "out/y.jpg"), ("in/2.png", "out/y.jpg")]
    assert layout.notes == (f"Left out 1 repeated line of {path}.",)


def test_paths_may_be_absolute_or_relative_to_a_and_b_or_to_the_folder_around(listed, draw, tmp_path):
    draw("in/A", ["p"])
    draw("in/B", ["q"])
    lists = [f"{tmp_path}/in/1.png,{tmp_path}/out/x.jpg", "p.png,q.png", "in/1.png,out/x.jpg", "..\\in\\1.png,A/p.png"]
    found = [pairs(find(Paired(), listed("in/pairs.csv", text))) for text in lists]
    outside = f"{tmp_path}/out/x.jpg".lstrip("/")
    assert found == [[("1.png", outside)], [("A/p.png", "B/q.png")], [("1.png", outside)], [("1.png", "A/p.png")]]


@pytest.mark.parametrize("archive", [False, True])
def test_a_list_beside_the_images_is_found_where_nothing_else_says_what_belongs_together(listed, tmp_path, archive):
    def place(*files):
        if not archive:
            return tmp_path
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
            for file in ["pairs.csv", *files]:
                made.write(tmp_path / file, f"root/{file}")
        return tmp_path / "x.zip"

    images = [name for pair in CROSSED for name in pair]
    listed("pairs.csv", "\n".join(map(",".join, CROSSED[:2])))
    paired = find(Paired(), place(*images))
    assert [(first[-8:], second[-9:]) for first, second in pairs(paired)] == CROSSED[:2]
    assert len(paired.notes) == 1
    assert "Left out" in paired.notes[0]
    assert "in/3.png" in paired.notes[0]
    assert len(find(Unpaired(), place(*images)).domains[0].train) == 3, "two folders are two domains"


def test_a_list_is_not_used_where_names_say_what_belongs_together(draw, listed, tmp_path):
    draw("x/a", ["1", "2"])
    draw("x/b", ["1", "2"])
    listed("x/crossed.csv", "a/1.png,b/2.png\na/2.png,b/1.png")
    assert pairs(find(Paired(), tmp_path / "x")) == [("1.png", "1.png"), ("2.png", "2.png")]


def test_a_list_of_a_flat_folder_and_two_of_them(draw, listed, tmp_path):
    draw("x", ["1", "2", "3", "4"])
    listed("x/paths.txt", "1.png 4.png\n2.png 3.png")
    listed("x/measures.csv", "name,width\n1,20\n")
    assert pairs(find(Unpaired(), tmp_path / "x")) == [("1.png", "4.png"), ("2.png", "3.png")]
    listed("x/second.csv", "1.png,2.png")
    with pytest.raises(DataError, match=r"has 2 lists of pairs, .*; give one of them as --data"):
        find(Unpaired(), tmp_path / "x")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "lists nothing; a list of pairs has two paths on each line"),
        ("# nothing\n\n", "lists nothing"),
        ("input,output\n", "has no line for training: it lists nothing"),
        ("in/1.png,out/x.jpg,test", "has no line for training: it lists test"),
        ("in/1.png,out/x.jpg\nin/2.png\n", r"line 2: one column only, 'in/2.png'\. A line has two paths of images"),
        ("in/1.png\nin/1.png,out/x.jpg", r"line 1: one column only, 'in/1\.png'\. A line has two"),
        ("in/1.png,out/gone.jpg", r"line 1: 'out/gone\.jpg' is not there"),
        ("in/1.png,out/x.jpg\n\nin/1.txt,out/y.jpg", r"line 3: 'in/1\.txt' is no image by its name"),
        ("in/1.png,out/x.jpg,a", "line 1: 'a' is none of train, test and val"),
        ("in/1.png,out/x.jpg,train,1", "line 1: 4 columns"),
        ("in/1.png,", "line 1: an empty column"),
        ("in/\0.png,out/x.jpg", "line 1: 'in/.*' is not there"),
        (f"in/{'x' * 5000}.png,out/x.jpg", "line 1: 'in/x*.png' is not there"),
        ("\n".join(["a.png,b.png"] * 9), "line 1: .*; line 2: .*; line 3: .* and 6 more"),
        (b"in/1.png,\xff.png", "is no text in UTF-8"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_with_its_line(listed, text, problem):
    path = listed("pairs.csv", text)
    with pytest.raises(DataError, match=problem) as error:
        find(Paired(), path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("name", ["../1.png", "/in/1.png", "../../etc/1.png"])
def test_a_list_in_an_archive_stays_in_it(draw, tmp_path, name):
    draw("", ["1"])
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(tmp_path / "1.png", "a.png")
        archive.writestr("pairs.csv", f"{name},a.png")
    with pytest.raises(DataError, match=r"x.zip/pairs.csv, line 1: .* is not there"):
        find(Paired(), tmp_path / "x.zip")


def test_a_list_given_as_one_domain_is_refused(listed):
    path = str(listed("pairs.csv", "in/1.png,out/x.jpg"))
    with pytest.raises(
        DataError, match=r"neither an image nor an archive, by its name; a list of pairs is given as --da"
    ):
        detect_layout(Unpaired(), DataOptions(a=path, b=path))
