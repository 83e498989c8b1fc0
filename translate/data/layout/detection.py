"""Which files belong to which domain: layouts are recognised, never asked for.

    --a DIR --b DIR                           two folders; each may have train/ and test/ or val/ inside
    DIR/trainA DIR/trainB [DIR/testA ...]     also valA, train_a, ...
    DIR/train [DIR/test or DIR/val]           each with two sub-folders, or side-by-side images
    DIR/A DIR/B                               any two sub-folders; a is the first by name
    DIR/*.jpg                                 side-by-side images, twice as wide as high: left is a, right is b
    pairs.csv, DIR/pairs.csv                  a list of pairs, where nothing else says what belongs together (pairs.py)
    DIR/CLASS/*                               one domain with labels
    --a "gray(b)" --b DIR                     a is made from the images of b (synthesis.py)

DIR may be a zip or tar archive, with or without one folder around everything. A folder that is called train, trainA or
the like and has a test or val folder beside it gets its held-out images from there; --holdout takes them elsewhere.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from translate.data.domains import BatchSpec, Labelled, Paired, Part
from translate.data.files.sources import Entry
from translate.data.layout.pairs import matched
from translate.data.layout.sides import Side, check_images, held_out_given, one_side, sharing_files, two_sides
from translate.data.options import DataOptions
from translate.data.synthesis import parse
from translate.errors import DataError, UsageError
from translate.formatting import first_few, plural


@dataclass(frozen=True)
class DomainFiles:
    """The files of one domain.

    name: the letter or word of the model's declaration.
    title, location: what the user calls it, for pictures and for errors.
    train, held_out: the files; the two domains of side-by-side files share the same tuples, and so do a domain and
        one that is made from it, unless real images of that one are held out.
    part: which half of each file, None for the whole.
    classes: names of the sub-folders, in label order.
    real_held_out: the held-out files of a domain that is made are of this domain, and need not be made.
    synthesis: how the files, those of the other domain, become images of this one, as in "gray(b)".
    """

    name: str
    title: str
    location: str
    train: tuple[Entry, ...]
    held_out: tuple[Entry, ...]
    part: Part = None
    classes: tuple[str, ...] = ()
    synthesis: str = ""
    real_held_out: bool = False

    def label(self, entry: Entry) -> int:
        """The class of an image: the index of its sub-folder; 0 without classes."""
        return self.classes.index(entry.name.partition("/")[0]) if self.classes else 0


@dataclass(frozen=True)
class Layout:
    """What was recognised.

    paired_held_out: the i-th held-out images of the two domains, or the training images that stand in for them, show
        the same scene.
    notes: sentences for the user.
    """

    domains: tuple[DomainFiles, ...]
    paired_held_out: bool
    notes: tuple[str, ...]


class _Made(NamedTuple):
    """The domain that is made from the other one: its place, and how."""

    place: int
    text: str


def detect_layout(needs: BatchSpec, options: DataOptions) -> Layout:
    """The files of every domain that a model needs.

    Raises UsageError for flags that contradict each other, DataError for images that are missing or fit no layout.
    """
    _check_flags(needs, options)
    made = _synthesised(needs, options)
    notes: list[str] = []
    sides = _sides(needs, options, made, notes)
    _check_sides(sides, notes)
    names = [name for place, name in enumerate(needs.names) if made is None or place != made.place]
    domains = [_domain(name, side) for name, side in zip(names, sides, strict=True)]
    if isinstance(needs, Labelled):
        domains = [_with_classes(domain, needs.optional, notes) for domain in domains]
    paired = isinstance(needs, Paired)
    if paired and len(domains) == 2:
        domains = _matched_train(domains, notes)
    domains = _hold_out(domains, options, notes)
    if made is not None:
        domains = _with_synthesised(domains[0], needs, options, made, notes)
    same = False
    if len(domains) == 2:
        domains, same = _matched_held_out(domains, paired, notes)
    return Layout(tuple(domains), same, tuple(dict.fromkeys(notes)))


def _check_flags(needs: BatchSpec, options: DataOptions) -> None:
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


def _synthesised(needs: BatchSpec, options: DataOptions) -> _Made | None:
    """Which domain is made from the other one, if one is. Raises UsageError if it has nothing to be made from."""
    flags = {"--a": options.a, "--b": options.b} if len(needs.names) == 2 else {"--images": options.images}
    found = []
    for place, (flag, text) in enumerate(flags.items()):
        synthesis = None if text is None or os.path.exists(os.path.expanduser(text)) else parse(text)
        if text is None or synthesis is None:
            continue
        if synthesis.source not in needs.names or len(needs.names) == 1:
            domains = f"its domains are {' and '.join(needs.names)}" if len(needs.names) > 1 else "it has one domain"
            raise UsageError(f"{flag} {text!r} is made from a domain that this model has not: {domains}.")
        if synthesis.source == needs.names[place]:
            raise UsageError(f"{flag} {text!r} makes a domain from itself; name the other one in the parentheses.")
        found.append(_Made(place, text))
    if len(found) == 2:
        raise UsageError("--a and --b are made from each other; give images for one of them.")
    return found[0] if found else None


def _sides(needs: BatchSpec, options: DataOptions, made: _Made | None, notes: list[str]) -> list[Side]:
    """The images of every domain that has some of its own."""
    if options.data is not None:
        sides = two_sides(options.data, options.test_data, isinstance(needs, Paired), notes)
    elif len(needs.names) == 1:
        sides = [one_side(options.images or "", options.test_images, notes)]
    else:
        apart = ((options.a, options.test_a), (options.b, options.test_b))
        given = [each for place, each in enumerate(apart) if made is None or place != made.place]
        sides = sharing_files([one_side(text or "", test, notes) for text, test in given])
    if options.swap:
        sides.reverse()
        notes.append(f"Swapped: {needs.names[0]} is {_name(sides[0])}, {needs.names[1]} is {_name(sides[1])}.")
    return sides


def _check_sides(sides: Sequence[Side], notes: list[str]) -> None:
    for side in sides:
        for source in filter(None, (side.train, side.held_out)):
            check_images(source, notes)
        if side.held_out is not None:
            notes.append(f"Held out: {plural(len(side.held_out.entries), 'image')} in {side.held_out.location}.")


def _name(side: Side) -> str:
    return f"the {side.part} half" if side.part else side.title


def _domain(name: str, side: Side) -> DomainFiles:
    held_out = side.held_out.entries if side.held_out else ()
    return DomainFiles(name, side.title, side.train.location, side.train.entries, held_out, side.part)


# What the domains become ----------------------------------------------------------------------------------------------


def _with_classes(domain: DomainFiles, optional: bool, notes: list[str]) -> DomainFiles:
    """The domain with the classes of its sub-folders; images that belong to none are left out."""
    classes = tuple(sorted({entry.name.partition("/")[0] for entry in domain.train if "/" in entry.name}))
    if not classes and optional:
        return domain
    if not classes:
        raise DataError(
            f"{domain.location} has no sub-folders; this model needs one sub-folder of images for each class."
        )

    def labelled(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        kept: list[Entry] = []
        stray: list[Entry] = []
        for entry in entries:
            folder, slash, _ = entry.name.partition("/")
            (kept if slash and folder in classes else stray).append(entry)
        if stray:
            notes.append(f"Left out {first_few([entry.origin for entry in stray])}: in no class sub-folder.")
        return tuple(kept)

    return replace(domain, classes=classes, train=labelled(domain.train), held_out=labelled(domain.held_out))


def _with_synthesised(
    source: DomainFiles, needs: BatchSpec, options: DataOptions, made: _Made, notes: list[str]
) -> list[DomainFiles]:
    """Both domains; real images of the one that is made may be held out, and for pairs need partners."""
    domain = replace(source, name=needs.names[made.place], title=made.text, synthesis=made.text)
    test, flag = ((options.test_a, "--test-b"), (options.test_b, "--test-a"))[made.place]
    if test is not None:
        if isinstance(needs, Paired) and not source.held_out:
            raise UsageError(f"{test} needs held-out images of the other domain to be compared with: give {flag} too.")
        held_out = held_out_given(test, source.part)
        check_images(held_out, notes)
        domain = replace(domain, held_out=held_out.entries, real_held_out=True)
    return [domain, source] if made.place == 0 else [source, domain]


# Held out -------------------------------------------------------------------------------------------------------------


def _hold_out(domains: list[DomainFiles], options: DataOptions, notes: list[str]) -> list[DomainFiles]:
    """The domains, with the share of --holdout taken from those that have no held-out images."""
    if options.holdout is None:
        return domains
    splits: dict[int, tuple[tuple[Entry, ...], tuple[Entry, ...]]] = {}  # what shares its files goes on sharing them
    held_out = []
    for domain in domains:
        train = domain.train
        if domain.held_out:
            notes.append(f"--holdout {options.holdout} was not needed: {domain.location} has held-out images.")
            held_out.append(domain)
            continue
        kept, held = splits.setdefault(id(train), _divided(train, options.holdout_share))
        images = plural(len(train), "image")
        notes.append(f"Held out: {len(held):,} of {images} of {domain.location} by --holdout {options.holdout}.")
        held_out.append(replace(domain, train=kept, held_out=held))
    return held_out


def _divided(entries: tuple[Entry, ...], share: float) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
    """What is kept for training, and what is held out: of two images or more, at least one each.

    Each image has a place from 0 to 1 by a hash of its name without the extension, in a list of pairs of the first
    name, so that the images of a pair have the same, and that it does not depend on the other images.
    """

    def place(entry: Entry) -> float:
        digest = hashlib.sha256(entry.key[0].encode("utf-8", "backslashreplace")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    places = [place(entry) for entry in entries]
    low, high = min(places, default=0.0), max(places, default=0.0)
    held = [place != high and (place < share or place == low) for place in places]
    kept = tuple(entry for entry, is_held in zip(entries, held, strict=True) if not is_held)
    return kept, tuple(entry for entry, is_held in zip(entries, held, strict=True) if is_held)


# What corresponds -----------------------------------------------------------------------------------------------------


def _matched_train(domains: list[DomainFiles], notes: list[str]) -> list[DomainFiles]:
    """The domains of a model that needs pairs, their training images in the same order."""
    a, b = domains
    if bool(a.held_out) != bool(b.held_out):
        notes.append("Held-out images are not used: one domain has some, the other has none.")
        a, b = replace(a, held_out=()), replace(b, held_out=())
    if a.train is not b.train:
        first, second = matched(a.train, b.train, (a.location, b.location), notes)
        a, b = replace(a, train=first), replace(b, train=second)
    return [a, b]


def _matched_held_out(domains: list[DomainFiles], paired: bool, notes: list[str]) -> tuple[list[DomainFiles], bool]:
    """The domains, and whether their held-out images correspond: where they must, or happen to."""
    a, b = domains
    if a.train is b.train and a.held_out is b.held_out:
        return domains, True
    keys = [{entry.key for entry in domain.held_out} for domain in (a, b)]
    same = bool(a.held_out) and keys[0] == keys[1] and len(keys[0]) == len(a.held_out) == len(b.held_out)
    if (paired and a.held_out) or same:
        locations = (f"the held-out images of {a.location}", f"those of {b.location}")
        first, second = matched(a.held_out, b.held_out, locations, notes)
        a, b = replace(a, held_out=first), replace(b, held_out=second)
    return [a, b], same or paired
