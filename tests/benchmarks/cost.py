"""What a step costs, and what it would cost at least.

    python tests/benchmarks/cost.py floor [--threads 2]    # operations, bytes, the floor of time, the share reached
    python tests/benchmarks/cost.py scaling [--threads 2]  # milliseconds at three sizes and three batches

The floor of a step: its convolutions and matrix products at the rate of one large matrix product, or moving what they
read and write at the rate of a copy, whichever takes longer; and then Adam and the averages, which read or write eight
and three times as many float32 as there are weights, at the rate of a copy. Random images stand where the loader
stands.
"""

import argparse
import statistics
import time

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from translate.benchmarking.measuring import Operations, matrix_rate
from translate.benchmarking.variants import VariantRun, variants
from translate.device import cpu_name, keep_freed_memory
from translate.plugins import registry
from translate.training.config import FitConfig, complete

CPU = torch.device("cpu")
STEPS = {"cyclegan": (128, 1), "stylegan2": (32, 32)}
SIZES, BATCHES = (64, 128, 256), (1, 2, 4)
WEIGHT_PASSES = {"optimizer": 8, "average": 3}  # gradient norm and its write; weight and two moments, read and written


class Moved(TorchDispatchMode):
    """Counts the bytes that convolutions and matrix products inside read and write."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += sum(t.nbytes for t in tree_leaves((args, found)) if isinstance(t, torch.Tensor))
        return found


def started_run(model, size, batch):
    """What `fit` runs on the CPU without compiling, after its first steps."""
    config = complete(registry.model(model), FitConfig(model=model, size=size, batch=batch), None)
    config = config.model_copy(update={"discriminator_augment": "none"})
    variant = next(each for each in reversed(variants(CPU)) if not each.compiled)
    run = VariantRun(variant, config, CPU)
    for _ in range(2):
        run.advance()
    return run


def seconds_a_step(run, rounds):
    """The median over rounds, each a whole cycle of moves and penalties."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(run.cycle):
            run.advance()
        taken.append((time.perf_counter() - started) / run.cycle)
    return statistics.median(taken)


def copy_rate():
    """Bytes read and written in a second by the copy of a large tensor, the best of several."""
    source = torch.zeros(2**28, dtype=torch.uint8)
    target, taken = torch.empty_like(source), []
    for _ in range(10):
        started = time.perf_counter()
        target.copy_(source)
        taken.append(time.perf_counter() - started)
    return 2 * source.nbytes / min(taken)


def floor():
    rate, bandwidth = matrix_rate(CPU, "bf16"), copy_rate()
    print(f"a large bf16 matrix product: {rate / 1e12:.2f} TFLOP/s; a copy: {bandwidth / 1e9:.1f} GB/s\n")
    print("model      size batch   GFLOP  GB of matrices  GB of weights  floor ms  measured ms  share")
    for model, (size, batch) in STEPS.items():
        run = started_run(model, size, batch)
        with Operations() as operations, Moved() as moved:
            for _ in range(run.cycle):
                run.advance()
        trainer = run.trainer
        weights = sum(p.numel() for state in trainer.stepper.players for p in state.parameters)
        weights *= WEIGHT_PASSES["optimizer"]
        averaged = sum(p.numel() for network in trainer.ema.networks.values() for p in network.parameters())
        flop, matrices = operations.total / run.cycle, moved.total / run.cycle
        stored = 4 * (weights + averaged * WEIGHT_PASSES["average"])
        least = max(flop / rate, matrices / bandwidth) + stored / bandwidth
        measured = seconds_a_step(run, 7 if run.cycle == 1 else 3)
        print(
            f"{model:10} {size:4} {batch:5} {flop / 1e9:7.0f} {matrices / 1e9:15.2f} {stored / 1e9:14.2f} "
            f"{1000 * least:9.0f} {1000 * measured:12.0f} {least / measured:6.0%}"
        )


def scaling():
    print("CycleGAN, ms a step; in brackets per image and 128² pixels")
    print("size   " + "".join(f"batch {batch:<16}" for batch in BATCHES))
    for size in SIZES:
        cells = []
        for batch in BATCHES:
            milliseconds = 1000 * seconds_a_step(started_run("cyclegan", size, batch), 5)
            cells.append(f"{milliseconds:8.0f} ({milliseconds / batch / (size / 128) ** 2:4.0f})      ")
        print(f"{size:4}²  " + "".join(cells), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["floor", "scaling"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    print(f"{cpu_name()}, {options.threads} threads, torch {torch.__version__}")
    {"floor": floor, "scaling": scaling}[options.what]()
