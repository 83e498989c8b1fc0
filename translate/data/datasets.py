"""Domains that plugins offer by name: made once into a cache folder, then read like any other folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from translate.data.sources import Source, open_source
from translate.errors import DataError, PluginError, TranslateError, did_you_mean


@dataclass(frozen=True)
class Dataset:
    """Images that a plugin offers through `register_datasets`.

    name: of the data set; `--data NAME` means its first two domains.
    domains: their names, which `--a` and `--b` take, alone or as NAME/DOMAIN.
    prepare: fills the folder it is given with train/DOMAIN/* and test/DOMAIN/*; called once, and again after `version`
        was raised.
    licence, about: one line each, for people.
    """

    name: str
    domains: tuple[str, ...]
    prepare: Callable[[Path], None]
    licence: str = ""
    about: str = ""
    version: int = 1


class Resolved(NamedTuple):
    """The images a user's word stands for."""

    train: Source
    held_out: Source | None
    title: str


def resolve(text: str) -> Resolved:
    """The images of a path or of a domain's name; an existing path wins. DataError, with near matches, if neither."""
    path = Path(text).expanduser()
    if path.exists():
        source = open_source(path)
        return Resolved(source, None, source.title)
    found = [
        (dataset, domain)
        for dataset in _offered().values()
        for domain in dataset.domains
        if text in (domain, f"{dataset.name}/{domain}")
    ]
    if len(found) > 1:
        choices = " or ".join(f"{dataset.name}/{domain}" for dataset, domain in found)
        raise DataError(f"{text!r} is offered by {len(found)} data sets; say {choices}.")
    if not found and text in _offered():
        domains = ", ".join(f"{text}/{domain}" for domain in _offered()[text].domains)
        raise DataError(f"{text!r} is a data set of several domains; name one of them: {domains}.")
    if not found:
        raise _unknown(text, path)
    (dataset, domain) = found[0]
    folder = prepared(dataset)
    return Resolved(open_source(folder / "train" / domain), open_source(folder / "test" / domain), domain)


def two_domains(text: str) -> tuple[str, str] | None:
    """The words for `--a` and `--b` that `--data TEXT` stands for, if it names a data set; an existing path wins."""
    dataset = None if Path(text).expanduser().exists() else _offered().get(text)
    if dataset is None:
        return None
    if len(dataset.domains) < 2:
        raise DataError(f"The data set {text!r} has one domain, {dataset.domains[0]!r}; --data needs two.")
    first, second = dataset.domains[:2]
    return f"{text}/{first}", f"{text}/{second}"


def prepared(dataset: Dataset) -> Path:
    """The data set's folder, made if it is not there; two processes may do it at once, and one of them wins."""
    final = cache_folder() / "datasets" / f"{dataset.name}-{dataset.version}"
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{dataset.name}-", dir=final.parent))
    try:
        _prepare(dataset, temporary)
        try:
            temporary.rename(final)
        except OSError:
            if not final.is_dir():  # otherwise another process was first, with the same images
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def cache_folder() -> Path:
    """Where this machine keeps what can be made again: $TRANSLATE_CACHE, or translate/ in the user's cache folder."""
    if chosen := os.environ.get("TRANSLATE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "translate"


def _prepare(dataset: Dataset, folder: Path) -> None:
    try:
        dataset.prepare(folder)
    except TranslateError:
        raise
    except Exception as error:
        raise PluginError(
            f"The data set {dataset.name!r} could not be made: {type(error).__name__}: {error}"
        ) from error
    for part in ("train", "test"):
        for domain in dataset.domains:
            if not (folder / part / domain).is_dir():
                raise PluginError(f"The data set {dataset.name!r} made no folder {part}/{domain}/, as it must.")


def _offered() -> dict[str, Dataset]:
    from translate import plugins  # loads every plugin: only when a word is no path

    return dict(plugins.datasets())


def _unknown(text: str, path: Path) -> DataError:
    beside = (
        {}
        if not path.parent.is_dir()
        else {other.name: str(path.parent / other.name) for other in path.parent.iterdir()}
    )
    names = {domain for dataset in _offered().values() for domain in dataset.domains}
    near = did_you_mean(path.name, [*beside, *names])
    hint = near if near.startswith("Did") else f"Domains offered by name: {', '.join(sorted(names)) or 'none'}."
    return DataError(f"{text!r} is no file or folder, and no domain that a plugin offers. {hint}")
