"""The engine is compared with the plain loop, and the check notices an engine that computes something else.

That it is itself right is shown in tests/reference, against a loop written by hand.
"""

import pytest
import torch

from translate import networks
from translate.benchmarking.plain import PlainLoop
from translate.plugins import registry
from translate.testing.cases import Case
from translate.testing.plain_loop import matches_the_plain_loop
from translate.training.player_state import PlayerState
from translate.training.step import Stepper

NAMED = [(role, name) for role in ("generator", "discriminator") for name in registry.networks(role)]


@pytest.fixture
def case(tmp_path):
    small = {"generator": "dcgan(width=4)", "discriminator": 'dcgan(width=4, norm="layer")', "latents": 8}
    return Case("wgan-gp", tmp_path, **small)


def test_an_engine_with_another_gradient_is_noticed(case, monkeypatch):
    right = Stepper.compute_gradient

    def without_penalty(self, state, objective, parts):
        state.summed_penalties = []
        return right(self, state, objective, parts)

    monkeypatch.setattr(Stepper, "compute_gradient", without_penalty)
    with pytest.raises(AssertionError, match=r"a gradient of discriminators is .* away"):
        matches_the_plain_loop(case)


def test_an_engine_with_another_rate_is_noticed(case, monkeypatch):
    right = PlayerState._make_optimizer

    def faster(self):
        optimizer = right(self)
        optimizer.param_groups[0]["lr"] *= 2
        return optimizer

    monkeypatch.setattr(PlayerState, "_make_optimizer", faster)
    with pytest.raises(AssertionError, match="away from that of the plain loop"):
        matches_the_plain_loop(case)


def test_an_engine_that_skips_an_update_is_noticed(case, monkeypatch):
    monkeypatch.setattr(PlayerState, "own_step", lambda state, step: None)
    with pytest.raises(AssertionError, match="in step 1 the engine makes 1 updates fewer"):
        matches_the_plain_loop(case)


def test_the_plain_loop_makes_one_call_for_each_role(tmp_path):
    small = {"generator": "resnet(blocks=1, width=4)", "discriminator": "patchgan(layers=1, width=4)"}
    trainer = Case("cyclegan", tmp_path, **small).trainer(batch=2)
    calls = []
    trainer.model.a_to_b.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    trainer.advance()
    assert calls == [4, 2]  # fake and identity, then the way back
    calls.clear()
    PlainLoop(trainer.model, steps=2).step(trainer.data.batch(0))
    assert calls == [2, 2, 2]


def values_and_gradients(network, batches):
    torch.manual_seed(1)
    parts = networks.forward_batched(network, *batches)
    gradients = torch.autograd.grad(sum(part.square().mean() for part in parts), network.parameters())
    return torch.cat([each.detach().flatten() for each in (*parts, *gradients)])


@pytest.mark.parametrize(("role", "name"), NAMED)
def test_calls_together_give_the_values_and_gradients_of_calls_apart(role, name):
    torch.manual_seed(0)
    given = {"in_channels": 3, "out_channels": 3 if role == "generator" else 1, "size": 64}
    network = registry.networks(role)[name].build({"width": 4}, **given)
    batches = torch.rand(2, 2, 3, 64, 64) * 2 - 1
    together = values_and_gradients(network, batches)
    with networks.unbatched():
        apart = values_and_gradients(network, batches)
    assert (together - apart).norm() <= 1e-5 * apart.norm()
