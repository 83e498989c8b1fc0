"""How `translate bench` measures: in rounds, each of which runs every row once, because machines are noisy.

Rows run in one process, and are compared within a round. In a round each row runs a cycle: as many steps as it takes
until the same moves and lazy penalties come again.
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

from translate.benchmarking.variants import Variant, VariantRun, variants
from translate.device import HALVES, Precision, is_out_of_memory, keep_freed_memory, resolve_precision, use_tf32
from translate.progress import progress_bar
from translate.training.config import FitConfig

WARM_UP = 3
"""The least number of steps before the clock runs."""


class Row:
    """A variant under measurement.

    seconds: of a step, one number a round; None where memory ran out. peak: bytes of memory; on a GPU without those of
    other rows. calls: of modules in the first steps. note: why the row is incomplete, for the table.
    """

    def __init__(self, variant: Variant, config: FitConfig, device: torch.device) -> None:
        self.variant, self.device = variant, device
        self.seconds: list[float | None] = []
        self.first_steps, self.first_seconds, self.calls, self.note = 0, 0.0, 0, ""
        self.peak: int | None = None
        self._held = 0
        self.run: VariantRun | None = None
        with self._watched():
            self.run = VariantRun(variant, config, device)

    def warm_up(self, steps: int) -> None:
        """Run the first steps; some of what happens in them, such as compiling, happens only once."""
        calls: list[None] = []
        hook = None if self.variant.compiled else register_module_forward_pre_hook(lambda *_: calls.append(None))
        self.first_steps, self.first_seconds = steps, steps * (self.run_steps(steps) or 0.0)
        self.calls = len(calls)
        if hook is not None:
            hook.remove()
        if self.run is not None and self.run.compile_error:
            self.note = f"not compiled: {self.run.compile_error}"

    def run_steps(self, steps: int) -> float | None:
        """Run so many steps: the mean seconds of one; None if memory ran out, now or before."""
        started = time.perf_counter()
        with self._watched():
            for _ in range(steps if self.run else 0):
                assert self.run is not None
                self.run.advance()
            synchronize(self.device)
        return (time.perf_counter() - started) / steps if self.run else None

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Inside, the peak memory of a GPU is measured; if memory runs out, this row ends, and the others go on."""
        on_gpu = self.device.type == "cuda"
        before = torch.cuda.memory_allocated(self.device) if on_gpu else 0
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self.note, self.run = "out of memory", None
        if self.run is None:
            gc.collect()  # models and their losses refer to each other
        if on_gpu:
            self.peak = max(self.peak or 0, self._held + torch.cuda.max_memory_allocated(self.device) - before)
            self._held += torch.cuda.memory_allocated(self.device) - before


def bench(
    config: FitConfig, device: torch.device, batches: list[int], rounds: int | None = None, compile: bool = True
) -> dict[str, Any]:
    """Measure a model for each batch size, as plain values: the device's matrix rate, tables, and the fastest flags.

    rounds: by default 9, or 3 where a cycle has several steps. compile: whether there is a row for it.
    Raises UsageError, as `fit` does, for a size, a batch or options that the networks cannot take.
    """
    keep_freed_memory()  # as `fit` does, and so is TF32, for the plain loop too
    use_tf32(True)
    precision = resolve_precision("auto", device)
    measured = [variant for variant in variants(device) if compile or not variant.compiled]
    rate = matrix_rate(device, precision)
    tables = [
        {"batch": batch, "rows": measure(measured, config.model_copy(update={"batch": batch}), device, rounds, rate)}
        for batch in batches
    ]
    return {
        "matrix_rate": {"precision": precision, "tflops": rate / 1e12},
        "tables": tables,
        "fastest": fastest(tables),
    }


