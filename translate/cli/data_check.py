"""`translate data check PATH…`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from translate.cli.output import AsJson, print_json, print_table
from translate.errors import DataError, UsageError
from translate.formatting import format_bytes, plural
from translate.progress import progress_bar

if TYPE_CHECKING:
    from translate.data.check.findings import Finding
    from translate.data.check.report import Report, Summary

LISTED_FILES = 3  # of a finding on the terminal; --json lists all


def check(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="What would be given as --data or --images; or two: what would be given as --a and --b.",
        ),
    ],
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Write a contact sheet: some images of each domain.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Look at images before training on them: layout, counts, sizes, copies, and files that cannot be read.

    Every image is decoded, and nothing is changed. Exit status 1 if there are problems, 0 if not.
    """
    from translate.data.check.detected_data import detect
    from translate.data.check.report import contact_sheet, make_report
    from translate.data.check.scan import scan
    from translate.data.files.writers import save

    _check_sheet(sheet, paths)
    data = detect(paths)
    with progress_bar("decoding", len(data.files)) as advance:
        scanned = scan(data, advance)
    report = make_report(data, scanned)
    if sheet:
        try:
            save(contact_sheet(data), sheet)
        except OSError as error:
            raise DataError(f"The contact sheet {sheet} could not be written: {error.strerror or error}.") from error
    if json:
        print_json(dataclasses.asdict(report))
    else:
        _print_report(report, sheet)
    if report.problems:
        raise typer.Exit(1)


def _check_sheet(sheet: Path | None, paths: list[str]) -> None:
    """Raises UsageError for a contact sheet that is not a PNG, or would be in a folder of images."""
    if sheet is None:
        return
    if sheet.suffix.lower() != ".png":
        raise UsageError(f"--sheet writes a PNG, so the name must end in .png; {str(sheet)!r} does not.")
    if not sheet.absolute().parent.is_dir():
        raise UsageError(f"--sheet {sheet}: there is no folder {sheet.parent}.")
    for path in paths:
        if sheet.resolve().is_relative_to(Path(path).resolve()):
            raise UsageError(f"--sheet {sheet} would become one of the images in {path}; write it elsewhere.")


def _print_report(report: Report, sheet: Path | None) -> None:
    print(f"{' and '.join(report.paths)}: {report.layout}{_pairs(report)}\n")
    columns = ("domain", "in", "images", "size", "mode", "pixels", "files")
    print_table(columns, [_row(split) for split in report.splits])
    for title, findings in (("Problems", report.problems), ("Remarks", report.remarks)):
        if findings:
            print(f"\n{title}")
            for finding in findings:
                _print_finding(finding)
    if report.notes:
        print("\nNotes")
        for note in report.notes:
            print(f"- {note}")
    print(f"\nTo train on it\n  {report.fit.command}")
    if report.fit.suggestions:
        print(f"  suggested: {' '.join(report.fit.suggestions)}")
    print(f"  decoded, the training images take {format_bytes(report.fit.decoded_bytes)} at --size 256")
    written = f"contact sheet in {sheet}" if sheet else "no contact sheet (--sheet FILE.png writes one)"
    print(f"\n{plural(len(report.problems), 'problem')}, {plural(len(report.remarks), 'remark')}, {written}")


def _print_finding(finding: Finding) -> None:
    """The text, the flag that helps, and the first of the files."""
    print(f"- {finding.text}" + (f" [{finding.flag}]" if finding.flag else ""))
    for file in finding.files[:LISTED_FILES]:
        print(f"    {file}")
    if len(finding.files) > LISTED_FILES:
        print(f"    and {len(finding.files) - LISTED_FILES:,} more")


def _pairs(report: Report) -> str:
    if report.pairs is None:
        return ", for models with --images; for two domains, give two PATHs"
    how = "" if report.splits[0].part else f" {report.paired}"  # part of the layout
    return f"; {report.pairs:,} pairs{how} to train on" if report.pairs else "; no pairs by name"


def _row(split: Summary) -> tuple[str, ...]:
    return (
        f"{split.domain}, {'held out' if split.held_out else 'train'}",
        split.location,
        f"{split.images:,}",
        _sizes(split),
        f"{' / '.join(split.modes)}, {' / '.join(split.bit_depths)}{_values(split)}" if split.images else "-",
        f"{split.pixels / 1e6:,.1f} M" if split.pixels >= 1e5 else f"{split.pixels:,}",
        "same" if split.part == "right" else format_bytes(split.bytes),
    )


def _sizes(split: Summary) -> str:
    """One size, or the most frequent and the two extremes."""
    if not split.sizes:
        return "-"
    (most, count), *others = split.sizes
    if not others:
        return _size(most)
    low, high = (choose((size for size, _ in split.sizes), key=lambda size: size[0] * size[1]) for choose in (min, max))
    often = f"{_size(most)} ({count / split.images:.0%}), " if count > 0.05 * split.images else ""
    return f"{often}{_size(low)} to {_size(high)}"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _values(split: Summary) -> str:
    """The range of the values, unless all images have 8 bits."""
    deep = split.values and set(split.bit_depths) != {"8 bit"}
    return f", {split.values[0]:,.6g} to {split.values[1]:,.6g}" if deep and split.values else ""
