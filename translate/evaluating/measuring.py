"""Takes images batch by batch and keeps what the numbers are made of: features and errors, never the images.

made        the model's images
real        images of the domain that it should hit
unchanged   what doing nothing gives: the inputs as they are or, for a model without inputs, noise
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

from translate.data.images import as_float, as_uint8
from translate.distributed.group import Group
from translate.errors import DataError, PluginError
from translate.evaluating.distances import frechet_distance, halves, kernel_distance
from translate.evaluating.paired import paired_errors

Kind = Literal["made", "real", "unchanged"]


@dataclass(frozen=True)
class Distance:
    """How far the made images are from the real ones, as sets.

    deviation: of `value` over random subsets, where it is the mean over them.
    floor: the distance of two random halves of the real images; None of fewer than 4 images.
    ceiling: the distance of the unchanged images from the real ones.
    """

    value: float
    deviation: float | None
    floor: float | None
    ceiling: float


@dataclass(frozen=True)
class Mean:
    """standard_error: of the mean over images; None of one image."""

    mean: float
    standard_error: float | None


@dataclass(frozen=True)
class Error:
    """How far images are from their truths: those that were made, and the unchanged ones; None if channels differ."""

    made: Mean
    unchanged: Mean | None


class Measuring:
    """Images are float (N, C, H, W) in [-1, 1]; of the made ones their 8-bit form is measured, as it would be saved."""

    def __init__(self, network: nn.Module | None, device: torch.device) -> None:
        """network: images (N, 3, H, W) -> features (N, D), or None if sets of images are not to be compared."""
        self.network = None if network is None else network.to(device)
        self.device = device
        self.counts: Counter[Kind] = Counter()
        self.pairs = 0
        self._features: dict[Kind, list[Tensor]] = {"made": [], "real": [], "unchanged": []}
        self._errors: dict[Kind, list[dict[str, Tensor]]] = {"made": [], "unchanged": []}

    @torch.inference_mode()
    def see(self, kind: Kind, images: Tensor) -> None:
        """Note the features of some images. Raises PluginError if the network gives none of the agreed shape."""
        self.counts[kind] += len(images)
        if self.network is None:
            return
        features = self.network(_as_rgb(in_8_bits(images).to(self.device)))
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(images):
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise PluginError(f"The network of features returned {shape}; expected ({len(images)}, D).")
        self._features[kind].append(features.float().cpu())

    @torch.inference_mode()
    def compare(self, made: Tensor, unchanged: Tensor, truths: Tensor) -> None:
        """Note how far images of one shape are from their truths, and so the unchanged ones if they have that shape."""
        self.pairs += len(truths)
        self._errors["made"].append(paired_errors(in_8_bits(made), truths))
        if unchanged.shape == truths.shape:
            self._errors["unchanged"].append(paired_errors(unchanged, truths))

    def gather(self, group: Group) -> None:
        """Add what the other ranks saw, in the order in which one would have seen it all."""
        self._features = {kind: group.gather_round_robin(parts) for kind, parts in self._features.items()}
        self._errors = {kind: group.gather_round_robin(parts) for kind, parts in self._errors.items()}
        seen = group.all_gather((self.counts, self.pairs))
        self.counts = sum((counts for counts, _ in seen), Counter[Kind]())
        self.pairs = sum(pairs for _, pairs in seen)

    def distances(self, seed: int) -> dict[str, Distance]:
        """Of the sets that were seen; none without a network. Raises DataError for a set of fewer than two images."""
        if self.network is None:
            return {}
        made, real, unchanged = (torch.cat(parts) for parts in self._features.values())
        real_halves = halves(real, seed) if len(real) >= 4 else None
        kernel = kernel_distance(made, real, seed)
        return {
            "frechet": Distance(
                frechet_distance(made, real),
                None,
                frechet_distance(*real_halves) if real_halves else None,
                frechet_distance(unchanged, real),
            ),
            "kernel": Distance(
                kernel.value,
                kernel.deviation,
                kernel_distance(*real_halves, seed).value if real_halves else None,
                kernel_distance(unchanged, real, seed).value,
            ),
        }

    def errors(self) -> dict[str, Error]:
        """Of the images that were compared with their truths; none if there were none."""
        made, unchanged = (_means(self._errors[kind]) for kind in ("made", "unchanged"))
        return {name: Error(mean, unchanged.get(name)) for name, mean in made.items()}


def in_8_bits(images: Tensor) -> Tensor:
    """The same images as a file of 8 bits a channel would hold them. Raises DataError if they are not finite."""
    if not images.isfinite().all():
        raise DataError("The model's images hold values that are not finite (NaN).")
    return as_float(as_uint8(images))


def fingerprint(network: nn.Module) -> str | None:
    """The sha256 of a network's weights and buffers, in hexadecimal digits; None if it has none."""
    digest = hashlib.sha256()
    state = sorted(network.state_dict().items())
    for name, tensor in state:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest() if state else None


def _means(parts: Sequence[dict[str, Tensor]]) -> dict[str, Mean]:
    means = {}
    for name in parts[0] if parts else ():
        values = torch.cat([part[name] for part in parts])
        error = float(values.std()) / sqrt(len(values)) if len(values) > 1 else None
        means[name] = Mean(float(values.mean()), error)
    return means


def _as_rgb(images: Tensor) -> Tensor:
    """(N, C, H, W) as (N, 3, H, W): grey in each channel, transparent on white. Raises DataError for other channels."""
    channels = images.shape[1]
    if channels not in (1, 2, 3, 4):
        raise DataError(f"Networks of features see RGB, and these images have {channels} channels.")
    colour, alpha = (images[:, :-1], images[:, -1:]) if channels in (2, 4) else (images, None)
    if alpha is not None:
        colour = 1 + (colour - 1) * (alpha + 1) / 2
    return colour.expand(-1, 3, -1, -1)
