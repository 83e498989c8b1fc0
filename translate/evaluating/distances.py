"""Distances between two sets of images, from their features: (N, D) and (M, D), of any dtype; computed in float64.

They compare distributions: the images of the two sets need not be paired.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from translate.errors import DataError

SUBSET_SIZE = 1000
NUM_SUBSETS = 100


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """The squared Fréchet distance between two normal distributions with the sets' means and covariances.

    |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½): Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter: GANs Trained by a Two
    Time-Scale Update Rule Converge to a Local Nash Equilibrium, NIPS 2017, arXiv:1706.08500, equation 6. With RᵀR = Σ,
    the eigenvalues of Σ₁Σ₂ are the squared singular values of R₁R₂ᵀ, so that no matrix root is taken.

    Biased upwards, the more the fewer images there are. Raises DataError for sets of fewer than two images.
    """
    (mean, root), (other_mean, other_root) = map(_moments, (first, second))
    cross = torch.linalg.svdvals(root @ other_root.T).sum()
    distance = (mean - other_mean).square().sum() + root.square().sum() + other_root.square().sum() - 2 * cross
    return max(0.0, float(distance))  # rounding may leave it a little below 0


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (D,), and an upper triangular R (min(N, D), D) such that RᵀR is the unbiased covariance."""
    features = _checked_double(features)
    mean = features.mean(0)
    root = torch.linalg.qr(features - mean, mode="r").R
    return mean, root / (len(features) - 1) ** 0.5


class KernelDistance(NamedTuple):
    """deviation: the standard deviation over the subsets, None if all images were compared at once."""

    value: float
    deviation: float | None


def kernel_distance(first: Tensor, second: Tensor, seed: int = 0) -> KernelDistance:
    """The squared maximum mean discrepancy with the kernel (x·y / D + 1)³. It is unbiased, so it may be negative.

    Bińkowski, Sutherland, Arbel, Gretton: Demystifying MMD GANs, ICLR 2018, arXiv:1801.01401, section 4. If both
    sets have more than 1,000 images, it is the mean over 100 random subsets of 1,000, as in the paper;
    otherwise all images are compared at once.
    Raises DataError for sets of fewer than two images.
    """
    first, second = _checked_double(first), _checked_double(second)
    if min(len(first), len(second)) <= SUBSET_SIZE:
        return KernelDistance(_discrepancy(first, second), None)
    generator = torch.Generator().manual_seed(seed)

    def subset(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:SUBSET_SIZE]]

    values = torch.tensor([_discrepancy(subset(first), subset(second)) for _ in range(NUM_SUBSETS)])
    return KernelDistance(float(values.mean()), float(values.std()))


def _discrepancy(first: Tensor, second: Tensor) -> float:
    """The unbiased estimate, without the kernel of an image and itself. Gretton et al., JMLR 2012, equation 3."""

    def mean_within(features: Tensor) -> float:
        diagonal = _kernel(features.square().sum(1) / features.shape[1])
        return (_sum_of_kernels(features, features) - float(diagonal.sum())) / (len(features) * (len(features) - 1))

    return mean_within(first) + mean_within(second) - 2 * _sum_of_kernels(first, second) / (len(first) * len(second))


def _sum_of_kernels(first: Tensor, second: Tensor) -> float:
    """The sum over all pairs, computed in parts, since the matrix of all pairs may not fit into memory."""
    parts: tuple[Tensor, ...] = torch.split(first, SUBSET_SIZE)
    return sum(float(_kernel(part @ second.T / second.shape[1]).sum()) for part in parts)


def _kernel(product: Tensor) -> Tensor:
    return (product + 1) ** 3


def halves(features: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """A random split into two sets of N // 2. Their distance is what two sets of one distribution differ by."""
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    half = len(features) // 2
    return features[order[:half]], features[order[half : 2 * half]]


def _checked_double(features: Tensor) -> Tensor:
    """The features as float64. Raises DataError if they are of fewer than two images, or not finite."""
    if len(features) < 2:
        images = "1 image" if len(features) == 1 else "no images"
        raise DataError(f"Comparing sets of images takes at least 2 images in each; one of them has {images}.")
    if not features.isfinite().all():
        raise DataError("The feature network returned values that are not finite (NaN) for some of the images.")
    return features.double()
