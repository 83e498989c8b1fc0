"""Penalties: summed into a move, or lazy with a step of their own."""

import copy

import pytest
import torch
from toys import Toy, batch, gradients_left, make_stepper, net

from translate import Adam, Discriminators, Generators, Penalty


def gradient_penalty(critic, images):
    """The mean squared norm of the critic's gradient: differentiates twice."""
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    return gradient.square().sum(1).mean()


def critic_loss(model):
    return lambda batch: {"critic": model.d(batch.a).mean() - model.d(batch.b).mean()}


def gradient_of(network, loss):
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, list(network.parameters()))])


def test_a_penalty_of_every_1_is_summed_into_the_first_move():
    def players(m):
        penalty = Penalty(lambda batch: {"r1": gradient_penalty(m.d, batch.b)})
        yield Discriminators([m.d], [critic_loss(m)] * 2, penalties=[penalty])

    model = Toy(players, d=net(1))
    d, data, found = copy.deepcopy(model.d), batch(), gradients_left(model)
    stepper = make_stepper(model)
    stepper.run(data, 0, 0.0)
    expected = gradient_of(d, d(data.a).mean() - d(data.b).mean() + gradient_penalty(d, data.b))
    first = dict(found[: len(found) // 2])
    mine = torch.cat([first[name].flatten() for name, _ in model.named_parameters()])
    torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-7)
    assert len(found) == 8, "two moves, and no step of the penalty's own"
    assert stepper.records.read().keys() == {"discriminators.critic", "discriminators.r1"}


@pytest.mark.parametrize("every", [2, 3])
def test_a_lazy_penalty_equals_a_hand_written_loop_with_gain_and_corrected_adam(every):
    def players(m):
        penalty = Penalty(lambda batch, outputs: {"r1": gradient_penalty(m.d, outputs.fake)}, every)
        yield Discriminators([m.d], critic_loss(m), Adam(0.01, (0.5, 0.99)), penalties=[penalty])

    model = Toy(players, g=net(), d=net(1, seed=1))
    d, stepper = copy.deepcopy(model.d), make_stepper(model)
    share = every / (every + 1)
    optimizer = torch.optim.Adam(d.parameters(), 0.01 * share, (0.5**share, 0.99**share))
    for number in range(7):
        data = batch(number)
        stepper.run(data, number, 0.0)
        optimizer.zero_grad()
        (d(data.a).mean() - d(data.b).mean()).backward()
        optimizer.step()
        if number % every == 0:
            optimizer.zero_grad()
            (every * gradient_penalty(d, model.g(data.a))).backward()
            optimizer.step()
    for mine, expected in zip(model.d.parameters(), d.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)
    penalties = stepper.records.read()["discriminators.r1"]
    assert penalties < every * 10, "the log has the term itself, without the gain"


def test_k_counts_the_players_own_steps():
    steps = []

    def players(m):
        def path(batch):
            steps.append(number)
            return {"path": m.g(batch.a).square().mean()}

        yield Generators([m.g], lambda batch: {"g": m.g(batch.a).mean()}, every=2, penalties=[Penalty(path, 3)])

    stepper = make_stepper(Toy(players, g=net()))
    for number in range(14):  # the closure reads it
        stepper.run(batch(), number, 0.0)
    assert steps == [1, 7, 13]


def test_penalties_are_float32_in_bf16_too():
    kinds = []

    def players(m):
        def look(batch):
            scores = m.d[0](batch.a)
            kinds.append((scores.dtype, torch.is_autocast_enabled("cpu")))
            return {"p": scores.square().mean()}

        yield Discriminators([m.d], critic_loss(m), penalties=[Penalty(look), Penalty(look, 2)])

    make_stepper(Toy(players, d=net(1)), precision="bf16").run(batch(), 0, 0.0)
    assert kinds == [(torch.float32, False)] * 2


@pytest.mark.parametrize("every", [1, 2])
def test_penalties_average_over_micro_batches(every):
    def gradients(parts):
        def players(m):
            penalty = Penalty(lambda batch: {"r1": gradient_penalty(m.d, batch.a)}, every)
            yield Discriminators([m.d], critic_loss(m), Adam(1e-9), penalties=[penalty])

        model = Toy(players, d=net(1))
        found = gradients_left(model)
        stepper = make_stepper(model, micro_batches=parts)
        stepper.run(batch(size=8), 0, 0.0)
        last = dict(found if every == 1 else found[4 * parts :])
        return torch.cat([last[name].flatten() for name in sorted(last)]), stepper.records.read()

    (whole, metrics), (parts, same) = gradients(1), gradients(4)
    assert (whole - parts).norm() / whole.norm() < 1e-5
    assert same == pytest.approx(metrics, rel=1e-5, abs=1e-6)
