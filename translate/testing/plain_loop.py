"""The engine against the plain loop: the same gradients, weights and averages."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from translate.benchmarking.plain import PlainLoop
from translate.testing.cases import Case, flatten_gradients
from translate.training.memory_order import to_memory_order
from translate.training.player_state import PlayerState


def matches_the_plain_loop(case: Case) -> None:
    """Gradients and weights are the plain loop's, for at least three steps and until each player has moved.

    The engine's optimizers continue with the plain loop's gradients. Some gradients are pure rounding error, as that of
    a bias before an instance norm; Adam makes a full step of them, and the two trainings would drift apart.
    """
    trainer = case.trainer()
    plain = PlainLoop(copy.deepcopy(trainer.model), steps=trainer.steps)
    expected_gradients: list[list[Tensor | None]] = []
    for state, player, optimizer in zip(trainer.stepper.players, plain.players, plain.optimizers, strict=True):
        optimizer.register_step_pre_hook(_collect_gradients(player.parameters(), expected_gradients))
        state.optimizer.register_step_pre_hook(_compare_gradients(state, expected_gradients))
    for step in range(max(3, *(player.every for player in plain.players))):
        torch.manual_seed(step)
        plain.step(trainer.data.batch(step))
        torch.manual_seed(step)
        trainer.advance()
        left = len(expected_gradients)
        assert not left, f"in step {step + 1} the engine makes {left} updates fewer than the plain loop"
    expected = plain.model.state_dict()
    for name, tensor in trainer.model.state_dict().items():
        _assert_near(tensor.double(), expected[name].double(), name)
    for name, network in plain.averages.items():
        for found, tensor in zip(trainer.ema.networks[name].parameters(), network.parameters(), strict=True):
            _assert_near(found, tensor, f"the average of {name}")


def _collect_gradients(parameters: Sequence[Tensor], collected: list[list[Tensor | None]]) -> Callable[..., None]:
    """A hook of the plain loop's optimizers that appends a copy of the gradients before each step."""

    def collect(*_: Any) -> None:
        # In the strides of the parameter, since a fused optimizer walks them together.
        collected.append([None if p.grad is None else torch.empty_like(p).copy_(p.grad) for p in parameters])

    return collect


def _compare_gradients(state: PlayerState, collected: list[list[Tensor | None]]) -> Callable[..., None]:
    """A hook of a player's optimizer that compares its gradients with the first collected ones, and puts those in."""

    def compare(*_: Any) -> None:
        assert collected, f"{state.name} makes an update that the plain loop does not make"
        dense_views = list(state.dense_views.values())
        expected = [
            None if gradient is None else to_memory_order(gradient, parameter)
            for gradient, parameter in zip(collected.pop(0), state.parameters, strict=True)
        ]
        found = flatten_gradients(dense_views, [view.grad for view in dense_views])
        _assert_near(found, flatten_gradients(dense_views, expected), f"a gradient of {state.name}")
        for view, gradient in zip(dense_views, expected, strict=True):
            view.grad = gradient

    return compare


def _assert_near(found: Tensor, expected: Tensor, what: str) -> None:
    """Within 1e-5 of the plain loop's, in norm."""
    away, scale = float((found - expected).detach().norm()), float(expected.detach().norm())
    assert away <= 1e-5 * scale, f"{what} is {away / scale if scale else away:.1e} away from that of the plain loop"
