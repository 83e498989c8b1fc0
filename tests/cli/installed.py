"""Distributions made on the fly, and the command run with them installed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, distributions
from pathlib import Path

import pytest

from translate.cli import app
from translate.plugins import registry

CACHED = (
    *(registry.manager, registry.load_all, registry.model),
    *(
        registry.networks,
        registry.losses,
        registry.datasets,
        registry.commands,
        registry.readers,
        registry.augmentations,
    ),
    app._command_from_function,
)

MODEL = '''
"""What the module says."""
from typing import Literal
import translate
from pydantic import Field

class Config(translate.ModelConfig):
    strength: float = Field(1.0, ge=0, lt=10, description="How much, in [0, 10).")
    mode: Literal["soft", "hard"] = Field("soft", description="How.")
    sharp: bool = Field(False, description="Whether.")
    scales: tuple[int, ...] = Field((1, 2), description="Where.")
    blur_radius: int | None = Field(None, ge=1, description="How far.")

class Dream(translate.Model[Config]):
    """Dreams of electric sheep.

    More about it.
    """
    name = "dream"
    data = translate.Unpaired("a", "b")

@translate.hookimpl
def register_models(register):
    register(Dream)
'''


def install(site: Path, name: str, files: dict[str, str], **groups: dict[str, str]) -> None:
    """Put a distribution with these files and entry points (models={...}, others={...}) into a folder."""
    info = site / f"{name.replace('-', '_')}-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    sections = {"models": "translate.models", "others": "translate"}
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{sections[group]}]", *(f"{entry} = {target}" for entry, target in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    (info / "top_level.txt").write_text("\n".join(file.removesuffix(".py") for file in files))
    for file, text in files.items():
        (site / file).write_text(text)


def translate(*words: str, site: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a new process."""
    source = Path(__file__).parents[2]
    path = os.pathsep.join(map(str, (site, source, source / "plugins")))
    return subprocess.run(
        [sys.executable, "-m", "translate", *words],
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200", "OMP_NUM_THREADS": "1", **environment},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def forget() -> None:
    for cached in CACHED:
        cached.cache_clear()
    registry._failures.clear()
    registry._providers.clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the path whose distributions are the only ones that offer plugins; see `install`."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(registry, "entry_points", lambda group: _entry_points(folder, group))
    forget()
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    forget()


def _entry_points(folder: Path, group: str) -> list[EntryPoint]:
    found = distributions(path=[str(folder)])
    return [entry for each in found for entry in each.entry_points if entry.group == group]
