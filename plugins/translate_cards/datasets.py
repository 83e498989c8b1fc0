"""From a card to the data set that the core knows: what is shown before the download, and how the folder is filled."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from translate.cache import cache_folder
from translate.errors import DataError
from translate.formatting import format_bytes
from translate.plugins.types import Dataset, Download
from translate_cards.cards import Card
from translate_cards.downloads import download, remember, remote_size, require_space
from translate_cards.unpacking import unpack


def dataset_of(card: Card) -> Dataset:
    """The data set that a card describes."""
    parts = tuple(domain.part for domain in card.domains.values())
    return Dataset(
        name=card.name,
        domains=tuple(card.domains),
        prepare=partial(prepare, card),
        licence=card.licence,
        about=card.about,
        version=card.version,
        parts=parts if any(parts) else (),
        download=Download(
            num_bytes=size_of(card),
            approximate=any(file.approximate_bytes for file in card.files),
            ask_server=partial(size_of, card, ask=True),
            by_hand=bool(card.by_hand),
        ),
        citation=card.citation,
        homepage=card.homepage or "",
    )


def size_of(card: Card, *, ask: bool = False) -> int | None:
    """Bytes to download, exact or rounded; None if the size of any file is not known.

    ask: the servers, for the sizes that the card does not have. Raises DataError if they cannot be reached.
    """
    total = 0
    for file in card.files:
        size = file.size or (remote_size(file) if ask and file.urls else None)
        if size is None:
            return None
        total += size
    return total


def prepare(card: Card, folder: Path) -> None:
    """Fetch a card's files and unpack them; files that were downloaded are removed after that."""
    downloads = cache_folder() / "downloads" / card.name
    missing = [file.name for file in card.files if not file.urls and not (downloads / file.name).exists()]
    if missing:
        downloads.mkdir(parents=True, exist_ok=True)
        raise DataError(
            f"{card.name} cannot be downloaded by a program. {card.by_hand} Put {' and '.join(missing)} into "
            f"{downloads}, then run `translate data get {card.name}`."
        )
    to_come = sum(file.size or 0 for file in card.files if not (downloads / file.name).exists())
    require_space(downloads, 2 * to_come, f"{card.name}, {format_bytes(to_come)} and its images,")
    files = [download(file, downloads) for file in card.files]
    try:
        unpack(card, files, folder)
    except DataError:
        for file, path in zip(card.files, files, strict=True):
            if file.urls and not file.has_checksum:  # without a checksum it may be anything
                path.unlink()
        raise
    for file, path in zip(card.files, files, strict=True):
        if not file.has_checksum:
            remember(path)
        if file.urls:
            path.unlink()
