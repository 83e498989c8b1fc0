"""Domains that have names: of public data sets, by their cards, and of those that plugins offer.

Each set is made once in the cache folder, from a download or by a plugin, and then read like any other folder.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from translate.data.cards import Card, cards
from translate.data.domains import Part
from translate.data.sources import Source, open_source
from translate.errors import DataError, PluginError, TranslateError, did_you_mean
from translate.wording import readable


@dataclass(frozen=True)
class Dataset:
    """Images that have a name, by a card or by a plugin's `register_datasets`.

    name: of the data set; `--data NAME` means its first two domains.
    domains: their names, which `--a` and `--b` take, alone or as NAME/DOMAIN.
    prepare: fills the folder it is given with train/DOMAIN/* and, where images are held out, test/DOMAIN/*; called
        once, and again after `version` was raised.
    licence, about: one line each, for people.
    parts: for each domain which half of side-by-side images it is; these lie in train/* and test/*.
    card: of a set that is downloaded, which the user is asked about first.
    """

    name: str
    domains: tuple[str, ...]
    prepare: Callable[[Path], None]
    licence: str = ""
    about: str = ""
    version: int = 1
    parts: tuple[Part, ...] = ()
    card: Card | None = None

    @property
    def folder(self) -> Path:
        """Where it is kept, made or not."""
        return cache_folder() / "datasets" / f"{self.name}-{self.version}"

    @property
    def downloads(self) -> Path:
        """Where its files are kept until they are unpacked."""
        return cache_folder() / "downloads" / self.name


class Resolved(NamedTuple):
    """The images a user's word stands for; part: which half of each, None for the whole."""

    train: Source
    held_out: Source | None
    title: str
    part: Part = None


def resolve(text: str) -> Resolved:
    """The images of a path or of a domain's name; an existing path wins. DataError, with near matches, if neither.

    A set that has to be downloaded is, once the user at the terminal agrees; DataError without a terminal.
    """
    if not text:
        raise DataError("An empty text is given for a folder; name one, or write . for the current folder.")
    path = Path(os.path.expanduser(text))
    if os.path.exists(path):  # Path's own methods raise errors for some texts
        source = open_source(path)
        return Resolved(source, None, source.title)
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
    if not dataset.folder.is_dir():
        require_consent(dataset)
    return _resolved(dataset, domain)


def two_domains(text: str) -> tuple[str, str] | None:
    """The words for `--a` and `--b` that `--data TEXT` stands for, if it names a data set; an existing path wins."""
    dataset = None if os.path.exists(os.path.expanduser(text)) else offered().get(text)
    if dataset is None:
        return None
    if len(dataset.domains) < 2:
        raise DataError(f"The data set {text!r} has one domain, {dataset.domains[0]!r}; --data needs two.")
    first, second = dataset.domains[:2]
    return f"{text}/{first}", f"{text}/{second}"


def prepared(dataset: Dataset) -> Path:
    """The data set's folder, made if it is not there."""
    return made_once(dataset.folder, partial(_prepare, dataset))


def made_once(final: Path, make: Callable[[Path], None]) -> Path:
    """A folder in the cache, complete or absent, filled if it is not there; while one process does it, others wait.

    make: fills the empty folder that it is given. Raises DataError if that cannot be written, and what `make` raises.
    """
    if final.is_dir():
        return final
    temporary = final.with_name(f".{final.name}.part")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with _alone(final):
            if final.is_dir():  # another process was first
                return final
            shutil.rmtree(temporary, ignore_errors=True)  # what a killed process left
            temporary.mkdir()
            try:
                make(temporary)
                temporary.rename(final)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{final} cannot be made: {error.strerror or error}. TRANSLATE_CACHE can name another folder."
        ) from error
    return final


def offered() -> dict[str, Dataset]:
    """Every data set that a card or a plugin offers, by name. Raises PluginError if both offer one name."""
    from translate import plugins  # loads every plugin: only when a word is no path

    known = dict(plugins.datasets())
    for name, card in cards().items():
        if name in known:
            raise PluginError(f"A card and a plugin both offer the data set {name!r}; remove one of them.")
        known[name] = from_card(card)
    return {name: known[name] for name in sorted(known)}


def from_card(card: Card) -> Dataset:
    """The data set that a card describes, downloaded when it is prepared."""
    parts = tuple(domain.part for domain in card.domains.values())
    return Dataset(
        card.name, tuple(card.domains), partial(_from_downloads, card), card.licence, card.about, card.version,
        parts=parts if any(parts) else (), card=card,
    )  # fmt: skip


def describe(dataset: Dataset) -> str:
    """What a user should know before a download: what it is, how large, its licence, whom to cite, where it goes.

    The server is asked for a size that the card does not know; DataError if it cannot be reached.
    """
    card = dataset.card
    citation = card.citation.replace("\n", "\n           ") if card else ""
    lines = [
        f"{dataset.name}: {dataset.about}",
        f"  size:    {size_of(dataset, ask=True)} to download",
        f"  licence: {dataset.licence}",
        f"  cite:    {citation}",
        f"  from:    {card.homepage}" if card and card.homepage else "",
        f"  to:      {dataset.folder}",
    ]
    return "\n".join(filter(None, lines))


def size_of(dataset: Dataset, *, ask: bool = False) -> str:
    """The size of the download for people; a dash if there is none. ask: the server, if the card does not know."""
    from translate.data.downloads import remote_size

    if dataset.card is None:
        return "-"
    sizes = [file.size or (remote_size(file) if ask and file.urls else None) for file in dataset.card.files]
    if None in sizes:
        return "unknown"
    about = "about " if any(file.approximate_bytes for file in dataset.card.files) else ""
    return about + readable(sum(filter(None, sizes)))


def require_consent(dataset: Dataset, *, yes: bool = False) -> None:
    """Say what is to be downloaded, and ask on the terminal whether to; `yes` has been said before.

    Raises DataError if the answer is no, or if nobody can be asked.
    """
    if dataset.card is None or dataset.card.by_hand:
        return  # nothing is downloaded
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1  # processes of one run, which would all ask
    if not yes and (several or not (sys.stdin.isatty() and sys.stderr.isatty())):
        raise DataError(
            f"The data set {dataset.name!r} is not on this machine ({size_of(dataset)} to download, licence: "
            f"{dataset.licence}). Run `translate data get {dataset.name} --yes` first."
        )
    print(describe(dataset), file=sys.stderr)
    if not yes:
        print("Download it now? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise DataError(f"The data set {dataset.name!r} was not downloaded.")


def cache_folder() -> Path:
    """Where this machine keeps what can be made again: $TRANSLATE_CACHE, or translate/ in the user's cache folder."""
    if chosen := os.environ.get("TRANSLATE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "translate"


def _resolved(dataset: Dataset, domain: str) -> Resolved:
    folder = prepared(dataset)
    part = dataset.parts[dataset.domains.index(domain)] if dataset.parts else None
    inside = "" if part else domain
    test = folder / "test" / inside
    return Resolved(open_source(folder / "train" / inside), open_source(test) if test.is_dir() else None, domain, part)


def _from_downloads(card: Card, folder: Path) -> None:
    """Fetch a card's files and unpack them; files that were downloaded are removed after that."""
    from translate.data.downloads import download, remember, require_space
    from translate.data.unpacking import unpack

    downloads = from_card(card).downloads
    missing = [file.name for file in card.files if not file.urls and not (downloads / file.name).exists()]
    if missing:
        downloads.mkdir(parents=True, exist_ok=True)
        raise DataError(
            f"{card.name} cannot be downloaded by a program. {card.by_hand} Put {' and '.join(missing)} into "
            f"{downloads}, then run `translate data get {card.name}`."
        )
    to_come = sum(file.size or 0 for file in card.files if not (downloads / file.name).exists())
    require_space(downloads, 2 * to_come, f"{card.name}, {readable(to_come)} and its images,")
    files = [download(file, downloads) for file in card.files]
    try:
        unpack(card, files, folder)
    except DataError:
        for file, path in zip(card.files, files, strict=True):
            if file.urls and not file.has_checksum:  # what arrived may be anything: no use in keeping it
                path.unlink()
        raise
    for file, path in zip(card.files, files, strict=True):
        if not file.has_checksum:
            remember(path)
        if file.urls:
            path.unlink()


def _prepare(dataset: Dataset, folder: Path) -> None:
    try:
        dataset.prepare(folder)
    except (TranslateError, OSError):
        raise
    except Exception as error:  # a stranger's function may raise anything
        raise PluginError(
            f"The data set {dataset.name!r} could not be made: {type(error).__name__}: {error}"
        ) from error
    for inside in ("train",) if dataset.parts else (f"train/{domain}" for domain in dataset.domains):
        if not (folder / inside).is_dir():
            raise PluginError(f"The data set {dataset.name!r} made no folder {inside}/, as it must.")


@contextmanager
def _alone(final: Path) -> Iterator[None]:
    """Inside, no other process makes this folder."""
    from filelock import FileLock, Timeout

    lock = FileLock(final.with_name(f".{final.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Another process is making {final}; waiting for it.", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _unknown(text: str, path: Path, known: dict[str, Dataset]) -> DataError:
    beside: list[str] = []
    with suppress(OSError, ValueError):
        beside = os.listdir(path.parent)
    names = {domain for dataset in known.values() for domain in dataset.domains}
    near = did_you_mean(path.name, [*beside, *names])
    hint = near if near.startswith("Did") else f"Domains offered by name: {', '.join(sorted(names)) or 'none'}."
    return DataError(f"{text!r} is no file or folder, and no domain that a card or a plugin offers. {hint}")
