"""Stage 3 of `translate data check`: problems, which spoil a training or its evaluation, and remarks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from translate.data.check.detected_data import DetectedData
from translate.data.check.scan import LARGEST, MODES, DomainScan, ImageStats, Scan
from translate.data.images import is_side_by_side
from translate.data.layout.folders import HELD_OUT
from translate.data.options import suggested_range
from translate.formatting import plural

NEAR_BLANK = 0.01  # standard deviation of every channel, as a share of the range of values
FEW = 20


@dataclass(frozen=True)
class Finding:
    """One thing to know.

    kind: its name for programs. files: those that it is about, empty if all are. flag: the flag of `fit` that helps.
    """

    kind: str
    text: str
    files: tuple[str, ...] = ()
    flag: str = ""


# Problems ------------------------------------------------------------------------------------------------------------


def problems(scan: Scan) -> Iterator[Finding]:
    """What spoils a training or its evaluation."""
    if scan.failures:
        files = tuple(f"{name}: {reason}" for name, reason in scan.failures.items())
        yield Finding("unreadable", f"{plural(len(files), 'file')} cannot be used", files)
    yield from _of_each_domain(scan, _domain_problems)


def _domain_problems(domain: DomainScan) -> Iterator[Finding]:
    found, usable = len(domain.files.train), len(domain.train)
    if 2 * usable < found:
        text = f"only {usable:,} of {found:,} training images can be read; fit needs at least half"
        yield Finding("too-few", text)
    leaked = _shared(_without_blank(domain, domain.train), _without_blank(domain, domain.held_out))
    if leaked:
        yield Finding("leak", f"{_are(len(leaked), 'held-out image')} trained on, too: the same pixels", leaked)
    yield from _minority(
        "channels",
        domain.images,
        lambda image: "1 to 4 channels" if image.channels in MODES else image.mode,
        "unlike {majority}; fit converts 1 to 4 channels into each other, and no other number",
    )
    yield from _some(
        "float-alpha",
        domain.images,
        lambda image: image.bits == 32 and image.channels in (2, 4),
        "of 2 or 4 floating-point channels; fit reads the last as alpha, and cannot lay such images on a background",
        flag="--background keep",
    )


# Remarks -------------------------------------------------------------------------------------------------------------


def remarks(data: DetectedData, scan: Scan) -> Iterator[Finding]:
    """What may be a mistake, or can be improved."""
    if len(data.domains) == 1:
        yield from _nearly_two_domains(data, scan.domains[0].images)
    elif data.pairs:
        yield from _without_partner(data)
        yield from _different_aspects(data, scan)
    without = [domain.name for domain in data.domains if not domain.held_out]
    if len(without) == 1 and len(data.domains) == 2:
        yield Finding("held-out", f"{without[0]}: no held-out images, although the other domain has some")
    elif without and min(len(domain.train) for domain in data.domains) >= FEW:
        text = "no held-out images, so that samples and metrics would be of training images"
        yield Finding("held-out", text, flag="--holdout 5%")
    medians = [median(image.short_side for image in domain.train) for domain in scan.domains if domain.train]
    size = _round_size(min(medians, default=256))
    yield from _of_each_domain(scan, lambda domain: _domain_remarks(domain, size))
    if len(scan.domains) == 2:
        shared = _shared(*(_without_blank(domain, domain.images) for domain in scan.domains))
        if shared:
            yield Finding("both", f"{_are(len(shared))} in both domains: the same pixels", shared)


def _nearly_two_domains(data: DetectedData, images: Sequence[ImageStats]) -> Iterator[Finding]:
    """One domain that nearly looks like pairs, or like two domains."""
    classes = data.domains[0].classes
    narrow = tuple(image.name for image in images if not is_side_by_side(image.height, image.width))
    if 2 * len(narrow) < len(images):
        text = f"{len(images) - len(narrow):,} of {plural(len(images), 'image')} are twice as wide as high, like"
        text += " side-by-side pairs, but these are not; fit reads images as pairs only if all of them are"
        yield Finding("nearly-pairs", text, narrow)
    elif any(name.lower().startswith(("train", *HELD_OUT)) for name in classes):
        text = f"read as one domain, with a class for each of {plural(len(classes), 'sub-folder')}"
        yield Finding("one-domain", f"{text}. {data.not_two_domains}")


def _without_partner(data: DetectedData) -> Iterator[Finding]:
    paired = {entry.origin for domain in data.pairs for entry in (*domain.train, *domain.held_out)}
    for domain in data.domains:
        files = (*domain.train, *(domain.held_out if data.pairs[0].held_out else ()))
        alone = tuple(data.relative(entry.origin) for entry in files if entry.origin not in paired)
        if alone:
            text = f"{domain.name}: {_are(len(alone))} without a partner {data.pairing}; models for pairs leave"
            yield Finding("no-partner", f"{text} {'it' if len(alone) == 1 else 'them'} out", alone)


def _different_aspects(data: DetectedData, scan: Scan) -> Iterator[Finding]:
    """Pairs whose two images differ in aspect ratio, so that they cannot show the same thing at the same place."""
    aspects = {image.name: image.width / image.height for domain in scan.domains for image in domain.images}
    names = ([data.relative(entry.origin) for entry in (*domain.train, *domain.held_out)] for domain in data.pairs)
    differing = tuple(
        f"{a} and {b}"
        for a, b in zip(*names, strict=True)
        if a in aspects and b in aspects and abs(math.log(aspects[a] / aspects[b])) > 0.02
    )
    if differing:
        text = f"{_are(len(differing), 'pair')} of images that differ in aspect ratio, so that they do not align"
        yield Finding("misfits", text, differing)


def _domain_remarks(domain: DomainScan, size: int) -> Iterator[Finding]:
    """size: the --size to suggest if most images are smaller than 256."""
    for noun, split in (("training image", domain.train), ("held-out image", domain.held_out)):
        copies = _repeated(_without_blank(domain, split))
        if copies:
            what = f"a copy of another {noun}" if len(copies) == 1 else f"copies of other {noun}s"
            yield Finding("copies", f"{_are(len(copies))} {what}", copies)
    distinct = set(_without_blank(domain, domain.images))
    yield from _some("near-blank", domain.images, lambda image: image not in distinct, "of nearly one colour")
    if domain.train:
        yield from _size_remarks(domain.train, size)
        yield from _value_remarks(domain.train)
    if 0 < len(domain.train) < FEW:
        yield Finding("few", f"only {plural(len(domain.train), 'training image')}; a model memorises so few")


def _size_remarks(images: Sequence[ImageStats], size: int) -> Iterator[Finding]:
    flag = f"--size {size}" if 2 * sum(image.short_side < 256 for image in images) > len(images) else ""
    text = "smaller than 256, the default --size, and would be enlarged"
    yield from _some("small", images, lambda image: image.short_side < 256, text, flag)
    smallest, largest = (choose(images, key=lambda image: image.short_side) for choose in (min, max))
    if 4 * smallest.short_side <= largest.short_side:
        files = tuple(f"{image.name} ({image.width}×{image.height})" for image in (smallest, largest))
        text = "the largest image is at least 4 times as large as the smallest; all would be resized to one size"
        yield Finding("sizes", text, files)
    if 20 * sum(map(_is_oblong, images)) > len(images):
        text = "far from square, and would be squeezed into squares"
        yield from _some("oblong", images, _is_oblong, text, flag="--preprocess scale-short-side")


def _is_oblong(image: ImageStats) -> bool:
    return not 0.8 <= image.width / image.height <= 1.25


def _value_remarks(images: Sequence[ImageStats]) -> Iterator[Finding]:
    text = "partly transparent, and would be laid on white (--background)"
    yield from _some("transparent", images, lambda image: image.transparent, text)
    if max(image.channels for image in images) > 2:
        text = "grey, and would be read as RGB like the others"
        yield from _some("grey", images, lambda image: image.channels < 3, text)
    text = "of another bit depth than {majority}; all would be read with the highest"
    yield from _minority("bit-depths", images, lambda image: image.depth, text)
    high = max((image.high for image in images if image.bits == 16), default=LARGEST[16])
    if narrower := suggested_range(high):
        text = f"values reach only {high:,.0f} of 65,535, so that a network sees nearly black images"
        yield Finding("range", text, flag=f"--value-range {narrower}")


# Helpers -------------------------------------------------------------------------------------------------------------


def _of_each_domain(scan: Scan, findings: Callable[[DomainScan], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of each domain; their texts begin with the domain's name if there are two."""
    for domain in scan.domains:
        prefix = f"{domain.files.name}: " if len(scan.domains) > 1 else ""
        yield from (replace(finding, text=prefix + finding.text) for finding in findings(domain))


