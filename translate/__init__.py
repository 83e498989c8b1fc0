"""Image-to-image translation: an engine that plays adversarial games, and plugins that describe them.

The names below are what a plugin author imports, and what a program calls. They load when first used, so that the
command line answers without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from translate.version import __version__ as __version__

_HOMES = {
    "Adam": "players",
    "AdversarialLoss": "plugins.types",
    "Dataset": "plugins.types",
    "Discriminators": "players",
    "DomainSpec": "data.domains",
    "FitConfig": "training.config",
    "Generators": "players",
    "Header": "plugins.types",
    "Images": "data.domains",
    "Labelled": "data.domains",
    "LinearDecay": "players",
    "LossName": "losses",
    "Model": "model",
    "ModelConfig": "model",
    "Move": "players",
    "NetworkSpec": "networks",
    "Pair": "data.domains",
    "Paired": "data.domains",
    "Penalty": "players",
    "Player": "players",
    "Reader": "plugins.types",
    "Sampler": "applying.sampler",
    "ScoreFunction": "plugins.types",
    "Spec": "data.domains",
    "Terms": "players",
    "TranslateError": "errors",
    "Translator": "applying.translator",
    "Unpaired": "data.domains",
    "UsageError": "errors",
    "apply": "applying.folder",
    "evaluate": "evaluating.evaluation",
    "fit": "training.run",
    "hookimpl": "plugins.hooks",
    "load": "applying.translator",
    "sample": "applying.samples",
}

__all__ = [
    "Adam",
    "AdversarialLoss",
    "Dataset",
    "Discriminators",
    "DomainSpec",
    "FitConfig",
    "Generators",
    "Header",
    "Images",
    "Labelled",
    "LinearDecay",
    "LossName",
    "Model",
    "ModelConfig",
    "Move",
    "NetworkSpec",
    "Pair",
    "Paired",
    "Penalty",
    "Player",
    "Reader",
    "Sampler",
    "ScoreFunction",
    "Spec",
    "Terms",
    "TranslateError",
    "Translator",
    "Unpaired",
    "UsageError",
    "apply",
    "evaluate",
    "fit",
    "hookimpl",
    "load",
    "sample",
]

if TYPE_CHECKING:
    from translate.applying.folder import apply
    from translate.applying.sampler import Sampler
    from translate.applying.samples import sample
    from translate.applying.translator import Translator, load
    from translate.data.domains import DomainSpec, Images, Labelled, Pair, Paired, Spec, Unpaired
    from translate.errors import TranslateError, UsageError
    from translate.evaluating.evaluation import evaluate
    from translate.losses import LossName
    from translate.model import Model, ModelConfig
    from translate.networks import NetworkSpec
    from translate.players import Adam, Discriminators, Generators, LinearDecay, Move, Penalty, Player, Terms
    from translate.plugins.hooks import hookimpl
    from translate.plugins.types import AdversarialLoss, Dataset, Header, Reader, ScoreFunction
    from translate.training.config import FitConfig
    from translate.training.run import fit


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'translate' has no attribute {name!r}")
    value = getattr(import_module(f"translate.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
