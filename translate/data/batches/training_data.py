"""Batches of one training, from the store to the device.

`TrainingData.batch(step)` has no state: a run resumes by asking for its step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from os import cpu_count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
from torch import Tensor

from translate.data.augmentation.parsing import fingerprints, parse
from translate.data.batches.preparing import InputReader, centre, stored_shape
from translate.data.batches.sampling import indices
from translate.data.batches.store import Store
from translate.data.batches.views import View, cut_out, cut_to_floats, views
from translate.data.domains import BatchSpec, DomainSpec, Labelled, Spec
from translate.data.files.readers import read_image
from translate.data.files.sources import Entry
from translate.data.images import as_float
from translate.data.layout.detection import DomainFiles, Layout
from translate.data.options import DataOptions
from translate.data.synthesis import Synthesis
from translate.errors import DataError
from translate.formatting import first_few
from translate.random_bits import random_bits
from translate.threads import prefetch

if TYPE_CHECKING:
    from translate.data.augmentation.albumentations_pipeline import AlbumentationsPipeline
    from translate.data.augmentation.kornia_pipeline import KorniaPipeline

T = TypeVar("T")

AHEAD = 4
"""Batches that are read from the disk, or prepared by threads, before they are asked for."""


@dataclass(frozen=True)
class DomainImages:
    """One domain, ready to be drawn from.

    spec: of the domain as the model sees it. store, stored: the decoded images and their domain, which is another one
    for a synthesised domain. entries: the file of each row. labels: int64 (N,) on the CPU; zeros without classes.
    shuffle_key: domains of one shuffle_key share order and geometry.
    """

    domain: DomainFiles
    spec: DomainSpec
    stored: DomainSpec
    store: Store
    entries: tuple[Entry, ...]
    labels: Tensor
    shuffle_key: str
    synthesis: Synthesis | None


class TrainingData:
    """The images of one training, decoded.

    spec: a DomainSpec for each domain.
    shape: height and width of the images of a batch.
    epoch: the images of the larger domain.
    notes: sentences for the user: what was swapped, left out, ignored.
    fingerprint: for each domain the number of images and a hash over their names and sizes; plain values.
    augment_files: the files that `--augment` names, and the sha256 of each.
    paired_held_out: the held-out images of the two domains show the same scenes.
    place: where the decoded images are: "device", "memory" or "disk". device: where batches are.
    augmentation: what `--augment` asks for.

    A context manager: at its end no thread is left.
    """

    def __init__(
        self,
        needs: BatchSpec,
        options: DataOptions,
        layout: Layout,
        columns: Sequence[DomainImages],
        device: torch.device,
        place: str,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.spec = Spec({column.domain.name: column.spec for column in columns})
        self.shape = (options.size, options.size)
        if options.preprocess == "none":
            self.shape = columns[0].store.shape(0)
        self.epoch = max(len(column.entries) for column in columns)
        self.notes = list(layout.notes)
        self.fingerprint = {column.domain.name: fingerprint(column.entries) for column in columns}
        self.augment_files = fingerprints(options.augment)
        self.paired_held_out = layout.paired_held_out
        self.place = place
        self._needs = needs
        self._options = options
        self._columns = columns
        self.device = device
        self.augmentation = parse(options.augment)
        self._rank, self._ranks = share
        # Cutting out is quicker than handing over to a thread; what albumentations do is not.
        self._pool: ThreadPoolExecutor | None = None
        if self.augmentation.albumentations:
            self._pool = ThreadPoolExecutor(min(AHEAD, cpu_count() or 1), thread_name_prefix="translate-batches")
        self._coming: Iterator[tuple[int, Future[list[Tensor]]]] = iter(())
        self._next_step = -1  # the one that comes next out of `_coming`
        # Domains that see the same views of the same images, as one made from the other, are drawn once.
        seen = {(id(column.store), column.shuffle_key): column for column in columns}
        self._drawn = list(seen.values())
        self._from = [list(seen).index((id(column.store), column.shuffle_key)) for column in columns]
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def batch(self, step: int) -> Any:
        """The batch of one step, counted from 0: images (N, C, H, W) float32 in [-1, 1], labels int64 (N,).

        A pure function of (seed, step). Domains that correspond share order and geometry; others share nothing. Of
        several ranks, each gets its share of the same batch.
        """
        if self.place == "disk":
            for column in self._drawn:
                column.store.will_need([view.row for view in self._views(column, step + AHEAD)])
        found = self._on_host(step) if self._pool is None else self._prefetched(self._pool, step)
        images = [
            self._as_float(self._to_device(pixels), column) for column, pixels in zip(self._drawn, found, strict=True)
        ]
        if self.augmentation.kornia:
            images = self._augmented(self.augmentation.kornia, images, step)
        tensors = []
        for column, at in zip(self._columns, self._from, strict=True):
            batch, synthesis = images[at], column.synthesis
            tensors.append(batch if synthesis is None else synthesis(batch, self._seeds(column, step)))
            if isinstance(self._needs, Labelled):
                tensors.append(self._to_device(column.labels[self._rows(column, step)]))
        return self._needs.batch_type(*tensors)

    def close(self) -> None:
        """End the threads, if there are any."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def advice(self) -> str:
        """What would help where training waits for batches."""
        if self.augmentation.albumentations:
            return "albumentations run on the CPU for every image: use fewer of them in --augment, or kornia's."
        if self.place == "disk":
            return "the images are read from the disk: give them more memory (--memory-budget), or a faster disk."
        if self.augmentation.kornia or any(column.synthesis for column in self._columns):
            return "augmentations and synthesised inputs are computed in every step: use fewer or cheaper ones."
        if self.device.type == "cuda" and self.place == "memory":
            return "the images are in main memory: make room for them on the device (--store device, --load-size)."
        return "another program may be using the CPU; a larger --batch or --size gives the device more to do."

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------------ a batch, from the store to the device

    def _mine(self, drawn: list[T]) -> list[T]:
        """The share of this rank in what was drawn for a batch."""
        count = len(drawn) // self._ranks
        return drawn[self._rank * count : (self._rank + 1) * count]

    def _rows(self, column: DomainImages, step: int) -> list[int]:
        """The images of a step, this rank's share of them."""
        options = self._options
        return self._mine(indices(options.seed, column.shuffle_key, step, options.batch, len(column.store)))

    def _views(self, column: DomainImages, step: int) -> list[View]:
        options, shuffle_key = self._options, column.shuffle_key
        rows = indices(options.seed, shuffle_key, step, options.batch, len(column.store))
        return self._mine(
            views(options.seed, shuffle_key, step, column.store, rows, self.shape, self.augmentation.built_in)
        )

    def _seeds(self, column: DomainImages, step: int) -> list[int]:
        """A seed for each image of a step, for what is drawn beside its geometry."""
        options = self._options
        return self._mine(random_bits(options.batch, options.seed, "images", column.shuffle_key, step).tolist())

    def _prefetched(self, pool: ThreadPoolExecutor, step: int) -> list[Tensor]:
        """`_on_host` of a step, which threads have prepared if it follows the step before."""
        if step != self._next_step:
            self._coming = prefetch(pool, self._on_host, count(step), AHEAD + 1)
        self._next_step = step + 1
        return next(self._coming)[1].result()

    def _on_host(self, step: int) -> list[Tensor]:
        """The images of a step, (N, C, H, W) a domain: as they are stored, or floats in [-1, 1] if they stay here."""
        floats = self.device.type == "cpu" and not self.augmentation.albumentations
        pixels = []
        for column in self._drawn:
            cut = cut_to_floats if floats and column.stored.bit_depth == 8 else cut_out
            seen = self._views(column, step)
            pixels.append(cut(column.store, seen, self.shape, nearest=column.stored.kind == "labels"))
        if self.augmentation.albumentations:
            pixels = self._augmented_on_host(self.augmentation.albumentations, pixels, step)
        if self.device.type == "cuda":
            pixels = [each if each.is_cuda else each.pin_memory() for each in pixels]
        return pixels

    def _as_float(self, pixels: Tensor, column: DomainImages) -> Tensor:
        """Float32 in [-1, 1] of what `_on_host` gives."""
        stays = pixels.dtype == torch.float32 and column.stored.bit_depth == 8
        return pixels if stays else as_float(_as_unsigned(pixels), column.stored.value_range)

    def _groups(self) -> Iterator[list[int]]:
        """The drawn columns that correspond, together."""
        streams = [column.shuffle_key for column in self._drawn]
        for shuffle_key in dict.fromkeys(streams):
            yield [i for i, each in enumerate(streams) if each == shuffle_key]

    def _augmented_on_host(self, pipeline: AlbumentationsPipeline, pixels: list[Tensor], step: int) -> list[Tensor]:
        pixels = [each.cpu() for each in pixels]
        for group in self._groups():
            kinds = [self._drawn[i].stored.kind for i in group]
            ranges = [self._drawn[i].stored.value_range for i in group]
            for row, seed in enumerate(self._seeds(self._drawn[group[0]], step)):
                images = [_as_unsigned(pixels[i][row]) for i in group]
                for i, image in zip(group, pipeline(images, kinds, seed, ranges), strict=True):
                    _as_unsigned(pixels[i][row]).copy_(image)
        return pixels

    def _augmented(self, pipeline: KorniaPipeline, images: list[Tensor], step: int) -> list[Tensor]:
        done = list(images)
        for group in self._groups():
            column = self._drawn[group[0]]
            kinds = [self._drawn[i].stored.kind for i in group]
            (seed,) = random_bits(1, self._options.seed, "augment", column.shuffle_key, step, self._rank).tolist()
            augmented = pipeline([images[i] for i in group], kinds, seed)
            for i, batch in zip(group, augmented, strict=True):
                done[i] = batch
        return done

    def _to_device(self, tensor: Tensor) -> Tensor:
        """A tensor on the device; from pinned memory the copy runs beside the computation before it."""
        if self._copies is None or tensor.is_cuda:
            return tensor.to(self.device)
        with torch.cuda.stream(self._copies):
            moved = tensor.pin_memory().to(self.device, non_blocking=True)
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self._copies)
        moved.record_stream(current)
        return moved

    # ------------------------------------------------------------------ held-out images

    def held_out(self, n: int) -> Any:
        """At most n held-out images of each domain, spread evenly over them, resized and not augmented.

        Training images stand in where a domain has none held out. Shapes as in `batch`; the rows of domains whose
        held-out images correspond do so too. Files that cannot be read are passed over. Decodes at every call.
        """
        rows: list[list[Tensor]] = []
        reasons: list[str] = []
        labels: list[int] = []
        for entries in self._held_out_rows(n):
            try:
                rows.append([self._held_out_image(*pair) for pair in zip(self._columns, entries, strict=True)])
            except DataError as error:
                reasons.append(str(error))
                continue
            labels.append(self._columns[0].domain.label(entries[0]))
            if len(rows) == n:
                break
        if not rows:
            raise DataError(f"None of the held-out images can be read: {first_few(reasons, '; ')}.")
        tensors = [self._to_device(torch.stack(images)) for images in zip(*rows, strict=True)]
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

    def _held_out_image(self, column: DomainImages, entry: Entry) -> Tensor:
        """One image as the model sees its domain, (C, H, W) float32 in [-1, 1]; what is drawn depends on its name."""
        options, made = self._options, column.synthesis is not None and not column.domain.real_held_out
        as_input = InputReader(column.spec, column.stored if made else None, options.seed)
        image = read_image(entry, column.domain.part)
        if options.preprocess == "none":
            return as_input(image, entry, self.shape)
        shape = stored_shape((image.shape[1], image.shape[2]), options, options.size)
        return centre(as_input(image, entry, shape), self.shape)


def fingerprint(entries: Sequence[Entry]) -> dict[str, Any]:
    """The number of images, and a hash over their names and sizes."""
    listing = json.dumps(sorted((entry.name, entry.size) for entry in entries)).encode()
    return {"images": len(entries), "sha256": hashlib.sha256(listing).hexdigest()}


def _as_unsigned(pixels: Tensor) -> Tensor:
    """16 bits under their own name."""
    return pixels.view(torch.uint16) if pixels.dtype == torch.int16 else pixels
