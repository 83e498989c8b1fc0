"""`translate evaluate MODEL`."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from translate.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from translate.evaluating.evaluation import Evaluation
    from translate.evaluating.measuring import Mean

DISTANCES = {"frechet": "Fréchet distance", "kernel": "kernel distance"}
ERRORS = {"l1": "L1, 0 to 1", "psnr": "PSNR in dB (high is good)", "ssim": "SSIM (high is good)"}


def evaluate(
    model: Annotated[str, typer.Argument(help="A run, or a model file.")],
    a: Annotated[str | None, typer.Option(help="Real images of domain a; held-out ones are used if there are any.")] = (
        None
    ),
    b: Annotated[
        str | None, typer.Option(help="Real images of domain b; namesakes of those of a are their truths.")
    ] = (None),
    data: Annotated[str | None, typer.Option(help="One folder, archive or data set that holds both domains.")] = None,
    swap: Annotated[bool, typer.Option("--swap", help="Exchange the two sides of --data.")] = False,
    images: Annotated[str | None, typer.Option(help="Real images, for a model that makes images without an input.")] = (
        None
    ),
    to: Annotated[str | None, typer.Option(help="Domain to translate to; by default the model's first.")] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="Network in whose features sets of images are compared, or none; by default efficientnet, if its "
            "weights are installed."
        ),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", min=2, help="Images to make without an input; by default 2048.")] = (
        None
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: Annotated[
        Literal["auto", "bf16", "fp16", "fp32"], typer.Option(help="Of the model, as in fit.")
    ] = "auto",
    json: AsJson = False,
) -> None:
    """Measure a trained model on images it has not seen; by default on those that its run held out.

    Sets of images are compared by the Fréchet distance (FID) and the kernel distance (KID) of their features. Beside
    each stand the floor, which two halves of the real images reach, and the ceiling, which doing nothing reaches.
    Images with a namesake are compared with it, too.
    """
    from translate.distributed.launch import process_group
    from translate.evaluating.evaluation import evaluate as measure

    with process_group() as group:
        result = measure(
            model,
            a=a, b=b, data=data, swap=swap, images=images, to=to, features=features,
            n=n, seed=seed, batch=batch, device=device, precision=precision, group=group,
        )  # fmt: skip
    if group.rank > 0:  # the first tells
        return
    if json:
        print_json(dataclasses.asdict(result))
    else:
        _show(result)
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)


def _show(result: Evaluation) -> None:
    made = f"images translated to {result.to}" if result.to else "images made"
    print(f"{result.made:,} {made}, {result.real:,} real ones, at {result.size} × {result.size} ({result.resize})")
    if result.distances:
        weights = f" (sha256 {result.features_sha256[:12]})" if result.features_sha256 else ""
        print(f"\nIn the features of {result.features}{weights}:")
        rows = [
            (DISTANCES[name], _with_spread(each.value, each.deviation), _number(each.floor), _number(each.ceiling))
            for name, each in result.distances.items()
        ]
        nothing = "untranslated" if result.to else "noise"
        print_table(("", "value", f"floor: halves of {result.half:,} real", f"ceiling: {nothing}"), rows)
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
