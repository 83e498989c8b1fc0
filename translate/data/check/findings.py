"""What is worth knowing about images that were looked at: problems, which spoil a training, and remarks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from translate.data.check.inspecting import LARGEST, MODES, Found, Seen, Split
from translate.data.images import is_side_by_side
from translate.data.layout.folders import HELD_OUT
from translate.data.options import suggested_range
from translate.formatting import plural

NEAR_BLANK = 0.01  # standard deviation of every channel, as a share of the range of values
FEW = 20


@dataclass(frozen=True)
class Finding:
    """One thing to know.

    kind: a word for programs. files: those that it is about, empty if they are all. flag: of `fit`, what would help.
    """

    kind: str
    text: str
    files: tuple[str, ...] = ()
    flag: str = ""


# Problems ------------------------------------------------------------------------------------------------------------


def problems(splits: Sequence[Split], failures: dict[str, str]) -> Iterator[Finding]:
    """What spoils a training or its evaluation. failures: why files cannot be read."""
    if failures:
        files = tuple(f"{name}: {reason}" for name, reason in failures.items())
        yield Finding("unreadable", f"{plural(len(files), 'file')} cannot be used", files)
    for begin, (train, *held_out) in _by_domain(splits).items():
        found, usable = len(train.entries), len(train.images)
        if 2 * usable < found:
            text = f"{begin}only {usable:,} of {found:,} training images can be read; fit wants at least half"
            yield Finding("too-few", text)
        leaked = _shared(_not_blank([train, *held_out], train), _not_blank([train, *held_out], *held_out))
        if leaked:
            text = f"{begin}{_are(len(leaked), 'held-out image')} trained on, too: the same pixels"
            yield Finding("leak", text, leaked)
        yield from _unlike(begin, [image for split in (train, *held_out) for image in split.images])


def _unlike(begin: str, images: Sequence[Seen]) -> Iterator[Finding]:
    """Images that fit refuses: 1 to 4 channels can be turned into each other, other numbers into none."""
    groups = _groups(images, lambda image: "1 to 4 channels" if image.channels in MODES else image.mode)
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


def remarks(found: Found, splits: Sequence[Split]) -> Iterator[Finding]:
    """What may not be meant so, or can be done better."""
    yield from _layout_remarks(found, splits)
    yield from _held_out_remarks(found)
    domains = _by_domain(splits)
    trained = {begin: domain[0].images for begin, domain in domains.items()}
    short = [median(min(image.width, image.height) for image in images) for images in trained.values() if images]
    for begin, domain in domains.items():
        yield from _alike(begin, domain)
        yield from _size_remarks(begin, trained[begin], _round_size(min(short, default=256)))
        yield from _value_remarks(begin, trained[begin])
        if 0 < len(trained[begin]) < FEW:
            text = f"{begin}only {plural(len(trained[begin]), 'training image')}; so few are learned by heart"
            yield Finding("few", text)
    if len(domains) == 2:
        shared = _shared(*(_not_blank(domain, *domain) for domain in domains.values()))
        if shared:
            yield Finding("both", f"{_are(len(shared))} in both domains: the same pixels", shared)


def _layout_remarks(found: Found, splits: Sequence[Split]) -> Iterator[Finding]:
    """What looks like two domains or like pairs, and is not quite."""
    domains = found.layout.domains
    if len(domains) == 1:
        images = splits[0].images
        narrow = tuple(image.name for image in images if not is_side_by_side(image.height, image.width))
        if 2 * len(narrow) < len(images):
            text = f"{len(images) - len(narrow):,} of {plural(len(images), 'image')} are twice as wide as high, as"
            text += " side-by-side pairs are, but not these; all must be to be taken as pairs"
            yield Finding("nearly-pairs", text, narrow)
        elif any(name.lower().startswith(("train", *HELD_OUT)) for name in domains[0].classes):
            text = f"taken as one domain, with a class for each of {plural(len(domains[0].classes), 'sub-folder')}"
            yield Finding("one-domain", f"{text}. {found.refused}")
        return
    partners = {found.shown(entry.origin) for domain in found.pairs for entry in (*domain.train, *domain.held_out)}
    for whole in domains if found.pairs else ():
        files = (*whole.train, *(whole.held_out if found.pairs[0].held_out else ()))
        left = tuple(name for entry in files if (name := found.shown(entry.origin)) not in partners)
        if left:
            text = f"{whole.name}: {_are(len(left))} without a partner {found.paired}; models for pairs leave"
            yield Finding("no-partner", f"{text} {'it' if len(left) == 1 else 'them'} out", left)
    if found.pairs and domains[0].part is None:
        yield from _misfits(found, splits)


def _misfits(found: Found, splits: Sequence[Split]) -> Iterator[Finding]:
    """Pairs whose two images differ in their aspect, so that they cannot show the same thing at the same place."""
    ratios = {(split.domain.name, image.name): image.width / image.height for split in splits for image in split.images}
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


def _alike(begin: str, splits: Sequence[Split]) -> Iterator[Finding]:
    """Images that are copies of others, and those that are nearly blank."""
    for split in splits:
        copies = _repeated(_not_blank(splits, split))
        if copies:
            noun = "held-out image" if split.held_out else "training image"
            number = f"a copy of another {noun}" if len(copies) == 1 else f"copies of other {noun}s"
            yield Finding("copies", f"{begin}{_are(len(copies))} {number}", copies)
    every = [image for split in splits for image in split.images]
    spoken = set(_not_blank(splits, *splits))
    blank = [image.name for image in every if image not in spoken]
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
    depths = _groups(images, lambda image: image.depth)
    if len(depths) > 1:
        most, files = _minority(depths)
        text = f"{begin}{_are(len(files))} of another depth than the other {len(depths[most]):,}, which have {most}"
        yield Finding("bit-depths", f"{text}; all would be read as the deepest are", files)
    high = max((image.high for image in images if image.bits == 16), default=LARGEST[16])
    if narrower := suggested_range(high):
        text = f"{begin}values reach only {high:,.0f} of 65,535, so that a network sees nearly black images"
        yield Finding("range", text, flag=f"--value-range {narrower}")


# Helpers -------------------------------------------------------------------------------------------------------------


def _by_domain(splits: Sequence[Split]) -> dict[str, list[Split]]:
    """Each domain's training images, and its held-out ones, by how sentences begin: "a: ", or "" for the only one."""
    single = len({split.domain.name for split in splits}) == 1
    found: dict[str, list[Split]] = {}
    for split in splits:
        found.setdefault("" if single else f"{split.domain.name}: ", []).append(split)
    return found


def _not_blank(domain: Sequence[Split], *splits: Split) -> list[Seen]:
    """The images of the splits that are not nearly blank; blank ones are all alike, which means nothing.

    domain: all splits of the domain; deep images are measured against the range that they use together.
    """
    every = [image for split in domain for image in split.images]
    used = max((image.high for image in every), default=0.0) - min((image.low for image in every), default=0.0)
    return [
        image
        for split in splits
        for image in split.images
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
    return f"{plural(count, noun)} {'is' if count == 1 else 'are'}"
