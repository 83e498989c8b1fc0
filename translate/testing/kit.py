"""The conformance kit: what the engine relies on, checked on any model, the built-ins and third parties' alike.

    from translate.testing import check_model

    def test_my_model_keeps_the_contract():
        check_model("mymodel", generator="resnet(blocks=1, width=4)")

Each function of `CHECKS` takes a `Case` and raises AssertionError with a sentence that says what is wrong.
"""

from __future__ import annotations

import copy
import os
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from torch.utils._python_dispatch import TorchDispatchMode

from translate.applying.inference import generates_from_noise
from translate.applying.model_file import load_model, write_model_file
from translate.applying.sampler import Sampler, cycle_labels
from translate.applying.translator import Translator
from translate.benchmarking.plain import PlainLoop
from translate.data import images as pictures
from translate.data.batches.training_data import TrainingData
from translate.data.domains import Labelled, Paired, Unpaired
from translate.data.files import writers
from translate.data.loading import open_training_data
from translate.device import Precision
from translate.distributed.group import Group, process_group
from translate.model import Model, find_model
from translate.training import checkpoint as checkpoints
from translate.training.compile import failures
from translate.training.config import FitConfig
from translate.training.step import Chunk, Seat, Step, Update, as_it_lies
from translate.training.trainer import Trainer

CPU = torch.device("cpu")


def check_model(name: str, *, size: int = 32, **options: Any) -> None:
    """Run every check on an installed model. size: of the crops; options: the model's own (choose small networks).

    Raises AssertionError. Takes seconds with small networks.
    """
    with tempfile.TemporaryDirectory() as folder:
        case = Case(name, Path(folder), size=size, **options)
        for check in CHECKS:
            check(case)
        check_ranks([case])


class Case:
    """A model under test with options that make it small, and images drawn for it."""

    def __init__(self, name: str, folder: Path, *, size: int = 32, **options: Any) -> None:
        self.name = name
        self.kind = find_model(name)
        self.folder = folder
        self.options = options
        self.size = size
        self.images = draw_images(folder / "images", self.kind, size)

    def trainer(
        self,
        *,
        batch: int = 2,
        precision: Precision = "fp32",
        steps: int = 6,
        group: Group | None = None,
        **engine: Any,
    ) -> Trainer:
        """A trainer at its first step. engine: further options of FitConfig."""
        group = group or Group()
        config = FitConfig(
            model=self.kind.name,
            size=self.size,
            batch=batch,
            options=self.options,
            **self.images,
            **engine,
        )
        data = self.data(config, group)
        return Trainer(self.kind, data, config, steps=steps, device=CPU, precision=precision, group=group)

    def data(self, config: FitConfig, group: Group) -> TrainingData:
        """The drawn images, as the model's declaration has them."""
        return open_training_data(self.kind.data, config, CPU, (group.rank, group.world_size))


def draw_images(folder: Path, kind: type[Model[Any]], size: int, count: int = 6) -> dict[str, Any]:
    """Draw small colour images for a model's declaration: discs before gradients; the data options that find them."""
    generator = torch.Generator().manual_seed(0)
    paths = {}
    for name in kind.data.names:
        for number in range(count):
            inner = f"class{number % 2}" if isinstance(kind.data, Labelled) else ""
            path = folder / name / inner / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            writers.save(_disc(size + 4, generator), path)
        paths[name] = str(folder / name)
    return paths


def _disc(side: int, generator: torch.Generator) -> Tensor:
    """uint8 (3, side, side)."""
    x, y, radius = torch.rand(3, generator=generator).tolist()
    axis = torch.linspace(0, 1, side)
    inside = (axis[None] - x).square() + (axis[:, None] - y).square() < (0.1 + radius / 3) ** 2
    colours = torch.rand(2, 3, 1, 1, generator=generator)
    image = torch.where(inside, colours[0], colours[1] * axis)
    return pictures.as_uint8(image * 2 - 1)


# ------------------------------------------------------------------ the checks


def declares_itself_in_full(case: Case) -> None:
    """Name, documentation, options with descriptions, routes and averages that exist."""
    kind = case.kind
    assert kind.__doc__, f"{kind.__name__} has no docstring; its first line is shown by `translate models`"
    for name, field in kind.Config.model_fields.items():
        assert field.description, f"the option {name} of {kind.name} has no description; it is its --help"
    model = case.trainer().model
    if isinstance(kind.data, Unpaired | Paired):
        for source, to in kind.routes:
            assert {to, source} <= set(kind.data.names), (
                f"the route {source!r} -> {to!r} names a domain that {kind.name} lacks"
            )
    for name in kind.averaged:
        assert isinstance(getattr(model, name, None), torch.nn.Module), (
            f"`averaged` names {name!r}, which is no network"
        )
    unknown = kind.preset.keys() - FitConfig.model_fields.keys()
    assert not unknown, f"the preset of {kind.name} names {min(unknown)!r}, which is no engine option"
    values = model.config.model_dump(mode="json")
    assert kind.Config.model_validate(values) == model.config, "the config changes when written to JSON and read back"


