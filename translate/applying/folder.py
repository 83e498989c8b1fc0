"""A folder of images in, a folder of translations out: `translate apply`.

A pipeline of generators: threads read and decode ahead, the main thread translates batches of images of one size,
other threads encode and write. Each stage is bounded, so that memory does not grow with the folder. A file that fails
at any stage is noted with its reason and costs itself alone.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import torch
from torch import Tensor

from translate.applying.translator import Translator, load, pad
from translate.data.batches.preparing import InputReader
from translate.data.catalogue.datasets import resolve
from translate.data.domains import DomainSpec, Spec
from translate.data.files.readers import read_image
from translate.data.files.sources import Entry, Source, image_suffixes
from translate.data.files.writers import SAVED_AS, fitting_suffix, save
from translate.data.images import as_pixels, cut, is_side_by_side
from translate.data.layout.sides import check_images
from translate.data.synthesis import parse
from translate.device import resolve_device
from translate.distributed.group import Group
from translate.distributed.launch import device_of_rank
from translate.errors import DataError, TranslateError, UsageError, did_you_mean
from translate.formatting import plural
from translate.progress import progress_bar
from translate.threads import prefetch

Format = Literal["same", "png", "jpg", "webp", "tiff", "npy"]
Side = Literal["auto", "left", "right", "whole"]
WORKERS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class ApplyResult:
    """What became of a folder.

    written, skipped: numbers of files; skipped are those whose output was there already.
    failed: {name of the input: reason}. notes: what a user should know, in sentences. seconds: of it all, with loading.
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
    format: Format = "same",
    overwrite: bool = False,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    side: Side = "auto",
    degrade: bool = False,
    group: Group | None = None,
) -> ApplyResult:
    """Translate images with a trained model and write them under the same names, at the same size.

    model: a model file or a run. output: a folder, or for one image also a file name.
    input: an image, a folder (sub-folders included), a zip or tar archive, or the name of a domain that a plugin
    offers; NAME:test is its held-out part.
    to: the domain to translate to, by default the model's first. batch: images translated at once; the result does not
    depend on it. seed: of the random numbers that some models draw, for each image by its name.
    format: "same" keeps each file's format if it can be written, otherwise PNG.
    overwrite: translate again what exists; otherwise existing outputs are left alone.
    side: the part of each image to translate; "auto" takes the half that the model learned from, if it learned from
    side-by-side images and this one looks like one of them.
    degrade: of a model whose inputs were made from good images, as by "gray(b)": make them of the inputs here, too.
    group: the ranks that share the files, every rank its own; the result is that of all of them.
    Files that cannot be read, translated or written are listed in the result.
    Raises DataError if there are no images or the disk is full, UsageError, CheckpointError and PluginError.
    """
    started, group = time.perf_counter(), group or Group()
    with group.raise_on_all_ranks():
        _check_choices(batch, format, side)
        source, output = _source(str(input)), Path(output).expanduser()
        targets = _Targets(source, Path(input).expanduser(), output, format, overwrite)
        translator = load(model, str(device_of_rank(resolve_device(device))), precision)
        origin, to = translator.route(to)
        spec = translator.model.spec
        reader = _Reader(spec[origin], _base(spec, origin) if degrade else None, side, translator.stride, seed)
        tally = _Tally()
        jobs = targets.plan(spec[to], tally, group.rank, group.world_size)
        with (
            progress_bar("translating", len(jobs), quiet=group.rank > 0) as tally.advance,
            ThreadPoolExecutor(WORKERS) as read_pool,
            ThreadPoolExecutor(WORKERS) as write_pool,
        ):
            pictures = _pictures(read_pool, reader, jobs, tally, ahead=batch + 2 * WORKERS)
            results = _translated(translator, reader, _batches(pictures, batch), to, seed, tally)
            _write(write_pool, results, tally, ahead=batch + 2 * WORKERS)
    tally = tally.total(group)
    seconds = time.perf_counter() - started
    return ApplyResult(tally.written, tally.skipped, dict(sorted(tally.failed.items())), reader.notes(tally), seconds)


