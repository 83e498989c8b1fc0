"""Distributions made on the fly, and the command run with them installed."""

import os
import subprocess
import sys
from pathlib import Path

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
    """Put a distribution with these files and entry points (`models={...}`, `others={...}`) into a folder of the path."""
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
