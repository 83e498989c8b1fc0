"""What is at a place that the user named: the images of one domain, or of both, for training and held out."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from translate.data.catalogue.datasets import resolve, two_domains
from translate.data.domains import Part
from translate.data.files.readers import read_header
from translate.data.files.sources import Entry, Source, image_suffixes, open_source
from translate.data.images import is_side_by_side
from translate.data.layout.pairs import HELD_OUT, Listed, is_list, lists_inside, read_list, read_list_inside
from translate.errors import DataError
from translate.formatting import first_few, plural
from translate.plugins.types import Header
from translate.threads import in_parallel

_SPLIT = re.compile(r"(train|test|val|valid|validation)(?:[ _-]?(a|b))?", re.IGNORECASE)
_KNOWN_LAYOUTS = (
    "two folders (--a, --b); trainA/ and trainB/; train/ with two sub-folders or side-by-side images; two sub-folders; "
    "images twice as wide as high (left and right); a list of pairs (pairs.csv, paths.txt)"
)


@dataclass(frozen=True)
class Side:
    """One domain's images as found, before the model's need is looked at."""

    train: Source
    held_out: Source | None
    title: str
    part: Part = None


# One domain ----------------------------------------------------------------------------------------------------------


def one_side(text: str, test: str | None, notes: list[str]) -> Side:
    """One domain's training images, and its held-out ones where they are given or recognised."""
    found = resolve(text)
    train, held_out = (found.train, found.held_out) if found.held_out else _split(found.train)
    side = Side(train, held_out, _title(found.train) if found.held_out is None else found.title, found.part)
    _note_unused(found.train, [side], notes)
    return side if test is None else replace(side, held_out=held_out_given(test, side.part))


def held_out_given(text: str, part: Part) -> Source:
    """The held-out images of one domain that the user names; DataError if they are not whole or halves alike."""
    found = resolve(text)
    if found.part != part:
        raise DataError(f"{text} is laid out otherwise than the training images: {_shape(found.part)}, {_shape(part)}.")
    return _unwrapped(found.held_out or found.train)


def _split(source: Source) -> tuple[Source, Source | None]:
    """train/ and test/ (or val/) inside, if nothing else is; otherwise all of it, and the test folder beside it."""
    whole = _unwrapped(source)
    folders = {name.lower(): folder for name, folder in whole.folders().items()}
    if "train" in folders and folders.keys() <= {"train", *HELD_OUT} and not whole.files():
        return folders["train"], next((folders[word] for word in HELD_OUT if word in folders), None)
    return whole, _beside(source)


def _beside(source: Source) -> Source | None:
    """The held-out counterpart on disk of a folder .../trainA, .../train or .../train/x."""
    if source.path is None:
        return None
    path = Path(os.path.abspath(source.path))
    for folder, rest in ((path, ""), (path.parent, path.name)):
        match = _SPLIT.fullmatch(folder.name)
        if match and match[1].lower() == "train":
            for word in HELD_OUT:
                candidate = folder.with_name(word + folder.name[len("train") :]) / rest
                if candidate.is_dir():
                    return open_source(candidate)
    return None


# Two domains in one place --------------------------------------------------------------------------------------------


def two_sides(text: str, test: str | None, paired: bool, notes: list[str]) -> list[Side]:
    """The two domains of --data, and of --test-data if given; paired: whether each image needs its partner."""
    sides = _in_one_place(text, paired, notes)
    if test is None:
        return sides
    tests = _in_one_place(test, paired, notes)
    if [each.part for each in tests] != [side.part for side in sides]:
        raise DataError(f"{test} is laid out otherwise than {text}; lay the held-out images out alike.")
    return [replace(side, held_out=each.held_out or each.train) for side, each in zip(sides, tests, strict=True)]


def _in_one_place(text: str, paired: bool, notes: list[str]) -> list[Side]:
    """The two domains that are in one place: a data set's, a list's, or those of a folder or archive."""
    if words := two_domains(text):
        return sharing_files([one_side(word, None, notes) for word in words])
    if is_list(path := Path(os.path.expanduser(text))):
        return _listed_sides(read_list(path, notes))
    found = resolve(text).train
    source = _unwrapped(found)
    sides = _folder_sides(source, _beside(source))
    lists = lists_inside(found) if sides is None or (paired and not _share_names(sides)) else []
    if len(lists) == 1:
        sides = _listed_sides(read_list_inside(found, lists[0], notes))
    if sides is None:
        raise _not_recognised(source, [file.origin for file in lists])
    _note_unused(found, sides, notes)
    return sides


def _listed_sides(listed: Listed) -> list[Side]:
    held_out = listed.held_out or (None, None)
    return [Side(*columns) for columns in zip(listed.train, held_out, listed.titles, strict=True)]


def _share_names(sides: Sequence[Side]) -> bool:
    keys = [{entry.key for entry in side.train.entries} for side in sides]
    return not keys[0].isdisjoint(keys[1])


