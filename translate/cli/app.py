"""The app: the built-in commands, those that plugins add, and how an error is told."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from translate.cli import apply, bench, data, doctor, evaluate, fit, models, sample
from translate.cli import plugins as plugins_command
from translate.errors import PluginError, TranslateError, UsageError, did_you_mean
from translate.plugins import registry
from translate.version import __version__

WrongUsage: Any = typer.BadParameter.__base__  # click's UsageError; typer carries click within and does not export it


class Commands(TyperGroup):
    """The built-in commands; plugins are asked for theirs only when help lists them, or a name is not built in."""

    def list_commands(self, ctx: Any) -> list[str]:
        try:
            added = [name for name in registry.commands() if not _is_taken(name, self.commands)]
        except PluginError as error:  # help is where one looks when something is broken
            print(f"warning: {error}", file=sys.stderr)
            added = []
        return [*sorted(self.commands, key=lambda name: name != "fit"), *added]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        added = registry.commands()
        if cmd_name not in added:
            raise UsageError(f"There is no command {cmd_name!r}. {did_you_mean(cmd_name, [*self.commands, *added])}")
        return _from_function(cmd_name, added[cmd_name])


def _is_taken(name: str, built_in: Mapping[str, Any]) -> bool:
    if name in built_in:
        owner = registry.commands().owner(name)
        print(f"warning: the command {name!r} of {owner} was left out: a built-in has this name", file=sys.stderr)
    return name in built_in


@cache
def _from_function(name: str, function: Callable[..., Any]) -> Any:
    single = typer.Typer(add_completion=False)
    single.command(name)(function)
    return typer.main.get_command(single)


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(fit.app, name="fit")
app.add_typer(bench.app, name="bench")
app.add_typer(data.app, name="data")
for command in (apply.apply, sample.sample, evaluate.evaluate, models.models, plugins_command.plugins, doctor.doctor):
    app.command()(command)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"translate {__version__}")
        raise typer.Exit


@app.callback()
def describe(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from; goes anywhere.")] = False,
) -> None:
    """Translate images from one domain to another: train a model, then apply it to a folder."""


def run(arguments: list[str]) -> int:
    """Run one command line; an error becomes one line on stderr and an exit status."""
    debug = "--debug" in arguments  # here, so that it can stand behind the command too
    words = [word for word in arguments if word != "--debug"]
    try:
        status = app(words, prog_name="translate", standalone_mode=False)
    except TranslateError as error:
        return _tell(str(error), error.exit_status, debug)
    except WrongUsage as error:
        return _tell(_in_our_words(error), 2, debug)
    return status if type(status) is int else 0


def _tell(message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    if message:  # `translate` alone has printed its help, and has nothing to add
        print(f"error: {message}", file=sys.stderr)
    return status


def _in_our_words(error: Any) -> str:
    near = getattr(error, "possibilities", None)
    if near:
        return f"There is no option {error.option_name}. Did you mean {' or '.join(near)}?"
    message = error.format_message().replace("Value error, ", "").rstrip(".")  # pydantic's, before a choice
    if not message or not error.ctx:
        return str(message)
    return f"{message}{'' if message.endswith('?') else '.'} See `{error.ctx.command_path} --help`."
