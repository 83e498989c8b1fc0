"""`translate bench MODEL`: times training steps on this machine, with the engine's speed-ups and in a plain loop."""

from __future__ import annotations

import shlex
from json import dumps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from translate.cli import flags
from translate.cli.model_commands import ModelGroup
from translate.cli.output import AsJson, print_json, print_table
from translate.errors import UsageError
from translate.formatting import plural

if TYPE_CHECKING:
    from translate.model import Model

COLUMNS = ("", "ms/step", "images/s", "peak MB", "× plain", "of matrix rate", "s to compile", "note")


class BenchGroup(ModelGroup):
    """A model to measure."""

    def model_command(self, model: type[Model[Any]], arguments: list[str]) -> Any:
        """The model's command, with the engine's options that a step's time depends on, and the model's own."""
        from translate.training.config import FitConfig

        engine, own = FitConfig.model_fields, model.Config.model_fields
        parameters = [
            flags.option("size", flags.apply_preset("size", engine["size"], model.preset), "Options"),
            flags.parameter("batch", Batches, str(model.preset.get("batch", 1))),
            flags.option("device", engine["device"], "Options"),
            flags.parameter("compile", Compile, True),
            flags.parameter("turns", Repeats, None),
            flags.parameter("json", AsJson, False),
            *(flags.option(name, field, f"Model: {model.name}") for name, field in own.items()),
        ]
        help = f"Measure a training step of {model.name}."
        return flags.command(model.name, lambda **given: _bench(model, given), parameters, help)


app = typer.Typer(
    cls=BenchGroup,
    no_args_is_help=True,
    subcommand_metavar="MODEL",
    help="Measure a training step on this machine, to see how much time precision, memory format, batching and "
    "compiling save. "
    "`translate bench MODEL --help` lists its options.",
)

Batches = Annotated[
    str, typer.Option("--batch", help="Images of each domain in a step; 1,4,16 prints a table for each of them.")
]
Compile = Annotated[bool, typer.Option(" /--no-compile", help="Do not measure --compile, which takes minutes.")]
Repeats = Annotated[
    int | None,
    typer.Option("--turns", min=1, help="Measurements of each row; by default 9, or 3 if each takes several steps."),
]


def _bench(model: type[Model[Any]], given: dict[str, Any]) -> None:
    """Measure with these values and print. Raises UsageError for a bad value."""
    from translate.benchmarking.measuring import bench
    from translate.cli.machine import devices, versions
    from translate.device import resolve_device
    from translate.training.config import complete, fit_config

    own = model.Config.model_fields
    options = {name: flags.parse_value(own[name], value) for name, value in given.items() if name in own}
    batches = _batch_sizes(given.get("batch", str(model.preset.get("batch", 1))))
    values: dict[str, Any] = {name: given[name] for name in ("size", "device") if name in given}
    # Augmenting the discriminators' images is an option of fit, which the plain loop does not have.
    values |= {"model": model.name, "options": options, "batch": batches[0], "discriminator_augment": "none"}
    config = complete(model, fit_config(values), None)
    device = resolve_device(config.device)
    measured = bench(config, device, batches, given.get("turns"), compile=given.get("compile", True))
    arguments = [model.name, "--size", str(config.size), *_arguments(options), *_arguments(measured["fastest"] or {})]
    command = f"translate fit {shlex.join(arguments)}" if measured["fastest"] else None
    machine = {"device": str(device), "devices": devices(), "versions": versions()}
    report = {"model": model.name, "size": config.size, "options": config.options, **machine, **measured}
    if given.get("json"):
        print_json(report | {"command": command})
    else:
        _print(report, command)


def _batch_sizes(text: str) -> list[int]:
    """The batch sizes in "1,4,16". Raises UsageError."""
    sizes = [size.strip() for size in text.split(",")]
    if not all(size.isdecimal() and int(size) for size in sizes):
        raise UsageError(f"--batch {text!r}: expected whole numbers from 1, with commas between them, as in 1,4.")
    return list(dict.fromkeys(map(int, sizes)))


def _arguments(values: dict[str, Any]) -> list[str]:
    """Values as arguments of a command line: ["--size", "64", "--no-sharp"]."""
    arguments: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            arguments.append(flags.flag_name(name if value else f"no_{name}"))
        else:
            arguments += [flags.flag_name(name), value if isinstance(value, str) else dumps(value)]
    return arguments


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
        filled = [column for column in range(len(COLUMNS)) if any(row[column] for row in cells)]
        print_table([COLUMNS[column] for column in filled], [[row[column] for column in filled] for row in cells])
    if command:
        print(f"\nThe fastest settings, to which you add your images: {command}")
    else:
        print("\nNothing fits into the memory; try a smaller --batch or --size.")


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
