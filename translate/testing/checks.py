"""The conformance kit: what the engine relies on, checked on any model, the built-ins and third parties' alike.

    from translate.testing import check_model

    def test_my_model_keeps_the_contract():
        check_model("mymodel", generator="resnet(blocks=1, width=4)")

Each function of `CHECKS` takes a `Case` and raises AssertionError with a sentence that says what is wrong.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from translate.applying.inference import generates_from_noise
from translate.applying.model_file import load_model, write_model_file
from translate.applying.sampler import Sampler, cycle_labels
from translate.applying.translator import Translator
from translate.device import Precision
from translate.domains import Paired, Unpaired
from translate.testing.cases import CPU, Case, checkpoint_tensors, disable_pools, flat_gradient
from translate.testing.dispatch_modes import NoHostReads, NoiseByImage
from translate.testing.plain_loop import matches_the_plain_loop
from translate.testing.ranks import check_ranks
from translate.training import checkpoint as checkpoints
from translate.training.compile import compile_errors
from translate.training.config import FitConfig
from translate.training.step import MicroBatch


def check_model(name: str, *, size: int = 32, **options: Any) -> None:
    """Run every check on an installed model. size: of the crops; options: the model's own (choose small networks).

    Raises AssertionError. Takes seconds with small networks.
    """
    with tempfile.TemporaryDirectory() as folder:
        case = Case(name, Path(folder), size=size, **options)
        for check in CHECKS:
            check(case)
        check_ranks([case])


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
    with NoHostReads():  # type: ignore[no-untyped-call]
        trainer.stepper.run(batch, 0, 0.0)


def moves_only_the_mover(case: Case) -> None:
    """A move leaves gradients in its own parameters only."""
    trainer = case.trainer()
    part = MicroBatch(trainer.data.batch(0))
    for state in trainer.stepper.players:
        for objective in state.objectives:
            trainer.stepper.compute_gradient(state, objective, [part])
            own = set(map(id, objective.parameters))
            for name, parameter in trainer.model.named_parameters():
                assert parameter.grad is None or id(parameter) in own, (
                    f"{objective.name} left a gradient in {name}, which it does not move"
                )
                parameter.grad = None


def treats_micro_batches_as_the_batch(case: Case) -> None:
    """Each player's gradient is the same from a batch of 4 as from 4 of 1, unless the model couples its batch."""
    if case.kind.couples_batch:
        return
    trainer = case.trainer(batch=4)
    stepper, batch = trainer.stepper, trainer.data.batch(0)
    disable_pools(stepper)
    for state in stepper.players:
        for objective in state.objectives:
            with NoiseByImage(range(4)):
                whole = flat_gradient(stepper, state, objective, [MicroBatch(batch)])
            parts = torch.zeros_like(whole)
            for i in range(4):
                with NoiseByImage(range(i, i + 1)):
                    part = MicroBatch(type(batch)(*(t[i : i + 1] for t in batch)))
                    parts += flat_gradient(stepper, state, objective, [part]) / 4
            error = float((whole - parts).norm() / whole.norm())
            assert error < 1e-5, (
                f"{objective.name}: 4 micro-batches give a gradient {error:.1e} away from the batch's; terms are means "
                f"over images, and what is random for each image is drawn with the images as first axis"
            )


def learns_alike_in_bf16(case: Case) -> None:
    """Over 20 steps the trace of each loss term in bf16 stays within a tenth of fp32's (root mean square)."""
    traces = {}
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in precisions:
        trainer = case.trainer(precision=precision, steps=20)
        ticks = []
        for _ in range(20):
            trainer.advance()
            ticks.append(trainer.stepper.records.read())
        traces[precision] = ticks
    for name in trainer.stepper.records.terms & {name for tick in ticks for name in tick}:
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
        for state in trainer.stepper.players:
            for move in state.moves:
                torch.manual_seed(0)
                yield f"{move.name} of {state.name}", flat_gradient(trainer.stepper, state, move, [MicroBatch(batch)])

    disable_pools(trainer.stepper)
    written = dict(gradients())
    trainer.stepper.wrap_functions(traced)
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # tracing reads .grad of every tensor
            compiled = dict(gradients())
    except compile_errors() as broken:
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
        want, got = checkpoint_tensors(straight), checkpoint_tensors(second)
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
    write_model_file(path, trainer.model, trainer.exported_tensors(), {"steps": 0, "images": 0, "precision": "fp32"})
    again = Translator(load_model(path, CPU), CPU, "fp32")
    for source, to in translator.routes:
        channels = trainer.data.spec[source].channels
        images = (
            torch.rand(3, channels, case.size + 5, case.size - 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
        )
        with trainer.ema.applied(trainer.model):
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
    write_model_file(path, trainer.model, trainer.exported_tensors(), {"steps": 0, "images": 0, "precision": "fp32"})
    again = Sampler.load(path, "cpu", "fp32")
    with trainer.ema.applied(trainer.model):
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
    matches_the_plain_loop,
    resumes_exactly,
    learns_alike_in_bf16,
    translates_any_size_reproducibly,
    makes_an_image_of_a_seed,
)
