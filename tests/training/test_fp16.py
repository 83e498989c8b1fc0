"""fp16: losses are scaled, gradients that overflow cost a step and halve the scale, and a resumed run keeps it."""

import pytest
import torch
from toys import Toy, batch, moved, net, seat_down, weights

from translate import Adam, Generators
from translate.errors import NonFiniteError
from translate.testing import kit as testing
from translate.training import checkpoint as checkpoints

SCALE = 65536.0


def game(factor, precision="fp16"):
    """A generator whose loss is multiplied by `factor(step)`."""
    now = [0]

    def players(m):
        yield Generators([m.g], lambda batch: {"x": m.g(batch.a).square().mean() * factor(now[0])}, Adam(0.01))

    model = Toy(players, g=net())
    step = seat_down(model, precision=precision)

    def play(number):
        now[0] = number
        step.play(batch(number), number, 0.0)

    return model, step, play


def scale_of(step):
    return float(step.tensors()["scaler.generators"][0])


def test_a_gradient_that_overflows_costs_one_step_and_halves_the_scale():
    model, step, play = game(lambda number: 1e6 if number == 1 else 1.0)  # times the scale: beyond fp16's 65504
    play(0)
    before = weights(model)
    play(1)
    assert not moved(before, model)
    assert scale_of(step) == SCALE / 2
    step.check()  # no failure
    play(2)
    assert moved(before, model) == {"g"}


def test_gradients_that_overflow_at_any_scale_are_a_failure():
    _, step, play = game(lambda number: 1e30)
    for number in range(16):
        play(number)
        step.check()
    play(16)
    assert scale_of(step) < 1
    with pytest.raises(NonFiniteError, match=r"^Step 17: the gradient of generators"):
        step.check()


def test_the_scale_leaves_gradients_as_they_are():
    found = {}
    for precision in ("fp32", "fp16"):
        _, step, _ = game(lambda number: 1.0, precision)
        seat = step.seats[0]
        terms = testing.flat_gradient(step, seat, seat.moves[0], [testing.Chunk(batch())])
        found[precision] = terms / (SCALE if precision == "fp16" else 1)
    assert (found["fp16"] - found["fp32"]).norm() / found["fp32"].norm() < 5e-3


def test_a_convolutional_model_learns_and_resumes(tmp_path):
    case = testing.Case("pix2pix", tmp_path, generator="unet(width=4)", discriminator="patchgan(layers=1, width=4)")
    traces = {}
    for precision in ("fp32", "fp16"):
        trainer = case.trainer(precision=precision, steps=6)
        for _ in range(6):
            trainer.advance()
        traces[precision] = trainer.game.read()
    assert traces["fp16"] == pytest.approx(traces["fp32"], rel=0.05)
    first = case.trainer(precision="fp16")
    for _ in range(3):
        first.advance()
    path = checkpoints.write(tmp_path / "checkpoints", first.checkpoint())
    second = case.trainer(precision="fp16")
    second.restore(checkpoints.read(path))
    for _ in range(3):
        second.advance()
    want, got = testing.held_by(trainer), testing.held_by(second)
    assert {name for name in want if not torch.equal(want[name], got[name])} == set()
    assert any(name.startswith("scaler.") for name in want)
