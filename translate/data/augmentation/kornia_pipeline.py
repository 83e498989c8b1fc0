"""Applies transforms of kornia to batches, on their device, as pure functions of a seed.

kornia draws from torch's global generator of the CPU, whatever the images' device. The generator is seeded before each
transform of each batch, and restored in the end: the batches of one example get the same draws because they get the
same numbers, whatever their channels.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from kornia.augmentation import AugmentationSequential
from kornia.constants import DataKey
from torch import Tensor

from translate.data.augmentation.checks import apply_checked, check_label_values, label_noise, start_of_error
from translate.data.augmentation.transforms import Transform


class KorniaPipeline:
    """Transforms of kornia, applied to whole batches."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self._transforms = [_SeededTransform(label, value) for label, _, value in transforms]
        self._checked: set[object] = set()

    @torch.no_grad()
    def __call__(self, batches: Sequence[Tensor], kinds: Sequence[str], seed: int) -> list[Tensor]:
        """Augment a batch, in one thread only, as kornia uses torch's global generator.

        batches: (N, C, H, W) float32 in [-1, 1] each, aligned, on one device. kinds: of each, "labels" for label
        images. Every row has its own draws, the same in all batches. The result has the same shapes and range, and
        depends on the arguments only; the generator's state is restored. Raises DataError, naming the transform, if it
        does not fit such images.
        """
        keys = random.Random(seed)
        seeds = [keys.getrandbits(64) for _ in self._transforms]
        results = []
        with torch.random.fork_rng(devices=[]), torch.autocast(batches[0].device.type, enabled=False):
            for batch, kind in zip(batches, kinds, strict=True):
                if (kind, batch.shape[1:]) not in self._checked:
                    self._check(batch, kind)
                    self._checked.add((kind, batch.shape[1:]))
                augment = self._augment_labels if kind == "labels" else self._augment_images
                results.append(augment(batch, seeds))
        return results

    def _augment_images(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        batch = (batch + 1) / 2  # kornia's images are in [0, 1]
        for transform, seed in zip(self._transforms, seeds, strict=True):
            batch = transform(batch, "images", seed).clamp(0, 1)
        return batch * 2 - 1

    def _augment_labels(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        """Kornia fills pixels from outside the image with 0, which is no label; a channel of ones finds them."""
        batch = torch.cat([batch, torch.ones_like(batch[:, :1])], 1)  # (N, C + 1, H, W)
        for transform, seed in zip(self._transforms, seeds, strict=True):
            batch = transform(batch, "labels", seed)
        return batch[:, :-1].where(batch[:, -1:] > 0, -1.0)

    def _check(self, batch: Tensor, kind: str) -> None:
        """Apply every transform once to images like these, so that a rare one does not fail hours later.

        Label images are replaced by noise of a few values, which shows whether a transform makes new ones.
        Raises DataError.
        """
        channels, height, width = batch.shape[1:]
        values, noise = (torch.from_numpy(each) / 255 for each in label_noise(height, width, channels + 1))
        probe = noise.permute(2, 0, 1)[None].to(batch.device) if kind == "labels" else (batch[:1] + 1) / 2
        for transform in self._transforms:
            result = transform(probe, kind, seed=0, force=True)
            if kind == "labels":
                pixels = result[0].permute(1, 2, 0).cpu().numpy()
                check_label_values(pixels, list(values.numpy()), transform.start_of_error(probe, kind))


class _SeededTransform:
    """One transform."""

    def __init__(self, label: str, transform: Any) -> None:
        # a container of one skips colour transforms for labels, and samples labels by nearest neighbour
        nearest = {DataKey.MASK: {"resample": "nearest"}}
        self._sequence = AugmentationSequential(transform, data_keys=["input"], extra_args=nearest)
        self._label, self._transform = label, transform

    def __call__(self, batch: Tensor, kind: str, seed: int, *, force: bool = False) -> Tensor:
        """A batch with the draws of one seed; force: on every row, whatever the probability. Raises DataError."""

        def transformed() -> Any:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the devices' generators as well
            params: Any = self._sequence.forward_parameters(batch.shape)
            if force:
                params[0].data["batch_prob"] = torch.ones(len(batch))
            return self._sequence(batch, params=params, data_keys=["mask" if kind == "labels" else "input"])

        result: Tensor = apply_checked(transformed, batch, _described, self.start_of_error(batch, kind))
        return result

    def start_of_error(self, batch: Tensor, kind: str) -> str:
        """The last channel of labels is the one of ones, and not counted."""
        return start_of_error(self._label, self._transform, kind, batch.shape[1] - (kind == "labels"))


def _described(batch: Tensor) -> str:
    return f"{str(batch.dtype).removeprefix('torch.')} images of {batch.shape[3]} × {batch.shape[2]} pixels"
