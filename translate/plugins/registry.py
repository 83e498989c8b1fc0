"""Finds plugins, loads them one by one, lists and traces them.

Two entry-point groups. `translate.models` has one entry point a model, named like the model, whose module is imported
only when that model is used: names, near matches and duplicates come from the metadata. `translate` has everything
else, and is loaded whole by the commands that need it; a plugin that fails to load costs one warning, not the command.

    TRANSLATE_PLUGINS  unset: all; otherwise only the distributions in this comma-separated list (empty: none)
    TRANSLATE_TRACE    set: every hook call is printed to stderr with its arguments
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

MODELS = "translate.models"
OTHERS = "translate"

_loading = threading.RLock()  # threads that decode images may be the first to ask for readers
_failures: dict[str, str] = {}  # plugin -> why it did not load, or what one of its hooks raised
_origins: dict[str, str] = {}  # module -> "distribution (module)", to say who offers what


class Registry(Mapping[str, T], Generic[T]):
    """Things that plugins offer, by name, in the order in which they are asked for.

    An unknown name is an error with near matches; a second owner of a name is refused.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._owners: dict[str, str] = {}

    def add(self, name: str, entry: T, owner: str) -> None:
        """Raise PluginError if another plugin already offers `name`."""
        first = self._owners.setdefault(name, owner)
        if name in self._entries and self._entries[name] is not entry:
            both = " and ".join(sorted((first, owner)))
            raise PluginError(f"{both} both offer the {self.kind} {name!r}; uninstall one of them.")
        self._entries[name] = entry

    def owner(self, name: str) -> str:
        """The distribution and module that registered `name`."""
        return self._owners[name]

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
    """The one plugin manager of this process."""
    plugins = pluggy.PluginManager("translate")
    plugins.add_hookspecs(hooks)
    if "TRANSLATE_TRACE" in os.environ:
        plugins.add_hookcall_monitoring(_trace_before, _trace_after)
    return plugins


def _trace_before(hook_name: str, hook_impls: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    owners = ", ".join(impl.plugin_name for impl in hook_impls) or "nobody"
    arguments = ", ".join(f"{name}={reprlib.repr(value)}" for name, value in kwargs.items())
    print(f"hook {hook_name}({arguments}) -> {owners}", file=sys.stderr)


def _trace_after(outcome: Any, hook_name: str, hook_impls: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    if outcome.exception is not None:
        print(f"hook {hook_name} raised {outcome.exception!r}", file=sys.stderr)


def owner_of(entry: EntryPoint) -> str:
    """The distribution that an entry point belongs to."""
    return entry.dist.name if entry.dist else "?"


def find(group: str) -> dict[str, list[EntryPoint]]:
    """Entry points of a group by name, as TRANSLATE_PLUGINS allows; more than one a name means a clash."""
    allowed = os.environ.get("TRANSLATE_PLUGINS")
    wanted = None if allowed is None else {name.strip() for name in allowed.split(",")}
    found: dict[str, list[EntryPoint]] = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, owner_of(entry))):
        same = found.get(entry.name, [])
        if (wanted is None or owner_of(entry) in wanted) and owner_of(entry) not in map(owner_of, same):
            found[entry.name] = [*same, entry]
    return found


def _load(entry: EntryPoint) -> str:
    """Import and register one plugin; its name. Raises whatever the import raises, or PluginError."""
    plugins = manager()
    name = entry.value
    if plugins.get_plugin(name) is not None:
        return name
    plugin = entry.load()
    _origins[name] = f"{owner_of(entry)} ({name})"
    try:
        plugins.register(plugin, name=name)
        plugins.check_pending()
    except pluggy.PluginValidationError as error:
        plugins.unregister(name=name)
        raise PluginError(f"{' '.join(str(error).split())}. Known hooks: {', '.join(_hook_names())}.") from error
    return name


def hooks_of(entry: EntryPoint) -> list[str]:
    """The hooks that a loaded plugin implements; none if it did not load."""
    plugin = manager().get_plugin(entry.value)
    return sorted(caller.name for caller in manager().get_hookcallers(plugin) or ()) if plugin else []


def _hook_names() -> list[str]:
    return sorted(name for name in vars(hooks) if hasattr(getattr(hooks, name), "translate_spec"))


@cache
def load_all() -> None:
    """Load the group `translate`; each plugin in its own try."""
    for name, entries in find(OTHERS).items():
        for entry in entries:
            try:
                _load(entry)
            except (Exception, SystemExit) as error:  # a stranger's module may raise anything
                _warn(f"{name} ({owner_of(entry)})", error)


def _warn(plugin: str, error: BaseException) -> None:
    """A plugin that does not work costs one line."""
    reason = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
    if _failures.setdefault(plugin, reason) is reason:
        print(f"warning: the plugin {plugin} was left out: {reason}", file=sys.stderr)


def failures() -> Mapping[str, str]:
    """Plugins that did not load, with the reason."""
    return dict(_failures)


