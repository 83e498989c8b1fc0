"""Finds plugins, loads them one by one, and collects what they offer.

There are two groups of entry points. `translate.models` has one entry point for each model, with the model's name. Its
module is imported only when that model is used; names, near matches and duplicates come from the metadata. `translate`
has all other plugins, which are all loaded by the commands that need any of them. A plugin that does not load is left
out with a warning.

Two environment variables change this:
    TRANSLATE_PLUGINS  load only the distributions in this comma-separated list (none if it is empty)
    TRANSLATE_TRACE    print every hook call to stderr with its arguments
"""

from __future__ import annotations

import os
import reprlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

import pluggy

from translate.errors import PluginError, UsageError, did_you_mean
from translate.plugins import hooks
from translate.plugins.types import ROLES, AdversarialLoss, Dataset, Network, Reader, Role
from translate.version import DISTRIBUTION

T = TypeVar("T")

MODEL_GROUP = "translate.models"
PLUGIN_GROUP = "translate"

_loading = threading.RLock()  # plugins may be loaded by a thread that decodes images and needs the readers
_failures: dict[str, str] = {}  # plugin -> why it did not load, or what one of its hooks raised
_providers: dict[str, str] = {}  # module -> "distribution (module)", for messages


class Registry(Mapping[str, T], Generic[T]):
    """What plugins register of one kind, by name. An unknown name raises UsageError with near matches.

    kind: a noun for messages, such as "data set".
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._providers: dict[str, str] = {}

    def add(self, name: str, entry: T, provider: str) -> None:
        """Register an entry. Raises PluginError if another one with this name is registered."""
        first = self._providers.setdefault(name, provider)
        if name in self._entries and self._entries[name] is not entry:
            both = " and ".join(sorted((first, provider)))
            raise PluginError(f"{both} both offer the {self.kind} {name!r}; uninstall one of them.")
        self._entries[name] = entry

    def provider(self, name: str) -> str:
        """The plugin that registered `name`, as "distribution (module)"."""
        return self._providers[name]

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise UsageError(f"There is no {self.kind} {name!r}. {did_you_mean(name, self._entries)}")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


@cache
def manager() -> pluggy.PluginManager:
    """The plugin manager of this process."""
    plugins = pluggy.PluginManager("translate")
    plugins.add_hookspecs(hooks)
    if "TRANSLATE_TRACE" in os.environ:
        plugins.add_hookcall_monitoring(_trace_before, _trace_after)
    return plugins


def _trace_before(hook_name: str, hook_impls: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    implementers = ", ".join(impl.plugin_name for impl in hook_impls) or "nobody"
    arguments = ", ".join(f"{name}={reprlib.repr(value)}" for name, value in kwargs.items())
    print(f"hook {hook_name}({arguments}) -> {implementers}", file=sys.stderr)


def _trace_after(outcome: Any, hook_name: str, hook_impls: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    if outcome.exception is not None:
        print(f"hook {hook_name} raised {outcome.exception!r}", file=sys.stderr)


def distribution_name(entry: EntryPoint) -> str:
    """The distribution that an entry point belongs to."""
    return entry.dist.name if entry.dist else "?"


def find_entry_points(group: str) -> dict[str, list[EntryPoint]]:
    """The entry points of a group by name, of the distributions that TRANSLATE_PLUGINS allows.

    Several entry points of one name belong to different distributions.
    """
    variable = os.environ.get("TRANSLATE_PLUGINS")
    allowed = None if variable is None else {name.strip() for name in variable.split(",")}
    found: dict[str, dict[str, EntryPoint]] = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, distribution_name(entry))):
        distribution = distribution_name(entry)
        if allowed is None or distribution in allowed:
            found.setdefault(entry.name, {}).setdefault(distribution, entry)
    return {name: list(entries.values()) for name, entries in found.items()}


def _load(entry: EntryPoint) -> str:
    """Import and register one plugin; returns its name. Raises PluginError, and whatever its import raises."""
    plugins = manager()
    name = entry.value
    if plugins.get_plugin(name) is not None:
        return name
    plugin = entry.load()
    _providers[name] = f"{distribution_name(entry)} ({name})"
    try:
        plugins.register(plugin, name=name)
        plugins.check_pending()
    except pluggy.PluginValidationError as error:
        plugins.unregister(name=name)
        raise PluginError(f"{' '.join(str(error).split())}. Known hooks: {', '.join(_hook_names())}.") from error
    return name


def hooks_of(entry: EntryPoint) -> list[str]:
    """The hooks that a plugin implements; none if it is not loaded."""
    plugin = manager().get_plugin(entry.value)
    return sorted(caller.name for caller in manager().get_hookcallers(plugin) or ()) if plugin else []


def _hook_names() -> list[str]:
    return sorted(name for name in vars(hooks) if hasattr(getattr(hooks, name), "translate_spec"))


@cache
def load_all() -> None:
    """Load all plugins of the group `translate`. For each one that does not load, a warning is printed."""
    for name, entries in find_entry_points(PLUGIN_GROUP).items():
        for entry in entries:
            try:
                _load(entry)
            except (Exception, SystemExit) as error:  # a plugin's module may raise anything
                _warn(f"{name} ({distribution_name(entry)})", error)


def _warn(plugin: str, error: BaseException) -> None:
    """Record the first failure of a plugin, and print it as one line."""
    reason = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
    if _failures.setdefault(plugin, reason) is reason:
        print(f"warning: the plugin {plugin} was left out: {reason}", file=sys.stderr)


def failures() -> Mapping[str, str]:
    """The plugins and hooks that failed, with the reasons."""
    return dict(_failures)


def _hook_of(plugin: Any, hook: str) -> Callable[..., Any]:
    """A function that calls a hook of one plugin only."""
    others = [other for other in manager().get_plugins() if other is not plugin]
    return manager().subset_hook_caller(hook, others)


def _implementations(hook: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The implementations of a hook, in pluggy's order: "distribution (module)", and a function that calls it."""
    for implementation in reversed(getattr(manager().hook, hook).get_hookimpls()):
        provider = _providers.get(implementation.plugin_name, implementation.plugin_name)
        yield provider, _hook_of(implementation.plugin, hook)


