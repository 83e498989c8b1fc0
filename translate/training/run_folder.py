"""The folder of one training run, and everything that is written into it.

run.toml                 the resolved options, and what they were resolved on; `fit --config run.toml` repeats the run
checkpoints/000012000/   see checkpoint.py
model.safetensors        the latest export
samples/000012000.png    held-out images, translated
metrics.jsonl            one line a tick
"""

from __future__ import annotations

import json
import math
import platform
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w
import torch

from translate.applying.inference import generates_from_noise
from translate.applying.model_file import EXPORT, write_model_file
from translate.applying.sampler import Sampler, sample_grid
from translate.applying.translator import Translator
from translate.atomic_files import explain_os_error, write_atomically
from translate.contact_sheet import grid
from translate.data.batches.training_data import TrainingData
from translate.data.files import writers
from translate.data.images import as_pixels
from translate.device import cpu_name, resolve_device
from translate.plugins import registry
from translate.training import checkpoint as checkpoints
from translate.training.checkpoint import Checkpoint
from translate.training.config import FitConfig
from translate.training.terminal import Terminal
from translate.training.trainer import Observer, Trainer, world_size_of
from translate.version import __version__

NUM_GENERATED = 64
"""Images on a sample grid of a model without an input."""


class RunFolder(Observer):
    """Writes run.toml, metrics, sample grids, exports and checkpoints of one run, and shows its progress."""

    def __init__(self, path: Path, terminal: Terminal, config: FitConfig, steps: int, held_out: Any) -> None:
        """held_out: a batch, for the sample grids."""
        self.path = path
        self.terminal = terminal
        self.checkpoint_every = config.checkpoint_every or max(200, min(2000, steps // 10))
        self.keep = config.keep
        self.settings: dict[str, Any] = {}
        self.seconds = 0.0  # of training, in all sessions
        self.latest_samples = path / "samples"
        self._seconds_before = 0.0  # of training, in sessions before this one
        self._tick_start = TickStart()
        self._held_out = held_out

    def open(
        self, config: FitConfig, requested_length: Mapping[str, Any], data: TrainingData, world_size: int
    ) -> Checkpoint | None:
        """Create the folder and write run.toml. Returns the newest undamaged checkpoint, None if there is none."""
        fitted = config.model_dump(mode="json", exclude_none=True, exclude={"options", "run", "devices"})
        options = {name: value for name, value in config.options.items() if value is not None}
        self.settings = {
            "fit": fitted,
            "options": options,
            "asked": dict(requested_length),
            "data": data.fingerprint,
            "augment_files": data.augment_files,
            "environment": _environment(config, world_size),
        }
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, self.path) from error
        write_atomically(self.path / "run.toml", tomli_w.dumps(self.settings).encode())
        checkpoint, complaints = checkpoints.newest(self.path / "checkpoints")
        for complaint in complaints:
            self.terminal.say(complaint)
        return checkpoint

    def resume(self, trainer: Trainer, checkpoint: Checkpoint | None) -> None:
        """Remove the metrics of steps after the trainer's, and print where the run continues if it does."""
        metrics = self.path / "metrics.jsonl"
        if checkpoint is not None:
            self.terminal.say(f"Resuming {self.path} at step {checkpoint.step} of {trainer.steps}.")
            if (before := world_size_of(checkpoint)) != (now := trainer.group.world_size):
                self.terminal.say(
                    f"The checkpoint was written on {before} devices, and there are {now} now: image pools start "
                    "empty, and the random numbers are not those of an uninterrupted run."
                )
        if metrics.exists():
            kept = [line for line in metrics.read_text().splitlines() if _step_of(line) <= trainer.step]
            write_atomically(metrics, "".join(f"{line}\n" for line in kept).encode())
            self.seconds = json.loads(kept[-1])["seconds"] if kept else 0.0
            self._seconds_before = self.seconds

    def begin(self, trainer: Trainer) -> None:
        """Write the sample grid of an untrained model, and start the clock."""
        with trainer.group.raise_on_all_ranks():
            if trainer.step == 0:
                self._write_samples(trainer)
        self._tick_start = TickStart(trainer.step, trainer.data_wait_seconds)

    @property
    def session_seconds(self) -> float:
        """The seconds of training since this process began or resumed the run."""
        return self.seconds - self._seconds_before

    # ------------------------------------------------------------------ what the trainer reports

    def stopping(self) -> None:
        """Answer the first Ctrl-C at once; a step may take a while."""
        self.terminal.say("Stopping after this step, with a checkpoint; Ctrl-C again stops without one.")

    def compiled(self, seconds: float, compile_error: str) -> None:
        """Print how long compiling took, or why the run continues uncompiled."""
        if compile_error:
            self.terminal.say(f"Not compiled ({compile_error}); the run goes on without, as with --compile off.")
        else:
            self.terminal.say(f"The first step took {seconds:.0f} s, with compiling forward and losses.")

    def tick(self, trainer: Trainer, means: dict[str, float]) -> None:
        """Write a line of metrics and show it."""
        start, now = self._tick_start, TickStart(trainer.step, trainer.data_wait_seconds)
        seconds = now.clock - start.clock
        self.seconds += seconds
        metrics = {
            "step": trainer.step,
            "images": trainer.images_seen,
            "progress": trainer.step / trainer.steps,
            "seconds": round(self.seconds, 3),
            "images_per_second": (trainer.step - start.step) * trainer.config.batch / max(seconds, 1e-9),
            "data_wait": (now.data_wait_seconds - start.data_wait_seconds) / max(seconds, 1e-9),
            "losses": means,
        }
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(metrics) + "\n")
        seconds_left = seconds / max(1, trainer.step - start.step) * (trainer.steps - trainer.step)
        self.terminal.tick(metrics, trainer.steps, seconds_left)
        registry.observe("run_ticked", run=self.path, metrics=metrics)
        self._tick_start = now

    def save(self, trainer: Trainer) -> None:
        """Write sample grid, model file and checkpoint, in this order: a resumed run writes the first two again."""
        checkpoint = trainer.checkpoint()
        checkpoints.refuse_non_finite(checkpoint)  # before the export, too
        self.latest_samples = self._write_samples(trainer)
        about = {"steps": trainer.step, "images": trainer.images_seen, "precision": trainer.precision}
        write_model_file(self.path / EXPORT, trainer.model, trainer.exported_tensors(), about)
        written = checkpoints.write(self.path / "checkpoints", checkpoint)
        checkpoints.prune(written, self.keep)
        registry.observe("run_saved", run=self.path, checkpoint=written, samples=self.latest_samples)
        self._tick_start = replace(self._tick_start, clock=time.perf_counter())  # saving is no training time

    # ------------------------------------------------------------------ sample grids

    def _write_samples(self, trainer: Trainer) -> Path:
        """Write a grid, always of the same held-out images, or of the same seeds if the model takes no input."""
        path = self.path / "samples" / f"{trainer.step:09d}.png"
        path.parent.mkdir(exist_ok=True)
        with trainer.ema.applied(trainer.model):
            if generates_from_noise(trainer.model):
                sampler = Sampler(trainer.model, trainer.device, trainer.precision, batch=trainer.config.batch)
                classes = max(1, len(sampler.domain.classes))
                writers.save(sample_grid(sampler, max(1, NUM_GENERATED // classes) * classes), path)
            else:
                self._write_translations(trainer, path)
        return path

    def _write_translations(self, trainer: Trainer, path: Path) -> None:
        """Columns: each source domain, its translation, and the true target where the images are paired."""
        held_out = self._held_out
        translator = Translator(trainer.model, trainer.device, trainer.precision)
        columns, titles = [], []
        for source, to in translator.routes:
            given = getattr(held_out, source)
            columns += [given, translator(given, to=to)]
            titles += [trainer.data.spec[source].title or source, f"to {trainer.data.spec[to].title or to}"]
            if trainer.data.paired_held_out:
                columns.append(getattr(held_out, to))
                titles.append("truth")
        if columns:
            rows = list(zip(*(as_pixels(column.cpu()) for column in columns), strict=True))
            writers.save(grid(rows, titles), path)


@dataclass(frozen=True)
class TickStart:
    """Where the steps of a tick begin: step, seconds waited for data so far, clock in seconds."""

    step: int = 0
    data_wait_seconds: float = 0.0
    clock: float = field(default_factory=time.perf_counter)


def _step_of(line: str) -> float:
    """The step of a line of metrics; infinite for an incomplete line, which a killed process may leave."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _environment(config: FitConfig, world_size: int) -> dict[str, Any]:
    """Command line, versions and hardware, for whoever wants to repeat the run."""
    device = resolve_device(config.device)
    distribution, plugin_version = registry.distribution_of(config.model)
    return {
        "command": shlex.join(sys.argv),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "translate": __version__,
        "plugin": distribution,
        "plugin_version": plugin_version,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "devices": world_size,
    }
