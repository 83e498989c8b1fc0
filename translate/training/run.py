"""`fit`: start or continue a training run.

Resolve the options, open the data, choose the number of steps, make the trainer, restore a checkpoint, train. What is
written into the run's folder is in run_folder.py.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch

from translate.applying.inference import generates_from_noise
from translate.applying.model_file import load_model, read_manifest
from translate.atomic_files import TEMPORARY, explain_os_error
from translate.data.batches.training_data import TrainingData
from translate.data.loading import open_training_data
from translate.data.options import read_toml
from translate.device import resolve_device, resolve_precision, use_tf32
from translate.distributed.group import Group
from translate.distributed.launch import check_batch, device_of_rank, process_group
from translate.errors import CheckpointError, UsageError
from translate.formatting import plural
from translate.model import Model, find_model
from translate.plugins import registry
from translate.training.compile import should_compile
from translate.training.config import FitConfig, complete, length_of
from translate.training.ema import EMA
from translate.training.memory import explain_out_of_memory
from translate.training.run_folder import RunFolder
from translate.training.terminal import Terminal
from translate.training.trainer import Observer, Trainer

NUM_HELD_OUT = 6
"""Held-out images on a sample grid."""
DEFAULT_EPOCHS = 200
CHECKPOINT_SHARE = 0.03
"""Share of the time of a run with --minutes that is kept for ticks, samples and checkpoints."""
LONG_WAIT = 0.1
"""Share of the time spent waiting for data above which the user is advised what would help."""


def fit(config: FitConfig, *, resume: bool = False) -> Path:
    """Train a model; returns the folder of the run.

    resume: continue the run in `config.run`, or start it if there is none. Only options that are set in `config` are
    compared with those of the run. It may be lengthened; any other difference is an error.

    Raises TranslateError for anything that a user can mend. On SIGTERM or Ctrl-C a checkpoint is written, then
    SystemExit is raised. Of the ranks that torchrun starts, only the first reads and writes the folder, and prints.
    """
    model_class = find_model(config.model)
    with process_group() as group:
        folder, stored = group.on_first_rank(lambda: find_folder(config, resume))
        with group.raise_on_all_ranks():
            if config.devices > 1 and group.world_size == 1:
                raise UsageError("fit() trains in this process; use `translate fit --devices`, or torchrun.")
            config = complete(model_class, config, stored)
            device = device_of_rank(resolve_device(config.device))
            check_batch(config.batch, group.world_size)
            if config.deterministic:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
                torch.use_deterministic_algorithms(True)
            data = open_training_data(model_class.data, config, device, (group.rank, group.world_size))
        with data:
            return _fit(model_class, config, folder, stored, data, group)


def _fit(
    model_class: type[Model[Any]],
    config: FitConfig,
    folder: Path,
    stored: dict[str, Any] | None,
    data: TrainingData,
    group: Group,
) -> Path:
    """`fit`, once the options are complete and the data is open. stored: run.toml of the run that is continued."""
    terminal, device = Terminal(quiet=group.rank > 0), data.device
    for note in data.notes:
        terminal.say(note)
    precision = resolve_precision(config.precision, device, data.spec.deep)
    use_tf32(not data.spec.deep)

    def make_trainer(steps: int) -> Trainer:
        with group.raise_on_all_ranks():
            return Trainer(model_class, data, config, steps=steps, device=device, precision=precision, group=group)

    steps, requested_length = _num_steps(config, data, make_trainer), length_of(config)
    with group.raise_on_all_ranks():
        if stored is not None:
            _check_continues(folder, stored, data, steps)
            if steps == stored["fit"]["steps"]:
                requested_length = stored["asked"]
    trainer = make_trainer(steps)
    config = config.model_copy(update={"precision": precision, "steps": steps, "epochs": None, "minutes": None})
    images = " + ".join(f"{domain['images']:,}" for domain in data.fingerprint.values())
    devices = f"{group.world_size} × {device.type}" if group.world_size > 1 else device
    where = f"{data.shape[1]}×{data.shape[0]}, {devices}, {precision}"
    terminal.say(f"{model_class.name}: {images} images, {plural(steps, 'step')} of {config.batch} at {where}.")
    with group.raise_on_all_ranks():
        data.batch(0)  # an image that cannot be augmented is an error before there is a folder
        run = RunFolder(folder, terminal, config, steps, data.held_out(NUM_HELD_OUT))
    checkpoint = group.on_first_rank(lambda: run.open(config, requested_length, data, group.world_size))
    with group.raise_on_all_ranks():
        if checkpoint is not None:
            trainer.restore(checkpoint)
        if group.rank == 0:  # the other ranks get its weights
            run.resume(trainer, checkpoint)
            if checkpoint is None and config.init:
                _load_initial_weights(trainer, config.init)
    with explain_out_of_memory(trainer):
        return _train_first_rank(trainer, run) if group.rank == 0 else _train_other_rank(trainer, run)


def _train_first_rank(trainer: Trainer, run: RunFolder) -> Path:
    """Train to the end, and write everything; returns the folder. Raises SystemExit after a signal."""
    say = run.terminal.say
    registry.observe("run_started", run=run.path, config=run.settings)
    reason: Literal["done", "interrupted", "failed"] = "failed"
    try:
        with run.terminal.showing(trainer.step, trainer.steps):
            run.begin(trainer)
            signal = trainer.train(run, run.checkpoint_every)
        reason = "done" if signal is None else "interrupted"
    except KeyboardInterrupt:
        say(f"Stopped at step {trainer.step} without a checkpoint of it.")
        raise
    except OSError as error:  # a full disk, or a folder that is gone
        raise explain_os_error(error, run.path) from error
    finally:
        registry.observe("run_ended", run=run.path, reason=reason)
    folder, time_taken = shlex.quote(str(run.path)), timedelta(seconds=round(run.seconds))
    if signal is not None:
        say(f"Stopped at step {trainer.step} of {trainer.steps}; go on with --run {folder} --resume.")
        raise SystemExit(128 + signal)
    use = f"sample {folder} OUTPUT" if generates_from_noise(trainer.model) else f"apply {folder} INPUT OUTPUT"
    wait = trainer.data_wait_seconds / max(run.session_seconds, 1e-9)
    steps = plural(trainer.steps, "step")
    say(
        f"{run.path} is trained: {steps} in {time_taken} (h:mm:ss), data wait {wait:.1%}.\n"
        + (f"Much of the time went to waiting for data: {trainer.data.advice()}\n" if wait > LONG_WAIT else "")
        + f"Look at {run.latest_samples}, then: translate {use}"
    )
    return run.path


class _OtherRank(Observer):
    """A rank that writes and prints nothing."""

    def save(self, trainer: Trainer) -> None:
        """Send the first rank what belongs to this one in the checkpoint."""
        trainer.checkpoint()


def _train_other_rank(trainer: Trainer, run: RunFolder) -> Path:
    """Train on a rank other than the first."""
    with trainer.group.raise_on_all_ranks():
        pass  # the first rank writes samples
    signal = trainer.train(_OtherRank(), run.checkpoint_every)
    if signal is not None:
        raise SystemExit(128 + signal)
    return run.path


def find_folder(config: FitConfig, resume: bool) -> tuple[Path, dict[str, Any] | None]:
    """The folder of the run, and its run.toml if that run is continued.

    Raises UsageError if a new run would start in a folder that is not empty.
    """
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
    """Raise TranslateError if images or augmentations have changed, or the run would become shorter."""
    for name, before in stored["data"].items():
        if before != (now := data.fingerprint[name]):
            what = f"{before['images']} images then, {now['images']} now, with other names or sizes"
            raise CheckpointError(f"The images of domain {name!r} have changed since {folder} was started: {what}.")
    if stored.get("augment_files", {}) != data.augment_files:
        raise CheckpointError(f"The contents of the --augment files have changed since {folder} was started.")
    if steps < stored["fit"]["steps"]:
        raise UsageError(f"{folder} has {stored['fit']['steps']} steps; it may be lengthened, not cut to {steps}.")


def _num_steps(config: FitConfig, data: TrainingData, make_trainer: Callable[[int], Trainer]) -> int:
    """The length of the run in steps; an epoch covers the larger domain."""
    if config.steps is not None:
        return config.steps
    if config.minutes is not None:
        with explain_out_of_memory(trial := make_trainer(sys.maxsize)):
            steps = _num_steps_in(config.minutes, trial)
        if trial.stepper.compile and not should_compile(config.compile, data.device, steps):
            with explain_out_of_memory(trial := make_trainer(steps)):  # timed again, uncompiled as the run will be
                steps = _num_steps_in(config.minutes, trial)
        return steps
    return max(1, math.ceil((config.epochs or DEFAULT_EPOCHS) * data.epoch / config.batch))


def _num_steps_in(minutes: float, trainer: Trainer) -> int:
    """How many steps fit into so many minutes, by running some on a trainer that is thrown away afterwards.

    At least three steps warm up, and until each player has moved; then steps are timed for a twentieth of the time, at
    least three of them.
    """
    started = time.perf_counter()
    rarest = max(state.player.every for state in trainer.stepper.players)
    for _ in range(max(3, rarest)):  # a player's losses compile in its first move
        trainer.advance()
    trainer.stepper.records.check()  # waits for the device
    warm, first = time.perf_counter(), trainer.step
    while trainer.group.all_reduce_max(trainer.step - first < 3 or time.perf_counter() - warm < minutes * 60 / 20):
        trainer.advance()
        trainer.stepper.records.check()
    now = time.perf_counter()
    left = (minutes * 60 - (now - started)) * (1 - CHECKPOINT_SHARE)
    return trainer.group.all_reduce_max(max(1, int(left / ((now - warm) / (trainer.step - first)))))


@torch.no_grad()
def _load_initial_weights(trainer: Trainer, path: str) -> None:
    """Fine-tuning: start from the weights of a model file. Raises CheckpointError if it is of another model."""
    manifest, config = read_manifest(path), trainer.config
    if manifest.model != config.model:
        raise CheckpointError(f"--init {path} is a model of {manifest.model}, not of {config.model}.")
    weights, live = load_model(path, trainer.device).state_dict(), trainer.model.state_dict()
    for name in trainer.exported_tensors():
        if name not in weights or weights[name].shape != live[name].shape:
            others = [f"{n} = {v!r}" for n, v in manifest.config.items() if v != config.options.get(n)]
            raise CheckpointError(
                f"--init {path} does not fit: its model has no {name} of shape {tuple(live[name].shape)}. "
                f"It was trained with {', '.join(others) or 'other images'}."
            )
        live[name].copy_(weights[name])
    trainer.ema = EMA(trainer.model)