def _base(spec: Spec, origin: str) -> DomainSpec:
    """The domain that inputs were made from in training. Raises UsageError if they were real."""
    synthesis = parse(spec[origin].synthesis) if spec[origin].synthesis else None
    if synthesis is None:
        raise UsageError(f"--degrade does not fit: this model learned from images of {origin!r} as they were.")
    return spec[synthesis.source]


# What is done with which file ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Job:
    """One image to translate, and the file that its translation goes to."""

    entry: Entry
    target: Path


@dataclass
class _Tally:
    """What has become of the files so far; only the main thread touches it."""

    written: int = 0
    skipped: int = 0
    halved: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    advance: Callable[[], object] = lambda: None

    def total(self, group: Group) -> _Tally:
        """Of all ranks."""
        found = group.all_gather((self.written, self.skipped, self.halved, self.failed))
        written, skipped, halved, failed = zip(*found, strict=True)
        return _Tally(sum(written), sum(skipped), sum(halved), dict(pair for each in failed for pair in each.items()))

    def succeed(self) -> None:
        self.written += 1
        self.advance()

    def fail(self, entry: Entry, error: BaseException) -> None:
        """Note why a file failed: our own words without the file's name, or the first line of anybody else's."""
        known = isinstance(error, TranslateError)
        text = str(error).removeprefix(entry.origin).lstrip(": ") if known else str(error).partition("\n")[0]
        self.failed[entry.name] = text if known else f"{type(error).__name__}: {text}".removesuffix(": ")
        self.advance()


def _check_choices(batch: int, format: str, side: str) -> None:
    for flag, value, choices in (("--format", format, get_args(Format)), ("--side", side, get_args(Side))):
        if value not in choices:
            raise UsageError(f"{flag} {value!r} is unknown. {did_you_mean(value, choices)}")
    if batch < 1:
        raise UsageError(f"--batch {batch} is too small; at least 1 image is translated at a time.")


def _source(text: str) -> Source:
    """The images that INPUT means. Raises DataError if there are none."""
    word, _, split = text.rpartition(":")
    if word and split in ("train", "test") and not os.path.exists(os.path.expanduser(text)):
        found = resolve(word)
        source = found.held_out if split == "test" else found.train
        if source is None:
            raise DataError(f"{word} has no held-out images; name a folder of them instead.")
    else:
        source = resolve(text).train
    check_images(source, [])
    return source


