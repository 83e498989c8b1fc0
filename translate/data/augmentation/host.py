"""Runs transforms of albumentations on single images, in many threads, as pure functions of a seed.

albumentations keeps random state in its objects, so every thread has copies of its own, and every node of the pipeline
(a transform, or a choice such as OneOf) has generators of its own, which each image sets anew from its seed. The draws
of one node therefore never depend on what another drew: views that differ in channels or depth stay aligned, though
noise takes more numbers for three channels than for one.
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
from numpy.typing import NDArray
from torch import Tensor

from translate.data.augmentation.building import Transform, leaves, nodes, reason
from translate.errors import DataError
from translate.formatting import plural

Pixels = NDArray[Any]


class Host:
    """The transforms of albumentations that `--augment` asks for."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        cv2.setNumThreads(0)  # the loader's threads are the parallelism; OpenCV's own would only get in their way
        self._transforms = list(transforms)
        self._threads = threading.local()
        self._proved: set[object] = set()

    def __call__(
        self, images: Sequence[Tensor], kinds: Sequence[str], seed: int, ranges: Sequence[tuple[float, float]]
    ) -> list[Tensor]:
        """`Augmentation.on_host`."""
        results = []
        for image, kind, given in zip(images, kinds, ranges, strict=True):
            low, high = (0.0, 1.0) if kind == "labels" else given  # labels keep their values
            pixels = _to_pixels(image, low, high)
            pipeline = self._pipeline(kind)
            if (kind, pixels.shape, pixels.dtype) not in self._proved:
                pipeline.prove(pixels)
                self._proved.add((kind, pixels.shape, pixels.dtype))
            results.append(_to_image(pipeline(pixels, seed), image.dtype, low, high))
        return results

    def _pipeline(self, kind: str) -> Pipeline:
        """The thread's own copy for images or for labels."""
        pipelines = self._threads.__dict__
        if kind not in pipelines:
            pipelines[kind] = Pipeline(self._transforms, kind)
        found: Pipeline = pipelines[kind]
        return found


class Pipeline:
    """Copies of the transforms for one thread and one kind of image."""

    def __init__(self, transforms: Sequence[Transform], kind: str) -> None:
        self._transforms = [copy.deepcopy(transform) for transform in transforms]
        self._is_labels = kind == "labels"
        self._generators = []
        for node in (each for transform in self._transforms for each in nodes(transform.value)):
            generators = random.Random(), numpy.random.PCG64(0)
            # parents come before their children, for which they set the generators as well
            node.set_random_state(numpy.random.Generator(generators[1]), generators[0])
            self._generators.append(generators)
            if self._is_labels and isinstance(node, albumentations.ImageOnlyTransform):
                node.p = 0.0  # a choice among transforms has taken their weights already, so its draw stays the same

    def __call__(self, pixels: Pixels, seed: int) -> Pixels:
        """One image, (H, W, C) uint8 or float32, through all transforms. Raises DataError."""
        self._seed(seed)
        for transform in self._transforms:
            pixels = self._apply(transform.label, transform.value, pixels)
        return pixels

    def _seed(self, seed: int) -> None:
        """Set all generators anew: in place, which takes half the time of `set_random_seed`."""
        keys = random.Random(seed)
        for words, numbers in self._generators:
            words.seed(keys.getrandbits(64))
            numbers.state = {
                "bit_generator": "PCG64",
                "state": {"state": keys.getrandbits(128), "inc": 1},
                "has_uint32": 0,
                "uinteger": 0,
            }

    def _apply(self, label: str, transform: Any, pixels: Pixels, **force: bool) -> Pixels:
        views = {"image": pixels}
        if self._is_labels:  # every transform asks the image for its size
            views = {"image": numpy.zeros((*pixels.shape[:2], 1), numpy.uint8), "mask": pixels}
        try:
            result = transform(**views, **force)["mask" if self._is_labels else "image"]
        except Exception as error:  # whatever a transform makes of images it was not written for
            raise DataError(f"{self._cannot(label, transform, pixels)}: {reason(error)}.") from error
        if not isinstance(result, numpy.ndarray) or result.shape != pixels.shape or result.dtype != pixels.dtype:
            raise DataError(
                f"{self._cannot(label, transform, pixels)}: it makes {_described(result)} of {_described(pixels)}, and "
                "training needs one size and type; take it out of --augment (--size and --preprocess set the size)."
            )
        return result

    def _cannot(self, label: str, transform: Any, pixels: Pixels) -> str:
        depth = "" if pixels.dtype == numpy.uint8 else ", given to it as float32 in [0, 1]"
        return (
            f"The augmentation {label} ({type(transform).__name__}) cannot be applied to "
            f"{'label images' if self._is_labels else 'images'} of {plural(pixels.shape[2], 'channel')}{depth}"
        )

    def prove(self, pixels: Pixels) -> None:
        """Apply every transform once to images like this one, so that a rare one does not fail hours later.

        Label images are replaced by noise of few values, which shows whether a transform makes new ones.
        Raises DataError.
        """
        self._seed(0)
        codes, probe = numpy.zeros((1, 1)), pixels
        if self._is_labels:
            codes = code_values(pixels.shape[2])
            drawn = numpy.random.default_rng(0).integers(len(codes), size=pixels.shape[:2])
            probe = codes[drawn].astype(pixels.dtype)
        for transform in self._transforms:
            for leaf in leaves(transform.value):
                result = self._apply(transform.label, leaf, probe, force_apply=True)
                fill = getattr(leaf, "fill_mask", None)
                known = [*codes, numpy.broadcast_to(0 if fill is None else fill, codes.shape[1:])]
                if self._is_labels and not _only(result, known):
                    cannot = self._cannot(transform.label, leaf, pixels)
                    raise DataError(f"{cannot}: it makes values that were not there before; take it out of --augment.")


def code_values(channels: int) -> Pixels:
    """Label values of so many channels of which no mixture, of all channels or of one, is another: int64 (3, C)."""
    odd = numpy.arange(channels) % 2
    return numpy.stack([0 * odd, 30 + 170 * odd, 200 - 170 * odd])


def _only(pixels: Pixels, codes: Sequence[Pixels]) -> bool:
    return bool(numpy.any([(pixels == code).all(-1) for code in codes], axis=0).all())


def _to_pixels(image: Tensor, low: float, high: float) -> Pixels:
    """(C, H, W) -> (H, W, C), uint8 as it is and everything else as float32 from low to high made 0 to 1.

    OpenCV interleaves ten to twenty times as fast as numpy and torch.
    """
    if image.dtype != torch.uint8:
        image = (image.to(torch.float32) - low) / (high - low)
    merged: Pixels = cv2.merge(list(image.contiguous().numpy()))
    return merged.reshape(*image.shape[1:], len(image))  # of one channel, OpenCV drops the axis


def _to_image(pixels: Pixels, dtype: torch.dtype, low: float, high: float) -> Tensor:
    """The way back; uint16 is rounded."""
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
