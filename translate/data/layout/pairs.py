"""Which images belong together: those of the same name, or those on one line of a list of pairs.

    a/1.png, photos/first.jpg           separated by commas, semicolons, tabs or blanks; "quoted" where a name has some
    a/2.png, photos/second.jpg, test    a third column may be train, test or val

A list is a text file (.csv, .tsv, .txt) in UTF-8. Its first line may name the columns; empty lines and lines that begin
with # are skipped. Paths are relative to the list's folder, to a folder A or B in it (the first column to A, the second
to B), or to the folder around it; those of a list on disk may be absolute.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from translate.data.files.sources import LIST_SUFFIXES, Entry, Source, file_entry, image_suffixes
from translate.data.layout.folders import HELD_OUT
from translate.errors import DataError
from translate.formatting import first_few, plural

_SEPARATORS = ("\t", ",", ";", " ")
_MARKS = ".\\/"  # some letters of a path, and none of a column's title

Pair = tuple[Entry, Entry]
Find = Callable[[str], Entry | None]


def match_by_name(
    a: Sequence[Entry], b: Sequence[Entry], locations: tuple[str, str]
) -> tuple[tuple[Entry, ...], tuple[Entry, ...], list[str]]:
    """The images of both sides that belong together, in order of name, and notes of those without a partner."""
    first, second = _by_key(a), _by_key(b)
    common = sorted(first.keys() & second.keys())
    if not common:
        raise DataError(
            f"{locations[0]} and {locations[1]} share no file name (for example {min(first)[0]!r} and "
            f"{min(second)[0]!r}); images are paired by name, the extension aside: give both sides of a pair the same "
            "name, or list the pairs in a file (--data pairs.csv)."
        )
    notes = []
    for mine, others, location in ((first, second, locations[1]), (second, first, locations[0])):
        alone = [mine[key].origin for key in sorted(mine.keys() - others.keys())]
        if alone:
            notes.append(f"Left out {first_few(alone)}: no partner in {location}.")
    return tuple(first[key] for key in common), tuple(second[key] for key in common), notes


def is_list(path: Path) -> bool:
    """Whether a path is that of a list of pairs, by its name."""
    return path.suffix.lower() in LIST_SUFFIXES and os.path.isfile(path)


def read_list(path: Path) -> list[Source]:
    """The two domains of a list on disk. DataError, naming the lines, if some line does not name two images."""
    return _read(file_entry(path, path.name), lambda name: _on_disk(path.parent, name))


def lists_inside(source: Source) -> list[Entry]:
    """The lists of pairs that all images of a source lie beside or below: paths.txt, pairs.txt, or any .csv or .tsv."""
    found = []
    for file in source.lists:
        folder, slash, name = file.name.rpartition("/")
        may_list_pairs = name.lower() in ("paths.txt", "pairs.txt") or not name.lower().endswith(".txt")
        if may_list_pairs and all(entry.name.startswith(folder + slash) for entry in source.entries):
            found.append(file)
    return [file for file in found if _names_images(file)]


def read_list_inside(source: Source, file: Entry) -> list[Source]:
    """The two domains of a list in a folder or archive; a list in an archive cannot name files outside of it."""
    entries = {entry.name: entry for entry in source.entries}
    root = "" if source.path is None else os.path.join(os.path.abspath(source.path), "")
    folder = os.path.join(root, os.path.dirname(file.name))

    def find(name: str) -> Entry | None:
        path = os.path.normpath(os.path.join(folder, name))
        return entries.get(path.removeprefix(root).replace(os.sep, "/")) or (
            _on_disk(Path(folder), name) if root else None
        )

    return _read(file, find)


def _by_key(entries: Iterable[Entry]) -> dict[tuple[str, ...], Entry]:
    found: dict[tuple[str, ...], Entry] = {}
    for entry in entries:
        other = found.setdefault(entry.key, entry)
        if other is not entry:
            raise DataError(
                f"{other.origin} and {entry.origin} differ in their extension only, so it is not clear which one "
                "belongs to the pair; keep one of them."
            )
    return found


# Lists ---------------------------------------------------------------------------------------------------------------


def _read(file: Entry, find: Find) -> list[Source]:
    """The two domains of a list, pair by pair in order of the first name."""
    titles, lines = _titles(file)
    suffixes = image_suffixes()
    splits: dict[str, dict[tuple[str, ...], Pair]] = {}
    problems, repeated = [], 0
    for number, columns in lines:
        try:
            a, b = _pair(columns, suffixes, find)
            pairs = splits.setdefault(_split(columns), {})
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        key = (a.stem, a.name, b.name)
        repeated += key in pairs
        pairs[key] = (replace(a, pair=key), replace(b, pair=key))
    if problems:
        raise DataError(
            f"{file.origin}, {first_few(problems, '; ')}. A line has two paths of images, relative to the list's "
            "folder, and may have a third column that says train, test or val."
        )
    if "train" not in splits:
        raise DataError(f"{file.origin} has no line for training: it lists {' and '.join(splits) or 'nothing'}.")
    used = ["train", *[name for name in HELD_OUT if name in splits][:1]]
    notes = [f"Left out {plural(repeated, 'repeated line')} of {file.origin}."] if repeated else []
    notes += [
        f"Left out {plural(len(pairs), 'line')} of {file.origin}: the held-out images are others, not {split}."
        for split, pairs in splits.items()
        if split not in used
    ]
    domains = []
    for side, title in enumerate(titles):
        train, *held_out = (
            Source(file.origin, title, tuple(pairs[key][side] for key in sorted(pairs)))
            for pairs in (splits[split] for split in used)
        )
        domains.append(replace(train, held_out=held_out[0] if held_out else None, notes=() if side else tuple(notes)))
    return domains


def _pair(columns: Sequence[str], suffixes: frozenset[str], find: Find) -> Pair:
    """The two images of a line. Raises ValueError if they are not there."""
    if len(columns) == 1:
        raise ValueError(f"one column only, {columns[0]!r}")
    if len(columns) > 3:
        raise ValueError(f"{len(columns)} columns")
    for name in columns[:2]:
        if PurePosixPath(name).suffix.lower() not in suffixes:
            raise ValueError(f"{name!r} is no image by its name" if name else "an empty column")
    return _found(columns[0], "A", find), _found(columns[1], "B", find)


def _split(columns: Sequence[str]) -> str:
    split = columns[2].lower() if len(columns) == 3 else ""
    if split not in ("", "train", *HELD_OUT):
        raise ValueError(f"{columns[2]!r} is none of train, test and val")
    return split or "train"


def _found(name: str, folder: str, find: Find) -> Entry:
    for written in (name, name.replace("\\", "/")):
        for place in (written, f"{folder}/{written}", f"../{written}"):
            if entry := find(place):
                return entry
    raise ValueError(f"{name!r} is not there")


def _on_disk(folder: Path, name: str) -> Entry | None:
    """A file by its path from a folder. Its name is that path if it is inside, otherwise its whole path."""
    path = os.path.normpath(os.path.join(folder, os.path.expanduser(name)))
    inside = os.path.relpath(path, folder)
    entry_name = os.path.abspath(path).lstrip("/") if inside.startswith("..") else inside
    try:
        return file_entry(Path(path), entry_name) if os.path.isfile(path) else None
    except OSError:  # removed meanwhile, or in a folder that may not be read
        return None


def _names_images(file: Entry) -> bool:
    """Whether the first line after a title names two images."""
    try:
        _, lines = _titles(file)
        _, columns = next(lines)
    except (DataError, StopIteration):
        return False
    suffixes = [PurePosixPath(name).suffix.lower() for name in columns[:2]]
    return len(suffixes) == 2 and set(suffixes) <= image_suffixes()


def _titles(file: Entry) -> tuple[tuple[str, str], Iterator[tuple[int, list[str]]]]:
    """What the two columns are called, and the lines: their numbers and columns."""
    lines = _lines(file)
    if not lines:
        raise DataError(f"{file.origin} lists nothing; a list of pairs has two paths on each line.")
    title = PurePosixPath(file.name).stem
    titles = (f"{title}, first", f"{title}, second")
    has_titles = not any(letter in lines[0][1] for letter in _MARKS)
    separator = _separator([line for _, line in lines[int(has_titles) :]] or [lines[0][1]])
    if has_titles:
        named = _cells(lines.pop(0)[1], separator)
        titles = (named[0], named[1]) if len(named) in (2, 3) else titles
    return titles, ((number, _cells(line, separator)) for number, line in lines)


def _lines(file: Entry) -> list[tuple[int, str]]:
    """The lines that are neither empty nor comments, with their numbers."""
    try:
        text = file.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{file.origin} is no text in UTF-8, as a list of pairs must be.") from None
    lines = ((number, line.strip()) for number, line in enumerate(io.StringIO(text, newline=None), start=1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def _separator(lines: Sequence[str]) -> str:
    """The separator that makes two or three columns of a line, of the first such line, or else most of the first."""
    for line in lines:
        for separator in _SEPARATORS:
            if len(_cells(line, separator)) in (2, 3):
                return separator
    return max(_SEPARATORS, key=lambda separator: len(_cells(lines[0], separator)))


def _cells(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]
    except csv.Error:
        return [line]
