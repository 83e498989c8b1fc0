"""`translate plugins`: which distributions offer plugins, and which of those do not work."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

from translate.cli.output import AsJson, print_json, print_table
from translate.plugins import registry as installed


def plugins(json: AsJson = False) -> None:
    """List the distributions that offer plugins, with their entry points and hooks; models are not imported."""
    installed.load_all()
    duplicates, failures = _duplicates(), installed.failures()
    if json:
        print_json({"distributions": distributions(), "duplicates": duplicates, "failures": failures})
        return
    rows = [(each["name"], each["version"], ", ".join(each["models"]), _described(each)) for each in distributions()]
    print_table(("distribution", "version", "models", "plugins: hooks"), rows)
    for name, owners in duplicates.items():
        print(f"\nduplicate: {' and '.join(owners)} both offer the model {name!r}; uninstall one of them")
    for name, reason in failures.items():
        print(f"\nfailed: {name}: {reason}")


def distributions() -> list[dict[str, Any]]:
    """Distributions by name, each with its models and, of every other plugin, the hooks that it implements."""
    rows: dict[str, dict[str, Any]] = {}

    def row(entry: EntryPoint) -> dict[str, Any]:
        name = installed.owner_of(entry)
        version = entry.dist.version if entry.dist else ""
        return rows.setdefault(name, {"name": name, "version": version, "models": [], "plugins": {}})

    for entries in installed.find(installed.MODELS).values():
        for entry in entries:
            row(entry)["models"].append(entry.name)
    for entries in installed.find(installed.OTHERS).values():
        for entry in entries:
            row(entry)["plugins"][entry.name] = installed.hooks_of(entry)
    return [rows[name] for name in sorted(rows)]


def _described(row: dict[str, Any]) -> str:
    return "; ".join(f"{name}: {', '.join(hooks) or '-'}" for name, hooks in row["plugins"].items())


def _duplicates() -> dict[str, list[str]]:
    models = installed.find(installed.MODELS)
    return {name: [installed.owner_of(entry) for entry in same] for name, same in models.items() if len(same) > 1}
