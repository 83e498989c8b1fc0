"""The engine in float32, and the plain loop of any model, do what the loop written by hand does."""

import pytest
import torch
from plain_cyclegan import PlainCycleGAN, classical, set_requires_grad

from translate.benchmarking.plain import PlainLoop
from translate.testing.cases import Case, flat_gradient
from translate.training.step import MicroBatch

STEPS = 8


def sides(folder, norm, batch):
    """A trainer of the engine, and the loop written by hand from the same weights on torch's own layers."""
    options = {
        "generator": f"resnet(blocks=2, width=8, norm='{norm}')",
        "discriminator": f"patchgan(layers=2, width=8, norm='{norm}')",
    }
    trainer = Case("cyclegan", folder, **options).trainer(batch=batch, steps=STEPS)
    model = trainer.model
    networks = [
        classical(network) for network in (model.a_to_b, model.b_to_a, model.discriminator_a, model.discriminator_b)
    ]
    for network in networks:
        network.requires_grad_(True)
    return trainer, PlainCycleGAN(*networks, steps=STEPS)


def gradient(losses, parameters):
    return torch.cat([part.flatten() for part in torch.autograd.grad(sum(losses), parameters)])


def test_each_players_gradient_at_the_first_step_is_that_of_the_loop_by_hand(tmp_path):
    trainer, by_hand = sides(tmp_path, norm="instance", batch=2)
    for state in trainer.stepper.players:
        state.pools.clear()
    batch = trainer.data.batch(0)
    part, found = MicroBatch(batch), {}
    for state in trainer.stepper.players:  # no optimizer in between: both see the same fakes
        found[state.name] = flat_gradient(trainer.stepper, state, state.moves[0], [part])

    set_requires_grad(by_hand.discriminators, False)
    losses, fake_a, fake_b = by_hand.generator_loss(batch.a, batch.b)
    expected = {"generators": gradient(losses.values(), by_hand.generators)}
    set_requires_grad(by_hand.discriminators, True)
    scored = ((by_hand.discriminator_a, batch.a, fake_a), (by_hand.discriminator_b, batch.b, fake_b))
    discriminator_losses = [by_hand.discriminator_loss(*each) for each in scored]
    expected["discriminators"] = gradient(discriminator_losses, by_hand.discriminators)

    assert found.keys() == expected.keys()
    for name, vector in expected.items():
        error = float((found[name] - vector).norm() / vector.norm())
        assert error < 1e-5, f"{name}: {error:.1e}"


def engine(trainer):
    """A function that runs a step and returns the loss terms; the averages."""

    def run(batch):
        trainer.advance()
        return trainer.stepper.records.read()

    return run, trainer.ema.networks


def plain_loop(trainer):
    """The same of the plain loop of any model, from the weights of this trainer."""
    loop = PlainLoop(trainer.model, steps=STEPS)
    return lambda batch: {name: float(term) for name, term in loop.step(batch).items()}, loop.averages


@pytest.mark.parametrize("side", [engine, plain_loop])
def test_the_losses_and_averages_of_five_steps_are_those_of_the_loop_by_hand(tmp_path, side):
    # Batch norm, because no bias stands in front of it: the gradient of such a bias is rounding, Adam makes it ± the
    # learning rate, and after five steps losses that began 1e-7 apart are 1e-2 apart.
    trainer, by_hand = sides(tmp_path, norm="batch", batch=1)
    run, averages = side(trainer)
    for step in range(5):  # the decay begins at step 4; the pool is not yet full
        batch = trainer.data.batch(step)
        expected = {name: float(loss.detach()) for name, loss in by_hand.step(batch.a, batch.b).items()}
        terms = run(batch)
        found = {name.removeprefix("generators."): value for name, value in terms.items() if name[0] == "g"}
        found |= {f"discriminator_{side}": terms[f"discriminators.adversarial_{side}"] for side in "ab"}
        assert found == pytest.approx(expected, rel=1e-3), f"step {step}"
    for name, average in zip(trainer.model.averaged, by_hand.averages, strict=True):
        mine = torch.cat([parameter.detach().flatten() for parameter in averages[name].parameters()])
        theirs = torch.cat([parameter.detach().flatten() for parameter in average.parameters()])
        assert (mine - theirs).norm() / theirs.norm() < 1e-3


def test_each_players_gradient_in_the_plain_loop_is_that_of_the_loop_by_hand(tmp_path):
    trainer, by_hand = sides(tmp_path, norm="instance", batch=2)
    plain, batch = PlainLoop(trainer.model, steps=STEPS), trainer.data.batch(0)
    plain.step(batch)  # leaves its gradients
    by_hand.step(batch.a, batch.b)
    for player, theirs in zip(plain.players, (by_hand.generators, by_hand.discriminators), strict=True):
        mine, expected = (torch.cat([p.grad.flatten() for p in each]) for each in (player.parameters(), theirs))
        assert (mine - expected).norm() < 1e-5 * expected.norm()
