"""The model file: one .safetensors file with all that translating needs, tensors and a JSON manifest in its metadata.

The fifth link of a batch's journey. Before this, training keeps its state in checkpoints (../training/checkpoint.py)
and writes a model file beside them. Next, `apply` translates a folder of images with it (folder.py).

A model file may come from a stranger. It holds data and no code: the manifest names a model, and the code of the
installed plugin with this model is run. Formats that may hold code (pickle) are refused.
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
from translate.domains import Spec
from translate.errors import CheckpointError, PluginError, UsageError
from translate.formatting import first_few
from translate.model import Model, discriminator_networks, find_model, with_current_names
from translate.plugins import registry
from translate.version import DISTRIBUTION, __version__

FORMAT = 1
METADATA_KEY = "translate"
EXPORT = "model.safetensors"
PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"})


class Manifest(BaseModel):
    """The description of a model in its file.

    format: version of the file format; every version of translate reads its own format and all older ones.
    model, distribution, distribution_version: the model's name, and the package whose plugin offers it.
    config: the model's own options. spec: its domains (`Spec.to_json`).
    stride: both sides of the networks' inputs must be multiples of it. run: how the weights were trained (steps,
    images, precision).
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
    """The number that both sides of the model's images must be a multiple of: the least that suits all its networks."""
    strides = [getattr(network, "stride", 1) for player in model.players() for network in player.networks]
    return math.lcm(*(stride for stride in strides if type(stride) is int and stride > 0))


def write_model_file(
    path: str | Path, model: Model[Any], tensors: Mapping[str, Tensor], run: Mapping[str, Any]
) -> None:
    """Write a model file, whole or not at all: under a temporary name beside `path`, flushed to the disk, then renamed.

    tensors: the weights by their names in `model.state_dict()`, each storage once. Discriminators may be left out.
    run: steps, images, precision.
    Raises CheckpointError if it cannot be written, as on a full disk; an older file at `path` then stays as it was.
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
    # Not safetensors' save_file: it makes files that only their owner can read.
    write_atomically(Path(path), save(contiguous_on_cpu(tensors), {METADATA_KEY: manifest.model_dump_json()}))


def contiguous_on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors needs them, so that a file does not depend on the device and the memory format."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def find_model_file(model: str | Path) -> Path:
    """The path of the model file that a MODEL argument means: a file, or the one in a run folder.

    Raises CheckpointError if there is none, or if it is a pickle.
    """
    path = Path(model)
    if path.is_dir():
        if (path / EXPORT).is_file():
            return path / EXPORT
        if (path / "run.toml").is_file():
            raise CheckpointError(
                f"The run {path} has not exported a model yet: {EXPORT} is written with its first checkpoint."
            )
        raise CheckpointError(f"{path} is no run folder: it has neither {EXPORT} nor run.toml.")
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise CheckpointError(
            f"{path} is not read: {path.suffix} files are pickles, which can run any code when they are loaded. "
            "Expected a .safetensors model file or a run folder."
        )
    if not path.is_file():
        raise CheckpointError(f"There is no {path}. Expected a model file (.safetensors) or a run folder.")
    return path


def read_manifest(path: str | Path) -> Manifest:
    """Read the manifest of a model file, or of the one in a run folder. Raises CheckpointError."""
    path = find_model_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}.") from error
    if text is None:
        raise CheckpointError(
            f"{path} holds tensors, but was not written by translate: it has no {METADATA_KEY!r} manifest."
        )
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
    """Load the model of a model file, or of the one in a run folder, onto `device`.

    Discriminators that are not in the file have random weights.
    Raises CheckpointError for a file that is damaged or does not fit the plugin, PluginError if the plugin is missing.
    """
    path = find_model_file(path)
    manifest = read_manifest(path)
    model = _build(path, manifest)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    tensors = with_current_names(tensors, model)
    _check_fit(path, manifest, model, tensors)
    model.load_state_dict(tensors, strict=False)
    return model.to(device)


def _build(path: Path, manifest: Manifest) -> Model[Any]:
    """The model with random weights. The random generators stay as they were."""
    if manifest.model not in registry.model_names():
        raise PluginError(
            f"{path} needs the model {manifest.model!r}, which is not installed. {_how_to_install(manifest)}"
        )
    model_class = find_model(manifest.model)
    try:
        options = model_class.Config.upgrade(dict(manifest.config), manifest.distribution_version)
        config = model_class.Config.model_validate(options)
        spec = Spec.from_json(manifest.spec)
        with torch.random.fork_rng(devices=[]):
            return model_class(config, spec)
    except (ValidationError, UsageError) as error:
        raise CheckpointError(f"{path} cannot be built: {error} {_versions(manifest)}") from error


def _how_to_install(manifest: Manifest) -> str:
    # The file may come from a stranger: its text becomes part of a command line only if it is a distribution's name.
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", manifest.distribution):
        return "The file does not say which distribution offers it."
    if "TRANSLATE_PLUGINS" in os.environ:
        return f"Add {manifest.distribution} to TRANSLATE_PLUGINS, or install it: pip install {manifest.distribution}"
    return f"Install it: pip install {manifest.distribution}"


def _versions(manifest: Manifest) -> str:
    """The versions that wrote and that read the file, whose difference is the usual cause of a mismatch."""
    distribution, version = registry.distribution_of(manifest.model)
    return (
        f"(Written by {manifest.distribution or 'an unknown distribution'} {manifest.distribution_version} "
        f"with translate {manifest.translate_version}; read by {distribution} {version} with translate {__version__}.)"
    )


def _check_fit(path: Path, manifest: Manifest, model: Model[Any], tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless the file has every tensor that translating needs, and no others."""
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
    optional = tuple(_discriminator_prefixes(model))
    missing = [name for name, tensor in wanted.items() if id(tensor) not in present and not name.startswith(optional)]
    if missing:
        raise CheckpointError(f"{path} lacks {first_few(missing)}. {_versions(manifest)}")


def _discriminator_prefixes(model: Model[Any]) -> Iterator[str]:
    """The beginnings of the discriminators' names in the state dict."""
    discriminators = set(map(id, discriminator_networks(model)))
    for name, module in model.named_modules(remove_duplicate=False):
        if id(module) in discriminators:
            yield f"{name}."
