"""What steps record on the device: sums of terms and stats, and the first value that was not finite.

Recording never waits for the device; reading does, so it happens at ticks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from translate.distributed.group import Group
from translate.errors import NonFiniteError

GRADIENT = "the gradient"


class Records:
    """Running sums of terms and stats by "player.name", and where the first non-finite value was."""

    def __init__(self, device: torch.device, group: Group) -> None:
        """group: the ranks over which `read` averages."""
        self.group = group
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, float] = {}
        # The first failure: step, index into `_values`, index into its names; -1 if there is none.
        self._failure = torch.full((3,), -1, dtype=torch.int64, device=device)
        self._values: dict[tuple[str, str], list[str]] = {}  # (player, loss) -> names of its terms, then GRADIENT

    def add(self, player: str, values: Mapping[str, Tensor], weight: float = 1.0) -> None:
        """Add scalars of a player to the sums. weight: 1 for a whole batch, 1 / n for one of n micro-batches."""
        for name, value in values.items():
            key = f"{player}.{name}"
            self._sums[key] = self._sums[key] + value * weight if key in self._sums else value * weight
            self._counts[key] = self._counts.get(key, 0.0) + weight

    def note_finite(self, player: str, loss: str, terms: list[str], finite: Tensor, step: int) -> None:
        """Keep step, loss and value of the first failure in a tensor.

        finite: bool (terms + 1,), whether each term and the gradient is finite.
        """
        self._values.setdefault((player, loss), [*terms, GRADIENT])
        where = torch.full_like(self._failure, step)
        where[1:2].fill_(list(self._values).index((player, loss)))
        where[2:3].copy_(finite.to(torch.int64).argmin(keepdim=True))
        self._failure = torch.where((self._failure[0] < 0) & ~finite.all(), where, self._failure)

    def read(self) -> dict[str, float]:
        """The mean of every term and stat since the last call, by "player.name".

        Raises NonFiniteError with step, player and term if an update was skipped.
        """
        self.check()
        sums = torch.stack(list(self._sums.values())) if self._sums else torch.zeros(0)
        self.group.average_([sums])  # each rank has seen its own stats
        means = {name: total / self._counts[name] for name, total in zip(self._sums, sums.tolist(), strict=True)}
        self._sums, self._counts = {}, {}
        return means

    def check(self) -> None:
        """Raise NonFiniteError if any update so far was skipped because something was NaN or infinite."""
        step, loss_number, value = self._failure.tolist()
        if step >= 0:
            (player, loss), names = list(self._values.items())[loss_number]
            raise NonFiniteError(
                f"Step {step + 1}: {names[value]} of {player} ({loss}) is NaN or infinite. The update was skipped, and "
                f"nothing that holds it was saved. Lower the learning rate, try --precision fp32, or check the images."
            )

    @property
    def terms(self) -> set[str]:
        """The terms of all losses that have moved a player so far, as "player.name"; no stats."""
        return {f"{player}.{name}" for (player, _), names in self._values.items() for name in names if name != GRADIENT}
