"""NaN and infinity: the device skips the update, and the next tick names step, player and term."""

import pytest
import torch
from toys import Toy, batch, make_stepper, moved, net, weights

from translate import Adam, Discriminators, Generators
from translate.errors import NonFiniteError
from translate.training import checkpoint as checkpoints
from translate.training.checkpoint import Checkpoint

BAD = 2  # the step at which something goes wrong


def prepare(wrong):
    """A generator whose loss is multiplied by `wrong` on one step, and a critic that is always well."""
    now = [0]

    def players(m):
        def generator_loss(batch, outputs):
            good = outputs.fake.square().mean()
            return {"fine": good, "broken": good * wrong(m) if now[0] == BAD else good}

        yield Discriminators([m.d], lambda batch: {"d": m.d(batch.b).mean()})
        yield Generators([m.g], generator_loss, Adam(0.01, clip=1.0))

    model = Toy(players, g=net(), d=net(1))
    stepper = make_stepper(model)

    def run(number):
        now[0] = number
        stepper.run(batch(number), number, 0.0)

    return model, stepper, run


def sqrt_at_zero(m):
    """1 with an infinite gradient."""
    return 1 + (next(m.g.parameters()).sum() * 0).sqrt()


WRONG = {"NaN": lambda m: float("nan"), "infinity": lambda m: float("inf"), "the gradient": sqrt_at_zero}


@pytest.mark.parametrize("kind", WRONG)
def test_the_update_is_skipped_bit_for_bit_and_later_ones_go_on(kind):
    model, stepper, run = prepare(WRONG[kind])
    for number in range(BAD):
        run(number)
    before, state = weights(model), {name: value.clone() for name, value in stepper.tensors().items()}
    run(BAD)
    assert moved(before, model) == {"d"}
    mine = {name: value for name, value in stepper.tensors().items() if name.startswith("optimizer.generators")}
    assert mine
    assert all(torch.equal(value, state[name]) for name, value in mine.items()), "Adam's moments and count of steps"
    run(BAD + 1)
    assert moved(before, model) == {"d", "g"}
    assert all(value.isfinite().all() for value in [*model.parameters(), *stepper.tensors().values()])


@pytest.mark.parametrize(
    ("kind", "term"), [("NaN", "broken"), ("infinity", "broken"), ("the gradient", "the gradient")]
)
def test_the_first_failure_is_named_by_step_player_and_term(kind, term):
    _, stepper, run = prepare(WRONG[kind])
    for number in range(BAD):
        run(number)
    stepper.records.check()
    for number in range(BAD, BAD + 3):
        run(number)
    for ask in (stepper.records.check, stepper.records.read):
        with pytest.raises(NonFiniteError, match=rf"^Step {BAD + 1}: {term} of generators \(generator_loss\) is NaN"):
            ask()


def test_a_failure_in_the_very_first_step_leaves_an_optimizer_that_has_not_begun():
    model = Toy(lambda m: [Generators([m.g], lambda batch: {"x": m.g(batch.a).mean() * float("nan")})], g=net())
    stepper, before = make_stepper(model), weights(model)
    stepper.run(batch(), 0, 0.0)
    assert not moved(before, model)
    assert all(not value.any() for value in stepper.tensors().values())


def test_micro_batches_name_the_term_too():
    def players(m):
        def loss(batch):  # the last image alone is bad
            return {"fine": m.g(batch.a).mean(), "bad": m.g(batch.a).mean() / (batch.b[0, 0] != 7).float()}

        yield Generators([m.g], loss)

    data = batch(size=4)
    data.b[3, 0] = 7
    stepper = make_stepper(Toy(players, g=net()), micro_batches=4)
    stepper.run(data, 0, 0.0)
    with pytest.raises(NonFiniteError, match="Step 1: bad of generators"):
        stepper.records.read()


@pytest.mark.parametrize("part", ["model", "training"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_checkpoint_holds_one(part, value, tmp_path):
    good = Checkpoint(1, {"w": torch.ones(2)}, {"m": torch.ones(2)})
    checkpoints.write(tmp_path, good)
    tensors = {"model": good.model, "training": good.training, part: {"bad": torch.tensor([1.0, value])}}
    with pytest.raises(NonFiniteError, match="Step 2: bad holds a NaN or an infinity, so no checkpoint was written"):
        checkpoints.write(tmp_path, Checkpoint(2, **tensors))
    assert [path.name for path in tmp_path.iterdir()] == ["000000001"]
