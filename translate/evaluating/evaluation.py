"""START HERE for evaluating: measures how good a trained model is, as `translate evaluate` does.

The model's images are compared with real ones: as sets, by distances between the features of a network; and, where
file names pair them, image by image. Two numbers beside each distance help to read it: the distance between two halves
of the real images (the floor), and that of a baseline, which is the untranslated inputs or noise (the ceiling).

    real_images.py    which files the real images are, and how they are read
    measurements.py   features and errors, collected batch by batch
    distances.py      Fréchet distance and kernel distance between sets of features
    paired.py         L1, PSNR and SSIM between images and their truths
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from translate import networks
from translate.applying.inference import generates_from_noise
from translate.applying.model_file import load_model
from translate.applying.sampler import Sampler
from translate.applying.translator import Translator
from translate.data.layout.detection import DomainFiles, Layout
from translate.device import resolve_device
from translate.distributed.group import Group
from translate.distributed.launch import device_of_rank
from translate.errors import DataError, UsageError
from translate.evaluating.measurements import Distance, Measurements, PairedError, fingerprint
from translate.evaluating.paired import SSIM_WINDOW
from translate.evaluating.real_images import RealImages, find_real_images, match_pairs, own_batches
from translate.model import Model

DEFAULT_FEATURES = "efficientnet"
DEFAULT_SAMPLES = 2048
ENOUGH_IMAGES = 2000
"""From this number of images on, the bias of the Fréchet distance is small compared with real differences."""


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation, in plain values.

    model: as it was given. to: the domain translated to, None for a model that generates from noise.
    made, real: numbers of generated and of real images; half: of images in each half of the real ones, for the floors.
    size: side in pixels at which images were generated and compared; resize: how they were resized to it.
    features, features_sha256: spec and weights of the feature network, None without one.
    distances: "frechet" and "kernel"; empty without a feature network.
    pairs: number of images compared with their truths. errors: "l1", "psnr" and "ssim"; empty without pairs.
    notes: sentences for the user. seconds: total time, loading included.
    """

    model: str
    to: str | None
    made: int
    real: int
    half: int
    size: int
    resize: str
    features: str | None
    features_sha256: str | None
    distances: dict[str, Distance]
    pairs: int
    errors: dict[str, PairedError]
    notes: tuple[str, ...]
    seconds: float


def evaluate(
    model: str | Path,
    *,
    a: str | None = None,
    b: str | None = None,
    data: str | None = None,
    swap: bool = False,
    images: str | None = None,
    to: str | None = None,
    features: str | None = None,
    n: int | None = None,
    seed: int = 0,
    batch: int = 16,
    device: str = "auto",
    precision: str = "auto",
    group: Group | None = None,
) -> Evaluation:
    """Measure a trained model, given as a model file or a run, against real images.

    a and b, or data (and swap): images of the two domains of a model that translates; images: of a model that generates
    from noise. All have the same meaning as for `fit`. Held-out images are used where there are any, otherwise all.
    By default, the run's own held-out images; or all, if it held none out and the model generates from noise.
    to: the domain to translate to, by default the model's first. n: images to generate from noise, by default 2,048,
    for the seeds from `seed` on, with classes in the proportion of the real ones.
    features: a registered feature network, or "none"; by default efficientnet, if its weights are installed.
    seed: of every random choice. batch: images at once; it changes the numbers only by rounding error.
    precision: of the model; the feature network computes in fp32.
    group: the ranks that share the batches; the numbers are those of a single process.
    Images are generated and compared at the size that the model was trained at, in 8 bits, as they would be saved.
    Raises UsageError, DataError, CheckpointError and PluginError.
    """
    started, group = time.perf_counter(), group or Group()
    with group.raise_on_all_ranks():
        torch_device = device_of_rank(resolve_device(device))
        network = load_model(model, torch_device)
        from_noise = generates_from_noise(network)
        _check_options(network, to, n, batch, features)
        flags = {"a": a, "b": b, "data": data, "swap": swap or None, "images": images}
        layout = find_real_images(network, model, flags)
        notes = list(layout.notes)
        feature_spec, feature_network = _feature_network(features, from_noise, notes)
        measurements = Measurements(feature_network, torch_device)
    if from_noise:
        sampler = Sampler(network, torch_device, precision, batch)
        size = sampler.domain.size
        n = DEFAULT_SAMPLES if n is None else n
        _measure_samples(sampler, layout.domains[0], n, seed, measurements, notes, group)
    else:
        with group.raise_on_all_ranks():
            translator = Translator(network, torch_device, precision)
            source, to = translator.route(to)
        size = network.spec[source].size
        _measure_translations(translator, layout, to, seed, batch, measurements, notes, group)
    measurements.gather(group)
    notes += _reading_notes(measurements, size)
    return Evaluation(
        model=str(model),
        to=to,
        made=measurements.counts["generated"],
        real=measurements.counts["real"],
        half=measurements.counts["real"] // 2,
        size=size,
        resize="bicubic, antialiased",
        features=feature_spec,
        features_sha256=None if feature_network is None else fingerprint(feature_network),
        distances=group.on_first_rank(lambda: measurements.distances(seed)),
        pairs=measurements.pairs,
        errors=measurements.errors(),
        notes=tuple(notes),
        seconds=time.perf_counter() - started,
    )


