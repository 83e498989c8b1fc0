import pytest
import torch

from translate.evaluating.paired import paired_errors


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_errors_are_the_formulas_for_each_image():
    images, truths = drawn(3, 2, 16, 12), drawn(3, 2, 16, 12, seed=1)
    found = paired_errors(images, truths)
    for i in range(3):
        difference = (images[i] - truths[i]).double() / 2
        assert found["l1"][i] == pytest.approx(float(difference.abs().mean()), rel=1e-6)
        assert found["psnr"][i] == pytest.approx(float(-10 * difference.square().mean().log10()), rel=1e-6)
    alone = paired_errors(images[1:2], truths[1:2])
    assert all(alone[name] == pytest.approx(float(found[name][1]), rel=1e-4) for name in found)


def test_ssim_of_plain_images_is_its_luminance_term():
    first, second = 0.2, 0.7
    images = torch.stack([torch.full((3, 16, 16), value * 2 - 1) for value in (first, second)])
    expected = (2 * first * second + 0.01**2) / (first**2 + second**2 + 0.01**2)
    assert paired_errors(images, images.flip(0))["ssim"].tolist() == pytest.approx([expected] * 2, abs=1e-4)


def test_ssim_follows_its_window_of_weights():
    images, truths = drawn(1, 1, 11, 11).double(), drawn(1, 1, 11, 11, seed=1).double()
    axis = torch.arange(-5, 6).double()
    window = torch.exp(-axis.square() / (2 * 1.5**2))
    window = window[:, None] * window / window.sum() ** 2
    x, y = ((each + 1) / 2 for each in (images, truths))
    padded = [torch.nn.functional.pad(each, (5, 5, 5, 5), mode="reflect") for each in (x, y)]
    x, y = (each.unfold(2, 11, 1).unfold(3, 11, 1) for each in padded)

    def mean(values):
        return (values * window).sum((-2, -1))

    variances = mean(x * x) - mean(x) ** 2 + mean(y * y) - mean(y) ** 2
    upper = (2 * mean(x) * mean(y) + 0.01**2) * (2 * (mean(x * y) - mean(x) * mean(y)) + 0.03**2)
    lower = (mean(x) ** 2 + mean(y) ** 2 + 0.01**2) * (variances + 0.03**2)
    assert float(paired_errors(images, truths)["ssim"]) == pytest.approx(float((upper / lower).mean()), abs=1e-4)


def test_equal_images_have_the_best_of_each_measure():
    found = paired_errors(drawn(2, 3, 16, 16), drawn(2, 3, 16, 16))
    assert found["l1"].tolist() == [0, 0]
    assert found["psnr"].tolist() == pytest.approx([58.92] * 2, abs=0.01)
    assert found["ssim"].tolist() == pytest.approx([1, 1])


def test_images_smaller_than_its_window_have_no_ssim():
    assert paired_errors(drawn(2, 3, 10, 16), drawn(2, 3, 10, 16)).keys() == {"l1", "psnr"}
