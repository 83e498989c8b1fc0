"""Moves, outputs and freezing: who gets which gradient, and how often forward runs."""

import copy
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from toys import Batch, Fake, Toy, batch, gradients_left, make_stepper, moved, net, weights

from translate import Adam, Discriminators, Generators, Move, Penalty
from translate.errors import PluginError


class Both(NamedTuple):
    x: Tensor
    y: Tensor


def critic_and_generator(model, loss):
    """A critic that tells b from the fake, and a generator that minimises `loss`."""

    def critic_loss(batch, outputs):
        return {"critic": model.d(outputs.fake).mean() - model.d(batch.b).mean()}

    return Discriminators([model.d], critic_loss), Generators([model.g], loss)


def fool(model):
    return lambda batch, outputs: {"g": -model.d(outputs.fake).mean()}


# ------------------------------------------------------------------ gradients


def test_two_generators_get_the_gradients_of_a_hand_written_loop():
    def players(m):
        yield Generators([m.g], lambda batch, o: {"a": F.mse_loss(o.y, batch.b), "b": o.x.square().mean()}, Adam(0.1))
        yield Generators([m.h], lambda batch, o: {"a": (o.x * o.y).mean()}, Adam(0.1), name="second")

    model = Toy(players, forward=lambda m, batch: Both(m.g(batch.a), m.h(m.g(batch.a))), g=net(seed=1), h=net(seed=2))
    g, h = copy.deepcopy((model.g, model.h))
    found, (a, b) = gradients_left(model), batch()
    make_stepper(model).run(Batch(a, b), 0, 0.0)

    (F.mse_loss(h(g(a)), b) + g(a).square().mean()).backward()
    expected = {f"g.{name}": p.grad.clone() for name, p in g.named_parameters()}
    torch.optim.Adam(g.parameters(), 0.1, (0.5, 0.999)).step()
    h.zero_grad()
    (g(a).detach() * h(g(a).detach())).mean().backward()
    expected |= {f"h.{name}": p.grad.clone() for name, p in h.named_parameters()}
    assert {name for name, _ in found} == set(expected)
    assert len(found) == len(expected), "each parameter gets one gradient"
    for name, gradient in found:
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-7)


def test_a_stale_graph_raises():
    kept = []

    def first(batch, outputs):
        kept.append(outputs)
        return {"x": outputs.x.square().mean()}

    def second(batch):
        return {"y": kept[0].y.mean()}

    def players(m):
        yield Generators([m.g], first)
        yield Generators([m.h], second, name="second")

    model = Toy(players, forward=lambda m, batch: Both(m.g(batch.a), m.g(m.h(batch.a))), g=net(), h=net())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        make_stepper(model).run(batch(), 0, 0.0)


def test_no_idle_parameter_ever_gets_a_gradient_or_moves():
    idle = net(1, seed=3)

    def players(m):
        yield Discriminators([m.d], lambda batch, o: {"d": (m.d(o.fake) + m.nobody(o.fake)).mean()})
        yield Generators([m.g], lambda batch, o: {"g": (m.d(o.fake) * m.nobody(o.fake)).mean()})

    model = Toy(players, g=net(), d=net(1), nobody=idle)
    found, before, stepper = gradients_left(model), weights(model), make_stepper(model)
    for number in range(3):
        stepper.run(batch(number), number, 0.0)
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())
    assert [name[0] for name, _ in found] == [*"ddddgggg"] * 3
    assert moved(before, model) == {"g", "d"}


# ------------------------------------------------------------------ outputs


