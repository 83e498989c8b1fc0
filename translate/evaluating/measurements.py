"""Collects features and errors of images batch by batch, and computes the numbers of an evaluation from them.

generated   the model's images
real        images of the target domain
baseline    the result of doing nothing: the untranslated inputs; for a model that generates from noise, uniform noise
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn

from translate.data.images import as_float, as_pixels
from translate.distributed.group import Group
from translate.errors import DataError, PluginError
from translate.evaluating.distances import frechet_distance, halves, kernel_distance
from translate.evaluating.paired import paired_errors

Kind = Literal["generated", "real", "baseline"]


@dataclass(frozen=True)
class Distance:
    """A distance between the generated images and the real ones, as sets.

    deviation: standard deviation over random subsets if `value` is the mean over them, otherwise None.
    floor: the distance between two random halves of the real images, None if there are fewer than 4.
    ceiling: the distance between the baseline and the real images; a worse model exceeds it.
    """

    value: float
    deviation: float | None
    floor: float | None
    ceiling: float


@dataclass(frozen=True)
class Mean:
    """A mean over images. standard_error: of the mean, None for one image."""

    mean: float
    standard_error: float | None


@dataclass(frozen=True)
class PairedError:
    """A measure of images against their truths. made: of the generated images.

    unchanged: of the untranslated inputs, None if the domains differ in channels.
    """

    made: Mean
    unchanged: Mean | None


class Measurements:
    """What was measured so far, batch by batch; images are not kept.

    Images are float (N, C, H, W) in [-1, 1]. Generated images are rounded to 8 bits, as they would be saved.
    counts: images of each kind. pairs: generated images that were compared with their truths.
    """

    def __init__(self, network: nn.Module | None, device: torch.device) -> None:
        """network: images (N, 3, H, W) -> features (N, D); None if sets of images are not compared."""
        self.network = None if network is None else network.to(device)
        self.device = device
        self.counts: Counter[Kind] = Counter()
        self.pairs = 0
        self._features: dict[Kind, list[Tensor]] = {"generated": [], "real": [], "baseline": []}
        self._errors: dict[Kind, list[dict[str, Tensor]]] = {"generated": [], "baseline": []}

    @torch.inference_mode()
    def add(self, kind: Kind, images: Tensor) -> None:
        """Add the features of a batch. Raises PluginError if the network returns features of a wrong shape."""
        self.counts[kind] += len(images)
        if self.network is None:
            return
        features = self.network(_as_rgb(in_8_bits(images).to(self.device)))
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(images):
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise PluginError(f"The feature network returned {shape}; expected ({len(images)}, D).")
        self._features[kind].append(features.float().cpu())

    @torch.inference_mode()
    def add_pairs(self, generated: Tensor, inputs: Tensor, truths: Tensor) -> None:
        """Add the errors of generated images, and of their inputs if these have the same shape as the truths."""
        self.pairs += len(truths)
        self._errors["generated"].append(paired_errors(in_8_bits(generated), truths))
        if inputs.shape == truths.shape:
            self._errors["baseline"].append(paired_errors(inputs, truths))

    def gather(self, group: Group) -> None:
        """Add the measurements of the other ranks, in the order of a single process."""
        self._features = {kind: group.gather_round_robin(parts) for kind, parts in self._features.items()}
        self._errors = {kind: group.gather_round_robin(parts) for kind, parts in self._errors.items()}
        gathered = group.all_gather((self.counts, self.pairs))
        self.counts = sum((counts for counts, _ in gathered), Counter[Kind]())
        self.pairs = sum(pairs for _, pairs in gathered)

    def distances(self, seed: int) -> dict[str, Distance]:
        """The distances by name; none without a feature network. Raises DataError for a set of less than two images."""
        if self.network is None:
            return {}
        generated, real, baseline = (torch.cat(parts) for parts in self._features.values())
        real_halves = halves(real, seed) if len(real) >= 4 else None
        kernel = kernel_distance(generated, real, seed)
        return {
            "frechet": Distance(
                value=frechet_distance(generated, real),
                deviation=None,
                floor=frechet_distance(*real_halves) if real_halves else None,
                ceiling=frechet_distance(baseline, real),
            ),
            "kernel": Distance(
                value=kernel.value,
                deviation=kernel.deviation,
                floor=kernel_distance(*real_halves, seed).value if real_halves else None,
                ceiling=kernel_distance(baseline, real, seed).value,
            ),
        }

    def errors(self) -> dict[str, PairedError]:
        """The errors by name; none if there were no pairs."""
        generated, baseline = _means(self._errors["generated"]), _means(self._errors["baseline"])
        return {name: PairedError(made=mean, unchanged=baseline.get(name)) for name, mean in generated.items()}


def in_8_bits(images: Tensor) -> Tensor:
    """The images rounded to 8 bits a channel, as float32 in [-1, 1]. Raises DataError if they are not finite."""
    if not images.isfinite().all():
        raise DataError("The model's images hold values that are not finite (NaN).")
    return as_float(as_pixels(images))


def fingerprint(network: nn.Module) -> str | None:
    """The sha256 of a network's weights and buffers, in hexadecimal digits; None if it has none."""
    digest = hashlib.sha256()
    state = sorted(network.state_dict().items())
    for name, tensor in state:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest() if state else None


def _means(parts: Sequence[dict[str, Tensor]]) -> dict[str, Mean]:
    """The mean of each error, over the images of all batches."""
    means = {}
    for name in parts[0] if parts else ():
        values = torch.cat([part[name] for part in parts])
        error = float(values.std()) / sqrt(len(values)) if len(values) > 1 else None
        means[name] = Mean(float(values.mean()), error)
    return means


def _as_rgb(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, 3, H, W): grey is repeated, transparency is blended with white.

    Raises DataError unless C is 1 to 4.
    """
    channels = images.shape[1]
    if channels not in (1, 2, 3, 4):
        raise DataError(f"Feature networks take RGB images, and these have {channels} channels.")
    colour, alpha = (images[:, :-1], images[:, -1:]) if channels in (2, 4) else (images, None)
    if alpha is not None:
        colour = 1 + (colour - 1) * (alpha + 1) / 2
    return colour.expand(-1, 3, -1, -1)
