"""Which files belong to which domain: START HERE for the layout, which is recognised without any option for it.

    --a DIR --b DIR                           two folders; each may have train/ and test/ or val/ inside
    DIR/trainA DIR/trainB [DIR/testA ...]     also valA, train_a, ...
    DIR/train [DIR/test or DIR/val]           each with two sub-folders, or side-by-side images
    DIR/A DIR/B                               any two sub-folders; a is the first by name
    DIR/*.jpg                                 side-by-side images, twice as wide as high: left is a, right is b
    pairs.csv, DIR/pairs.csv                  a list of pairs, where names do not tell the pairs (pairs.py)
    DIR/CLASS/*                               one domain with labels
    --a "gray(b)" --b DIR                     a is made from the images of b (synthesis.py)

DIR may be a zip or tar archive, with or without one folder around everything. A folder that is called train, trainA or
the like and has a test or val folder beside it gets its held-out images from there; --holdout takes them elsewhere.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from translate.data.datasets import resolve, two_domains_of_set
from translate.data.files.sources import Entry, Source
from translate.data.layout import folders
from translate.data.layout.flags import check_flags, find_synthesis
from translate.data.layout.pairs import is_list, lists_inside, match_by_name, read_list, read_list_inside
from translate.data.options import DataOptions
from translate.domains import BatchSpec, Labelled, Paired, Part
from translate.errors import DataError, UsageError
from translate.formatting import first_few, plural


@dataclass(frozen=True)
class DomainFiles:
    """The files of one domain.

    name: as in the model's declaration.
    title, location: what the user calls it, for pictures and for errors.
    train, held_out: the files. The two domains of side-by-side files share the same tuples. A synthesised domain shares
        those of its source, except for held-out files that are real.
    part: which half of each file, None for the whole.
    classes: names of the sub-folders, in label order.
    synthesis: how the files, which are those of the other domain, become images of this one, as in "gray(b)".
    real_held_out: the held-out files of a synthesised domain are images of this domain already.
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

    def with_domains(self, domains: Iterable[DomainFiles], notes: Iterable[str]) -> Layout:
        """The layout with these domains instead, and further notes."""
        return replace(self, domains=tuple(domains), notes=(*self.notes, *notes))


def detect_layout(batch_spec: BatchSpec, options: DataOptions) -> Layout:
    """The files of every domain that a model needs.

    Raises UsageError for flags that contradict each other, DataError for images that are missing or fit no layout.
    """
    check_flags(batch_spec, options)
    synthesis = find_synthesis(batch_spec, options)
    sources = _find_sources(batch_spec, options, synthesis)
    layout = _make_layout([name for name in batch_spec.names if name not in synthesis], sources, options)
    if isinstance(batch_spec, Labelled):
        layout = _with_classes(layout, batch_spec.optional)
    paired = isinstance(batch_spec, Paired)
    if paired and len(layout.domains) == 2:
        layout = _match_training(layout)
    if options.holdout is not None:
        layout = _hold_out(layout, options)
    if synthesis:
        layout = _with_synthesis(layout, batch_spec, options, synthesis)
    if len(layout.domains) == 2:
        layout = _match_held_out(layout, paired)
    return replace(layout, notes=tuple(dict.fromkeys(layout.notes)))


# The sources of the domains that have files of their own --------------------------------------------------------------


def _find_sources(batch_spec: BatchSpec, options: DataOptions, synthesis: dict[str, str]) -> list[Source]:
    """The images of every domain that has some of its own, with the held-out ones that are given or recognised."""
    if options.data is not None:
        sources = _open_two_domains(options.data, isinstance(batch_spec, Paired))
        if options.test_data is None:
            return sources
        held_out_sources = _open_two_domains(options.test_data, isinstance(batch_spec, Paired))
        if [images.part for images in held_out_sources] != [source.part for source in sources]:
            raise DataError(
                f"{options.test_data} is laid out otherwise than {options.data}; lay the held-out images out alike."
            )
        return [
            replace(source, held_out=images.held_out or images, notes=source.notes + images.notes)
            for source, images in zip(sources, held_out_sources, strict=True)
        ]
    flags = [(options.images, options.test_images)]
    if len(batch_spec.names) == 2:
        flags = [(options.a, options.test_a), (options.b, options.test_b)]
    sources = []
    for name, (train, held_out) in zip(batch_spec.names, flags, strict=True):
        if name not in synthesis:
            source = folders.find_one_domain(resolve(train or ""))
            if held_out is not None:
                source = replace(source, held_out=_open_held_out(held_out, source.part))
            sources.append(source)
    return _share_files(sources)


