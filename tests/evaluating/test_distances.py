import pytest
import torch

from translate.errors import DataError
from translate.evaluating import distances
from translate.evaluating.distances import frechet_distance, halves, kernel_distance


def drawn(count: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whitened(features: torch.Tensor) -> torch.Tensor:
    """The same features with mean 0 and covariance 1, exactly."""
    centred = features - features.mean(0)
    return centred @ torch.linalg.inv(torch.linalg.cholesky(centred.T.cov()).T)


def root(matrix: torch.Tensor) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ values.clamp_min(0).sqrt().diag() @ vectors.T


def frechet_by_matrix_roots(first: torch.Tensor, second: torch.Tensor) -> float:
    covariance, other = first.T.cov(), second.T.cov()
    middle = root(covariance)
    cross = root(middle @ other @ middle)
    return float((first.mean(0) - second.mean(0)).square().sum() + (covariance + other - 2 * cross).trace())


def kernel_by_loops(first: torch.Tensor, second: torch.Tensor) -> float:
    def mean(x, y, same):
        pairs = [(i, j) for i in range(len(x)) for j in range(len(y)) if not (same and i == j)]
        return sum(float((x[i] @ y[j] / x.shape[1] + 1) ** 3) for i, j in pairs) / len(pairs)

    return mean(first, first, True) + mean(second, second, True) - 2 * mean(first, second, False)


def test_frechet_distance_of_two_gaussians_is_the_closed_form():
    means, deviations = drawn(2, 5, 0), drawn(2, 5, 1).abs()
    first, second = (whitened(drawn(40, 5, 2 + i)) * deviations[i] + means[i] for i in range(2))
    expected = (means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum()
    assert frechet_distance(first, second) == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize(("counts", "width"), [((30, 50), 4), ((8, 9), 20), ((6, 60), 20)])
def test_frechet_distance_is_equation_6_with_many_images_and_with_few(counts, width):
    mixing = drawn(width, width, 7)
    first, second = drawn(counts[0], width, 0), drawn(counts[1], width, 1) @ mixing + 1
    assert frechet_distance(first, second) == pytest.approx(frechet_by_matrix_roots(first, second), rel=1e-6)


def test_kernel_distance_is_the_unbiased_estimate_over_all_pairs(monkeypatch):
    first, second = drawn(7, 3, 0), drawn(9, 3, 1) + 0.5
    expected = kernel_by_loops(first, second)
    assert kernel_distance(first, second) == (pytest.approx(expected), None)
    monkeypatch.setattr(distances, "SUBSET_SIZE", 8)  # in parts
    assert kernel_distance(first, second).value == pytest.approx(expected)


def test_a_set_is_at_no_frechet_distance_from_itself():
    assert frechet_distance(drawn(50, 8, 0), drawn(50, 8, 0)) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("distance", [frechet_distance, lambda x, y: kernel_distance(x, y).value])
def test_distances_do_not_depend_on_order_and_are_symmetric(distance):
    first, second = drawn(20, 6, 0), drawn(30, 6, 1) + 0.3
    assert distance(first.flip(0), second.roll(5, 0)) == pytest.approx(distance(first, second))
    assert distance(second, first) == pytest.approx(distance(first, second))
    assert distance(first, second.float()) == pytest.approx(distance(first, second), rel=1e-5)


def test_kernel_distance_is_unbiased_and_the_frechet_distance_is_not():
    values = [halves(drawn(40, 5, seed), seed) for seed in range(200)]
    kernel = torch.tensor([kernel_distance(*pair).value for pair in values])
    assert (kernel < 0).any()
    assert kernel.mean().abs() < 3 * kernel.std() / 200**0.5
    few, many = (sum(frechet_distance(drawn(n, 5, s), drawn(n, 5, 99 + s)) for s in range(5)) for n in (10, 200))
    assert few > 5 * many > 0


def test_large_sets_are_compared_by_subsets(monkeypatch):
    monkeypatch.setattr(distances, "SUBSET_SIZE", 100)
    first, second = drawn(300, 4, 0), drawn(400, 4, 1) + 1
    found = kernel_distance(first, second, seed=3)
    assert found == kernel_distance(first, second, seed=3) != kernel_distance(first, second, seed=4)
    whole = kernel_distance(first[:100], second).value
    assert 0 < found.deviation < found.value
    assert found.value == pytest.approx(whole, rel=0.3)


def test_halves_share_no_image_and_depend_on_the_seed():
    features = torch.arange(9.0)[:, None]
    first, second = halves(features, 0)
    assert len(first) == len(second) == 4
    assert not set(first.flatten().tolist()) & set(second.flatten().tolist())
    assert torch.equal(halves(features, 0)[0], first)
    assert not torch.equal(halves(features, 1)[0], first)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_one_image_is_no_set_and_nan_no_feature(distance):
    with pytest.raises(DataError, match=r"at least 2 images in each; one of them has 1 image\."):
        distance(drawn(5, 3, 0), drawn(1, 3, 1))
    with pytest.raises(DataError, match="not finite"):
        distance(drawn(5, 3, 0), torch.full((5, 3), float("nan")))
