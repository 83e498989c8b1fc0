"""START HERE for applying: translates a folder of images with a trained model, as `translate apply` does.

The last link of a batch's journey. Before this, the model was trained and written to a model file (model_file.py).

A pipeline of generators: threads read and decode ahead, the main thread translates batches of images of one size, and
other threads encode and write. Each stage is bounded, so memory does not grow with the folder. A file that fails at
any stage is reported with the reason, and the others are translated.

    options.py       formats and sides to choose from
    outputs.py       the output file of each input
    model_file.py    the model file: written by training, loaded here
    translator.py    a loaded model that translates batches of images
    sampler.py       a loaded model that generates images from noise
    samples.py       files of such images, as `translate sample` writes them
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from translate.applying.inference import WORKERS
from translate.applying.options import ApplyFormat, Side
from translate.applying.outputs import OutputFiles, Task
from translate.applying.translator import Translator, load, pad_to_multiple
from translate.atomic_files import is_disk_full
from translate.data.batches.preparing import InputPreparer
from translate.data.datasets import resolve
from translate.data.files.readers import read_image
from translate.data.files.sources import Source
from translate.data.files.writers import save
from translate.data.images import as_pixels, crop_part, is_side_by_side
from translate.data.synthesis import parse
from translate.device import resolve_device
from translate.distributed.group import Group
from translate.distributed.launch import device_of_rank
from translate.domains import DomainSpec, Spec
from translate.errors import DataError, TranslateError, UsageError, did_you_mean
from translate.progress import progress_bar
from translate.threads import prefetch


@dataclass(frozen=True)
class ApplyResult:
    """The result of translating a folder.

    written, skipped: numbers of files; a file is skipped if its output exists.
    failed: {name of the input: reason}. notes: sentences for the user. seconds: total time, loading included.
    """

    written: int
    skipped: int
    failed: dict[str, str]
    notes: tuple[str, ...]
    seconds: float


def apply(
    model: str | Path,
    input: str | Path,
    output: str | Path,
    *,
    to: str | None = None,
    batch: int = 8,
    format: ApplyFormat = "same",
    overwrite: bool = False,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    side: Side = "auto",
    degrade: bool = False,
    group: Group | None = None,
) -> ApplyResult:
    """Translate images with a trained model and write them under the same names, at the same size.

    model: a model file or a run. output: a folder; for one image it may be a file name.
    input: an image, a folder (with its sub-folders), a zip or tar archive, or the name of a domain that a plugin
    offers; NAME:test means its held-out images.
    to: the domain to translate to, by default the model's first. batch: images translated at once; the result does not
    depend on it. seed: some models draw random numbers; each image's depend on this seed and the image's name.
    format: "same" keeps each file's format if it can be written, and otherwise writes PNG.
    overwrite: translate inputs again whose outputs exist; by default these are skipped.
    side: the part of each image to translate. "auto" takes the half that the model was trained on, if it was trained on
    side-by-side images and this image has their proportions.
    degrade: for a model whose inputs were made from good images in training, as by "gray(b)": the inputs are good
    images, and are degraded here in the same way.
    group: the ranks that share the files; the result covers all of them.
    Files that cannot be read, translated or written are listed in the result.
    Raises DataError if there are no images or the disk is full, UsageError, CheckpointError and PluginError.
    """
    started, group = time.perf_counter(), group or Group()
    with group.raise_on_all_ranks():
        _check_choices(batch, format, side)
        source, output = _open_input(str(input)), Path(output).expanduser()
        output_files = OutputFiles(source, Path(input).expanduser(), output, format, overwrite)
        translator = load(model, str(device_of_rank(resolve_device(device))), precision)
        source_name, to = translator.route(to)
        spec = translator.model.spec
        undegraded = _undegraded_domain(spec, source_name) if degrade else None
        loader = _ImageLoader(spec[source_name], undegraded, side, translator.stride, seed)
        plan = output_files.plan(spec[to], group.rank, group.world_size)
        counts = _Counts(skipped=plan.skipped, failed=plan.failed)
        with (
            progress_bar("translating", len(plan.tasks), quiet=group.rank > 0) as counts.advance,
            ThreadPoolExecutor(WORKERS) as read_pool,
            ThreadPoolExecutor(WORKERS) as write_pool,
        ):
            images = _read(read_pool, loader, plan.tasks, counts, ahead=batch + 2 * WORKERS)
            results = _translate(translator, loader.preparer, _batches(images, batch), to, seed, counts)
            _write(write_pool, results, counts, ahead=batch + 2 * WORKERS)
    counts = counts.total(group)
    notes = loader.notes(counts)
    seconds = time.perf_counter() - started
    return ApplyResult(counts.written, counts.skipped, dict(sorted(counts.failed.items())), notes, seconds)


def _check_choices(batch: int, format: str, side: str) -> None:
    for flag, value, choices in (("--format", format, get_args(ApplyFormat)), ("--side", side, get_args(Side))):
        if value not in choices:
            raise UsageError(f"{flag} {value!r} is unknown. {did_you_mean(value, choices)}")
    if batch < 1:
        raise UsageError(f"--batch {batch} is too small; at least 1 image is translated at a time.")


def _open_input(text: str) -> Source:
    """The images that INPUT means. Raises DataError if there are none."""
    name, _, split = text.rpartition(":")
    if name and split in ("train", "test") and not os.path.exists(os.path.expanduser(text)):
        found = resolve(name)
        source = found.held_out if split == "test" else found
        if source is None:
            raise DataError(f"{name} has no held-out images; name a folder of them instead.")
    else:
        source = resolve(text)
    source.require_images()
    return source


def _undegraded_domain(spec: Spec, name: str) -> DomainSpec:
    """The domain whose images were degraded in training to make those of `name`. Raises UsageError if none was."""
    synthesis = parse(spec[name].synthesis)
    if synthesis is None:
        raise UsageError(f"--degrade does not fit: this model learned from images of {name!r} that were not degraded.")
    return spec[synthesis.source]


@dataclass
class _Counts:
    """What happened to the files of one rank so far; only the main thread changes it.

    num_halves: images of which only one half was translated. advance: moves the progress bar by one file.
    """

    written: int = 0
    skipped: int = 0
    num_halves: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    advance: Callable[[], object] = lambda: None

    def total(self, group: Group) -> _Counts:
        """The counts of all ranks together."""
        found = group.all_gather((self.written, self.skipped, self.num_halves, self.failed))
        written, skipped, halves, failed = zip(*found, strict=True)
        return _Counts(sum(written), sum(skipped), sum(halves), dict(pair for each in failed for pair in each.items()))

    def succeed(self) -> None:
        """Count a file that was written."""
        self.written += 1
        self.advance()

    def fail(self, task: Task, error: BaseException) -> None:
        """Record why a file failed: an error of ours without the file's name, the first line of any other."""
        if isinstance(error, TranslateError):
            reason = str(error).removeprefix(task.input.origin).lstrip(": ")
        else:
            first_line = str(error).partition("\n")[0]
            reason = f"{type(error).__name__}: {first_line}".removesuffix(": ")
        self.failed[task.input.name] = reason
        self.advance()


