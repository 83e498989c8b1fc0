"""Samples as files: `translate sample`. A folder of images, or one picture of many."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from torch import Tensor

from translate.applying.folder import WORKERS
from translate.applying.sampler import Sampler, in_turn, sheet
from translate.atomic_files import explain_os_error
from translate.contact_sheet import grid
from translate.data import images as pictures
from translate.data.files import writers
from translate.errors import CheckpointError, UsageError, did_you_mean
from translate.progress import progress_bar

Format = Literal["png", "jpg", "webp", "tiff"]


@dataclass(frozen=True)
class SampleResult:
    """written, skipped: numbers of files; skipped were there already. seconds: of it all, with loading."""

    written: int
    skipped: int
    seconds: float


def sample(
    model: str | Path,
    output: str | Path,
    *,
    n: int = 64,
    seed: int = 0,
    labels: Sequence[str] = (),
    truncation: float = 1.0,
    batch: int = 64,
    grid: bool = False,
    interpolate: Sequence[int] = (),
    frames: int = 8,
    mix: Sequence[int] = (),
    format: Format | None = None,
    overwrite: bool = False,
    device: str = "auto",
    precision: str = "auto",
) -> SampleResult:
    """Make images with a trained model that needs no input.

    model: a model file or a run. output: a folder for n images, of the seeds from `seed` on and named by them, in
    sub-folders if the model has classes; or with `grid`, `interpolate` or `mix` the file of one picture.
    grid: the same n images, classes in columns. mix: seeds, of which the rows give the coarse styles, the columns the
    fine ones. interpolate: seeds to go between, `frames` images from each to the next; a .gif or .webp moves, in
    another file each way is a row.
    labels: names of classes, taken in turn; by default all, for interpolate and mix the first.
    truncation: in [0, 1]; the nearer to 0, the nearer to the mean image. batch: images made at once.
    format: of the files in a folder, by default png. overwrite: make again what exists; otherwise it is left alone.
    Raises UsageError, CheckpointError (also if a file cannot be written), PluginError and DataError.
    """
    started = time.perf_counter()
    output = Path(output).expanduser()
    chosen = [flag for flag, value in (("grid", grid), ("interpolate", interpolate), ("mix", mix)) if value]
    _check_choices(chosen, n, batch, format)
    _check_output(output, chosen)
    if chosen and output.exists() and not overwrite:
        return SampleResult(0, 1, time.perf_counter() - started)
    sampler = Sampler.load(model, device, precision, batch)
    numbers = [sampler.label(name) for name in labels]
    written, skipped = 1, 0
    if grid:
        _write(sheet(sampler, n, seed=seed, labels=numbers, truncation=truncation), output)
    elif mix:
        _write(_mixed(sampler, mix, numbers, truncation), output)
    elif interpolate:
        moving = output.suffix.lower() in writers.ANIMATED
        _write(_between(sampler, interpolate, frames, numbers, truncation, moving), output)
    else:
        jobs = _jobs(sampler, range(seed, seed + n), numbers, output, format or "png")
        wanted = [job for job in jobs if overwrite or not job.path.exists()]
        _fill(sampler, wanted, truncation)
        written, skipped = len(wanted), n - len(wanted)
    return SampleResult(written, skipped, time.perf_counter() - started)


def _check_choices(chosen: Sequence[str], n: int, batch: int, format: str | None) -> None:
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]} make one picture each; choose one of them.")
    if chosen and format is not None:
        raise UsageError(f"--format is for a folder of samples; with --{chosen[0]}, OUTPUT's extension says it.")
    if format is not None and format not in get_args(Format):
        raise UsageError(f"--format {format!r} is unknown. {did_you_mean(format, get_args(Format))}")
    if n < 1 or batch < 1:
        raise UsageError(f"--n is {n} and --batch is {batch}; both must be at least 1.")


def _check_output(output: Path, chosen: Sequence[str]) -> None:
    """Raises UsageError if OUTPUT is a file where a folder is needed, or the other way round."""
    suffix, known = output.suffix.lower(), {*writers.SAVED_AS, *writers.ANIMATED}
    if not chosen:
        if output.is_file() or (suffix in known and not output.exists()):
            raise UsageError(
                f"OUTPUT {output} is a file, but samples need a folder; --grid puts them into one picture."
            )
        return
    if "interpolate" not in chosen:
        known = set(writers.SAVED_AS)
    if suffix not in known or output.is_dir():
        found = "is a folder" if output.is_dir() else "is no such file name"
        raise UsageError(
            f"--{chosen[0]} makes one picture, but OUTPUT {output} {found}; "
            f"give a file name that ends in {', '.join(sorted(known))}."
        )


# A folder of images --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """One image to make, and its file."""

    seed: int
    label: int | None
    path: Path


def _jobs(sampler: Sampler, seeds: Sequence[int], labels: Sequence[int], folder: Path, format: Format) -> list[_Job]:
    """The images to make. Raises CheckpointError for a class whose name would lead out of the folder."""
    classes = sampler.domain.classes
    for name in classes:  # a model file may come from a stranger
        if Path(name).name != name or name in ("", "..") or "\0" in name:
            raise CheckpointError(f"The model has a class {name!r}, which cannot be the name of a folder of samples.")
    turn = in_turn(sampler, len(seeds), labels)
    suffix, domain = f".{format}", sampler.domain
    if format == "png":  # nobody asked for another one
        suffix = writers.fitting_suffix(suffix, domain.channels, domain.bit_depth)
    names = [f"{seed:06d}{suffix}" for seed in seeds]
    if turn is None:
        return [_Job(seed, None, folder / name) for seed, name in zip(seeds, names, strict=True)]
    return [
        _Job(seed, label, folder / classes[label] / name) for seed, label, name in zip(seeds, turn, names, strict=True)
    ]


def _fill(sampler: Sampler, jobs: Sequence[_Job], truncation: float) -> None:
    """Make and write images; threads encode and write one batch while the next is made.

    Raises CheckpointError if the disk is full or the folder cannot be written to; the files that are there are whole.
    """
    written: Iterator[None] = iter(())
    with progress_bar("sampling", len(jobs)) as advance, ThreadPoolExecutor(WORKERS) as pool:
        for start in range(0, len(jobs), sampler.batch):
            part = jobs[start : start + sampler.batch]
            labels = [job.label for job in part if job.label is not None] or None
            images, domain = sampler([job.seed for job in part], labels, truncation), sampler.domain
            pixels = pictures.as_pixels(images, domain.bit_depth, domain.value_range).cpu()
            for _ in written:  # of the batch before; raises what a thread raised
                advance()
            written = pool.map(_write, pixels, [job.path for job in part])
        list(written)


def _write(image: Tensor | Sequence[Tensor], path: Path) -> None:
    """Write an image (C, H, W), or an animation of them, whole or not at all. Raises CheckpointError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(image, Tensor):
            writers.save(image, path)
        else:
            writers.save_animation(image, path)
    except OSError as error:
        raise explain_os_error(error, path) from error


