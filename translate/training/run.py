"""A run: the folder that holds one training, and `fit`, which starts or continues one.

run.toml                 the resolved options, and what they were resolved on; `fit --config run.toml` repeats the run
checkpoints/000012000/   see checkpoint.py
model.safetensors        the latest export
samples/000012000.png    held-out images, translated
metrics.jsonl            one line a tick
"""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import tomli_w
import torch

from translate.applying.inference import needs_no_input
from translate.applying.model_file import EXPORT, load_model, read_manifest, write_model_file
from translate.applying.sampler import Sampler, sheet
from translate.applying.translator import Translator
from translate.atomic_files import TEMPORARY, explain_os_error, write_atomically
from translate.data import images as pictures
from translate.data.batches.training_data import TrainingData
from translate.data.files import writers
from translate.data.loading import open_training_data
from translate.data.options import read_toml
from translate.device import cpu_name, resolve_device, resolve_precision, use_tf32
from translate.distributed.group import Group, check_batch, own_device, process_group
from translate.errors import CheckpointError, UsageError
from translate.formatting import plural
from translate.model import Model, find_model
from translate.plugins import registry
from translate.training import checkpoint as checkpoints
from translate.training.checkpoint import Checkpoint
from translate.training.compile import should_compile
from translate.training.config import FitConfig, complete, length_of
from translate.training.ema import EMA
from translate.training.memory import explained
from translate.training.terminal import Terminal
from translate.training.trainer import Observer, Trainer, ranks_of, timed_steps
from translate.version import __version__

SAMPLES = 6
SHEET = 64
DEFAULT_EPOCHS = 200
TOO_LONG = 0.1
"""Share of the time spent on waiting for data from which on the user is told what would help."""


def fit(config: FitConfig, *, resume: bool = False) -> Path:
    """Train a model; the folder of the run.

    resume: continue the run in `config.run`, or start it if there is none. Only options that are set in `config` are
    compared with those of the run: it may be lengthened, anything else that differs is refused.

    Raises TranslateError for anything that a user can mend. On SIGTERM or Ctrl-C a checkpoint is written, then
    SystemExit. Of the ranks that torchrun starts, the first alone reads and writes the folder, and tells.
    """
    kind = find_model(config.model)
    with process_group() as group:
        folder, stored = group.on_first_rank(lambda: run_folder(config, resume))
        with group.raise_on_all_ranks():
            if config.devices > 1 and group.world_size == 1:
                raise UsageError("fit() trains in this process; use `translate fit --devices`, or torchrun.")
            config = complete(kind, config, stored)
            device = own_device(resolve_device(config.device))
            check_batch(config.batch, group.world_size)
            if config.deterministic:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
                torch.use_deterministic_algorithms(True)
            data = open_training_data(kind.data, config, device, (group.rank, group.world_size))
        with data:
            return _fit(kind, config, folder, stored, data, group)


def _fit(
    kind: type[Model[Any]],
    config: FitConfig,
    folder: Path,
    stored: dict[str, Any] | None,
    data: TrainingData,
    group: Group,
) -> Path:
    """`fit`, with everything that it needs found."""
    terminal, device = Terminal(quiet=group.rank > 0), data.device
    for note in data.notes:
        terminal.say(note)
    precision = resolve_precision(config.precision, device, data.spec.deep)
    use_tf32(not data.spec.deep)

    def trainer(steps: int) -> Trainer:
        with group.raise_on_all_ranks():
            return Trainer(kind, data, config, steps=steps, device=device, precision=precision, group=group)

    steps, asked = _steps(config, data, trainer), length_of(config)
    with group.raise_on_all_ranks():
        if stored is not None:
            _check_continues(folder, stored, data, steps)
            if steps == stored["fit"]["steps"]:
                asked = stored["asked"]
    started = trainer(steps)
    config = config.model_copy(update={"precision": precision, "steps": steps, "epochs": None, "minutes": None})
    images = " + ".join(f"{domain['images']:,}" for domain in data.fingerprint.values())
    place = f"{group.world_size} × {device.type}" if group.world_size > 1 else device
    where = f"{data.shape[1]}×{data.shape[0]}, {place}, {precision}"
    terminal.say(f"{kind.name}: {images} images, {plural(steps, 'step')} of {config.batch} at {where}.")
    with group.raise_on_all_ranks():
        data.batch(0)  # what cannot be augmented is said before there is a folder
        run = Run(folder, terminal, config, steps, data.held_out(SAMPLES))
    found = group.on_first_rank(lambda: run.open(config, asked, data, group.world_size))
    with group.raise_on_all_ranks():
        if found is not None:
            started.restore(found)
        if group.rank == 0:  # the others get its weights
            run.resume(started, found)
            if found is None and config.init:
                _start_from(started, config.init)
    with explained(started):
        return run.train(started) if group.rank == 0 else _follow(run, started)


