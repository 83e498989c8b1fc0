"""Which files belong to which domain: layouts are recognised, never asked for.

    --a DIR --b DIR                           two folders; each may have train/ and test/ or val/ inside
    DIR/trainA DIR/trainB [DIR/testA ...]     also valA, train_a, ...
    DIR/train [DIR/test or DIR/val]           each with two sub-folders, or side-by-side images
    DIR/A DIR/B                               any two sub-folders; a is the first by name
    DIR/*.jpg                                 side-by-side images, twice as wide as high: left is a, right is b
    DIR/CLASS/*                               one domain with labels

DIR may be a zip or tar archive, with or without one folder around everything. A folder that is called train, trainA or
the like and has a test or val folder beside it gets its held-out images from there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from translate.data.datasets import Resolved, resolve, two_domains
from translate.data.domains import Labelled, Needs, Paired, Part
from translate.data.images import Header, is_side_by_side, read_header
from translate.data.options import DataOptions
from translate.data.sources import IMAGE_SUFFIXES, Entry, Source, in_parallel, open_source
from translate.errors import DataError, UsageError

HELD_OUT = ("test", "val", "valid", "validation")
_SPLIT = re.compile(r"(train|test|val|valid|validation)(?:[ _-]?(a|b))?", re.IGNORECASE)
_KNOWN_LAYOUTS = (
    "two folders (--a, --b); trainA/ and trainB/; train/ with two sub-folders or side-by-side images; two sub-folders; "
    "images twice as wide as high (left and right)"
)


@dataclass(frozen=True)
class Domain:
    """The files of one domain.

    name: the letter or word of the model's declaration.
    title, location: what the user calls it, for pictures and for errors.
    train, held_out: the files; the two domains of side-by-side files share the same tuples.
    part: which half of each file, None for the whole.
    classes: names of the sub-folders, in label order.
    """

    name: str
    title: str
    location: str
    train: tuple[Entry, ...]
    held_out: tuple[Entry, ...]
    part: Part = None
    classes: tuple[str, ...] = ()

    def label(self, entry: Entry) -> int:
        """The class of an image: the index of its sub-folder."""
        return self.classes.index(entry.name.partition("/")[0])


@dataclass(frozen=True)
class Layout:
    """What was recognised.

    paired_held_out: the i-th held-out images of the two domains, or the training images that stand in for them, show
        the same scene.
    notes: sentences for the user.
    """

    domains: tuple[Domain, ...]
    paired_held_out: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Side:
    """One domain's images as found, before the model's need is looked at."""

    train: Source
    held_out: Source | None
    title: str
    part: Part = None


def recognise(needs: Needs, options: DataOptions) -> Layout:
    """The files of every domain that a model needs.

    Raises UsageError for flags that contradict each other, DataError for images that are missing or fit no layout.
    """
    _check_flags(needs, options)
    notes: list[str] = []
    if len(needs.names) == 1:
        sides = [_held_out_given(_side(options.images or ""), options.test_images)]
    else:
        apart = ((options.a, options.test_a), (options.b, options.test_b))
        sides = _data_sides(options) if options.data else [_held_out_given(_side(x or ""), test) for x, test in apart]
        if options.swap:
            sides.reverse()
            notes.append(f"Swapped: {needs.names[0]} is {_name(sides[0])}, {needs.names[1]} is {_name(sides[1])}.")
    for side in sides:
        for source in filter(None, (side.train, side.held_out)):
            _check_images(source, notes)
        if side.held_out is not None and side.part != "right":
            notes.append(f"Held out: {_count(side.held_out.entries, 'image')} in {side.held_out.location}.")
    domains = [
        Domain(name, side.title, side.train.location, side.train.entries, _entries(side.held_out), side.part)
        for name, side in zip(needs.names, sides, strict=True)
    ]
    if isinstance(needs, Labelled):
        domains = [_with_classes(domain, needs.optional, notes) for domain in domains]
    if len(domains) == 2:
        return _corresponding(domains, isinstance(needs, Paired), notes)
    return Layout(tuple(domains), False, tuple(notes))


def _check_flags(needs: Needs, options: DataOptions) -> None:
    """Raises UsageError unless the flags name the images of every domain exactly once."""
    pair = {"--data": options.data, "--a": options.a, "--b": options.b}
    pair |= {"--test-data": options.test_data, "--test-a": options.test_a, "--test-b": options.test_b}
    single = {"--images": options.images, "--test-images": options.test_images}
    two = len(needs.names) == 2
    for flag, value in (single if two else pair).items():
        if value is not None:
            wanted = "two domains: give --a and --b, or --data" if two else "one domain: give --images"
            raise UsageError(f"{flag} does not fit: this model has {wanted}.")
    if options.swap and options.data is None:
        raise UsageError("--swap exchanges the two sides of --data; with --a and --b, exchange the two yourself.")
    if not two:
        if options.images is None:
            raise UsageError("No images: give --images DOMAIN, a folder, an archive or the name of a domain.")
    elif options.data is not None:
        if options.a is not None or options.b is not None:
            raise UsageError("--data holds both domains, so --a and --b do not go with it; give one or the other.")
        if options.test_a is not None or options.test_b is not None:
            raise UsageError("--test-a and --test-b go with --a and --b; with --data, give --test-data.")
    elif options.a is None or options.b is None:
        given = " --a without --b." if options.a else " --b without --a." if options.b else ""
        raise UsageError(f"Two domains are needed:{given or ' none is given.'} Give --a and --b, or --data for both.")
    if options.test_data is not None and options.data is None:
        raise UsageError("--test-data goes with --data; with --a and --b, give --test-a and --test-b.")


# One domain ----------------------------------------------------------------------------------------------------------


def _side(text: str) -> _Side:
    """One domain's training images, and its held-out ones where they are recognised."""
    found: Resolved = resolve(text)
    train, held_out = (found.train, found.held_out) if found.held_out else _split(found.train)
    return _Side(train, held_out, _title(found.train) if found.held_out is None else found.title)


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


