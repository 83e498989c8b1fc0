"""START HERE for training: a run from its first step to its last. The third link of a batch's journey.

Before this, `TrainingData` (../data/batches/training_data.py) makes the batches. Next, checkpoint.py keeps the state of
the run. Several processes train together through ../distributed/group.py.

The files of training, in reading order (../benchmarking/plain.py is the same training in ordinary PyTorch):

trainer.py          the state of a run between two steps, and the loop over its steps
step.py             one step: forward, losses, backward and optimizer of every player
player_state.py     what is kept for each player: optimizer, scaler, pools, augmentation
    pool.py             past fakes for the discriminators
    augment.py          augmentation of what discriminators see
    memory_order.py     views of weights for the fused optimizer
compile.py          compiled forward and losses
records.py          sums of terms and stats, and the first value that was not finite
ema.py              the averaged networks that inference uses
checkpoint.py       the whole state on the disk, from which a run continues exactly
config.py           the options of a run
run.py              `fit`: what starts or continues a run
run_folder.py       what a run writes: options, metrics, samples, exports, checkpoints
terminal.py         what a run prints
memory.py           the message when memory runs out
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from translate.applying.model_file import stride_of
from translate.data.batches.training_data import TrainingData
from translate.device import Precision, memory_format
from translate.distributed.batch_layers import SyncedBatchLayers
from translate.distributed.group import Group
from translate.errors import CheckpointError, UsageError
from translate.model import Model, discriminator_networks, with_current_names
from translate.random_bits import random_bits
from translate.training.checkpoint import Checkpoint
from translate.training.compile import should_compile
from translate.training.config import FitConfig
from translate.training.ema import EMA
from translate.training.step import Stepper


class Observer:
    """What the loop calls at certain moments; each method does nothing by default."""

    def compiled(self, seconds: float, compile_error: str) -> None:
        """The first step, with its compilations, took so many seconds; or compiling failed, in any step."""

    def tick(self, trainer: Trainer, means: dict[str, float]) -> None:
        """The means of all terms and stats since the last tick, by "player.name"."""

    def stopping(self) -> None:
        """A signal came: the run will stop after this step, and save."""

    def save(self, trainer: Trainer) -> None:
        """It is time to save; no loss or gradient so far was NaN or infinite."""


class Trainer:
    """The state of a training run between two steps, and the loop over its steps."""

    def __init__(
        self,
        model_class: type[Model[Any]],
        data: TrainingData,
        config: FitConfig,
        *,
        steps: int,
        device: torch.device,
        precision: Precision,
        weights_format: torch.memory_format | None = None,
        group: Group | None = None,
    ) -> None:
        """weights_format: their memory format; None for the one that measured fastest.

        group: the ranks that train together; `data` gives each its share of every batch.
        """
        torch.manual_seed(config.seed)
        options = model_class.Config.model_validate(config.options)
        weights_format = weights_format or memory_format(device, precision)
        self.model = model_class(options, data.spec).to(device).to(memory_format=weights_format)
        self.group = group or Group()
        self.data = data
        self.config = config
        self.device = device
        self.precision = precision
        self.steps = steps
        self.step = 0
        self.data_wait_seconds = 0.0
        self.ema = EMA(self.model)
        _check_fits(self.model, config, data.shape, self.group.world_size)
        augment = None if config.discriminator_augment == "none" else config.discriminator_augment
        self.stepper = Stepper(
            self.model,
            device=device,
            precision=precision,
            micro_batches=config.micro_batches,
            augment=augment,
            compile=should_compile(config.compile, device, steps),
            group=self.group,
        )
        self.batch_layers = SyncedBatchLayers(self.model, self.group)
        if self.group.world_size > 1:
            self._seed_by_rank()

    @property
    def images_seen(self) -> int:
        """Steps × batch."""
        return self.step * self.config.batch

    def advance(self) -> None:
        """One step; does not wait for the device."""
        started = time.perf_counter()
        batch = self.data.batch(self.step)
        self.data_wait_seconds += time.perf_counter() - started
        with self.batch_layers.active():
            self.stepper.run(batch, self.step, self.step / self.steps)
        self.step += 1
        self.ema.update(self.config.batch, self.images_seen)

    def train(self, observer: Observer, checkpoint_every: int) -> int | None:
        """Run the remaining steps; returns the number of the signal that ended it early, after saving.

        A signal on any rank ends all of them after the same step.
        Raises NonFiniteError at the tick after a loss or gradient that was not finite.
        """
        self.group.broadcast_(unique_tensors(self.model) | self.ema.tensors())
        with _signals(observer.stopping) as received:
            first, started, compile_error = self.step, time.perf_counter(), ""
            while self.step < self.steps:
                self.advance()
                if self.stepper.compile and (self.step == first + 1 or self.stepper.compile_error != compile_error):
                    compile_error = self.stepper.compile_error
                    observer.compiled(time.perf_counter() - started, compile_error)
                # Read once a step: a signal that comes later waits for the next step.
                stop = self.group.all_reduce_max(received[0] if received else 0) or None
                saving = stop is not None or self.step == self.steps or self.step % checkpoint_every == 0
                if saving or self.step % self.config.log_every == 0:
                    with self.group.raise_on_all_ranks():
                        observer.tick(self, self.stepper.records.read())
                if saving:
                    with self.group.raise_on_all_ranks():
                        observer.save(self)
                if stop is not None:
                    return stop
        return None

    # ------------------------------------------------------------------ state

    def checkpoint(self) -> Checkpoint:
        """Everything that a run needs to continue exactly; the sampler's position is the step.

        All ranks call it. Pools and random generators differ between ranks; the first rank gets those of all.
        Raises CheckpointError if the ranks do not hold the same weights.
        """
        training = {f"average.{name}": tensor for name, tensor in self.ema.tensors().items()}
        training |= self.stepper.tensors()
        of_rank = {name: training.pop(name) for name in list(training) if name.startswith("pool.")}
        of_rank["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            of_rank["random.cuda"] = torch.cuda.get_rng_state(self.device)
        model = unique_tensors(self.model)
        self.group.require_equal(model | training)
        for rank, tensors in enumerate(self.group.gather({name: tensor.cpu() for name, tensor in of_rank.items()})):
            training |= {f"{_rank_prefix(rank)}{name}": tensor for name, tensor in tensors.items()}
        return Checkpoint(self.step, model, training)

    @torch.no_grad()
    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint; pools and random generators start anew if it has another number of ranks.

        Raises CheckpointError if it is not of this model.
        """
        tensors, weights = unique_tensors(self.model), with_current_names(checkpoint.model, self.model)
        if {n: t.shape for n, t in tensors.items()} != {n: t.shape for n, t in weights.items()}:
            raise CheckpointError("The checkpoint's networks are not those of this run: the plugin may have changed.")
        for name, tensor in tensors.items():
            tensor.copy_(weights[name])
        training = with_current_names(checkpoint.training, self.model, prefix=r"average\.|optimizer\.[^.]+\.")
        self.ema.load({n.removeprefix("average."): t for n, t in training.items() if n.startswith("average.")})
        self.step = checkpoint.step
        of_rank = {}
        if world_size_of(checkpoint) == self.group.world_size:
            prefix = _rank_prefix(self.group.rank)
            of_rank = {
                n.removeprefix(prefix): t
                for n, t in training.items()
                if n.startswith((f"{prefix}pool.", f"{prefix}random."))
            }
        self.stepper.load({n: t for n, t in training.items() if not n.startswith("pool.")} | of_rank)
        if not of_rank:
            self._seed_by_rank()
            return
        torch.set_rng_state(of_rank["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in of_rank:
            torch.cuda.set_rng_state(of_rank["random.cuda"], self.device)

    def _seed_by_rank(self) -> None:
        """Seed torch differently on each rank."""
        torch.manual_seed(int(random_bits(1, self.config.seed, "rank", self.group.rank, self.step)[0]))

    def exported_tensors(self) -> dict[str, Tensor]:
        """The tensors of the model file: averages where there are any, live weights elsewhere, no discriminators."""
        left_out = {
            id(tensor)
            for network in discriminator_networks(self.model)
            for tensor in network.state_dict(keep_vars=True).values()
        }
        with self.ema.applied(self.model):
            return {name: tensor for name, tensor in unique_tensors(self.model).items() if id(tensor) not in left_out}


def world_size_of(checkpoint: Checkpoint) -> int:
    """How many ranks wrote it."""
    return sum(name.endswith("random.cpu") for name in checkpoint.training)


def _rank_prefix(rank: int) -> str:
    """The prefix of the names of a rank's tensors in a checkpoint; the first rank has none, like a single process."""
    return f"rank{rank}." if rank else ""


def _check_fits(model: Model[Any], config: FitConfig, shape: tuple[int, int], world_size: int) -> None:
    """Raise UsageError for a size or a batch that the networks cannot take."""
    stride = stride_of(model)
    if config.preprocess == "none" and any(side % stride for side in shape):
        raise UsageError(
            f"Images of {shape[1]}×{shape[0]} are no multiples of {stride}, as networks need; use --preprocess crop."
        )
    if config.preprocess != "none" and config.size % stride:
        near = max(stride, config.size - config.size % stride)
        raise UsageError(f"--size {config.size} is no multiple of {stride}, as the networks need; try {near}.")
    if config.batch % config.micro_batches:
        raise UsageError(f"--micro-batches {config.micro_batches} does not divide --batch {config.batch}.")
    if config.batch % (config.micro_batches * world_size):
        raise UsageError(
            f"--micro-batches {config.micro_batches} does not divide the {config.batch // world_size} images that "
            f"--batch {config.batch} gives to each of {world_size} devices."
        )
    at_once = config.batch // config.micro_batches
    smallest = max(getattr(module, "smallest_batch", 1) for module in model.modules())
    if at_once < smallest:
        parts = f" in {config.micro_batches} parts" if config.micro_batches > 1 else ""
        raise UsageError(
            f"The networks of {model.name} compare the images of a batch and need {smallest} at once, more than "
            f"--batch {config.batch}{parts} gives; raise --batch."
        )


def unique_tensors(model: Model[Any]) -> dict[str, Tensor]:
    """The parameters and persistent buffers of a model, tied ones once, by the first of their names."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())


@contextmanager
def _signals(stopping: Callable[[], None]) -> Iterator[list[int]]:
    """Inside, SIGTERM and Ctrl-C are appended to the list instead of stopping the process; a second Ctrl-C stops it."""
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not received:
            stopping()
        received.append(number)

    try:
        before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals go elsewhere
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
