"""What both pipelines check: a transform fits the images, keeps their size and type, and makes no new label values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from translate.data.augmentation.transforms import reason
from translate.errors import DataError
from translate.formatting import plural

Pixels = NDArray[Any]


def start_of_error(label: str, transform: object, kind: str, channels: int) -> str:
    """The error of a transform that does not fit the images, up to the reason. label: what the user wrote."""
    images = f"{'label images' if kind == 'labels' else 'images'} of {plural(channels, 'channel')}"
    return f"The augmentation {label} ({type(transform).__name__}) cannot be applied to {images}"


def apply_checked(transform: Callable[[], Any], images: Any, describe: Callable[[Any], str], error_start: str) -> Any:
    """The result of a transform of images: an array or tensor of the same shape and type. Raises DataError."""
    try:
        result = transform()
    except Exception as error:  # transforms raise errors of any type for images that do not fit
        raise DataError(f"{error_start}: {reason(error)}.") from error
    if type(result) is not type(images) or (result.shape, result.dtype) != (images.shape, images.dtype):
        raise DataError(
            f"{error_start}: it makes {describe(result)} of {describe(images)}, and training needs one size and "
            "type; take it out of --augment (--size and --preprocess set the size)."
        )
    return result


def label_noise(height: int, width: int, channels: int) -> tuple[Pixels, Pixels]:
    """Label values, uint8 (3, C), and a label image of them, uint8 (H, W, C).

    A mixture of two of the values, in all channels or in one, is never another of them.
    """
    odd = numpy.arange(channels) % 2
    values = numpy.stack([0 * odd, 30 + 170 * odd, 200 - 170 * odd]).astype(numpy.uint8)
    return values, values[numpy.random.default_rng(0).integers(3, size=(height, width))]


def check_label_values(pixels: Pixels, values: Sequence[Pixels], error_start: str) -> None:
    """Raise DataError unless every pixel of a label image (H, W, C) is one of the values, (C,) each."""
    if not numpy.any([(pixels == value).all(-1) for value in values], axis=0).all():
        raise DataError(f"{error_start}: it makes values that were not there before; take it out of --augment.")
