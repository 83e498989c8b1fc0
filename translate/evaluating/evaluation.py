"""How good a trained model is, in numbers that can be read: `translate evaluate`.

The model's images are compared with real ones: as sets, by distances in the features of a named network; and, where
file names pair them, image by image. Beside each number stand those that it is read by: what real images have among
themselves (floor), and what doing nothing gives (ceiling).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from translate import networks
from translate.applying.inference import needs_no_input
from translate.applying.model_file import load_model
from translate.applying.sampler import Sampler
from translate.applying.translator import Translator
from translate.data.batches.preparing import InputReader
from translate.data.domains import BatchSpec, Images, Labelled, Spec, Unpaired
from translate.data.files.readers import read_image
from translate.data.files.sources import Entry
from translate.data.layout.detection import DomainFiles, Layout, detect_layout
from translate.data.options import DataOptions
from translate.data.synthesis import parse
from translate.device import resolve_device
from translate.distributed.group import Group
from translate.distributed.launch import device_of_rank
from translate.errors import DataError, UsageError
from translate.evaluating.measuring import Distance, Error, Measuring, fingerprint
from translate.evaluating.paired import SSIM_WINDOW
from translate.formatting import first_few
from translate.model import Model
from translate.progress import progress_bar
from translate.threads import in_parallel

FEATURES = "efficientnet"
SAMPLES = 2048
ENOUGH = 2000
"""Images from which on the bias of the Fréchet distance is small beside what it tells apart."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured, on what; plain values throughout.

    model: as it was asked for. to: the domain translated to, None for a model without inputs.
    made, real: numbers of images; half: of those in each half of the real ones, for the floors.
    size: side in pixels at which images were made and compared; resize: how they came to it.
    features, features_sha256: spec and weights of the network of features; None where there is none.
    distances: "frechet" and "kernel"; empty without a network of features.
    pairs: images that were compared with their truths. errors: "l1", "psnr" and "ssim"; empty without pairs.
    notes: sentences for the reader. seconds: of it all, with loading.
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
    errors: dict[str, Error]
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
    """Measure a trained model, a model file or a run, against real images.

    a and b, or data (and swap): images of the two domains of a model that translates; images: of a model without
    inputs. All are understood as `fit` understands them; held-out images are used where there are any, otherwise all.
    Without any of these, the held-out images of the run; of a model without inputs that held none out, all.
    to: the domain to translate to, by default the model's first. n: images to make without inputs, by default 2,048,
    of the seeds from `seed` on, with classes in the proportion of the real ones.
    features: a registered network of features, or "none"; by default efficientnet if its weights are installed.
    seed: of every random choice. batch: images at once, which changes nothing beyond rounding.
    precision: of the model; the network of features computes in fp32.
    group: the ranks that share the images, every rank its batches; the numbers are those of one.
    Images are made and compared at the size that the model was trained at, in 8 bits as they would be saved.
    Raises UsageError, DataError, CheckpointError and PluginError.
    """
    started, group = time.perf_counter(), group or Group()
    with group.raise_on_all_ranks():
        where = device_of_rank(resolve_device(device))
        network = load_model(model, where)
        _check_flags(network, to, n, batch, features)
        layout = _layout(network, model, {"a": a, "b": b, "data": data, "swap": swap or None, "images": images})
        notes = list(layout.notes)
        spec, judge = _judge(features, needs_no_input(network), notes)
        measuring = Measuring(judge, where)
    if needs_no_input(network):
        sampler = Sampler(network, where, precision, batch)
        size = sampler.domain.size
        _sample(sampler, layout.domains[0], SAMPLES if n is None else n, seed, measuring, notes, group)
    else:
        with group.raise_on_all_ranks():
            translator = Translator(network, where, precision)
            source, to = translator.route(to)
        size = network.spec[source].size
        _translate(translator, layout, to, seed, batch, measuring, notes, group)
    measuring.gather(group)
    notes += _advice(measuring, size)
    return Evaluation(
        model=str(model),
        to=to,
        made=measuring.counts["made"],
        real=measuring.counts["real"],
        half=measuring.counts["real"] // 2,
        size=size,
        resize="bicubic, antialiased",
        features=spec,
        features_sha256=None if judge is None else fingerprint(judge),
        distances=group.on_first_rank(lambda: measuring.distances(seed)),
        pairs=measuring.pairs,
        errors=measuring.errors(),
        notes=tuple(notes),
        seconds=time.perf_counter() - started,
    )


# What is compared ----------------------------------------------------------------------------------------------------


