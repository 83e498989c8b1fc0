"""Runs of translate 0.1 are read for ever: checkpoints, model files and options in tests/files_of_0_1.

Each run is 4 steps long, with checkpoints of steps 2 and 4. In that version CycleGAN's discriminators were called
`judge_a` and `judge_b`.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import translate
from translate.applying.model_file import load_model
from translate.model import Model, with_current_names
from translate.plugins import registry
from translate.training import checkpoint as checkpoints

FILES = Path(__file__).with_name("files_of_0_1")
TRANSLATORS, SAMPLERS = ("cyclegan", "pix2pix"), ("cgan", "stylegan2")
CPU = torch.device("cpu")


@pytest.fixture
def images(tmp_path):
    return shutil.copytree(FILES / "images", tmp_path / "images")


@pytest.fixture
def old_run(tmp_path, images):
    """Copies an old run; its images are at another place than when it was trained."""

    def old_run(name):
        folder = shutil.copytree(FILES / name, tmp_path / name)
        text = (folder / "run.toml").read_text()
        (folder / "run.toml").write_text(text.replace("IMAGES", images.as_posix()))
        return folder

    return old_run


def resume(folder, **changes):
    return translate.fit(translate.FitConfig(model=folder.name, run=str(folder), **changes), resume=True)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def with_names_of_today(name, tensors):
    return with_current_names(tensors, registry.model(name), prefix=r"average\.|optimizer\.[^.]+\.|")


@pytest.mark.parametrize("name", [*TRANSLATORS, *SAMPLERS])
def test_an_old_run_resumes_as_it_went_on_then(name, old_run):
    folder = old_run(name)
    shutil.rmtree(folder / "checkpoints" / "000000004")
    (folder / "model.safetensors").unlink()
    resume(folder)
    expected = checkpoints.read(FILES / name / "checkpoints" / "000000004")
    found = checkpoints.read(folder / "checkpoints" / "000000004")
    before = with_names_of_today(name, expected.model | expected.training)
    now = found.model | found.training
    assert before.keys() == now.keys()
    # Bit for bit on one processor. On others Adam may turn a gradient that is only rounding into steps of its rate.
    rate = registry.model(name).Config().learning_rate
    for key, tensor in before.items():
        assert torch.allclose(now[key], tensor, rtol=1e-3, atol=max(1e-3, 4 * rate)), key
    for before, now in zip(metrics(FILES / name), metrics(folder), strict=True):
        assert now["losses"] == pytest.approx(before["losses"], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("name", [*TRANSLATORS, *SAMPLERS])
def test_an_old_run_that_is_done_stays_as_it_is(name, old_run, capsys):
    folder = old_run(name)
    kept = ("model.safetensors", "metrics.jsonl", "checkpoints/000000004/training.safetensors")
    before = [(folder / file).read_bytes() for file in kept]
    resume(folder)
    assert f"{folder} is trained: 4 steps" in capsys.readouterr().err
    assert [(folder / file).read_bytes() for file in kept] == before


def test_an_old_run_can_be_lengthened(old_run):
    folder = old_run("cyclegan")
    resume(folder, steps=6)
    assert [line["step"] for line in metrics(folder)] == [2, 4, 6]
    names = load_file(folder / "checkpoints" / "000000006" / "model.safetensors")
    assert any(name.startswith("discriminator_a.") for name in names)
    assert not any("judge" in name for name in names)


@pytest.mark.parametrize("name", [*TRANSLATORS, *SAMPLERS])
def test_an_old_model_file_has_the_averages_of_its_last_checkpoint(name):
    state = load_model(FILES / name / "model.safetensors", CPU).state_dict()
    training = load_file(FILES / name / "checkpoints" / "000000004" / "training.safetensors")
    averages = {key.removeprefix("average."): tensor for key, tensor in training.items() if key.startswith("average.")}
    assert averages
    for key, tensor in averages.items():
        assert torch.equal(state[key], tensor), key


def test_a_model_file_that_holds_networks_of_old_names_is_read(tmp_path):
    """Those that `fit` writes leave the discriminators out, which are the only networks renamed since."""
    weights = load_file(FILES / "cyclegan" / "checkpoints" / "000000004" / "model.safetensors")
    with safe_open(FILES / "cyclegan" / "model.safetensors", framework="pt") as file:
        save_file(weights, tmp_path / "whole.safetensors", file.metadata())
    state = load_model(tmp_path / "whole.safetensors", CPU).state_dict()
    for key, tensor in weights.items():
        assert torch.equal(state[key.replace("judge_", "discriminator_")], tensor), key


@pytest.mark.parametrize("name", TRANSLATORS)
def test_an_old_run_translates_and_is_evaluated(name, old_run, images, tmp_path):
    folder = old_run(name)
    result = translate.apply(folder, images / "pairs" / "a", tmp_path / "translated")
    assert (result.written, result.failed) == (4, {})
    sides = {side: str(images / "pairs" / side) for side in "ab"}
    assert translate.evaluate(folder, **sides, features="pixels").made == 4


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_old_run_samples_and_is_evaluated(name, old_run, tmp_path):
    folder = old_run(name)
    result = translate.sample(folder, tmp_path / "samples", n=4)
    assert result.written == 4
    assert translate.evaluate(folder, features="pixels", n=4).made == 4


# ------------------------------------------------------------------ renamed attributes


class Renamed(Model):
    renamed = {"judge": "discriminator", "mean": "path_mean"}  # noqa: RUF012


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("judge.0.weight", "discriminator.0.weight"),
        ("mean", "path_mean"),
        ("average.judge.0.weight", "average.discriminator.0.weight"),
        ("optimizer.players.judge.0.weight.exp_avg", "optimizer.players.discriminator.0.weight.exp_avg"),
        ("judge_b.0.weight", "judge_b.0.weight"),
        ("generator.judge.0.weight", "generator.judge.0.weight"),
        ("optimizer.judge.generator.0.weight.exp_avg", "optimizer.judge.generator.0.weight.exp_avg"),
        ("pool.players.judge.images", "pool.players.judge.images"),
    ],
)
def test_only_the_attribute_of_a_tensors_name_is_renamed(old, new):
    tensors = with_current_names({old: torch.zeros(())}, Renamed, prefix=r"average\.|optimizer\.[^.]+\.|")
    assert list(tensors) == [new]


def test_without_a_prefix_the_attribute_comes_first():
    names = ["judge.weight", "average.judge.weight"]
    tensors = with_current_names(dict.fromkeys(names, torch.zeros(())), Renamed)
    assert list(tensors) == ["discriminator.weight", "average.judge.weight"]