def test_the_generator_sees_the_updated_discriminator_on_the_outputs_of_one_forward():
    model = Toy(lambda m: critic_and_generator(m, fool(m)), g=net(seed=1), d=net(1, seed=2))
    g, d = copy.deepcopy((model.g, model.d))
    found, (a, b) = gradients_left(model), batch()
    stepper = make_stepper(model)
    stepper.run(Batch(a, b), 0, 0.0)

    fake = g(a)
    (d(fake.detach()).mean() - d(b).mean()).backward()
    torch.optim.Adam(d.parameters(), 2e-4, (0.5, 0.999)).step()
    (-d(fake).mean()).backward()
    for name, gradient in found[4:]:
        torch.testing.assert_close(gradient, g.get_parameter(name.removeprefix("g.")).grad, rtol=1e-5, atol=1e-7)
    assert model.forwards == 1
    stepper.run(batch(1), 1, 0.0)
    assert model.forwards == 2


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["critic first", "generator first"])
def test_forward_runs_once_a_step_and_with_fresh_outputs_once_a_move(order):
    for fresh, calls in ((False, 1), (True, 3)):

        def players(m):
            critic, generator = critic_and_generator(m, fool(m))
            return [Discriminators([m.d], [critic.loss, critic.loss]), generator][order]

        model = Toy(players, fresh_outputs=fresh, g=net(), d=net(1))
        make_stepper(model).run(batch(), 0, 0.0)
        assert model.forwards == calls


def test_a_generator_that_moves_twice_gets_a_new_forward_for_the_second_move():
    model = Toy(lambda m: [Generators([m.g], [lambda batch, o: {"x": o.fake.square().mean()}] * 2)], g=net())
    g, (a, b) = copy.deepcopy(model.g), batch()
    make_stepper(model).run(Batch(a, b), 0, 0.0)
    optimizer = torch.optim.Adam(g.parameters(), 2e-4, (0.5, 0.999))
    for _ in range(2):
        optimizer.zero_grad()
        g(a).square().mean().backward()
        optimizer.step()
    assert model.forwards == 2
    for mine, expected in zip(model.g.parameters(), g.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-7)


def test_discriminators_get_detached_outputs():
    seen = []

    def loss(model):
        def look(batch, outputs):
            seen.append(outputs.fake.requires_grad)
            return {"d": model.d(outputs.fake).mean()}

        return look

    for order in (slice(None), slice(None, None, -1)):
        model = Toy(
            lambda m, order=order: [Discriminators([m.d], loss(m)), Generators([m.g], fool(m))][order],
            g=net(),
            d=net(1),
        )
        make_stepper(model).run(batch(), 0, 0.0)
    assert seen == [False, False]


def test_a_loss_that_takes_only_the_batch_costs_no_forward():
    model = Toy(lambda m: [Generators([m.g], lambda batch: {"x": m.g(batch.a).square().mean()})], g=net())
    before = weights(model)
    make_stepper(model).run(batch(), 0, 0.0)
    assert model.forwards == 0
    assert moved(before, model) == {"g"}


def test_an_argument_with_a_default_is_the_losss_own():
    def loss(m):
        return lambda batch, weight=2.0: {"x": weight * m.g(batch.a).square().mean()}

    model = Toy(lambda m: [Generators([m.g], loss(m))], g=net())
    make_stepper(model).run(batch(), 0, 0.0)
    assert model.forwards == 0


def test_a_discriminators_network_may_play_a_part_in_forward_in_bf16_too():
    def players(m):
        yield Discriminators([m.d], lambda batch, o: {"d": m.d(o.fake).mean()})
        yield Generators([m.g], lambda batch, o: {"g": o.fake.mean()})

    model = Toy(players, forward=lambda m, batch: Fake(m.g(batch.a) + m.d(batch.a)), g=net(), d=net())
    found = gradients_left(model)
    make_stepper(model, precision="bf16", micro_batches=2).run(batch(), 0, 0.0)
    assert {name for name, _ in found} == {name for name, _ in model.named_parameters()}


# ------------------------------------------------------------------ moves and optimizers


def test_every_5_moves_on_each_fifth_step():
    def players(m):
        yield Discriminators([m.d], lambda batch: {"d": m.d(batch.b).mean()})
        yield Generators([m.g], fool(m), every=5)

    model = Toy(players, g=net(), d=net(1))
    stepper, when = make_stepper(model), []
    for number in range(11):
        before = weights(model)
        stepper.run(batch(number), number, 0.0)
        when += [number] if "g" in moved(before, model) else []
        assert "d" in moved(before, model)
    assert when == [4, 9]
    assert model.forwards == 2


