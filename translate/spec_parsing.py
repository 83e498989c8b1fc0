"""Parses specs such as "resnet(blocks=9)", "gray(b)" and "crop,zoom(0.5, 1)", without evaluating them as code."""

from __future__ import annotations

import ast
from typing import Any, NamedTuple


class Call(NamedTuple):
    """A parsed spec: a name, positional arguments (names count as strings), and keyword arguments."""

    name: str
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012, never changed


def parse_call(text: str) -> Call | None:
    """Parse a spec with literal arguments, or a name alone. None for any other text."""
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
    """Split at commas outside parentheses. Items are stripped, and empty ones are left out."""
    items, depth = [""], 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            items.append("")
        else:
            items[-1] += character
    return [item.strip() for item in items if item.strip()]
