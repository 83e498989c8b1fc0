"""Several processes, one task: torchrun starts them, and each does its share.

In training each plays the same steps on its share of every batch. No network is wrapped. After the backward passes of a
move one flat all-reduce makes gradients, terms and buffers their means over all processes, so that each of them makes
the same step and holds the same weights. While a step is played, layers that compare the images of a batch see the
whole batch.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm

from translate.device import cores, resolve_device
from translate.errors import CheckpointError, TranslateError, UsageError

T = TypeVar("T")
RESTARTS = 3
"""How often `launch` starts processes again of which one was killed."""
LOST = 75
"""The exit status of a process that another one left alone."""


class Group:
    """The processes of one task, as one of them sees them; alone by default, and then every method is trivial.

    rank: the number of this process, from 0; the first alone writes and tells. ranks: how many there are.
    """

    def __init__(self, rank: int = 0, ranks: int = 1) -> None:
        self.rank = rank
        self.world_size = ranks
        self._playing = False

    # ------------------------------------------------------------------ plain values: these wait for all ranks

    def all_gather(self, value: T) -> list[T]:
        """The values of all ranks, in order."""
        found: list[T] = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(found, value)
        return found

    def gather_round_robin(self, own: list[T]) -> list[T]:
        """The lists of all ranks as the one that was dealt out to them, one to each in turn."""
        hands = self.all_gather(own)
        return [hand[i] for i in range(max(map(len, hands))) for hand in hands if i < len(hand)]

    def all_reduce_max(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        if self.world_size == 1:
            return number
        found = torch.tensor(int(number))
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def gather(self, value: T) -> list[T]:
        """The values of all ranks on the first; nothing on the others."""
        if self.world_size == 1:
            return [value]
        found: list[Any] | None = [None] * self.world_size if self.rank == 0 else None
        dist.gather_object(value, found)
        return found or []

    def on_first_rank(self, function: Callable[[], T]) -> T:
        """What the function returns on the first rank, which alone calls it; what it raises is raised on all."""
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
        """What is raised inside on any rank, for a user to know, ends all: the first tells, the others are silent.

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
        """Make each of these floating point tensors its mean over the ranks, by one all-reduce in float32."""
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
        """Raise CheckpointError unless all ranks hold the same, bit for bit."""
        if self.world_size == 1:
            return
        everyone = self.all_gather({name: _digest(tensor) for name, tensor in tensors.items()})
        for rank, theirs in enumerate(everyone):
            different = [name for name, digest in everyone[0].items() if theirs.get(name) != digest]
            if different or theirs.keys() != everyone[0].keys():
                name = (different or sorted(theirs.keys() ^ everyone[0].keys()))[0]
                raise CheckpointError(
                    f"Ranks 0 and {rank} no longer hold the same {name} ({max(len(different), 1)} differ), so no "
                    "checkpoint was written. Weights and buffers may depend on the rank by nothing but means over "
                    "images; are all machines and versions alike? The last checkpoint is whole: continue with --resume."
                )

    # ------------------------------------------------------------------ images that are compared with each other

    @contextmanager
    def syncing_batch_layers(self) -> Iterator[None]:
        """Inside, where all ranks call the networks alike, layers see the whole batch; outside, what they are given."""
        self._playing = True
        try:
            yield
        finally:
            self._playing = False

    def sync_batch_layers(self, module: nn.Module) -> None:
        """Have batch norms, and modules with `couples_batch`, below this one see the batch of all ranks."""
        for child in module.children() if self.world_size > 1 else ():
            if isinstance(child, _BatchNorm):

                def forward(norm: _BatchNorm, images: Tensor) -> Tensor:
                    shared = self._playing and norm.training
                    return self._batch_norm(norm, images) if shared else type(norm).forward(norm, images)

                # A method, so that a deep copy of the module has its own.
                child.forward = MethodType(forward, child)  # type: ignore[method-assign]
            elif getattr(child, "couples_batch", False):
                child.register_forward_pre_hook(self._whole_batch)
                child.register_forward_hook(self._own_share)
            else:
                self.sync_batch_layers(child)

    def _gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks, (ranks, …); may be differentiated twice."""
        own = [tensor if rank == self.rank else torch.zeros_like(tensor) for rank in range(self.world_size)]
        total: Tensor = _Sum.apply(torch.stack(own))
        return total

    def _batch_norm(self, norm: _BatchNorm, images: Tensor) -> Tensor:
        """Ioffe and Szegedy, ICML 2015, arXiv:1502.03167, Algorithm 1, on the batch of all ranks; one all-reduce.

        images: (N, C, …), the same N on each rank. Statistics are float32.
        """
        axes, shape = [0, *range(2, images.dim())], [1, -1, *[1] * (images.dim() - 2)]
        precise = images.float()
        count = precise.numel() // precise.shape[1] * self.world_size  # values a channel
        own = torch.stack([precise.mean(axes), precise.var(axes, correction=0)])
        means, variances = self._gather(own).unbind(1)  # each (ranks, C)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
            norm.num_batches_tracked += 1
            weight = 1 / norm.num_batches_tracked.to(mean) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean.detach(), weight)
            norm.running_var.lerp_(variance.detach() * (count / max(count - 1, 1)), weight)
        scale = (variance + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
        offset = torch.zeros_like(mean) if norm.bias is None else norm.bias
        return ((precise - mean.view(shape)) * scale.view(shape) + offset.view(shape)).to(images.dtype)

    def _whole_batch(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        if not self._playing:
            return inputs
        return tuple(self._gather(each.float()).flatten(0, 1).to(each.dtype) for each in inputs)

    def _own_share(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return output.chunk(self.world_size)[self.rank] if self._playing else output


class _Sum(torch.autograd.Function):
    """The sum over the ranks; so is its gradient's."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Sum.apply(gradient)


