"""The collectives of several processes that share one task, started by torchrun (launch.py).

In training each runs the same steps on its share of every batch. No network is wrapped. After the backward passes of a
move one flat all-reduce replaces gradients, terms and buffers by their means over all processes, so that each makes the
same optimizer step and holds the same weights. Layers that compare the images of a batch see the batch of all processes
during a step (batch_layers.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from translate.errors import CheckpointError, TranslateError

T = TypeVar("T")


class Group:
    """The processes of one task, seen from one of them. Alone by default; then every method is trivial.

    rank: the number of this process, from 0; only the first writes and prints. world_size: the number of processes.
    """

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.rank = rank
        self.world_size = world_size

    # ------------------------------------------------------------------ plain values: these wait for all ranks

    def all_gather(self, value: T) -> list[T]:
        """The values of all ranks, in order."""
        found: list[T] = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(found, value)
        return found

    def gather_round_robin(self, own: list[T]) -> list[T]:
        """One list from the lists of all ranks, by taking one item from each in turn."""
        lists = self.all_gather(own)
        return [items[i] for i in range(max(map(len, lists))) for items in lists if i < len(items)]

    def all_reduce_max(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        if self.world_size == 1:
            return number
        found = torch.tensor(int(number))
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def gather(self, value: T) -> list[T]:
        """The values of all ranks on the first; an empty list on the others."""
        if self.world_size == 1:
            return [value]
        found: list[Any] | None = [None] * self.world_size if self.rank == 0 else None
        dist.gather_object(value, found)
        return found or []

    def on_first_rank(self, function: Callable[[], T]) -> T:
        """Call the function on the first rank only; its result, or its exception, reaches all ranks."""
        found: list[Any] = [None]
        with self.raise_on_all_ranks():
            if self.rank == 0:
                found = [function()]
        if self.world_size > 1:
            dist.broadcast_object_list(found)
        result: T = found[0]
        return result

    @contextmanager
    def raise_on_all_ranks(self) -> Iterator[None]:
        """An error inside, on any rank, that a user should see ends all ranks; only the first reports it.

        Raises TranslateError or OSError on the first rank, SystemExit with its status on the others.
        """
        error: TranslateError | OSError | None = None
        try:
            yield
        except (TranslateError, OSError) as raised:
            error = raised
        errors = self.all_gather(error) if self.world_size > 1 else [error]
        for rank, each in enumerate(errors):
            if each is not None and self.rank == 0:
                raise each if rank == 0 else type(each)(f"Rank {rank}: {each}")
            if each is not None:
                raise SystemExit(getattr(each, "exit_status", 1))

    # ------------------------------------------------------------------ tensors

    @torch.no_grad()
    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each of these floating point tensors by its mean over the ranks, by one all-reduce in float32."""
        if self.world_size == 1:
            return
        flat = torch.cat([tensor.float().reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        parts = torch.split(flat.div_(self.world_size), [tensor.numel() for tensor in tensors])
        torch._foreach_copy_(list(tensors), [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)])

    @torch.no_grad()
    def broadcast_(self, tensors: Mapping[str, Tensor]) -> None:
        """Give each tensor the first rank's value."""
        for tensor in tensors.values() if self.world_size > 1 else ():
            value = tensor.contiguous()
            dist.broadcast(value, 0)
            tensor.copy_(value)

    def require_equal(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise CheckpointError unless all ranks hold the same tensors, bit for bit."""
        if self.world_size == 1:
            return
        digests = self.all_gather({name: _digest(tensor) for name, tensor in tensors.items()})
        for rank, theirs in enumerate(digests):
            different = [name for name, digest in digests[0].items() if theirs.get(name) != digest]
            if different or theirs.keys() != digests[0].keys():
                name = (different or sorted(theirs.keys() ^ digests[0].keys()))[0]
                raise CheckpointError(
                    f"Ranks 0 and {rank} no longer hold the same {name} ({max(len(different), 1)} differ), so no "
                    "checkpoint was written. Weights and buffers may depend on the rank only through means over "
                    "images; are all machines and versions alike? The last checkpoint is whole: continue with --resume."
                )


def _digest(tensor: Tensor) -> str:
    """A hash of the values, whatever their memory format."""
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(values.numpy().data).hexdigest()
