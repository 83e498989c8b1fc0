"""How far images are from the true ones, where the truth is known."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from translate.data.images import as_float, decode, match_channels
from translate.data.sources import open_source
from translate.errors import DataError


def mean_absolute_error(images: Tensor, truths: Tensor) -> float:
    """The L1 distance: mean |image − truth| over all values, from 0 (equal) to 1 (black against white).

    images, truths: of one shape; uint8 in [0, 255], or floats in [-1, 1].
    """
    return float((_as_float(images) - _as_float(truths)).abs().mean()) / 2


def errors_by_name(images: str | Path, truths: str | Path) -> dict[str, float]:
    """The mean absolute error of each image of a folder that has a namesake (without extension) in the other.

    Raises DataError if there is none, or if two of them differ in size.
    """
    found, wanted = (
        {entry.stem: entry for entry in open_source(Path(folder).expanduser()).entries} for folder in (images, truths)
    )
    errors = {}
    for name in sorted(found.keys() & wanted.keys()):
        truth = decode(wanted[name].read(), wanted[name].origin)
        image = match_channels(decode(found[name].read(), found[name].origin), len(truth), found[name].origin)
        if image.shape != truth.shape:
            sizes = " and ".join(f"{picture.shape[2]} × {picture.shape[1]}" for picture in (image, truth))
            raise DataError(f"{found[name].origin} and {wanted[name].origin} differ in size: {sizes} pixels.")
        errors[name] = mean_absolute_error(image, truth)
    if not errors:
        raise DataError(f"No image in {images} has the name of one in {truths}; a pair has one name, extension aside.")
    return errors


def _as_float(images: Tensor) -> Tensor:
    return as_float(images) if images.dtype == torch.uint8 else images.float()
