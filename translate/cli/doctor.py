"""`translate doctor`: shows versions, devices and plugins, and finds problems of the installation."""

from __future__ import annotations

from typing import Any

import typer

from translate.cli.machine import devices, installed_version, versions
from translate.cli.name_clash import DISTRIBUTION, conflicting_distributions, remedy
from translate.cli.output import AsJson, print_json, print_table
from translate.cli.plugins import distributions
from translate.plugins import registry


def doctor(json: AsJson = False) -> None:
    """Show versions, devices and plugins, and check the installation.

    The exit status is 1 if there is a problem.
    """
    registry.load_all()
    problems = _problems()
    report = {
        "versions": versions(),
        "devices": devices(),
        "plugins": distributions(),
        "failures": registry.failures(),
        "problems": problems,
    }
    if json:
        print_json(report)
    else:
        _print(report)
    if problems:
        raise typer.Exit(1)


def _problems() -> list[str]:
    """The problems of the installation, each with what to do."""
    problems = []
    if others := conflicting_distributions():
        owners = " and ".join(others)
        problems.append(f"{owners} also install a module `translate`, which overwrites this one. {remedy(others)}")
    if installed_version(DISTRIBUTION) is None:
        problems.append(
            "This is a checkout that is not installed, so that its plugins are not found. Run `pip install -e .` there."
        )
    return problems


def _print(report: dict[str, Any]) -> None:
    print_table(
        ("package", "version"), [(name, found or "not installed") for name, found in report["versions"].items()]
    )
    print()
    facts = [
        (each["device"], each["name"], ", ".join(f"{key} {value}" for key, value in list(each.items())[2:]))
        for each in report["devices"]
    ]
    print_table(("device", "name", "facts"), facts)
    print()
    for each in report["plugins"]:
        names = ", ".join([*each["models"], *each["plugins"]])
        print(f"plugins of {each['name']} {each['version']}: {names}")
    for name, reason in report["failures"].items():
        print(f"failed plugin: {name}: {reason}")
    print("\n".join(f"problem: {problem}" for problem in report["problems"]) or "no problem found")