def _implementations(hook: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The implementations of a hook in the order of pluggy's calls: whose each is, and a call of it alone."""
    plugins = manager()
    for implementation in reversed(getattr(plugins.hook, hook).get_hookimpls()):
        others = [plugin for plugin in plugins.get_plugins() if plugin is not implementation.plugin]
        owner = _origins.get(implementation.plugin_name, implementation.plugin_name)
        yield owner, plugins.subset_hook_caller(hook, others)


def _collect(kind: str, hook: str, make: Callable[[Registry[T], str], Callable[..., None]]) -> Registry[T]:
    """What the plugins register through a hook; a plugin that fails there costs itself alone."""
    with _loading:
        load_all()
    registry: Registry[T] = Registry(kind)
    for owner, call in _implementations(hook):
        try:
            call(register=make(registry, owner))
        except PluginError:
            raise
        except Exception as error:  # a stranger's hook may raise anything
            _warn(f"{owner}, {hook}", error)
    return registry


def observe(hook: str, **arguments: Any) -> None:
    """Tell the plugins that watch a run; one that fails costs a warning, never the run."""
    load_all()
    for owner, call in _implementations(hook):
        try:
            call(**arguments)
        except Exception as error:  # a stranger's observer may raise anything
            _warn(f"{owner}, {hook}", error)


def _named(registry: Registry[T], owner: str) -> Callable[[str, T], None]:
    """A `register` that is given a name and a thing."""
    return lambda name, entry: registry.add(name, entry, owner)


def _naming_itself(registry: Registry[Any], owner: str) -> Callable[[Any], None]:
    """A `register` that is given a thing with a name of its own."""
    return lambda entry: registry.add(entry.name, entry, owner)


@cache
def networks(role: Role) -> Registry[Network]:
    """Registered networks of one of the `ROLES`."""
    wanted = role

    def make(registry: Registry[Network], owner: str) -> Callable[..., None]:
        def register(name: str, factory: Callable[..., Any], *, role: Role) -> None:
            if role not in ROLES:
                raise PluginError(f"{owner} registers {name!r} with role {role!r}; expected one of {', '.join(ROLES)}.")
            if role == wanted:
                registry.add(name, Network(name, factory), owner)

        return register

    return _collect(ROLES[role], "register_networks", make)


@cache
def losses() -> Registry[AdversarialLoss]:
    """Registered adversarial losses."""
    return _collect("adversarial loss", "register_losses", _naming_itself)


@cache
def datasets() -> Registry[Dataset]:
    """Registered data sets."""
    return _collect("data set", "register_datasets", _naming_itself)


@cache
def augmentations() -> Registry[Callable[..., Any]]:
    """Registered augmentations: factories of transforms."""
    return _collect("augmentation", "register_augmentations", _named)


@cache
def readers() -> Registry[Reader]:
    """Registered readers of image files."""
    return _collect("reader", "register_readers", _naming_itself)


@cache
def commands() -> Registry[Callable[..., Any]]:
    """Commands that plugins add."""
    return _collect("command", "register_commands", _named)


def model_names() -> dict[str, str]:
    """Installed models and the distribution each comes from, from metadata alone; nothing is imported."""
    return {name: " and ".join(map(owner_of, entries)) for name, entries in find(MODELS).items()}


@cache
def model(name: str) -> type[Any]:
    """Import and return one model class.

    Raises UsageError for an unknown name, PluginError if two distributions offer it or its plugin does not load.
    """
    found = find(MODELS)
    if not found and "TRANSLATE_PLUGINS" not in os.environ:
        raise PluginError(
            f"No models are installed: the package runs from a checkout that is not installed. "
            f"Run `pip install -e .` there, or `pip install {DISTRIBUTION}`."
        )
    if name not in found:
        raise UsageError(f"There is no model {name!r}. {did_you_mean(name, found)}")
    if len(found[name]) > 1:
        owners = " and ".join(map(owner_of, found[name]))
        raise PluginError(f"{owners} both offer the model {name!r}; uninstall one of them.")
    (entry,) = found[name]
    models: dict[str, type[Any]] = {}
    try:
        plugin = manager().get_plugin(_load(entry))
        others = [other for other in manager().get_plugins() if other is not plugin]
        manager().subset_hook_caller("register_models", others)(
            register=lambda model: models.setdefault(_checked(model).name, model)
        )
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(
            f"The model {name!r} of {owner_of(entry)} does not load: {type(error).__name__}: {error}"
        ) from error
    if name not in models:
        raise PluginError(
            f"{owner_of(entry)} has an entry point {name!r}, but {entry.value} registers "
            f"{', '.join(map(repr, models)) or 'no model'}."
        )
    return models[name]


def _checked(model: type[Any]) -> type[Any]:
    """Refuse at registration what could only fail later."""
    if not isinstance(getattr(model, "name", None), str):
        raise PluginError(f"The model class {model.__name__} needs a class attribute `name` (str).")
    return model


def distribution_of(model_name: str) -> tuple[str, str]:
    """Name and version of the distribution that offers a model, for the model file's manifest."""
    for entry in find(MODELS).get(model_name, []):
        if entry.dist:
            return entry.dist.name, entry.dist.version
    return "", ""
