"""A trained model that translates batches of images of any size."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from translate.applying.inference import in_mode, needs_no_input, own_random_numbers
from translate.applying.model_file import load_model, stride_of
from translate.device import (
    autocast,
    keep_freed_memory,
    memory_format,
    resolve_device,
    resolve_precision,
    use_tf32,
)
from translate.errors import PluginError, UsageError
from translate.model import Model


def load(model: str | Path, device: str = "auto", precision: str = "auto") -> Translator:
    """The translator of a model file or of a run folder.

    device: auto, cpu, cuda, cuda:1 or mps. precision: auto, bf16, fp16 or fp32.
    Raises CheckpointError, PluginError (the model's plugin is not installed) and UsageError.
    """
    keep_freed_memory()
    where = resolve_device(device)
    translator = Translator(load_model(model, where), where, precision)
    translator.model.to(memory_format=translator.memory_format)
    return translator


class Translator:
    """Translates images with a model, and leaves the model as it was: weights, buffers, and the networks' modes."""

    def __init__(self, model: Model[Any], device: torch.device, precision: str = "auto") -> None:
        """model: on `device` already."""
        self.model = model
        self.device = device
        self.precision = resolve_precision(precision, device, model.spec.deep)
        self.memory_format = memory_format(device, self.precision)
        use_tf32(not model.spec.deep)
        self.stride = stride_of(model)
        self.routes = [(source, to) for source, to in model.routes if {source, to} <= set(model.spec)]
        self.one_by_one = model.couples_batch or model.inference_mode == "train"

    def route(self, to: str | None = None) -> tuple[str, str]:
        """Source and target domain of a translation; None: the model's default. Raises UsageError naming the routes."""
        if not self.routes:
            remedy = " It makes them of random numbers: use `translate sample`." if needs_no_input(self.model) else ""
            raise UsageError(f"The model {self.model.name!r} does not translate images.{remedy}")
        for source, target in self.routes:
            if to in (None, target):
                return source, target
        known = ", ".join(f"{target!r} (from {source!r})" for source, target in self.routes)
        raise UsageError(f"The model {self.model.name!r} does not translate to {to!r}. It translates to {known}.")

    def __call__(
        self, images: Tensor, *, to: str | None = None, seed: int = 0, names: Sequence[str] | None = None
    ) -> Tensor:
        """Translate images; the result does not depend on which images share the call, nor on their order.

        images: (N, C, H, W) float in [-1, 1], any height and width, of the domain that `to` is translated from.
        names: N names; an image's random numbers, if the model draws any, come from the seed and its name. By default
        the names are "0", "1", …
        Returns (N, C', H, W) float32 in [-1, 1] on the translator's device; clone it to train on it.
        Raises UsageError for a route that the model does not have, or images of another shape.
        """
        source, to = self.route(to)
        channels = self.model.spec[source].channels
        if images.ndim != 4 or images.shape[1] != channels:
            raise UsageError(f"Images have shape {tuple(images.shape)}; expected (N, {channels}, H, W) for {source!r}.")
        height, width = images.shape[-2:]
        names = [str(index) for index in range(len(images))] if names is None else names
        training = self.model.inference_mode == "train"
        with torch.inference_mode(), autocast(self.device, self.precision), in_mode(self.model, training) as restore:
            padded = pad(images.to(self.device, torch.float32), self.stride)
            padded = padded.contiguous(memory_format=self.memory_format)
            if not self.one_by_one:
                results = self._checked(padded, to)
            else:
                parts = []
                for index, name in enumerate(names):
                    with own_random_numbers(self.device):
                        torch.manual_seed(_seed_of(seed, name))
                        parts.append(self._checked(padded[index : index + 1], to))
                    restore()
                results = torch.cat(parts)
            return results[..., :height, :width].clamp(-1, 1).contiguous()

    def _checked(self, images: Tensor, to: str) -> Tensor:
        """The model's own translation, float32. Raises PluginError if it has another shape than it should."""
        results = self.model.translate(images, to=to)
        expected = (len(images), self.model.spec[to].channels, *images.shape[-2:])
        if results.shape != expected:
            raise PluginError(f"{self.model.name}.translate returned {tuple(results.shape)}; expected {expected}.")
        return results.float()


def pad(images: Tensor, stride: int) -> Tensor:
    """Grow images (..., H, W), at the right and bottom to multiples of `stride`, mirrored at the last pixel."""
    height, width = images.shape[-2:]
    if height % stride == 0 and width % stride == 0:
        return images
    rows, columns = _mirrored(height, stride), _mirrored(width, stride)
    return images[..., rows.to(images.device)[:, None], columns.to(images.device)]


def _mirrored(length: int, stride: int) -> Tensor:
    """Where the pixels of a padded side come from: 0 1 2 1 0 1 2 1 for length 3 and stride 8. int64."""
    period = max(2 * (length - 1), 1)
    places = torch.arange(length + -length % stride) % period
    return torch.minimum(places, period - places) if length > 1 else places


def _seed_of(seed: int, name: str) -> int:
    """The seed of one image's random numbers, by the user's seed and the image's name alone."""
    digest = hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big")
