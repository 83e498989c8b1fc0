"""Every hook of `translate`. A plugin is a module whose functions carry `@translate.hookimpl` and a name from here.

An implementation may take any subset of a hook's arguments. Registration is by callback: each `register` checks what it
is given at once, with the plugin's own frame on the stack.
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
    """The `register` of `register_networks`."""

    def __call__(
        self,
        name: str,
        factory: Callable[..., Any],
        *,
        role: Role,
    ) -> None: ...


# ------------------------------------------------------------------ what a plugin offers


@hookspec
def register_models(register: Callable[[type[Any]], None]) -> None:
    """Offer model classes; each needs an entry point of its own name in the group `translate.models`."""


@hookspec
def register_networks(register: RegisterNetwork) -> None:
    """Offer networks that a user may name, as in `--generator "resnet(blocks=6)"`; networks.py has the roles."""


@hookspec
def register_losses(register: Callable[[AdversarialLoss], None]) -> None:
    """Offer adversarial losses that a user may name, as in `--adversarial hinge`."""


@hookspec
def register_datasets(register: Callable[[Dataset], None]) -> None:
    """Offer data sets whose domains a user may name, as in `--a sans --b serif`."""


@hookspec
def register_augmentations(register: Callable[[str, Callable[..., Any]], None]) -> None:
    """Offer augmentations that a user may name, as in `--augment "crop,flip,affine(degrees=5)"`.

    Each is a name and a factory: its annotated options are validated, and it returns one transform of albumentations or
    kornia. The engine sees to pairs, label images and seeds.
    """


@hookspec
def register_readers(register: Callable[[Reader], None]) -> None:
    """Offer readers of image files by their extensions; they are asked before the built-in ones."""


@hookspec
def register_commands(register: Callable[[str, Callable[..., Any]], None]) -> None:
    """Offer a command: its name, and a function whose typed parameters typer turns into arguments and options."""


# ------------------------------------------------------------------ what a plugin may watch: at ticks, never in a step


@hookspec
def run_started(run: Path, config: Mapping[str, Any]) -> None:
    """A training run begins or goes on; `config` is what `run.toml` holds."""


@hookspec
def run_ticked(run: Path, metrics: Mapping[str, Any]) -> None:
    """A tick: `metrics` is the line that was just written to `metrics.jsonl`."""


@hookspec
def run_saved(run: Path, checkpoint: Path, samples: Path) -> None:
    """A checkpoint folder and a grid of sample translations were written."""


@hookspec
def run_ended(run: Path, reason: Literal["done", "interrupted", "failed"]) -> None:
    """The run is over: all steps are done, or it was stopped (and can be resumed), or it failed with an error."""
