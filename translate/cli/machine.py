"""The versions of the software and the devices of this machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from translate.version import __version__

DEPENDENCIES = ("torch", "torchvision", "numpy", "pillow", "safetensors", "pluggy", "pydantic", "typer", "rich")


def versions() -> dict[str, str | None]:
    """The versions of Python, this package and its dependencies; None for a dependency that is not installed."""
    return {
        "python": platform.python_version(),
        "translate": __version__,
        **{name: installed_version(name) for name in DEPENDENCIES},
    }


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution; None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def devices() -> list[dict[str, Any]]:
    """The devices that torch can use, the CPU first."""
    import torch

    from translate.device import cpu_name, fastest_precision

    cpu = torch.device("cpu")
    found: list[dict[str, Any]] = [
        {
            "device": "cpu",
            "name": cpu_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "precision": fastest_precision(cpu),
        }
    ]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        best = fastest_precision(torch.device("cuda", index))
        memory = round(properties.total_memory / 2**30, 1)
        found.append({"device": f"cuda:{index}", "name": properties.name, "memory_gib": memory, "precision": best})
    if torch.backends.mps.is_available():
        best = fastest_precision(torch.device("mps"))
        found.append({"device": "mps", "name": platform.processor(), "precision": best})
    return found
