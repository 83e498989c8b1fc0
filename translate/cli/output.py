"""Prints tables for people and JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under column names: with rich's frames on a terminal, otherwise as aligned lines without a limit."""
    if not sys.stdout.isatty():
        widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
        for cells in (columns, *rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    framed = Table(box=SIMPLE_HEAD)
    for column in columns:
        framed.add_column(column, overflow="fold")  # wraps long cells instead of cutting them off
    for cells in rows:
        framed.add_row(*cells)
    Console(markup=False, highlight=False).print(framed)


def first_line(text: str | None) -> str:
    """The first line of a docstring, or an empty string."""
    return (text or "").strip().partition("\n")[0]
