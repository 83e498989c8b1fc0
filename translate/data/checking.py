"""What is wrong with a folder of images, what may be meant, and what `fit` would do with it.

`check` draws the conclusions from what translate/data/inspecting.py has seen: problems, which spoil a training or its
evaluation, and remarks. `contact_sheet` shows some of the images.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from torch import Tensor

from translate.data.domains import Part
from translate.data.images import grid, is_side_by_side
from translate.data.inspecting import LARGEST, Found, Seen, Side, thumbnail
from translate.data.options import DataOptions
from translate.data.pairs import HELD_OUT
from translate.errors import DataError

NEAR_BLANK = 0.01  # standard deviation of every channel, as a share of the range of values
FEW = 20
SHOWN = 8
_MODES = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGB with alpha"}


@dataclass(frozen=True)
class Split:
    """The images of one domain that are trained on, or that are held out.

    location: of the files, relative to the folder that holds everything. images: those of `files` that can be read.
    sizes: ((width, height), images), the most frequent first; of side-by-side files the size of a half.
    modes, bit_depths, classes: images by each, as in {"RGB": 400}. values: the lowest and the highest.
    pixels, bytes: of all images together, and of their files.
    """

    domain: str
    held_out: bool
    location: str
    part: Part
    files: int
    images: int
    sizes: tuple[tuple[tuple[int, int], int], ...]
    modes: dict[str, int]
    bit_depths: dict[str, int]
    values: tuple[float, float] | None
    classes: dict[str, int]
    pixels: int
    bytes: int


@dataclass(frozen=True)
class Finding:
    """One thing to know.

    kind: a word for programs. files: those that it is about, empty if they are all. flag: of `fit`, what would help.
    """

    kind: str
    text: str
    files: tuple[str, ...] = ()
    flag: str = ""


@dataclass(frozen=True)
class Fit:
    """What `fit` would do. command: what loads the images. decoded_bytes: of the training images at --size 256."""

    command: str
    suggestions: tuple[str, ...]
    decoded_bytes: int


@dataclass(frozen=True)
class Report:
    """The answer in plain values.

    layout: in words. pairs: training images that have a partner in the other domain; None for one domain.
    paired: by what; empty without pairs.
    notes: what else was said while the layout was recognised.
    """

    paths: tuple[str, ...]
    layout: str
    pairs: int | None
    paired: str
    splits: tuple[Split, ...]
    problems: tuple[Finding, ...]
    remarks: tuple[Finding, ...]
    notes: tuple[str, ...]
    fit: Fit


def check(found: Found, advance: Callable[[], None] = lambda: None) -> Report:
    """Decodes every image, with all cores, and reports; `advance` is called after each file, from any thread."""
    sides, failures = found.look(advance)
    problems, remarks = tuple(_problems(sides, failures)), tuple(_remarks(found, sides))
    flags = {flag.partition(" ")[0]: flag for finding in (*problems, *remarks) if (flag := finding.flag)}
    given = found.options.model_dump(exclude_unset=True)
    return Report(
        paths=found.paths,
        layout=_layout(found),
        pairs=None if len(found.layout.domains) == 1 else len(found.pairs[0].train) if found.pairs else 0,
        paired=_paired(found),
        splits=tuple(_split(found, side) for side in sides),
        problems=problems,
        remarks=remarks,
        notes=tuple(note for note in found.layout.notes if not note.startswith("Held out:")),  # the splits say that
        fit=Fit(
            f"translate fit MODEL {shlex.join(word for flag in given for word in (f'--{flag}', given[flag]))}",
            tuple(flags.values()),
            sum(_decoded_bytes(side.images) for side in sides if not side.held_out),
        ),
    )


def contact_sheet(found: Found) -> Tensor:
    """Some images of each domain, evenly spread: uint8 (3, H, W), a row for the training and one for the held-out ones.

    The rows of domains that correspond show the same scenes. Files that cannot be read are passed over.
    """
    rows, titles = [], []
    for held_out in (False, True):
        for domain in found.pairs or found.layout.domains:
            entries = domain.held_out if held_out else domain.train
            chosen = [entries[i * len(entries) // SHOWN] for i in range(SHOWN)] if len(entries) > SHOWN else entries
            row = [image for entry in chosen if (image := thumbnail(entry, domain.part)) is not None]
            if row:
                rows.append(row)
                titles.append(f"{domain.name}, {'held out' if held_out else 'train'}")
    if not rows:
        raise DataError("None of the images that the contact sheet would show can be read.")
    return grid(rows, row_titles=titles)


# Problems ------------------------------------------------------------------------------------------------------------


def _problems(sides: Sequence[Side], failures: dict[str, str]) -> Iterator[Finding]:
    if failures:
        files = tuple(f"{name}: {reason}" for name, reason in failures.items())
        yield Finding("unreadable", f"{_count(len(files), 'file')} cannot be used", files)
    for begin, (train, *held_out) in _by_domain(sides).items():
        found, usable = len(train.entries), len(train.images)
        if 2 * usable < found:
            text = f"{begin}only {usable:,} of {found:,} training images can be read; fit wants at least half"
            yield Finding("too-few", text)
        leaked = _shared(_not_blank([train, *held_out], train), _not_blank([train, *held_out], *held_out))
        if leaked:
            text = f"{begin}{_are(len(leaked), 'held-out image')} trained on, too: the same pixels"
            yield Finding("leak", text, leaked)
        yield from _unlike(begin, [image for side in (train, *held_out) for image in side.images])


def _unlike(begin: str, images: Sequence[Seen]) -> Iterator[Finding]:
    """Images that fit refuses: 1 to 4 channels can be turned into each other, other numbers into none."""
    groups = _groups(images, lambda image: "1 to 4 channels" if image.channels in _MODES else _mode(image))
    if len(groups) > 1:
        most, files = _minority(groups)
        text = f"{begin}{_are(len(files))} unlike the other {len(groups[most]):,}, which have {most}"
        yield Finding("channels", f"{text}; a domain must be of one kind", files)
    floats = [image.name for image in images if image.bits == 32 and image.channels in (2, 4)]
    if floats:
        how_many, files = _all_or(floats, images)
        text = (
            f"{begin}{how_many} of 2 or 4 floating-point channels, whose last is taken as alpha and has no background"
        )
        yield Finding("float-alpha", text, files, flag="--background keep")


# Remarks -------------------------------------------------------------------------------------------------------------


def _remarks(found: Found, sides: Sequence[Side]) -> Iterator[Finding]:
    yield from _layout_remarks(found, sides)
    yield from _held_out_remarks(found)
    domains = _by_domain(sides)
    trained = {begin: domain[0].images for begin, domain in domains.items()}
    short = [median(min(image.width, image.height) for image in images) for images in trained.values() if images]
    for begin, domain in domains.items():
        yield from _alike(begin, domain)
        yield from _size_remarks(begin, trained[begin], _round_size(min(short, default=256)))
        yield from _value_remarks(begin, trained[begin])
        if 0 < len(trained[begin]) < FEW:
            text = f"{begin}only {_count(len(trained[begin]), 'training image')}; so few are learned by heart"
            yield Finding("few", text)
    if len(domains) == 2:
        shared = _shared(*(_not_blank(domain, *domain) for domain in domains.values()))
        if shared:
            yield Finding("both", f"{_are(len(shared))} in both domains: the same pixels", shared)


def _layout_remarks(found: Found, sides: Sequence[Side]) -> Iterator[Finding]:
    """What looks like two domains or like pairs, and is not quite."""
    domains = found.layout.domains
    if len(domains) == 1:
        images = sides[0].images
        narrow = tuple(image.name for image in images if not is_side_by_side(image.height, image.width))
        if 2 * len(narrow) < len(images):
            text = f"{len(images) - len(narrow):,} of {_count(len(images))} are twice as wide as high, as side-by-side"
            yield Finding("nearly-pairs", f"{text} pairs are, but not these; all must be to be taken as pairs", narrow)
        elif any(name.lower().startswith(("train", *HELD_OUT)) for name in domains[0].classes):
            text = f"taken as one domain, with a class for each of {_count(len(domains[0].classes), 'sub-folder')}"
            yield Finding("one-domain", f"{text}. {found.refused}")
        return
    partners = {found.shown(entry.origin) for domain in found.pairs for entry in (*domain.train, *domain.held_out)}
    for whole in domains if found.pairs else ():
        files = (*whole.train, *(whole.held_out if found.pairs[0].held_out else ()))
        left = tuple(name for entry in files if (name := found.shown(entry.origin)) not in partners)
        if left:
            text = f"{whole.name}: {_are(len(left))} without a partner {_paired(found)}; models for pairs leave"
            yield Finding("no-partner", f"{text} {'it' if len(left) == 1 else 'them'} out", left)
    if found.pairs and domains[0].part is None:
        yield from _misfits(found, sides)


def _misfits(found: Found, sides: Sequence[Side]) -> Iterator[Finding]:
    """Pairs whose two images differ in their aspect, so that they cannot show the same thing at the same place."""
    ratios = {(side.domain.name, image.name): image.width / image.height for side in sides for image in side.images}
    a, b = found.pairs
    files = []
    for pair in (*zip(a.train, b.train, strict=True), *zip(a.held_out, b.held_out, strict=True)):
        names = [found.shown(entry.origin) for entry in pair]
        first, second = (ratios.get((domain.name, name)) for domain, name in zip((a, b), names, strict=True))
        if first and second and abs(math.log(first / second)) > 0.02:
            files.append(" and ".join(names))
    if files:
        text = f"{_are(len(files), 'pair')} of images that differ in shape, so that they do not cover each other"
        yield Finding("misfits", text, tuple(files))


def _held_out_remarks(found: Found) -> Iterator[Finding]:
    domains = found.layout.domains
    without = [domain.name for domain in domains if not domain.held_out]
    if len(without) == 1 and len(domains) == 2:
        yield Finding("held-out", f"{without[0]}: no held-out images, although the other domain has some")
    elif without and min(len(domain.train) for domain in domains) >= FEW:
        text = "no held-out images, so that samples and measures would be of images that were trained on"
        yield Finding("held-out", text, flag="--holdout 5%")


def _alike(begin: str, sides: Sequence[Side]) -> Iterator[Finding]:
    """Images that are copies of others, and those that are nearly blank."""
    for side in sides:
        copies = _repeated(_not_blank(sides, side))
        if copies:
            noun = "held-out image" if side.held_out else "training image"
            number = f"a copy of another {noun}" if len(copies) == 1 else f"copies of other {noun}s"
            yield Finding("copies", f"{begin}{_are(len(copies))} {number}", copies)
    every = [image for side in sides for image in side.images]
    spoken = {id(image) for image in _not_blank(sides, *sides)}
    blank = [image.name for image in every if id(image) not in spoken]
    if blank:
        how_many, files = _all_or(blank, every)
        yield Finding("near-blank", f"{begin}{how_many} of nearly one colour", files)


def _size_remarks(begin: str, images: Sequence[Seen], size: int) -> Iterator[Finding]:
    """size: what to suggest in place of 256 if many are smaller."""
    if not images:
        return
    shortest, longest = (choose(images, key=lambda image: min(image.width, image.height)) for choose in (min, max))
    small = [image.name for image in images if min(image.width, image.height) < 256]
    if small:
        how_many, files = _all_or(small, images)
        flag = f"--size {size}" if 2 * len(small) > len(images) else ""
        yield Finding(
            "small", f"{begin}{how_many} smaller than 256, the usual --size, and would be enlarged", files, flag
        )
    if 4 * min(shortest.width, shortest.height) <= min(longest.width, longest.height):
        files = tuple(f"{image.name} ({image.width}×{image.height})" for image in (shortest, longest))
        yield Finding("sizes", f"{begin}sizes differ much, and would be brought to one", files)
    oblong = [image.name for image in images if not 0.8 <= image.width / image.height <= 1.25]
    if 20 * len(oblong) > len(images):
        how_many, files = _all_or(oblong, images)
        flag = "--preprocess scale-short-side"
        yield Finding("oblong", f"{begin}{how_many} far from square, and would be squeezed into squares", files, flag)


def _value_remarks(begin: str, images: Sequence[Seen]) -> Iterator[Finding]:
    transparent = [image.name for image in images if image.transparent]
    if transparent:
        how_many, files = _all_or(transparent, images)
        yield Finding(
            "transparent", f"{begin}{how_many} transparent in places, and laid on white (--background)", files
        )
    grey = tuple(image.name for image in images if image.channels < 3)
    if 0 < len(grey) < len(images):
        yield Finding("grey", f"{begin}{_are(len(grey))} grey, and would be read as RGB like the others", grey)
    depths = _groups(images, _depth)
    if len(depths) > 1:
        most, files = _minority(depths)
        text = f"{begin}{_are(len(files))} of another depth than the other {len(depths[most]):,}, which have {most}"
        yield Finding("bit-depths", f"{text}; all would be read as the deepest are", files)
    high = max((image.high for image in images if image.bits == 16), default=LARGEST[16])
    if high < 2**14:
        text = f"{begin}values reach only {high:,.0f} of 65,535, so that a network sees nearly black images"
        yield Finding("range", text, flag=f"--value-range 0,{2 ** max(8, int(high).bit_length()) - 1}")


# Summaries -----------------------------------------------------------------------------------------------------------


def _split(found: Found, side: Side) -> Split:
    domain, images = side.domain, side.images
    first = side.entries[0]
    return Split(
        domain=domain.name,
        held_out=side.held_out,
        location=found.shown(first.origin.removesuffix(first.name)),
        part=domain.part,
        files=len(side.entries),
        images=len(images),
        sizes=tuple(Counter((image.width, image.height) for image in images).most_common()),
        modes=dict(Counter(map(_mode, images)).most_common()),
        bit_depths=dict(Counter(map(_depth, images)).most_common()),
        values=(min(image.low for image in images), max(image.high for image in images)) if images else None,
        classes=dict(Counter(domain.classes[domain.label(entry)] for entry in side.entries)) if domain.classes else {},
        pixels=sum(image.width * image.height for image in images),
        bytes=sum(entry.size for entry in side.entries),
    )


def _decoded_bytes(images: Sequence[Seen]) -> int:
    """What the images of a domain take at the default size; alpha is no channel, as they are laid on a background."""
    if not images:
        return 0
    most = max(image.channels for image in images)
    channels = most if most > 4 else 3 if most > 2 else 1
    values = len(images) * channels * DataOptions.model_validate({}).stored_size ** 2
    return values * max(image.bits for image in images) // 8


def _layout(found: Found) -> str:
    """The layout in words."""
    domains = found.layout.domains
    if len(found.paths) == 2:
        return "two folders"
    if len(domains) == 1:
        return "class sub-folders" if domains[0].classes else "one domain"
    if domains[0].part is not None:
        return "side-by-side pairs, left is a, right is b"
    if domains[0].train[0].pair:
        return "list of pairs"
    train, held_out = (
        [found.shown(entries[0].origin.removesuffix(entries[0].name)) for entries in splits if entries]
        for splits in zip(*((domain.train, domain.held_out) for domain in domains), strict=True)
    )
    return " and ".join(train) + (f" with {' and '.join(held_out)}" if held_out else "")


def _paired(found: Found) -> str:
    """What tells which images belong together."""
    if not found.pairs:
        return ""
    domain = found.pairs[0]
    return "side by side" if domain.part else "by a list" if domain.train[0].pair else "by name"


# Helpers -------------------------------------------------------------------------------------------------------------


def _by_domain(sides: Sequence[Side]) -> dict[str, list[Side]]:
    """Each domain's training side, and its held-out one, by how sentences about it begin: "a: ", or "" for the only."""
    single = len({side.domain.name for side in sides}) == 1
    found: dict[str, list[Side]] = {}
    for side in sides:
        found.setdefault("" if single else f"{side.domain.name}: ", []).append(side)
    return found


