"""From the user's flags to decoded images: START HERE for the data path and for a batch's journey.

`open_training_data` goes through the stages: the layout of the files, what is to be decoded of them, the storage, the
decoded images, and the `TrainingData` that batches are drawn from. Next: batches/training_data.py.

The journey of a batch:

    data/loading.py                  image files are found and decoded
    data/batches/training_data.py    crops of them become the batch of a step
    training/trainer.py              the loop over steps; step.py is one step
    training/checkpoint.py           what a run continues from
    applying/model_file.py           what the trained model is loaded from
    applying/folder.py               the model translates a folder of images
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import torch

from translate.data.augmentation.parsing import parse as parse_augmentation
from translate.data.batches.cached_stores import decode_into_cache
from translate.data.batches.decoding import DecodePlan, Range, decode_into_memory, plan_decoding
from translate.data.batches.preparing import part_shape
from translate.data.batches.store import DomainImages, choose_storage
from translate.data.batches.training_data import TrainingData
from translate.data.files.readers import Opened
from translate.data.layout.detection import DomainFiles, detect_layout
from translate.data.options import DataOptions, suggested_range
from translate.data.synthesis import parse as parse_synthesis
from translate.device import keep_freed_memory
from translate.domains import BatchSpec, DomainSpec, Paired, Unpaired
from translate.errors import DataError, UsageError
from translate.formatting import first_few, format_bytes, plural


def open_training_data(
    batch_spec: BatchSpec, options: DataOptions, device: torch.device, share: tuple[int, int] = (0, 1)
) -> TrainingData:
    """Find, decode and check the images that a model needs.

    share: rank and number of ranks; each gets its part of every batch.
    Raises UsageError for flags that contradict each other; DataError for images that are missing, fit no layout, are
    too few for a batch, mostly unreadable, of irreconcilable channels, or too many for the storage they should be in.
    """
    keep_freed_memory()
    paired = isinstance(batch_spec, Paired)

    # Which files belong to which domain.
    layout = detect_layout(batch_spec, options)
    names = [files.name for files in layout.domains]
    for name in sorted(options.label_domains - set(names)):
        raise UsageError(f"--labels {name!r} is not a domain of this model, which has {', '.join(names)}.")
    notes = list(layout.notes)

    # What is to be decoded, by the headers of the files. The two halves of side-by-side files are decoded together.
    plans: list[DecodePlan] = []
    with_images = [files for files in layout.domains if not files.synthesis]
    for _, same_files in groupby(with_images, key=lambda files: id(files.train)):
        partner = plans[0].domains[0].store if plans and paired else None
        plans.append(plan_decoding(list(same_files), options, partner))
        notes += _header_notes(plans[-1], options)

    # Every file is decoded once, to where there is room for all of them.
    num_bytes = sum(plan.num_bytes for plan in plans)
    storage = choose_storage(options.store, num_bytes, device, options.memory_budget)
    decoded: dict[str, DomainImages] = {}
    failed: dict[str, set[int]] = {}
    for plan in plans:
        if storage == "disk":
            result = decode_into_cache(plan)
        else:
            result = decode_into_memory(plan, device if storage == "device" else torch.device("cpu"))
        notes += _failure_notes(plan, result.failures)
        for domain, store, found in zip(plan.domains, result.stores, result.value_ranges, strict=True):
            value_range, range_notes = _choose_value_range(domain.spec, found, options)
            notes += range_notes
            spec = domain.spec.model_copy(update={"value_range": value_range})
            decoded[spec.name] = replace(domain, spec=spec, store=store)
            failed[spec.name] = set(result.failures)
    notes += _storage_notes(storage, num_bytes, device)

    # Files that cannot be read are left out, and so are their partners. Synthesised domains share the stores.
    if paired:
        failed = dict.fromkeys(failed, set().union(*failed.values()))
    usable = {name: _without_failed(domain, failed[name], options) for name, domain in decoded.items()}
    domains = [usable.get(files.name) or _make_synthesised(files, usable) for files in layout.domains]
    if isinstance(batch_spec, Unpaired):  # each domain has an order and a geometry of its own
        domains = [replace(domain, shuffle_key=domain.spec.name) for domain in domains]
    _check_sizes(domains, options)
    return TrainingData(batch_spec, options, domains, layout.paired_held_out, notes, storage, device, share)


def _header_notes(plan: DecodePlan, options: DataOptions) -> Iterator[str]:
    """What the user should know of how images will be changed."""
    location, part = plan.location, plan.domains[0].spec.part
    headers = [file.header for file in plan.opened if isinstance(file, Opened)]
    transparent = sum(header.channels in (2, 4) for header in headers)
    if transparent and options.background != "keep":
        yield (
            f"{plural(transparent, 'image')} in {location} with an alpha channel: transparent parts are laid on "
            f"{options.background} (--background keep keeps alpha as a fourth channel)."
        )
    small = sum(min(part_shape(header, part)) < options.size for header in headers)
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


def _choose_value_range(spec: DomainSpec, found: Range, options: DataOptions) -> tuple[Range, list[str]]:
    """The values of a domain that become -1 and 1, and notes on that. found: its smallest and its largest value."""
    low, high = found
    given = options.given_value_range
    if spec.bit_depth == 8:
        note = f"--value-range is ignored for domain {spec.name!r}, whose images have 8 bits."
        return (0.0, 255.0), [] if given is None else [note]
    if given is not None:
        extremes = f"from {low:g} to {high:g}"
        note = f"Values of domain {spec.name!r} {extremes} are clipped to --value-range {options.value_range}."
        return given, [note] if low < given[0] or high > given[1] else []
    if spec.bit_depth == 32:
        if low == high:
            raise DataError(f"All values of domain {spec.name!r} are {low:g}; there is nothing to learn from.")
        return found, []
    narrower = suggested_range(high)
    note = (
        f"The 16-bit values of domain {spec.name!r} reach from {low:g} to {high:g} of 65535; "
        f"--value-range {narrower} would use the range that the model has better."
    )
    return (0.0, 65535.0), [note] if narrower else []


def _without_failed(domain: DomainImages, failed: set[int], options: DataOptions) -> DomainImages:
    """The domain without the files that could not be read. Raises DataError if too few are left for a batch."""
    found = domain.files.train
    kept = [row for row in range(len(found)) if row not in failed]
    if len(kept) < options.batch:
        usable = f" that can be used ({len(found)} were found)" if failed else ""
        raise DataError(
            f"{domain.files.location} has {plural(len(kept), 'image')}{usable} but --batch {options.batch} needs at "
            f"least {options.batch}; add images or lower --batch."
        )
    files = replace(domain.files, train=tuple(found[row] for row in kept))
    return replace(domain, files=files, store=domain.store.select(kept))


def _make_synthesised(files: DomainFiles, domains: dict[str, DomainImages]) -> DomainImages:
    """The domain whose batches are made from those of another one; it has the store of that one."""
    synthesis = parse_synthesis(files.synthesis)
    assert synthesis is not None  # the layout has parsed it
    base = domains[synthesis.source]
    changes = {
        "name": files.name,
        "title": files.title,
        "channels": synthesis.channels(base.spec.channels),
        "background": "keep" if synthesis.adds_alpha else base.spec.background,
        "synthesis": synthesis.text,
    }
    files = replace(files, train=base.files.train)
    return replace(base, files=files, spec=base.spec.model_copy(update=changes), source=base.spec)


def _check_sizes(domains: Sequence[DomainImages], options: DataOptions) -> None:
    """Raises DataError for whole images of several sizes, UsageError for a quarter turn of what is not square."""
    if options.preprocess != "none":
        return
    sizes = sorted({domain.store.shape(row)[::-1] for domain in domains for row in range(len(domain.store))})
    (width, height), (other_width, other_height) = sizes[0], sizes[-1]
    if len(sizes) > 1:
        raise DataError(
            f"--preprocess none trains on whole images of one size; here are {len(sizes):,}, from {width}×{height} to "
            f"{other_width}×{other_height}. Use --preprocess crop or scale-short-side."
        )
    if width != height and "rotate90" in parse_augmentation(options.augment).built_in:
        raise UsageError(f"rotate90 turns squares only, and the images are {width}×{height}.")
