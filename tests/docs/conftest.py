import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from pages import SMALL, fences, module

import translate
from translate.data.files import writers
from translate.plugins import registry


def draw(folder: Path, width: int = 40, height: int = 40) -> None:
    generator = torch.Generator().manual_seed(0)
    folder.mkdir(parents=True)
    for number in range(3):
        pixels = torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)
        writers.save(pixels, folder / f"{number}.png")


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "workspace"
    for name in ("horses", "zebras", "photos", "drawings"):
        draw(folder / name)
    writers.save(torch.zeros(3, 30, 50, dtype=torch.uint8), folder / "photos" / "one.jpg")
    translate.fit(
        translate.FitConfig(
            model="cyclegan",
            a=str(folder / "horses"),
            b=str(folder / "zebras"),
            size=32,
            steps=2,
            run=str(folder / "runs" / "horses2zebras"),
            options=SMALL,
        )
    )
    return folder


@pytest.fixture
def workspace(_made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the images that the pages speak of and the run runs/horses2zebras, two steps long."""
    folder = tmp_path / "workspace"
    shutil.copytree(_made, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugins of README.md and writing-a-plugin.md, installed as their pyproject.toml says."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "translate_simgan.py").write_text(module("README.md", after="## Write a plugin"))
    package = folder / "translate_restorer"
    package.mkdir()
    (package / "__init__.py").write_text(module("writing-a-plugin.md", before="## Every hook"))
    (package / "extras.py").write_text(module("writing-a-plugin.md", after="## Every hook"))
    for page in ("README.md", "writing-a-plugin.md"):
        (declared,) = [tomllib.loads(fence.text) for fence in fences(page, "toml")]
        install(folder, declared["project"])
    return folder


def install(site: Path, project: dict) -> None:
    """What pip would leave in site-packages, apart from the modules."""
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The pages' plugins are installed, in this process."""
    monkeypatch.syspath_prepend(site)
    forget()
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(site) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    forget()


def forget() -> None:
    """Let the next question look for plugins anew."""
    for function in vars(registry).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()
    registry._failures.clear()
    registry._providers.clear()


@pytest.fixture
def run(workspace: Path, site: Path) -> Callable[..., str]:
    """Run the command in a process of its own, with the pages' plugins installed; what it printed."""

    changed = {"PYTHONPATH": str(site), "TRANSLATE_CACHE": str(workspace / "cache"), "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "translate", *words]
        done = subprocess.run(
            command, env=os.environ | changed, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr, done.stderr
        return done.stdout

    return run
