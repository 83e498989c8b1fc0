import importlib
import sys

import pytest
import torch

from translate.applying.model_file import write_model_file
from translate.domains import DomainSpec, Spec

torch.set_num_threads(1)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """The module `tiny_models`, installed as the distribution translate-tiny 1.2 for the length of one test."""
    site = tmp_path / "site"
    info = site / "translate_tiny-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: translate-tiny\nVersion: 1.2\n")
    names = ("invert", "blocks", "noisy", "broken", "tied", "splash", "discs")
    (info / "entry_points.txt").write_text(
        "[translate.models]\n" + "".join(f"{name} = tiny_models\n" for name in names)
    )
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    importlib.invalidate_caches()
    return importlib.import_module("tiny_models")


@pytest.fixture
def make(plugin):
    """Make a tiny model: make("invert", channels=3, gain=-1)."""

    def make(name, channels=3, out_channels=None, part=None, **options):
        kind = next(kind for kind in vars(plugin).values() if getattr(kind, "name", None) == name)
        a = DomainSpec(name="a", channels=channels, size=16, part=part)
        b = DomainSpec(name="b", channels=out_channels or channels, size=16)
        return kind(plugin.TinyConfig(**options), Spec({"a": a, "b": b}))

    return make


@pytest.fixture
def build(plugin):
    """Build a tiny sampling model with known weights: build("discs", classes=("cat", "dog"))."""

    def build(name, channels=3, classes=(), size=16, **options):
        domain = DomainSpec(name="images", channels=channels, size=size, classes=classes)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            return {"splash": plugin.Splash, "discs": plugin.Discs}[name](
                plugin.TinyConfig(**options), Spec({"images": domain})
            )

    return build


@pytest.fixture
def model_file(make, tmp_path):
    """Write a tiny model's file and return its path: model_file("invert", channels=1)."""

    def write(name, **options):
        model = make(name, **options)
        path = tmp_path / f"{name}.safetensors"
        tensors = {key: value for key, value in model.state_dict().items() if not key.startswith("discriminator")}
        write_model_file(path, model, tensors, run={"steps": 7, "images": 28, "precision": "fp32"})
        return path

    return write
