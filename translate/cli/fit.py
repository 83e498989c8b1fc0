"""`translate fit MODEL`: trains a model. The command has the engine's options and the model's own."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from translate.cli import flags
from translate.cli.model_commands import ModelGroup
from translate.errors import PluginError, UsageError

if TYPE_CHECKING:
    from translate.model import Model

LENGTH = ("epochs", "steps", "minutes")
RUN = ("run", "init", "checkpoint_every", "keep", "log_every")

EXCLUSIVE = (LENGTH, ("data", "a"), ("data", "b"))
"""Options that exclude each other: if one is on the command line, the others in a config file are ignored."""


class FitGroup(ModelGroup):
    """A model to train, named on the command line or in the file of `--config`."""

    def model_command(self, model: type[Model[Any]], arguments: list[str]) -> Any:
        """The model's command. Raises PluginError if the model declares an option that the engine has."""
        _check_no_clash(model)
        own = model.Config.model_fields
        parameters = [
            *_engine_options(model),
            *(flags.option(name, field, f"Model: {model.name}") for name, field in own.items()),
        ]
        about = inspect.cleandoc(model.__doc__ or model.Config.__doc__ or "")
        help = f"Train {model.name}.\n\n{escape(about)}"
        return flags.command(model.name, lambda **given: _start(model, given, arguments), parameters, help)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        file = _config_file(args)
        return super().parse_args(ctx, args if file is None else [_model_of(file), *args])


app = typer.Typer(
    cls=FitGroup,
    no_args_is_help=True,
    subcommand_metavar="MODEL",
    help="Train a model. `translate fit MODEL --help` lists its options; `translate fit --config FILE` repeats a run.",
)


def _config_file(arguments: list[str]) -> str | None:
    """The file of `--config FILE` or `--config=FILE`, if no model is named before it."""
    if arguments and arguments[0].startswith("-"):
        for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
            if argument == "--config":
                return following
            if argument.startswith("--config="):
                return argument.partition("=")[2]
    return None


def _model_of(file: str) -> str:
    from translate.training.config import read_config

    model = read_config(file).get("model")
    if not isinstance(model, str):
        raise UsageError(f'The config {file} names no model: write model = "NAME" under [fit], or name it after `fit`.')
    return model


def _check_no_clash(model: type[Model[Any]]) -> None:
    from translate.training.config import FitConfig

    reserved = {*FitConfig.model_fields, "config", "resume", "help", "debug", "context"}
    if clashes := model.Config.model_fields.keys() & reserved:
        names = " and ".join(sorted(map(flags.flag_name, clashes)))
        raise PluginError(f"The model {model.name!r} declares {names}, which the engine already has; rename the field.")


def _engine_options(model: type[Model[Any]]) -> Iterator[inspect.Parameter]:
    """The options of FitConfig that apply to this model, panel by panel; and --config and --resume, with the run's."""
    from translate.data.options import DataOptions
    from translate.training.config import FitConfig

    panels = (
        dict.fromkeys(DataOptions.model_fields, "Data") | dict.fromkeys(LENGTH, "Length") | dict.fromkeys(RUN, "Run")
    )
    for panel in ("Data", "Length", "Run", "Engine"):
        for name, field in FitConfig.model_fields.items():
            if panels.get(name, "Engine") == panel and _applies(name, model.data.names):
                yield flags.option(name, flags.apply_preset(name, field, model.preset), panel)
        if panel == "Run":
            yield flags.parameter("config", ConfigFile, None)
            yield flags.parameter("resume", Resume, False)


ConfigFile = Annotated[
    str | None,
    typer.Option("--config", rich_help_panel="Run", help="A run.toml, or a file like it; flags have precedence."),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", rich_help_panel="Run", help="Go on with the run in --run; start it if there is none."),
]


def _applies(option: str, domains: tuple[str, ...]) -> bool:
    """Whether an option of FitConfig applies to a model with these domains."""
    name = option.removeprefix("test_")
    if name in ("data", "swap"):
        return len(domains) == 2
    return option not in ("model", "options") and (name not in ("a", "b", "images") or name in domains)


def _start(model: type[Model[Any]], given: dict[str, Any], arguments: Sequence[str]) -> None:
    """Train with the given options, which override those of the config file. Raises UsageError for a bad value.

    arguments: those after `translate fit`, with which a process for each of several devices is started.
    """
    from translate.training.config import complete, fit_config, read_config

    resume = given.pop("resume", False)
    file = given.pop("config", None)
    values: dict[str, Any] = read_config(file) if file else {"options": {}}
    if values.setdefault("model", model.name) != model.name:
        raise UsageError(
            f"The config {file} is one for {values['model']}; give `translate fit {values['model']}`, or none."
        )
    own = model.Config.model_fields
    for group in EXCLUSIVE:
        if given.keys() & group:
            values = {name: value for name, value in values.items() if name not in group}
    values["options"] |= {name: flags.parse_value(own[name], value) for name, value in given.items() if name in own}
    values |= {name: value for name, value in given.items() if name not in own}
    config = fit_config(values)

    from translate.distributed.launch import check_batch, is_rank, launch
    from translate.training.run import find_folder, fit

    if config.devices == 1 or is_rank():
        fit(config, resume=resume)
        return
    folder, stored = find_folder(config, resume)
    check_batch(complete(model, config, stored).batch, config.devices)
    if status := launch(["fit", *arguments, f"--run={folder}", "--resume"], config.device, config.devices):
        raise typer.Exit(status)
