"""`translate demo`: trains a model in minutes that puts serifs on letters, and shows it on held-out letters."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from translate_glyphs.glyphs import DATASET, SIDE

# For two minutes on two CPU cores. No flips: mirrored letters are no letters.
COMMON: dict[str, Any] = {"a": "glyphs/sans", "b": "glyphs/serif", "size": SIDE, "augment": "none", "log_every": 100}
SETTINGS: dict[str, dict[str, Any]] = {
    "pix2pix": {
        "batch": 8,
        "options": {
            "generator": "resnet(blocks=3, width=24)",
            "discriminator": "patchgan(layers=2, width=32)",
            "learning_rate": 1e-3,
        },
    },
    "cyclegan": {
        "batch": 4,
        "options": {
            "generator": "resnet(blocks=3, width=24)",
            "discriminator": "patchgan(layers=2, width=32)",
            "learning_rate": 5e-4,
        },
    },
}
SHOWN = 12  # glyphs in the picture, in ROWS rows
ROWS = 4
ZOOM = 2


def demo(
    model: Annotated[
        Literal["pix2pix", "cyclegan"], typer.Option(help="Learn from pairs (pix2pix) or without them (cyclegan).")
    ] = "pix2pix",
    steps: Annotated[int, typer.Option(min=1, help="Length of the training, in steps.")] = 2000,
    run: Annotated[
        str, typer.Option(help="Folder of the run; one that exists is continued or, if done, shown.")
    ] = "runs/demo",
) -> None:
    """Train a model that puts serifs on letters, and show it on letters it has never seen.

    It needs no images: the letters are rendered from fonts that are installed anyway.
    """
    from translate.applying.folder import apply
    from translate.data.datasets import prepared
    from translate.evaluating.paired import errors_by_name
    from translate.training.config import fit_config
    from translate.training.run import fit

    folder = fit(fit_config({**COMMON, **SETTINGS[model], "model": model, "steps": steps, "run": run}), resume=True)
    held_out = prepared(DATASET) / "test"
    sans, translated, serif = held_out / "sans", folder / "translations", held_out / "serif"
    apply(folder, sans, translated, batch=64, overwrite=True)
    errors, nothing = errors_by_name(translated, serif), errors_by_name(sans, serif)
    picture = folder / "demo.png"
    _draw(picture, [sans, translated, serif], list(errors))
    print(
        f"Mean absolute error of {len(errors)} held-out letters, from 0 to 1:\n"
        f"  {_mean(errors):.4f}  translated\n"
        f"  {_mean(nothing):.4f}  left as they are\n"
        f"Input, translation and truth of {SHOWN} of them: {picture}\n"
        "Try next:\n"
        f"  translate apply {folder} sans {folder / 'sans-to-serif'}\n"
        "  translate fit cyclegan --a DIR --b DIR"
    )


def _mean(errors: dict[str, float]) -> float:
    return sum(errors.values()) / len(errors)


def _draw(path: Path, folders: list[Path], names: Iterable[str]) -> None:
    """Write a picture with the files of one name from all folders side by side, enlarged, several letters a row."""
    from translate.contact_sheet import grid
    from translate.data.files import readers, writers

    rows: list[list[Any]] = [[] for _ in range(ROWS)]
    for number, name in enumerate(well_known(names, SHOWN)):
        for folder in folders:
            file = folder / f"{name}.png"
            image = readers.decode(file.read_bytes(), str(file))
            rows[number % ROWS].append(image.repeat_interleave(ZOOM, 1).repeat_interleave(ZOOM, 2))
    titles = ["sans", "translated", "serif"] * (SHOWN // ROWS)
    writers.save(grid(rows, titles), path)


def well_known(names: Iterable[str], number: int) -> list[str]:
    """Choose `number` names: different unaccented letters and digits, Latin ones first, alternating styles."""
    styles: dict[str, list[str]] = {}
    for name in sorted(names):
        letter = chr(int(name.partition("-")[0].removeprefix("u"), 16))
        if unicodedata.category(letter) in ("Lu", "Ll", "Nd") and unicodedata.normalize("NFKD", letter) == letter:
            styles.setdefault(letter, []).append(name)
    return [names[index % len(names)] for index, names in enumerate(islice(styles.values(), number))]
