"""How fast images become batches on the device: `python tests/benchmarks/data.py`. Prints tables, asserts nothing.

    first    JPEG files to batches, against torch's DataLoader with Pillow and torchvision at its best number of workers
    later    the same from the second epoch on
    stream   the same images from the mapped file on disk, with what memory that takes
    hot      crop, flip and normalise alone, against kornia and torchvision's transforms v2

Images are those of TRANSLATE_TEST_DATA where there are any, otherwise drawn; 286² files, 256² crops.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from translate.data.batches.cropping import crop_batch
from translate.data.batches.sampling import sample_crops
from translate.data.batches.store import Store
from translate.data.loading import open_training_data
from translate.data.options import DataOptions
from translate.device import cpu_name
from translate.domains import Images
from translate.testing import draw_images
from translate_cyclegan import CycleGAN

BATCH = 16
CPU = torch.device("cpu")


def rate(count, do):
    """Images a second of one call that makes so many."""
    started = time.perf_counter()
    do()
    return count / (time.perf_counter() - started)


def jpegs(folder, count):
    """So many 286² JPEG files, from real photographs where there are any."""
    real = Path(os.environ.get("TRANSLATE_TEST_DATA", "")) / "facades" / "train"
    if not real.is_dir():
        real = Path(draw_images(folder / "drawn", CycleGAN, size=286)["a"])
    originals = sorted(path for path in real.iterdir() if path.suffix in (".jpg", ".png"))
    pictures = []
    for path in originals[: min(count, 200)]:
        image = Image.open(path).convert("RGB")
        side = min(image.size)
        pictures.append(image.crop((0, 0, side, side)).resize((286, 286), Image.Resampling.BICUBIC))
    files = folder / "files"
    files.mkdir()
    for i in range(count):
        picture = pictures[i % len(pictures)]
        picture.rotate(i // len(pictures)).save(files / f"{i:05d}.jpg", quality=90)
    return files, "photographs" if real.name == "train" else "drawings"


class Files(Dataset):
    """What people write: Pillow and torchvision's transforms."""

    def __init__(self, folder):
        from torchvision import transforms

        self.paths = sorted(folder.iterdir())
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(256),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * 3, (0.5,) * 3),
            ]
        )

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return self.transform(Image.open(self.paths[i]).convert("RGB"))


def loader_rates(folder, workers):
    """Images/s of the first epoch, with the start of its workers, and of the second."""
    loader = DataLoader(
        Files(folder), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0, drop_last=True
    )
    count = len(loader) * BATCH
    return [rate(count, lambda: [None for _ in loader]) for _ in range(2)]


def our_rates(folder, epochs=4, **options):
    """Images/s of the first epoch, with finding and decoding, and of the later ones (median)."""
    started = time.perf_counter()
    with open_training_data(Images(), DataOptions(images=str(folder), batch=BATCH, **options), CPU) as data:
        steps = data.epoch // BATCH
        for step in range(steps):
            data.batch(step)
        first = steps * BATCH / (time.perf_counter() - started)
        later = [
            rate(steps * BATCH, lambda e=epoch: [data.batch(e * steps + step) is None for step in range(steps)])
            for epoch in range(1, epochs)
        ]
        return first, statistics.median(later), data.storage


def epochs(folder, repeats):
    """First and later epochs, alternating."""
    ours, theirs = [], {workers: [] for workers in (0, 1, 2, 4)}
    our_rates(folder, load_size=286)  # imports what is imported when it is first needed
    for _ in range(repeats):
        ours.append(our_rates(folder, load_size=286)[:2])
        for workers, found in theirs.items():
            found.append(loader_rates(folder, workers))
    best = {}
    for i, name in enumerate(("first epoch", "later epochs")):
        print(f"\n{name}, images/s")
        for workers, found in theirs.items():
            print(f"  DataLoader, {workers} workers   {statistics.median(each[i] for each in found):9,.0f}")
        # Its best: of all numbers of workers, and of its first and second epoch.
        best[name] = [max(max(found[repeat]) for found in theirs.values()) for repeat in range(repeats)]
        print(f"  translate               {statistics.median(each[i] for each in ours):9,.0f}")
        ratios = [each[i] / most for each, most in zip(ours, best[name], strict=True)]
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"  against its best        x {statistics.median(ratios):.2f}  (repeats: {shown})")


