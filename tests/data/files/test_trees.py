"""Any folder tree of any names: read alike as a folder and as an archive, never changed, and no image forgotten."""

import os
import re
import shutil
import tarfile
import tempfile
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

from drawn_images import encoded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from translate.data.files.sources import open_source
from translate.data.layout.detection import detect_layout
from translate.data.options import DataOptions
from translate.domains import Images, Labelled, Paired, Unpaired
from translate.errors import TranslateError

SQUARE, WIDE = encoded(1, size=(4, 4)), encoded(2, size=(8, 4))
short = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])

known = st.sampled_from(["trainA", "trainB", "testA", "testB", "train", "test", "val", "a", "b", "A", "x", "__MACOSX"])
letters = st.characters(exclude_categories=["Cs"], exclude_characters="/\0")
free = st.text(letters, min_size=1, max_size=12).filter(lambda name: name not in (".", ".."))
odd = st.sampled_from(["-x", " ", "...", ".hidden", "ü", "日本", "a" * 120, "1.2.3", "CON", "a\\b", "~", "x\n"])
stems = st.one_of(known, odd, free)
suffixes = st.sampled_from([".png", ".PNG", ".jpg", ".Jpg", "", ".txt", ".csv", ".", ".png.txt"])
files = st.builds("{}{}".format, stems, suffixes)
contents = st.sampled_from([SQUARE, SQUARE, WIDE, b"", b"no image"])
paths = st.builds(lambda folders, file: "/".join([*folders, file]), st.lists(stems, max_size=3), files)
trees = st.dictionaries(paths, contents, max_size=12)
batch_specs = st.sampled_from([Unpaired(), Paired(), Images(), Labelled(), Labelled(optional=True)])


@contextmanager
def made(tree, folders=(), links=()):
    """A folder with these files, empty folders and links; what has no room on this file system is left out."""
    root = Path(tempfile.mkdtemp())
    try:
        for name, data in tree.items():
            with suppress(OSError):  # a file is where a folder should be, or the name is too long
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(data)
        for name in folders:
            with suppress(OSError):
                (root / name).mkdir()
        for name, target in links:
            with suppress(OSError):
                (root / name).symlink_to(target)
        yield root
    finally:
        shutil.rmtree(root)


def attempt(function):
    """What a function gives, or nothing, and what its error for users says."""
    try:
        return function(), ""
    except TranslateError as error:
        return None, str(error)


def snapshot(root):
    """Everything below a folder: kind, content, permissions and times."""
    found = {}
    for folder, folders, names in os.walk(os.fsencode(root)):
        for name in [*folders, *names]:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if os.path.islink(path):
                content = os.readlink(path)
            else:
                content = Path(os.fsdecode(path)).read_bytes() if os.path.isfile(path) else b""
            found[path] = (status.st_mode, status.st_size, status.st_mtime_ns, content)
    return found


def images(root):
    """The images of a folder by its tree alone, hidden ones aside, with links to folders left out."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            parts = path.relative_to(root).parts
            hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
            if path.suffix.lower() in (".png", ".jpg") and not hidden:
                yield str(path)


def flags(batch_spec, root, **more):
    return DataOptions(**{"images" if len(batch_spec.names) == 1 else "data": str(root)}, **more)


@short
@given(trees, st.lists(stems, max_size=2), st.lists(st.tuples(files, stems | st.just("..")), max_size=3), batch_specs)
def test_any_tree_is_a_layout_or_an_error_and_stays_as_it_is(tree, folders, links, batch_spec):
    with made(tree, folders, links) as root:
        before = snapshot(root)
        for more in ({}, {"holdout": "20%"}):
            layout, error = attempt(lambda more=more: detect_layout(batch_spec, flags(batch_spec, root, **more)))
            assert layout or error
            for domain in layout.domains if layout else ():
                assert domain.train
                assert not set(domain.train) & set(domain.held_out)
        assert snapshot(root) == before


@short
@given(trees, batch_specs)
def test_every_image_is_in_a_domain_or_named_in_a_note(tree, batch_spec):
    with made(tree) as root:
        layout, _ = attempt(lambda: detect_layout(batch_spec, flags(batch_spec, root)))
        if layout is None:
            return
        used = {entry.origin for domain in layout.domains for entry in (*domain.train, *domain.held_out)}
        left_out = [note for note in layout.notes if note.startswith("Left out")]
        unmentioned = [name for name in images(root) if name not in used and not any(name in note for note in left_out)]
        more = sum(int(number) for note in left_out for number in re.findall(r" and (\d+) more: ", note))
        assert len(unmentioned) == more, unmentioned


folder_trees = st.dictionaries(st.sampled_from(["a", "b", "trainA", "trainB", "testB"]), st.sets(files, max_size=4))


@short
@given(folder_trees, st.sampled_from([Unpaired(), Paired()]))
def test_two_folders_of_any_names_are_domains_with_every_image_accounted_for(tree, batch_spec):
    test_every_image_is_in_a_domain_or_named_in_a_note.hypothesis.inner_test(
        {f"{folder}/{name}": SQUARE for folder, names in tree.items() for name in names}, batch_spec
    )


@short
@given(trees)
def test_a_folder_and_its_archives_hold_the_same(tree):
    with made(tree) as root, tempfile.TemporaryDirectory() as elsewhere:
        expected = {entry.name: entry.read() for entry in open_source(root).entries}
        paths = [Path(elsewhere, name) for name in ("x.zip", "x.tar", "x.tar.gz")]
        with zipfile.ZipFile(paths[0], "w") as archive:
            for file in sorted(root.rglob("*")):
                archive.write(file, file.relative_to(root))
        for path in paths[1:]:
            with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
                tar.add(root, ".")
        for path in paths:
            source, error = attempt(lambda path=path: open_source(path))
            if source is not None:
                assert {entry.name: entry.read() for entry in source.entries} == expected
            else:  # what is a mere letter here leads outside on another system
                assert "points outside of it" in error
                assert any(re.match(r"[A-Za-z]:|\\|.*\.\.", part) for name in tree for part in (name, *name.split("/")))


@short
@given(st.binary(max_size=600), st.sampled_from(["x.zip", "x.tar", "x.csv", "x.txt", "x"]), st.data())
def test_any_bytes_are_an_archive_or_an_error(noise, name, data):
    with made({"a/1.png": SQUARE, "b/1.png": SQUARE}) as root, tempfile.TemporaryDirectory() as elsewhere:
        path = Path(elsewhere, name)
        if name == "x.zip":
            with zipfile.ZipFile(path, "w") as archive:
                for file in sorted(root.rglob("*")):
                    archive.write(file, file.relative_to(root))
        elif name == "x.tar":
            with tarfile.open(path, "w") as tar:
                tar.add(root, ".")
        start = path.read_bytes() if path.exists() else b""
        at = data.draw(st.integers(0, len(start)))
        path.write_bytes(start[:at] + noise + start[at + data.draw(st.integers(0, len(noise))) :])

        def read():
            layout = detect_layout(Unpaired(), DataOptions(data=str(path)))
            return [entry.read() for domain in layout.domains for entry in domain.train]

        found, error = attempt(read)
        assert found or name in error
