"""From the user's flags to batches: START HERE for the data path.

`open_training_data` is the list of the stages: the layout of the files, what is to be decoded of them, the storage, the
decoded images, and the `TrainingData` that batches are drawn from. No stage looks back at an earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import torch

from translate.data.batches.cached_stores import decode_into_cache
from translate.data.batches.decoding import DecodePlan, Range, decode_into_memory, plan_decoding
from translate.data.batches.preparing import part_shape
from translate.data.batches.store import DomainImages, choose_storage
from translate.data.batches.training_data import TrainingData
from translate.data.domains import BatchSpec, DomainSpec, Paired, Unpaired
from translate.data.files.readers import Opened
from translate.data.layout.detection import DomainFiles, Layout, detect_layout
from translate.data.options import DataOptions, suggested_range
from translate.data.synthesis import parse as parse_synthesis
from translate.device import keep_freed_memory
from translate.errors import DataError, UsageError
from translate.formatting import first_few, format_bytes, plural


def open_training_data(
    batch_spec: BatchSpec, options: DataOptions, device: torch.device, share: tuple[int, int] = (0, 1)
) -> TrainingData:
    """Finds, decodes and checks the images that a model needs.

    share: rank and number of ranks; each gets its part of every batch.
    Raises UsageError for flags that contradict each other; DataError for images that are missing, fit no layout, are
    too few for a batch, mostly unreadable, of irreconcilable channels, or too many for the storage they should be in.
    """
    keep_freed_memory()
    layout = detect_layout(batch_spec, options)
    _check_label_domains(layout, options)
    notes = list(layout.notes)
    plans = _plan_all(layout, batch_spec, options)
    for plan in plans:
        notes += _header_notes(plan, options)
    num_bytes = sum(plan.num_bytes for plan in plans)
    storage = choose_storage(options.store, num_bytes, device, options.memory_budget)
    own_images = _decode_all(plans, storage, device, batch_spec, options, notes)
    notes += _storage_notes(storage, num_bytes, device)
    domains = [own_images.get(files.name) or _synthesised(files, own_images, batch_spec) for files in layout.domains]
    data = TrainingData(batch_spec, options, domains, layout.paired_held_out, notes, storage, device, share)
    _check_shapes(domains, data, options)
    return data


def _check_label_domains(layout: Layout, options: DataOptions) -> None:
    """Raises UsageError for a domain in --labels that there is not."""
    names = [files.name for files in layout.domains]
    for name in sorted(options.label_domains - set(names)):
        raise UsageError(f"--labels {name!r} is no domain of this model; it has {', '.join(names)}.")


def _plan_all(layout: Layout, batch_spec: BatchSpec, options: DataOptions) -> list[DecodePlan]:
    """What is to be decoded for the domains with images of their own; both halves of side-by-side files together."""
    plans: list[DecodePlan] = []
    with_images = [files for files in layout.domains if not files.synthesis]
    for _, sharing_files in groupby(with_images, key=lambda files: id(files.train)):
        partner = plans[0].domains[0].store if plans and isinstance(batch_spec, Paired) else None
        plans.append(plan_decoding(list(sharing_files), options, partner))
    return plans


def _decode_all(
    plans: Sequence[DecodePlan],
    storage: str,
    device: torch.device,
    batch_spec: BatchSpec,
    options: DataOptions,
    notes: list[str],
) -> dict[str, DomainImages]:
    """The domains with images of their own, without the files that cannot be read and their partners; adds notes."""
    domains: dict[str, DomainImages] = {}
    failures: dict[str, set[int]] = {}
    for plan in plans:
        if storage == "disk":
            decoded = decode_into_cache(plan)
        else:
            decoded = decode_into_memory(plan, device if storage == "device" else torch.device("cpu"))
        notes += _failure_notes(plan, decoded.failures)
        for planned, store, values in zip(plan.domains, decoded.stores, decoded.value_ranges, strict=True):
            value_range, range_notes = _choose_value_range(planned.spec, values, options)
            notes += range_notes
            spec = planned.spec.model_copy(update={"value_range": value_range})
            key = _shuffle_key(batch_spec, spec.name)
            domains[spec.name] = DomainImages(planned.files, spec, spec, store, key)
            failures[spec.name] = set(decoded.failures)
    if isinstance(batch_spec, Paired):
        failures = dict.fromkeys(failures, set().union(*failures.values()))
    return {name: _without(domain, failures[name], options) for name, domain in domains.items()}


def _shuffle_key(batch_spec: BatchSpec, name: str) -> str:
    """Unpaired domains have an order and a geometry of their own, other domains share them."""
    return name if isinstance(batch_spec, Unpaired) else ""


def _header_notes(plan: DecodePlan, options: DataOptions) -> Iterator[str]:
    """What the user should know of how images will be changed."""
    location, part = plan.location, plan.domains[0].spec.part
    headers = [file.header for file in plan.opened if isinstance(file, Opened)]
    transparent = sum(header.channels in (2, 4) for header in headers)
    if transparent and options.background != "keep":
        yield (
            f"{plural(transparent, 'image')} in {location} with an alpha channel: what is transparent is laid on "
            f"{options.background} (--background keep keeps it as a fourth channel)."
        )
    small = sum(min(part_shape((header.height, header.width), part)) < options.size for header in headers)
    if small and options.preprocess in ("crop", "scale-width"):
        yield f"{plural(small, 'image')} in {location} smaller than --size {options.size} may be enlarged."


def _failure_notes(plan: DecodePlan, failures: dict[int, str]) -> Iterator[str]:
    """The files that are left out. Raises DataError if they are more than half of all."""
    if not failures:
        return
    counts = f"{len(failures):,} of {len(plan.entries):,} images in {plan.location}"
    reasons = first_few(list(failures.values()), "; ")
    if 2 * len(failures) > len(plan.entries):
        raise DataError(f"{counts} cannot be read: {reasons}.")
    yield f"Left out {counts} that cannot be read: {reasons}."


def _storage_notes(storage: str, num_bytes: int, device: torch.device) -> Iterator[str]:
    if storage == "disk":
        yield (
            f"The decoded images ({format_bytes(num_bytes)}) are kept in the cache folder and read from there; "
            "`translate data cache` lists and clears it."
        )
    elif storage == "memory" and device.type == "cuda":
        yield f"The images ({format_bytes(num_bytes)}) stay in main memory: the device has too little free."


def _choose_value_range(spec: DomainSpec, values: Range, options: DataOptions) -> tuple[Range, list[str]]:
    """The values of a domain that become -1 and 1, and notes on them. values: the smallest and the largest found."""
    low, high = values
    given = options.given_value_range
    if spec.bit_depth == 8:
        note = f"--value-range is ignored for domain {spec.name!r}, whose images have 8 bits."
        return (0.0, 255.0), [] if given is None else [note]
    if given is not None:
        found = f"Values of domain {spec.name!r} from {low:g} to {high:g}"
        note = f"{found} are clipped to --value-range {options.value_range}."
        return given, [note] if low < given[0] or high > given[1] else []
    if spec.bit_depth == 32:
        if low == high:
            raise DataError(f"All values of domain {spec.name!r} are {low:g}; there is nothing to learn from.")
        return values, []
    narrower = suggested_range(high)
    note = (
        f"The 16-bit values of domain {spec.name!r} reach from {low:g} to {high:g} of 65535; "
        f"--value-range {narrower} would use the range that the model has better."
    )
    return (0.0, 65535.0), [note] if narrower else []


def _without(domain: DomainImages, failed: set[int], options: DataOptions) -> DomainImages:
    """The domain without some files. Raises DataError if too few are left for a batch."""
    usable, found, location = domain.without(failed), len(domain.store), domain.files.location
    if (count := len(usable.store)) < options.batch:
        left_out = f" that can be used ({found} were found)" if count < found else ""
        raise DataError(
            f"{location} has {plural(count, 'image')}{left_out} but --batch {options.batch} needs at least "
            f"{options.batch}; add images or lower --batch."
        )
    return usable


def _synthesised(files: DomainFiles, domains: dict[str, DomainImages], batch_spec: BatchSpec) -> DomainImages:
    """The domain that is made from the images of another one as they are drawn."""
    synthesis = parse_synthesis(files.synthesis)
    assert synthesis is not None  # the layout has parsed it
    base = domains[synthesis.source]
    spec = base.spec.model_copy(
        update={
            "name": files.name,
            "title": files.title,
            "channels": synthesis.channels(base.spec.channels),
            "background": "keep" if synthesis.adds_alpha else base.spec.background,
            "synthesis": synthesis.text,
        }
    )
    files = replace(files, train=base.files.train)
    return replace(base, files=files, spec=spec, shuffle_key=_shuffle_key(batch_spec, files.name))


def _check_shapes(domains: Sequence[DomainImages], data: TrainingData, options: DataOptions) -> None:
    """Raises DataError for whole images of several sizes, UsageError for a quarter turn of what is not square."""
    sizes = sorted({domain.store.shape(row)[::-1] for domain in domains for row in range(len(domain.store))})
    if options.preprocess == "none" and len(sizes) > 1:
        low, high = (f"{width}×{height}" for width, height in (sizes[0], sizes[-1]))
        raise DataError(
            f"--preprocess none trains on whole images of one size; here are {len(sizes):,}, from {low} to {high}. "
            "Use --preprocess crop or scale-short-side."
        )
    if "rotate90" in data.augmentation.hot and data.shape[0] != data.shape[1]:
        raise UsageError(f"rotate90 turns squares only, and the images are {data.shape[1]}×{data.shape[0]}.")
