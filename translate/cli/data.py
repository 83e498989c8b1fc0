"""`translate data`: lists and downloads data sets, checks images, and shows what is cached on disk."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from translate.cli.data_cache import cache
from translate.cli.data_check import check
from translate.cli.output import AsJson, print_json, print_table
from translate.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from translate.plugins.types import Dataset

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="List and download data sets, check your own images, and see what is kept on disk.",
)


@app.command("list")
def list_datasets(json: AsJson = False) -> None:
    """List the known data sets: name, domains, size of the download, licence, state.

    A domain's name may stand for a folder: `--a horses --b zebras`, or `--data horse2zebra` for a set's first two.
    """
    from translate.data.datasets import offered, size_of

    sets = offered().values()
    if json:
        print_json([_row(dataset) for dataset in sets])
        return
    rows = [(each.name, ", ".join(each.domains), size_of(each), each.licence, _state(each)) for each in sets]
    print_table(("name", "domains", "size", "licence", "state"), rows)


@app.command("get")
def get(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Data sets, as `translate data list` has them.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a download.")] = False,
    json: AsJson = False,
) -> None:
    """Download data sets, after showing their size, licence and citation. An interrupted download is continued.

    The file is compared with the card's checksum, or with that of an earlier download, before it is unpacked.
    """
    from translate.data.datasets import folder_of, offered, prepared, require_consent

    known = offered()
    for name in names:
        if name not in known:
            owners = [dataset.name for dataset in known.values() if name in dataset.domains]
            hint = f"It is a domain of {' and of '.join(owners)}." if owners else did_you_mean(name, known)
            raise UsageError(f"There is no data set {name!r}. {hint}")
    for name in names:
        dataset = known[name]
        if not folder_of(dataset).is_dir():
            require_consent(dataset, yes=yes)
        folder = prepared(dataset)
        print(f"{name} is in {folder}", file=sys.stderr if json else sys.stdout)
    if json:
        print_json([_row(known[name]) for name in names])


app.command()(check)
app.command()(cache)


def _row(dataset: Dataset) -> dict[str, Any]:
    from translate.data.datasets import folder_of

    return {
        "name": dataset.name,
        "about": dataset.about,
        "domains": dataset.domains,
        "bytes": dataset.download.num_bytes if dataset.download else None,
        "licence": dataset.licence,
        "citation": dataset.citation,
        "state": _state(dataset),
        "folder": str(folder_of(dataset)),
    }


def _state(dataset: Dataset) -> str:
    from translate.data.datasets import folder_of

    if folder_of(dataset).is_dir():
        return "here"
    if dataset.download is None:
        return "made when it is used"
    return "by hand" if dataset.download.by_hand else "not fetched"
