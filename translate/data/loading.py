"""From the user's words to what batches are drawn from: START HERE for the data path.

`open_training_data` recognises the layout, decodes every image once into a store, and says what it left out. What comes
back is `batches.TrainingData`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch

from translate.data.batches.preparing import Shape, half_of, stored_shape
from translate.data.batches.store import Plan, available_memory, choose, fill
from translate.data.batches.training_data import DomainImages, TrainingData
from translate.data.domains import BatchSpec, Depth, DomainSpec, Paired, Unpaired
from translate.data.files.readers import Opened, open_image, read_header
from translate.data.files.sources import Entry
from translate.data.images import common_channels
from translate.data.layout.detection import DomainFiles, Layout, detect_layout
from translate.data.options import DataOptions, suggested_range
from translate.data.synthesis import parse as parse_synthesis
from translate.device import keep_freed_memory
from translate.errors import DataError, UsageError
from translate.formatting import first_few, format_bytes, plural
from translate.plugins.types import Header
from translate.threads import in_parallel


def open_training_data(
    needs: BatchSpec, options: DataOptions, device: torch.device, share: tuple[int, int] = (0, 1)
) -> TrainingData:
    """Finds, decodes and checks the images that a model needs.

    share: rank and number of ranks; each gets its part of every batch.
    Raises UsageError for flags that contradict each other; DataError for images that are missing, fit no layout, are
    too few for a batch, mostly unreadable, of irreconcilable channels, or too many for the place they should be in.
    """
    keep_freed_memory()
    layout = detect_layout(needs, options)
    _check_words(layout, options)
    notes = list(layout.notes)
    plans: list[tuple[Plan, list[DomainFiles]]] = []
    for domains in _sharing_files(layout.domains):
        like = plans[0][0].shapes[0] if plans and isinstance(needs, Paired) else None
        plans.append((_plan(domains, options, notes, like), domains))
    num_bytes = sum(plan.nbytes for plan, _ in plans)
    place = choose(options.store, num_bytes, device, options.memory_budget)
    found = _columns(needs, options, plans, place, device, notes)
    made = {domain.name: _synthesised(domain, found, needs) for domain in layout.domains if domain.synthesis}
    columns = [(found | made)[domain.name] for domain in layout.domains]
    notes += _place_notes(place, num_bytes, device)
    data = TrainingData(needs, options, replace(layout, notes=tuple(notes)), columns, device, place, share)
    _check_shapes(columns, data, options)
    return data


def _columns(
    needs: BatchSpec,
    options: DataOptions,
    plans: Sequence[tuple[Plan, list[DomainFiles]]],
    place: str,
    device: torch.device,
    notes: list[str],
) -> dict[str, DomainImages]:
    """The domains that have images of their own, decoded, without the files that fail; pairs fail together."""
    columns: dict[str, DomainImages] = {}
    failures: dict[str, set[int]] = {}
    for plan, domains in plans:
        filled = fill(plan, place, device)
        _check_failures(domains[0].location, len(plan.entries), filled.failures, notes)
        for i, domain in enumerate(domains):
            spec = _with_range(plan.specs[i], filled.extremes[i], options, notes)
            shuffle_key = domain.name if isinstance(needs, Unpaired) else ""
            labels = torch.tensor([domain.label(entry) for entry in plan.entries])
            columns[domain.name] = DomainImages(
                domain, spec, spec, filled.stores[i], domain.train, labels, shuffle_key, None
            )
            failures[domain.name] = set(filled.failures)
    if isinstance(needs, Paired):
        failures = dict.fromkeys(failures, set().union(*failures.values()))
    return {name: _without(column, failures[name], options) for name, column in columns.items()}


def _check_words(layout: Layout, options: DataOptions) -> None:
    """Raises UsageError for a domain in --labels that there is not."""
    names = [domain.name for domain in layout.domains]
    for name in sorted(options.label_domains - set(names)):
        raise UsageError(f"--labels {name!r} is no domain of this model; it has {', '.join(names)}.")


def _sharing_files(domains: Sequence[DomainFiles]) -> list[list[DomainFiles]]:
    """The domains that have images of their own, those of the same side-by-side files together: each is read once."""
    groups: list[list[DomainFiles]] = []
    for domain in domains:
        if domain.synthesis:
            continue
        if groups and groups[-1][0].train is domain.train:
            groups[-1].append(domain)
        else:
            groups.append([domain])
    return groups


def _plan(
    domains: Sequence[DomainFiles], options: DataOptions, notes: list[str], like: tuple[Shape, ...] | None
) -> Plan:
    """What is to be kept of the files that some domains share, by the headers of the files.

    like: the sizes of the partners' images, which these are kept in as well, so that pairs share their geometry.
    """
    entries, location = domains[0].train, domains[0].location
    headers, opened, failures = _scan(entries)
    specs = tuple(_spec(domain, headers, options) for domain in domains)
    _note_headers(location, [header for header in headers if header], specs[0], options, notes)
    shapes = []
    for spec in specs:
        own = [half_of((each.height, each.width), spec) if each else (0, 0) for each in headers]
        sizes = [stored_shape(shape, options, options.stored_size) if all(shape) else shape for shape in own]
        shapes.append(tuple(sizes if like is None else (a if all(a) else b for a, b in zip(like, sizes, strict=True))))
    return Plan(location, entries, opened, specs, tuple(shapes), failures)


def _scan(entries: Sequence[Entry]) -> tuple[list[Header | None], dict[int, Opened], dict[int, str]]:
    """The headers of files, those files that need not be read again for their pixels, and why some have no header.

    Files that are small beside the memory are kept as they were read, by their rows.
    """
    small = 8 * sum(entry.size for entry in entries) < (available_memory() or 0)

    def attempt(entry: Entry) -> Opened | Header | str:
        try:
            return open_image(entry.read(), entry.origin) if small else read_header(entry)
        except DataError as error:
            return str(error)

    # One thread is quicker, unless the storage makes it wait.
    started = time.perf_counter()
    found = [attempt(entry) for entry in entries[:16]]
    waits = time.perf_counter() - started > 0.002 * len(found)
    found += in_parallel(attempt, entries[16:]) if waits else [attempt(entry) for entry in entries[16:]]
    failures = {row: each for row, each in enumerate(found) if isinstance(each, str)}
    opened = {row: each for row, each in enumerate(found) if isinstance(each, Opened)}
    headers = [None if isinstance(each, str) else each.header if isinstance(each, Opened) else each for each in found]
    return headers, opened, failures


def _spec(domain: DomainFiles, headers: Sequence[Header | None], options: DataOptions) -> DomainSpec:
    """What the model is told of a domain, but for the range of its values."""
    found = [header for header in headers if header]
    return DomainSpec(
        name=domain.name,
        title=domain.title,
        kind="labels" if domain.name in options.label_domains else "images",
        channels=common_channels({header.channels for header in found}, options.background == "keep"),
        size=options.size,
        bit_depth=cast(Depth, max((header.bits for header in found), default=8)),
        background=options.background,
        part=domain.part,
        classes=domain.classes,
    )


def _note_headers(
    location: str, headers: Sequence[Header], spec: DomainSpec, options: DataOptions, notes: list[str]
) -> None:
    """What the user should know of what is done to the images of a domain."""
    transparent = sum(header.channels in (2, 4) for header in headers)
    if transparent and options.background != "keep":
        notes.append(
            f"{plural(transparent, 'image')} in {location} with an alpha channel: what is transparent is laid on "
            f"{options.background} (--background keep keeps it as a fourth channel)."
        )
    small = sum(min(half_of((header.height, header.width), spec)) < options.size for header in headers)
    if small and options.preprocess in ("crop", "scale-width"):
        notes.append(f"{plural(small, 'image')} in {location} smaller than --size {options.size} may be enlarged.")


def _with_range(spec: DomainSpec, extremes: tuple[float, float], options: DataOptions, notes: list[str]) -> DomainSpec:
    """The domain with the values that become -1 and 1."""
    low, high = extremes
    if spec.bit_depth == 8:
        if options.value_range is not None:
            notes.append(f"--value-range says nothing to the images of domain {spec.name!r}, which have 8 bits.")
        return spec
    if (asked := options.asked_range) is not None:
        if low < asked[0] or high > asked[1]:
            notes.append(
                f"Values of domain {spec.name!r} from {low:g} to {high:g} are clipped to --value-range "
                f"{options.value_range}."
            )
        return spec.model_copy(update={"value_range": asked})
    if spec.bit_depth == 32:
        if low == high:
            raise DataError(f"All values of domain {spec.name!r} are {low:g}; there is nothing to learn from.")
        return spec.model_copy(update={"value_range": extremes})
    if narrower := suggested_range(high):
        notes.append(
            f"The 16-bit values of domain {spec.name!r} reach from {low:g} to {high:g} of 65535; "
            f"--value-range {narrower} would use the range that the model has better."
        )
    return spec.model_copy(update={"value_range": (0.0, 65535.0)})


def _synthesised(domain: DomainFiles, columns: Mapping[str, DomainImages], needs: BatchSpec) -> DomainImages:
    """The column of a domain that is made from another one, as they are drawn."""
    synthesis = parse_synthesis(domain.synthesis)
    assert synthesis is not None  # the layout has parsed it
    base = columns[synthesis.source]
    spec = base.spec.model_copy(
        update={
            "name": domain.name,
            "title": domain.title,
            "channels": synthesis.channels(base.spec.channels),
            "background": "keep" if synthesis.adds_alpha else base.spec.background,
            "synthesis": synthesis.text,
        }
    )
    shuffle_key = base.shuffle_key if isinstance(needs, Paired) else domain.name
    return replace(base, domain=domain, spec=spec, shuffle_key=shuffle_key, synthesis=synthesis)


def _without(column: DomainImages, rows: set[int], options: DataOptions) -> DomainImages:
    """The column without the files that cannot be read, or whose partners cannot."""
    kept = [row for row in range(len(column.entries)) if row not in rows]
    if len(kept) < options.batch:
        raise _too_few(column.domain, len(kept), options.batch)
    entries = tuple(column.entries[row] for row in kept)
    return replace(column, store=column.store.select(kept), entries=entries, labels=column.labels[kept])


def _check_shapes(columns: Sequence[DomainImages], data: TrainingData, options: DataOptions) -> None:
    """Raises DataError for whole images of several sizes, UsageError for a quarter turn of what is not square."""
    sizes = sorted({column.store.shape(row)[::-1] for column in columns for row in range(len(column.store))})
    if options.preprocess == "none" and len(sizes) > 1:
        low, high = (f"{width}×{height}" for width, height in (sizes[0], sizes[-1]))
        raise DataError(
            f"--preprocess none trains on whole images of one size; here are {len(sizes):,}, from {low} to {high}. "
            "Use --preprocess crop or scale-short-side."
        )
    if "rotate90" in data.augmentation.built_in and data.shape[0] != data.shape[1]:
        raise UsageError(f"rotate90 turns squares only, and the images are {data.shape[1]}×{data.shape[0]}.")


def _place_notes(place: str, num_bytes: int, device: torch.device) -> Iterator[str]:
    if place == "disk":
        yield (
            f"The decoded images ({format_bytes(num_bytes)}) are kept in the cache folder and read from there; "
            "`translate data cache` lists and clears it."
        )
    elif place == "memory" and device.type == "cuda":
        yield f"The images ({format_bytes(num_bytes)}) stay in main memory: the device has too little free."


def _check_failures(location: str, count: int, failed: dict[int, str], notes: list[str]) -> None:
    """Notes the files that were left out; an error if they are more than half of all."""
    if not failed:
        return
    named = first_few(list(failed.values()), "; ")
    if 2 * len(failed) > count:
        raise DataError(f"{len(failed):,} of {count:,} images in {location} cannot be read: {named}.")
    notes.append(f"Left out {len(failed):,} of {count:,} images in {location} that cannot be read: {named}.")


def _too_few(domain: DomainFiles, count: int, batch: int) -> DataError:
    left_out = f" that can be used ({len(domain.train)} were found)" if count < len(domain.train) else ""
    return DataError(
        f"{domain.location} has {plural(count, 'image')}{left_out} but --batch {batch} needs at least {batch}; "
        "add images or lower --batch."
    )
