"""Runs transforms of kornia on batches, on their device, as pure functions of a seed.

kornia draws from torch's global generator of the CPU, whatever the images' device. Here it is set before each transform
of each view, and put back in the end: views get the same draws by getting the same numbers, whatever their channels.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from kornia.augmentation import AugmentationSequential
from kornia.constants import DataKey
from torch import Tensor

from translate.data.augmentation.building import Transform, reason
from translate.data.augmentation.host import code_values
from translate.errors import DataError
from translate.formatting import plural


class Device:
    """The transforms of kornia that `--augment` asks for."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        # a container of one keeps colour transforms off labels, and takes their nearest pixels
        nearest = {DataKey.MASK: {"resample": "nearest"}}
        self._steps = [
            (label, AugmentationSequential(value, data_keys=["input"], extra_args=nearest))
            for label, _, value in transforms
        ]
        self._proved: set[object] = set()

    @torch.no_grad()
    def __call__(self, batches: Sequence[Tensor], kinds: Sequence[str], seed: int) -> list[Tensor]:
        """`Augmentation.on_device`."""
        keys = random.Random(seed)
        seeds = [keys.getrandbits(64) for _ in self._steps]
        results = []
        with _borrowed_generator(batches[0].device):
            for batch, kind in zip(batches, kinds, strict=True):
                if (kind, batch.shape[1:]) not in self._proved:
                    self._prove(batch, kind)
                    self._proved.add((kind, batch.shape[1:]))
                run = self._labels if kind == "labels" else self._images
                results.append(run(batch, seeds))
        return results

    def _images(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        batch = (batch + 1) / 2  # kornia's images are in [0, 1]
        for number, seed in zip(range(len(self._steps)), seeds, strict=True):
            batch = self._apply(number, batch, "images", seed).clamp(0, 1)
        return batch * 2 - 1

    def _labels(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        """Where no pixel of the batch comes to lie, kornia puts 0, which is no label; a channel of ones finds it."""
        batch = torch.cat([batch, torch.ones_like(batch[:, :1])], 1)  # (N, C + 1, H, W)
        for number, seed in zip(range(len(self._steps)), seeds, strict=True):
            batch = self._apply(number, batch, "labels", seed)
        return batch[:, :-1].where(batch[:, -1:] > 0, -1.0)

    def _apply(self, number: int, batch: Tensor, kind: str, seed: int, *, force: bool = False) -> Tensor:
        """One transform with the draws of one seed; force: on every row, whatever its probability. Raises DataError."""
        step = self._steps[number][1]
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the devices' generators as well
        try:
            params: Any = step.forward_parameters(batch.shape)
            if force:
                params[0].data["batch_prob"] = torch.ones(len(batch))
            key = "mask" if kind == "labels" else "input"
            result: Tensor = step(batch, params=params, data_keys=[key])
        except Exception as error:  # whatever a transform makes of images it was not written for
            raise DataError(f"{self._cannot(number, batch, kind)}: {reason(error)}.") from error
        if result.shape != batch.shape:
            was, now = (f"{each.shape[3]} × {each.shape[2]} pixels" for each in (batch, result))
            raise DataError(
                f"{self._cannot(number, batch, kind)}: it makes images of {now} of those of {was}, and training needs "
                "one size; take it out of --augment (--size and --preprocess set the size)."
            )
        return result

    def _cannot(self, number: int, batch: Tensor, kind: str) -> str:
        label, step = self._steps[number]
        channels = plural(batch.shape[1] - (kind == "labels"), "channel")
        return (
            f"The augmentation {label} ({type(step[0]).__name__}) cannot be applied to "
            f"{'label images' if kind == 'labels' else 'images'} of {channels}"
        )

    def _prove(self, batch: Tensor, kind: str) -> None:
        """Apply every transform once to images like these, so that a rare one does not fail hours later.

        Label images are replaced by noise of few values, which shows whether a transform makes new ones.
        Raises DataError.
        """
        probe = (batch[:1] + 1) / 2
        if kind == "labels":
            codes = torch.from_numpy(code_values(batch.shape[1] + 1)).to(batch) / 255  # (3, C + 1)
            drawn = torch.randint(len(codes), (1, *batch.shape[2:]), generator=torch.Generator().manual_seed(0))
            probe = codes[drawn.to(batch.device)].permute(0, 3, 1, 2)
        for number in range(len(self._steps)):
            result = self._apply(number, probe, kind, seed=0, force=True)
            if kind == "labels":
                same = (result[:, None] == codes[:, :, None, None]).all(2).any(1)  # (1, H, W); 0 is one of the codes
                if not same.all():
                    cannot = self._cannot(number, probe, kind)
                    raise DataError(f"{cannot}: it makes values that were not there before; take it out of --augment.")


@contextmanager
def _borrowed_generator(device: torch.device) -> Iterator[None]:
    """Let kornia use torch's global generator of the CPU, from which it draws for all devices, and put it back."""
    with torch.random.fork_rng(devices=[]), torch.autocast(device.type, enabled=False):
        yield
