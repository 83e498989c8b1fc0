"""Several processes train as one: what they share, what each has for itself, and what happens when one ends."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import toys
from safetensors.torch import load_file
from torch.multiprocessing.spawn import spawn

from translate import Discriminators, testing
from translate.applying.folder import apply
from translate.applying.model_file import write_model_file
from translate.cli.main import main
from translate.distributed.group import Group
from translate.distributed.launch import check_batch, check_devices, device_of_rank, process_group
from translate.errors import CheckpointError, DataError, NonFiniteError, UsageError
from translate.evaluating.evaluation import evaluate
from translate.plugins import registry
from translate.training.augment import DiscriminatorAugment

STEPS = 24
CYCLEGAN = ("resnet(blocks=1, width=4)", "patchgan(layers=1, width=4)", "--pool-size=3")
MODELS = {
    "cyclegan": {"generator": CYCLEGAN[0], "discriminator": CYCLEGAN[1]},
    "cgan": {"generator": "dcgan(width=4)", "discriminator": "dcgan(width=4)", "latents": 8},
}
PIX2PIX = ("unet(width=4)", 'patchgan(layers=1, width=4, norm="batch")')


# ------------------------------------------------------------------ two processes, without a run


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What `_two_ranks` left on each of two ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    a_model_and_images(folder)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    spawn(_two_ranks, (port, folder), nprocs=2)
    return [json.loads((folder / str(rank)).read_text()) | {"folder": folder} for rank in range(2)]


def a_model_and_images(folder: Path) -> None:
    """Seven files of which the fifth is no image, and the translation of the third is there."""
    about = {"steps": 0, "images": 0, "precision": "fp32"}
    for name, options in MODELS.items():
        trainer = testing.Case(name, folder, **options).trainer()
        write_model_file(folder / f"{name}.safetensors", trainer.model, trainer.exported_tensors(), about)
    (folder / "images/a/4-broken.png").write_text("no image")
    (folder / "out").mkdir()
    (folder / "out/2.png").write_text("is there")


def _two_ranks(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    with process_group() as group:
        found = {check.__name__: check(group) for check in (_raised, _compared, _adapted, _not_finite)}
        found["_applied"] = _applied(group, folder, "out")
        found["_evaluated"] = [_evaluated(group, folder, name) for name in MODELS]
        (folder / str(rank)).write_text(json.dumps(found))


def _applied(group, folder: Path, out: str):
    model, images = folder / "cyclegan.safetensors", folder / "images/a"
    result = apply(model, images, folder / out, device="cpu", precision="fp32", group=group)
    return [result.written, result.skipped, *result.failed]


def _raised(group):
    found = []
    for failing in ((0,), (1,), (0, 1)):
        try:
            with group.raise_on_all_ranks():
                if group.rank in failing:
                    raise DataError("no images")
        except (DataError, SystemExit) as error:
            found.append(str(error))
    return found


def _compared(group):
    group.require_equal({"weight": torch.ones(2), "count": torch.tensor(3)})
    try:
        group.require_equal({"weight": torch.full((2,), float(group.rank)), "bias": torch.ones(2)})
    except CheckpointError as error:
        return str(error)


def _discriminator_of_ones(group, sign):
    """A discriminator whose scores of real images have this sign, augmented by ADA."""

    def loss(batch):
        return {"loss": model.discriminator(batch.a).square().mean()}, {
            "real_sign": torch.tensor(sign),
            "mine": torch.tensor(sign),
        }

    discriminator = torch.nn.Linear(4, 1)
    torch.nn.init.ones_(discriminator.weight)
    model = toys.Toy(lambda model: [Discriminators([model.discriminator], loss)], discriminator=discriminator)
    return model, toys.make_stepper(model, group=group)


def _adapted(group):
    """Rank 0 finds real images fake, rank 1 finds them real: their mean is below what ADA aims at."""
    model, stepper = _discriminator_of_ones(group, 2.0 * group.rank - 1)
    state = stepper.players[0]
    state.augmentation = DiscriminatorAugment("ada", torch.device("cpu"))
    state.augmentation.p.fill_(0.5)
    for step in range(4):
        stepper.run(toys.batch(seed=group.rank), step, 0.0)
    means = stepper.records.read()
    return [state.augmentation.p.item(), means["discriminators.mine"], model.discriminator.weight.tolist()]


def _not_finite(group):
    """One rank's image is no number."""
    model, stepper = _discriminator_of_ones(group, 0.0)
    images = toys.batch()
    if group.rank == 1:
        images.a[0, 0] = torch.nan
    stepper.run(images, 0, 0.0)
    try:
        stepper.records.read()
    except NonFiniteError as error:
        return [str(error), model.discriminator.weight.tolist()]


