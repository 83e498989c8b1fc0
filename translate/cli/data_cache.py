"""`translate data cache`."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Annotated

import typer

from translate.cli.output import AsJson, print_json, print_table
from translate.formatting import format_bytes, plural


def cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="Delete them all; they are decoded again when needed.")
    ] = False,
    json: AsJson = False,
) -> None:
    """List the decoded images that are kept on disk for data sets too large for the memory, or delete them.

    Downloaded data sets are not among them; see `translate data list`.
    """
    from translate.data.batches.cached_stores import cached_stores, clear_cached_stores

    stores = cached_stores()
    if clear:
        clear_cached_stores()
    if json:
        print_json([{**dataclasses.asdict(store), "path": str(store.path)} for store in stores])
        return
    total = format_bytes(sum(store.nbytes for store in stores))
    if clear:
        print(f"Deleted {plural(len(stores), 'store')} of decoded images, {total}.")
    elif not stores:
        print("No decoded images are kept on disk.")
    else:
        rows = [
            (
                store.title,
                f"{store.images:,}",
                format_bytes(store.nbytes),
                datetime.fromtimestamp(store.used).strftime("%Y-%m-%d %H:%M"),
            )
            for store in stores
        ]
        print_table(("images of", "number", "size", "last used"), rows)
        print(f"{total} in {stores[0].path.parent}; `translate data cache --clear` deletes them.")
