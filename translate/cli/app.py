"""The command-line app: built-in commands, commands of plugins, and how errors are printed."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from translate.cli import apply, bench, data, doctor, evaluate, fit, models, sample
from translate.cli import plugins as plugins_command
from translate.errors import PluginError, TranslateError, UsageError, did_you_mean
from translate.plugins import registry
from translate.version import __version__

ClickUsageError: Any = typer.BadParameter.__base__  # typer includes click, but does not export this class


class Commands(TyperGroup):
    """The built-in commands and those of plugins, which are loaded only to list them or to run one of them."""

    def list_commands(self, ctx: Any) -> list[str]:
        built_in = sorted(self.commands, key=lambda name: name != "fit")
        try:
            added = registry.commands()
        except PluginError as error:  # a broken plugin must not break the help
            print(f"warning: {error}", file=sys.stderr)
            return built_in
        for name in added:
            if name in self.commands:
                print(
                    f"warning: the command {name!r} of {added.provider(name)} was left out: a built-in has this name",
                    file=sys.stderr,
                )
        return [*built_in, *sorted(name for name in added if name not in self.commands)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        added = registry.commands()
        if cmd_name not in added:
            raise UsageError(f"There is no command {cmd_name!r}. {did_you_mean(cmd_name, [*self.commands, *added])}")
        return _command_from_function(cmd_name, added[cmd_name])


@cache
def _command_from_function(name: str, function: Callable[..., Any]) -> Any:
    single = typer.Typer(add_completion=False)
    single.command(name)(function)
    return typer.main.get_command(single)


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(fit.app, name="fit")
app.add_typer(bench.app, name="bench")
app.add_typer(data.app, name="data")
for command in (apply.apply, sample.sample, evaluate.evaluate, models.models, plugins_command.plugins, doctor.doctor):
    app.command()(command)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"translate {__version__}")
        raise typer.Exit


@app.callback()
def describe(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print the traceback of an error; may stand anywhere.")
    ] = False,
) -> None:
    """Translate images from one domain to another: train a model, then apply it to a folder."""


def run(arguments: list[str]) -> int:
    """Run one command line; an error becomes one line on stderr and an exit status."""
    debug = "--debug" in arguments  # here, so that it can stand behind the command too
    others = [argument for argument in arguments if argument != "--debug"]
    try:
        status = app(others, prog_name="translate", standalone_mode=False)
    except TranslateError as error:
        return _tell(str(error), error.exit_status, debug)
    except ClickUsageError as error:
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
