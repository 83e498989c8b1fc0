"""Every hook of `translate`. A plugin is a module with `@translate.hookimpl` functions that have the names of hooks.

An implementation may take any subset of a hook's arguments. A `register_…` hook gets a callback `register`. It checks
each registration at once, so a traceback shows the plugin's line. registry.py calls these hooks when what they register
is needed for the first time:

    register_models         to load a model by name: translate.model.find_model
    register_networks       to build a network by name: translate/networks.py; and for `translate models --networks`
    register_losses         to look up an adversarial loss by name: translate/losses.py; and for the same command
    register_datasets       to resolve a domain's name: translate/data/datasets.py
    register_augmentations  to build the transforms of --augment: translate/data/augmentation/
    register_readers        to find and decode image files: translate/data/files/
    register_commands       to list the commands, or to run one that is not built in: translate/cli/app.py

The `run_…` hooks are called by translate/training/run.py, on the first rank only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import pluggy

from translate.plugins.types import AdversarialLoss, Dataset, Reader, Role

hookspec = pluggy.HookspecMarker("translate")
hookimpl = pluggy.HookimplMarker("translate")


class RegisterNetwork(Protocol):
    """The type of the callback `register` of `register_networks`."""

    def __call__(
        self,
        name: str,
        factory: Callable[..., Any],
        *,
        role: Role,
    ) -> None: ...


# ------------------------------------------------------------------ what a plugin registers


@hookspec
def register_models(register: Callable[[type[Any]], None]) -> None:
    """Register model classes; each needs an entry point with its name in the group `translate.models`."""


@hookspec
def register_networks(register: RegisterNetwork) -> None:
    """Register networks that a user may name, as in `--generator "resnet(blocks=6)"`; types.py has the roles."""


@hookspec
def register_losses(register: Callable[[AdversarialLoss], None]) -> None:
    """Register adversarial losses that a user may name, as in `--adversarial hinge`."""


@hookspec
def register_datasets(register: Callable[[Dataset], None]) -> None:
    """Register data sets whose domains a user may name, as in `--a sans --b serif`."""


@hookspec
def register_augmentations(register: Callable[[str, Callable[..., Any]], None]) -> None:
    """Register augmentations that a user may name, as in `--augment "crop,flip,affine(degrees=5)"`.

    Each has a name and a function with annotated options, which are validated. It returns one transform of
    albumentations or kornia. The engine takes care of pairs, label maps and seeds.
    """


@hookspec
def register_readers(register: Callable[[Reader], None]) -> None:
    """Register readers of image files by their extensions; they are tried before the built-in ones."""


@hookspec
def register_commands(register: Callable[[str, Callable[..., Any]], None]) -> None:
    """Register commands: a name, and a function whose typed parameters typer turns into arguments and options."""


# ------------------------------------------------------------------ what a plugin observes, between steps


@hookspec
def run_started(run: Path, config: Mapping[str, Any]) -> None:
    """A training run starts or is resumed; `config` is the content of `run.toml`."""


@hookspec
def run_ticked(run: Path, metrics: Mapping[str, Any]) -> None:
    """Metrics were logged; `metrics` is the new line of `metrics.jsonl`."""


@hookspec
def run_saved(run: Path, checkpoint: Path, samples: Path) -> None:
    """A checkpoint folder and a picture with samples were written."""


@hookspec
def run_ended(run: Path, reason: Literal["done", "interrupted", "failed"]) -> None:
    """The run has ended: all steps are done, or it was interrupted (and can be resumed), or it failed with an error."""
