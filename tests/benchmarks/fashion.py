"""Fashion-MNIST with every model that makes images of noise: trained, sampled, and measured by one classifier.

    python tests/benchmarks/fashion.py OUT [--models dcgan cgan] [--steps 500 | --minutes 2] [--seeds 0 1] [--threads 1]

Reads the four idx files of Xiao, Rasul, Vollgraf: Fashion-MNIST, arXiv:1708.07747 (`--data`; Debian has them in the
package dataset-fashion-mnist), and writes into OUT:

    images/{train,test}/CLASS/*.png    the images, for `translate fit`
    classifier.safetensors             a small CNN; its last hidden layer is the network of features "fashion"
    runs/MODEL-SEED/                   what `translate fit` leaves; go on after a stop with the same command
    MODEL-SEED.png                     images; classes are columns, if the model has classes
    results.jsonl                      one line for each model and seed

and prints the same results as a table. The distances are between features at 32×32 of 10,000 images and of the test
images; they compare with one another, not with Fréchet distances in Inception's features.
"""

import argparse
import gzip
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

import translate
from translate.applying.sampler import Sampler, cycle_labels, sample_grid
from translate.data.files import writers
from translate.data.loading import open_training_data
from translate.device import autocast, resolve_precision
from translate.domains import Labelled
from translate.evaluating.evaluation import evaluate
from translate.plugins import registry

CPU = torch.device("cpu")
FOLDER = "/usr/share/datasets/fashion-mnist"
FILES = {"train": "train", "test": "t10k"}
CLASSES = ("tshirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
SIZE = 32
SAMPLES = 10_000

# For each model what `translate fit` is told: three to nine minutes each on one core with fast bf16.
SETTINGS = {
    "gan": {"steps": 6000, "batch": 64, "options": {}},
    "dcgan": {
        "steps": 3500,
        "batch": 64,
        "options": {"generator": "dcgan(width=32)", "discriminator": "dcgan(width=32)"},
    },
    "cgan": {
        "steps": 3500,
        "batch": 64,
        "options": {
            "generator": "dcgan(width=32)",
            "discriminator": "dcgan(width=32)",
            "conditioning": "projection",
        },
    },
    "wgan-gp": {
        "steps": 2000,
        "batch": 64,
        "options": {
            "generator": "dcgan(width=32)",
            "discriminator": 'dcgan(width=32, norm="layer")',
            "learning_rate": 5e-4,  # five times the paper's, for a run this short
        },
    },
    "stylegan2": {
        "steps": 4000,
        "batch": 32,
        "options": {
            "width": 16,
            "latents": 128,
            "style_width": 128,
            "mapping_layers": 4,
            "discriminator": "stylegan2(width=16, stddev_group=4, equalized=True)",
        },
    },
}


# ------------------------------------------------------------------ images


def read_idx(path):
    """The array of a gzipped idx file, uint8: a header of 4 + 4 · dimensions bytes, then the values."""
    content = gzip.decompress(path.read_bytes())
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(content[3])]
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * len(shape)).view(shape)


def write_images(data, folder):
    """All images as PNG files in one folder a class; what is there already is left."""
    for part, prefix in FILES.items():
        images = read_idx(data / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(data / f"{prefix}-labels-idx1-ubyte.gz").tolist()
        paths = [folder / part / CLASSES[label] / f"{number:05d}.png" for number, label in enumerate(labels)]
        for parent in {path.parent for path in paths}:
            parent.mkdir(parents=True, exist_ok=True)
        missing = [(image[None], path) for image, path in zip(images, paths, strict=True) if not path.exists()]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda pair: writers.save(*pair), missing))


def open_images(folder, batch):
    """The images of a folder and their labels, as `translate fit` reads them."""
    config = translate.FitConfig(model="classifier", images=str(folder), size=SIZE, batch=batch, augment="none")
    return open_training_data(Labelled("images"), config, CPU)


# ------------------------------------------------------------------ the classifier


