"""A trained model that translates batches of images of any size."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from translate.applying.inference import generates_from_noise, in_mode, preserving_random_state
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
    """Load the model of a model file or of a run folder, ready to translate.

    device: auto, cpu, cuda, cuda:1 or mps. precision: auto, bf16, fp16 or fp32.
    Raises CheckpointError, PluginError (the model's plugin is not installed) and UsageError.
    """
    keep_freed_memory()
    torch_device = resolve_device(device)
    translator = Translator(load_model(model, torch_device), torch_device, precision)
    translator.model.to(memory_format=translator.memory_format)
    return translator


class Translator:
    """Translates images with a model. The model's weights, buffers and train or eval modes stay as they are."""

    def __init__(self, model: Model[Any], device: torch.device, precision: str = "auto") -> None:
        """model: already on `device`."""
        self.model = model
        self.device = device
        self.precision = resolve_precision(precision, device, model.spec.deep)
        self.memory_format = memory_format(device, self.precision)
        use_tf32(not model.spec.deep)
        self.stride = stride_of(model)
        self.routes = [(source, to) for source, to in model.routes if {source, to} <= set(model.spec)]
        self.one_by_one = model.couples_batch or model.inference_mode == "train"

    def route(self, to: str | None = None) -> tuple[str, str]:
        """The source and target domain of a translation; by default those of the model's first route.

        Raises UsageError, with all routes, for a target that the model does not have.
        """
        if not self.routes:
            from_noise = generates_from_noise(self.model)
            remedy = " It generates them from noise: use `translate sample`." if from_noise else ""
            raise UsageError(f"The model {self.model.name!r} does not translate images.{remedy}")
        for source, target in self.routes:
            if to in (None, target):
                return source, target
        known = ", ".join(f"{target!r} (from {source!r})" for source, target in self.routes)
        raise UsageError(f"The model {self.model.name!r} does not translate to {to!r}. It translates to {known}.")

    def __call__(
        self, images: Tensor, *, to: str | None = None, seed: int = 0, names: Sequence[str] | None = None
    ) -> Tensor:
        """Translate images. Each result depends on its own image alone, not on the others of the call or their order.

        images: (N, C, H, W) float in [-1, 1], any height and width, of the domain that `to` is translated from.
        names: one for each image, by default "0", "1", …; random numbers that the model draws for an image depend on
        the seed and the image's name.
        Returns (N, C', H, W) float32 in [-1, 1] on the translator's device, as an inference tensor: clone it to train
        on it.
        Raises UsageError for a target that the model does not have, or images of another shape.
        """
        source, to = self.route(to)
        channels = self.model.spec[source].channels
        if images.ndim != 4 or images.shape[1] != channels:
            raise UsageError(f"Images have shape {tuple(images.shape)}; expected (N, {channels}, H, W) for {source!r}.")
        height, width = images.shape[-2:]
        names = [str(index) for index in range(len(images))] if names is None else names
        training = self.model.inference_mode == "train"
        with torch.inference_mode(), autocast(self.device, self.precision), in_mode(self.model, training) as restore:
            padded = pad_to_multiple(images.to(self.device, torch.float32), self.stride)
            padded = padded.contiguous(memory_format=self.memory_format)
            if not self.one_by_one:
                results = self._translate(padded, to)
            else:
                parts = []
                for index, name in enumerate(names):
                    with preserving_random_state(self.device):
                        torch.manual_seed(_image_seed(seed, name))
                        parts.append(self._translate(padded[index : index + 1], to))
                    restore()
                results = torch.cat(parts)
            return results[..., :height, :width].clamp(-1, 1).contiguous()

    def _translate(self, images: Tensor, to: str) -> Tensor:
        """What the model's `translate` returns, as float32. Raises PluginError if its shape is wrong."""
        results = self.model.translate(images, to=to)
        expected = (len(images), self.model.spec[to].channels, *images.shape[-2:])
        if results.shape != expected:
            raise PluginError(f"{self.model.name}.translate returned {tuple(results.shape)}; expected {expected}.")
        return results.float()


def pad_to_multiple(images: Tensor, stride: int) -> Tensor:
    """Pad images (..., H, W) at the right and bottom, by reflection, so that both sides are multiples of `stride`.

    Unlike `torch.nn.functional.pad`, it takes any dtype and reflects as often as needed.
    """
    height, width = images.shape[-2:]
    if height % stride == 0 and width % stride == 0:
        return images
    rows, columns = _reflected_indices(height, stride), _reflected_indices(width, stride)
    return images[..., rows.to(images.device)[:, None], columns.to(images.device)]


def _reflected_indices(length: int, stride: int) -> Tensor:
    """For each pixel along a padded side, the index of its source, int64: 0 1 2 1 0 1 2 1 for length 3 and stride 8."""
    period = max(2 * (length - 1), 1)
    indices = torch.arange(length + -length % stride) % period
    return torch.minimum(indices, period - indices) if length > 1 else indices


def _image_seed(seed: int, name: str) -> int:
    """The seed of one image's random numbers: a hash of the user's seed and the image's name."""
    digest = hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big")
