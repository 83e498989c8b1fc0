"""Formats numbers and names for messages."""

from __future__ import annotations

from collections.abc import Sequence


def plural(number: int, noun: str) -> str:
    """A number and its noun: "1,200 images", "1 image"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def first_few(names: Sequence[str], separator: str = ", ") -> str:
    """The first three names, and the number of the others: "a, b, c and 5 more"."""
    more = len(names) - 3
    return separator.join(names[:3]) + (f" and {more:,} more" if more > 0 else "")


def format_bytes(count: int) -> str:
    """A number of bytes in decimal units: 117 MB, 2.1 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.{0 if count >= 10 * size else 1}f} {unit}"
    return f"{count} bytes"


def printable(name: str) -> str:
    """A name with the bytes that are no UTF-8 spelled out, so that it can be printed and written to any file."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # lone surrogates that stand for no byte
        return name.encode("utf-8", "backslashreplace").decode("utf-8")
