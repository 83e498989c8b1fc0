"""Batches of one training, from the store to the device. The second link of a batch's journey.

Before this, `open_training_data` (../loading.py) decodes the images. Next, `Trainer` (../../training/trainer.py) runs a
step on each batch. `TrainingData.batch(step)` depends on the step alone, so a run resumes with the number of its step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from os import cpu_count
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
from torch import Tensor

from translate.data.augmentation.parsing import fingerprints, parse
from translate.data.batches.cropping import crop_batch
from translate.data.batches.preparing import InputPreparer, centre_crop, stored_shape
from translate.data.batches.sampling import Crop, sample_crops, sample_rows
from translate.data.batches.store import DomainImages
from translate.data.files.readers import read_image
from translate.data.files.sources import Entry
from translate.data.images import as_float
from translate.data.options import DataOptions
from translate.domains import BatchSpec, Labelled, Spec
from translate.errors import DataError
from translate.formatting import first_few
from translate.random_bits import random_bits
from translate.threads import prefetch

if TYPE_CHECKING:
    from translate.data.augmentation.albumentations_pipeline import AlbumentationsPipeline
    from translate.data.augmentation.kornia_pipeline import KorniaPipeline

T = TypeVar("T")

AHEAD = 4
"""Batches that are read from the disk, or prepared by threads, before they are needed."""


class TrainingData:
    """The images of one training, decoded.

    spec: a DomainSpec for each domain.
    shape: height and width of the images of a batch.
    epoch: number of images of the larger domain.
    notes: sentences for the user: what was swapped, left out, ignored.
    fingerprint: for each domain the number of images and a hash over their names and sizes; plain values.
    augment_files: the files that `--augment` names, and the sha256 of each.
    paired_held_out: the held-out images of the two domains show the same scenes.
    storage: where the decoded images are: "device", "memory" or "disk". device: where batches are.
    augmentation: what `--augment` names.

    A context manager: at its end no thread is left.
    """

    def __init__(
        self,
        batch_spec: BatchSpec,
        options: DataOptions,
        domains: Sequence[DomainImages],
        paired_held_out: bool,
        notes: Sequence[str],
        storage: str,
        device: torch.device,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.spec = Spec({domain.spec.name: domain.spec for domain in domains})
        self.shape = domains[0].store.shape(0) if options.preprocess == "none" else (options.size, options.size)
        self.epoch = max(len(domain.store) for domain in domains)
        self.notes = list(notes)
        self.fingerprint = {domain.spec.name: fingerprint_of_files(domain.files.train) for domain in domains}
        self.augment_files = fingerprints(options.augment)
        self.paired_held_out = paired_held_out
        self.storage = storage
        self.device = device
        self.augmentation = parse(options.augment)
        self._batch_spec = batch_spec
        self._options = options
        self._domains = domains
        self._rank, self._ranks = share
        # Domains that have the same crops of the same images, as if one is made from the other, are cropped once.
        self._distinct_domains = {(id(domain.store), domain.shuffle_key): domain for domain in domains}
        groups: dict[str, list[int]] = {}
        for i, domain in enumerate(self._distinct_domains.values()):
            groups.setdefault(domain.shuffle_key, []).append(i)
        self._aligned_groups = list(
            groups.values()
        )  # indices into `_distinct_domains`; corresponding ones are together
        # Cropping is faster than handing over to a thread; what albumentations do is not.
        self._pool: ThreadPoolExecutor | None = None
        if self.augmentation.albumentations:
            self._pool = ThreadPoolExecutor(min(AHEAD, cpu_count() or 1), thread_name_prefix="translate-batches")
        self._prefetched_batches: Iterator[tuple[int, Future[list[Tensor]]]] = iter(())
        self._next_step = -1  # the one that comes next out of `_prefetched_batches`
        self._floats_on_host = device.type == "cpu" and self._pool is None
        self._copy_stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def batch(self, step: int) -> Any:
        """The batch of one step, counted from 0: images (N, C, H, W) float32 in [-1, 1], labels int64 (N,).

        A pure function of (seed, step). Domains that correspond share order and geometry; others share nothing. Of
        several ranks, each gets its share of the same batch.
        """
        if self.storage == "disk":
            for domain in self._distinct_domains.values():
                domain.store.will_need([crop.row for crop in self._crops(domain, step + AHEAD)])
        pixels = self._cropped(step) if self._pool is None else self._prefetched(self._pool, step)
        images = [self._to_device(each) for each in pixels]
        if not self._floats_on_host:
            ranges = [domain.spec.value_range for domain in self._distinct_domains.values()]
            images = [as_float(each, value_range) for each, value_range in zip(images, ranges, strict=True)]
        if self.augmentation.kornia:
            images = self._augmented_on_device(self.augmentation.kornia, images, step)
        batches = dict(zip(self._distinct_domains, images, strict=True))
        tensors = []
        for domain in self._domains:
            batch, synthesis = batches[id(domain.store), domain.shuffle_key], domain.synthesis
            tensors.append(batch if synthesis is None else synthesis(batch, self._seeds(domain, step)))
            if isinstance(self._batch_spec, Labelled):
                tensors.append(self._to_device(domain.labels[[crop.row for crop in self._crops(domain, step)]]))
        return self._batch_spec.batch_type(*tensors)

    def advice(self) -> str:
        """What would help where training waits for batches."""
        if self.augmentation.albumentations:
            return "albumentations run on the CPU for every image: use fewer of them in --augment, or kornia's."
        if self.storage == "disk":
            return "the images are read from the disk: give them more memory (--memory-budget), or a faster disk."
        if self.augmentation.kornia or any(domain.synthesis for domain in self._domains):
            return "augmentations and synthesised inputs are computed in every step: use fewer or cheaper ones."
        if self.device.type == "cuda" and self.storage == "memory":
            return "the images are in main memory: make room for them on the device (--store device, --load-size)."
        return "another program may be using the CPU; a larger --batch or --size gives the device more to do."

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    # ------------------------------------------------------------------ a batch, from the store to the device

    def _share_of_rank(self, items: list[T]) -> list[T]:
        """The items of this rank, of one for each image of a batch."""
        count = len(items) // self._ranks
        return items[self._rank * count : (self._rank + 1) * count]

    def _crops(self, domain: DomainImages, step: int) -> list[Crop]:
        """The crops of a step, this rank's share of them."""
        seed, key, store, built_in = self._options.seed, domain.shuffle_key, domain.store, self.augmentation.built_in
        rows = sample_rows(seed, key, step, self._options.batch, len(store))
        return self._share_of_rank(sample_crops(seed, key, step, store, rows, self.shape, built_in))

    def _seeds(self, domain: DomainImages, step: int) -> list[int]:
        """A seed for each image of a step, for what is drawn beside its geometry."""
        options = self._options
        return self._share_of_rank(
            random_bits(options.batch, options.seed, "images", domain.shuffle_key, step).tolist()
        )

    def _prefetched(self, pool: ThreadPoolExecutor, step: int) -> list[Tensor]:
        """`_cropped` of a step, which threads have prepared if it follows the step before."""
        if step != self._next_step:
            self._prefetched_batches = prefetch(pool, self._cropped, count(step), AHEAD + 1)
        self._next_step = step + 1
        return next(self._prefetched_batches)[1].result()

    def _cropped(self, step: int) -> list[Tensor]:
        """Crops (N, C, H, W) of each distinct domain, where its store is, augmented by albumentations.

        They have the dtype of the store, or are floats in [-1, 1] if `_floats_on_host`.
        """
        pixels = []
        for domain in self._distinct_domains.values():
            nearest = domain.spec.kind == "labels"
            value_range = domain.spec.value_range if self._floats_on_host else None
            crops = self._crops(domain, step)
            pixels.append(crop_batch(domain.store, crops, self.shape, nearest=nearest, value_range=value_range))
        if self.augmentation.albumentations:
            pixels = [each.cpu() for each in pixels]
            self._augment_on_host(self.augmentation.albumentations, pixels, step)
        if self.device.type == "cuda":
            pixels = [each if each.is_cuda else each.pin_memory() for each in pixels]
        return pixels

    def _augment_on_host(self, pipeline: AlbumentationsPipeline, pixels: list[Tensor], step: int) -> None:
        """Augment batches in place, image by image."""
        domains = list(self._distinct_domains.values())
        for group in self._aligned_groups:
            kinds = [domains[i].spec.kind for i in group]
            ranges = [domains[i].spec.value_range for i in group]
            for row, seed in enumerate(self._seeds(domains[group[0]], step)):
                images = [pixels[i][row] for i in group]
                for image, new in zip(images, pipeline(images, kinds, seed, ranges), strict=True):
                    image.copy_(new)

    def _augmented_on_device(self, pipeline: KorniaPipeline, images: list[Tensor], step: int) -> list[Tensor]:
        """Augmented batches, the given ones unchanged."""
        domains, augmented = list(self._distinct_domains.values()), list(images)
        for group in self._aligned_groups:
            kinds, key = [domains[i].spec.kind for i in group], domains[group[0]].shuffle_key
            (seed,) = random_bits(1, self._options.seed, "augment", key, step, self._rank).tolist()
            results = pipeline([images[i] for i in group], kinds, seed)
            for i, batch in zip(group, results, strict=True):
                augmented[i] = batch
        return augmented

    def _to_device(self, tensor: Tensor) -> Tensor:
        """A tensor on the device; from pinned memory the copy runs beside the computation before it."""
        if self._copy_stream is None or tensor.is_cuda:
            return tensor.to(self.device)
        with torch.cuda.stream(self._copy_stream):
            moved = tensor.pin_memory().to(self.device, non_blocking=True)
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self._copy_stream)
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
                rows.append([self._held_out_image(*pair) for pair in zip(self._domains, entries, strict=True)])
            except DataError as error:
                reasons.append(str(error))
                continue
            labels.append(self._domains[0].files.label(entries[0]))
            if len(rows) == n:
                break
        if not rows:
            raise DataError(f"None of the held-out images can be read: {first_few(reasons, '; ')}.")
        tensors = [self._to_device(torch.stack(images)) for images in zip(*rows, strict=True)]
        if isinstance(self._batch_spec, Labelled):
            tensors.append(self._to_device(torch.tensor(labels)))
        return self._batch_spec.batch_type(*tensors)

    def _held_out_rows(self, n: int) -> Iterator[tuple[Entry, ...]]:
        """The held-out files, one a domain: first n evenly spread ones, then the others, to replace unreadable ones."""
        files = [domain.files.held_out or domain.files.train for domain in self._domains]
        count = min(map(len, files))
        first = [i * count // n for i in range(n)] if n < count else list(range(count))
        for i in [*first, *sorted(set(range(count)) - set(first))]:
            yield tuple(entries[i * len(entries) // count] for entries in files)

    def _held_out_image(self, domain: DomainImages, entry: Entry) -> Tensor:
        """One image as the model sees its domain, (C, H, W) float32 in [-1, 1]; what is drawn depends on its name."""
        options, real = self._options, domain.files.real_held_out
        preparer = InputPreparer(domain.spec, None if real else domain.source, options.seed)
        image = read_image(entry, domain.files.part)
        if options.preprocess == "none":
            return preparer(image, entry, self.shape)
        shape = stored_shape((image.shape[1], image.shape[2]), options, options.size)
        return centre_crop(preparer(image, entry, shape), self.shape)


def fingerprint_of_files(entries: Sequence[Entry]) -> dict[str, Any]:
    """The number of images, and a hash over their names and sizes."""
    listing = json.dumps(sorted((entry.name, entry.size) for entry in entries)).encode()
    return {"images": len(entries), "sha256": hashlib.sha256(listing).hexdigest()}
