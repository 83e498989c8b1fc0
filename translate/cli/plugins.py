"""`translate plugins`: lists the distributions with plugins, and the plugins that do not work."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

from translate.cli.output import AsJson, print_json, print_table
from translate.plugins import registry


def plugins(json: AsJson = False) -> None:
    """List the distributions that offer plugins, with their entry points and hooks; models are not imported."""
    registry.load_all()
    duplicates, failures = _duplicates(), registry.failures()
    if json:
        print_json({"distributions": distributions(), "duplicates": duplicates, "failures": failures})
        return
    rows = [(each["name"], each["version"], ", ".join(each["models"]), _described(each)) for each in distributions()]
    print_table(("distribution", "version", "models", "plugins: hooks"), rows)
    for name, offering in duplicates.items():
        print(f"\nduplicate: {' and '.join(offering)} both offer the model {name!r}; uninstall one of them")
    for name, reason in failures.items():
        print(f"\nfailed: {name}: {reason}")


def distributions() -> list[dict[str, Any]]:
    """Distributions by name, each with its models, and with its other plugins and the hooks that they implement."""
    rows: dict[str, dict[str, Any]] = {}

    def row(entry: EntryPoint) -> dict[str, Any]:
        name = registry.distribution_name(entry)
        version = entry.dist.version if entry.dist else ""
        return rows.setdefault(name, {"name": name, "version": version, "models": [], "plugins": {}})

    for entries in registry.find_entry_points(registry.MODEL_GROUP).values():
        for entry in entries:
            row(entry)["models"].append(entry.name)
    for entries in registry.find_entry_points(registry.PLUGIN_GROUP).values():
        for entry in entries:
            row(entry)["plugins"][entry.name] = registry.hooks_of(entry)
    return [rows[name] for name in sorted(rows)]


def _described(row: dict[str, Any]) -> str:
    return "; ".join(f"{name}: {', '.join(hooks) or '-'}" for name, hooks in row["plugins"].items())


def _duplicates() -> dict[str, list[str]]:
    models = registry.find_entry_points(registry.MODEL_GROUP)
    return {
        name: [registry.distribution_name(entry) for entry in same] for name, same in models.items() if len(same) > 1
    }
