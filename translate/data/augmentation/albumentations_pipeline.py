"""Applies transforms of albumentations to single images, in many threads, as pure functions of a seed.

albumentations keeps random state in its objects, so every thread has its own copies, and every transform (also a choice
such as OneOf) has its own generators, which are seeded anew for each image. Its draws therefore never depend on what
another transform drew: images that differ in channels or depth stay aligned, although noise draws more numbers for
three channels than for one.
"""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Sequence
from typing import Any

import albumentations  # type: ignore[import-untyped]
import cv2
import numpy
import torch
from torch import Tensor

from translate.data.augmentation.checks import Pixels, apply_checked, check_label_values, label_noise, start_of_error
from translate.data.augmentation.transforms import Transform, nested
from translate.formatting import plural


class AlbumentationsPipeline:
    """Transforms of albumentations, applied to one training example at a time."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        cv2.setNumThreads(0)  # the loader's threads already use the cores
        self._copies = _ThreadCopies(transforms)
        self._checked: set[object] = set()

    def __call__(
        self, images: Sequence[Tensor], kinds: Sequence[str], seed: int, ranges: Sequence[tuple[float, float]]
    ) -> list[Tensor]:
        """Augment one training example, in any thread; the result depends on the arguments only.

        images: (C, H, W) uint8, uint16 or float32 each, aligned, with one H and W. kinds: of each, "labels" for label
        images. ranges: the values of each that are black and white. The result has the same shapes and dtypes. Raises
        DataError, naming the transform, if it does not fit such images.
        """
        results = []
        for image, kind, value_range in zip(images, kinds, ranges, strict=True):
            low, high = (0.0, 1.0) if kind == "labels" else value_range  # labels keep their values
            pixels = _to_pixels(image, low, high)
            pipeline = self._copies.for_labels if kind == "labels" else self._copies.for_images
            if (kind, pixels.shape, pixels.dtype) not in self._checked:
                pipeline.check(pixels)
                self._checked.add((kind, pixels.shape, pixels.dtype))
            results.append(_to_image(pipeline(pixels, seed), image.dtype, low, high))
        return results


class _ThreadCopies(threading.local):
    """Each thread's own copies of the transforms."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.for_images = _SeededTransforms(transforms, "images")
        self.for_labels = _SeededTransforms(transforms, "labels")


class _SeededTransforms:
    """Copies of the transforms for one thread and one kind of image."""

    def __init__(self, transforms: Sequence[Transform], kind: str) -> None:
        self._transforms = copy.deepcopy(list(transforms))
        self._parts = [(label, part) for label, _, transform in self._transforms for part in nested(transform)]
        self._kind = kind
        self._generators = []
        for _, part in self._parts:
            generators = random.Random(), numpy.random.PCG64(0)
            # parents come before their children, for which they set the generators as well
            part.set_random_state(numpy.random.Generator(generators[1]), generators[0])
            self._generators.append(generators)
            if kind == "labels" and isinstance(part, albumentations.ImageOnlyTransform):
                part.p = 0.0  # a choice among transforms already knows their weights, so its draw stays the same

    def __call__(self, pixels: Pixels, seed: int) -> Pixels:
        """One image, (H, W, C) uint8 or float32, through all transforms. Raises DataError."""
        self._seed(seed)
        for label, _, transform in self._transforms:
            pixels = self._apply(label, transform, pixels)
        return pixels

    def check(self, pixels: Pixels) -> None:
        """Apply every transform once to images like this one, so that a rare one does not fail hours later.

        Label images are replaced by noise of a few values, which shows whether a transform makes new ones.
        Raises DataError.
        """
        self._seed(0)
        values, noise = label_noise(*pixels.shape)
        probe = noise.astype(pixels.dtype) if self._kind == "labels" else pixels
        for label, part in self._parts:
            if not isinstance(part, albumentations.BasicTransform):
                continue  # a choice or sequence, whose parts are checked one by one
            result = self._apply(label, part, probe, force_apply=True)
            if self._kind == "labels":
                fill = getattr(part, "fill_mask", None)
                fill = numpy.broadcast_to(0 if fill is None else fill, pixels.shape[2:])
                check_label_values(result, [*values, fill], self._start_of_error(label, part, pixels))

    def _seed(self, seed: int) -> None:
        """Set all generators anew: in place, which takes half the time of `set_random_seed`."""
        keys = random.Random(seed)
        for python, numbers in self._generators:
            python.seed(keys.getrandbits(64))
            numbers.state = {
                "bit_generator": "PCG64",
                "state": {"state": keys.getrandbits(128), "inc": 1},
                "has_uint32": 0,
                "uinteger": 0,
            }

    def _apply(self, label: str, transform: Any, pixels: Pixels, **force: bool) -> Pixels:
        inputs, target = {"image": pixels}, "image"
        if self._kind == "labels":  # every transform asks the image for its size
            inputs, target = {"image": numpy.zeros((*pixels.shape[:2], 1), numpy.uint8), "mask": pixels}, "mask"
        result: Pixels = apply_checked(
            lambda: transform(**inputs, **force)[target],
            pixels,
            _described,
            self._start_of_error(label, transform, pixels),
        )
        return result

    def _start_of_error(self, label: str, transform: Any, pixels: Pixels) -> str:
        depth = "" if pixels.dtype == numpy.uint8 else ", given to it as float32 in [0, 1]"
        return start_of_error(label, transform, self._kind, pixels.shape[2]) + depth


def _to_pixels(image: Tensor, low: float, high: float) -> Pixels:
    """(C, H, W) -> (H, W, C): uint8 unchanged, and everything else as float32 with low to high as 0 to 1.

    OpenCV interleaves ten to twenty times as fast as numpy and torch.
    """
    if image.dtype != torch.uint8:
        image = (image.to(torch.float32) - low) / (high - low)
    merged: Pixels = cv2.merge(list(image.contiguous().numpy()))
    return merged.reshape(*image.shape[1:], len(image))  # of one channel, OpenCV drops the axis


def _to_image(pixels: Pixels, dtype: torch.dtype, low: float, high: float) -> Tensor:
    """The inverse of `_to_pixels`; uint16 is rounded."""
    planes = numpy.empty((pixels.shape[2], *pixels.shape[:2]), pixels.dtype)
    cv2.split(numpy.ascontiguousarray(pixels), list(planes))
    image = torch.from_numpy(planes)
    if dtype != torch.uint8:
        image = image * (high - low) + low
    if dtype == torch.uint16:
        image = image.round().clamp(0, 65535).to(torch.int32)
    return image.to(dtype)


def _described(pixels: Any) -> str:
    if not isinstance(pixels, numpy.ndarray) or pixels.ndim != 3:
        return f"a {type(pixels).__name__}{tuple(getattr(pixels, 'shape', ()))}"
    height, width, channels = pixels.shape
    return f"{pixels.dtype} images of {width} × {height} pixels with {plural(channels, 'channel')}"
