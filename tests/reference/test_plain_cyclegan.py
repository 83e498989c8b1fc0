"""The engine in float32 does what the plain loop does: same gradients, same losses, same averages."""

import pytest
import torch
from plain_cyclegan import PlainCycleGAN, classical, set_requires_grad

from translate import testing
from translate.training.step import Chunk

STEPS = 8


def sides(folder, norm, batch):
    """A trainer of the engine, and the plain loop from the same weights on torch's own layers."""
    options = {
        "generator": f"resnet(blocks=2, width=8, norm='{norm}')",
        "discriminator": f"patchgan(layers=2, width=8, norm='{norm}')",
    }
    trainer = testing.Case("cyclegan", folder, **options).trainer(batch=batch, steps=STEPS)
    model = trainer.model
    networks = [classical(network) for network in (model.a_to_b, model.b_to_a, model.judge_a, model.judge_b)]
    for network in networks:
        network.requires_grad_(True)
    return trainer, PlainCycleGAN(*networks, steps=STEPS)


def gradient(losses, parameters):
    return torch.cat([part.flatten() for part in torch.autograd.grad(sum(losses), parameters)])


def test_each_players_gradient_at_the_first_step_is_that_of_the_plain_loop(tmp_path):
    trainer, plain = sides(tmp_path, norm="instance", batch=2)
    for seat in trainer.game.seats:
        seat.pools.clear()
    batch = trainer.data.batch(0)
    chunk, found = Chunk(batch), {}
    for seat in trainer.game.seats:  # no optimizer in between: both judge the same fakes
        found[seat.name] = testing.flat_gradient(trainer.game, seat, seat.moves[0], [chunk])

    set_requires_grad(plain.discriminators, False)
    losses, fake_a, fake_b = plain.generator_loss(batch.a, batch.b)
    expected = {"generators": gradient(losses.values(), plain.generators)}
    set_requires_grad(plain.discriminators, True)
    judged = ((plain.judge_a, batch.a, fake_a), (plain.judge_b, batch.b, fake_b))
    expected["discriminators"] = gradient([plain.discriminator_loss(*each) for each in judged], plain.discriminators)

    assert found.keys() == expected.keys()
    for name, vector in expected.items():
        error = float((found[name] - vector).norm() / vector.norm())
        assert error < 1e-5, f"{name}: {error:.1e}"


def test_the_losses_and_averages_of_five_steps_are_those_of_the_plain_loop(tmp_path):
    # Batch norm, because no bias stands in front of it: the gradient of such a bias is rounding, Adam makes it ± the
    # learning rate, and after five steps losses that began 1e-7 apart are 1e-2 apart.
    trainer, plain = sides(tmp_path, norm="batch", batch=1)
    for step in range(5):  # the decay begins at step 4; the pool is not yet full
        batch = trainer.data.batch(step)
        expected = {name: float(loss.detach()) for name, loss in plain.step(batch.a, batch.b).items()}
        trainer.advance()
        metrics = trainer.game.read()
        found = {name.removeprefix("generators."): value for name, value in metrics.items() if name[0] == "g"}
        found |= {f"judge_{side}": metrics[f"discriminators.adversarial_{side}"] for side in "ab"}
        assert found == pytest.approx(expected, rel=1e-3), f"step {step}"
    for name, average in zip(trainer.model.averaged, plain.averages, strict=True):
        mine = torch.cat([parameter.flatten() for parameter in trainer.averages.networks[name].parameters()])
        theirs = torch.cat([parameter.detach().flatten() for parameter in average.parameters()])
        assert (mine - theirs).norm() / theirs.norm() < 1e-3
