"""Literal calls, as in "resnet(blocks=9)", "gray(b)" or "crop,zoom(0.5, 1)": parsed, never evaluated as code."""

from __future__ import annotations

import ast
from typing import Any, NamedTuple


class Call(NamedTuple):
    """A name, what is in its parentheses by position (a bare word is a string), and by keyword (literals)."""

    name: str
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012, nobody writes to it


def parse_call(text: str) -> Call | None:
    """The call that a text is; a name alone is a call of it; None for anything else."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Name):
            return Call(tree.id)
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
            return None
        arguments = tuple(each.id if isinstance(each, ast.Name) else ast.literal_eval(each) for each in tree.args)
        options = {keyword.arg or "**": ast.literal_eval(keyword.value) for keyword in tree.keywords}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None
    return Call(tree.func.id, arguments, options)


def split_list(text: str) -> list[str]:
    """The items of a list, split at commas that are in no parentheses, and stripped; empty ones are left out."""
    items, depth = [""], 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            items.append("")
        else:
            items[-1] += letter
    return [item.strip() for item in items if item.strip()]
