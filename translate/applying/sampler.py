"""A trained model that makes images of random numbers: an image for each seed, and the images between and across."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from translate.applying.inference import in_mode, needs_no_input, own_random_numbers
from translate.applying.model_file import load_model
from translate.contact_sheet import grid
from translate.data.images import as_uint8
from translate.device import autocast, memory_format, resolve_device, resolve_precision, use_tf32
from translate.errors import DataError, PluginError, UsageError, did_you_mean
from translate.model import Model


class Sampler:
    """Makes images of seeds with a model, and leaves the model and the random generators as they were.

    An image is a function of its seed, its class and the kind of device: which images share a batch changes no more of
    it than rounding. Wherever a call takes seeds it takes `labels` too, one for each seed, indices into the domain's
    classes, needed exactly if there are classes; and `truncation` in [0, 1], how far from the mean style the images
    may be (Karras, Laine, Aila: StyleGAN, CVPR 2019, arXiv:1812.04948, appendix B), below 1 only with a style space.
    All calls raise UsageError for arguments that the model cannot take, PluginError for images of another shape than
    the domain's, and DataError for images that are not finite.
    """

    def __init__(self, model: Model[Any], device: torch.device, precision: str = "auto", batch: int = 64) -> None:
        """model: on `device` already. batch: images made at once. Raises UsageError if it only translates images."""
        if not needs_no_input(model):
            raise UsageError(
                f"The model {model.name!r} makes no images without an input; it translates them: use `translate apply`."
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
        """The sampler of a model file or of a run folder.

        device: auto, cpu, cuda, cuda:1 or mps. precision: auto, bf16, fp16 or fp32.
        Raises CheckpointError, PluginError (the model's plugin is not installed) and UsageError.
        """
        where = resolve_device(device)
        sampler = cls(load_model(model, where), where, precision, batch)
        sampler.model.to(memory_format=memory_format(where, sampler.precision))
        return sampler

    def label(self, name: str) -> int:
        """The label of a class. Raises UsageError, naming the near matches or all classes."""
        if name not in self.domain.classes:
            without = f"The model {self.model.name!r} was trained without classes; leave the label {name!r} out."
            unknown = f"The model {self.model.name!r} has no class {name!r}. {did_you_mean(name, self.domain.classes)}"
            raise UsageError(unknown if self.domain.classes else without)
        return self.domain.classes.index(name)

    def __call__(self, seeds: Sequence[int], labels: Sequence[int] | None = None, truncation: float = 1.0) -> Tensor:
        """The images of seeds: (N, C, size, size) float32 in [-1, 1] on the sampler's device."""
        with self._inference():
            codes, given = self._codes(seeds, labels, truncation)
            return self._images(codes, given)

    def interpolate(
        self, seeds: Sequence[int], frames: int, labels: Sequence[int] | None = None, truncation: float = 1.0
    ) -> Tensor:
        """The way from each seed to the next, (pairs, frames, C, size, size); its first and last are the seeds' images.

        Linear between styles, and from one class to another there. Without a style space on the arc between latents,
        which keeps their length (White: Sampling Generative Networks, 2016, arXiv:1609.04468), and within one class.
        """
        if len(seeds) < 2 or frames < 2:
            raise UsageError(f"An interpolation needs two seeds and two frames; got {len(seeds)} and {frames}.")
        if labels is not None and len(set(labels)) > 1 and not self.has_styles:
            raise UsageError(
                f"The model {self.model.name!r} has no style space, in which one could go from class to class; "
                "interpolate within one class."
            )
        with self._inference():
            codes, given = self._codes(seeds, labels, truncation)
            shares = torch.linspace(0, 1, frames, device=self.device)
            between = torch.lerp if self.has_styles else _on_the_arc
            shares = shares.view(-1, *[1] * (codes.ndim - 1))
            ways = [between(first, second, shares) for first, second in pairwise(codes[:, None])]  # (frames, …) each
            given = None if given is None else given[:1].expand(len(ways) * frames)
            images = self._images(torch.cat(ways), given)
            return images.view(len(ways), frames, *images.shape[1:])

    def mix(self, seeds: Sequence[int], labels: Sequence[int] | None = None, truncation: float = 1.0) -> Tensor:
        """Style mixing, (N, N, C, size, size): coarse styles of the row's seed, fine styles of the column's.

        The first half of the layers is coarse. On the diagonal are the seeds' own images. Karras, Laine, Aila:
        StyleGAN, CVPR 2019, arXiv:1812.04948, section 3.1.
        """
        self._needs_styles("no styles to mix")
        with self._inference():
            styles, _ = self._codes(seeds, labels, truncation)  # (N, layers, width)
            count, layers = styles.shape[:2]
            coarse = styles[:, : layers // 2].repeat_interleave(count, 0)  # (N·N, layers / 2, width): row by row
            fine = styles[:, layers // 2 :].repeat(count, 1, 1)
            images = self._images(torch.cat([coarse, fine], 1), None)
            return images.view(count, count, *images.shape[1:])

    @contextmanager
    def _inference(self) -> Iterator[None]:
        with torch.inference_mode(), in_mode(self.model, training=False), own_random_numbers(self.device):
            yield

    def _codes(
        self, seeds: Sequence[int], labels: Sequence[int] | None, truncation: float
    ) -> tuple[Tensor, Tensor | None]:
        """The styles (N, layers, width) of seeds, or their latents (N, …), float32; and their labels, int64 (N,).

        The styles are computed in fp32 always: they are a small part of the work, and what interpolation is done on.
        """
        if not 0 <= truncation <= 1:
            raise UsageError(f"The truncation is {truncation}; it must be from 0 (the mean style) to 1 (none).")
        if truncation != 1:
            self._needs_styles("no mean style to truncate towards")
        for seed in seeds:
            if not 0 <= seed < 2**63:
                raise UsageError(f"The seed {seed} is no whole number from 0 to 2**63 - 1.")
        given = self._checked(labels, len(seeds))
        latents = []
        for seed in seeds:
            torch.manual_seed(seed)
            latents.append(self.model.latents(1))
        codes = torch.cat(latents)
        if self.has_styles:
            codes = self.model.styles(codes, given, truncation)
            if codes.ndim != 3 or len(codes) != len(seeds):
                raise PluginError(
                    f"{self.model.name}.styles returned {tuple(codes.shape)}; expected ({len(seeds)}, layers, width)."
                )
        return codes.float(), given

    def _checked(self, labels: Sequence[int] | None, count: int) -> Tensor | None:
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

    def _needs_styles(self, lack: str) -> None:
        if not self.has_styles:
            raise UsageError(f"The model {self.model.name!r} has no style space, and so {lack}.")

    def _images(self, codes: Tensor, labels: Tensor | None) -> Tensor:
        """The images of styles or latents: (N, C, size, size) float32 in [-1, 1]."""
        parts = []
        for start in range(0, len(codes), self.batch):
            part = slice(start, start + self.batch)
            try:
                with autocast(self.device, self.precision):
                    if self.has_styles:
                        images = self.model.synthesize(codes[part])
                    else:
                        images = self.model.sample(codes[part], None if labels is None else labels[part])
            except torch.OutOfMemoryError as error:
                raise UsageError(f"{self.batch} images at once do not fit into memory; try fewer (--batch).") from error
            parts.append(images.float())
        images = torch.cat(parts)
        expected = (len(codes), self.domain.channels, self.domain.size, self.domain.size)
        if images.shape != expected:
            raise PluginError(f"{self.model.name} made images of shape {tuple(images.shape)}; expected {expected}.")
        if not images.isfinite().all():
            raise DataError(f"The model {self.model.name!r} made images with values that are not finite (NaN).")
        return images.clamp(-1, 1).contiguous()


def _on_the_arc(first: Tensor, second: Tensor, shares: Tensor) -> Tensor:
    """Spherical interpolation of latents (1, …), one result for each of the shares (N, 1, …); linear on one line."""
    cosine = torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0)
    angle = torch.acos(cosine.clamp(-1, 1))
    arc = (torch.sin((1 - shares) * angle) * first + torch.sin(shares * angle) * second) / torch.sin(angle)
    return torch.where(torch.sin(angle) > 1e-3, arc, torch.lerp(first, second, shares))


def in_turn(sampler: Sampler, count: int, labels: Sequence[int] = ()) -> list[int] | None:
    """Labels for so many images: the given ones in turn, by default all of the model's; None without classes."""
    turn = labels or range(len(sampler.domain.classes))
    return [turn[number % len(turn)] for number in range(count)] if turn else None


def sheet(sampler: Sampler, n: int, *, seed: int = 0, labels: Sequence[int] = (), truncation: float = 1.0) -> Tensor:
    """The images of n seeds from `seed` on, as one picture: uint8 (3, H, W) on the CPU.

    Several classes (those of `labels`, by default all) become columns with titles if there are images enough for a
    row; otherwise the picture is about square.
    """
    seeds, turn = range(seed, seed + n), in_turn(sampler, n, labels)
    cells: list[Tensor] = []
    for start in range(0, n, sampler.batch):
        part = slice(start, start + sampler.batch)
        cells += as_uint8(sampler(seeds[part], turn and turn[part], truncation)).cpu()
    classes = [sampler.domain.classes[label] for label in labels] or sampler.domain.classes
    titles = classes if 1 < len(classes) <= n else ()
    columns = len(titles) or math.ceil(math.sqrt(n))
    return grid([cells[start : start + columns] for start in range(0, n, columns)], titles)
