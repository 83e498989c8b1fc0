"""Compiling: what a run says of it, that it changes nothing but speed, and that a run goes on without a compiler."""

import json
import os
import subprocess
import sys
import warnings
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from toys import Toy, batch, make_stepper, net

from translate import Discriminators, Generators, testing
from translate.plugins import registry
from translate.training.compile import should_compile

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SMALL = ["--generator", "unet(width=4)", "--discriminator", "patchgan(layers=1, width=4)", "--size", "32"]


def fit(tmp_path, *words, **environment):
    """The first ticks' losses of a run of pix2pix, and what it said."""
    images = testing.draw_images(tmp_path / "images", registry.model("pix2pix"), 32)
    paths = [word for name, path in images.items() for word in (f"--{name}", path)]
    run = tmp_path / "-".join(words).strip("-")
    command = [sys.executable, "-m", "translate", "fit", "pix2pix", *paths, *SMALL, "--steps", "4", "--log-every", "1"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TORCHINDUCTOR")}
    done = subprocess.run(
        [*command, "--run", str(run), *words],
        check=False,
        env=inherited | {"TRANSLATE_CACHE": str(tmp_path / "cache")} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ticks = [json.loads(line)["losses"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    return ticks, done.stdout + done.stderr


def test_a_run_goes_on_without_a_compiler_and_says_why(tmp_path):
    compiled, said = fit(tmp_path, "--compile", "on", CXX="no-such-compiler")
    assert "Not compiled (InductorError: InvalidCxxCompiler" in said
    assert "goes on without" in said
    plain, said = fit(tmp_path, "--compile", "off")
    assert "Not compiled" not in said
    assert compiled == [pytest.approx(tick, rel=1e-2) for tick in plain]


@pytest.mark.slow
def test_a_compiled_run_learns_as_a_plain_one_does_and_finds_its_code_again(tmp_path):
    compiled, said = fit(tmp_path, "--compile", "on", "--precision", "fp32")
    assert "with compiling forward and losses" in said
    assert any((tmp_path / "cache" / "compiled").iterdir())
    plain, _ = fit(tmp_path, "--compile", "off", "--precision", "fp32")
    assert compiled == [pytest.approx(tick, rel=1e-2) for tick in plain]


def test_auto_compiles_long_runs_on_a_gpu_alone():
    assert not should_compile("auto", CPU, 10**6)
    assert not should_compile("auto", CUDA, 100)
    assert should_compile("auto", CUDA, 100_000)
    assert should_compile("on", CPU, 1)
    assert not should_compile("off", CUDA, 10**6)


class Two(NamedTuple):
    fake: Tensor
    source: Tensor


def reads_on_the_host(m):
    """A generator's loss that reads a value to decide what is computed, which no graph holds."""

    def generator_loss(batch, outputs):
        score = m.d(outputs.fake).mean()
        return {"g": score if score > 0 else -score}

    return generator_loss


def differentiates_outputs(m):
    """A generator's loss that differentiates one output by another, for which tracing has no graph."""

    def generator_loss(batch, outputs):
        (slope,) = torch.autograd.grad(outputs.fake.sum(), outputs.source, create_graph=True)
        return {"g": slope.square().mean()}

    return generator_loss


@pytest.mark.parametrize("loss", [reads_on_the_host, differentiates_outputs])
def test_a_loss_that_cannot_be_compiled_runs_as_it_is_written(loss):
    def forward(m, batch):
        source = batch.a.clone().requires_grad_()
        return Two(m.g(source), source)

    def players(m):
        yield Discriminators([m.d], lambda batch, outputs: {"d": m.d(outputs.fake).mean()})
        yield Generators([m.g], loss(m))

    weights = {}
    for compile in (True, False):
        model = Toy(players, forward=forward, g=net(), d=net(1))
        stepper = make_stepper(model, compile=compile)
        if compile:
            stepper.wrap_functions(lambda function: torch.compile(function, fullgraph=True, backend="aot_eager"))
        for number in range(3):
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                stepper.run(batch(number), number, 0.0)
        assert bool(stepper.compile_error) == compile
        weights[compile] = model.state_dict()
    for name, value in weights[False].items():
        assert torch.allclose(weights[True][name], value, atol=1e-6), name
