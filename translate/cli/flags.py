"""Turns the fields of a pydantic config into flags: type, range, choices, default and help come from the field."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from rich.markup import escape

OPEN_LIMITS = {"gt": "Above {}.", "lt": "Below {}."}  # typer's own ranges include their ends


def dashed(name: str) -> str:
    """A field's name as a flag."""
    return f"--{name.replace('_', '-')}"


def parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A keyword parameter of a command."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def flag(name: str, field: FieldInfo, panel: str) -> inspect.Parameter:
    """The option for one field, in a panel of the help."""
    kind = _kind(field)
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    if kind is str and default is not None and not isinstance(default, str):
        default = json.dumps(default, default=str)
    limits = {
        key: getattr(item, key) for item in field.metadata for key in ("ge", "le", "gt", "lt") if hasattr(item, key)
    }
    notes = [note.format(limits[key]) for key, note in OPEN_LIMITS.items() if key in limits]
    notes += ["Required."] * field.is_required()
    option = typer.Option(
        dashed(name) + (f"/--no-{dashed(name)[2:]}" if kind is bool else ""),
        help=" ".join([escape(field.description or ""), *notes]),
        min=limits.get("ge"),
        max=limits.get("le"),
        rich_help_panel=panel,
    )
    return parameter(name, Annotated[kind | None if default is None else kind, option], default)


def with_preset(field: FieldInfo, preset: Mapping[str, Any], name: str) -> FieldInfo:
    """The field of an engine option, with the default that it has for this model."""
    return FieldInfo.merge_field_infos(field, default=preset[name]) if name in preset else field


def parsed(field: FieldInfo, value: Any) -> Any:
    """The value of a flag; where the field is no plain type, the text is read as JSON if it is JSON."""
    if _kind(field) is not str or _inner(field.annotation) is str:
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value  # a word; pydantic says whether it will do


def _inner(annotation: Any) -> Any:
    """What T is in `T | None`."""
    kinds = get_args(annotation)
    rest = [kind for kind in kinds if kind is not NoneType]
    return rest[0] if NoneType in kinds and len(rest) == 1 else annotation


def _kind(field: FieldInfo) -> Any:
    """The type that typer parses: bool, int, float, str, a choice of words, and for anything else a str."""
    kind = _inner(field.annotation)
    is_choice = get_origin(kind) is Literal and all(isinstance(word, str) for word in get_args(kind))
    return kind if is_choice or kind in (bool, int, float, str) else str


def command(name: str, run: Callable[..., None], parameters: Iterable[inspect.Parameter], help: str) -> Any:
    """A command of typer with these parameters; `run` gets only the values that were really given."""

    def call(context: typer.Context, **values: Any) -> None:
        run(**{name: value for name, value in values.items() if _is_given(context, name)})

    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    signature = inspect.Signature([context, *parameters])
    call.__signature__ = signature  # type: ignore[attr-defined] # typer reads both
    call.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    single = typer.Typer(add_completion=False)
    single.command(name, help=help)(call)
    return typer.main.get_command(single)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
