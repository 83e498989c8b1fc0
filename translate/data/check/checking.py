"""The report of `translate data check`: what there is, what is wrong with it, and what `fit` would do with it.

Looked at by inspecting.py, judged by findings.py. `contact_sheet` shows some of the images.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from translate.contact_sheet import grid
from translate.data.check.findings import Finding, problems, remarks
from translate.data.check.inspecting import Found, Seen, Split, thumbnail
from translate.data.domains import Part
from translate.data.images import common_channels
from translate.data.options import DataOptions
from translate.errors import DataError

SHOWN = 8


@dataclass(frozen=True)
class Summary:
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
    splits: tuple[Summary, ...]
    problems: tuple[Finding, ...]
    remarks: tuple[Finding, ...]
    notes: tuple[str, ...]
    fit: Fit


def check(found: Found, advance: Callable[[], object] = lambda: None) -> Report:
    """Decodes every image, with all cores, and reports; `advance` is called after each file, from any thread."""
    splits, failures = found.look(advance)
    wrong, odd = tuple(problems(splits, failures)), tuple(remarks(found, splits))
    flags = {flag.partition(" ")[0]: flag for finding in (*wrong, *odd) if (flag := finding.flag)}
    given = found.options.model_dump(exclude_unset=True)
    return Report(
        paths=found.paths,
        layout=_layout(found),
        pairs=None if len(found.layout.domains) == 1 else len(found.pairs[0].train) if found.pairs else 0,
        paired=found.paired,
        splits=tuple(_summary(found, split) for split in splits),
        problems=wrong,
        remarks=odd,
        notes=tuple(note for note in found.layout.notes if not note.startswith("Held out:")),  # the splits say that
        fit=Fit(
            f"translate fit MODEL {shlex.join(word for flag in given for word in (f'--{flag}', given[flag]))}",
            tuple(flags.values()),
            sum(_decoded_bytes(split.images) for split in splits if not split.held_out),
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


def _summary(found: Found, split: Split) -> Summary:
    domain, images = split.domain, split.images
    first = split.entries[0]
    return Summary(
        domain=domain.name,
        held_out=split.held_out,
        location=found.shown(first.origin.removesuffix(first.name)),
        part=domain.part,
        files=len(split.entries),
        images=len(images),
        sizes=tuple(Counter((image.width, image.height) for image in images).most_common()),
        modes=dict(Counter(image.mode for image in images).most_common()),
        bit_depths=dict(Counter(image.depth for image in images).most_common()),
        values=(min(image.low for image in images), max(image.high for image in images)) if images else None,
        classes=dict(Counter(domain.classes[domain.label(entry)] for entry in split.entries)) if domain.classes else {},
        pixels=sum(image.width * image.height for image in images),
        bytes=sum(entry.size for entry in split.entries),
    )


def _decoded_bytes(images: Sequence[Seen]) -> int:
    """What the images of a domain take at the default size; alpha is no channel, as they are laid on a background."""
    if not images:
        return 0
    channels = common_channels({image.channels for image in images})
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