def _evaluated(group, folder: Path, name: str):
    letters = "ab" if name == "cyclegan" else ["images"]
    given = {letter: str(folder / "images" / letter) for letter in letters} | ({} if "a" in letters else {"n": 5})
    model = folder / f"{name}.safetensors"
    found = evaluate(model, features="pixels", batch=2, device="cpu", precision="fp32", group=group, **given)
    return dataclasses.asdict(found) | {"seconds": 0, "model": "", "notes": list(found.notes)}


def test_an_error_on_any_rank_ends_all_and_is_told_once(found):
    assert [ranks["_raised"] for ranks in found] == [["no images", "Rank 1: no images", "no images"], ["1"] * 3]


def test_weights_that_differ_are_an_error_that_names_one(found):
    for ranks in found:
        assert "Ranks 0 and 1 no longer hold the same weight (1 differ)" in ranks["_compared"]


def test_augmentation_follows_the_discriminator_of_all_ranks_and_counts_all_images(found):
    (p, mean, weight), other = (ranks["_adapted"] for ranks in found)
    assert [p, mean, weight] == other
    assert p == pytest.approx(0.5 - 4 * 2 * 4 / 500_000, abs=1e-7)  # four batches of four images on two ranks
    assert mean == 0.0


def test_a_value_that_is_not_finite_on_one_rank_stops_the_update_on_all(found):
    assert found[0]["_not_finite"] == found[1]["_not_finite"]
    assert "loss of discriminators" in found[0]["_not_finite"][0]
    assert found[0]["_not_finite"][1] == [[1.0] * 4]


def test_ranks_translate_a_folder_as_one_does(found):
    folder = found[0]["folder"]
    assert found[0]["_applied"] == found[1]["_applied"] == [5, 1, "4-broken.png"]
    (folder / "alone").mkdir()
    (folder / "alone/2.png").write_text("is there")
    assert _applied(Group(), folder, "alone") == [5, 1, "4-broken.png"]
    shared, alone = ({path.name: path.read_bytes() for path in (folder / out).iterdir()} for out in ("out", "alone"))
    assert shared == alone


def test_ranks_measure_what_one_measures(found):
    """All but the time that it took; the last batches of the ranks are not of one length, and one file is no image."""
    alone = [_evaluated(Group(), found[0]["folder"], name) for name in MODELS]
    assert found[0]["_evaluated"] == found[1]["_evaluated"] == alone
    assert alone[0]["pairs"] == 6
    assert any("4-broken.png" in note for note in alone[0]["notes"])
    assert alone[1]["made"] == 5


# ------------------------------------------------------------------ one process


def test_a_group_of_one_is_trivial():
    group = Group()
    assert (group.all_gather(3), group.gather(3), group.all_reduce_max(3), group.on_first_rank(lambda: 3)) == (
        [3],
        [3],
        3,
        3,
    )
    with pytest.raises(DataError, match="none"), group.raise_on_all_ranks():
        raise DataError("none")


@pytest.mark.parametrize(("batch", "ranks", "near"), [(4, 3, "try 3 or 6"), (1, 2, "try 2"), (9, 4, "try 8 or 12")])
def test_a_batch_that_the_ranks_do_not_divide_is_refused_with_the_nearest(batch, ranks, near):
    check_batch(ranks * 3, ranks)
    with pytest.raises(UsageError, match=near):
        check_batch(batch, ranks)


