"""`translate bench MODEL`: what each lever of the engine is worth on this machine, against a plain loop."""

from __future__ import annotations

import shlex
from json import dumps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from translate.cli import flags
from translate.cli.model_commands import ByModel
from translate.cli.output import AsJson, print_json, print_table
from translate.errors import UsageError
from translate.formatting import plural

if TYPE_CHECKING:
    from translate.model import Model

COLUMNS = ("", "ms/step", "images/s", "peak MB", "× plain", "of matrix rate", "s to compile", "note")


class Benches(ByModel):
    """A model to measure."""

    def command_of(self, model: type[Model[Any]], words: list[str]) -> Any:
        return _command(model)


app = typer.Typer(
    cls=Benches,
    no_args_is_help=True,
    subcommand_metavar="MODEL",
    help="Measure a training step on this machine: what precision, memory format, batching and compiling are worth. "
    "`translate bench MODEL --help` lists its options.",
)

Batches = Annotated[str, typer.Option("--batch", help="Images of each domain in a step; a table for each of 1,4,16.")]
Compile = Annotated[
    bool, typer.Option(" /--no-compile", help="Leave out what --compile is worth, which takes minutes.")
]
Turns = Annotated[
    int | None,
    typer.Option("--turns", min=1, help="Turns of each row; by default 9, or 3 where a turn has several steps."),
]


def _command(model: type[Model[Any]]) -> Any:
    """The model's command: what decides how long a step takes, and the model's own options."""
    from translate.training.config import FitConfig

    engine, own = FitConfig.model_fields, model.Config.model_fields
    parameters = [
        flags.flag("size", flags.with_preset(engine["size"], model.preset, "size"), "Options"),
        flags.parameter("batch", Batches, str(model.preset.get("batch", 1))),
        flags.flag("device", engine["device"], "Options"),
        flags.parameter("compile", Compile, True),
        flags.parameter("turns", Turns, None),
        flags.parameter("json", AsJson, False),
        *(flags.flag(name, field, f"Model: {model.name}") for name, field in own.items()),
    ]
    about = f"Measure a training step of {model.name}."
    return flags.command(model.name, lambda **given: _bench(model, given), parameters, about)


def _bench(model: type[Model[Any]], given: dict[str, Any]) -> None:
    """Measure with these values and print. Raises UsageError for a bad value."""
    from translate.benchmarking.measuring import bench
    from translate.cli.machine import devices, versions
    from translate.device import resolve_device
    from translate.training.config import complete, fit_config

    own = model.Config.model_fields
    options = {name: flags.parsed(own[name], value) for name, value in given.items() if name in own}
    batches = _sizes(given.get("batch", str(model.preset.get("batch", 1))))
    values: dict[str, Any] = {name: given[name] for name in ("size", "device") if name in given}
    # What a discriminator is shown is augmented on request, which is no part of the game that is compared here.
    values |= {"model": model.name, "options": options, "batch": batches[0], "discriminator_augment": "none"}
    config = complete(model, fit_config(values), None)
    device = resolve_device(config.device)
    measured = bench(config, device, batches, given.get("turns"), compile=given.get("compile", True))
    words = [model.name, "--size", str(config.size), *_flags(options), *_flags(measured["fastest"] or {})]
    command = f"translate fit {shlex.join(words)}" if measured["fastest"] else None
    machine = {"device": str(device), "devices": devices(), "versions": versions()}
    report = {"model": model.name, "size": config.size, "options": config.options, **machine, **measured}
    if given.get("json"):
        print_json(report | {"command": command})
    else:
        _print(report, command)


def _sizes(text: str) -> list[int]:
    """The batch sizes in "1,4,16". Raises UsageError."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) for word in words):
        raise UsageError(f"--batch {text!r}: expected whole numbers from 1, with commas between them, as in 1,4.")
    return list(dict.fromkeys(map(int, words)))


def _flags(values: dict[str, Any]) -> list[str]:
    """Values as the words of a command line."""
    words: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            words.append(flags.dashed(name if value else f"no_{name}"))
        else:
            words += [flags.dashed(name), value if isinstance(value, str) else dumps(value)]
    return words


def _print(report: dict[str, Any], command: str | None) -> None:
    cpu, rate = report["devices"][0], report["matrix_rate"]
    device = next((each for each in report["devices"] if each["device"] == report["device"]), None)
    device = device or next(each for each in report["devices"] if each["device"].startswith(report["device"]))
    print(f"{report['model']} at {report['size']}² on {device['name']}, torch {report['versions']['torch']}", end="; ")
    print(
        f"{plural(cpu['threads'], 'thread')}; a large {rate['precision']} matrix product: {rate['tflops']:.3g} TFLOP/s"
    )
    for each in report["tables"]:
        print(f"\nbatch {each['batch']}")
        cells = [_cells(row) for row in each["rows"]]
        shown = [place for place in range(len(COLUMNS)) if any(row[place] for row in cells)]
        print_table([COLUMNS[place] for place in shown], [[row[place] for place in shown] for row in cells])
    if command:
        print(f"\nThe fastest that fit does, your images added: {command}")
    else:
        print("\nNothing fitted into the memory; try a smaller --batch or --size.")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    formats = {
        "milliseconds": "{:.1f}",
        "images_per_second": "{:.4g}",
        "peak_megabytes": "{:.0f}",
        "ratio": "{:.2f}",
        "matrix_share": "{:.1%}",
        "seconds_to_compile": "{:.0f}",
    }
    numbers = ("" if row[name] is None else text.format(row[name]) for name, text in formats.items())
    return row["name"], *numbers, row["note"]