class _Targets:
    """Where translations go; two never go to one file, and none to an input."""

    def __init__(self, source: Source, input: Path, output: Path, format: Format, overwrite: bool) -> None:
        """Raises UsageError if OUTPUT is the folder INPUT, or a file for many images."""
        self.format = format
        self.overwrite = overwrite
        self.output = output
        self.entries = source.entries
        self.file: Path | None = None
        self.inputs: set[Path] = set()  # empty for an archive
        if source.path is not None:
            self._keep_apart(source.path.resolve())
        elif input.suffix.lower() in image_suffixes():
            self.inputs = {input.resolve()}
            if output.suffix.lower() in image_suffixes() and not output.is_dir():
                self.file = output
                self._check_file(output)
        if self.file is None and output.is_file():
            raise UsageError(f"{output} is a file, but {source.location} needs a folder for its translations.")

    def _check_file(self, file: Path) -> None:
        if file.resolve() in self.inputs:
            raise UsageError(f"OUTPUT {file} is the input itself, which would be overwritten; choose another name.")
        if self.format != "same" and _suffix(file, self.format) != file.suffix.lower():
            raise UsageError(f"OUTPUT {file} and --format {self.format} contradict each other; leave one of them out.")
        if file.suffix.lower() not in SAVED_AS:
            raise UsageError(f"{file} cannot be written; the extension must be one of {', '.join(sorted(SAVED_AS))}.")

    def _keep_apart(self, folder: Path) -> None:
        """An output folder inside the input's is not read as input."""
        output = self.output.resolve()
        if output == folder:
            raise UsageError(f"OUTPUT {output} is the folder of the inputs; choose another, so that they stay.")
        if output.is_relative_to(folder):
            inside = output.relative_to(folder).as_posix() + "/"
            self.entries = tuple(entry for entry in self.entries if not entry.name.startswith(inside))
            if not self.entries:
                raise DataError(f"{folder} has no images outside of OUTPUT, {output}.")
        self.inputs = {folder / entry.name for entry in self.entries}

    def plan(self, domain: DomainSpec, tally: _Tally, rank: int, ranks: int) -> list[_Job]:
        """The files that this rank translates to this domain, each one of so many. Counts skips, notes failures.

        Raises UsageError if the wanted format does not hold images of the domain.
        """
        wanted = self.file.suffix.lower() if self.file else f".{self.format}"
        fitting = fitting_suffix(wanted, domain.channels, domain.bit_depth)
        if wanted in SAVED_AS and wanted != fitting:
            raise UsageError(
                f"{wanted} does not hold what this model makes, images of {plural(domain.channels, 'channel')} with "
                f"{domain.bit_depth} bits each; {fitting} does."
            )
        taken: dict[Path, str] = {}
        jobs = []
        for number, entry in enumerate(self.entries):
            target = self._target(entry, domain)
            first = taken.setdefault(target, entry.name)
            if number % ranks != rank:
                continue
            exists = target.exists()
            if first != entry.name:
                tally.fail(entry, DataError(f"its translation would have the name of {first}'s, {target.name}"))
            elif exists and not self.overwrite:
                tally.skipped += 1
            elif exists and target.resolve() in self.inputs:
                tally.fail(entry, DataError(f"its translation would overwrite the input {target}"))
            else:
                jobs.append(_Job(entry, target))
        return jobs

    def _target(self, entry: Entry, domain: DomainSpec) -> Path:
        if self.file is not None:
            return self.file
        name = PurePosixPath(entry.name)
        suffix = _suffix(name, self.format)
        if self.format == "same":
            lossy = domain.kind == "labels" and SAVED_AS.get(suffix) == "JPEG"  # which would blend values
            suffix = ".png" if lossy else fitting_suffix(suffix, domain.channels, domain.bit_depth)
        return self.output / (name if suffix == name.suffix.lower() else name.with_suffix(suffix))


def _suffix(name: PurePosixPath | Path, format: Format) -> str:
    """The extension, in lower case, that a translation of `name` gets; one that means the wanted format stays."""
    own = name.suffix.lower()
    if format == "same":
        return own if own in SAVED_AS else ".png"
    return own if {own, f".{format}"} in ({".jpg", ".jpeg"}, {".tif", ".tiff"}) else f".{format}"


# The pipeline --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Picture:
    """A decoded input: (C, H, W), padded right and below; height and width are without that."""

    job: _Job
    pixels: Tensor
    height: int
    width: int
    halved: bool


class _Reader:
    """Reads one file as the model wants to see it; called by several threads."""

    def __init__(self, domain: DomainSpec, base: DomainSpec | None, side: Side, stride: int, seed: int) -> None:
        self.domain = domain
        self.half = domain.part if side == "auto" else None if side == "whole" else side
        self.forced = side in ("left", "right")
        self.stride = stride
        self.as_input = InputReader(domain, base, seed)

    def __call__(self, job: _Job) -> _Picture:
        """Raises DataError if the file cannot be read or has other channels."""
        entry = job.entry
        image = read_image(entry)
        height, width = image.shape[1:]
        halved = self.half is not None and width > 1 and (self.forced or is_side_by_side(height, width))
        image = self.as_input.prepared(cut(image, self.half if halved else None), entry)
        return _Picture(job, pad(image, self.stride), image.shape[1], image.shape[2], halved)

    def notes(self, tally: _Tally) -> tuple[str, ...]:
        """What the user should know of how files were read."""
        notes = []
        if tally.halved and not self.forced:
            notes.append(
                f"Of {tally.halved:,} side-by-side images only the {self.half} half was translated, which the model "
                "learned from; --side whole takes all of it."
            )
        if tally.failed and self.domain.synthesis and not self.as_input.degrading:
            notes.append(
                f"This model takes images that {self.domain.synthesis} was applied to; --degrade applies it to others."
            )
        return tuple(notes)