# One picture ---------------------------------------------------------------------------------------------------------


def _of_one_class(sampler: Sampler, seeds: Sequence[int], labels: Sequence[int]) -> list[int] | None:
    """The labels given, in turn; by default the first class."""
    return in_turn(sampler, len(seeds), labels or range(min(1, len(sampler.domain.classes))))


def _mixed(sampler: Sampler, seeds: Sequence[int], labels: Sequence[int], truncation: float) -> Tensor:
    """The grid of style mixing, uint8 (3, H, W)."""
    images = pictures.as_uint8(sampler.mix(seeds, _of_one_class(sampler, seeds, labels), truncation)).cpu()
    columns, rows = ([f"{seed}: {kind}" for seed in seeds] for kind in ("fine", "coarse"))
    return grid([list(row) for row in images], columns, rows)


def _between(
    sampler: Sampler, seeds: Sequence[int], frames: int, labels: Sequence[int], truncation: float, moving: bool
) -> Tensor | list[Tensor]:
    """An interpolation: images that move, in which each seed's own comes once, or rows of a picture."""
    given = _of_one_class(sampler, seeds, labels)
    ways = pictures.as_uint8(sampler.interpolate(seeds, frames, given, truncation)).cpu()  # (pairs, frames, C, H, W)
    if moving:
        return [*ways[0], *(frame for way in ways[1:] for frame in way[1:])]
    return grid([list(way) for way in ways])
