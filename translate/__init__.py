"""Image-to-image translation: an engine that trains models, and plugins that describe them.

These are the names that plugins and programs import. Each is loaded when it is first used, so the command line can
print its help without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from translate.version import __version__ as __version__

_MODULES = {
    "Adam": "players",
    "AdversarialLoss": "plugins.types",
    "Dataset": "plugins.types",
    "Discriminators": "players",
    "DomainSpec": "domains",
    "Download": "plugins.types",
    "FitConfig": "training.config",
    "Generators": "players",
    "Header": "plugins.types",
    "Images": "domains",
    "Labelled": "domains",
    "LinearDecay": "players",
    "LossName": "losses",
    "Model": "model",
    "ModelConfig": "model",
    "Move": "players",
    "NetworkSpec": "networks",
    "Pair": "domains",
    "Paired": "domains",
    "Penalty": "players",
    "Player": "players",
    "Reader": "plugins.types",
    "Sampler": "applying.sampler",
    "ScoreFunction": "plugins.types",
    "Spec": "domains",
    "Terms": "players",
    "TranslateError": "errors",
    "Translator": "applying.translator",
    "Unpaired": "domains",
    "UsageError": "errors",
    "apply": "applying.folder",
    "evaluate": "evaluating.evaluation",
    "fit": "training.run",
    "hookimpl": "plugins.hooks",
    "load": "applying.translator",
    "sample": "applying.samples",
}

__all__ = list(_MODULES)

if TYPE_CHECKING:
    from translate.applying.folder import apply as apply
    from translate.applying.sampler import Sampler as Sampler
    from translate.applying.samples import sample as sample
    from translate.applying.translator import Translator as Translator
    from translate.applying.translator import load as load
    from translate.domains import DomainSpec as DomainSpec
    from translate.domains import Images as Images
    from translate.domains import Labelled as Labelled
    from translate.domains import Pair as Pair
    from translate.domains import Paired as Paired
    from translate.domains import Spec as Spec
    from translate.domains import Unpaired as Unpaired
    from translate.errors import TranslateError as TranslateError
    from translate.errors import UsageError as UsageError
    from translate.evaluating.evaluation import evaluate as evaluate
    from translate.losses import LossName as LossName
    from translate.model import Model as Model
    from translate.model import ModelConfig as ModelConfig
    from translate.networks import NetworkSpec as NetworkSpec
    from translate.players import Adam as Adam
    from translate.players import Discriminators as Discriminators
    from translate.players import Generators as Generators
    from translate.players import LinearDecay as LinearDecay
    from translate.players import Move as Move
    from translate.players import Penalty as Penalty
    from translate.players import Player as Player
    from translate.players import Terms as Terms
    from translate.plugins.hooks import hookimpl as hookimpl
    from translate.plugins.types import AdversarialLoss as AdversarialLoss
    from translate.plugins.types import Dataset as Dataset
    from translate.plugins.types import Download as Download
    from translate.plugins.types import Header as Header
    from translate.plugins.types import Reader as Reader
    from translate.plugins.types import ScoreFunction as ScoreFunction
    from translate.training.config import FitConfig as FitConfig
    from translate.training.run import fit as fit


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'translate' has no attribute {name!r}")
    value = getattr(import_module(f"translate.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