def is_complete_after_its_constructor(case: Case) -> None:
    """No parameter or buffer appears, disappears or changes shape in training."""
    trainer = case.trainer()
    before = {name: tensor.shape for name, tensor in trainer.model.state_dict().items()}
    trainer.advance()
    trainer.advance()
    after = {name: tensor.shape for name, tensor in trainer.model.state_dict().items()}
    assert before == after, f"training changed the state of the model: {set(before.items()) ^ set(after.items())}"


def never_waits_for_the_device(case: Case) -> None:
    """Losses and forward read no tensor on the host: no `.item()`, `float(tensor)`, `if tensor`."""
    trainer = case.trainer()
    batch = trainer.data.batch(0)
    with _NoHostReads():  # type: ignore[no-untyped-call]
        trainer.game.play(batch, 0, 0.0)


def moves_only_the_mover(case: Case) -> None:
    """A move leaves gradients in its own parameters alone."""
    trainer = case.trainer()
    chunk = Chunk(trainer.data.batch(0))
    for seat, update in _updates(trainer.game):
        trainer.game._gradient(seat, update, [chunk])
        mine = set(map(id, update.parameters))
        for name, parameter in trainer.model.named_parameters():
            assert parameter.grad is None or id(parameter) in mine, (
                f"{update.name} left a gradient in {name}, which is idle"
            )
            parameter.grad = None


def treats_micro_batches_as_the_batch(case: Case) -> None:
    """Each player's gradient is the same from a batch of 4 as from 4 of 1, unless the model couples its batch."""
    if case.kind.couples_batch:
        return
    trainer = case.trainer(batch=4)
    batch = trainer.data.batch(0)
    for seat, update in _updates(trainer.game):
        for pool in seat.pools.values():
            pool.size = 0  # pools show different pasts
        with _NoiseByImage(range(4)):
            whole = flat_gradient(trainer.game, seat, update, [Chunk(batch)])
        parts = torch.zeros_like(whole)
        for i in range(4):
            with _NoiseByImage(range(i, i + 1)):
                chunk = Chunk(type(batch)(*(t[i : i + 1] for t in batch)))
                parts += flat_gradient(trainer.game, seat, update, [chunk]) / 4
        error = float((whole - parts).norm() / whole.norm())
        assert error < 1e-5, (
            f"{update.name}: 4 micro-batches give a gradient {error:.1e} away from the batch's; terms are means over "
            f"images, and what is random for each image is drawn with the images as first axis"
        )


def plays_as_the_plain_loop_does(case: Case) -> None:
    """Until each player has moved, three steps at least, each gradient is the plain loop's; so are the weights then.

    The engine's optimizers go on with the plain loop's gradients. Some gradients are nothing but rounding, as that of a
    bias in front of an instance norm; Adam makes a full step of it, and the two would play different games.
    """
    trainer = case.trainer()
    plain = PlainLoop(copy.deepcopy(trainer.model), steps=trainer.steps)
    wanted: list[list[Tensor | None]] = []
    for seat, player, optimizer in zip(trainer.game.seats, plain.players, plain.optimizers, strict=True):
        optimizer.register_step_pre_hook(_noting(player.parameters(), wanted))
        seat.optimizer.register_step_pre_hook(_comparing(seat, wanted))
    for step in range(max(3, *(player.every for player in plain.players))):
        torch.manual_seed(step)
        plain.step(trainer.data.batch(step))
        torch.manual_seed(step)
        trainer.advance()
        assert not wanted, f"in step {step + 1} the engine makes {len(wanted)} updates fewer than the plain loop"
    expected = plain.model.state_dict()
    for name, tensor in trainer.model.state_dict().items():
        _assert_near(tensor.double(), expected[name].double(), name)
    for name, network in plain.averages.items():
        for found, tensor in zip(trainer.averages.networks[name].parameters(), network.parameters(), strict=True):
            _assert_near(found, tensor, f"the average of {name}")