# The pipeline: read, translate, write --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _DecodedImage:
    """A decoded input: (C, H, W), padded right and below. height, width: without the padding. is_half: of its file."""

    task: Task
    pixels: Tensor
    height: int
    width: int
    is_half: bool


class _ImageLoader:
    """Reads files as the model takes them; several threads call it."""

    def __init__(self, domain: DomainSpec, undegraded: DomainSpec | None, side: Side, stride: int, seed: int) -> None:
        """domain: that the model takes. stride: of `pad_to_multiple`.

        undegraded: the domain of the files, good images to degrade; None if they are of `domain`.
        """
        self.domain = domain
        self.half = domain.part if side == "auto" else None if side == "whole" else side
        self.forced = side in ("left", "right")  # the half is taken of images that are not side by side, too
        self.stride = stride
        self.preparer = InputPreparer(domain, undegraded, seed)

    def __call__(self, task: Task) -> _DecodedImage:
        """Raises DataError if the file cannot be read or does not fit the domain, as by its channels."""
        image = read_image(task.input)
        height, width = image.shape[1:]
        is_half = self.half is not None and width > 1 and (self.forced or is_side_by_side(height, width))
        image = self.preparer.prepare(crop_part(image, self.half if is_half else None), task.input)
        return _DecodedImage(task, pad_to_multiple(image, self.stride), image.shape[1], image.shape[2], is_half)

    def notes(self, counts: _Counts) -> tuple[str, ...]:
        """What the user should know about how the files were read."""
        notes = []
        if counts.num_halves and not self.forced:
            notes.append(
                f"Of {counts.num_halves:,} side-by-side images only the {self.half} half was translated, as the model "
                "was trained on that half; --side whole translates the whole images."
            )
        if counts.failed and self.domain.synthesis and not self.preparer.degrading:
            notes.append(
                f"This model takes images that {self.domain.synthesis} was applied to; --degrade applies it to others."
            )
        return tuple(notes)


