"""One domain or two in a folder or an archive, by the names of its sub-folders and by the shapes of its images."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from translate.data.files.readers import read_header
from translate.data.files.sources import Entry, Source, open_source
from translate.data.images import is_side_by_side
from translate.errors import DataError
from translate.formatting import first_few, plural
from translate.plugins.types import Header
from translate.threads import in_parallel

HELD_OUT = ("test", "val", "valid", "validation")
"""Names of held-out images, the preferred one first."""
_SPLIT = re.compile(rf"(train|{'|'.join(HELD_OUT)})(?:[ _-]?(a|b))?", re.IGNORECASE)
_KNOWN_LAYOUTS = (
    "two folders (--a, --b); trainA/ and trainB/; train/ with two sub-folders or side-by-side images; two sub-folders; "
    "images twice as wide as high (left and right); a list of pairs (pairs.csv, paths.txt)"
)


def find_one_domain(source: Source) -> Source:
    """The training images of one domain, with the held-out ones that are given or recognised.

    Inside the source, train/ and test/ (or val/) are recognised if there is nothing else.
    """
    if source.held_out is not None:
        return source
    train = unwrap(source)
    folders = {name.lower(): folder for name, folder in train.folders().items()}
    if "train" in folders and folders.keys() <= {"train", *HELD_OUT} and not train.files():
        train, held_out = folders["train"], next((folders[name] for name in HELD_OUT if name in folders), None)
    else:  # all of it, and the test folder beside it
        held_out = _beside(source)
    notes = describe_unused(source, [train, held_out])
    return replace(train, title=_title(source), part=source.part, held_out=held_out, notes=notes)


def find_two_domains(source: Source) -> list[Source]:
    """Both domains of a folder or archive, or none of them; the held-out images only if they are laid out alike."""
    splits: dict[str, dict[str, Source]] = {}  # {"train": {"a": trainA, "b": trainB}} or {"train": {"": train}}
    for name, folder in source.folders().items():
        if match := _SPLIT.fullmatch(name):
            splits.setdefault(match[1].lower(), {})[(match[2] or "").lower()] = folder
    domains = _find_in_split(splits.get("train", {"": source}))
    if not domains:
        return []
    beside = _beside(source)
    held_out = _find_in_split(
        next((splits[name] for name in HELD_OUT if name in splits), {"": beside} if beside else {})
    )
    alike = [domain.part for domain in domains] == [domain.part for domain in held_out]
    return [
        replace(
            domain,
            title=_title(domain) + (f", {domain.part}" if domain.part else ""),
            held_out=held_out[i] if alike else None,
        )
        for i, domain in enumerate(domains)
    ]


def unwrap(source: Source) -> Source:
    """The source without an outer folder that holds everything, as archives often have."""
    folders = source.folders()
    while len(folders) == 1 and not source.files() and not any(_SPLIT.fullmatch(name) for name in folders):
        (source,) = folders.values()
        folders = source.folders()
    return source


def describe_unused(source: Source, used: Sequence[Source | None]) -> tuple[str, ...]:
    """A note of the images of a source that are in none of those that are used, if there are any."""
    origins = {entry.origin for part in used if part for entry in part.entries}
    left_out = [entry.origin for entry in source.entries if entry.origin not in origins]
    return (f"Left out {first_few(left_out)}: in no domain of the layout that was recognised.",) if left_out else ()


def explain_unrecognised(source: Source, lists: Sequence[str]) -> DataError:
    """The error for a source without two domains: what was found, and what would be recognised.

    lists: the lists of pairs in it, too many to choose one.
    """
    source.require_images()
    if lists:
        return DataError(
            f"{source.location} has {len(lists)} lists of pairs, {first_few(lists)}; give one of them as --data."
        )
    folders = list(source.folders())
    headers = _headers(source.entries)
    sizes = sorted({(header.width, header.height) for header in headers})
    found = [plural(len(source.entries), "image")]
    found += [f"in {len(folders)} sub-folders ({first_few(folders)})"] if folders else ["in no sub-folders"]
    if sizes:
        low, high = (f"{width}×{height}" for width, height in (sizes[0], sizes[-1]))
        wide = sum(is_side_by_side(header.height, header.width) for header in headers)
        found.append(
            f"of {low} pixels" if low == high else f"of {low} to {high} pixels, {wide:,} twice as wide as high"
        )
    return DataError(
        f"{source.location} does not look like two domains: it has {', '.join(found)}. Recognised are: "
        f"{_KNOWN_LAYOUTS}."
    )


def _beside(source: Source) -> Source | None:
    """The held-out counterpart on disk of a folder .../trainA, .../train or .../train/x."""
    if source.path is None:
        return None
    path = Path(os.path.abspath(source.path))
    for folder, rest in ((path, ""), (path.parent, path.name)):
        match = _SPLIT.fullmatch(folder.name)
        if match and match[1].lower() == "train":
            for name in HELD_OUT:
                candidate = folder.with_name(name + folder.name[len("train") :]) / rest
                if candidate.is_dir():
                    return open_source(candidate)
    return None


def _find_in_split(split: Mapping[str, Source]) -> list[Source]:
    """Both domains of one split, or none: trainA and trainB, two sub-folders, or halves of side-by-side images."""
    if "a" in split and "b" in split:
        return [split["a"], split["b"]]
    if "" not in split:
        return []
    whole = split[""]
    folders = list(whole.folders().values())
    if len(folders) == 2 and not whole.files():
        return folders
    headers = _headers(whole.entries)
    if headers and all(is_side_by_side(header.height, header.width) for header in headers):
        return [replace(whole, part="left"), replace(whole, part="right")]
    return []


def _headers(entries: Sequence[Entry]) -> list[Header]:
    """The headers that can be read; files that cannot are reported when they are decoded."""

    def attempt(entry: Entry) -> Header | None:
        try:
            return read_header(entry)
        except DataError:
            return None

    return [header for header in in_parallel(attempt, entries) if header is not None]


def _title(source: Source) -> str:
    """The source's title, or that of the folder around it if it is just called train."""
    return (PurePosixPath(source.location).parent.name if source.title.lower() == "train" else "") or source.title
