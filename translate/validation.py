"""What pydantic finds wrong with values, in words for users."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pydantic import ValidationError

from translate.errors import did_you_mean

Location = tuple[int | str, ...]


def explain_problems(
    error: ValidationError, kind: str, name: Callable[[Location], str], known: Callable[[Location], Iterable[str]]
) -> list[str]:
    """One sentence for each problem, without the full stop, and in lower case unless it begins with a name.

    kind: what a value is called, "field" or "option". name: writes a value's location as the user does.
    known: the names that exist at a location, for near matches of an unknown one.
    """
    sentences = []
    for problem in error.errors(include_url=False):
        location = problem["loc"]
        field = name(location)
        if problem["type"] == "extra_forbidden":
            sentences.append(f"there is no {kind} {field} ({did_you_mean(str(location[-1]), known(location))})")
        elif problem["type"] == "missing":
            sentences.append(f"{field} is missing")
        elif problem["type"] == "value_error":
            sentences.append(f"{field}: {problem['ctx']['error']}".removeprefix(": "))
        else:
            sentences.append(f"{field}: {problem['msg']}, got {problem['input']!r}")
    return sentences
