"""`translate fit MODEL`: the engine's options and the model's own become flags."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from translate.cli import flags
from translate.cli.model_commands import ByModel
from translate.errors import PluginError, UsageError

if TYPE_CHECKING:
    from translate.model import Model

LENGTH = ("epochs", "steps", "minutes")
RUN = ("run", "init", "checkpoint_every", "keep", "log_every")

EXCLUSIVE = (LENGTH, ("data", "a"), ("data", "b"))
"""Options that replace each other: one that is given as a flag drops the others that a config file sets."""


class Models(ByModel):
    """A model to train; `--config` may name it as well."""

    def command_of(self, model: type[Model[Any]], words: list[str]) -> Any:
        return _command(model, words)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        file = _config_file(args)
        return super().parse_args(ctx, args if file is None else [_model_of(file), *args])


app = typer.Typer(
    cls=Models,
    no_args_is_help=True,
    subcommand_metavar="MODEL",
    help="Train a model. `translate fit MODEL --help` lists its options; `translate fit --config FILE` repeats a run.",
)


def _config_file(words: list[str]) -> str | None:
    """The file of `--config FILE` or `--config=FILE` where no model is named in front."""
    if words and words[0].startswith("-"):
        for word, following in zip(words, [*words[1:], None], strict=True):
            if word == "--config":
                return following
            if word.startswith("--config="):
                return word.partition("=")[2]
    return None


def _model_of(file: str) -> str:
    from translate.training.config import read_config

    model = read_config(file).get("model")
    if not isinstance(model, str):
        raise UsageError(f'The config {file} names no model: write model = "NAME" under [fit], or name it after `fit`.')
    return model


def _command(model: type[Model[Any]], words: Sequence[str]) -> Any:
    """The model's command, made of its declarations. Raises PluginError if it redefines an option of the engine.

    words: what follows `translate fit`, for the processes that it may start.
    """
    from translate.training.config import FitConfig

    own = model.Config.model_fields
    if taken := own.keys() & {*FitConfig.model_fields, "config", "resume", "help", "debug", "context"}:
        words = " and ".join(sorted(map(flags.dashed, taken)))
        raise PluginError(f"The model {model.name!r} declares {words}, which the engine already has; rename the field.")
    parameters = [
        *_engine_options(model),
        *(flags.flag(name, field, f"Model: {model.name}") for name, field in own.items()),
    ]
    about = inspect.cleandoc(model.__doc__ or model.Config.__doc__ or "")
    return flags.command(
        model.name, lambda **given: _start(model, given, words), parameters, f"Train {model.name}.\n\n{escape(about)}"
    )


def _engine_options(model: type[Model[Any]]) -> Iterator[inspect.Parameter]:
    """The options of FitConfig that this model needs, and two that are no part of a run's record, panel by panel."""
    from translate.data.options import DataOptions
    from translate.training.config import FitConfig

    panels = (
        dict.fromkeys(DataOptions.model_fields, "Data") | dict.fromkeys(LENGTH, "Length") | dict.fromkeys(RUN, "Run")
    )
    for panel in ("Data", "Length", "Run", "Engine"):
        for name, field in FitConfig.model_fields.items():
            if panels.get(name, "Engine") == panel and _applies(name, model.data.names):
                yield flags.flag(name, flags.with_preset(field, model.preset, name), panel)
        if panel == "Run":
            yield flags.parameter("config", ConfigFile, None)
            yield flags.parameter("resume", Resume, False)


ConfigFile = Annotated[
    str | None,
    typer.Option("--config", rich_help_panel="Run", help="A run.toml, or a file of its shape; flags have precedence."),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", rich_help_panel="Run", help="Go on with the run in --run; start it if there is none."),
]


def _applies(option: str, domains: tuple[str, ...]) -> bool:
    """Whether an option of FitConfig says something to a model that needs these domains."""
    word = option.removeprefix("test_")
    if word in ("data", "swap"):
        return len(domains) == 2
    return option not in ("model", "options") and (word not in ("a", "b", "images") or word in domains)


def _start(model: type[Model[Any]], given: dict[str, Any], words: Sequence[str]) -> None:
    """Train with these values, over those of the config file if there is one. Raises UsageError for a bad value.

    For several devices the same words go to as many processes.
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
    values["options"] |= {name: flags.parsed(own[name], value) for name, value in given.items() if name in own}
    values |= {name: value for name, value in given.items() if name not in own}
    config = fit_config(values)

    from translate.distributed.launch import check_batch, is_rank, launch
    from translate.training.run import find_folder, fit

    if config.devices == 1 or is_rank():
        fit(config, resume=resume)
        return
    folder, stored = find_folder(config, resume)
    check_batch(complete(model, config, stored).batch, config.devices)
    if status := launch(["fit", *words, f"--run={folder}", "--resume"], config.device, config.devices):
        raise typer.Exit(status)