class Follower(Observer):
    """A rank beside the first, which alone writes and tells."""

    def save(self, trainer: Trainer) -> None:
        """Give the first rank what it writes."""
        trainer.checkpoint()


def _follow(run: Run, trainer: Trainer) -> Path:
    """Train on a rank beside the first."""
    with trainer.group.raise_on_all_ranks():
        pass  # the first draws samples
    signal = trainer.train(Follower(), run.checkpoint_every)
    if signal is not None:
        raise SystemExit(128 + signal)
    return run.folder


def run_folder(config: FitConfig, resume: bool) -> tuple[Path, dict[str, Any] | None]:
    """The folder of the run, and the run.toml in it if that run is to go on. Raises UsageError if it is not free."""
    if resume and not config.run:
        raise UsageError("--resume continues the run in --run DIR; say which.")
    folder = Path(config.run) if config.run else _free_folder(config.model)
    if resume and (folder / "run.toml").exists():
        return folder, read_toml(folder / "run.toml")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; choose another --run.")
    if folder.exists() and any(not path.name.startswith(TEMPORARY) for path in folder.iterdir()):
        remedy = "choose another --run" if resume else "continue its run with --resume, or choose another --run"
        raise UsageError(f"{folder} exists and is not empty; {remedy}.")
    return folder, None


def _free_folder(model: str) -> Path:
    number = 1
    while (folder := Path("runs") / f"{model}-{number}").exists():
        number += 1
    return folder


def _check_continues(folder: Path, stored: Mapping[str, Any], data: TrainingData, steps: int) -> None:
    """Raise TranslateError if the images or augmentations are others, or the run would become shorter."""
    for name, before in stored["data"].items():
        if before != (now := data.fingerprint[name]):
            what = f"{before['images']} images then, {now['images']} now, by name and size not the same"
            raise CheckpointError(f"The images of domain {name!r} have changed since {folder} was started: {what}.")
    if stored.get("augment_files", {}) != data.augment_files:
        raise CheckpointError(f"What the files of --augment say has changed since {folder} was started.")
    if steps < stored["fit"]["steps"]:
        raise UsageError(f"{folder} has {stored['fit']['steps']} steps; it may be lengthened, not cut to {steps}.")


def _steps(config: FitConfig, data: TrainingData, trainer: Callable[[int], Trainer]) -> int:
    """The length of the run in steps; an epoch covers the larger domain."""
    if config.steps is not None:
        return config.steps
    if config.minutes is not None:
        with explained(thrown_away := trainer(sys.maxsize)):
            steps = timed_steps(thrown_away, config.minutes)
        if thrown_away.stepper.compile and not should_compile(
            config.compile, data.device, steps
        ):  # so it must be timed as it is
            with explained(thrown_away := trainer(steps)):
                steps = timed_steps(thrown_away, config.minutes)
        return steps
    return max(1, math.ceil((config.epochs or DEFAULT_EPOCHS) * data.epoch / config.batch))


@torch.no_grad()
def _start_from(trainer: Trainer, path: str) -> None:
    """Fine-tuning: take over the weights of a model file. Raises CheckpointError if it is of another model."""
    manifest, config = read_manifest(path), trainer.config
    if manifest.model != config.model:
        raise CheckpointError(f"--init {path} is a model of {manifest.model}, not of {config.model}.")
    weights, live = load_model(path, trainer.device).state_dict(), trainer.model.state_dict()
    for name in trainer.exported():
        if name not in weights or weights[name].shape != live[name].shape:
            others = [f"{n} = {v!r}" for n, v in manifest.config.items() if v != config.options.get(n)]
            raise CheckpointError(
                f"--init {path} does not fit: its model has no {name} of shape {tuple(live[name].shape)}. "
                f"It was trained with {', '.join(others) or 'other images'}."
            )
        live[name].copy_(weights[name])
    trainer.ema = EMA(trainer.model)


