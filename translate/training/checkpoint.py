"""Checkpoints: folders by step, complete or absent. The fourth link of a batch's journey.

Before this, `Trainer` (trainer.py) hands over the state of the run; it continues from it, too. Next is the model file
(../applying/model_file.py), which a run writes at the same steps. A folder is written under a temporary name, flushed
and renamed.

    checkpoints/000012000/model.safetensors       the live weights and buffers of every network
                          training.safetensors    averages, optimizers, pools, random generators
                          state.json              step, and size and sha256 of the two files

No pickle, and no wall-clock time in the tensor files: two runs that computed the same have the same bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from translate.applying.model_file import contiguous_on_cpu
from translate.atomic_files import TEMPORARY, explain_os_error, flush_folder, size_and_sha256, write_file
from translate.errors import CheckpointError, NonFiniteError

FORMAT = 1
MODEL, TRAINING, STATE = "model.safetensors", "training.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds: the step, and CPU tensors by name."""

    step: int
    model: dict[str, Tensor]
    training: dict[str, Tensor]


def write(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write `checkpoint` into a new folder under `folder`, which is returned.

    Raises NonFiniteError if a tensor holds a NaN or an infinity, CheckpointError if the disk is full; then nothing is
    left behind.
    """
    refuse_non_finite(checkpoint)
    target = folder / f"{checkpoint.step:09d}"
    aside = folder / f"{TEMPORARY}{target.name}"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        files = {
            MODEL: write_file(aside / MODEL, save(contiguous_on_cpu(checkpoint.model))),
            TRAINING: write_file(aside / TRAINING, save(contiguous_on_cpu(checkpoint.training))),
        }
        state = {"format": FORMAT, "step": checkpoint.step, "files": files}
        write_file(aside / STATE, json.dumps(state, indent=2).encode())
        shutil.rmtree(target, ignore_errors=True)  # a damaged one of the same step
        aside.rename(target)
        flush_folder(folder)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise explain_os_error(error, target) from error
    return target


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest undamaged checkpoint, and a sentence for each newer one that is damaged.

    Raises CheckpointError if there are checkpoints but all are damaged.
    """
    complaints: list[str] = []
    for path in sorted(_complete(folder), reverse=True):
        try:
            return read(path), [f"{complaint} The one before it is used." for complaint in complaints]
        except CheckpointError as error:
            complaints.append(str(error))
    if complaints:
        raise CheckpointError(f"No checkpoint in {folder} is whole: {' '.join(complaints)}")
    return None, []


def read(path: Path) -> Checkpoint:
    """Read one checkpoint folder. Raises CheckpointError if it is damaged or written by a newer version."""
    try:
        state = json.loads((path / STATE).read_text())
        if state["format"] > FORMAT:
            raise CheckpointError(f"The checkpoint {path} has format {state['format']}; upgrade translate to read it.")
        if state["step"] != int(path.name):
            raise CheckpointError(f"The checkpoint {path} is damaged: {STATE} says that it is of step {state['step']}.")
        for name in (MODEL, TRAINING):
            if size_and_sha256((path / name).read_bytes()) != state["files"][name]:
                raise CheckpointError(f"The checkpoint {path} is damaged: {name} is not what was written.")
        return Checkpoint(state["step"], load_file(path / MODEL), load_file(path / TRAINING))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"The checkpoint {path} is damaged: {error}.") from error


def prune(last: Path, keep: int) -> None:
    """Delete all but the `keep` checkpoints up to `last`, and what an interrupted write left.

    Later ones are deleted too: they are damaged, or the run would have continued from them.
    """
    paths = sorted(_complete(last.parent))
    end = paths.index(last) + 1
    for path in [*paths[: max(0, end - keep)], *paths[end:]]:
        shutil.rmtree(path)
    for path in last.parent.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path)


def _complete(folder: Path) -> Iterable[Path]:
    return (path for path in folder.glob("[0-9]*") if path.is_dir())


def refuse_non_finite(checkpoint: Checkpoint) -> None:
    """Raise NonFiniteError if a tensor holds a NaN or an infinity."""
    for name, tensor in (checkpoint.model | checkpoint.training).items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise NonFiniteError(
                f"Step {checkpoint.step}: {name} holds a NaN or an infinity, so no checkpoint was written. "
                f"The last one is whole: lower the learning rate or try --precision fp32, and continue with --resume."
            )