def _open_held_out(text: str, part: Part) -> Source:
    """The held-out images of one domain that the user names; DataError if they are not whole or halves alike."""
    source = resolve(text)
    if source.part != part:
        found, expected = (f"{each} halves of images" if each else "whole images" for each in (source.part, part))
        raise DataError(f"{text} is laid out otherwise than the training images: {found}, {expected}.")
    return folders.unwrap(source.held_out or source)


def _open_two_domains(text: str, paired: bool) -> list[Source]:
    """The two domains in one place: a data set's, a list's, or those of a folder or archive.

    paired: each image needs its partner, so that a list counts for more than folders whose names share nothing.
    """
    if pair := two_domains_of_set(text):
        return _share_files([folders.find_one_domain(resolve(name)) for name in pair])
    if is_list(path := Path(os.path.expanduser(text))):
        return read_list(path)
    place = resolve(text)
    source = folders.unwrap(place)
    domains = folders.find_two_domains(source)
    keys = [{entry.key for entry in domain.entries} for domain in domains] if paired else []
    if not domains or (paired and keys[0].isdisjoint(keys[1])):
        lists = lists_inside(place)
        if len(lists) == 1:
            domains = read_list_inside(place, lists[0])
        elif not domains:
            raise folders.explain_unrecognised(source, [file.origin for file in lists])
    used = [images for domain in domains for images in (domain, domain.held_out)]
    return [replace(domains[0], notes=domains[0].notes + folders.describe_unused(place, used)), domains[1]]


def _share_files(sources: list[Source]) -> list[Source]:
    """The sources; halves of the same side-by-side images share their files, so that each is decoded once."""
    a, b = sources[0], sources[-1]
    if a is b or None in (a.part, b.part) or a.location != b.location:
        return sources
    alike = a.held_out and b.held_out and a.held_out.location == b.held_out.location
    return [a, replace(b, entries=a.entries, held_out=a.held_out if alike else b.held_out)]


def _make_layout(names: list[str], sources: list[Source], options: DataOptions) -> Layout:
    """The layout of these domains. Raises DataError for one without images."""
    notes = [note for source in sources for note in source.notes]
    if options.swap:
        sources = sources[::-1]
        first, second = (f"the {source.part} half" if source.part else source.title for source in sources)
        notes.append(f"Swapped: {names[0]} is {first}, {names[1]} is {second}.")
    domains = []
    for name, source in zip(names, sources, strict=True):
        notes += _check_images(source)
        held_out: tuple[Entry, ...] = ()
        if source.held_out is not None:
            notes += _check_images(source.held_out)
            held_out = source.held_out.entries
            notes.append(f"Held out: {plural(len(held_out), 'image')} in {source.held_out.location}.")
        domains.append(DomainFiles(name, source.title, source.location, source.entries, held_out, source.part))
    return Layout(tuple(domains), False, tuple(notes))


def _check_images(source: Source) -> list[str]:
    """A note of the files that are no images, if there are any. Raises DataError if there are no images."""
    source.require_images()
    if not source.others:
        return []
    return [f"Ignored in {source.location}, as they are no images: {first_few(source.others)}."]


# From sources to domains ----------------------------------------------------------------------------------------------


def _with_classes(layout: Layout, optional: bool) -> Layout:
    """The domain with the classes of its sub-folders; images that belong to none are left out."""
    (domain,) = layout.domains
    classes = tuple(sorted({entry.name.partition("/")[0] for entry in domain.train if "/" in entry.name}))
    if not classes and optional:
        return layout
    if not classes:
        raise DataError(
            f"{domain.location} has no sub-folders; this model needs one sub-folder of images for each class."
        )

    def has_class(entry: Entry) -> bool:
        folder, slash, _ = entry.name.partition("/")
        return bool(slash) and folder in classes

    notes = []
    for entries in (domain.train, domain.held_out):
        if stray := [entry.origin for entry in entries if not has_class(entry)]:
            notes.append(f"Left out {first_few(stray)}: in no class sub-folder.")
    train, held_out = (tuple(filter(has_class, entries)) for entries in (domain.train, domain.held_out))
    return layout.with_domains([replace(domain, classes=classes, train=train, held_out=held_out)], notes)