def _check_options(network: Model[Any], to: str | None, n: int | None, batch: int, features: str | None) -> None:
    """Raise UsageError for an option that does not apply to this model, or a number that is too small."""
    if generates_from_noise(network):
        if to is not None:
            raise UsageError(f"--to does not fit: the model {network.name!r} generates images from noise.")
        if features == "none":
            raise UsageError("--features none leaves nothing to measure: images generated from noise have no truths.")
    elif n is not None:
        raise UsageError(f"--n does not fit: the model {network.name!r} translates the images that it is given.")
    if batch < 1 or (n is not None and n < 2):
        raise UsageError(f"--batch must be at least 1 and --n at least 2; got {batch} and {n or DEFAULT_SAMPLES}.")


def _feature_network(spec: str | None, required: bool, notes: list[str]) -> tuple[str | None, nn.Module | None]:
    """The feature network and its spec; None for both if there is none.

    Raises UsageError if it cannot be built and is required or was chosen by the user; otherwise adds a note.
    """
    if spec == "none":
        return None, None
    try:
        return spec or DEFAULT_FEATURES, networks.features(spec or DEFAULT_FEATURES)
    except UsageError as error:
        if required or spec is not None:
            raise
        notes.append(f"Sets of images are not compared: {error}")
        return None, None


def _measure_translations(
    translator: Translator,
    layout: Layout,
    to: str,
    seed: int,
    batch: int,
    measurements: Measurements,
    notes: list[str],
    group: Group,
) -> None:
    """Measure the translation of every image of the source, and the real images of the target."""
    spec, (source, _) = translator.model.spec, translator.route(to)
    domains = {domain.name: domain for domain in layout.domains}
    inputs, targets = (RealImages(domains[name], spec, spec[source].size, group, seed) for name in (source, to))
    pairs = match_pairs(inputs, targets, notes)
    with group.raise_on_all_ranks():
        if measurements.network is None and not pairs:
            raise DataError(f"Nothing can be measured, without pairs and without a feature network. {' '.join(notes)}")
        for entries, images in inputs.batches(batch):
            translations = translator(images, to=to, seed=seed, names=[entry.name for entry in entries])
            measurements.add("generated", translations)
            measurements.add("baseline", images)
            paired = [row for row, entry in enumerate(entries) if entry.key in pairs]
            readable, truths = targets.read([pairs[entries[row].key] for row in paired])
            if truths is not None:
                rows = [row for row in paired if pairs[entries[row].key] in readable]
                measurements.add_pairs(translations[rows], images[rows], truths)
        for _, images in targets.batches(batch):
            measurements.add("real", images)
    with group.raise_on_all_ranks():
        notes += [*inputs.unread_notes(), *targets.unread_notes()]


def _measure_samples(
    sampler: Sampler,
    domain: DomainFiles,
    n: int,
    seed: int,
    measurements: Measurements,
    notes: list[str],
    group: Group,
) -> None:
    """Measure every real image, and n generated images with classes in the same proportion."""
    if not domain.held_out:
        notes.append(f"None of the real images is held out: they are all of those in {domain.location}.")
    real = RealImages(domain, sampler.model.spec, sampler.domain.size, group)
    labels_by_batch: list[list[int]] = []
    with group.raise_on_all_ranks():
        for entries, images in real.batches(sampler.batch):
            measurements.add("real", images)
            if sampler.domain.classes:
                labels_by_batch.append([sampler.label(domain.classes[domain.label(entry)]) for entry in entries])
    labels = [label for batch in group.gather_round_robin(labels_by_batch) for label in batch]
    with group.raise_on_all_ranks():
        notes += real.unread_notes()
    with group.raise_on_all_ranks():
        for start in own_batches(range(0, n, sampler.batch), "samples", group):
            numbers = range(start, min(start + sampler.batch, n))
            batch_labels = [labels[number * len(labels) // n] for number in numbers] if labels else None
            samples = sampler([seed + number for number in numbers], batch_labels)
            measurements.add("generated", samples)
            noise = torch.stack([_uniform_noise(samples.shape[1:], seed + number) for number in numbers])
            measurements.add("baseline", noise)


def _uniform_noise(shape: torch.Size, seed: int) -> Tensor:
    """Independent values, uniform in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _reading_notes(measurements: Measurements, size: int) -> Iterator[str]:
    """How to read the numbers."""
    generated, real = measurements.counts["generated"], measurements.counts["real"]
    if measurements.network is not None:
        yield "Distances compare with others in the features of the same network only; published FIDs use Inception's."
        if min(generated, real) < ENOUGH_IMAGES:
            yield (
                f"The Fréchet distance of {generated:,} and {real:,} images is biased upwards, and its floor more so: "
                f"prefer the kernel distance below about {ENOUGH_IMAGES:,} images."
            )
        if real < 4:
            yield f"There is no floor: {real} real images cannot be split into two halves of at least 2."
    if measurements.pairs and size < SSIM_WINDOW:
        yield f"SSIM is left out: the images are smaller than its window of {SSIM_WINDOW} pixels."
