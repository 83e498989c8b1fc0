"""What a step of each model costs: `python tests/benchmarks/models.py [MODEL …] [--threads 2]`.

With default networks; translators at 128² and batch 1, the others at their own size and batch; in bf16 where the
machine is good at it. Prints parameters in millions, milliseconds a step (the mean of 16 after two, so that what
happens on each 16th step is in it), images a second, and the process's peak memory, each model in its own process.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from translate import testing
from translate.data.loading import open_training_data
from translate.device import resolve_precision
from translate.domains import Paired, Unpaired
from translate.plugins import registry
from translate.training.config import FitConfig, complete
from translate.training.trainer import Trainer

CPU = torch.device("cpu")


def measure(name: str) -> str:
    """One row of the table."""
    kind = registry.model(name)
    size = {"size": 128} if isinstance(kind.data, Unpaired | Paired) else {}
    with tempfile.TemporaryDirectory() as folder:
        largest = size.get("size", kind.preset.get("size", 256))
        images = testing.draw_images(Path(folder), kind, largest, count=kind.preset.get("batch", 1) + 1)
        config = complete(kind, FitConfig(model=name, **size, **images), None)
        data = open_training_data(kind.data, config, CPU)
    precision = resolve_precision("auto", CPU)
    trainer = Trainer(kind, data, config, steps=1000, device=CPU, precision=precision)
    for step in range(18):
        if step == 2:
            started = time.perf_counter()
        trainer.advance()
        trainer.stepper.records.check()
    seconds = (time.perf_counter() - started) / 16
    parameters = sum(p.numel() for p in trainer.model.parameters()) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"{name:10} {config.size:4}² {config.batch:4} {precision:5} {parameters:8.1f} {1000 * seconds:9.0f} "
        f"{config.batch / seconds:9.1f} {peak:8.0f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=[])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if len(options.models) == 1:
        print(measure(options.models[0]))
    else:
        print("model      size batch        params M   ms/step  images/s  peak MB", flush=True)
        for each in options.models or registry.model_names():
            subprocess.run([sys.executable, __file__, each, f"--threads={options.threads}"], check=True)