def _digest(tensor: Tensor) -> str:
    """A hash of the values, whatever their memory format."""
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(values.numpy().data).hexdigest()


# ------------------------------------------------------------------ starting


@contextmanager
def process_group() -> Iterator[Group]:
    """Inside, this process is one of those that torchrun started, or else alone; from torchrun's environment."""
    if not is_rank():
        yield Group()
        return
    store, rank, ranks = next(rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=_unused(store, rank, ranks), rank=rank, world_size=ranks)
    group = Group(rank, ranks)
    try:
        yield group
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            what = str(error).splitlines()[0]
            lost = TranslateError(f"Rank {group.rank} lost the connection to another rank: {what}")
            lost.exit_status = LOST
            raise lost from error
        raise
    finally:
        dist.destroy_process_group()


def _unused(store: Store, rank: int, ranks: int) -> Store:
    """A part of the store where nothing is left of processes that these were started in the place of.

    torchrun keeps one store over its restarts, where a rank would find the addresses of ranks that have ended
    (https://github.com/pytorch/pytorch/issues/135712), and each machine counts restarts of its own, which so tell
    nothing apart. The first rank invents a name for the part. The others ask for it under names that they invent, so
    that no rank takes an old answer for its own.
    """
    name = uuid.uuid4().hex
    if rank > 0:
        store.set(f"asks {rank}", name)
        name = store.get(f"answer {name}").decode()
        store.set(f"{name} has {rank}", "")
    while rank == 0 and not store.check([f"{name} has {each}" for each in range(1, ranks)]):
        for other in range(1, ranks):
            if store.check([f"asks {other}"]):  # perhaps the question of a rank that has ended, which does no harm
                store.set(f"answer {store.get(f'asks {other}').decode()}", name)
        time.sleep(0.01)
    return PrefixStore(name, store)


def is_rank() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def own_device(device: torch.device) -> torch.device:
    """The device of this process, where "cuda" means one for each. Raises UsageError if there are too few."""
    if device.type != "cuda" or not is_rank():
        return device
    if device.index is not None:
        raise UsageError(f"--device {device} is one device, and there are several processes; give --device cuda.")
    check_devices(device, int(os.environ["LOCAL_WORLD_SIZE"]))
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


def check_devices(device: torch.device, asked: int) -> None:
    """Raise UsageError if this machine has fewer devices of this type; on the CPU any number may share it."""
    if device.type != "cpu" and asked > (count := torch.cuda.device_count() if device.type == "cuda" else 1):
        raise UsageError(
            f"{asked} processes need a device each, and this machine has {count} of type {device.type}: lower "
            f"--devices, or torchrun's --nproc-per-node, to {count}."
        )


def check_batch(batch: int, ranks: int) -> None:
    """Raise UsageError for a batch that the ranks do not divide."""
    if batch % ranks:
        lower, upper = batch - batch % ranks, batch - batch % ranks + ranks
        near = f"{lower} or {upper}" if lower else f"{upper}"
        raise UsageError(f"--batch {batch} is for all {ranks} devices together, which do not divide it; try {near}.")


def launch(words: Sequence[str], device: str, processes: int) -> int:
    """Run `translate` with these words in so many processes, by torchrun's module; its exit status.

    words: so that a second start goes on where the first one ended. There is one, a few times, where a process was
    killed; what a process itself gave up for is an answer. device: as in `fit`. Raises UsageError if this machine has
    fewer devices, TranslateError if processes are killed again and again.
    """
    check_devices(resolve_device(device), processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // processes)))
    for left in reversed(range(RESTARTS + 1)):
        status = _torchrun(words, processes)
        if status >= 0:
            return status
        ended = f"A process was ended by signal {-status}"
        if left:
            which = f"start {RESTARTS - left + 1} of {RESTARTS}"
            print(f"{ended}; all start again from the last checkpoint, {which}.", file=sys.stderr)
    raise TranslateError(f"{ended} for the {RESTARTS + 1}th time; go on with --resume when you know why.")


def _torchrun(words: Sequence[str], processes: int) -> int:
    """Run `translate` with these words in so many processes: its exit status, or minus the signal that killed one."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    for name in list(logging.root.manager.loggerDict):  # the first rank tells what happened
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        run(parse_args(["--standalone", f"--nproc-per-node={processes}", "-m", "--", "translate", *words]))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        statuses = [failure.exitcode for failure in error.failures.values()]
        # torchrun itself ends by SIGTERM those that are left, and by SIGKILL those that do not heed it
        killed = [status for status in statuses if status < 0 and status != -signal.SIGTERM]
        answers = [status for status in statuses if status > 0 and status != LOST]
        return next(iter([*answers, *killed]), error.get_first_failure()[1].exitcode)
    except SignalException as received:
        return 128 + int(received.sigval)
    return 0
