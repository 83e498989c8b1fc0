"""Stage 1 of `translate data check`: which files are at the paths, and how they are laid out. No image is decoded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from translate.data.files.sources import Entry
from translate.data.layout.detection import DomainFiles, detect_layout
from translate.data.options import DataOptions
from translate.domains import Labelled, Paired, Unpaired
from translate.errors import DataError, UsageError


@dataclass(frozen=True)
class DetectedData:
    """The files at the paths.

    flags: of `fit`, to train on these files, without the dashes.
    domains: each with all of its files. pairs: the same domains with only the files that have partners; empty if there
    are no pairs.
    not_two_domains: the reason why the files are one domain; empty if they are two.
    notes: sentences for the user.
    folder: the folder or archive that contains all of the files, and all paths that are folders.
    """

    paths: tuple[str, ...]
    flags: dict[str, str]
    domains: tuple[DomainFiles, ...]
    pairs: tuple[DomainFiles, ...]
    not_two_domains: str
    notes: tuple[str, ...]
    folder: str

    @property
    def files(self) -> tuple[Entry, ...]:
        """Every file once, training files first."""
        train = [entry for domain in self.domains for entry in domain.train]
        held_out = [entry for domain in self.domains for entry in domain.held_out]
        return tuple(dict.fromkeys(train + held_out))

    @property
    def pairing(self) -> str:
        """How images are paired, in words; empty without pairs."""
        if not self.pairs:
            return ""
        domain = self.pairs[0]
        return "side by side" if domain.part else "by a list" if domain.train[0].pair else "by name"

    @property
    def layout(self) -> str:
        """The layout in words."""
        first = self.domains[0]
        if len(self.paths) == 2:
            return "two folders"
        if len(self.domains) == 1:
            return "class sub-folders" if first.classes else "one domain"
        if first.part is not None:
            return "side-by-side pairs, left is a, right is b"
        if first.train[0].pair:
            return "list of pairs"
        train = " and ".join(self.location(domain.train) for domain in self.domains)
        held_out = " and ".join(self.location(domain.held_out) for domain in self.domains if domain.held_out)
        return f"{train} with {held_out}" if held_out else train

    def location(self, entries: Sequence[Entry]) -> str:
        """The folder or archive of some files of one domain, relative to the folder that contains everything."""
        return self.relative(entries[0].origin.removesuffix(entries[0].name))

    def relative(self, path: str) -> str:
        """A path relative to the folder that contains everything; a folder's ends in a slash."""
        relative = os.path.relpath(os.path.abspath(path), self.folder)
        return relative + "/" if path.endswith("/") else relative


def detect(paths: Sequence[str]) -> DetectedData:
    """Detect the layout of one path (two domains or one) or of two paths (one domain each).

    Raises UsageError for more than two paths; DataError if there are no images, or no known layout.
    """
    if len(paths) > 2:
        raise UsageError(f"{len(paths)} PATHs are given; give one, or two that hold one domain each.")
    flags = {"data": paths[0]} if len(paths) == 1 else dict(zip("ab", paths, strict=True))
    options = DataOptions.model_validate(flags)
    pairs: tuple[DomainFiles, ...] = ()
    not_two_domains = ""
    try:
        layout = detect_layout(Unpaired(), options)
        with suppress(DataError):
            pairs = detect_layout(Paired(), options).domains
    except DataError as error:
        if len(paths) == 2:
            raise
        flags, not_two_domains = {"images": paths[0]}, str(error)
        try:
            layout = detect_layout(Labelled(optional=True), DataOptions.model_validate(flags))
        except DataError:
            raise error from None  # the first error names what is wrong with a list or a data set of two domains
    if any(domain.synthesis for domain in layout.domains):
        raise UsageError("Images made from another domain are not checked; give the PATH of that domain alone.")
    entries = [entry for domain in layout.domains for entry in (*domain.train, *domain.held_out)]
    folders = {os.path.dirname(os.path.abspath(entry.origin)) for entry in entries}
    folder = os.path.commonpath(folders | {os.path.abspath(path) for path in paths if os.path.isdir(path)})
    return DetectedData(tuple(paths), flags, layout.domains, pairs, not_two_domains, layout.notes, folder)