def _not_blank(domain: Sequence[Side], *sides: Side) -> list[Seen]:
    """The images of the sides that are not nearly blank; blank ones are all alike, which means nothing.

    domain: all sides of the domain; deep images are measured against the range that they use together.
    """
    every = [image for side in domain for image in side.images]
    used = max((image.high for image in every), default=0.0) - min((image.low for image in every), default=0.0)
    return [
        image
        for side in sides
        for image in side.images
        if image.deviation >= NEAR_BLANK * (255 if image.bits == 8 else used) > 0
    ]


def _shared(first: Iterable[Seen], second: Iterable[Seen]) -> tuple[str, ...]:
    """The images of `second` whose pixels are those of one of `first`."""
    names = {image.digest: image.name for image in first}
    both = ((image.name, names[image.digest]) for image in second if image.digest in names)
    return tuple(name if name == other else f"{name} = {other}" for name, other in both)


def _repeated(images: Iterable[Seen]) -> tuple[str, ...]:
    """The images whose pixels are those of an earlier one."""
    names: dict[bytes, str] = {}
    earlier = ((image.name, names.setdefault(image.digest, image.name)) for image in images)
    return tuple(f"{name} = {other}" for name, other in earlier if name != other)


def _groups(images: Sequence[Seen], words: Callable[[Seen], str]) -> dict[str, list[str]]:
    """The names of the images, by some words about them."""
    groups: dict[str, list[str]] = defaultdict(list)
    for image in images:
        groups[words(image)].append(image.name)
    return groups


def _minority(groups: dict[str, list[str]]) -> tuple[str, tuple[str, ...]]:
    """The words of the largest group, and the images of the others with their words."""
    most, *others = sorted(groups, key=lambda words: -len(groups[words]))
    return most, tuple(f"{name} ({words})" for words in others for name in groups[words])


def _mode(image: Seen) -> str:
    return _MODES.get(image.channels, f"{image.channels} channels")


def _depth(image: Seen) -> str:
    return "32-bit float" if image.bits == 32 else f"{image.bits} bit"


def _round_size(side: float) -> int:
    """A --size of about so many pixels that networks can halve a few times."""
    step = 32 if side >= 32 else 4
    return max(8, int(side) // step * step)


def _all_or(names: Sequence[str], images: Sequence[Seen]) -> tuple[str, tuple[str, ...]]:
    """How many of the images, as the beginning of a sentence, and their names unless they are all."""
    if 1 < len(names) == len(images):
        return f"all {len(images):,} images are", ()
    return _are(len(names)), tuple(names)


def _are(count: int, noun: str = "image") -> str:
    return f"{_count(count, noun)} {'is' if count == 1 else 'are'}"


def _count(count: int, noun: str = "image") -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