def _read(
    pool: ThreadPoolExecutor, loader: _ImageLoader, tasks: Iterable[Task], counts: _Counts, ahead: int
) -> Iterator[_DecodedImage]:
    """The decoded images, in order, without those that cannot be read."""
    for task, future in prefetch(pool, loader, tasks, ahead):
        try:
            image = future.result()
        except DataError as error:
            counts.fail(task, error)
        else:
            counts.num_halves += image.is_half
            yield image


def _batches(images: Iterable[_DecodedImage], size: int, max_waiting: int = 4) -> Iterator[list[_DecodedImage]]:
    """Batches of images of one padded shape. At most `max_waiting` batches' worth of images wait for others like them.

    When more would wait, the shape that has waited longest is yielded, although its batch is not full.
    """
    waiting: dict[tuple[int, ...], list[_DecodedImage]] = {}
    for image in images:
        shape = tuple(image.pixels.shape)
        alike = waiting.setdefault(shape, [])
        alike.append(image)
        if len(alike) == size:
            yield waiting.pop(shape)
        elif sum(map(len, waiting.values())) >= max_waiting * size:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


def _translate(
    translator: Translator,
    preparer: InputPreparer,
    batches: Iterable[list[_DecodedImage]],
    to: str,
    seed: int,
    counts: _Counts,
) -> Iterator[tuple[Task, Tensor]]:
    """Each translation, (C, H, W) on the CPU, in the dtype of its domain.

    If a batch fails, its images are translated one by one.
    """
    for batch in batches:
        try:
            yield from _translate_batch(translator, preparer, batch, to, seed, counts)
        except TranslateError:
            raise  # the model's fault, not a file's
        except Exception as error:  # a network may raise anything, or run out of memory
            if len(batch) == 1:
                counts.fail(batch[0].task, error)
            else:
                yield from _translate(translator, preparer, ([image] for image in batch), to, seed, counts)


def _translate_batch(
    translator: Translator, preparer: InputPreparer, batch: list[_DecodedImage], to: str, seed: int, counts: _Counts
) -> list[tuple[Task, Tensor]]:
    """The translations of one batch, without those that are not finite, which count as failed."""
    pixels = torch.stack([image.pixels for image in batch]).to(translator.device)  # (N, C, H, W)
    names = [image.task.input.name for image in batch]
    results = translator(preparer.as_float(pixels), to=to, seed=seed, names=names)
    finite = results.isfinite().flatten(1).all(1).tolist()
    domain = translator.model.spec[to]
    translations = as_pixels(results, domain.bit_depth, domain.value_range).cpu()
    done = []
    for image, translation, is_finite in zip(batch, translations, finite, strict=True):
        if is_finite:
            done.append((image.task, translation[:, : image.height, : image.width]))
        else:
            counts.fail(image.task, DataError("the model's result holds values that are not finite (NaN)"))
    return done


def _write(pool: ThreadPoolExecutor, results: Iterable[tuple[Task, Tensor]], counts: _Counts, ahead: int) -> None:
    """Encode and write the files, each whole or not at all. Raises DataError if the disk is full."""
    for (task, _), future in prefetch(pool, _write_file, results, ahead):
        try:
            future.result()
        except OSError as error:
            if is_disk_full(error):
                raise DataError(
                    f"The disk is full: {task.output} could not be written. {counts.written:,} translations are whole, "
                    "none is half-written; make room and run the same command again to go on."
                ) from error
            counts.fail(task, error)
        except DataError as error:
            counts.fail(task, error)
        else:
            counts.succeed()


def _write_file(result: tuple[Task, Tensor]) -> None:
    task, image = result
    task.output.parent.mkdir(parents=True, exist_ok=True)
    save(image, task.output)
