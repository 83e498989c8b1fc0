"""How `translate bench` measures: rows take turns in one process and are compared turn by turn, for machines are noisy.

A turn is a cycle of the game: as many steps as it takes until the same moves and lazy penalties come again.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from translate.benchmarking.variants import Playing, Variant, variants
from translate.device import HALVES, Precision, is_out_of_memory, keep_freed_memory, resolve_precision, use_tf32
from translate.progress import progress_bar
from translate.training.config import FitConfig

WARM_UP = 3
"""Steps before the clock runs, at least."""


class Row:
    """A variant under measurement.

    seconds: of a step, one number a turn; None where memory did not suffice. peak: bytes on a GPU, without the other
    rows'. calls: of modules in the first steps. note: what is to be said of the row.
    """

    def __init__(self, variant: Variant, config: FitConfig, device: torch.device) -> None:
        self.variant, self.device = variant, device
        self.seconds: list[float | None] = []
        self.first_steps, self.first_seconds, self.calls, self.note = 0, 0.0, 0, ""
        self.peak: int | None = None
        self._held = 0
        self.playing: Playing | None = None
        with self._watched():
            self.playing = Playing(variant, config, device)

    def warm_up(self, steps: int) -> None:
        """Play the first steps; some of what happens in them, such as compiling, happens once."""
        calls: list[None] = []
        hook = None if self.variant.compiled else register_module_forward_pre_hook(lambda *_: calls.append(None))
        self.first_steps, self.first_seconds = steps, steps * (self.play(steps) or 0.0)
        self.calls = len(calls)
        if hook is not None:
            hook.remove()
        if self.playing is not None and self.playing.uncompiled:
            self.note = f"not compiled: {self.playing.uncompiled}"

    def play(self, steps: int) -> float | None:
        """The seconds of one of so many steps; None if there was not enough memory, now or before."""
        started = time.perf_counter()
        with self._watched():
            for _ in range(steps if self.playing else 0):
                assert self.playing is not None
                self.playing.play()
            synchronize(self.device)
        return (time.perf_counter() - started) / steps if self.playing else None

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Inside, what a GPU holds at its peak is noted; if that is too much, the row ends, and the others go on."""
        on_gpu = self.device.type == "cuda"
        before = torch.cuda.memory_allocated(self.device) if on_gpu else 0
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self.note, self.playing = "out of memory", None
        if self.playing is None:
            gc.collect()  # models and their losses refer to each other
        if on_gpu:
            self.peak = max(self.peak or 0, self._held + torch.cuda.max_memory_allocated(self.device) - before)
            self._held += torch.cuda.memory_allocated(self.device) - before


def bench(
    config: FitConfig, device: torch.device, batches: list[int], turns: int | None = None, compile: bool = True
) -> dict[str, Any]:
    """Measure a model for each batch size, as plain values: the device's matrix rate, tables, and the fastest flags.

    turns: by default 9, or 3 where a turn has several steps. compile: whether there is a row for it.
    Raises UsageError, as `fit` does, for a size, a batch or options that the networks cannot take.
    """
    keep_freed_memory()  # as `fit` does, and so is TF32, for the plain loop too
    use_tf32(True)
    precision = resolve_precision("auto", device)
    played = [variant for variant in variants(device) if compile or not variant.compiled]
    rate = matrix_rate(device, precision)
    tables = [
        {"batch": batch, "rows": measure(played, config.model_copy(update={"batch": batch}), device, turns, rate)}
        for batch in batches
    ]
    return {
        "matrix_rate": {"precision": precision, "tflops": rate / 1e12},
        "tables": tables,
        "fastest": fastest(tables),
    }


