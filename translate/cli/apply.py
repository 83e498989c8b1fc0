"""`translate apply MODEL INPUT OUTPUT`."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import typer

from translate.applying.options import ApplyFormat, PrecisionChoice, Side
from translate.cli.output import AsJson, print_json


def apply(
    model: Annotated[str, typer.Argument(help="A run, or a model file.")],
    input: Annotated[
        str, typer.Argument(help="An image, a folder (with sub-folders), an archive, or a data set's domain.")
    ],
    output: Annotated[str, typer.Argument(help="Folder for the translations, under the same names.")],
    to: Annotated[str | None, typer.Option(help="Domain to translate to; by default the model's first.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images translated at once.")] = 8,
    format: Annotated[ApplyFormat, typer.Option(help="File format of the translations.")] = "same",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Translate images again whose translations exist.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: Annotated[PrecisionChoice, typer.Option(help="As in fit.")] = "auto",
    side: Annotated[
        Side, typer.Option(help="Part of each image to translate; auto takes the side that the model learned from.")
    ] = "auto",
    degrade: Annotated[
        bool, typer.Option("--degrade", help="Inputs are good images: degrade them first, as in training.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Translate an image or a folder with a trained model.

    Files that fail are listed with the reasons, and the others are translated.
    The exit status is then 1.
    """
    from translate.applying.folder import apply as translate_folder
    from translate.distributed.launch import process_group

    with process_group() as group:
        result = translate_folder(
            model, input, output,
            to=to, batch=batch, format=format, overwrite=overwrite, seed=seed,
            device=device, precision=precision, side=side, degrade=degrade, group=group,
        )  # fmt: skip
    if group.rank > 0:  # the first rank prints
        return
    if json:
        print_json(dataclasses.asdict(result))
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    for file, reason in result.failed.items():
        print(f"failed: {file}: {reason}", file=sys.stderr)
    print(
        f"{result.written} written to {output}, {result.skipped} skipped because they exist, "
        f"{len(result.failed)} failed, in {result.seconds:.1f} s",
        file=sys.stderr if json else sys.stdout,
    )
    if result.failed:
        raise typer.Exit(1)