def test_a_move_of_a_subset_goes_on_with_the_same_optimizer_state():
    def loss(m):
        return lambda batch: {"x": m.h(m.g(batch.a)).square().mean()}

    model = Toy(
        lambda m: [Generators([m.g, m.h], [loss(m), Move(loss(m), networks=[m.g])], Adam(0.01))], g=net(), h=net(seed=1)
    )
    g, h = copy.deepcopy((model.g, model.h))
    optimizer = torch.optim.Adam([*g.parameters(), *h.parameters()], 0.01, (0.5, 0.999))
    stepper = make_stepper(model)
    for number in range(3):
        stepper.run(batch(number), number, 0.0)
        for movers in ((g, h), (g,)):
            optimizer.zero_grad()
            h(g(batch(number).a)).square().mean().backward()
            if h not in movers:
                h.zero_grad()
            optimizer.step()
    for mine, expected in zip(model.parameters(), [*g.parameters(), *h.parameters()], strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)
    counts = {name.split(".")[2]: int(t) for name, t in stepper.tensors().items() if name.endswith(".step")}
    assert counts == {"g": 6, "h": 3}


def test_adam_scales_the_rate_of_a_network_and_clips_the_whole_gradient():
    def players(m):
        adam = Adam(0.01, (0.5, 0.99), eps=1e-3, scale={m.h: 0.1}, clip=0.05)
        yield Generators([m.g, m.h], lambda batch: {"x": m.h(m.g(batch.a)).square().sum()}, adam, lambda p: 1 - p)

    model = Toy(players, g=net(), h=net(seed=1))
    g, h = copy.deepcopy((model.g, model.h))
    groups = [{"params": list(g.parameters())}, {"params": list(h.parameters())}]
    optimizer = torch.optim.Adam(groups, 0.01, (0.5, 0.99), eps=1e-3)
    stepper = make_stepper(model)
    for number in range(4):
        stepper.run(batch(number), number, number / 4)
        optimizer.zero_grad()
        h(g(batch(number).a)).square().sum().backward()
        torch.nn.utils.clip_grad_norm_([*g.parameters(), *h.parameters()], 0.05)
        for group, rate in zip(optimizer.param_groups, (0.01, 0.001), strict=True):
            group["lr"] = rate * (1 - number / 4)
        optimizer.step()
    for mine, expected in zip(model.parameters(), [*g.parameters(), *h.parameters()], strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)


def test_progress_is_filled_before_a_step_and_is_no_part_of_the_state():
    seen = []

    def loss(m):
        return lambda batch: seen.append(m.progress.clone()) or {"x": m.g(batch.a).mean()}

    model = Toy(lambda m: [Generators([m.g], loss(m))], g=net())
    stepper = make_stepper(model)
    for number, progress in enumerate((0.0, 0.25)):
        stepper.run(batch(), number, progress)
    assert [float(value) for value in seen] == [0.0, 0.25]
    assert "progress" not in model.state_dict()


# ------------------------------------------------------------------ micro-batches and metrics


def test_terms_and_stats_are_averaged_over_steps_and_micro_batches():
    def loss(m):
        return lambda batch, o: (
            {"x": o.fake.square().mean()},
            {"sign": o.fake.sign().mean(), "bright": batch.a.mean()},
        )

    def metrics(parts):
        model = Toy(lambda m: [Generators([m.g], loss(m), Adam(1e-9))], g=net())
        stepper = make_stepper(model, micro_batches=parts)
        for number in range(3):
            stepper.run(batch(number, size=8), number, 0.0)
        return stepper.records.read(), stepper.records.read()

    (whole, nothing), (parts, _) = metrics(1), metrics(4)
    assert nothing == {}, "reading starts anew"
    assert parts == pytest.approx(whole, rel=1e-5)
    g = net()
    fakes = [g(batch(number, size=8).a).detach() for number in range(3)]
    assert whole == pytest.approx(
        {
            "generators.x": float(sum(fake.square().mean() for fake in fakes) / 3),
            "generators.sign": float(sum(fake.sign().mean() for fake in fakes) / 3),
            "generators.bright": float(sum(batch(number, size=8).a.mean() for number in range(3)) / 3),
        },
        rel=1e-4,
    )


def test_a_player_that_moves_rarely_is_averaged_over_its_own_moves():
    def players(m):
        yield Discriminators([m.d], lambda batch: {"d": m.d(batch.a).mean() * 0 + 1})
        yield Generators([m.g], lambda batch: {"g": m.g(batch.a).mean() * 0 + 2}, every=3)

    stepper = make_stepper(Toy(players, g=net(), d=net()))
    for number in range(7):
        stepper.run(batch(), number, 0.0)
    assert stepper.records.read() == {"discriminators.d": 1.0, "generators.g": 2.0}


