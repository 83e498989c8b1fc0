"""`translate models`: lists models, or with `--networks` the networks and losses that options of models may name."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from translate.cli.output import AsJson, first_line, print_json, print_table
from translate.errors import PluginError
from translate.plugins import registry

if TYPE_CHECKING:
    from translate.plugins.types import Network, Role

CHANNELS: dict[Role, dict[str, int]] = {
    "generator": {"in_channels": 3, "out_channels": 3},
    "discriminator": {"in_channels": 3},
    "synthesis": {"in_channels": 128, "out_channels": 3},
    "features": {},
}
"""Arguments of the networks of each role, with which they are built to count their parameters."""


def models(
    networks: Annotated[bool, typer.Option("--networks", help="List networks and losses instead.")] = False,
    json: AsJson = False,
) -> None:
    """List the installed models, or the networks and adversarial losses that their options may name."""
    if networks:
        _print_networks(json)
        return
    found = [_model(name, distribution) for name, distribution in registry.model_names().items()]
    if json:
        print_json(found)
    elif found:
        rows = [
            (each["name"], each["distribution"], each["data"] or "", each["error"] or each["about"]) for each in found
        ]
        print_table(("model", "distribution", "data", "about"), rows)
    else:
        registry.model("")  # raises an error that says why there is none


def _model(name: str, distribution: str) -> dict[str, Any]:
    """One row of the list. For a model that does not load, it holds the error."""
    row: dict[str, Any] = {"name": name, "distribution": distribution, "data": None, "about": "", "error": None}
    from translate.model import find_model

    try:
        model = find_model(name)
    except PluginError as error:
        return row | {"error": f"broken: {error}"}
    data = f"{type(model.data).__name__.lower()} {', '.join(model.data.names)}"
    return row | {"data": data, "about": first_line(model.__doc__ or sys.modules[model.__module__].__doc__)}


def _print_networks(json: bool) -> None:
    networks = {
        role: [_network(each, role) for _, each in sorted(registry.networks(role).items())] for role in CHANNELS
    }
    losses = [{"name": name, "about": loss.about} for name, loss in sorted(registry.losses().items())]
    if json:
        print_json(networks | {"losses": losses})
        return
    from translate.plugins.types import ROLES

    for role in CHANNELS:
        rows = [_network_cells(each) for each in networks[role]]
        print_table((ROLES[role], "parameters", "stride", "options", "about"), rows)
        print()
    print_table(("adversarial loss", "about"), [(loss["name"], loss["about"]) for loss in losses])


def _network(network: Network, role: Role) -> dict[str, Any]:
    """A network's options with their defaults, and its parameters and stride for 3 channels at size 256."""
    import torch

    options = {
        name: "(required)" if option.default is option.empty else option.default
        for name, option in network.options.items()
    }
    row: dict[str, Any] = {
        "name": network.name,
        "options": options,
        "about": first_line(inspect.getdoc(network.factory)),
    }
    try:
        with torch.device("meta"):  # no memory is allocated
            module = network.build({}, size=256, **CHANNELS[role])
    except Exception as error:  # a plugin's factory may raise anything
        return row | {"parameters": None, "stride": None, "error": f"{type(error).__name__}: {error}"}
    parameters = sum(each.numel() for each in module.parameters())
    stride = getattr(module, "stride", 1)
    return row | {"parameters": parameters, "stride": stride if isinstance(stride, int) else 1, "error": None}


def _network_cells(row: dict[str, Any]) -> tuple[str, ...]:
    options = ", ".join(f"{name}={value!r}" for name, value in row["options"].items())
    if row["error"]:
        return row["name"], "", "", options, row["error"]
    return row["name"], f"{row['parameters']:,}", str(row["stride"]), options, row["about"]
