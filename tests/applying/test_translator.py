import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import translate
from translate.applying.translator import Translator, pad_to_multiple
from translate.errors import UsageError

CPU = torch.device("cpu")


def images(count=3, channels=3, height=8, width=8):
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_a_loaded_model_translates(model_file):
    translator = translate.load(model_file("invert"), device="cpu", precision="fp32")
    torch.testing.assert_close(translator(images()), -images())
    assert torch.equal(translator(images(), to="a"), images())


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 8), (8, 9), (13, 2)])
def test_any_size_comes_back_as_it_was(make, size):
    batch = images(2, 3, *size)
    torch.testing.assert_close(Translator(make("blocks"), CPU, "fp32")(batch), -batch)


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 2, 4, 16]))
def test_padding_only_adds_and_repeats_no_edge_it_can_mirror(height, width, stride):
    image = torch.arange(height * width, dtype=torch.uint8).view(1, height, width)
    padded = pad_to_multiple(image, stride)
    assert padded.shape[1] % stride == padded.shape[2] % stride == 0
    assert torch.equal(padded[:, :height, :width], image)
    if padded.shape[2] > width > 1:
        assert torch.equal(padded[:, :, width], padded[:, :, width - 2])


def test_results_are_float32_within_the_range_whatever_the_precision(make):
    for precision in ("fp32", "bf16"):
        result = Translator(make("invert", gain=5.0), CPU, precision)(images())
        assert result.dtype == torch.float32
        assert result.abs().max() == 1


def test_batch_and_order_change_nothing_even_for_a_model_that_draws_random_numbers(make):
    translator = Translator(make("noisy"), CPU, "fp32")
    batch, names = images(4), ["one", "two", "three", "four"]
    together = translator(batch, names=names)
    backwards = translator(batch.flip(0), names=names[::-1]).flip(0)
    alone = torch.cat([translator(batch[i : i + 1], names=[name]) for i, name in enumerate(names)])
    assert torch.equal(together, backwards)
    assert torch.equal(together, alone)
    assert not torch.equal(together, translator(batch, names=names, seed=1))
    assert not torch.equal(together, translator(batch, names=names[::-1]))


def test_translating_leaves_statistics_modes_and_random_generators_alone(make):
    model = make("noisy").eval()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state = torch.get_rng_state()
    Translator(model, CPU, "fp32")(images())
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert not any(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_failure_leaves_the_model_in_its_mode_too(make):
    model = make("broken").train()
    with pytest.raises(RuntimeError, match="too bright"):
        Translator(model, CPU, "fp32")(torch.ones(1, 3, 8, 8))
    assert model.training


def test_an_unknown_route_is_answered_with_those_there_are(make):
    with pytest.raises(UsageError, match=r"does not translate to 'c'.*'b' \(from 'a'\), 'a' \(from 'b'\)"):
        Translator(make("invert"), CPU)(images(), to="c")


def test_images_of_another_shape_are_refused(make):
    with pytest.raises(UsageError, match=r"expected \(N, 3, H, W\)"):
        Translator(make("invert"), CPU)(images(channels=1))