def test_micro_batches_give_the_gradient_of_the_batch():
    def gradient(parts):
        model = Toy(
            lambda m: critic_and_generator(m, lambda batch, o: {"g": F.mse_loss(m.d(o.fake), batch.b[:, :1])}),
            g=net(),
            d=net(1),
        )
        found = gradients_left(model)
        make_stepper(model, micro_batches=parts).run(batch(size=8), 0, 0.0)
        last = dict(found)  # the accumulated one
        return torch.cat([last[name].flatten() for name, _ in model.named_parameters()])

    whole, parts = gradient(1), gradient(8)
    assert (whole - parts).norm() / whole.norm() < 1e-5


# ------------------------------------------------------------------ a model that breaks the contract


def good(model):
    return lambda batch, outputs: {"g": model.g(batch.a).mean()}


def one(model):
    return lambda batch: {"g": model.g(batch.a).mean()}


BROKEN = {
    "is torch.float32 (4,); expected a float32 scalar": lambda m: [
        Generators([m.g], lambda batch: {"x": m.g(batch.a).mean(1)})
    ],
    "is torch.float64 (); expected a float32 scalar": lambda m: [
        Generators([m.g], lambda batch: {"x": m.g(batch.a).double().mean()})
    ],
    "is float; expected a float32 scalar": lambda m: [Generators([m.g], lambda batch: {"x": 0.5})],
    "the terms x do not depend on the networks": lambda m: [
        Generators([m.g], lambda batch: {"x": m.d(batch.a).mean()})
    ],
    "share a network": lambda m: [Generators([m.g], good(m)), Discriminators([m.d, m.g], good(m))],
    "players with different names": lambda m: [Generators([m.g], good(m)), Generators([m.d], good(m))],
    "these are: none": lambda m: [],
    "names a network that is not the player's": lambda m: [Generators([m.g], Move(good(m), networks=[m.h]))],
    "the player 'generators' names a network": lambda m: [Generators([m.g], good(m), Adam(scale={m.h: 0.1}))],
    "`every` is at least 1": lambda m: [Generators([m.g], good(m), penalties=[Penalty(good(m), 0)])],
    "both have a term 'g'; rename one": lambda m: [Generators([m.g], one(m), penalties=[Penalty(one(m))])],
    "returned {}; expected a float32 scalar for each term": lambda m: [Generators([m.g], lambda batch: {})],
    "returned None; expected": lambda m: [Generators([m.g], lambda batch: None)],
    "returned tensor(": lambda m: [Generators([m.g], lambda batch: m.g(batch.a).mean())],
    "stats of other names": lambda m: [Generators([m.g], lambda batch: (one(m)(batch), one(m)(batch)))],
    "takes batch, outputs, more; expected (batch) or (batch, outputs)": lambda m: [
        Generators([m.g], lambda batch, outputs, more: {})
    ],
    "leaves the networks of generators without a gradient": lambda m: [
        Generators([m.g], lambda batch: {"x": batch.a.clone().requires_grad_().mean()})
    ],
    "forward returned Tensor; expected a NamedTuple": lambda m: [Generators([m.h], good(m))],
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_contract_is_a_plugin_error_that_says_what_is_wrong(message):
    def forward(m, batch):
        return m.g(batch.a)  # a bare tensor, which the last case asks for

    with pytest.raises(PluginError) as caught:
        make_stepper(Toy(BROKEN[message], forward=forward, g=net(), d=net(1), h=net())).run(batch(), 0, 0.0)
    assert message in str(caught.value)


def test_a_loss_computes_in_float32_with_networks_in_a_list():
    """As progressive growing has them: one network a resolution, called through the list."""

    def players(m):
        yield Generators([m.g], lambda batch: {"mse": F.mse_loss(m.g[0](batch.a), batch.b)})

    model = Toy(players, g=torch.nn.ModuleList([net(), net(seed=1)]))
    make_stepper(model, precision="bf16").run(batch(), 0, 0.0)