class Run(Observer):
    """The folder of one training run, and what is written into it."""

    def __init__(self, folder: Path, terminal: Terminal, config: FitConfig, steps: int, held_out: Any) -> None:
        """held_out: a batch, for the sample grids."""
        self.folder = folder
        self.terminal = terminal
        self.checkpoint_every = config.checkpoint_every or max(200, min(2000, steps // 10))
        self.keep = config.keep
        self.settings: dict[str, Any] = {}
        self.seconds = 0.0  # of training, over all sessions
        self._before = 0.0  # of these, in sessions before this one
        self._mark = Mark()
        self._held_out = held_out
        self._sampled = folder / "samples"

    def open(self, config: FitConfig, asked: Mapping[str, Any], data: TrainingData, ranks: int) -> Checkpoint | None:
        """Write run.toml; the newest whole checkpoint, if there is one."""
        fitted = config.model_dump(mode="json", exclude_none=True, exclude={"options", "run", "devices"})
        options = {name: value for name, value in config.options.items() if value is not None}
        self.settings = {
            "fit": fitted,
            "options": options,
            "asked": dict(asked),
            "data": data.fingerprint,
            "augment_files": data.augment_files,
            "environment": _environment(config, ranks),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, self.folder) from error
        write_atomically(self.folder / "run.toml", tomli_w.dumps(self.settings).encode())
        found, complaints = checkpoints.newest(self.folder / "checkpoints")
        for complaint in complaints:
            self.terminal.say(complaint)
        return found

    def resume(self, trainer: Trainer, found: Checkpoint | None) -> None:
        """Cut the metrics off where the trainer stands, and say what it goes on from, if from anything."""
        metrics = self.folder / "metrics.jsonl"
        if found is not None:
            self.terminal.say(f"Resuming {self.folder} at step {found.step} of {trainer.steps}.")
            if (before := ranks_of(found)) != (now := trainer.group.world_size):
                self.terminal.say(
                    f"The checkpoint was written on {before} devices, and there are {now} now: image pools start "
                    "empty, and other random numbers are drawn than would have been."
                )
        if metrics.exists():
            kept = [line for line in metrics.read_text().splitlines() if _step_of(line) <= trainer.step]
            write_atomically(metrics, "".join(f"{line}\n" for line in kept).encode())
            self.seconds = json.loads(kept[-1])["seconds"] if kept else 0.0
            self._before = self.seconds

    def train(self, trainer: Trainer) -> Path:
        """Train to the end and tell the observers; the folder. Raises SystemExit after a signal."""
        registry.observe("run_started", run=self.folder, config=self.settings)
        reason: Literal["done", "interrupted", "failed"] = "failed"
        try:
            with self.terminal.showing(trainer.step, trainer.steps):
                with trainer.group.raise_on_all_ranks():
                    if trainer.step == 0:
                        self._sample(trainer)
                self._mark = Mark(trainer.step, trainer.waited)
                signal = trainer.train(self, self.checkpoint_every)
            reason = "done" if signal is None else "interrupted"
        except KeyboardInterrupt:
            self.terminal.say(f"Stopped at step {trainer.step} without a checkpoint of it.")
            raise
        except OSError as error:  # a full disk, or a folder that is gone
            raise explain_os_error(error, self.folder) from error
        finally:
            registry.observe("run_ended", run=self.folder, reason=reason)
        folder, time_taken = shlex.quote(str(self.folder)), timedelta(seconds=round(self.seconds))
        if signal is not None:
            self.terminal.say(f"Stopped at step {trainer.step} of {trainer.steps}; go on with --run {folder} --resume.")
            raise SystemExit(128 + signal)
        use = f"sample {folder} OUTPUT" if needs_no_input(trainer.model) else f"apply {folder} INPUT OUTPUT"
        wait = trainer.waited / max(self.seconds - self._before, 1e-9)
        steps = plural(trainer.steps, "step")
        self.terminal.say(
            f"{self.folder} is trained: {steps} in {time_taken} (h:mm:ss), data wait {wait:.1%}.\n"
            + (f"Much of the time went to waiting for data: {trainer.data.advice()}\n" if wait > TOO_LONG else "")
            + f"Look at {self._sampled}, then: translate {use}"
        )
        return self.folder

    def stopping(self) -> None:
        """Answer the first Ctrl-C at once; a step may take a while."""
        self.terminal.say("Stopping after this step, with a checkpoint; Ctrl-C again stops without one.")

    def compiled(self, seconds: float, uncompiled: str) -> None:
        """Say what compiling took, or why the run goes on without."""
        if uncompiled:
            self.terminal.say(f"Not compiled ({uncompiled}); the run goes on without, as with --compile off.")
        else:
            self.terminal.say(f"The first step took {seconds:.0f} s, with compiling forward and losses.")

    def tick(self, trainer: Trainer, means: dict[str, float]) -> None:
        """Write a line of metrics and show it."""
        mark, now = self._mark, Mark(trainer.step, trainer.waited)
        seconds = now.clock - mark.clock
        self.seconds += seconds
        metrics = {
            "step": trainer.step,
            "images": trainer.images,
            "progress": trainer.step / trainer.steps,
            "seconds": round(self.seconds, 3),
            "images_per_second": (trainer.step - mark.step) * trainer.config.batch / max(seconds, 1e-9),
            "data_wait": (now.waited - mark.waited) / max(seconds, 1e-9),
            "losses": means,
        }
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(metrics) + "\n")
        left = seconds / max(1, trainer.step - mark.step) * (trainer.steps - trainer.step)
        self.terminal.tick(metrics, trainer.steps, left)
        registry.observe("run_ticked", run=self.folder, metrics=metrics)
        self._mark = now

    def save(self, trainer: Trainer) -> None:
        """Write sample grid, model file and checkpoint, in this order: a resumed run writes the first two again."""
        checkpoint = trainer.checkpoint()
        checkpoints.refuse_non_finite(checkpoint)  # before the export, too
        self._sampled = self._sample(trainer)
        about = {"steps": trainer.step, "images": trainer.images, "precision": trainer.precision}
        write_model_file(self.folder / EXPORT, trainer.model, trainer.exported(), about)
        written = checkpoints.write(self.folder / "checkpoints", checkpoint)
        checkpoints.prune(written, self.keep)
        registry.observe("run_saved", run=self.folder, checkpoint=written, samples=self._sampled)
        self._mark = replace(self._mark, clock=time.perf_counter())

    def _sample(self, trainer: Trainer) -> Path:
        """A grid of the same held-out images as ever, translated; of a model without an input, of the same seeds."""
        path = self.folder / "samples" / f"{trainer.step:09d}.png"
        path.parent.mkdir(exist_ok=True)
        with trainer.ema.applied(trainer.model):
            if needs_no_input(trainer.model):
                sampler = Sampler(trainer.model, trainer.device, trainer.precision, batch=trainer.config.batch)
                classes = max(1, len(sampler.domain.classes))
                writers.save(sheet(sampler, max(1, SHEET // classes) * classes), path)
            else:
                self._save_translations(trainer, path)
        return path

    def _save_translations(self, trainer: Trainer, path: Path) -> None:
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
            rows = list(zip(*(pictures.as_uint8(column.cpu()) for column in columns), strict=True))
            writers.save(pictures.grid(rows, titles), path)


@dataclass(frozen=True)
class Mark:
    """Where a span of steps began: step, seconds waited for data so far, clock in seconds."""

    step: int = 0
    waited: float = 0.0
    clock: float = field(default_factory=time.perf_counter)


def _step_of(line: str) -> float:
    """The step of a line of metrics; infinite for a line that a killed process left half."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _environment(config: FitConfig, ranks: int) -> dict[str, Any]:
    """What the run was resolved on, for whoever wants to repeat it."""
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
        "devices": ranks,
    }