def learns_alike_in_bf16(case: Case) -> None:
    """Over 20 steps the trace of each loss term in bf16 stays within a tenth of fp32's (root mean square)."""
    traces = {}
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in precisions:
        trainer = case.trainer(precision=precision, steps=20)
        ticks = []
        for _ in range(20):
            trainer.advance()
            ticks.append(trainer.game.read())
        traces[precision] = ticks
    terms = {f"{player}.{term}" for (player, _), (_, names) in trainer.game._updates.items() for term in names}
    for name in terms & {name for tick in ticks for name in tick}:
        want, got = (torch.tensor([tick[name] for tick in traces[p] if name in tick]) for p in precisions)
        band = 0.1 * float(want.square().mean().sqrt()) + 0.02
        away = float((got - want).square().mean().sqrt())
        assert away < band, f"in bf16 the term {name} is {away:.3f} away from fp32's over 20 steps; expected {band:.3f}"


def compiles_in_one_piece(case: Case) -> None:
    """`forward` and each loss become one graph without a break, whose gradient is that of the functions as written."""
    trainer = case.trainer()
    batch = trainer.data.batch(0)

    def traced(function: Callable[..., Any]) -> Callable[..., Any]:  # as inductor sees it, without generating code
        return torch.compile(function, fullgraph=True, dynamic=False, backend="aot_eager")

    def gradients() -> Iterator[tuple[str, Tensor]]:
        for seat in trainer.game.seats:
            for pool in seat.pools.values():
                pool.size = 0
            for move in seat.moves:
                torch.manual_seed(0)
                yield f"{move.name} of {seat.name}", flat_gradient(trainer.game, seat, move, [Chunk(batch)])

    written = dict(gradients())
    trainer.game.exchange(traced)
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # tracing reads .grad of every tensor
            compiled = dict(gradients())
    except failures() as broken:
        raise AssertionError(f"a loss or forward of {case.kind.name} breaks the graph: {broken}") from broken
    for name, gradient in written.items():
        error = float((compiled[name] - gradient).norm() / gradient.norm())
        assert error < 1e-4, f"compiled, {name} gives a gradient {error:.1e} away from what it gives as written"


def resumes_exactly(case: Case) -> None:
    """Six steps equal three, a checkpoint on the disk, and three in a new trainer: bit for bit, in fp32 and bf16."""
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in precisions:
        straight = case.trainer(precision=precision)
        for _ in range(6):
            straight.advance()
        first = case.trainer(precision=precision)
        for _ in range(3):
            first.advance()
        path = checkpoints.write(case.folder / f"checkpoints-{precision}", first.checkpoint())
        second = case.trainer(precision=precision)
        torch.manual_seed(999)  # the checkpoint brings its own
        second.restore(checkpoints.read(path))
        for _ in range(3):
            second.advance()
        want, got = held_by(straight), held_by(second)
        different = [name for name in want if not torch.equal(want[name], got[name])]
        assert want.keys() == got.keys(), "a resumed run holds other tensors than a straight one"
        assert not different, f"after resuming in {precision}, {different[0]} and {len(different) - 1} others differ"


