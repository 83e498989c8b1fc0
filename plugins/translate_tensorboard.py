"""Writes the metrics and sample grids of every run to RUN/tensorboard, for `tensorboard --logdir runs`.

It does nothing unless the package `tensorboard` is installed (`pip install "translate-img2img[tensorboard]"`). A run is
the same with and without it. To keep `tensorboard` installed and not write this folder, limit the plugins with
TRANSLATE_PLUGINS.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import translate

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_writers: dict[Path, SummaryWriter] = {}  # by folder of a run in progress


@translate.hookimpl
def run_started(run: Path) -> None:
    if find_spec("tensorboard") is None:
        return
    from torch.utils.tensorboard import SummaryWriter

    # drops events after the checkpoint from which the run resumes
    _writers[run] = SummaryWriter(str(run / "tensorboard"), purge_step=_last_step(run) + 1)


@translate.hookimpl
def run_ticked(run: Path, metrics: Mapping[str, Any]) -> None:
    if run not in _writers:
        return
    step = metrics["step"]
    for name, value in metrics["losses"].items():
        player, _, term = name.partition(".")
        _writers[run].add_scalar(f"{player}/{term}", value, step)
    for name in ("images_per_second", "data_wait"):
        _writers[run].add_scalar(f"speed/{name}", metrics[name], step)


@translate.hookimpl
def run_saved(run: Path, samples: Path) -> None:
    if run not in _writers or not samples.is_file():
        return
    from translate.data.files.readers import decode

    grid = decode(samples.read_bytes(), str(samples))
    _writers[run].add_image("samples", grid, int(samples.stem))
    _writers[run].flush()


@translate.hookimpl
def run_ended(run: Path) -> None:
    if run in _writers:
        _writers.pop(run).close()


def _last_step(run: Path) -> int:
    """The step from which a run resumes, which is that of its last line of metrics; 0 for a new run."""
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return int(json.loads(lines[-1])["step"]) if lines else 0
