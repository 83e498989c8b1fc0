"""A trained model that generates images from noise: one for each seed, interpolations, and mixtures of styles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from translate.applying.inference import generates_from_noise, in_mode, preserving_random_state
from translate.applying.model_file import load_model
from translate.contact_sheet import grid
from translate.data.images import as_pixels
from translate.device import autocast, memory_format, resolve_device, resolve_precision, use_tf32
from translate.errors import DataError, PluginError, UsageError, did_you_mean
from translate.model import Model


class Sampler:
    """Generates images from seeds. The model and the random generators stay as they were.

    An image depends on its seed, its class and the type of device. The other images of its batch change it only by
    rounding error. These arguments are the same in all methods:
    labels: one for each seed, indices into the domain's classes; required if there are classes, and refused otherwise.
    truncation: in [0, 1], how far styles may be from the mean style; other values than 1 need a model with styles.
    Karras, Laine, Aila: StyleGAN, CVPR 2019, arXiv:1812.04948, appendix B.
    All methods raise UsageError for arguments that the model cannot take, PluginError for images of another shape than
    the domain's, and DataError for images that are not finite.
    """

    def __init__(self, model: Model[Any], device: torch.device, precision: str = "auto", batch: int = 64) -> None:
        """model: already on `device`. batch: images generated at once.

        Raises UsageError if the model translates images instead of generating them.
        """
        if not generates_from_noise(model):
            raise UsageError(
                f"The model {model.name!r} does not generate images from noise. "
                "It translates images: use `translate apply`."
            )
        self.model = model
        self.device = device
        self.precision = resolve_precision(precision, device, model.spec.deep)
        use_tf32(not model.spec.deep)
        self.batch = batch
        self.domain = next(iter(model.spec.values()))
        self.has_styles = type(model).styles is not Model.styles

    @classmethod
    def load(cls, model: str | Path, device: str = "auto", precision: str = "auto", batch: int = 64) -> Sampler:
        """Load the model of a model file or of a run folder, ready to generate images.

        device: auto, cpu, cuda, cuda:1 or mps. precision: auto, bf16, fp16 or fp32.
        Raises CheckpointError, PluginError (the model's plugin is not installed) and UsageError.
        """
        torch_device = resolve_device(device)
        sampler = cls(load_model(model, torch_device), torch_device, precision, batch)
        sampler.model.to(memory_format=memory_format(torch_device, sampler.precision))
        return sampler

    def label(self, name: str) -> int:
        """The label of a class. Raises UsageError, with near matches or all classes, if there is no such class."""
        if name not in self.domain.classes:
            without = f"The model {self.model.name!r} was trained without classes; leave the label {name!r} out."
            unknown = f"The model {self.model.name!r} has no class {name!r}. {did_you_mean(name, self.domain.classes)}"
            raise UsageError(unknown if self.domain.classes else without)
        return self.domain.classes.index(name)

    def __call__(self, seeds: Sequence[int], labels: Sequence[int] | None = None, truncation: float = 1.0) -> Tensor:
        """One image for each seed: (N, C, size, size) float32 in [-1, 1] on the sampler's device."""
        with self._inference():
            return self._images(*self._vectors(seeds, labels, truncation))

    def interpolate(
        self, seeds: Sequence[int], frames: int, labels: Sequence[int] | None = None, truncation: float = 1.0
    ) -> Tensor:
        """Images between each seed and the next: (N - 1, frames, C, size, size); the first and last are the seeds' own.

        With styles, the interpolation is linear between them, and may go from one class to another. Without styles, it
        is spherical between latents, which preserves their norm, and stays within one class. White: Sampling Generative
        Networks, 2016, arXiv:1609.04468.
        """
        if len(seeds) < 2 or frames < 2:
            raise UsageError(f"An interpolation needs two seeds and two frames; got {len(seeds)} and {frames}.")
        if labels is not None and len(set(labels)) > 1 and not self.has_styles:
            raise UsageError(
                f"The model {self.model.name!r} has no style space, in which one could go from class to class; "
                "interpolate within one class."
            )
        with self._inference():
            vectors, label_tensor = self._vectors(seeds, labels, truncation)
            weights = torch.linspace(0, 1, frames, device=self.device).view(-1, *[1] * (vectors.ndim - 1))
            interpolate = torch.lerp if self.has_styles else _slerp
            segments = [interpolate(start, end, weights) for start, end in pairwise(vectors[:, None])]  # (frames, …)
            if label_tensor is not None:
                label_tensor = label_tensor[:1].expand(len(segments) * frames)
            images = self._images(torch.cat(segments), label_tensor)
            return images.view(len(segments), frames, *images.shape[1:])

    def mix(self, seeds: Sequence[int], labels: Sequence[int] | None = None, truncation: float = 1.0) -> Tensor:
        """Style mixing, (N, N, C, size, size): coarse styles of the row's seed, fine styles of the column's.

        Coarse styles are those of the first half of the layers. The diagonal holds the seeds' own images.
        Karras, Laine, Aila: StyleGAN, CVPR 2019, arXiv:1812.04948, section 3.1.
        """
        self._require_styles("no styles to mix")
        with self._inference():
            styles, _ = self._vectors(seeds, labels, truncation)  # (N, layers, width)
            count, layers = styles.shape[:2]
            coarse = styles[:, : layers // 2].repeat_interleave(count, 0)  # (N·N, layers / 2, width): row by row
            fine = styles[:, layers // 2 :].repeat(count, 1, 1)
            images = self._images(torch.cat([coarse, fine], 1), None)
            return images.view(count, count, *images.shape[1:])

    @contextmanager
    def _inference(self) -> Iterator[None]:
        with torch.inference_mode(), in_mode(self.model, training=False), preserving_random_state(self.device):
            yield

    def _vectors(
        self, seeds: Sequence[int], labels: Sequence[int] | None, truncation: float
    ) -> tuple[Tensor, Tensor | None]:
        """What images are synthesized from: styles (N, layers, width), or else latents (N, …); float32.

        The second tensor holds the labels, int64 (N,), or is None. Styles are always computed in fp32, since they are
        interpolated and take a small part of the time.
        """
        if not 0 <= truncation <= 1:
            raise UsageError(f"The truncation is {truncation}; it must be from 0 (the mean style) to 1 (none).")
        if truncation != 1:
            self._require_styles("no mean style to truncate towards")
        for seed in seeds:
            if not 0 <= seed < 2**63:
                raise UsageError(f"The seed {seed} is no whole number from 0 to 2**63 - 1.")
        label_tensor = self._label_tensor(labels, len(seeds))
        latents = []
        for seed in seeds:
            torch.manual_seed(seed)
            latents.append(self.model.latents(1))
        vectors = torch.cat(latents)
        if self.has_styles:
            vectors = self.model.styles(vectors, label_tensor, truncation)
            if vectors.ndim != 3 or len(vectors) != len(seeds):
                raise PluginError(
                    f"{self.model.name}.styles returned {tuple(vectors.shape)}; expected ({len(seeds)}, layers, width)."
                )
        return vectors.float(), label_tensor

    def _label_tensor(self, labels: Sequence[int] | None, count: int) -> Tensor | None:
        """The labels on the device. Raises UsageError unless there is one for each image, of a class that exists."""
        classes = self.domain.classes
        if bool(classes) != (labels is not None):
            found = (
                f"has the classes {', '.join(classes)}; give labels" if classes else "has no classes; give no labels"
            )
            raise UsageError(f"The model {self.model.name!r} {found}.")
        if labels is None:
            return None
        if len(labels) != count or not all(0 <= label < len(classes) for label in labels):
            raise UsageError(f"The labels are {list(labels)}; expected {count}, from 0 to {len(classes) - 1}.")
        return torch.tensor(labels, device=self.device)

    def _require_styles(self, consequence: str) -> None:
        if not self.has_styles:
            raise UsageError(f"The model {self.model.name!r} has no style space, and so {consequence}.")

    def _images(self, vectors: Tensor, labels: Tensor | None) -> Tensor:
        """The images of styles or latents: (N, C, size, size) float32 in [-1, 1]."""
        parts = []
        for start in range(0, len(vectors), self.batch):
            part = slice(start, start + self.batch)
            try:
                with autocast(self.device, self.precision):
                    if self.has_styles:
                        images = self.model.synthesize(vectors[part])
                    else:
                        images = self.model.sample(vectors[part], None if labels is None else labels[part])
            except torch.OutOfMemoryError as error:
                raise UsageError(f"{self.batch} images at once do not fit into memory; try fewer (--batch).") from error
            parts.append(images.float())
        images = torch.cat(parts)
        expected = (len(vectors), self.domain.channels, self.domain.size, self.domain.size)
        if images.shape != expected:
            raise PluginError(f"{self.model.name} made images of shape {tuple(images.shape)}; expected {expected}.")
        if not images.isfinite().all():
            raise DataError(f"The model {self.model.name!r} made images with values that are not finite (NaN).")
        return images.clamp(-1, 1).contiguous()


def _slerp(start: Tensor, end: Tensor, weights: Tensor) -> Tensor:
    """Spherical linear interpolation of latents (1, …) by weights (N, 1, …) in [0, 1]: (N, …).

    Latents on one line, where the arc is not defined, are interpolated linearly.
    """
    cosine = torch.nn.functional.cosine_similarity(start.flatten(), end.flatten(), dim=0)
    angle = torch.acos(cosine.clamp(-1, 1))
    arc = (torch.sin((1 - weights) * angle) * start + torch.sin(weights * angle) * end) / torch.sin(angle)
    return torch.where(torch.sin(angle) > 1e-3, arc, torch.lerp(start, end, weights))


def cycle_labels(sampler: Sampler, count: int, labels: Sequence[int] = ()) -> list[int] | None:
    """`count` labels: the given ones, by default all of the model's, in rotation. None for a model without classes."""
    labels = labels or range(len(sampler.domain.classes))
    return [labels[number % len(labels)] for number in range(count)] if labels else None


def sample_grid(
    sampler: Sampler, n: int, *, seed: int = 0, labels: Sequence[int] = (), truncation: float = 1.0
) -> Tensor:
    """The images of the n seeds from `seed` on, in one picture: uint8 (3, H, W) on the CPU.

    With several classes (those of `labels`, by default all) and at least one image for each, every class has a column
    with a title. Otherwise the picture is about square.
    """
    seeds, cycled = range(seed, seed + n), cycle_labels(sampler, n, labels)
    cells: list[Tensor] = []
    for start in range(0, n, sampler.batch):
        part = slice(start, start + sampler.batch)
        cells += as_pixels(sampler(seeds[part], cycled and cycled[part], truncation)).cpu()
    classes = [sampler.domain.classes[label] for label in labels] or sampler.domain.classes
    titles = classes if 1 < len(classes) <= n else ()
    columns = len(titles) or math.ceil(math.sqrt(n))
    return grid([cells[start : start + columns] for start in range(0, n, columns)], titles)
