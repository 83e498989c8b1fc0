"""Starting processes by torchrun, and joining them into a group."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from translate.device import cores, resolve_device
from translate.distributed.group import Group
from translate.errors import TranslateError, UsageError

RESTARTS = 3
"""How often `launch` starts all processes again after one of them was killed."""
CONNECTION_LOST = 75
"""The exit status of a process that lost the connection to another one."""

# ------------------------------------------------------------------ in each process


@contextmanager
def process_group() -> Iterator[Group]:
    """Inside, this process is one of those that torchrun started, according to its environment; else a group of one.

    A lost connection becomes a TranslateError with exit status CONNECTION_LOST.
    """
    if not is_rank():
        yield Group()
        return
    store, rank, world_size = next(rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=_fresh_store(store, rank, world_size), rank=rank, world_size=world_size)
    group = Group(rank, world_size)
    try:
        yield group
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            what = str(error).splitlines()[0]
            lost = TranslateError(f"Rank {group.rank} lost the connection to another rank: {what}")
            lost.exit_status = CONNECTION_LOST
            raise lost from error
        raise
    finally:
        dist.destroy_process_group()


def _fresh_store(store: Store, rank: int, world_size: int) -> Store:
    """A part of the store that holds nothing from before a restart: its keys have a new prefix.

    torchrun keeps one store over its restarts, so a rank would find the addresses of ranks that have ended
    (https://github.com/pytorch/pytorch/issues/135712). Each machine counts its restarts separately, so the count cannot
    serve as the prefix. The first rank draws one at random. Each other rank requests it under a random name of its own,
    so that it never takes an old answer for the current one.
    """
    name = uuid.uuid4().hex
    if rank > 0:
        store.set(f"asks {rank}", name)
        name = store.get(f"answer {name}").decode()
        store.set(f"{name} has {rank}", "")
    while rank == 0 and not store.check([f"{name} has {each}" for each in range(1, world_size)]):
        for other in range(1, world_size):
            if store.check([f"asks {other}"]):  # perhaps the request of a rank that has ended: answering does no harm
                store.set(f"answer {store.get(f'asks {other}').decode()}", name)
        time.sleep(0.01)
    return PrefixStore(name, store)


def is_rank() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def device_of_rank(device: torch.device) -> torch.device:
    """The device of this process: of several, each gets a GPU of its own for "cuda".

    Raises UsageError if there are too few, or if `device` names one GPU.
    """
    if device.type != "cuda" or not is_rank():
        return device
    if device.index is not None:
        raise UsageError(f"--device {device} is one device, and there are several processes; give --device cuda.")
    check_devices(device, int(os.environ["LOCAL_WORLD_SIZE"]))
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


# ------------------------------------------------------------------ before starting them


def check_devices(device: torch.device, processes: int) -> None:
    """Raise UsageError if this machine has fewer devices of this type; any number of processes may share the CPU."""
    if device.type != "cpu" and processes > (count := torch.cuda.device_count() if device.type == "cuda" else 1):
        raise UsageError(
            f"{processes} processes need a device each, and this machine has {count} of type {device.type}: lower "
            f"--devices, or torchrun's --nproc-per-node, to {count}."
        )


def check_batch(batch: int, world_size: int) -> None:
    """Raise UsageError for a batch that cannot be divided among the ranks."""
    if batch % world_size:
        lower, upper = batch - batch % world_size, batch - batch % world_size + world_size
        near = f"{lower} or {upper}" if lower else f"{upper}"
        raise UsageError(
            f"--batch {batch} is for all {world_size} devices together, which do not divide it; try {near}."
        )


def launch(words: Sequence[str], device: str, processes: int) -> int:
    """Run `translate` with these arguments in so many processes, by torchrun's module; returns the exit status.

    If a process is killed, all are started again with the same arguments, up to RESTARTS times: the arguments must make
    a second start continue from the first. An exit status that a process chose itself is returned at once.
    device: as in `fit`.
    Raises UsageError if this machine has fewer devices, TranslateError if processes are killed again and again.
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
    """Run `translate` with these arguments: the exit status, or minus the signal that killed a process."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    for name in list(logging.root.manager.loggerDict):  # the first rank prints what happened
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        run(parse_args(["--standalone", f"--nproc-per-node={processes}", "-m", "--", "translate", *words]))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        statuses = [failure.exitcode for failure in error.failures.values()]
        # torchrun itself ends the remaining processes by SIGTERM, and by SIGKILL if they do not react.
        killed = [status for status in statuses if status < 0 and status != -signal.SIGTERM]
        chosen = [status for status in statuses if status > 0 and status != CONNECTION_LOST]
        return next(iter([*chosen, *killed]), error.get_first_failure()[1].exitcode)
    except SignalException as received:
        return 128 + int(received.sigval)
    return 0