def _match_training(layout: Layout) -> Layout:
    """The domains of a model that needs pairs, their training images in the same order."""
    a, b = layout.domains
    notes = []
    if bool(a.held_out) != bool(b.held_out):
        notes.append("Held-out images are not used: one domain has some, the other has none.")
        a, b = replace(a, held_out=()), replace(b, held_out=())
    if a.train is not b.train:
        first, second, alone = match_by_name(a.train, b.train, (a.location, b.location))
        a, b = replace(a, train=first), replace(b, train=second)
        notes += alone
    return layout.with_domains([a, b], notes)


def _hold_out(layout: Layout, options: DataOptions) -> Layout:
    """The domains, with the share of --holdout taken from those that have no held-out images."""
    domains, notes = [], []
    splits: dict[int, tuple[tuple[Entry, ...], tuple[Entry, ...]]] = {}  # domains that share their files go on doing so
    for domain in layout.domains:
        if domain.held_out:
            notes.append(f"--holdout {options.holdout} was not needed: {domain.location} has held-out images.")
            domains.append(domain)
            continue
        kept, held = splits.setdefault(id(domain.train), _split(domain.train, options.holdout_share))
        images = plural(len(domain.train), "image")
        notes.append(f"Held out: {len(held):,} of {images} of {domain.location} by --holdout {options.holdout}.")
        domains.append(replace(domain, train=kept, held_out=held))
    return layout.with_domains(domains, notes)


def _split(entries: tuple[Entry, ...], share: float) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
    """What is kept for training, and what is held out: of two images or more, at least one each.

    A hash of an image's name without the extension is a number from 0 to 1, and the lowest numbers are held out. So an
    image's number does not depend on the other images, and the images of a pair have the same one: in a list of pairs,
    that of the first name.
    """

    def number(entry: Entry) -> float:
        digest = hashlib.sha256(entry.key[0].encode("utf-8", "backslashreplace")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    numbers = {entry: number(entry) for entry in entries}
    low, high = min(numbers.values(), default=0.0), max(numbers.values(), default=0.0)
    held = {entry for entry, each in numbers.items() if each != high and (each < share or each == low)}
    return tuple(entry for entry in entries if entry not in held), tuple(entry for entry in entries if entry in held)


def _with_synthesis(layout: Layout, batch_spec: BatchSpec, options: DataOptions, synthesis: dict[str, str]) -> Layout:
    """Both domains, one synthesised from the other. Real images of the synthesised one may be held out.

    Raises UsageError if a model for pairs has no partners for them.
    """
    ((name, text),) = synthesis.items()
    (source,) = layout.domains
    domain = replace(source, name=name, title=text, synthesis=text)
    notes = []
    index = batch_spec.names.index(name)
    given, other_flag = ((options.test_a, "--test-b"), (options.test_b, "--test-a"))[index]
    if given is not None:
        if isinstance(batch_spec, Paired) and not source.held_out:
            raise UsageError(
                f"{given} needs held-out images of the other domain to be compared with: give {other_flag} too."
            )
        held_out = _open_held_out(given, source.part)
        notes = _check_images(held_out)
        domain = replace(domain, held_out=held_out.entries, real_held_out=True)
    return layout.with_domains([domain, source] if index == 0 else [source, domain], notes)


def _match_held_out(layout: Layout, paired: bool) -> Layout:
    """The layout with held-out images in corresponding order, if they must correspond or all have the same names."""
    a, b = layout.domains
    if a.train is b.train and a.held_out is b.held_out:
        return replace(layout, paired_held_out=True)
    keys = [{entry.key for entry in domain.held_out} for domain in (a, b)]
    same = bool(a.held_out) and keys[0] == keys[1] and len(keys[0]) == len(a.held_out) == len(b.held_out)
    notes: list[str] = []
    if (paired and a.held_out) or same:
        locations = (f"the held-out images of {a.location}", f"those of {b.location}")
        first, second, notes = match_by_name(a.held_out, b.held_out, locations)
        a, b = replace(a, held_out=first), replace(b, held_out=second)
    return replace(layout.with_domains([a, b], notes), paired_held_out=same or paired)
