"""From the user's words to batches on the device: START HERE for the data path.

`open_training_data` recognises the layout, decodes every image once into a resident store, and says what it left out.
`TrainingData.batch(step)` is then a few slices: no file, no thread and no state.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from translate.data.domains import DomainSpec, Labelled, Needs, Spec, Unpaired
from translate.data.images import as_float
from translate.data.layouts import Domain, Layout, recognise
from translate.data.options import DataOptions
from translate.data.sampling import crop_and_flip, geometry, indices
from translate.data.sources import Entry
from translate.data.store import common_channels, fill, fits_device, load, without
from translate.errors import DataError


@dataclass(frozen=True)
class _Column:
    """One domain in memory.

    images: uint8 (N, C, L, L), on the device or in main memory. entries: the file of each row.
    labels: int64 (N,) on the CPU; zeros without classes. channels: C.
    """

    domain: Domain
    entries: tuple[Entry, ...]
    images: Tensor
    labels: Tensor
    channels: int


class TrainingData:
    """The images of one training, decoded and resident.

    spec: a DomainSpec for each domain.
    epoch: the images of the larger domain.
    notes: sentences for the user: what was swapped, left out, ignored.
    fingerprint: for each domain the number of images and a hash over their names and sizes; plain values.
    paired_held_out: the held-out images of the two domains show the same scenes.
    """

    def __init__(
        self, needs: Needs, options: DataOptions, layout: Layout, columns: Sequence[_Column], device: torch.device
    ) -> None:
        self.spec = Spec({column.domain.name: _spec(column, options.size) for column in columns})
        self.epoch = max(len(column.entries) for column in columns)
        self.notes = list(layout.notes)
        self.fingerprint = {column.domain.name: _fingerprint(column.entries) for column in columns}
        self.paired_held_out = layout.paired_held_out
        self._needs = needs
        self._options = options
        self._columns = columns
        self._device = device

    def batch(self, step: int) -> Any:
        """The batch of one step, counted from 0: images (N, C, size, size) float32 in [-1, 1], labels int64 (N,).

        A pure function of (seed, step). Domains that correspond share order, crop and flip; others share nothing.
        """
        options = self._options
        slack = options.stored_size - options.size
        tensors = []
        for column in self._columns:
            stream = column.domain.name if isinstance(self._needs, Unpaired) else ""
            rows = indices(options.seed, stream, step, options.batch, len(column.images))
            drawn = geometry(options.seed, stream, step, options.batch, slack, options.augmentations)
            crops = crop_and_flip(column.images, rows, drawn, options.size)
            tensors.append(as_float(self._to_device(crops)))
            if isinstance(self._needs, Labelled):
                tensors.append(self._to_device(column.labels[rows]))
        return self._needs.batch_type(*tensors)

    def held_out(self, n: int) -> Any:
        """At most n held-out images of each domain, spread evenly over them, resized and not augmented.

        Training images stand in where a domain has none held out. Shapes as in `batch`; the rows of domains whose
        held-out images correspond do so too. Files that cannot be read are passed over. Decodes at every call.
        """
        rows: list[list[Tensor]] = []
        labels: list[int] = []
        for entries in self._held_out_rows(n):
            try:
                rows.append([self._held_out_image(*pair) for pair in zip(self._columns, entries, strict=True)])
            except DataError:
                continue
            labels.append(_label(self._columns[0].domain, entries[0]))
            if len(rows) == n:
                break
        if not rows:
            raise DataError("None of the held-out images can be read.")
        tensors = [as_float(self._to_device(torch.stack(images))) for images in zip(*rows, strict=True)]
        if isinstance(self._needs, Labelled):
            tensors.append(self._to_device(torch.tensor(labels)))
        return self._needs.batch_type(*tensors)

    def _held_out_rows(self, n: int) -> Iterator[tuple[Entry, ...]]:
        """The held-out files, one a domain: first n evenly spread ones, then the others, to replace unreadable ones."""
        files = [column.domain.held_out or column.entries for column in self._columns]
        count = min(map(len, files))
        first = [i * count // n for i in range(n)] if n < count else list(range(count))
        for i in [*first, *sorted(set(range(count)) - set(first))]:
            yield tuple(entries[i * len(entries) // count] for entries in files)

    def _held_out_image(self, column: _Column, entry: Entry) -> Tensor:
        (image,) = load(entry, [column.domain.part], column.channels, self._options.size)
        return image

    def _to_device(self, tensor: Tensor) -> Tensor:
        """Through pinned memory where that makes the copy asynchronous."""
        if self._device.type == "cuda" and tensor.device.type == "cpu":
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)


def open_training_data(needs: Needs, options: DataOptions, device: torch.device) -> TrainingData:
    """Finds, decodes and checks the images that a model needs.

    Raises UsageError for flags that contradict each other; DataError for images that are missing, fit no layout, are
    too few for a batch, mostly unreadable, of irreconcilable channels, or too many for the memory.
    """
    layout = recognise(needs, options)
    notes = list(layout.notes)
    columns = _columns(needs, options, layout, notes)
    num_bytes = sum(column.images.nbytes for column in columns)
    if fits_device(num_bytes, device):
        columns = [_moved(column, device) for column in columns]
    elif device.type == "cuda":
        notes.append(f"The images ({num_bytes / 1e9:.1f} GB) stay in main memory: the device has too little free.")
    layout = Layout(layout.domains, layout.paired_held_out, tuple(notes))
    return TrainingData(needs, options, layout, columns, device)


def _columns(needs: Needs, options: DataOptions, layout: Layout, notes: list[str]) -> list[_Column]:
    """The decoded domains, without the files that cannot be read, nor their partners."""
    stores: list[Tensor] = []
    failures: list[dict[int, str]] = []
    channels: list[int] = []
    for domains in _sharing_files(layout.domains):
        entries = domains[0].train
        count = common_channels(entries)
        filled, failed = fill(entries, [domain.part for domain in domains], count, options.stored_size)
        _check_failures(domains[0].location, len(entries), failed, notes)
        stores += filled
        failures += [failed] * len(domains)
        channels += [count] * len(domains)
    columns = []
    for i, domain in enumerate(layout.domains):
        lost = set(failures[i]) if isinstance(needs, Unpaired) else set().union(*failures)
        kept = tuple(entry for row, entry in enumerate(domain.train) if row not in lost)
        if len(kept) < options.batch:
            raise _too_few(domain, len(kept), options.batch)
        labels = torch.tensor([_label(domain, entry) for entry in kept])
        columns.append(_Column(domain, kept, without(stores[i], lost), labels, channels[i]))
    return columns


def _label(domain: Domain, entry: Entry) -> int:
    return domain.label(entry) if domain.classes else 0


def _sharing_files(domains: Sequence[Domain]) -> list[list[Domain]]:
    """The domains, those of the same side-by-side files together, so that each file is decoded once."""
    groups: list[list[Domain]] = []
    for domain in domains:
        if groups and groups[-1][0].train is domain.train and domain.part is not None:
            groups[-1].append(domain)
        else:
            groups.append([domain])
    return groups


def _check_failures(location: str, count: int, failed: dict[int, str], notes: list[str]) -> None:
    """Notes the files that were left out; an error if they are more than half of all."""
    if not failed:
        return
    reasons = list(failed.values())
    more = len(reasons) - 3
    named = "; ".join(reasons[:3]) + (f"; and {more:,} more" if more > 0 else "")
    if 2 * len(failed) > count:
        raise DataError(f"{len(failed):,} of {count:,} images in {location} cannot be read: {named}.")
    notes.append(f"Left out {len(failed):,} of {count:,} images in {location} that cannot be read: {named}.")


def _too_few(domain: Domain, count: int, batch: int) -> DataError:
    images = "1 image" if count == 1 else f"{count} images"
    left_out = f" that can be used ({len(domain.train)} were found)" if count < len(domain.train) else ""
    return DataError(
        f"{domain.location} has {images}{left_out} but --batch {batch} needs at least {batch}; "
        "add images or lower --batch."
    )


def _moved(column: _Column, device: torch.device) -> _Column:
    return _Column(column.domain, column.entries, column.images.to(device), column.labels, column.channels)


def _spec(column: _Column, size: int) -> DomainSpec:
    domain = column.domain
    return DomainSpec(
        name=domain.name,
        title=domain.title,
        channels=column.channels,
        size=size,
        part=domain.part,
        classes=domain.classes,
    )


def _fingerprint(entries: Sequence[Entry]) -> dict[str, Any]:
    listing = json.dumps(sorted((entry.name, entry.size) for entry in entries)).encode()
    return {"images": len(entries), "sha256": hashlib.sha256(listing).hexdigest()}
