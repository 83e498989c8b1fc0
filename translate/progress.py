"""Bars on the terminal for work that takes a while."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(title: str, total: int, quiet: bool = False) -> Iterator[Callable[[], object]]:
    """A bar on the terminal inside the `with`, advanced by the function, from any thread; nothing elsewhere.

    quiet: nothing on a terminal either.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    description = TextColumn("{task.description}", markup=False)  # a folder's name may have brackets
    columns = (description, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)


@contextmanager
def byte_progress_bar(title: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], object]]:
    """A bar of bytes on the terminal inside the `with`, advanced by the function; elsewhere one line, the title.

    total, done: bytes of all the work, None if that is not known, and of what was done before.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        print(title, file=sys.stderr)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total, completed=done)
        yield lambda amount: progress.advance(task, amount)
