import importlib
import sys

import pytest
from real_pictures import SIDE, folder, pictures

from translate.applying.model_file import write_model_file
from translate.domains import DomainSpec, Spec


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """The module `evaluated_models`, installed for the length of one test."""
    info = tmp_path / "site" / "translate_evaluated-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: translate-evaluated\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[translate.models]\nnegative = evaluated_models\nplain = evaluated_models\n"
    )
    monkeypatch.setattr(sys, "path", [str(info.parent), *sys.path])
    importlib.invalidate_caches()
    return importlib.import_module("evaluated_models")


@pytest.fixture
def translator_file(plugin, tmp_path):
    """Write a model of `negative`: translator_file(gain=-0.8, channels=(1, 3), parts=("left", "right"))."""

    def write(path=None, channels=(3, 3), parts=(None, None), side=SIDE, **options):
        domains = {
            name: DomainSpec(name=name, channels=count, size=side, part=part)
            for name, count, part in zip("ab", channels, parts, strict=True)
        }
        return written(plugin.Negative(plugin.EvaluatedConfig(**options), Spec(domains)), path or tmp_path / "negative")

    return write


@pytest.fixture
def sampler_file(plugin, tmp_path):
    """Write a model of `plain`: sampler_file(classes=("dark", "light"))."""

    def write(classes=()):
        domain = DomainSpec(name="images", channels=1, size=SIDE, classes=classes)
        return written(plugin.Plain(plugin.EvaluatedConfig(), Spec({"images": domain})), tmp_path / "plain")

    return write


def written(model, path):
    """The model's file, as the export of a run."""
    path.mkdir(exist_ok=True)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("discriminator")}
    write_model_file(path / "model.safetensors", model, tensors, run={})
    return path / "model.safetensors"


@pytest.fixture
def pairs(tmp_path):
    """The folders of 12 pictures and of their negatives."""
    images = pictures(12)
    return {
        "a": str(folder(tmp_path / "positives", images)),
        "b": str(folder(tmp_path / "negatives", 255 - images)),
    }
