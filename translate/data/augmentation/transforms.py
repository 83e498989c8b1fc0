"""Builds transforms of albumentations and kornia from calls and from files, and rejects those that cannot work.

`read` takes two kinds of files: what `albumentations.save` wrote (.json, .yaml), and TOML:

    [[albumentations]]               # or [[kornia]]
    transform = "GaussianBlur"       # the name of a class; the other lines are its options
    blur_limit = [3, 7]
"""

from __future__ import annotations

import importlib
import inspect
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError, validate_call

from translate.errors import UsageError, did_you_mean
from translate.spec_parsing import Call
from translate.validation import list_problems

_LIBRARIES = {
    "albumentations": ("albumentations", "BasicTransform"),
    "kornia": ("kornia.augmentation", "AugmentationBase2D"),
}
"""Each library's module, and the class from which its transforms of single images inherit."""
_ABSTRACT = ("Base2D", "BasicTransform", "DualTransform", "ImageOnlyTransform")
"""How the names of base classes end."""


class Transform(NamedTuple):
    """A transform of one of the libraries; label: what the user wrote, for messages."""

    label: str
    library: Literal["albumentations", "kornia"]
    value: Any


def build(item: str, factory: Callable[..., Any], call: Call) -> Transform:
    """The transform that a registered factory makes of a call. Raises UsageError."""
    what = f"The augmentation {call.name!r}"
    return _checked(what, item, _make(what, validate_call(factory), call.arguments, call.options))


def read(path: str) -> list[Transform]:
    """The transforms of a file. Raises UsageError."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise UsageError(f"There is no file {path!r}, which --augment names; its path counts from the current folder.")
    return _read_toml(file) if file.suffix.lower() == ".toml" else [_read_saved(file)]


def _read_toml(file: Path) -> list[Transform]:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # TOML's and Unicode's errors are ValueErrors
        raise UsageError(f"{file} cannot be read: {error}.") from error
    if not values:
        raise UsageError(f"{file} lists no transform; write [[albumentations]] or [[kornia]], and its lines below.")
    for key, tables in values.items():
        if key not in _LIBRARIES:
            raise UsageError(f"{file}: {key!r} is neither of the two tables. {did_you_mean(key, _LIBRARIES)}")
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise UsageError(f"{file}: {key} is no list of tables; write [[{key}]] above each transform.")
    return [_from_table(file, library, table) for library, tables in values.items() for table in tables]


def _from_table(file: Path, library: str, table: Mapping[str, Any]) -> Transform:
    name = table.get("transform")
    if not isinstance(name, str):
        raise UsageError(f'{file}: a table [[{library}]] has no line `transform = "…"`, the name of a class.')
    known = _classes(library)
    if name not in known:
        raise _unknown(file, library, name)
    options = {key: _as_tuples(value) for key, value in table.items() if key != "transform"}
    return _checked(str(file), file.name, _make(f"{file}: {name}", known[name], (), options))


def _read_saved(file: Path) -> Transform:
    import albumentations  # type: ignore[import-untyped]

    try:
        with _warnings_as_errors():
            made = albumentations.load(file, data_format="json" if file.suffix.lower() == ".json" else "yaml")
    except KeyError as error:
        name = str(error.args[0])
        if name in ("transform", "__class_fullname__"):
            raise UsageError(f"{file} is no pipeline as albumentations.save writes it: it has no {name!r}.") from error
        raise _unknown(file, "albumentations", name) from error
    except Exception as error:  # constructors raise errors of any type for wrong values
        raise UsageError(f"{file} cannot be read as a pipeline of albumentations: {reason(error)}.") from error
    return _checked(str(file), file.name, made)


def _unknown(file: Path, library: str, name: str) -> UsageError:
    near = did_you_mean(name, _classes(library))
    if len(near) > 120:  # no near match, so it lists a hundred names
        near = "A choice such as OneOf comes from a file that albumentations.save wrote; list all else one by one."
    return UsageError(f"{file}: {library} has no transform {name!r} of single images. {near}")


def _make(what: str, make: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """The result of a factory or class with options that are all in its signature. Raises UsageError."""
    known = [name for name, parameter in inspect.signature(make).parameters.items() if parameter.kind.value in (1, 3)]
    for option in options:
        if option not in known:
            raise UsageError(f"{what} has no option {option!r}. {did_you_mean(option, known)}")
    try:
        with _warnings_as_errors():
            return make(*arguments, **options)
    except Exception as error:  # constructors raise errors of any type for wrong values
        raise UsageError(f"{what} cannot be built: {reason(error)}.") from error


def _checked(what: str, label: str, made: Any) -> Transform:
    """What was made, as a Transform, if it is one of images alone. Raises UsageError."""
    roots = {cls.__module__.partition(".")[0] for cls in type(made).__mro__}
    if "albumentations" in roots:
        for part in nested(made):
            if wanted := [name for name in getattr(part, "targets_as_params", ()) if name != "image"]:
                name = type(part).__name__
                raise UsageError(f"{what}: {name} needs more than images ({', '.join(wanted)}); leave it out.")
        return Transform(label, "albumentations", made)
    if "kornia" in roots and isinstance(made, tuple(_classes("kornia").values())):
        return Transform(label, "kornia", made)
    raise UsageError(
        f"{what} is a {type(made).__name__}; expected one transform of images of albumentations or kornia."
    )


def nested(transform: Any) -> Iterator[Any]:
    """A transform of albumentations, and all that a choice or sequence such as OneOf contains, parents first."""
    from albumentations import BaseCompose

    yield transform
    if isinstance(transform, BaseCompose):
        for child in transform.transforms:
            yield from nested(child)


def _classes(library: str) -> dict[str, type]:
    """The transforms of single 2D images that a library has, by name."""
    module_name, base_name = _LIBRARIES[library]
    module = importlib.import_module(module_name)
    base, volumes = getattr(module, base_name), getattr(module, "Transform3D", ())
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, base)
        and not issubclass(value, volumes)
        and not name.endswith(_ABSTRACT)
    }


@contextmanager
def _warnings_as_errors() -> Iterator[None]:
    """For albumentations, which only warns of options that it does not know or cannot use."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "(?i).*(please|try to|consider) us")  # advice to take another transform
        yield


def _as_tuples(value: Any) -> Any:
    """TOML has lists; the libraries' ranges are tuples."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def reason(error: BaseException) -> str:
    """What an exception says, on one line and without a full stop."""
    source = next((each for each in (error, error.__cause__) if isinstance(each, ValidationError)), None)
    if source is not None:
        return list_problems(source)
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