def _held_out_given(side: _Side, test: str | None) -> _Side:
    return side if test is None else replace(side, held_out=_unwrapped(resolve(test).train))


def _with_classes(domain: Domain, optional: bool, notes: list[str]) -> Domain:
    """The domain with the classes of its sub-folders; images that belong to none are left out."""
    classes = tuple(sorted({entry.name.partition("/")[0] for entry in domain.train if "/" in entry.name}))
    if not classes and optional:
        return domain
    if not classes:
        raise DataError(
            f"{domain.location} has no sub-folders; this model needs one sub-folder of images for each class."
        )

    def labelled(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        kept = tuple(entry for entry in entries if "/" in entry.name and entry.name.partition("/")[0] in classes)
        if len(kept) < len(entries):
            stray = [entry.origin for entry in entries if entry not in kept]
            notes.append(f"Left out {_some(stray)}: in no class sub-folder.")
        return kept

    return replace(domain, classes=classes, train=labelled(domain.train), held_out=labelled(domain.held_out))


# Two domains in one place --------------------------------------------------------------------------------------------


def _data_sides(options: DataOptions) -> list[_Side]:
    """The two domains of --data, and of --test-data if given."""
    text = options.data or ""
    words = two_domains(text)
    if words:
        sides = [_side(word) for word in words]
    else:
        source = _unwrapped(resolve(text).train)
        splits = _splits(source)
        train = splits.get("train", {"": source})
        beside = _beside(source)
        held_out = next((splits[word] for word in HELD_OUT if word in splits), {"": beside} if beside else {})
        sides = _two_sides(train, source, held_out)
    if options.test_data is None:
        return sides
    tested = _unwrapped(resolve(options.test_data).train)
    tests = _two_sides({"": tested}, tested, {})
    if [test.part for test in tests] != [side.part for side in sides]:
        raise DataError(f"{tested.location} is laid out otherwise than {text}; lay the held-out images out alike.")
    return [replace(side, held_out=test.train) for side, test in zip(sides, tests, strict=True)]


def _splits(source: Source) -> dict[str, dict[str, Source]]:
    """{"train": {"a": trainA, "b": trainB}, ...}, or {"train": {"": train}, ...}, from the names of the sub-folders."""
    found: dict[str, dict[str, Source]] = {}
    for name, folder in source.folders().items():
        match = _SPLIT.fullmatch(name)
        if match:
            found.setdefault(match[1].lower(), {})[(match[2] or "").lower()] = folder
    return found


def _two_sides(train: Mapping[str, Source], whole: Source, held_out: Mapping[str, Source]) -> list[_Side]:
    """Both domains of one split; the held-out ones only if they are laid out alike."""
    first = _halves(train)
    if first is None:
        raise _not_recognised(whole)
    second = _halves(held_out)
    alike = second is not None and [part for _, part in first] == [part for _, part in second]
    tests = [source for source, _ in second] if second is not None and alike else [None, None]
    return [
        _Side(source, test, _title(source) if part is None else f"{_title(source)}, {part}", part)
        for (source, part), test in zip(first, tests, strict=True)
    ]


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


def _not_recognised(source: Source) -> DataError:
    """What was seen, and what would be recognised."""
    _check_images(source, [])
    folders = list(source.folders())
    headers = _headers(source.entries)
    sizes = sorted({(header.width, header.height) for header in headers})
    seen = [_count(source.entries, "image")]
    seen += [f"in {len(folders)} sub-folders ({_some(folders)})"] if folders else ["in no sub-folders"]
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


# What corresponds ----------------------------------------------------------------------------------------------------


def _corresponding(domains: list[Domain], paired: bool, notes: list[str]) -> Layout:
    """Two domains, matched by name where they must correspond or, held out, happen to."""
    a, b = domains
    if a.part is not None and a.train is b.train:
        return Layout((a, b), a.held_out is b.held_out, tuple(notes))
    if paired:
        first, second = _pairs(a.train, b.train, (a.location, b.location), notes)
        a, b = replace(a, train=first), replace(b, train=second)
    if paired and bool(a.held_out) != bool(b.held_out):
        notes.append("Held-out images are not used: one domain has some, the other has none.")
        a, b = replace(a, held_out=()), replace(b, held_out=())
    stems = [{entry.stem for entry in domain.held_out} for domain in (a, b)]
    same = bool(a.held_out) and stems[0] == stems[1] and len(stems[0]) == len(a.held_out) == len(b.held_out)
    if (paired and a.held_out) or same:
        locations = (f"the held-out images of {a.location}", f"those of {b.location}")
        first, second = _pairs(a.held_out, b.held_out, locations, notes)
        a, b = replace(a, held_out=first), replace(b, held_out=second)
    return Layout((a, b), same or paired, tuple(notes))


def _pairs(
    a: Sequence[Entry], b: Sequence[Entry], locations: tuple[str, str], notes: list[str]
) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
    """The images of both sides that share a name (relative, without extension), in order of name."""
    first, second = _by_stem(a), _by_stem(b)
    common = sorted(first.keys() & second.keys())
    if not common:
        raise DataError(
            f"{locations[0]} and {locations[1]} share no file name (for example {min(first)!r} and {min(second)!r}); "
            "images are paired by name, the extension aside: give both sides of a pair the same name."
        )
    for mine, others, location in ((first, second, locations[1]), (second, first, locations[0])):
        alone = [mine[stem].origin for stem in sorted(mine.keys() - others.keys())]
        if alone:
            notes.append(f"Left out {_some(alone)}: no partner in {location}.")
    return tuple(first[stem] for stem in common), tuple(second[stem] for stem in common)


def _by_stem(entries: Iterable[Entry]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in entries:
        other = found.setdefault(entry.stem, entry)
        if other is not entry:
            raise DataError(
                f"{other.origin} and {entry.origin} differ in their extension only, so it is not clear which one "
                "belongs to the pair; keep one of them."
            )
    return found


# Helpers -------------------------------------------------------------------------------------------------------------


def _unwrapped(source: Source) -> Source:
    """The source without folders that merely hold everything, as archives often have."""
    folders = source.folders()
    while len(folders) == 1 and not source.files() and not any(_SPLIT.fullmatch(name) for name in folders):
        (source,) = folders.values()
        folders = source.folders()
    return source


def _check_images(source: Source, notes: list[str]) -> None:
    if not source.entries:
        held = f"{_count(source.others, 'file')}, but none is an image by its name" if source.others else "no files"
        raise DataError(
            f"{source.location} has no images: it holds {held}. Read are {', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    if source.others:
        note = f"Ignored in {source.location}, as no images by their names: {_some(source.others)}."
        if note not in notes:
            notes.append(note)


def _entries(source: Source | None) -> tuple[Entry, ...]:
    return source.entries if source else ()


def _name(side: _Side) -> str:
    return f"the {side.part} half" if side.part else side.title


def _title(source: Source) -> str:
    """The source's title, or that of the folder around it if it is just called train."""
    return (PurePosixPath(source.location).parent.name if source.title.lower() == "train" else "") or source.title


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things):,} {noun}{'' if len(things) == 1 else 's'}"


def _some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more:,} more" if more > 0 else "")