def _collect(kind: str, hook: str, make_register: Callable[[Registry[T], str], Callable[..., None]]) -> Registry[T]:
    """What all plugins register through a hook. For a plugin whose hook fails, a warning is printed.

    make_register: (registry, provider) -> the callback `register` that the provider's hook gets. A PluginError of the
    callback is raised.
    """
    with _loading:
        load_all()
    registry: Registry[T] = Registry(kind)
    for provider, call in _implementations(hook):
        try:
            call(register=make_register(registry, provider))
        except PluginError:
            raise
        except Exception as error:  # a plugin's hook may raise anything
            _warn(f"{provider}, {hook}", error)
    return registry


def observe(hook: str, **arguments: Any) -> None:
    """Call a hook of the plugins that observe a run. For one that fails, a warning is printed and the run goes on."""
    load_all()
    for provider, call in _implementations(hook):
        try:
            call(**arguments)
        except Exception as error:  # a plugin's hook may raise anything
            _warn(f"{provider}, {hook}", error)


def _register_under_name(registry: Registry[T], provider: str) -> Callable[[str, T], None]:
    """The callback `register(name, entry)`."""
    return lambda name, entry: registry.add(name, entry, provider)


def _register_entry(registry: Registry[Any], provider: str) -> Callable[[Any], None]:
    """The callback `register(entry)`, for entries with an attribute `name`."""
    return lambda entry: registry.add(entry.name, entry, provider)


@cache
def networks(role: Role) -> Registry[Network]:
    """Registered networks of one role."""
    wanted = role

    def make_register(registry: Registry[Network], provider: str) -> Callable[..., None]:
        def register(name: str, factory: Callable[..., Any], *, role: Role) -> None:
            if role not in ROLES:
                known = ", ".join(ROLES)
                raise PluginError(f"{provider} registers {name!r} with role {role!r}; expected one of {known}.")
            if role == wanted:
                registry.add(name, Network(name, factory), provider)

        return register

    return _collect(ROLES[role], "register_networks", make_register)


@cache
def losses() -> Registry[AdversarialLoss]:
    """Registered adversarial losses."""
    return _collect("adversarial loss", "register_losses", _register_entry)


@cache
def datasets() -> Registry[Dataset]:
    """Registered data sets."""
    return _collect("data set", "register_datasets", _register_entry)


@cache
def augmentations() -> Registry[Callable[..., Any]]:
    """Registered augmentations: functions that return a transform."""
    return _collect("augmentation", "register_augmentations", _register_under_name)


@cache
def readers() -> Registry[Reader]:
    """Registered readers of image files."""
    return _collect("reader", "register_readers", _register_entry)


@cache
def commands() -> Registry[Callable[..., Any]]:
    """Registered commands: their functions."""
    return _collect("command", "register_commands", _register_under_name)


def model_names() -> dict[str, str]:
    """Installed models and their distributions, from the metadata; nothing is imported."""
    return {
        name: " and ".join(map(distribution_name, entries)) for name, entries in find_entry_points(MODEL_GROUP).items()
    }


@cache
def model(name: str) -> type[Any]:
    """Import and return one model class.

    Raises UsageError for an unknown name, PluginError if two distributions offer it or its plugin does not load.
    """
    found = find_entry_points(MODEL_GROUP)
    if not found and "TRANSLATE_PLUGINS" not in os.environ:
        raise PluginError(
            f"No models are installed: the package runs from a checkout that is not installed. "
            f"Run `pip install -e .` there, or `pip install {DISTRIBUTION}`."
        )
    if name not in found:
        raise UsageError(f"There is no model {name!r}. {did_you_mean(name, found)}")
    if len(found[name]) > 1:
        both = " and ".join(map(distribution_name, found[name]))
        raise PluginError(f"{both} both offer the model {name!r}; uninstall one of them.")
    (entry,) = found[name]
    models: dict[str, type[Any]] = {}

    def register(model: type[Any]) -> None:
        if not isinstance(getattr(model, "name", None), str):
            raise PluginError(f"The model class {model.__name__} needs a class attribute `name` (str).")
        models.setdefault(model.name, model)

    try:
        plugin = manager().get_plugin(_load(entry))
        _hook_of(plugin, "register_models")(register=register)
    except PluginError:
        raise
    except Exception as error:  # a plugin may raise anything
        raise PluginError(
            f"The model {name!r} of {distribution_name(entry)} does not load: {type(error).__name__}: {error}"
        ) from error
    if name not in models:
        raise PluginError(
            f"{distribution_name(entry)} has an entry point {name!r}, but {entry.value} registers "
            f"{', '.join(map(repr, models)) or 'no model'}."
        )
    return models[name]


def distribution_of(model_name: str) -> tuple[str, str]:
    """Name and version of the distribution that offers a model, as its model files record them."""
    for entry in find_entry_points(MODEL_GROUP).get(model_name, []):
        if entry.dist:
            return entry.dist.name, entry.dist.version
    return "", ""
