"""Stage 4 of `translate data check`: the report in plain values, and a contact sheet."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from translate.contact_sheet import grid
from translate.data.check.detected_data import DetectedData
from translate.data.check.findings import Finding, problems, remarks
from translate.data.check.scan import DomainScan, ImageStats, Scan
from translate.data.files.readers import read_image
from translate.data.files.sources import Entry
from translate.data.images import as_pixels, common_channels, resize
from translate.data.options import DataOptions
from translate.domains import Part
from translate.errors import DataError

_SHEET_COLUMNS = 8
_SHEET_SIDE = 128  # largest side of an image in pixels


@dataclass(frozen=True)
class Summary:
    """The training images of one domain, or its held-out ones.

    location: of the files, relative to the folder that contains everything. images: those of `files` that can be read.
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
    """How `fit` trains on the images. suggestions: flags. decoded_bytes: of the training images at --size 256."""

    command: str
    suggestions: tuple[str, ...]
    decoded_bytes: int


@dataclass(frozen=True)
class Report:
    """All results.

    layout: in words. pairs: training images with a partner in the other domain; None for one domain.
    paired: how images are paired, in words; empty without pairs. notes: of the detection of the layout.
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


def make_report(data: DetectedData, scan: Scan) -> Report:
    """The report on files that were detected and scanned."""
    found_problems, found_remarks = tuple(problems(scan)), tuple(remarks(data, scan))
    flags = [finding.flag for finding in (*found_problems, *found_remarks) if finding.flag]
    suggestions = {flag.partition(" ")[0]: flag for flag in flags}  # the last of each name
    return Report(
        paths=data.paths,
        layout=data.layout,
        pairs=None if len(data.domains) == 1 else len(data.pairs[0].train) if data.pairs else 0,
        paired=data.pairing,
        splits=tuple(
            _summary(data, domain, held_out)
            for held_out in (False, True)
            for domain in scan.domains
            if domain.files.held_out or not held_out
        ),
        problems=found_problems,
        remarks=found_remarks,
        notes=tuple(note for note in data.notes if not note.startswith("Held out:")),  # the splits show that
        fit=Fit(
            f"translate fit MODEL {' '.join(f'--{name} {shlex.quote(value)}' for name, value in data.flags.items())}",
            tuple(suggestions.values()),
            sum(_decoded_bytes(domain.train) for domain in scan.domains),
        ),
    )


def _summary(data: DetectedData, domain: DomainScan, held_out: bool) -> Summary:
    files = domain.files
    entries, images = (files.held_out, domain.held_out) if held_out else (files.train, domain.train)
    return Summary(
        domain=files.name,
        held_out=held_out,
        location=data.location(entries),
        part=files.part,
        files=len(entries),
        images=len(images),
        sizes=tuple(Counter((image.width, image.height) for image in images).most_common()),
        modes=dict(Counter(image.mode for image in images).most_common()),
        bit_depths=dict(Counter(image.depth for image in images).most_common()),
        values=(min(image.low for image in images), max(image.high for image in images)) if images else None,
        classes=dict(Counter(files.classes[files.label(entry)] for entry in entries)) if files.classes else {},
        pixels=sum(image.width * image.height for image in images),
        bytes=sum(entry.size for entry in entries),
    )


def _decoded_bytes(images: Sequence[ImageStats]) -> int:
    """The bytes of a domain's images at the default size. Alpha takes none: images are laid on a background."""
    if not images:
        return 0
    channels = common_channels({image.channels for image in images})
    values = len(images) * channels * DataOptions.model_validate({}).stored_size ** 2
    return values * max(image.bits for image in images) // 8


def contact_sheet(data: DetectedData) -> Tensor:
    """Some images of each domain, evenly spread: uint8 (3, H, W), a row for the training and one for the held-out ones.

    The rows of paired domains show the same scenes. Files that cannot be read are left out.
    """
    rows, titles = [], []
    for held_out in (False, True):
        for domain in data.pairs or data.domains:
            files = domain.held_out if held_out else domain.train
            count = min(len(files), _SHEET_COLUMNS)
            row = [_thumbnail(files[i * len(files) // count], domain.part) for i in range(count)]
            if readable := [image for image in row if image is not None]:
                rows.append(readable)
                titles.append(f"{domain.name}, {'held out' if held_out else 'train'}")
    if not rows:
        raise DataError("None of the images that the contact sheet would show can be read.")
    return grid(rows, row_titles=titles)


def _thumbnail(entry: Entry, part: Part) -> Tensor | None:
    """uint8 (C, H, W) of at most 128 pixels a side, or None for a file that cannot be read."""
    try:
        image = read_image(entry, part)
    except DataError:
        return None
    image = image[:3] if len(image) > 4 else image
    if image.dtype != torch.uint8:  # the darkest value as black, the lightest as white
        values = image.float()
        low, high = float(values.min()), float(values.max())
        image = as_pixels((values - low) / max(high - low, 1e-12) * 2 - 1)
    scale = min(1.0, _SHEET_SIDE / max(image.shape[1:]))
    height, width = (max(1, round(side * scale)) for side in image.shape[1:])
    return resize(image, height, width)
