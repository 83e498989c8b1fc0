"""What a training run prints: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Bar(Progress):
    """A bar with the losses under it, in as many lines as they need."""

    losses = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield Text(self.losses)


class Terminal:
    """Prints the progress of a run to stderr; nothing if quiet."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, quiet=quiet)
        self.bar: _Bar | None = None

    @contextmanager
    def showing(self, step: int, steps: int) -> Iterator[None]:
        """Inside, a live bar is shown if stderr is a terminal."""
        if not self.console.is_terminal:
            yield
            return
        columns = (
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(30),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        with _Bar(*columns, console=self.console) as self.bar:
            self.bar.add_task("", completed=step, total=steps)
            yield
        self.bar = None

    def say(self, sentence: str) -> None:
        """Print a sentence; above the bar if there is one."""
        self.console.print(sentence, markup=False, soft_wrap=True)

    def tick(self, metrics: Mapping[str, Any], steps: int, seconds_left: float) -> None:
        """Show a line of metrics.jsonl (`metrics`)."""
        speed = f"{metrics['images_per_second']:.4g} images/s, data wait {metrics['data_wait']:.1%}"
        losses = "  ".join(f"{name} {value:.3g}" for name, value in metrics["losses"].items())
        if self.bar:
            self.bar.losses = losses
            self.bar.update(self.bar.task_ids[0], completed=metrics["step"], description=speed)
            return
        left = f"{int(seconds_left) // 60}:{int(seconds_left) % 60:02d} left"
        self.say(f"step {metrics['step']}/{steps}  {speed}, {left}  {losses}")
