"""`translate sample MODEL OUTPUT`."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import typer

from translate.applying.options import PrecisionChoice, SampleFormat
from translate.cli.output import AsJson, print_json
from translate.errors import UsageError


def sample(
    model: Annotated[str, typer.Argument(help="A run, or a model file.")],
    output: Annotated[
        str, typer.Argument(help="Folder for the images; a file name with --grid, --interpolate or --mix.")
    ],
    n: Annotated[int, typer.Option("--n", min=1, help="Number of images in the folder or grid.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first image; each image has the next seed.")] = 0,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="Class of the images; several are used in rotation. By default all; for --interpolate and --mix the "
            "first."
        ),
    ] = None,
    truncation: Annotated[
        float, typer.Option(min=0, max=1, help="The nearer to 0, the nearer to the mean image; for models with styles.")
    ] = 1.0,
    batch: Annotated[int, typer.Option(min=1, help="Images generated at once.")] = 64,
    grid: Annotated[
        bool, typer.Option("--grid", help="Put the n images into one picture, classes in columns.")
    ] = False,
    interpolate: Annotated[
        str | None,
        typer.Option(
            metavar="SEEDS",
            help="Interpolate between seeds, as 1,2,3,1: a .gif or .webp is animated, other files have a row for each "
            "pair.",
        ),
    ] = None,
    frames: Annotated[int, typer.Option(min=2, help="Images from each seed to the next, for --interpolate.")] = 8,
    mix: Annotated[
        str | None,
        typer.Option(
            metavar="SEEDS", help="Mix the styles of seeds, as 1,2,3: coarse ones by row, fine ones by column."
        ),
    ] = None,
    format: Annotated[
        SampleFormat | None, typer.Option(help="File format of the images in a folder; by default png.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Generate images again that exist.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: Annotated[PrecisionChoice, typer.Option(help="As in fit.")] = "auto",
    json: AsJson = False,
) -> None:
    """Generate images from noise with a trained model.

    An image depends only on its seed and class. Files are named by the seed; files that exist are skipped.
    """
    from translate.applying.samples import sample as write_samples

    result = write_samples(
        model, output,
        n=n, seed=seed, labels=label or (), truncation=truncation, batch=batch,
        grid=grid, interpolate=_seeds("--interpolate", interpolate), frames=frames, mix=_seeds("--mix", mix),
        format=format, overwrite=overwrite, device=device, precision=precision,
    )  # fmt: skip
    if json:
        print_json(dataclasses.asdict(result))
    print(
        f"{result.written} written to {output}, {result.skipped} skipped because they exist, in {result.seconds:.1f} s",
        file=sys.stderr if json else sys.stdout,
    )


def _seeds(flag: str, text: str | None) -> list[int]:
    """The seeds in "1,2,3"; none if the flag is not given. Raises UsageError."""
    if text is None:
        return []
    seeds = [seed.strip() for seed in text.split(",")]
    if not all(seed.isdecimal() for seed in seeds):
        raise UsageError(f"{flag} {text!r} is no list of seeds; expected whole numbers with commas, as 1,2,3.")
    return [int(seed) for seed in seeds]
