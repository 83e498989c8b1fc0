"""EMA: half-life in images, ramp-up, buffers, and the way back."""

import copy

import pytest
import torch
from torch import nn
from toys import Toy, net

from translate.training.ema import EMA


def model(**networks):
    return Toy(lambda m: [], averaged=("g",), **{"g": net(), **networks})


def shift(network, by=1.0):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(by)


def test_an_average_keeps_half_after_a_half_life_at_any_batch_size():
    for size in (1, 4, 20):
        live = model()
        live.average_half_life = 100
        averages, start = EMA(live), copy.deepcopy(live.g)
        shift(live.g)
        for step in range(100 // size):
            averages.update(size, images_seen=1_000_000 + step * size)
        for average, before in zip(averages.networks["g"].parameters(), start.parameters(), strict=True):
            torch.testing.assert_close(average, before + 0.5, rtol=1e-4, atol=1e-4)


def test_it_ramps_up_so_that_the_random_start_is_forgotten():
    live = model()
    averages, start = EMA(live), copy.deepcopy(live.g)
    shift(live.g)
    averages.update(1, images_seen=1)  # the half-life is a twentieth of an image
    left = 0.5**20
    for average, before in zip(averages.networks["g"].parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(average, before + (1 - left), rtol=1e-5, atol=1e-5)


def test_a_hand_written_loop_agrees():
    live = model()
    averages, expected = EMA(live), copy.deepcopy(live.g)
    for step in range(1, 30):
        shift(live.g, 0.1 * (-1) ** step)
        averages.update(3, images_seen=3 * step)
        keep = 0.5 ** (3 / min(10_000, 0.05 * 3 * step))
        for mine, now in zip(expected.parameters(), live.g.parameters(), strict=True):
            mine.data = keep * mine.data + (1 - keep) * now.data
    for average, mine in zip(averages.networks["g"].parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(average, mine, rtol=1e-5, atol=1e-6)


def test_buffers_are_copied_whatever_their_type():
    live = model(g=nn.BatchNorm1d(4))
    averages = EMA(live)
    live.g(torch.randn(8, 4))
    averages.update(1, images_seen=1000)
    for average, now in zip(averages.networks["g"].buffers(), live.g.buffers(), strict=True):
        assert torch.equal(average, now)


def test_they_are_applied_inside_and_gone_outside_even_after_an_error():
    live = model()
    averages, before = EMA(live), live.g
    with averages.applied(live):
        assert live.g is averages.networks["g"]
    with pytest.raises(KeyError), averages.applied(live):
        raise KeyError
    assert live.g is before
    assert not any(parameter.requires_grad for parameter in averages.networks["g"].parameters())


def test_the_state_makes_the_round_trip():
    live = model(g=nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    first, second = EMA(live), EMA(live)
    shift(live.g)
    live.g(torch.randn(8, 4))
    first.update(1, images_seen=100)
    second.load({name: tensor.clone() for name, tensor in first.tensors().items()})
    assert all(torch.equal(tensor, second.tensors()[name]) for name, tensor in first.tensors().items())


def test_a_model_without_averages_has_none():
    averages = EMA(Toy(lambda m: [], g=net()))
    averages.update(1, images_seen=1)
    assert averages.tensors() == {}
