"""`translate fit`: killed, stopped, resumed, lengthened, repeated, refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import translate
from translate import testing
from translate.cli.main import main
from translate.plugins import registry

TINY = {
    "cyclegan": {
        "generator": "resnet(blocks=1, width=4)",
        "discriminator": "patchgan(layers=1, width=4)",
        "pool-size": 3,
    },
    "pix2pix": {"generator": "unet(width=4)", "discriminator": 'patchgan(layers=1, width=4, norm="batch")'},
}
"""A pool that overflows, averages and a decay; dropout, batch norm."""
STEPS = 12


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> dict[str, str]:
    return testing.draw_images(tmp_path_factory.mktemp("images"), registry.model("cyclegan"), 32)


def words(model, images, run, **options) -> list[str]:
    """The command line of a run of twelve steps, with a checkpoint after each."""
    base = {"run": run, "size": 32, "steps": STEPS, "checkpoint-every": 1, "log-every": 2, "precision": "fp32"}
    given = {**images, **base, **TINY[model], **{name.replace("_", "-"): value for name, value in options.items()}}
    flags = (f"--{name}={value}" for name, value in given.items() if value is not None)
    return ["fit", model, *flags]


@pytest.fixture
def fit(images, tmp_path, capsys):
    """Fit in this process: fit("cyclegan", "again", "--resume", steps=3) -> exit status and what it said."""

    def run(model, name, *more, **options):
        status = main([*words(model, images, tmp_path / name, **options), *more])
        return status, capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def straight(images, tmp_path_factory):
    """The folder of an undisturbed run; each is trained once."""
    folder, found = tmp_path_factory.mktemp("straight"), {}

    def run(model, precision="fp32"):
        if (model, precision) not in found:
            found[model, precision] = folder / f"{model}-{precision}"
            assert main(words(model, images, found[model, precision], precision=precision)) == 0
        return found[model, precision]

    return run


def contents(run: Path) -> dict[str, bytes]:
    """Everything of a run that the weights depend on or that depends on them, byte by byte."""
    files = [*run.glob("checkpoints/*/*"), *run.glob("*.safetensors"), *run.glob("samples/*")]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def assert_same(run: Path, other: Path) -> None:
    mine, theirs = contents(run), contents(other)
    assert mine.keys() == theirs.keys()
    assert not [name for name in mine if mine[name] != theirs[name]]
    assert f"checkpoints/{STEPS:09d}/model.safetensors" in mine
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)), "no step is logged twice"
    assert steps[-1] == STEPS


# ------------------------------------------------------------------ killed and stopped


def start(command: list[str]) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "translate", *command], env=environment, stderr=subprocess.PIPE, text=True
    )


def wait_for(process: subprocess.Popen, happened) -> None:
    while not happened():
        assert process.poll() is None, f"the run ended too early: {process.communicate()[1]}"


def kill_in_a_write(process: subprocess.Popen, run: Path, after: int) -> None:
    """SIGKILL while a checkpoint later than `after` is half written."""

    def half():
        return [path for path in run.glob("checkpoints/.writing-*") if int(path.name[-9:]) > after]

    while True:
        wait_for(process, half)
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        if half():
            break
        process.send_signal(signal.SIGCONT)
    process.kill()
    process.communicate()


RESUMED = [("cyclegan", "fp32"), ("pix2pix", "bf16")]


@pytest.mark.parametrize(("model", "precision"), RESUMED)
def test_killed_while_it_writes_and_resumed_it_ends_with_the_same_bytes(
    model, precision, images, tmp_path, fit, straight
):
    run = tmp_path / "run"
    kill_in_a_write(start(words(model, images, run, precision=precision)), run, after=3)
    assert list(run.glob("checkpoints/.writing-*"))
    status, said = fit(model, "run", "--resume", precision=precision)
    assert status == 0
    assert f"Resuming {run} at step " in said
    assert not list(run.glob("checkpoints/.writing-*"))
    assert_same(run, straight(model, precision))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("model", TINY)
def test_killed_again_and_again_it_ends_with_the_same_bytes(model, precision, images, tmp_path, fit, straight):
    run = tmp_path / "run"
    command = [*words(model, images, run, precision=precision), "--resume"]
    moments = [
        (run / "run.toml").exists,
        (run / "samples" / "000000000.png").exists,
        (run / "model.safetensors").exists,
        lambda: list(run.glob(".writing-*")),
        (run / "checkpoints" / "000000004").exists,
        lambda: (run / "metrics.jsonl").read_text().count("\n") > 6,
    ]
    for moment in moments:
        process = start(command)
        wait_for(process, moment)
        process.kill()
        process.communicate()
    for after in (6, 8):
        kill_in_a_write(start(command), run, after)
    assert fit(model, "run", "--resume", precision=precision)[0] == 0
    assert_same(run, straight(model, precision))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_complete_checkpoint(number, status, images, tmp_path, fit, straight):
    run = tmp_path / "run"
    process = start(words("cyclegan", images, run, checkpoint_every=1000))
    wait_for(process, (run / "metrics.jsonl").exists)  # step 2 is over
    process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == status, said
    (checkpoint,) = run.glob("checkpoints/*")
    assert f"topped at step {int(checkpoint.name)} of {STEPS}; " in said
    assert f"with --run {run} --resume." in said
    assert fit("cyclegan", "run", "--resume")[0] == 0
    mine, theirs = contents(run), contents(straight("cyclegan"))
    last = f"checkpoints/{STEPS:09d}/training.safetensors"
    assert (mine[last], mine["model.safetensors"]) == (theirs[last], theirs["model.safetensors"])


def test_a_damaged_checkpoint_is_said_and_the_one_before_used(tmp_path, fit, straight):
    run = tmp_path / "run"
    shutil.copytree(straight("cyclegan"), run)
    (run / "checkpoints" / f"{STEPS:09d}" / "training.safetensors").write_bytes(b"half")
    status, said = fit("cyclegan", "run", "--resume")
    assert status == 0
    assert "is damaged: training.safetensors is not what was written. The one before it is used." in said
    assert f"Resuming {run} at step {STEPS - 1} of {STEPS}." in said
    assert_same(run, straight("cyclegan"))


# ------------------------------------------------------------------ going on, repeating, refusing


def test_a_folder_that_is_not_empty_is_refused_without_resume(fit, straight, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(straight("cyclegan"), run)
    before = contents(run)
    status, said = fit("cyclegan", "run")
    assert status == 2
    assert f"{run} exists and is not empty; continue its run with --resume, or choose another --run." in said
    assert contents(run) == before


def test_resuming_with_another_option_shows_the_difference(fit, straight, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(straight("cyclegan"), run)
    before = contents(run)
    status, said = fit("cyclegan", "run", "--resume", "--batch=2", "--lambda-cycle=5")
    assert status == 2
    assert "--batch: 1 in the run, 2 now" in said
    assert "--lambda-cycle: 10.0 in the run, 5.0 now" in said
    status, said = fit("cyclegan", "run", "--resume", steps=STEPS - 1)
    assert status == 2
    assert "it may be lengthened, not cut to 11" in said
    assert contents(run) == before


def test_resuming_a_run_that_is_done_changes_nothing(fit, straight, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(straight("cyclegan"), run)
    before = contents(run)
    assert fit("cyclegan", "run", "--resume")[0] == 0
    assert contents(run) == before


def test_resuming_may_lengthen_a_run_or_start_it(fit, tmp_path):
    assert fit("cyclegan", "run", "--resume", steps=3)[0] == 0
    status, said = fit("cyclegan", "run", "--resume", steps=5)
    assert status == 0
    assert "at step 3 of 5" in said
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["000000004", "000000005"]
    assert tomllib.loads((tmp_path / "run" / "run.toml").read_text())["fit"]["steps"] == 5


def test_the_runs_own_record_repeats_it_with_the_same_bytes(straight, tmp_path):
    first = straight("cyclegan")
    assert main(["fit", "--config", str(first / "run.toml"), "--run", str(tmp_path / "again")]) == 0
    assert_same(tmp_path / "again", first)


def test_minutes_become_a_number_of_steps_that_stays(fit, tmp_path):
    assert fit("cyclegan", "run", steps=None, minutes=0.015, checkpoint_every=1000)[0] == 0
    record = tomllib.loads((tmp_path / "run" / "run.toml").read_text())
    assert "minutes" not in record["fit"]
    assert record["asked"] == {"minutes": 0.015}
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert record["fit"]["steps"] == int(checkpoint.name)
    before = contents(tmp_path / "run")
    assert fit("cyclegan", "run", "--resume", steps=None, minutes=0.015, checkpoint_every=1000)[0] == 0
    assert contents(tmp_path / "run") == before


def test_init_starts_from_the_weights_of_a_model_file(fit, straight, tmp_path):
    file = straight("cyclegan") / "model.safetensors"
    status, said = fit("cyclegan", "tuned", steps=1, init=file, learning_rate=1e-12)
    assert status == 0, said
    old, new = load_file(file), load_file(tmp_path / "tuned" / "model.safetensors")
    assert old.keys() == new.keys()
    for name, tensor in old.items():
        torch.testing.assert_close(new[name], tensor, rtol=0, atol=1e-6)


def test_init_from_a_model_that_does_not_fit_is_said(fit, straight):
    file = straight("cyclegan") / "model.safetensors"
    status, said = fit("cyclegan", "other", steps=1, init=file, generator="resnet(blocks=1, width=8)")
    assert status == 1
    assert "does not fit: its model has no a_to_b" in said


# ------------------------------------------------------------------ what may go wrong


@pytest.mark.parametrize("rate", [1e30, 1e39])
def test_nan_stops_the_run_with_its_place_named_and_no_file_holds_one(rate, fit, tmp_path):
    status, said = fit("cyclegan", "run", learning_rate=rate, log_every=1)
    assert status == 1
    assert "error: Step " in said
    assert ("of generators (generator_loss) is NaN" in said) or "holds a NaN or an infinity" in said
    for path in (tmp_path / "run").rglob("*.safetensors"):
        tensors = load_file(path)
        assert all(tensor.isfinite().all() for tensor in tensors.values() if tensor.is_floating_point()), path


def test_a_model_without_an_input_samples_resumes_and_ends_with_the_same_bytes(tmp_path, capsys):
    images = testing.draw_images(tmp_path / "images", registry.model("stylegan2"), 16)
    options = {
        "width": 4,
        "latents": 8,
        "style-width": 8,
        "mapping-layers": 1,
        "discriminator": "stylegan2(width=4, stddev_group=2, equalized=True)",
    }
    base = {"size": 16, "batch": 2, "precision": "bf16", "discriminator-augment": "ada", "checkpoint-every": 2}
    flags = [f"--{name}={value}" for name, value in (images | base | options).items()]
    for run, steps in (("straight", [6]), ("resumed", [4, 6])):
        for length in steps:
            arguments = ["fit", "stylegan2", *flags, f"--run={tmp_path / run}", f"--steps={length}", "--resume"]
            assert main(arguments) == 0
    assert "translate sample" in capsys.readouterr().err
    mine, theirs = (tmp_path / run / "model.safetensors" for run in ("straight", "resumed"))
    assert load_file(mine).keys() == load_file(theirs).keys()
    assert all(torch.equal(value, load_file(theirs)[name]) for name, value in load_file(mine).items())
    sheets = sorted(path.name for path in (tmp_path / "straight" / "samples").iterdir())
    assert sheets == ["000000000.png", "000000002.png", "000000004.png", "000000006.png"]


def test_an_observer_that_fails_costs_a_warning(fit, tmp_path):
    class Observer:
        def __init__(self):
            self.seen = []

        @translate.hookimpl
        def run_started(self, run, config):
            self.seen.append(config["fit"]["model"])

        @translate.hookimpl
        def run_ticked(self, metrics):
            self.seen.append(metrics["step"])
            raise RuntimeError("no paper in the printer")

        @translate.hookimpl
        def run_ended(self, reason):
            self.seen.append(reason)

    observer = Observer()
    registry.manager().register(observer)
    try:
        status, said = fit("cyclegan", "run", steps=2)
    finally:
        registry.manager().unregister(observer)
    assert status == 0
    assert "warning: " in said
    assert "run_ticked" in said
    assert "RuntimeError: no paper in the printer" in said
    assert observer.seen == ["cyclegan", 1, 2, "done"]


def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint_whole(images, small_disk):
    check = "import sys; from translate.training import checkpoint; from pathlib import Path; "
    check += "found, said = checkpoint.newest(Path('run/checkpoints')); print(found.step, said)"
    command = [sys.executable, "-m", "translate", *words("cyclegan", images, "run", keep=100, steps=200)]
    script = '"$@"; echo $?; "$0" -c "$CHECK"'
    answer = small_disk("1m", ["env", f"CHECK={check}", "sh", "-c", script, sys.executable, *command])
    assert "error: The disk is full: " in answer.stderr, answer.stderr[-2000:]
    assert "Traceback" not in answer.stderr
    status, newest = answer.stdout.splitlines()
    assert status == "1"
    assert newest.endswith(" []")
    assert int(newest.split()[0]) >= 1
