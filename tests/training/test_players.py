"""What a model declares about its players."""

import pytest
import torch
from toys import net

from translate import Adam, Discriminators, Generators, LinearDecay, Move


def test_linear_decay_is_constant_and_then_falls_to_zero():
    decay = LinearDecay(start=0.5)
    assert [decay(p) for p in (0.0, 0.3, 0.5)] == [1.0, 1.0, 1.0]
    assert [decay(p) for p in (0.75, 0.9, 1.0)] == pytest.approx([0.5, 0.2, 0.0])
    assert decay(1.1) == 0.0


def test_linear_decay_from_the_start_and_from_the_end():
    assert [LinearDecay(0.0)(p) for p in (0.0, 0.25, 1.0)] == [1.0, 0.75, 0.0]
    assert [LinearDecay(1.0)(p) for p in (0.0, 1.0)] == [1.0, 1.0]


def test_a_player_without_a_schedule_keeps_its_rate():
    assert Generators([], dict).schedule(0.9) == 1.0


def test_moves_come_from_one_loss_a_list_or_moves():
    g = net()
    move = Move(list, networks=[g])
    assert Generators([g], dict).moves == [Move(dict)]
    assert Generators([g], [dict, move]).moves == [Move(dict), move]


def test_parameters_are_listed_once_in_a_stable_order():
    g, h = net(seed=1), net(seed=2)
    h[0].weight = g[0].weight  # tied
    parameters = Generators([g, h], dict).parameters()
    assert len(parameters) == 7
    assert len({id(parameter) for parameter in parameters}) == 7
    assert all(a is b for a, b in zip(parameters, [*g.parameters(), *list(h.parameters())[1:]], strict=True))
    assert [id(p) for p in Generators([g, h], dict).parameters([h])] == [id(p) for p in h.parameters()]


def test_the_defaults_are_the_fields():
    assert (Adam().lr, Adam().betas, Adam().clip) == (2e-4, (0.5, 0.999), None)
    assert Generators([], dict).name == "generators"
    assert Discriminators([], dict).name == "discriminators"
    assert Discriminators([], dict).pool_size == 0


def test_players_are_told_apart_by_identity():
    g = [torch.nn.Identity()]
    assert Generators(g, dict) != Generators(g, dict)