def _some(
    kind: str, images: Sequence[ImageStats], condition: Callable[[ImageStats], bool], text: str, flag: str = ""
) -> Iterator[Finding]:
    """A finding about the images that meet a condition, if any does; it lists no files if all do."""
    names = tuple(image.name for image in images if condition(image))
    if 1 < len(names) == len(images):
        yield Finding(kind, f"all {len(names):,} images are {text}", (), flag)
    elif names:
        yield Finding(kind, f"{_are(len(names))} {text}", names, flag)


def _minority(
    kind: str, images: Sequence[ImageStats], group: Callable[[ImageStats], str], text: str
) -> Iterator[Finding]:
    """A finding about the images outside the largest group, if there are any; {majority} in the text is that group."""
    groups = Counter(map(group, images)).most_common()
    if len(groups) > 1:
        (largest, count), *others = groups
        files = tuple(f"{image.name} ({name})" for name, _ in others for image in images if group(image) == name)
        majority = f"the other {count:,}, which have {largest}"
        yield Finding(kind, f"{_are(len(files))} {text.format(majority=majority)}", files)


def _without_blank(domain: DomainScan, images: Sequence[ImageStats]) -> list[ImageStats]:
    """Those of a domain's images that are not nearly blank; blank ones are all alike, and no copies.

    The deviation of deep images is compared with the range of values that the whole domain uses.
    """
    high = max((image.high for image in domain.images), default=0.0)
    used = high - min((image.low for image in domain.images), default=0.0)
    return [image for image in images if image.deviation >= NEAR_BLANK * (255 if image.bits == 8 else used) > 0]


def _shared(first: Iterable[ImageStats], second: Iterable[ImageStats]) -> tuple[str, ...]:
    """The images of `second` with the same pixels as one of `first`."""
    names = {image.digest: image.name for image in first}
    both = ((image.name, names[image.digest]) for image in second if image.digest in names)
    return tuple(name if name == other else f"{name} = {other}" for name, other in both)


def _repeated(images: Iterable[ImageStats]) -> tuple[str, ...]:
    """The images with the same pixels as an earlier one."""
    names: dict[bytes, str] = {}
    earlier = ((image.name, names.setdefault(image.digest, image.name)) for image in images)
    return tuple(f"{name} = {other}" for name, other in earlier if name != other)


def _round_size(side: float) -> int:
    """A --size of about so many pixels that networks can halve a few times."""
    step = 32 if side >= 32 else 4
    return max(8, int(side) // step * step)


def _are(count: int, noun: str = "image") -> str:
    return f"{plural(count, noun)} {'is' if count == 1 else 'are'}"
