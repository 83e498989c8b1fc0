"""What pydantic finds wrong with values, in sentences for users."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pydantic import ValidationError

from translate.errors import did_you_mean

Location = tuple[int | str, ...]


def explain_problems(
    error: ValidationError, kind: str, name: Callable[[Location], str], known: Callable[[Location], Iterable[str]]
) -> list[str]:
    """A sentence for each problem; for an unknown name a second one, with near matches.

    kind: what a value is called, "field" or "option". name: writes a value's location as the user does, () as "".
    known: the names that exist at a location.
    """
    sentences = []
    for problem in error.errors(include_url=False):
        location = problem["loc"]
        named = name(location)
        if problem["type"] == "extra_forbidden":
            sentences.append(f"There is no {kind} {named}. {did_you_mean(str(location[-1]), known(location))}")
        elif problem["type"] == "missing":
            sentences.append(f"{named} is required.")
        elif problem["type"] == "value_error":
            sentences.append(f"{named}: {problem['ctx']['error']}".removeprefix(": "))
        else:
            sentences.append(f"{named}: {problem['msg']}, got {problem['input']!r}.")
    return sentences


def list_problems(error: ValidationError) -> str:
    """The problems on one line, without a full stop: "blocks: Input should be a valid integer, got 'x'"."""
    return "; ".join(
        f"{'.'.join(map(str, each['loc']))}: {each['msg']}, got {each['input']!r}" for each in error.errors()
    )