STREAM = """
import json, os, resource, sys, time
import torch
torch.set_num_threads(int(sys.argv[3]))
from translate.domains import Images
from translate.data.loading import open_training_data
from translate.data.options import DataOptions
options = DataOptions(images=sys.argv[1], batch=16, load_size=286, store=sys.argv[2])
def high_water():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) / 1024
with open_training_data(Images(), options, torch.device("cpu")) as data:
    steps = data.epoch // 16
    data.batch(0)
    before = high_water()
    started = time.perf_counter()
    for step in range(3 * steps):
        data.batch(step)
    rate = 3 * steps * 16 / (time.perf_counter() - started)
print(json.dumps([rate, before, high_water()]))
"""


def stream(folder):
    """The mapped store against the resident one, each in processes of their own, for what memory they take."""
    import json

    size = len(list(folder.iterdir())) * 286 * 286 * 3 / 1e6
    print(
        f"\nstream: {size:,.0f} MB of decoded images, images/s and peak memory of the process (MB: opened, at the end)"
    )
    with tempfile.TemporaryDirectory() as cache:
        for name in ("memory", "disk", "disk", "memory", "disk"):
            out = subprocess.run(
                [sys.executable, "-c", STREAM, str(folder), name, str(torch.get_num_threads())],
                env={**os.environ, "TRANSLATE_CACHE": cache}, capture_output=True, text=True, check=True,
            )  # fmt: skip
            found, before, after = json.loads(out.stdout.splitlines()[-1])
            print(f"  --store {name:8} {found:9,.0f}   {before:7,.0f} {after:7,.0f}")


def hot(repeats=7):
    """Batches of 16 from 286² uint8 to 256² floats in [-1, 1], one thread."""
    import kornia.augmentation as K
    from torchvision.transforms import v2

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    count, side = 64, 286
    flat = torch.randint(256, (count * 3 * side * side,), dtype=torch.uint8)
    store = Store.planned([(side, side)] * count, 3, torch.uint8).with_buffer(flat)
    images = flat.view(count, 3, side, side)

    def ours(step):
        rows = [(step * BATCH + i) % count for i in range(BATCH)]
        crops = sample_crops(0, "", step, store, rows, (256, 256), {"crop": (), "flip": ()})
        return crop_batch(store, crops, (256, 256), value_range=(0, 255))

    transform = v2.Compose(
        [
            v2.RandomCrop(256),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5], [0.5]),
        ]
    )

    def theirs(step):
        return torch.stack([transform(images[(step * BATCH + i) % count]) for i in range(BATCH)])

    crop = torch.nn.Sequential(K.RandomCrop((256, 256), cropping_mode="slice"), K.RandomHorizontalFlip())

    def kornias(step):
        rows = torch.arange(step * BATCH, (step + 1) * BATCH) % count
        return crop(images[rows].float().div_(255)).sub_(0.5).div_(0.5)

    found = {}
    for _ in range(repeats):
        for name, make in (("translate", ours), ("torchvision v2", theirs), ("kornia", kornias)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found.setdefault(name, []).append(
                    rate(20 * BATCH, lambda make=make: [make(step) is None for step in range(20)])
                )
    print("\nhot: crop, flip and normalise, batch 16, one thread, images/s")
    for name, rates in found.items():
        ratio = statistics.median(mine / other for mine, other in zip(found["translate"], rates, strict=True))
        print(f"  {name:16}{statistics.median(rates):9,.0f}   translate is x {ratio:.2f}")
    torch.set_num_threads(threads)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["epochs", "stream", "hot"])
    parser.add_argument("--images", type=int, default=1600)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name:
        files, kind = jpegs(Path(name), arguments.images)
        print(f"{arguments.images:,} JPEG files of 286², {kind}")
        if "epochs" in arguments.parts:
            epochs(files, arguments.repeats)
        if "stream" in arguments.parts:
            stream(files)
        if "hot" in arguments.parts:
            hot()
