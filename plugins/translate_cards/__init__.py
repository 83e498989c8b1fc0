"""Public data sets by name. Each is described by a card, a TOML file, and downloaded after the user's consent.

    cards.py       START HERE: what a card holds, and where cards are
    datasets.py    a card -> the data set that the core knows
    downloads.py   one file from a server, resumed after interruptions, checked before use
    unpacking.py   from a data set's archives to folders of images

These modules are imported when a data set is looked up, because this one is imported for every command.
"""

from __future__ import annotations

from collections.abc import Callable

import translate


@translate.hookimpl
def register_datasets(register: Callable[[translate.Dataset], None]) -> None:
    """Register a data set for each card."""
    from translate_cards.cards import cards
    from translate_cards.datasets import dataset_of

    for card in cards().values():
        register(dataset_of(card))