def _check_flags(network: Model[Any], to: str | None, n: int | None, batch: int, features: str | None) -> None:
    """Raises UsageError for an option that says nothing to this model, or a number too small."""
    if needs_no_input(network):
        if to is not None:
            raise UsageError(f"--to does not fit: the model {network.name!r} makes images without an input.")
        if features == "none":
            raise UsageError("--features none leaves nothing to measure: images made without an input have no truths.")
    elif n is not None:
        raise UsageError(f"--n does not fit: the model {network.name!r} translates the images that it is given.")
    if batch < 1 or (n is not None and n < 2):
        raise UsageError(f"--batch must be at least 1 and --n at least 2; got {batch} and {n or SAMPLES}.")


def _layout(network: Model[Any], model: str | Path, flags: dict[str, Any]) -> Layout:
    """The real images: those that the flags name, otherwise those of the run. Raises UsageError and DataError."""
    given = {name: value for name, value in flags.items() if value is not None}
    names, run = tuple(network.spec), Path(model) / "run.toml"
    two = len(names) == 2
    if not given and not run.is_file():
        needed = "--a and --b, or --data" if two else "--images"
        raise UsageError(f"{model} is no run whose own held-out images could be used: give {needed}.")
    options = DataOptions(**given) if given else DataOptions.of_run(run)
    layout = detect_layout(_needs(network), options)
    if not given and two and not all(domain.held_out for domain in layout.domains):
        raise DataError(f"The run {model} has no held-out images of both domains: give --a and --b, or --data.")
    for domain in layout.domains:
        learned = network.spec[domain.name].part
        if domain.part is not None and learned is not None and domain.part != learned:
            raise UsageError(
                f"The model learned domain {domain.name!r} from the {learned} half of side-by-side images, and this "
                f"would be the {domain.part} one: {'leave --swap out' if options.swap else 'add --swap'}."
            )
    return layout


def _needs(network: Model[Any]) -> BatchSpec:
    """What is needed of the real images: pairs are not, even where the model was trained on them."""
    names = tuple(network.spec)
    if len(names) == 2:
        return Unpaired(*names)
    return Labelled(*names) if network.spec[names[0]].classes else Images(*names)


def _judge(spec: str | None, needed: bool, notes: list[str]) -> tuple[str | None, nn.Module | None]:
    """The network of features, and its spec. Raises UsageError if it cannot be built and was asked for or is needed."""
    if spec == "none":
        return None, None
    try:
        return spec or FEATURES, networks.features(spec or FEATURES)
    except UsageError as error:
        if needed or spec is not None:
            raise
        notes.append(f"Sets of images are not compared: {error}")
        return None, None


def _files(domain: DomainFiles) -> tuple[Entry, ...]:
    """The held-out images of a domain where there are any, otherwise all."""
    return domain.held_out or domain.train


class _Reader:
    """Reads images of one domain as the model sees them, resized to squares; notes those that cannot be read."""

    def __init__(self, domain: DomainFiles, spec: Spec, size: int, group: Group, seed: int = 0) -> None:
        made = parse(domain.synthesis) if domain.synthesis and not domain.real_held_out else None
        own = spec[domain.name].model_copy(update={"synthesis": domain.synthesis or spec[domain.name].synthesis})
        self.domain = domain
        self.size = size
        self.as_input = InputReader(own, spec[made.source] if made else None, seed)
        self.group = group
        self.unread: list[str] = []

    def batches(self, batch: int) -> Iterator[tuple[list[Entry], Tensor]]:
        """The files, so many at a time: the entries, and (N, C, size, size) float32 in [-1, 1]; adds to `unread`.

        Of several ranks, each gets its own batches of those that one would get.
        """
        files = _files(self.domain)
        for start in _watched(range(0, len(files), batch), f"images of {self.domain.name}", self.group):
            read, images = self(files[start : start + batch])
            if images is not None:
                yield read, images

    def left_out(self) -> Iterator[str]:
        """What could not be read on any rank, in words. Raises DataError if nothing could."""
        unread = list(dict.fromkeys(self.group.gather_round_robin(self.unread)))
        if len(unread) >= len(_files(self.domain)):
            raise DataError(f"None of the images in {self.domain.location} can be read: {unread[0]}.")
        if unread:
            yield f"Left out of {self.domain.location}: {first_few(unread, '; ')}."

    def __call__(self, entries: Sequence[Entry]) -> tuple[list[Entry], Tensor | None]:
        """The entries that can be read and their images, in order; no images if there are none."""
        found = list(zip(entries, in_parallel(self._read, entries), strict=True))
        self.unread += [image for _, image in found if isinstance(image, str)]
        images = [image for _, image in found if isinstance(image, Tensor)]
        read = [entry for entry, image in found if isinstance(image, Tensor)]
        return read, torch.stack(images) if images else None

    def _read(self, entry: Entry) -> Tensor | str:
        """The image, (C, size, size) float32 in [-1, 1], or why it cannot be read."""
        try:
            return self.as_input(read_image(entry, self.domain.part), entry, (self.size, self.size))
        except DataError as error:
            return str(error).removesuffix(".")