def _pictures(
    pool: ThreadPoolExecutor, reader: _Reader, jobs: list[_Job], tally: _Tally, ahead: int
) -> Iterator[_Picture]:
    """The decoded images, in order, without those that cannot be read."""
    for job, future in prefetch(pool, reader, jobs, ahead):
        try:
            picture = future.result()
        except DataError as error:
            tally.fail(job.entry, error)
        else:
            tally.halved += picture.halved
            yield picture


def _batches(pictures: Iterable[_Picture], size: int, groups: int = 4) -> Iterator[list[_Picture]]:
    """Pictures of one padded size together; at most so many groups' worth of pictures wait for their like."""
    waiting: dict[tuple[int, ...], list[_Picture]] = {}
    for picture in pictures:
        shape = tuple(picture.pixels.shape)
        group = waiting.setdefault(shape, [])
        group.append(picture)
        if len(group) == size:
            yield waiting.pop(shape)
        elif sum(map(len, waiting.values())) >= groups * size:
            yield waiting.pop(next(iter(waiting)))  # the group that has waited longest
    yield from waiting.values()


def _translated(
    translator: Translator, reader: _Reader, batches: Iterable[list[_Picture]], to: str, seed: int, tally: _Tally
) -> Iterator[tuple[_Job, Tensor]]:
    """Each image's translation, (C, H, W) on the CPU, in its domain's depth.

    A batch that fails is tried again image by image.
    """
    for batch in batches:
        try:
            yield from _translate(translator, reader, batch, to, seed, tally)
        except TranslateError:
            raise  # the model's fault, not a file's
        except Exception as error:  # a network may raise anything, and may run out of memory
            if len(batch) == 1:
                tally.fail(batch[0].job.entry, error)
            else:
                yield from _translated(translator, reader, ([picture] for picture in batch), to, seed, tally)


def _translate(
    translator: Translator, reader: _Reader, batch: list[_Picture], to: str, seed: int, tally: _Tally
) -> list[tuple[_Job, Tensor]]:
    pixels = torch.stack([picture.pixels for picture in batch]).to(translator.device)  # (N, C, H, W)
    images = reader.as_input.as_float(pixels)
    results = translator(images, to=to, seed=seed, names=[picture.job.entry.name for picture in batch])
    finite = results.isfinite().flatten(1).all(1).tolist()
    domain = translator.model.spec[to]
    pixels = as_pixels(results, domain.bit_depth, domain.value_range).cpu()
    done = []
    for picture, image, good in zip(batch, pixels, finite, strict=True):
        if good:
            done.append((picture.job, image[:, : picture.height, : picture.width]))
        else:
            tally.fail(picture.job.entry, DataError("the model's result holds values that are not finite (NaN)"))
    return done


def _write(pool: ThreadPoolExecutor, results: Iterable[tuple[_Job, Tensor]], tally: _Tally, ahead: int) -> None:
    """Encode and write, each file whole or not at all. Raises DataError if the disk is full."""
    for (job, _), future in prefetch(pool, _write_one, results, ahead):
        try:
            future.result()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DataError(
                    f"The disk is full: {job.target} could not be written. {tally.written:,} translations are whole, "
                    "none is half-written; make room and run the same command again to go on."
                ) from error
            tally.fail(job.entry, error)
        except DataError as error:
            tally.fail(job.entry, error)
        else:
            tally.succeed()


def _write_one(result: tuple[_Job, Tensor]) -> None:
    job, image = result
    job.target.parent.mkdir(parents=True, exist_ok=True)
    save(image, job.target)
