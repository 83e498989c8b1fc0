"""fp16: losses are scaled, gradients that overflow cost a step and halve the scale, and a resumed run keeps it."""

import pytest
import torch
from toys import Toy, batch, make_stepper, moved, net, weights

from translate import Adam, Generators
from translate.errors import NonFiniteError
from translate.testing.cases import Case, checkpoint_tensors, flat_gradient
from translate.training import checkpoint as checkpoints
from translate.training.step import MicroBatch

SCALE = 65536.0


def prepare(factor, precision="fp16"):
    """A generator whose loss is multiplied by `factor(step)`."""
    now = [0]

    def players(m):
        yield Generators([m.g], lambda batch: {"x": m.g(batch.a).square().mean() * factor(now[0])}, Adam(0.01))

    model = Toy(players, g=net())
    stepper = make_stepper(model, precision=precision)

    def run(number):
        now[0] = number
        stepper.run(batch(number), number, 0.0)

    return model, stepper, run


def scale_of(stepper):
    return float(stepper.tensors()["scaler.generators"][0])


def test_a_gradient_that_overflows_costs_one_step_and_halves_the_scale():
    model, stepper, run = prepare(lambda number: 1e6 if number == 1 else 1.0)  # times the scale: beyond fp16's 65504
    run(0)
    before = weights(model)
    run(1)
    assert not moved(before, model)
    assert scale_of(stepper) == SCALE / 2
    stepper.records.check()  # no failure
    run(2)
    assert moved(before, model) == {"g"}


def test_gradients_that_overflow_at_any_scale_are_a_failure():
    _, stepper, run = prepare(lambda number: 1e30)
    for number in range(16):
        run(number)
        stepper.records.check()
    run(16)
    assert scale_of(stepper) < 1
    with pytest.raises(NonFiniteError, match=r"^Step 17: the gradient of generators"):
        stepper.records.check()


def test_the_scale_leaves_gradients_as_they_are():
    found = {}
    for precision in ("fp32", "fp16"):
        _, stepper, _ = prepare(lambda number: 1.0, precision)
        state = stepper.players[0]
        terms = flat_gradient(stepper, state, state.moves[0], [MicroBatch(batch())])
        found[precision] = terms / (SCALE if precision == "fp16" else 1)
    assert (found["fp16"] - found["fp32"]).norm() / found["fp32"].norm() < 5e-3


def test_a_convolutional_model_learns_and_resumes(tmp_path):
    case = Case("pix2pix", tmp_path, generator="unet(width=4)", discriminator="patchgan(layers=1, width=4)")
    traces = {}
    for precision in ("fp32", "fp16"):
        trainer = case.trainer(precision=precision, steps=6)
        for _ in range(6):
            trainer.advance()
        traces[precision] = trainer.stepper.records.read()
    assert traces["fp16"] == pytest.approx(traces["fp32"], rel=0.05)
    first = case.trainer(precision="fp16")
    for _ in range(3):
        first.advance()
    path = checkpoints.write(tmp_path / "checkpoints", first.checkpoint())
    second = case.trainer(precision="fp16")
    second.restore(checkpoints.read(path))
    for _ in range(3):
        second.advance()
    want, got = checkpoint_tensors(trainer), checkpoint_tensors(second)
    assert {name for name in want if not torch.equal(want[name], got[name])} == set()
    assert any(name.startswith("scaler.") for name in want)