# Making and measuring ------------------------------------------------------------------------------------------------


def _translate(
    translator: Translator,
    layout: Layout,
    to: str,
    seed: int,
    batch: int,
    measuring: Measuring,
    notes: list[str],
    group: Group,
) -> None:
    """Translate every image of the source, measure it, and then the real images of the target."""
    spec, (source, _) = translator.model.spec, translator.route(to)
    domains = {domain.name: domain for domain in layout.domains}
    inputs, targets = (_Reader(domains[name], spec, spec[source].size, group, seed) for name in (source, to))
    partners = _partners(inputs.domain, targets.domain, notes)
    with group.raise_on_all_ranks():
        if measuring.network is None and not partners:
            raise DataError(
                f"Nothing can be measured, without pairs and without a network of features. {' '.join(notes)}"
            )
        for entries, images in inputs.batches(batch):
            made = translator(images, to=to, seed=seed, names=[entry.name for entry in entries])
            measuring.see("made", made)
            measuring.see("unchanged", images)
            rows = [row for row, entry in enumerate(entries) if entry.key in partners]
            read, truths = targets([partners[entries[row].key] for row in rows])
            if truths is not None:
                rows = [row for row in rows if partners[entries[row].key] in read]
                measuring.compare(made[rows], images[rows], truths)
        for _, images in targets.batches(batch):
            measuring.see("real", images)
    with group.raise_on_all_ranks():
        notes += [*inputs.left_out(), *targets.left_out()]


def _partners(source: DomainFiles, target: DomainFiles, notes: list[str]) -> dict[tuple[str, ...], Entry]:
    """The true translations of the source's images, by name without extension; none if most images have none."""
    truths = {entry.key: entry for entry in _files(target)}
    stems = [entry.key for entry in _files(source)]
    partners = {stem: truths[stem] for stem in stems if stem in truths}
    if 2 * len(partners) >= len(stems):
        return partners
    notes.append(
        f"No image is compared with its truth: {len(partners):,} of {len(stems):,} images of {source.name!r} share "
        f"their name, without extension, with one of {target.name!r}."
    )
    return {}


def _sample(
    sampler: Sampler, domain: DomainFiles, n: int, seed: int, measuring: Measuring, notes: list[str], group: Group
) -> None:
    """Measure every real image, and then n images of the model, in the same proportion of classes."""
    if not domain.held_out:
        notes.append(f"None of the real images is held out: they are all of those in {domain.location}.")
    reader = _Reader(domain, sampler.model.spec, sampler.domain.size, group)
    found: list[list[int]] = []  # the labels of each batch
    with group.raise_on_all_ranks():
        for entries, images in reader.batches(sampler.batch):
            measuring.see("real", images)
            if sampler.domain.classes:
                found.append([sampler.label(domain.classes[domain.label(entry)]) for entry in entries])
    labels = [label for batch in group.gather_round_robin(found) for label in batch]
    with group.raise_on_all_ranks():
        left_out = list(reader.left_out())
    with group.raise_on_all_ranks():
        for start in _watched(range(0, n, sampler.batch), "samples", group):
            numbers = range(start, min(start + sampler.batch, n))
            turn = [labels[number * len(labels) // n] for number in numbers] if labels else None
            made = sampler([seed + number for number in numbers], turn)
            measuring.see("made", made)
            measuring.see("unchanged", torch.stack([_noise(made.shape[1:], seed + number) for number in numbers]))
    notes += left_out


def _noise(shape: torch.Size, seed: int) -> Tensor:
    """Uniform in [-1, 1], each value on its own."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _watched(batches: range, title: str, group: Group) -> Iterator[int]:
    """Those of this rank, with a bar on a terminal, which goes when all is done."""
    own = batches[group.rank :: group.world_size]
    with progress_bar(title, len(own), quiet=group.rank > 0) as advance:
        for start in own:
            yield start
            advance()


# What to tell --------------------------------------------------------------------------------------------------------


def _advice(measuring: Measuring, size: int) -> Iterator[str]:
    """How the numbers are to be read."""
    made, real = measuring.counts["made"], measuring.counts["real"]
    if measuring.network is not None:
        yield "Distances compare with others in the features of the same network only; published FIDs use Inception's."
        if min(made, real) < ENOUGH:
            yield (
                f"The Fréchet distance of {made:,} and {real:,} images is biased upwards, and its floor more so: "
                f"prefer the kernel distance below about {ENOUGH:,} images."
            )
        if real < 4:
            yield f"There is no floor: {real} real images cannot be split into two halves of at least 2."
    if measuring.pairs and size < SSIM_WINDOW:
        yield f"SSIM is left out: the images are smaller than its window of {SSIM_WINDOW} pixels."
