"""Data sets that plugins offer, whose domains have names.

Each set is made once in the cache folder, by its plugin, and then read like any other folder. If the plugin has to
download it, the user is asked before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from translate.cache import cache_folder, made_once
from translate.data.files.sources import Source, open_source
from translate.errors import DataError, PluginError, TranslateError, did_you_mean
from translate.formatting import format_bytes
from translate.plugins import registry
from translate.plugins.types import Dataset


def folder_of(dataset: Dataset) -> Path:
    """Where a data set is kept, made or not."""
    return cache_folder() / "datasets" / f"{dataset.name}-{dataset.version}"


def resolve(text: str) -> Source:
    """The images of a path or of a domain's name; an existing path wins. DataError, with near matches, if neither.

    A set that has to be downloaded is, once the user at the terminal agrees; DataError without a terminal.
    """
    if not text:
        raise DataError("An empty text is given for a folder; name one, or write . for the current folder.")
    path = Path(os.path.expanduser(text))
    if os.path.exists(path):  # Path's own methods raise errors for some texts
        return open_source(path)
    known = offered()
    found = [
        (dataset, domain)
        for dataset in known.values()
        for domain in dataset.domains
        if text in (domain, f"{dataset.name}/{domain}")
    ]
    if len(found) > 1:
        choices = " or ".join(f"{dataset.name}/{domain}" for dataset, domain in found)
        raise DataError(f"{text!r} is offered by {len(found)} data sets; say {choices}.")
    if not found and text in known:
        domains = ", ".join(f"{text}/{domain}" for domain in known[text].domains)
        raise DataError(f"{text!r} is a data set of several domains; name one of them: {domains}.")
    if not found:
        raise _unknown(text, path, known)
    ((dataset, domain),) = found
    if not folder_of(dataset).is_dir():
        require_consent(dataset)
    return _open_domain(dataset, domain)


def two_domains_of_set(text: str) -> tuple[str, str] | None:
    """What `--data TEXT` means for `--a` and `--b`, if TEXT is the name of a data set; an existing path wins."""
    dataset = None if os.path.exists(os.path.expanduser(text)) else offered().get(text)
    if dataset is None:
        return None
    if len(dataset.domains) < 2:
        raise DataError(f"The data set {text!r} has one domain, {dataset.domains[0]!r}; --data needs two.")
    first, second = dataset.domains[:2]
    return f"{text}/{first}", f"{text}/{second}"


def prepared(dataset: Dataset) -> Path:
    """The data set's folder, made if it is not there."""
    return made_once(folder_of(dataset), partial(_prepare, dataset))


def offered() -> dict[str, Dataset]:
    """Every data set that a plugin offers, by name, sorted. Raises PluginError if two plugins offer one name."""
    return dict(sorted(registry.datasets().items()))


def size_of(dataset: Dataset, *, ask: bool = False) -> str:
    """The size of the download for people; a dash if there is none. ask: the server, if the plugin does not know."""
    if (download := dataset.download) is None:
        return "-"
    num_bytes = download.num_bytes
    if num_bytes is None and ask and download.ask_server:
        num_bytes = _remote_size(dataset.name, download.ask_server)
    if num_bytes is None:
        return "unknown"
    return ("about " if download.approximate else "") + format_bytes(num_bytes)


def _remote_size(name: str, ask_server: Callable[[], int | None]) -> int | None:
    try:
        return ask_server()
    except TranslateError:
        raise
    except Exception as error:  # a plugin's function may raise anything
        raise PluginError(
            f"The size of the data set {name!r} could not be found: {type(error).__name__}: {error}"
        ) from error


def require_consent(dataset: Dataset, *, yes: bool = False) -> None:
    """Show what will be downloaded, and ask on the terminal for consent; yes: it was given before.

    The server is asked for a size that the plugin does not know. Raises DataError if it cannot be reached, if the
    answer is no, or if there is no terminal.
    """
    if dataset.download is None or dataset.download.by_hand:
        return  # no program downloads anything
    licence = dataset.licence or "not stated"
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1  # all processes of one run would ask
    if not yes and (several or not (sys.stdin.isatty() and sys.stderr.isatty())):
        raise DataError(
            f"The data set {dataset.name!r} is not on this machine ({size_of(dataset)} to download, licence: "
            f"{licence}). Run `translate data get {dataset.name} --yes` first."
        )
    shown = {
        "size": f"{size_of(dataset, ask=True)} to download",
        "licence": licence,
        "cite": dataset.citation.replace("\n", "\n           "),
        "from": dataset.homepage,
        "to": folder_of(dataset),
    }
    print(f"{dataset.name}: {dataset.about}", file=sys.stderr)
    for title, text in shown.items():
        if text:
            print(f"  {title + ':':8} {text}", file=sys.stderr)
    if not yes:
        print("Download it now? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise DataError(f"The data set {dataset.name!r} was not downloaded.")


def _open_domain(dataset: Dataset, domain: str) -> Source:
    """The training images of a domain, with the held-out ones where the set has some."""
    folder = prepared(dataset)
    part = dataset.parts[dataset.domains.index(domain)] if dataset.parts else None
    train, test = (folder / split / ("" if part else domain) for split in ("train", "test"))
    held_out = open_source(test) if test.is_dir() else None
    return replace(open_source(train), title=domain, part=part, held_out=held_out)


def _prepare(dataset: Dataset, folder: Path) -> None:
    try:
        dataset.prepare(folder)
    except (TranslateError, OSError):
        raise
    except Exception as error:  # a plugin's function may raise anything
        raise PluginError(
            f"The data set {dataset.name!r} could not be made: {type(error).__name__}: {error}"
        ) from error
    for inside in ("train",) if dataset.parts else (f"train/{domain}" for domain in dataset.domains):
        if not (folder / inside).is_dir():
            raise PluginError(f"The data set {dataset.name!r} made no folder {inside}/, as it must.")


def _unknown(text: str, path: Path, known: dict[str, Dataset]) -> DataError:
    beside: list[str] = []
    with suppress(OSError, ValueError):
        beside = os.listdir(path.parent)
    names = {domain for dataset in known.values() for domain in dataset.domains}
    near = did_you_mean(path.name, [*beside, *names])
    hint = near if near.startswith("Did") else f"Domains offered by name: {', '.join(sorted(names)) or 'none'}."
    return DataError(f"{text!r} is no file or folder, and no domain of a data set that is known here. {hint}")
