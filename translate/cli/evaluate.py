"""`translate evaluate MODEL`."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from translate.applying.options import PrecisionChoice
from translate.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from translate.evaluating.evaluation import Evaluation
    from translate.evaluating.measurements import Mean

DISTANCES = {"frechet": "Fréchet distance", "kernel": "kernel distance"}
ERRORS = {"l1": "L1, 0 to 1", "psnr": "PSNR in dB (high is good)", "ssim": "SSIM (high is good)"}


def evaluate(
    model: Annotated[str, typer.Argument(help="A run, or a model file.")],
    a: Annotated[str | None, typer.Option(help="Real images of domain a; held-out ones are used if there are any.")] = (
        None
    ),
    b: Annotated[
        str | None, typer.Option(help="Real images of domain b; one with the name of one of a is its true translation.")
    ] = (None),
    data: Annotated[str | None, typer.Option(help="One folder, archive or data set that holds both domains.")] = None,
    swap: Annotated[bool, typer.Option("--swap", help="Exchange the two sides of --data.")] = False,
    images: Annotated[str | None, typer.Option(help="Real images, for a model that generates from noise.")] = None,
    to: Annotated[str | None, typer.Option(help="Domain to translate to; by default the model's first.")] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="Network whose features are compared, or none; by default efficientnet, if its weights are installed."
        ),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", min=2, help="Images to generate from noise; by default 2048.")] = (
        None
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: Annotated[PrecisionChoice, typer.Option(help="Of the model, as in fit.")] = "auto",
    json: AsJson = False,
) -> None:
    """Measure a trained model on images it has not seen; by default on those that its run held out.

    Sets of images are compared by the Fréchet distance (FID) and the kernel distance (KID) of their
    features. Beside each distance stand the floor, the distance of two halves of the real images, and
    the ceiling, the distance of untranslated images or of noise. Images are also compared with real
    images of the same name, if there are any.
    """
    from translate.distributed.launch import process_group
    from translate.evaluating.evaluation import evaluate as measure

    with process_group() as group:
        result = measure(
            model,
            a=a, b=b, data=data, swap=swap, images=images, to=to, features=features,
            n=n, seed=seed, batch=batch, device=device, precision=precision, group=group,
        )  # fmt: skip
    if group.rank > 0:  # the first rank prints
        return
    if json:
        print_json(dataclasses.asdict(result))
    else:
        _print(result)
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)


def _print(result: Evaluation) -> None:
    what = f"images translated to {result.to}" if result.to else "images made"
    print(f"{result.made:,} {what}, {result.real:,} real ones, at {result.size} × {result.size} ({result.resize})")
    if result.distances:
        weights = f" (sha256 {result.features_sha256[:12]})" if result.features_sha256 else ""
        print(f"\nIn the features of {result.features}{weights}:")
        rows = [
            (DISTANCES[name], _with_spread(each.value, each.deviation), _number(each.floor), _number(each.ceiling))
            for name, each in result.distances.items()
        ]
        baseline = "untranslated" if result.to else "noise"
        print_table(("", "value", f"floor: halves of {result.half:,} real", f"ceiling: {baseline}"), rows)
    if result.errors:
        print(f"\n{result.pairs:,} of them against their truths, the images of the same name:")
        print_table(
            ("", "translated", "left as they are"),
            [(ERRORS[name], _mean(each.made), _mean(each.unchanged)) for name, each in result.errors.items()],
        )


def _mean(mean: Mean | None) -> str:
    return _with_spread(mean.mean, mean.standard_error) if mean else "-"


def _with_spread(value: float, spread: float | None) -> str:
    return f"{_number(value)} ± {spread:.1g}" if spread is not None else _number(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
