"""The model file: one .safetensors that is enough to translate. Tensors, and a JSON manifest in the file's metadata.

A model file may come from a stranger. It holds data and no code: the manifest names a model, and only an installed
plugin of that name is ever run; formats that may hold code (pickle) are refused.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from translate.atomic_files import write_atomically
from translate.data.domains import Spec
from translate.errors import CheckpointError, PluginError, UsageError
from translate.formatting import first_few
from translate.model import Model, discriminator_networks, find_model, with_current_names
from translate.plugins import registry
from translate.version import DISTRIBUTION, __version__

FORMAT = 1
KEY = "translate"
EXPORT = "model.safetensors"
MAY_HOLD_CODE = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"})


class Manifest(BaseModel):
    """What a model file says about itself.

    format: of the file; a reader knows its own and all older ones.
    model, distribution, distribution_version: the model's name, and the package whose plugin offers it.
    config: the model's own options. spec: its domains (`Spec.to_json`).
    stride: sides of what the networks get are multiples of it. run: how the weights came to be (steps, images, ...).
    """

    model_config = ConfigDict(frozen=True)

    format: int
    model: str
    distribution: str
    distribution_version: str
    translate_version: str
    config: dict[str, Any]
    spec: dict[str, Any]
    stride: int
    run: dict[str, Any]


def stride_of(model: Model[Any]) -> int:
    """What the sides of the model's images must be multiples of, to suit the networks of all its players."""
    strides = [getattr(network, "stride", 1) for player in model.players() for network in player.networks]
    return math.lcm(*(stride for stride in strides if type(stride) is int and stride > 0))


def write_model_file(
    path: str | Path, model: Model[Any], tensors: Mapping[str, Tensor], run: Mapping[str, Any]
) -> None:
    """Write the file whole or not at all: under a temporary name beside `path`, flushed to the disk, then renamed.

    tensors: the weights to keep, by their names in `model.state_dict()`, each storage once; networks that only train
    (discriminators) may be left out. run: steps, images, precision.
    Raises CheckpointError if it cannot be written, as on a full disk; an older file at `path` is then as it was.
    """
    distribution, version = registry.distribution_of(model.name)
    manifest = Manifest(
        format=FORMAT,
        model=model.name,
        distribution=distribution,
        distribution_version=version,
        translate_version=__version__,
        config=model.config.model_dump(mode="json"),
        spec=model.spec.to_json(),
        stride=stride_of(model),
        run=dict(run),
    )
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Not safetensors' save_file: it makes files that only their owner can read.
    write_atomically(Path(path), save(plain, {KEY: manifest.model_dump_json()}))


def locate(model: str | Path) -> Path:
    """The model file that a MODEL argument means: a file, or the export in a run folder. Raises CheckpointError."""
    path = Path(model)
    if path.is_dir():
        if (path / EXPORT).is_file():
            return path / EXPORT
        if (path / "run.toml").is_file():
            raise CheckpointError(
                f"The run {path} has not exported a model yet: {EXPORT} is written with its first checkpoint."
            )
        raise CheckpointError(f"{path} is no run folder: it has neither {EXPORT} nor run.toml.")
    if path.suffix.lower() in MAY_HOLD_CODE:
        raise CheckpointError(
            f"{path} is not read: {path.suffix} files are pickles, which can run any code when they are loaded. "
            "Expected a .safetensors model file or a run folder."
        )
    if not path.is_file():
        raise CheckpointError(f"There is no {path}. Expected a model file (.safetensors) or a run folder.")
    return path


def read_manifest(path: str | Path) -> Manifest:
    """What a model file (or a run folder's export) says about itself. Raises CheckpointError."""
    path = locate(path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}.") from error
    if text is None:
        raise CheckpointError(f"{path} holds tensors, but was not written by translate: it has no {KEY!r} manifest.")
    try:
        values = json.loads(text)
        if isinstance(values, dict) and isinstance(values.get("format"), int) and values["format"] > FORMAT:
            raise CheckpointError(
                f"{path} has format {values['format']}, and translate {__version__} reads up to {FORMAT}. "
                f"Upgrade: pip install -U {DISTRIBUTION}"
            )
        return Manifest.model_validate(values)
    except ValueError as error:  # no JSON, or fields that are missing or of the wrong type
        raise CheckpointError(f"{path} has a damaged manifest: {error}.") from error


def load_model(path: str | Path, device: torch.device) -> Model[Any]:
    """Build the model that a file (or a run folder's export) names, with its weights, on `device`.

    Networks that only train and are not in the file keep their random weights.
    Raises CheckpointError for a file that is damaged or does not fit the plugin, PluginError if the plugin is missing.
    """
    path = locate(path)
    manifest = read_manifest(path)
    model = _build(path, manifest)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    tensors = with_current_names(tensors, model)
    _check_fit(path, manifest, model, tensors)
    model.load_state_dict(tensors, strict=False)
    return model.to(device)


def _build(path: Path, manifest: Manifest) -> Model[Any]:
    """The model with random weights; the caller's random generators stay as they are."""
    if manifest.model not in registry.model_names():
        raise PluginError(f"{path} needs the model {manifest.model!r}, which is not installed. {_remedy(manifest)}")
    kind = find_model(manifest.model)
    try:
        config = kind.Config.model_validate(kind.Config.upgrade(dict(manifest.config), manifest.distribution_version))
        spec = Spec.from_json(manifest.spec)
        with torch.random.fork_rng(devices=[]):
            return kind(config, spec)
    except (ValidationError, UsageError) as error:
        raise CheckpointError(f"{path} cannot be built: {error} {_versions(manifest)}") from error


def _remedy(manifest: Manifest) -> str:
    # A name from a stranger's file goes into a command line only if it can be a distribution's name.
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", manifest.distribution):
        return "The file does not say which distribution offers it."
    if "TRANSLATE_PLUGINS" in os.environ:
        return f"Add {manifest.distribution} to TRANSLATE_PLUGINS, or install it: pip install {manifest.distribution}"
    return f"Install it: pip install {manifest.distribution}"


def _versions(manifest: Manifest) -> str:
    """Who wrote the file and who reads it: what a mismatch mostly comes from."""
    distribution, version = registry.distribution_of(manifest.model)
    return (
        f"(Written by {manifest.distribution or 'an unknown distribution'} {manifest.distribution_version} "
        f"with translate {manifest.translate_version}; read by {distribution} {version} with translate {__version__}.)"
    )


def _check_fit(path: Path, manifest: Manifest, model: Model[Any], tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless the file has every tensor that translating needs, and none that the model lacks."""
    wanted = model.state_dict(keep_vars=True)
    unexpected = [name for name in tensors if name not in wanted]
    if unexpected:
        raise CheckpointError(f"{path} holds {first_few(unexpected)}, unknown to the model. {_versions(manifest)}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(
                f"{path} holds {name} of shape {tuple(tensor.shape)}, but the model has {tuple(wanted[name].shape)}. "
                f"{_versions(manifest)}"
            )
    present = {id(wanted[name]) for name in tensors}  # a tied tensor is stored once, under one of its names
    training_only = tuple(_training_only(model))
    missing = [
        name for name, tensor in wanted.items() if id(tensor) not in present and not name.startswith(training_only)
    ]
    if missing:
        raise CheckpointError(f"{path} lacks {first_few(missing)}. {_versions(manifest)}")


def _training_only(model: Model[Any]) -> Iterator[str]:
    """Prefixes, in the state, of the networks that discriminators own."""
    owned = set(map(id, discriminator_networks(model)))
    for name, module in model.named_modules(remove_duplicate=False):
        if id(module) in owned:
            yield f"{name}."
