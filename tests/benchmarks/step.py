"""The plain loop and the engine in float32 against a CycleGAN step written by hand; alternating, in one process.

    python tests/benchmarks/step.py [--size 128] [--batch 1] [--generator "resnet(blocks=9)"] [--turns 9]

Prints the median milliseconds a step, and the median of the ratios to the loop by hand. What the levers of the engine
are worth is measured by `translate bench`, against the plain loop.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

from translate.benchmarking.variants import Variant, VariantRun
from translate.training.config import FitConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
from plain_cyclegan import PlainCycleGAN, classical

CPU = torch.device("cpu")
WARM_UP = 2


def by_hand(config):
    """A function that runs one step of the loop by hand, on torch's own layers."""
    model = VariantRun(Variant("plain loop", plain=True), config, CPU).model
    model.requires_grad_(True)
    networks = [
        classical(network) for network in (model.a_to_b, model.b_to_a, model.discriminator_a, model.discriminator_b)
    ]
    loop = PlainCycleGAN(*networks, steps=1000)
    a, b = torch.rand(2, config.batch, 3, config.size, config.size) * 2 - 1
    return lambda: loop.step(a, b)


def milliseconds(step):
    started = time.perf_counter()
    step()
    return (time.perf_counter() - started) * 1000


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--generator", default="resnet(blocks=9)")
    parser.add_argument("--turns", type=int, default=9)
    given = parser.parse_args()
    config = FitConfig(
        model="cyclegan", size=given.size, batch=given.batch, options={"generator": given.generator}, compile="off"
    )
    steps = {
        "by hand": by_hand(config),
        "plain loop": VariantRun(Variant("plain loop", plain=True), config, CPU).advance,
        "engine, fp32": VariantRun(Variant("engine"), config, CPU).advance,
    }
    times = {name: [] for name in steps}
    for repeat in range(WARM_UP + given.turns):
        for name, step in steps.items():
            taken = milliseconds(step)
            if repeat >= WARM_UP:
                times[name].append(taken)
    for name, taken in times.items():
        ratio = statistics.median(hand / own for hand, own in zip(times["by hand"], taken, strict=True))
        print(f"{name:12} {statistics.median(taken):8.1f} ms/step   × {ratio:.2f}")


if __name__ == "__main__":
    main()
