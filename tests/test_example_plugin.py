"""The third party's plugin in docs/ is built, installed beside this checkout, listed, tested, trained and applied."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from translate.data.files.writers import save

EXAMPLE = Path(__file__).parents[1] / "docs" / "example-plugin"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds nothing but the built plugin."""
    folder = tmp_path_factory.mktemp("site")
    build = ["pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([sys.executable, "-m", *build, str(folder), str(EXAMPLE)], check=True, timeout=120)
    return folder


def run(site: Path, *words: str, folder: Path) -> str:
    """What a module of Python prints on stdout, with the plugin installed."""
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stderr
    return done.stdout


def test_it_is_listed_beside_the_built_in_models(site, tmp_path):
    models = {model["name"]: model for model in json.loads(run(site, "translate", "models", "--json", folder=tmp_path))}
    assert models["gcgan"]["distribution"] == "translate-gcgan"
    assert models["gcgan"]["error"] is None
    assert {"cyclegan", "pix2pix"} <= models.keys()


def test_its_own_tests_pass(site, tmp_path):
    config = ["-c", str(EXAMPLE / "pyproject.toml"), "-p", "no:cacheprovider"]
    assert "4 passed" in run(site, "pytest", *config, str(EXAMPLE / "tests"), folder=tmp_path)


def test_it_trains_and_applies_from_the_command_line(site, tmp_path):
    generator = torch.Generator().manual_seed(0)
    for domain in ("a", "b"):
        (tmp_path / domain).mkdir()
        for number in range(3):
            image = torch.randint(256, (3, 24, 30), generator=generator, dtype=torch.uint8)
            save(image, tmp_path / domain / f"{number}.png")
    small = ["--generator", "can(width=4)", "--discriminator", "patchgan(layers=2, width=4)"]
    run(
        site, "translate", "fit", "gcgan", "--a", "a", "--b", "b", "--size", "24", "--steps", "3", "--log-every", "1",
        "--run", "run", *small, folder=tmp_path,
    )  # fmt: skip
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == [1, 2, 3]
    assert {"generators.geometry", "discriminators.real_sign"} <= metrics[-1]["losses"].keys()
    run(site, "translate", "apply", "run", "a", "out", folder=tmp_path)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png"]