def test_more_devices_than_there_are_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="4 processes need a device each, and this machine has 2 of type cuda"):
        check_devices(torch.device("cuda"), 4)
    check_devices(torch.device("cpu"), 4)
    for name, value in {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="lower --devices, or torchrun's --nproc-per-node, to 2"):
        device_of_rank(torch.device("cuda"))


# ------------------------------------------------------------------ runs


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> dict[str, str]:
    return testing.draw_images(tmp_path_factory.mktemp("images"), registry.model("cyclegan"), 32)


def words(images, run, model, generator, discriminator, *more) -> list[str]:
    """A run of 24 steps on batches of four, with a checkpoint after every third."""
    options = {
        **images, "run": run, "size": 32, "batch": 4, "steps": STEPS, "checkpoint-every": 3, "log-every": 3,
        "precision": "fp32", "device": "cpu", "generator": generator, "discriminator": discriminator,
    }  # fmt: skip
    return ["fit", model, *(f"--{name}={value}" for name, value in options.items()), *more]


def started(*command: str, out: int | None = None) -> subprocess.Popen:
    """A process of `python -m`, whose words to stderr are kept; for a `with`."""
    return subprocess.Popen(
        [sys.executable, "-m", *command], stdout=out, stderr=subprocess.PIPE, text=True, process_group=0,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def torchrun(*words: str, machine=("--standalone",), restarts=0, out: int | None = None) -> subprocess.Popen:
    options = [*machine, f"--max-restarts={restarts}", "--nproc-per-node=2"]
    return started("torch.distributed.run", *options, "-m", "--", "translate", *words, out=out)


def ranks_of(process: subprocess.Popen) -> list[int]:
    """The process numbers of the ranks that torchrun has started."""
    return [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def wait_for(run: Path, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 100
    while not (run / "checkpoints" / f"{step:09d}").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)


def told(process: subprocess.Popen) -> str:
    """What it said until it ended; what has not ended after minutes is ended, which is an error."""
    try:
        return process.communicate(timeout=200)[1]
    except subprocess.TimeoutExpired:
        process.terminate()
        raise


def assert_same_end(run: Path, other: Path, steps: int = STEPS) -> None:
    for file in ("model", "training"):
        path = f"checkpoints/{steps:09d}/{file}.safetensors"
        assert (run / path).read_bytes() == (other / path).read_bytes()


@pytest.fixture(scope="module")
def straight(images, tmp_path_factory):
    """The folder of an undisturbed run on two devices."""
    run = tmp_path_factory.mktemp("straight") / "run"
    assert main([*words(images, run, "cyclegan", *CYCLEGAN), "--devices=2"]) == 0
    return run


@pytest.mark.slow
def test_the_first_rank_writes_once_and_keeps_what_is_each_ranks_own(straight):
    lines = [json.loads(line)["step"] for line in (straight / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(range(3, STEPS + 1, 3))
    kept = load_file(straight / f"checkpoints/{STEPS:09d}/training.safetensors")
    pool = "pool.discriminators.fake_a.images"
    assert kept[pool].shape == kept[f"rank1.{pool}"].shape
    assert not torch.equal(kept[pool], kept[f"rank1.{pool}"])
    assert not torch.equal(kept["random.cpu"], kept["rank1.random.cpu"])
    assert "devices" not in (straight / "run.toml").read_text().partition("[environment]")[0]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("starter", ["torchrun", "--devices"])
def test_a_killed_rank_is_started_again_and_the_run_ends_with_the_same_weights(
    images, straight, tmp_path, starter, rank
):
    run = tmp_path / "run"
    given = words(images, run, "cyclegan", *CYCLEGAN)
    by_torchrun = starter == "torchrun"
    with (
        torchrun(*given, "--resume", restarts=1) if by_torchrun else started("translate", *given, "--devices=2")
    ) as process:
        wait_for(run, 3, process)
        os.kill(ranks_of(process)[rank], signal.SIGKILL)
        said = told(process)
    assert process.returncode == 0, said
    assert "Resuming" in said
    assert by_torchrun or "ended by signal 9; all start again from the last checkpoint" in said
    assert_same_end(run, straight)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_any_rank_stops_all_at_the_same_step_with_a_checkpoint(images, straight, tmp_path, rank):
    run = tmp_path / "run"
    given = words(images, run, "cyclegan", *CYCLEGAN)
    with torchrun(*given) as process:
        wait_for(run, 3, process)
        os.kill(ranks_of(process)[rank], signal.SIGTERM)
        said = told(process)
    assert said.count("Stopped at step") == 1, said
    assert main([*given, "--resume", "--devices=2"]) == 0
    assert_same_end(run, straight)


@pytest.mark.slow
def test_ctrl_c_stops_a_run_on_several_devices_with_a_checkpoint(images, straight, tmp_path):
    run = tmp_path / "run"
    given = words(images, run, "cyclegan", *CYCLEGAN)
    with started("translate", *given, "--devices=2") as process:
        wait_for(run, 3, process)
        os.killpg(process.pid, signal.SIGINT)
        said = told(process)
    assert process.returncode == 130, said
    assert said.count("Stopped at step") == 1
    assert "Traceback" not in said
    assert main([*given, "--resume", "--devices=2"]) == 0
    assert_same_end(run, straight)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_devices(images, tmp_path, capsys):
    run = tmp_path / "run"
    given = words(images, run, "cyclegan", *CYCLEGAN)
    with torchrun(*given) as process:
        wait_for(run, 3, process)
        os.kill(ranks_of(process)[0], signal.SIGTERM)
        told(process)
    assert main([*given, "--resume"]) == 0
    assert "written on 2 devices, and there are 1 now: image pools start empty" in capsys.readouterr().err
    with torchrun(*given, "--resume", "--steps=26") as process:
        said = told(process)
    assert process.returncode == 0, said
    assert "written on 1 devices, and there are 2 now" in said


@pytest.mark.slow
def test_torchrun_translates_and_evaluates_a_folder_and_tells_it_once(straight, images, tmp_path):
    with torchrun("apply", str(straight), images["a"], str(tmp_path), out=subprocess.PIPE) as process:
        said, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    assert said.count("6 written") == 1
    assert len(list(tmp_path.iterdir())) == 6
    given = [f"--{name}={folder}" for name, folder in images.items()]
    with torchrun("evaluate", str(straight), *given, "--features=pixels", "--json", out=subprocess.PIPE) as process:
        said, _ = process.communicate(timeout=200)
    assert json.loads(said)["made"] == 6


@pytest.mark.slow
def test_two_machines_train_like_one_with_as_many_devices_even_if_a_process_is_killed(images, tmp_path):
    """Four processes in two torchruns that meet, against four of one; and the samples of a model with batch norm."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
    runs = [tmp_path / name for name in ("together", "alone")]
    machine = ("--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint={place}", "--rdzv-id=test")
    given = [*words(images, runs[0], "pix2pix", *PIX2PIX), "--resume"]
    with torchrun(*given, machine=machine, restarts=2) as first, torchrun(*given, machine=machine, restarts=2) as other:
        wait_for(runs[0], 3, first)
        os.kill(ranks_of(other)[0], signal.SIGKILL)
        said = told(first) + told(other)
    assert first.returncode == other.returncode == 0, said
    assert said.count("is trained") == 1
    assert main([*words(images, runs[1], "pix2pix", *PIX2PIX), "--devices=4"]) == 0
    assert_same_end(*runs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "status", "said"),
    [
        ("--batch=3", 2, "try 2 or 4"),
        ("--batch=8", 1, "needs at least 8"),
        ("--size=33", 2, "is no multiple"),
        ("--init=none.safetensors", 1, "none.safetensors"),
    ],
)
def test_an_error_before_the_first_step_is_told_once(images, tmp_path, capfd, option, status, said):
    given = words(images, tmp_path / "run", "cyclegan", *CYCLEGAN)
    assert main([*given, option, "--devices=2"]) == status
    everything = capfd.readouterr().err
    assert everything.count("error:") == 1, everything
    assert said in everything