def translates_any_size_reproducibly(case: Case) -> None:
    """Float32 in [-1, 1], as large as the input; the same whoever shares the batch; the same from the model file."""
    trainer = case.trainer()
    translator = Translator(trainer.model, CPU, "fp32")
    if not isinstance(case.kind.data, Unpaired | Paired):
        return
    path = case.folder / "model.safetensors"
    write_model_file(path, trainer.model, trainer.exported(), {"steps": 0, "images": 0, "precision": "fp32"})
    again = Translator(load_model(path, CPU), CPU, "fp32")
    for source, to in translator.routes:
        channels = trainer.data.spec[source].channels
        images = (
            torch.rand(3, channels, case.size + 5, case.size - 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
        )
        with trainer.averages.applied(trainer.model):
            found = translator(images, to=to)
            alone = torch.cat([translator(images[i : i + 1], to=to, names=[str(i)]) for i in range(3)])
        assert found.shape == (3, trainer.data.spec[to].channels, *images.shape[2:]), (
            f"{to}: the shape is {tuple(found.shape)}"
        )
        assert found.dtype == torch.float32, f"the translation to {to} is {found.dtype}"
        assert found.isfinite().all(), f"the translation to {to} is not finite"
        assert found.abs().max() <= 1, f"the translation to {to} leaves [-1, 1]"
        same = torch.allclose(found, alone, atol=1e-5)
        assert same, "an image's translation depends on its batch, or on random numbers: say couples_batch = True"
        assert torch.equal(found, again(images, to=to)), (
            "the model file translates differently from the model it was made of"
        )


def makes_an_image_of_a_seed(case: Case) -> None:
    """Of a model without an input: an image is a function of its seed and class, also when the model file makes it."""
    trainer = case.trainer()
    if not generates_from_noise(trainer.model):
        return
    path = case.folder / "sampler.safetensors"
    write_model_file(path, trainer.model, trainer.exported(), {"steps": 0, "images": 0, "precision": "fp32"})
    again = Sampler.load(path, "cpu", "fp32")
    with trainer.averages.applied(trainer.model):
        sampler = Sampler(trainer.model, CPU, "fp32")
        labels = cycle_labels(sampler, 3)
        found = sampler([0, 1, 2], labels)
        alone = torch.cat([sampler([seed], labels and labels[seed : seed + 1]) for seed in range(3)])
    assert torch.allclose(found, alone, atol=1e-5), "an image depends on the seeds that share its batch"
    assert not torch.equal(found[0], found[2]), "two seeds make one image"
    assert torch.equal(found, again([0, 1, 2], labels)), "the model file makes other images than the model"


CHECKS: tuple[Callable[[Case], None], ...] = (
    declares_itself_in_full,
    is_complete_after_its_constructor,
    never_waits_for_the_device,
    moves_only_the_mover,
    treats_micro_batches_as_the_batch,
    compiles_in_one_piece,
    plays_as_the_plain_loop_does,
    resumes_exactly,
    learns_alike_in_bf16,
    translates_any_size_reproducibly,
    makes_an_image_of_a_seed,
)


# ------------------------------------------------------------------ several processes

RANKS, BATCH_OF_ALL = 2, 4


def check_ranks(cases: Sequence[Case]) -> None:
    """Two processes with half of a batch each give each player the gradient that one gives with the batch.

    Within 1e-5 relative, before the optimizer, penalties included; the same weights, noise fixed image by image, no
    pool. All models in one go, since starting processes takes seconds. Raises AssertionError.
    """
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.close()
        given = [(case.name, case.size, case.options) for case in cases]
        spawn(_compare_ranks, (port, folder, given), nprocs=RANKS)  # type: ignore[no-untyped-call]
        complaints = Path(folder, "complaints").read_text()
    assert not complaints, complaints


def _compare_ranks(rank: int, port: int, folder: str, cases: Sequence[tuple[str, int, dict[str, Any]]]) -> None:
    """One of the processes; the first leaves what is wrong in a file."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(RANKS)}
    complaints: list[str] = []
    with process_group() as group:
        for number, (name, size, options) in enumerate(cases):
            case = Case(name, Path(folder, f"{number}-{rank}"), size=size, **options)
            case.images = draw_images(case.folder / "more", case.kind, size, BATCH_OF_ALL)
            share = BATCH_OF_ALL // RANKS
            with group.syncing_batch_layers():
                parts = _gradients(
                    case.trainer(batch=BATCH_OF_ALL, group=group), range(rank * share, (rank + 1) * share)
                )
            if rank > 0:
                continue
            for update, whole in _gradients(case.trainer(batch=BATCH_OF_ALL), range(BATCH_OF_ALL)).items():
                error = float((whole - parts[update]).norm() / whole.norm())
                if not error < 1e-5:
                    complaints.append(
                        f"{name}: the gradient of {update} from {RANKS} ranks is {error:.1e} away from that of one "
                        "process; terms are means over images, and what compares images says couples_batch = True"
                    )
    if rank == 0:
        Path(folder, "complaints").write_text("\n".join(complaints))


def _gradients(trainer: Trainer, images: range) -> dict[str, Tensor]:
    """The flat gradient of each update on the first batch, or these images of it, with noise that is theirs."""
    found = {}
    for seat, update in _updates(trainer.game):
        for pool in seat.pools.values():
            pool.size = 0
        with _NoiseByImage(images):
            chunk = Chunk(trainer.data.batch(0))
            found[f"{seat.name}.{update.name}"] = flat_gradient(trainer.game, seat, update, [chunk])
    return found


# ------------------------------------------------------------------ what the checks share


def flat_gradient(step: Step, seat: Seat, update: Update, chunks: list[Chunk]) -> Tensor:
    """The gradient of one update as a vector, before the optimizer; zeros where a parameter has none. Clears it."""
    terms = step._gradient(seat, update, chunks)
    if step.group.world_size > 1:
        step._share(seat, update, terms)
    gradients = [p.grad for p in update.parameters]
    for parameter in update.parameters:
        parameter.grad = None
    return _flat(update.parameters, gradients)


def _flat(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Tensor:
    pairs = zip(parameters, gradients, strict=True)
    return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in pairs])


def _noting(parameters: Sequence[Tensor], noted: list[list[Tensor | None]]) -> Callable[..., None]:
    """A hook of an optimizer that appends the gradients which it is about to follow."""

    def note(*_: Any) -> None:
        # In the strides of the parameter, since a fused optimizer walks them together.
        noted.append([None if p.grad is None else torch.empty_like(p).copy_(p.grad) for p in parameters])

    return note


def _comparing(seat: Seat, noted: list[list[Tensor | None]]) -> Callable[..., None]:
    """A hook of a seat's optimizer that compares the gradients with the first noted ones, and puts those in place."""

    def compare(*_: Any) -> None:
        assert noted, f"{seat.name} makes an update that the plain loop does not make"
        expected = noted.pop(0)
        laid = list(seat.laid.values())
        gradients = [
            None if gradient is None else as_it_lies(gradient, parameter)
            for gradient, parameter in zip(expected, seat.parameters, strict=True)
        ]
        _assert_near(_flat(laid, [p.grad for p in laid]), _flat(laid, gradients), f"a gradient of {seat.name}")
        for parameter, gradient in zip(laid, gradients, strict=True):
            parameter.grad = gradient

    return compare


def _assert_near(found: Tensor, expected: Tensor, what: str) -> None:
    """Within 1e-5 of the plain loop's, in norm."""
    away, scale = float((found - expected).detach().norm()), float(expected.detach().norm())
    assert away <= 1e-5 * scale, f"{what} is {away / scale if scale else away:.1e} away from that of the plain loop"


def held_by(trainer: Trainer) -> dict[str, Tensor]:
    """Everything that a checkpoint of this trainer would hold."""
    checkpoint = trainer.checkpoint()
    return {**checkpoint.model, **checkpoint.training}


def _updates(step: Step) -> list[tuple[Seat, Update]]:
    return [(seat, update) for seat in step.seats for update in (*seat.moves, *seat.lazy)]


class _NoiseByImage(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Random numbers by the number of the draw and of the image, so that parts of a batch draw what the whole does.

    By the length of its first axis a draw is taken for numbers of each image; of each image two rows, one after the
    other, where it is twice as long as the part; of every second image where it is half as long (both only if there is
    a second axis); and else for numbers that the images share. images: the part's, as numbers in the whole batch.
    """

    def __init__(self, images: range) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.images = images
        self.draws = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name == "randperm":
            self.draws += 1
            result.copy_(self._drawn(result.shape, torch.rand).argsort())
        elif name == "randint":
            self.draws += 1
            *low, high, _ = args
            result.copy_((low[0] if low else 0) + self._drawn(result.shape, torch.rand) * (high - sum(low)))
        elif name in NORMAL or name in UNIFORM:
            self.draws += 1
            drawn = self._drawn(result.shape, torch.randn if name in NORMAL else torch.rand)
            result.copy_(UNIFORM[name](drawn, *args[1:]) if name in UNIFORM else NORMAL[name](drawn, *args[1:]))
        return result

    def _drawn(self, shape: torch.Size, draw: Callable[..., Tensor]) -> Tensor:
        """Standard numbers of that shape."""

        def numbers(shape: torch.Size, image: int) -> Tensor:
            generator = torch.Generator().manual_seed(self.draws * 1009 + image)
            count = shape.numel()
            return draw(max(count, 16), generator=generator)[:count].view(shape)  # torch draws fewer than 16 otherwise

        if rows := self._rows(shape):
            return torch.stack([numbers(shape[1:], row + 1) for row in rows])
        return numbers(shape, 0)

    def _rows(self, shape: torch.Size) -> Sequence[int]:
        """What stands for the images that the rows of a draw belong to; nothing if they belong to none."""
        first, last, count = self.images.start, self.images.stop, len(self.images)
        if shape and shape[0] == count:
            return self.images
        if len(shape) > 1 and shape[0] == 2 * count:
            return range(2 * first, 2 * last)
        if len(shape) > 1 and 2 * shape[0] == count:
            return range(first, last, 2)
        return ()


NORMAL: dict[str, Callable[..., Tensor]] = {
    "randn": lambda x, *_: x,
    "randn_like": lambda x, *_: x,
    "normal_": lambda x, mean=0.0, std=1.0, *_: mean + std * x,
}
UNIFORM: dict[str, Callable[..., Tensor]] = {
    "rand": lambda x, *_: x,
    "rand_like": lambda x, *_: x,
    "uniform_": lambda x, low=0.0, high=1.0, *_: low + (high - low) * x,
    "bernoulli_": lambda x, p=0.5, *_: (x < p).float(),
}


class _NoHostReads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises when a tensor's value is read on the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default):
            raise AssertionError(
                "a loss or forward reads a tensor on the host (item, float, bool): it stops the device"
            )
        return func(*args, **(kwargs or {}))
