"""Generates images from noise and writes them, as `translate sample` does: a folder of images, or one picture."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from torch import Tensor

from translate.applying.inference import WORKERS
from translate.applying.options import SampleFormat
from translate.applying.sampler import Sampler, cycle_labels, sample_grid
from translate.atomic_files import explain_os_error
from translate.contact_sheet import grid
from translate.data.files import writers
from translate.data.images import as_pixels
from translate.errors import CheckpointError, UsageError, did_you_mean
from translate.progress import progress_bar


@dataclass(frozen=True)
class SampleResult:
    """written, skipped: numbers of files; a file is skipped if it exists. seconds: total time, loading included."""

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
    format: SampleFormat | None = None,
    overwrite: bool = False,
    device: str = "auto",
    precision: str = "auto",
) -> SampleResult:
    """Generate images with a trained model that generates them from noise.

    model: a model file or a run. output: a folder for n images, one for each seed from `seed` on, named by the seed and
    in sub-folders by class; or, with `grid`, `interpolate` or `mix`, the file of one picture.
    grid: the same n images in one picture, classes in columns.
    mix: seeds; the picture has the coarse styles of each row's seed and the fine styles of each column's.
    interpolate: seeds; `frames` images lead from each to the next. A .gif or .webp file is an animation; in another
    file each pair of seeds is a row.
    labels: names of classes, used in rotation; by default all, for interpolate and mix the first.
    truncation: in [0, 1]; the nearer to 0, the nearer to the mean image. batch: images generated at once.
    format: of the files in a folder, by default png. overwrite: generate files again that exist; by default they are
    skipped.
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
        _write(sample_grid(sampler, n, seed=seed, labels=numbers, truncation=truncation), output)
    elif mix:
        _write(_style_mixing_grid(sampler, mix, numbers, truncation), output)
    elif interpolate:
        animated = output.suffix.lower() in writers.ANIMATED
        _write(_interpolation(sampler, interpolate, frames, numbers, truncation, animated), output)
    else:
        samples = _plan(sampler, range(seed, seed + n), numbers, output, format or "png")
        missing = [sample for sample in samples if overwrite or not sample.path.exists()]
        _write_folder(sampler, missing, truncation)
        written, skipped = len(missing), n - len(missing)
    return SampleResult(written, skipped, time.perf_counter() - started)


def _check_choices(chosen: Sequence[str], n: int, batch: int, format: str | None) -> None:
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]} make one picture each; choose one of them.")
    if chosen and format is not None:
        raise UsageError(f"--format is for a folder of samples; with --{chosen[0]}, OUTPUT's extension is the format.")
    if format is not None and format not in get_args(SampleFormat):
        raise UsageError(f"--format {format!r} is unknown. {did_you_mean(format, get_args(SampleFormat))}")
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
        found = "is a folder" if output.is_dir() else "is not the file name of a picture"
        raise UsageError(
            f"--{chosen[0]} makes one picture, but OUTPUT {output} {found}; "
            f"give a file name that ends in {', '.join(sorted(known))}."
        )


# A folder of images --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sample:
    """One image to generate, and its file."""

    seed: int
    label: int | None
    path: Path


def _plan(
    sampler: Sampler, seeds: Sequence[int], labels: Sequence[int], folder: Path, format: SampleFormat
) -> list[_Sample]:
    """The images to generate. Raises CheckpointError for a class whose name would lead out of the folder."""
    classes = sampler.domain.classes
    for name in classes:  # a model file may come from a stranger
        if Path(name).name != name or name in ("", "..") or "\0" in name:
            raise CheckpointError(f"The model has a class {name!r}, which cannot be the name of a folder of samples.")
    cycled = cycle_labels(sampler, len(seeds), labels)
    suffix, domain = f".{format}", sampler.domain
    if format == "png":  # the default, which is replaced where PNG does not hold the images
        suffix = writers.fitting_suffix(suffix, domain.channels, domain.bit_depth)
    names = [f"{seed:06d}{suffix}" for seed in seeds]
    if cycled is None:
        return [_Sample(seed, None, folder / name) for seed, name in zip(seeds, names, strict=True)]
    return [
        _Sample(seed, label, folder / classes[label] / name)
        for seed, label, name in zip(seeds, cycled, names, strict=True)
    ]


def _write_folder(sampler: Sampler, samples: Sequence[_Sample], truncation: float) -> None:
    """Generate and write images; threads encode and write one batch while the next is generated.

    Raises CheckpointError if the disk is full or the folder cannot be written to; the files that are there are whole.
    """
    written: Iterator[None] = iter(())
    domain = sampler.domain
    with progress_bar("sampling", len(samples)) as advance, ThreadPoolExecutor(WORKERS) as pool:
        for start in range(0, len(samples), sampler.batch):
            batch = samples[start : start + sampler.batch]
            labels = [sample.label for sample in batch if sample.label is not None] or None
            images = sampler([sample.seed for sample in batch], labels, truncation)
            pixels = as_pixels(images, domain.bit_depth, domain.value_range).cpu()
            for _ in written:  # wait for the batch before; an error of its threads is raised here
                advance()
            written = pool.map(_write, pixels, [sample.path for sample in batch])
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


def _labels_or_first(sampler: Sampler, seeds: Sequence[int], labels: Sequence[int]) -> list[int] | None:
    """A label for each seed: the given ones in rotation, by default the first class."""
    return cycle_labels(sampler, len(seeds), labels or range(min(1, len(sampler.domain.classes))))


def _style_mixing_grid(sampler: Sampler, seeds: Sequence[int], labels: Sequence[int], truncation: float) -> Tensor:
    """uint8 (3, H, W)."""
    images = as_pixels(sampler.mix(seeds, _labels_or_first(sampler, seeds, labels), truncation)).cpu()
    columns, rows = ([f"{seed}: {styles}" for seed in seeds] for styles in ("fine", "coarse"))
    return grid([list(row) for row in images], columns, rows)


def _interpolation(
    sampler: Sampler, seeds: Sequence[int], frames: int, labels: Sequence[int], truncation: float, animated: bool
) -> Tensor | list[Tensor]:
    """The frames of an animation, in which each seed's image comes once; or a picture with a row for each pair."""
    seed_labels = _labels_or_first(sampler, seeds, labels)
    segments = as_pixels(sampler.interpolate(seeds, frames, seed_labels, truncation)).cpu()  # (pairs, frames, C, H, W)
    if animated:
        return [*segments[0], *(frame for segment in segments[1:] for frame in segment[1:])]
    return grid([list(segment) for segment in segments])