def measure(
    played: list[Variant], config: FitConfig, device: torch.device, turns: int | None, rate: float
) -> list[dict[str, Any]]:
    """The rows of the table for the batch size of `config`; rate: of the device, in FLOP/s."""
    gc.collect()  # the rows of the last table, which refer to themselves
    rows = [Row(variant, config, device) for variant in played]
    playing = [row.playing for row in rows if row.playing]
    cycle = max((each.cycle for each in playing), default=1)
    first_steps = max((each.all_moved for each in playing), default=WARM_UP)
    turns = turns or (9 if cycle == 1 else 3)
    with progress_bar(f"{config.model}, batch {config.batch}", (turns + 2) * len(rows)) as move_on:
        with Operations() as counter:  # type: ignore[no-untyped-call]
            rows[0].play(cycle)
        for row in rows:
            row.warm_up(max(WARM_UP, first_steps))
            move_on()
        for _ in range(turns):
            for row in rows:
                row.seconds.append(row.play(cycle))
                move_on()
        for row in rows:
            if row.playing and device.type == "cpu":
                row.peak = peak_in_a_process(row.variant, config, row.first_steps)
            move_on()
    operations = counter.total / cycle if rows[0].playing else None
    apart = next(row for row in rows if not row.variant.batched and row.variant.precision == rows[-1].variant.precision)
    for row in rows:
        if row.variant.batched and not row.variant.compiled and row.calls == apart.calls and row.playing:
            row.note = "no calls that batch"
    return [summary(row, rows[0], config.batch, operations, rate) for row in rows]


def summary(row: Row, plain: Row, batch: int, operations: float | None, rate: float) -> dict[str, Any]:
    """A row as plain values; None for what could not be measured. operations: of a step, in FLOP."""
    variant = row.variant
    known: dict[str, Any] = {
        "name": variant.name,
        "precision": variant.precision,
        "memory_format": "channels_last" if variant.channels_last else "contiguous",
        "batched": variant.batched,
        "compiled": variant.compiled and not row.note,
        "note": row.note,
    }
    measured = ("milliseconds", "images_per_second", "peak_megabytes", "ratio", "matrix_share", "seconds_to_compile")
    if row.playing is None:
        return known | dict.fromkeys(measured)
    pairs = [(base, own) for base, own in zip(plain.seconds, row.seconds, strict=True) if base and own]
    seconds = statistics.median(own for own in row.seconds if own)
    values = (
        seconds * 1000,
        batch / seconds,
        row.peak / 1e6 if row.peak else None,
        statistics.median(base / own for base, own in pairs) if pairs else None,
        operations / seconds / rate if operations else None,
        max(0.0, row.first_seconds - row.first_steps * seconds) if known["compiled"] else None,
    )
    return known | dict(zip(measured, values, strict=True))


def fastest(tables: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Batch, precision and compile of the most images a second that `fit` can be asked for; None if nothing ran."""
    offers = [
        (row["images_per_second"], table["batch"], row)
        for table in tables
        for row in table["rows"]
        if row["batched"] and row["images_per_second"]
    ]
    if not offers:
        return None
    _, batch, row = max(offers, key=lambda offer: offer[0])
    return {"batch": batch, "precision": row["precision"], "compile": "on" if row["compiled"] else "off"}


def matrix_rate(device: torch.device, precision: Precision) -> float:
    """The FLOP/s of a product of two large square matrices, the best of several."""
    side, dtype = (8192 if device.type == "cuda" else 2048), HALVES.get(precision, torch.float32)
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    taken = []
    for _ in range(10):
        synchronize(device)
        started = time.perf_counter()
        torch.mm(left, right)
        synchronize(device)
        taken.append(time.perf_counter() - started)
    return float(2 * side**3 / min(taken))


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the FLOP of convolutions and matrix products inside; torch's FlopCounterMode refuses penalties."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func.overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=found)
        return found


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


# ------------------------------------------------------------------ memory on a CPU


def peak_in_a_process(variant: Variant, config: FitConfig, steps: int) -> int | None:
    """The bytes that a process of its own needs at its peak to play so many steps, above what it starts with.

    None where the system does not tell, or has ended the process for want of memory.
    """
    if not STATUS.exists():
        return None
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, variant, config, steps, torch.get_num_threads())
    process = context.Process(target=_report_peak, args=arguments, daemon=True)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is this process's to answer
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)
    sender.close()
    try:
        peak: int = receiver.recv()
        return peak
    except EOFError:
        return None
    finally:
        process.kill()
        process.join()


def _report_peak(sender: Connection, variant: Variant, config: FitConfig, steps: int, threads: int) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()
    before = _peak()
    playing = Playing(variant, config, torch.device("cpu"))
    for _ in range(steps):
        playing.play()
    sender.send(_peak() - before)


STATUS = Path("/proc/self/status")


def _peak() -> int:
    """The most bytes that this process has had resident so far."""
    return next(int(line.split()[1]) * 1024 for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