def measure(
    measured: list[Variant], config: FitConfig, device: torch.device, rounds: int | None, rate: float
) -> list[dict[str, Any]]:
    """The rows of the table for the batch size of `config`; rate: of the device, in FLOP/s."""
    gc.collect()  # the rows of the last table, which are in reference cycles
    rows = [Row(variant, config, device) for variant in measured]
    runs = [row.run for row in rows if row.run]
    cycle = max((run.cycle for run in runs), default=1)
    first_steps = max((run.steps_until_all_moved for run in runs), default=WARM_UP)
    rounds = rounds or (9 if cycle == 1 else 3)
    with progress_bar(f"{config.model}, batch {config.batch}", (rounds + 2) * len(rows)) as move_on:
        with Operations() as counter:  # type: ignore[no-untyped-call]
            rows[0].run_steps(cycle)
        for row in rows:
            row.warm_up(max(WARM_UP, first_steps))
            move_on()
        for _ in range(rounds):
            for row in rows:
                row.seconds.append(row.run_steps(cycle))
                move_on()
        for row in rows:
            if row.run and device.type == "cpu":
                row.peak = peak_in_a_process(row.variant, config, row.first_steps)
            move_on()
    operations = counter.total / cycle if rows[0].run else None
    unbatched = next(
        row for row in rows if not row.variant.batched and row.variant.precision == rows[-1].variant.precision
    )
    for row in rows:
        if row.variant.batched and not row.variant.compiled and row.calls == unbatched.calls and row.run:
            row.note = "no calls that batch"
    return [summary(row, rows[0], config.batch, operations, rate) for row in rows]


def summary(row: Row, plain: Row, batch: int, operations: float | None, rate: float) -> dict[str, Any]:
    """A row as plain values; None for what could not be measured. operations: of a step, in FLOP."""
    variant = row.variant
    described: dict[str, Any] = {
        "name": variant.name,
        "precision": variant.precision,
        "memory_format": "channels_last" if variant.channels_last else "contiguous",
        "batched": variant.batched,
        "compiled": variant.compiled and not row.note,
        "note": row.note,
    }
    measured = ("milliseconds", "images_per_second", "peak_megabytes", "ratio", "matrix_share", "seconds_to_compile")
    if row.run is None:
        return described | dict.fromkeys(measured)
    pairs = [(base, own) for base, own in zip(plain.seconds, row.seconds, strict=True) if base and own]
    seconds = statistics.median(own for own in row.seconds if own)
    values = (
        seconds * 1000,
        batch / seconds,
        row.peak / 1e6 if row.peak else None,
        statistics.median(base / own for base, own in pairs) if pairs else None,
        operations / seconds / rate if operations else None,
        max(0.0, row.first_seconds - row.first_steps * seconds) if described["compiled"] else None,
    )
    return described | dict(zip(measured, values, strict=True))


def fastest(tables: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The flags of `fit` (batch, precision, compile) with the most images a second; None if nothing ran."""
    candidates = [
        (row["images_per_second"], table["batch"], row)
        for table in tables
        for row in table["rows"]
        if row["batched"] and row["images_per_second"]
    ]
    if not candidates:
        return None
    _, batch, row = max(candidates, key=lambda candidate: candidate[0])
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
    """Counts the FLOP of convolutions and matrix products inside; torch's FlopCounterMode fails on penalties."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func.overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=found)
        return found


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


# ------------------------------------------------------------------ memory on a CPU


def peak_in_a_process(variant: Variant, config: FitConfig, steps: int) -> int | None:
    """The peak memory in bytes of a process of its own that runs so many steps, above what it has at the start.

    None where the system does not report it, or has ended the process because memory ran out.
    """
    if not STATUS.exists():
        return None
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, variant, config, steps, torch.get_num_threads())
    process = context.Process(target=_report_peak, args=arguments, daemon=True)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child inherits it: only this process handles Ctrl-C
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
    run = VariantRun(variant, config, torch.device("cpu"))
    for _ in range(steps):
        run.advance()
    sender.send(_peak() - before)


STATUS = Path("/proc/self/status")


def _peak() -> int:
    """The peak resident memory of this process so far, in bytes."""
    return next(int(line.split()[1]) * 1024 for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
