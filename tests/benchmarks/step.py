"""One CycleGAN step: the engine against the plain eager float32 loop, in one process, in turns.

    python tests/benchmarks/step.py [--size 128] [--batch 1] [--generator "resnet(blocks=9)"] [--pairs 9] [--threads 2]

Prints the median milliseconds a step and the ratio, and each variant's peak memory, measured in a process of its own.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from pathlib import Path

import torch

from translate.data.domains import DomainSpec, Spec
from translate.device import autocast, cpu_name
from translate.training.config import FitConfig
from translate.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
from plain_cyclegan import PlainCycleGAN, classical

from translate_cyclegan import CycleGAN

STEPS = 1000
WARM_UP = 3


class RandomBatches:
    """Stands where the loader stands: one batch of noise, so that only the step is measured."""

    def __init__(self, size, batch):
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(2, batch, 3, size, size, generator=generator) * 2 - 1
        self.spec = Spec({name: DomainSpec(name=name, size=size) for name in ("a", "b")})
        self.pair = CycleGAN.data.batch_type(*images)

    def batch(self, step):
        return self.pair


def engine(options, precision):
    """A function that plays one step of the engine."""
    config = FitConfig(
        model="cyclegan", size=options.size, batch=options.batch, options={"generator": options.generator}
    )
    data = RandomBatches(options.size, options.batch)
    trainer = Trainer(CycleGAN, data, config, steps=STEPS, device=torch.device("cpu"), precision=precision)
    return trainer.advance


def plain(options, precision="fp32"):
    """A function that plays one step of the plain loop, on torch's own layers."""
    data = RandomBatches(options.size, options.batch)
    torch.manual_seed(0)
    model = CycleGAN(CycleGAN.Config(generator=options.generator), data.spec)
    networks = [classical(network) for network in (model.a_to_b, model.b_to_a, model.judge_a, model.judge_b)]
    loop = PlainCycleGAN(*networks, steps=STEPS)

    def step():
        with autocast(torch.device("cpu"), precision):
            loop.step(data.pair.a, data.pair.b)

    return step


VARIANTS = {
    "plain fp32": plain,
    "plain bf16": lambda options: plain(options, "bf16"),
    "engine fp32": lambda options: engine(options, "fp32"),
    "engine bf16": lambda options: engine(options, "bf16"),
}


def milliseconds(step):
    started = time.perf_counter()
    step()
    return (time.perf_counter() - started) * 1000


def peak_megabytes():
    """The most memory that this process has had resident so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def peak_memory(name, options, answer):
    """What a process needs at its peak to play a few steps of one variant, above what it needs to start."""
    torch.set_num_threads(options.threads)
    before = peak_megabytes()
    step = VARIANTS[name](options)
    for _ in range(WARM_UP):
        step()
    answer.put(peak_megabytes() - before)


def measure_memory(name, options):
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=peak_memory, args=(name, options, answer))
    process.start()
    process.join()
    return answer.get()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--generator", default="resnet(blocks=9)")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    steps = {name: make(options) for name, make in VARIANTS.items()}
    times = {name: [] for name in steps}
    for turn in range(WARM_UP + options.pairs):
        for name, step in steps.items():
            taken = milliseconds(step)
            if turn >= WARM_UP:
                times[name].append(taken)
    base = times["plain fp32"]
    rows = {
        name: {
            "ms": statistics.median(taken),
            "ratio": statistics.median(p / t for p, t in zip(base, taken, strict=True)),
            "peak_mb": measure_memory(name, options),
        }
        for name, taken in times.items()
    }
    if options.json:
        print(json.dumps(rows))
        return
    print(
        f"CycleGAN, {options.generator}, {options.size}², batch {options.batch}; {cpu_name()}, "
        f"{options.threads} threads, torch {torch.__version__}, median of {options.pairs} turns"
    )
    for name, row in rows.items():
        print(f"{name:12} {row['ms']:8.0f} ms/step   × {row['ratio']:.2f}   peak {row['peak_mb']:6.0f} MB above start")


if __name__ == "__main__":
    main()