class Classifier(nn.Module):
    """Images (N, 3 or 1, H, W) in [-1, 1] to scores of the classes, in the alphabetical order that labels have."""

    WIDTHS = (1, 32, 64, 128)

    def __init__(self):
        super().__init__()
        blocks = []
        for before, after in zip(self.WIDTHS, self.WIDTHS[1:], strict=False):
            blocks += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            blocks += [nn.MaxPool2d(2)]
        self.blocks = nn.Sequential(*blocks, nn.Flatten())
        self.dense = nn.Linear(128 * (SIZE // 8) ** 2, 128)
        self.scores = nn.Linear(128, len(CLASSES))

    def features(self, images):
        """(N, 128) float32."""
        grey = images.mean(1, keepdim=True)
        if grey.shape[2:] != (SIZE, SIZE):
            grey = F.interpolate(grey, (SIZE, SIZE), mode="bilinear", antialias=True)
        return self.dense(self.blocks(grey)).relu().float()

    def forward(self, images):
        return self.scores(self.features(images))


class Features(nn.Module):
    """The classifier as a network of features."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, images):
        return self.classifier.features(images)


def train_classifier(images, batch=128, epochs=5):
    """A classifier of the training images."""
    torch.manual_seed(0)
    data = open_images(images / "train", batch)
    steps = epochs * data.epoch // batch
    classifier = Classifier().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for step in range(steps):
        batch_images, labels = data.batch(step)
        with autocast(CPU, resolve_precision("auto", CPU)):
            loss = F.cross_entropy(classifier(batch_images).float(), labels, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return classifier.eval()


@torch.inference_mode()
def classify(classifier, images):
    """Labels (N,)."""
    return torch.cat([classifier(part).argmax(1) for part in images.split(500)])


def accuracy(classifier, images):
    """Share of a folder's images that are found to be what they are."""
    data = open_images(images, 500)
    right = 0
    for step in range(data.epoch // 500):
        batch_images, labels = data.batch(step)
        right += int((classify(classifier, batch_images) == labels).sum())
    return right / (data.epoch // 500 * 500)


def ready_classifier(out):
    """The classifier in OUT, trained if it is not there, and registered as the network of features "fashion"."""
    path = out / "classifier.safetensors"
    if not path.exists():
        started = time.perf_counter()
        trained = train_classifier(out / "images").to(memory_format=torch.contiguous_format)
        save_file(trained.state_dict(), path)
        print(f"The classifier took {(time.perf_counter() - started) / 60:.1f} minutes.")
    classifier = Classifier().eval()
    classifier.load_state_dict(load_file(path))
    print(f"It finds {accuracy(classifier, out / 'images' / 'test'):.3f} of the test images' classes.")
    registry.manager().register(Plugin(classifier), name="fashion")
    return classifier


class Plugin:
    """Offers the classifier's features by the name "fashion", as an installed plugin would."""

    def __init__(self, classifier):
        self.classifier = classifier

    @translate.hookimpl
    def register_networks(self, register):
        register("fashion", lambda: Features(self.classifier), role="features")


# ------------------------------------------------------------------ the models


def train(model, seed, out, length):
    """Train a model, or go on; the folder of the run. length: {"steps": …} or {"minutes": …} instead of the table's."""
    settings = {name: value for name, value in SETTINGS[model].items() if name != "steps" or not length}
    run = out / "runs" / f"{model}-{seed}"
    config = translate.FitConfig(
        model=model, images=str(out / "images" / "train"), size=SIZE, augment="none", seed=seed, device="cpu",
        run=str(run), **settings, **length,
    )  # fmt: skip
    return translate.fit(config, resume=True)


def measure(model, seed, run, classifier, n):
    """One line of results."""
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    test = str(run.parents[1] / "images" / "test")
    evaluation = evaluate(run, images=test, features="fashion", n=n, seed=seed, batch=100, device="cpu")
    frechet = evaluation.distances["frechet"]
    return {
        "model": model,
        "seed": seed,
        "steps": last["step"],
        "images": last["images"],
        "minutes": last["seconds"] / 60,
        "threads": torch.get_num_threads(),
        "frechet": frechet.value,
        "floor": frechet.floor,
        "ceiling": frechet.ceiling,
        "label_accuracy": label_accuracy(Sampler.load(run, "cpu", batch=100), classifier, n),
    }


def label_accuracy(sampler, classifier, n):
    """Share of n images that are of the class asked for; None without classes."""
    asked = cycle_labels(sampler, n)
    if asked is None:
        return None
    found = torch.cat(
        [classify(classifier, sampler(range(i, min(i + 500, n)), asked[i : i + 500])) for i in range(0, n, 500)]
    )
    return float((found == torch.tensor(asked)).float().mean())


def show(rows):
    """The results as a table."""
    print(f"{'model':12}{'seed':>5}{'steps':>8}{'minutes':>9}{'Fréchet':>9}{'floor':>8}{'ceiling':>9}{'labels':>8}")
    for row in rows:
        labels = "–" if row["label_accuracy"] is None else f"{row['label_accuracy']:.3f}"
        print(
            f"{row['model']:12}{row['seed']:5}{row['steps']:8}{row['minutes']:9.1f}{row['frechet']:9.2f}"
            f"{row['floor']:8.2f}{row['ceiling']:9.1f}{labels:>8}"
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=FOLDER)
    parser.add_argument("--models", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int)
    length.add_argument("--minutes", type=float)
    parser.add_argument("--n", type=int, default=SAMPLES, help="images to measure")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    length = {name: value for name in ("steps", "minutes") if (value := getattr(options, name)) is not None}

    write_images(options.data, options.out / "images")
    classifier = ready_classifier(options.out)
    rows = []
    for seed in options.seeds:
        for model in options.models:
            run = train(model, seed, options.out, length)
            rows.append(measure(model, seed, run, classifier, options.n))
            with (options.out / "results.jsonl").open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            writers.save(sample_grid(Sampler.load(run, "cpu"), 80, seed=seed), options.out / f"{run.name}.png")
    show(rows)


if __name__ == "__main__":
    main()
