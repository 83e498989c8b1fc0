"""How fast batches leave the resident store: `python tests/benchmarks/batches.py`. Prints a table, asserts nothing."""

import statistics
import tempfile
import time
from pathlib import Path

import torch

from translate.data.images import as_float
from translate.data.loading import open_training_data
from translate.data.options import DataOptions
from translate.data.sampling import crop_and_flip, geometry, indices
from translate.device import cpu_name
from translate.testing import draw_images
from translate_cyclegan import CycleGAN

STEPS = 100
REPEATS = 5


def images_per_second(make, batch):
    """Median over repeats of so many calls of `make(step)`, each of which makes `batch` images."""
    rates = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        for step in range(STEPS):
            make(step)
        rates.append(STEPS * batch / (time.perf_counter() - started))
    return statistics.median(rates)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"{cpu_name()}, 1 thread, torch {torch.__version__}, 286² to 256², images/s")
    store = torch.randint(256, (64, 3, 286, 286), dtype=torch.uint8)

    def augment(step):
        rows = indices(0, "a", step, 16, len(store))
        as_float(crop_and_flip(store, rows, geometry(0, "a", step, 16, 30, frozenset({"crop", "flip"})), 256))

    print(f"crop, flip and normalise, batch 16  {images_per_second(augment, 16):8,.0f}")
    with tempfile.TemporaryDirectory() as folder:
        paths = draw_images(Path(folder), CycleGAN, size=286)
        for batch in (1, 6):
            data = open_training_data(CycleGAN.data, DataOptions(batch=batch, **paths), torch.device("cpu"))
            print(f"a batch of two domains, batch {batch}     {images_per_second(data.batch, 2 * batch):8,.0f}")
