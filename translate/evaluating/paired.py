"""Errors of images whose true results are known."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from translate.data.files.readers import read_image
from translate.data.files.sources import open_source
from translate.data.images import as_float, match_channels
from translate.errors import DataError

SSIM_WINDOW = 11  # pixels
ROUNDING = 1 / 12 / 255**2
"""Mean squared error of rounding to 8 bits."""


def paired_errors(images: Tensor, truths: Tensor) -> dict[str, Tensor]:
    """The errors of each image over all pixels and channels: {name: (N,) float64 on the CPU}.

    images, truths: (N, C, H, W) floats in [-1, 1]; they are compared as values in [0, 1].
    l1: mean absolute error, from 0 (equal) to 1 (black against white).
    psnr: peak signal-to-noise ratio, −10 log₁₀ of the mean squared error, in dB. The squared error counts at least as
    that of rounding to 8 bits, so PSNR is at most 58.9 and the mean over images stays finite.
    ssim: structural similarity, at most 1 (equal); mean over channels. Wang, Bovik, Sheikh, Simoncelli: Image Quality
    Assessment: From Error Visibility to Structural Similarity, IEEE TIP 2004, with its Gaussian window of 11 pixels and
    σ 1.5. Unlike in the paper, the border is included, by reflection. Missing if the image is smaller than the window.
    """
    images, truths = (batch.float().cpu().add(1).div(2) for batch in (images, truths))
    difference = (images - truths).double().flatten(1)
    squared = difference.square().mean(1).clamp_min(ROUNDING)
    measured = {"l1": difference.abs().mean(1), "psnr": -10 * squared.log10()}
    if min(images.shape[2:]) >= SSIM_WINDOW:
        from torchmetrics.functional import image as metrics  # takes seconds to import

        # In fp32, which is accurate to 1e-5; convolutions in fp64 are ten times as slow.
        ssim = metrics.structural_similarity_index_measure(images, truths, sigma=1.5, data_range=1.0, reduction="none")
        measured["ssim"] = cast(Tensor, ssim).double()
    return measured


def mean_absolute_error(images: Tensor, truths: Tensor) -> float:
    """The L1 distance: mean |image − truth| over all values, from 0 (equal) to 1 (black against white).

    images, truths: of one shape; uint8 in [0, 255], or floats in [-1, 1].
    """
    return float((_as_float(images) - _as_float(truths)).abs().mean()) / 2


def errors_by_name(images: str | Path, truths: str | Path) -> dict[str, float]:
    """The mean absolute error of each image of a folder against the image of the same name in another folder.

    Extensions do not count. Raises DataError if no names agree, or if two images of one name differ in size.
    """
    found, wanted = (
        {entry.stem: entry for entry in open_source(Path(folder).expanduser()).entries} for folder in (images, truths)
    )
    errors = {}
    for name in sorted(found.keys() & wanted.keys()):
        truth = read_image(wanted[name])
        image = match_channels(read_image(found[name]), len(truth), found[name].origin)
        if image.shape != truth.shape:
            sizes = " and ".join(f"{picture.shape[2]} × {picture.shape[1]}" for picture in (image, truth))
            raise DataError(f"{found[name].origin} and {wanted[name].origin} differ in size: {sizes} pixels.")
        errors[name] = mean_absolute_error(image, truth)
    if not errors:
        raise DataError(
            f"No image in {images} has the name of one in {truths}; a pair has equal names, extensions aside."
        )
    return errors


def _as_float(images: Tensor) -> Tensor:
    return as_float(images) if images.dtype == torch.uint8 else images.float()
