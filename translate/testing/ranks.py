"""Several processes against one: each player's gradient must be the same."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from translate.distributed.launch import process_group
from translate.testing.cases import Case, disable_pools, draw_images, flat_gradient
from translate.testing.dispatch_modes import NoiseByImage
from translate.training.step import MicroBatch
from translate.training.trainer import Trainer

RANKS, BATCH_OF_ALL = 2, 4


def check_ranks(cases: Sequence[Case]) -> None:
    """Two processes with half of a batch each compute the gradient of one process with the whole batch.

    Compared for each move and lazy penalty of each player, before the optimizer, within 1e-5 relative; same weights,
    random numbers fixed by image, no pools. All models at once, since starting processes takes seconds.
    Raises AssertionError.
    """
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.close()
        given = [(case.name, case.size, case.options) for case in cases]
        spawn(_compare_ranks, (port, folder, given), nprocs=RANKS)  # type: ignore[no-untyped-call]
        complaints = Path(folder, "complaints").read_text()
    assert not complaints, complaints


def _compare_ranks(rank: int, port: int, folder: str, cases: Sequence[tuple[str, int, dict[str, Any]]]) -> None:
    """One of the processes; the first writes what is wrong into a file."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(RANKS)}
    complaints: list[str] = []
    with process_group() as group:
        for number, (name, size, options) in enumerate(cases):
            case = Case(name, Path(folder, f"{number}-{rank}"), size=size, **options)
            case.images = draw_images(case.folder / "more", case.kind, size, BATCH_OF_ALL)
            share = BATCH_OF_ALL // RANKS
            trainer = case.trainer(batch=BATCH_OF_ALL, group=group)
            with trainer.batch_layers.active():
                parts = _gradients(trainer, range(rank * share, (rank + 1) * share))
            if rank > 0:
                continue
            for objective, whole in _gradients(case.trainer(batch=BATCH_OF_ALL), range(BATCH_OF_ALL)).items():
                error = float((whole - parts[objective]).norm() / whole.norm())
                if not error < 1e-5:
                    complaints.append(
                        f"{name}: the gradient of {objective} from {RANKS} ranks is {error:.1e} away from that of one "
                        "process; terms are means over images, and what compares images says couples_batch = True"
                    )
    if rank == 0:
        Path(folder, "complaints").write_text("\n".join(complaints))


def _gradients(trainer: Trainer, images: range) -> dict[str, Tensor]:
    """The flat gradient of each objective on the first batch. images: the trainer's, as numbers in the whole batch."""
    found = {}
    disable_pools(trainer.stepper)
    for state in trainer.stepper.players:
        for objective in state.objectives:
            with NoiseByImage(images):
                part = MicroBatch(trainer.data.batch(0))
                found[f"{state.name}.{objective.name}"] = flat_gradient(trainer.stepper, state, objective, [part])
    return found