def _splits(source: Source) -> dict[str, dict[str, Source]]:
    """{"train": {"a": trainA, "b": trainB}, ...}, or {"train": {"": train}, ...}, from the names of the sub-folders."""
    found: dict[str, dict[str, Source]] = {}
    for name, folder in source.folders().items():
        match = _SPLIT.fullmatch(name)
        if match:
            found.setdefault(match[1].lower(), {})[(match[2] or "").lower()] = folder
    return found


def _folder_sides(source: Source, beside: Source | None) -> list[Side] | None:
    """Both domains of a folder or archive; the held-out ones only if they are laid out alike."""
    splits = _splits(source)
    held_out = next((splits[word] for word in HELD_OUT if word in splits), {"": beside} if beside else {})
    first, second = _halves(splits.get("train", {"": source})), _halves(held_out)
    if first is None:
        return None
    alike = second is not None and [part for _, part in first] == [part for _, part in second]
    tests = [test for test, _ in second] if second is not None and alike else [None, None]
    return [
        Side(train, test, _title(train) if part is None else f"{_title(train)}, {part}", part)
        for (train, part), test in zip(first, tests, strict=True)
    ]


def sharing_files(sides: list[Side]) -> list[Side]:
    """The sides; halves of the same side-by-side images share their files, so that each is decoded once."""
    a, b = sides[0], sides[-1]
    if a is b or None in (a.part, b.part) or a.train.location != b.train.location:
        return sides
    alike = a.held_out and b.held_out and a.held_out.location == b.held_out.location
    return [a, replace(b, train=a.train, held_out=a.held_out if alike else b.held_out)]


def _halves(split: Mapping[str, Source]) -> list[tuple[Source, Part]] | None:
    """The two domains of one split: trainA and trainB, two sub-folders, or the halves of side-by-side images."""
    if "a" in split and "b" in split:
        return [(split["a"], None), (split["b"], None)]
    if "" not in split:
        return None
    whole = split[""]
    folders = list(whole.folders().values())
    if len(folders) == 2 and not whole.files():
        return [(folders[0], None), (folders[1], None)]
    headers = _headers(whole.entries)
    if headers and all(is_side_by_side(header.height, header.width) for header in headers):
        return [(whole, "left"), (whole, "right")]
    return None


def _not_recognised(source: Source, lists: Sequence[str]) -> DataError:
    """What was seen, and what would be recognised."""
    check_images(source, [])
    if lists:
        return DataError(
            f"{source.location} has {len(lists)} lists of pairs, {first_few(lists)}; give one of them as --data."
        )
    folders = list(source.folders())
    headers = _headers(source.entries)
    sizes = sorted({(header.width, header.height) for header in headers})
    seen = [plural(len(source.entries), "image")]
    seen += [f"in {len(folders)} sub-folders ({first_few(folders)})"] if folders else ["in no sub-folders"]
    if sizes:
        low, high = (f"{width}×{height}" for width, height in (sizes[0], sizes[-1]))
        wide = sum(is_side_by_side(header.height, header.width) for header in headers)
        seen.append(f"of {low} pixels" if low == high else f"of {low} to {high} pixels, {wide:,} twice as wide as high")
    return DataError(
        f"{source.location} does not look like two domains: it has {', '.join(seen)}. Recognised are: {_KNOWN_LAYOUTS}."
    )


def _headers(entries: Sequence[Entry]) -> list[Header]:
    """The headers that can be read; files that cannot are reported when they are decoded."""

    def attempt(entry: Entry) -> Header | None:
        try:
            return read_header(entry)
        except DataError:
            return None

    return [header for header in in_parallel(attempt, entries) if header is not None]


# Helpers -------------------------------------------------------------------------------------------------------------


def _unwrapped(source: Source) -> Source:
    """The source without folders that merely hold everything, as archives often have."""
    folders = source.folders()
    while len(folders) == 1 and not source.files() and not any(_SPLIT.fullmatch(name) for name in folders):
        (source,) = folders.values()
        folders = source.folders()
    return source


def check_images(source: Source, notes: list[str]) -> None:
    """Raises DataError if there are none; notes what is ignored."""
    if not source.entries:
        held = (
            f"{plural(len(source.others), 'file')}, but none is an image by its name" if source.others else "no files"
        )
        raise DataError(
            f"{source.location} has no images: it holds {held}. Read are {', '.join(sorted(image_suffixes()))}."
        )
    if source.others:
        notes.append(f"Ignored in {source.location}, as they are no images: {first_few(source.others)}.")


def _note_unused(source: Source, sides: Sequence[Side], notes: list[str]) -> None:
    """Notes the images of a folder or archive that are in no domain."""
    used = {
        entry.origin
        for side in sides
        for part in (side.train, side.held_out)
        if part is not None
        for entry in part.entries
    }
    unused = [entry.origin for entry in source.entries if entry.origin not in used]
    if unused:
        notes.append(f"Left out {first_few(unused)}: in no domain of the layout that was recognised.")


def _shape(part: Part) -> str:
    return f"{part} halves of images" if part else "whole images"


def _title(source: Source) -> str:
    """The source's title, or that of the folder around it if it is just called train."""
    return (PurePosixPath(source.location).parent.name if source.title.lower() == "train" else "") or source.title
