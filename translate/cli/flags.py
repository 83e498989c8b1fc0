"""Turns the fields of a pydantic config into options of a command, with their types, ranges, defaults and help."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from rich.markup import escape

EXCLUSIVE_LIMITS = {"gt": "Above {}.", "lt": "Below {}."}  # part of the help, since typer's ranges include their ends


def flag_name(name: str) -> str:
    """The flag of a field: "--load-size" for "load_size"."""
    return f"--{name.replace('_', '-')}"


def parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A keyword parameter of a command's function."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def option(name: str, field: FieldInfo, panel: str) -> inspect.Parameter:
    """The option of one field, listed in a panel of the help."""
    kind = _option_type(field)
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    if kind is str and default is not None and not isinstance(default, str):
        default = json.dumps(default, default=str)
    limits = {
        key: getattr(item, key) for item in field.metadata for key in ("ge", "le", "gt", "lt") if hasattr(item, key)
    }
    notes = [note.format(limits[key]) for key, note in EXCLUSIVE_LIMITS.items() if key in limits]
    notes += ["Required."] * field.is_required()
    settings = typer.Option(
        flag_name(name) + (f"/{flag_name(f'no_{name}')}" if kind is bool else ""),
        help=" ".join([escape(field.description or ""), *notes]),
        min=limits.get("ge"),
        max=limits.get("le"),
        rich_help_panel=panel,
    )
    return parameter(name, Annotated[kind | None if default is None else kind, settings], default)


def apply_preset(name: str, field: FieldInfo, preset: Mapping[str, Any]) -> FieldInfo:
    """The field of an engine option, with the default from a model's preset if it has one."""
    return FieldInfo.merge_field_infos(field, default=preset[name]) if name in preset else field


def parse_value(field: FieldInfo, value: Any) -> Any:
    """The value of an option for its field. For a field of another type than typer parses, JSON text is decoded."""
    if _option_type(field) is not str or _without_none(field.annotation) is str:
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value  # plain text, which pydantic accepts or refuses


def _without_none(annotation: Any) -> Any:
    """T for `T | None`, and any other annotation as it is."""
    kinds = get_args(annotation)
    rest = [kind for kind in kinds if kind is not NoneType]
    return rest[0] if NoneType in kinds and len(rest) == 1 else annotation


def _option_type(field: FieldInfo) -> Any:
    """The type that typer parses: bool, int, float, str or a Literal of strings; str for any other type."""
    kind = _without_none(field.annotation)
    is_choice = get_origin(kind) is Literal and all(isinstance(choice, str) for choice in get_args(kind))
    return kind if is_choice or kind in (bool, int, float, str) else str


def command(name: str, run: Callable[..., None], parameters: Iterable[inspect.Parameter], help: str) -> Any:
    """A typer command with these parameters. `run` gets only the options that are on the command line."""

    def call(context: typer.Context, **values: Any) -> None:
        run(**{name: value for name, value in values.items() if _is_given(context, name)})

    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    signature = inspect.Signature([context, *parameters])
    call.__signature__ = signature  # type: ignore[attr-defined] # typer reads it and the annotations
    call.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    single = typer.Typer(add_completion=False)
    single.command(name, help=help)(call)
    return typer.main.get_command(single)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
