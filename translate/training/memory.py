"""The message when memory runs out: what needed it, and which flags need less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from translate.device import fastest_precision, is_out_of_memory
from translate.errors import MemoryFullError
from translate.formatting import format_bytes
from translate.training.trainer import Trainer, unique_tensors


@contextmanager
def explain_out_of_memory(trainer: Trainer) -> Iterator[None]:
    """Inside, running out of memory becomes a MemoryFullError that says what the run holds, and what would help."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        held = unique_tensors(trainer.model), trainer.ema.tensors() | trainer.stepper.tensors()
        weights, state = (sum(tensor.nbytes for tensor in tensors.values()) for tensors in held)
        height, width = trainer.data.shape
        raise MemoryFullError(
            f"Memory ran out in step {trainer.step + 1} on {trainer.device}{_size_of(trainer.device)}. Weights take "
            f"{format_bytes(weights)}, optimizers, averages and pools {format_bytes(state)}; the rest is what --batch "
            f"{trainer.config.batch} at {width}×{height} keeps for backward. What takes less: "
            f"{', '.join(_remedies(trainer))}; start again with these and another --run."
        ) from error


def _size_of(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    free, total = torch.cuda.mem_get_info(device)
    others = total - free - torch.cuda.memory_reserved()
    return f" ({format_bytes(total)}, of which other processes take {format_bytes(others)})"


def _remedies(trainer: Trainer) -> Iterator[str]:
    """Flags that need less memory; first the one that changes the training least."""
    config = trainer.config
    batch, parts, ranks = config.batch, config.micro_batches, trainer.group.world_size
    more = next((n for n in range(parts + 1, batch // ranks + 1) if batch // ranks % n == 0), None)
    if more is not None and not trainer.model.couples_batch:
        yield f"--micro-batches {more} (the same gradient)"
    if trainer.precision == "fp32" and (fast := fastest_precision(trainer.device)) != "fp32":
        yield f"--precision {fast}"
    if trainer.data.storage == "device":
        yield "--store memory"
    least = parts * ranks
    if batch > least:
        yield f"--batch {max(least, batch // 2 // least * least)}"
    yield f"--size {config.size // 2}" if config.preprocess != "none" else "smaller images"
