import json

import pytest
import torch

import translate_tensorboard as observer
from translate.data.files.writers import save

pytest.importorskip("tensorboard")


def metrics(step):
    return {"step": step, "losses": {"generators.l1": 1.0 / step}, "images_per_second": 8.0, "data_wait": 0.25}


def session(run, steps):
    """A run that ticks and saves at each of these steps."""
    (run / "samples").mkdir(parents=True, exist_ok=True)
    observer.run_started(run)
    for step in steps:
        with (run / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(metrics(step)) + "\n")
        observer.run_ticked(run, metrics(step))
        samples = run / "samples" / f"{step:09d}.png"
        save(torch.full((3, 8, 12), 200, dtype=torch.uint8), samples)
        observer.run_saved(run, samples)
    observer.run_ended(run)


def written(run):
    """What TensorBoard reads of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run / "tensorboard")).Reload()


def test_scalars_and_sample_grids_are_written(tmp_path):
    session(tmp_path, [10, 20])
    events = written(tmp_path)
    assert set(events.Tags()["scalars"]) == {"generators/l1", "speed/images_per_second", "speed/data_wait"}
    assert [(event.step, event.value) for event in events.Scalars("generators/l1")] == [
        (10, pytest.approx(0.1)),
        (20, pytest.approx(0.05)),
    ]
    assert [(image.step, image.width, image.height) for image in events.Images("samples")] == [(10, 12, 8), (20, 12, 8)]


def test_a_resumed_run_drops_what_it_repeats(tmp_path):
    session(tmp_path, [10, 20, 30])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "metrics.jsonl").write_text(lines[0] + "\n")  # as the engine cuts it at the checkpoint
    session(tmp_path, [20])
    assert [event.step for event in written(tmp_path).Scalars("generators/l1")] == [10, 20]


def test_nothing_happens_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(observer, "find_spec", lambda name: None)
    session(tmp_path, [10])
    assert not (tmp_path / "tensorboard").exists()
