"""`translate doctor`: what is installed, what the machine can do, and what is wrong."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer

import translate
from translate import cli, plugins
from translate.cli.plugins import distributions
from translate.cli.show import AsJson, as_json, table

DEPENDENCIES = ("torch", "torchvision", "numpy", "pillow", "safetensors", "pluggy", "pydantic", "typer", "rich")


def doctor(json: AsJson = False) -> None:
    """Show versions, devices and plugins, and check the installation.

    Exit status 1 if something has to be mended.
    """
    plugins.load_all()
    problems = _problems()
    report = {
        "versions": versions(),
        "devices": devices(),
        "plugins": distributions(),
        "failures": plugins.failures(),
        "problems": problems,
    }
    if json:
        as_json(report)
    else:
        _print(report)
    if problems:
        raise typer.Exit(1)


def versions() -> dict[str, str | None]:
    """Of Python, this package, and what it depends on; None for what is not installed."""
    return {
        "python": platform.python_version(),
        "translate": translate.__version__,
        **{name: _version(name) for name in DEPENDENCIES},
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def devices() -> list[dict[str, Any]]:
    """What the machine computes on, the CPU first."""
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


def _problems() -> list[str]:
    """What is wrong with the installation, each with what to do."""
    problems = []
    if others := cli.rivals():
        owners = " and ".join(others)
        problems.append(f"{owners} also install a module `translate`, which overwrites this one. {cli.remedy(others)}")
    if _version(cli.DISTRIBUTION) is None:
        problems.append(
            "This is a checkout that is not installed, so that its plugins are not found. Run `pip install -e .` there."
        )
    return problems


def _print(report: dict[str, Any]) -> None:
    table(("package", "version"), [(name, found or "not installed") for name, found in report["versions"].items()])
    print()
    facts = [
        (each["device"], each["name"], ", ".join(f"{key} {value}" for key, value in list(each.items())[2:]))
        for each in report["devices"]
    ]
    table(("device", "name", "facts"), facts)
    print()
    for each in report["plugins"]:
        names = ", ".join([*each["models"], *each["plugins"]])
        print(f"plugins of {each['name']} {each['version']}: {names}")
    for name, reason in report["failures"].items():
        print(f"failed plugin: {name}: {reason}")
    print("\n".join(f"problem: {problem}" for problem in report["problems"]) or "no problem found")
