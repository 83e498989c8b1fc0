"""The real images that a model is compared with: which files they are, and how they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from translate.data.batches.preparing import InputPreparer
from translate.data.files.readers import read_image
from translate.data.files.sources import Entry
from translate.data.layout.detection import DomainFiles, Layout, detect_layout
from translate.data.options import DataOptions
from translate.data.synthesis import parse
from translate.distributed.group import Group
from translate.domains import BatchSpec, Images, Labelled, Spec, Unpaired
from translate.errors import DataError, UsageError
from translate.formatting import first_few
from translate.model import Model
from translate.progress import progress_bar
from translate.threads import in_parallel


def find_real_images(network: Model[Any], model: str | Path, flags: dict[str, Any]) -> Layout:
    """The files of the real images: those that the flags name, or otherwise those of the run.

    model: the run or model file that `network` was loaded from. flags: a, b, data, swap and images; None if not given.
    Raises UsageError and DataError.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    run = Path(model) / "run.toml"
    has_two_domains = len(network.spec) == 2
    if not given and not run.is_file():
        needed = "--a and --b, or --data" if has_two_domains else "--images"
        raise UsageError(f"{model} is no run whose own held-out images could be used: give {needed}.")
    options = DataOptions(**given) if given else DataOptions.of_run(run)
    layout = detect_layout(_batch_spec(network), options)
    if not given and has_two_domains and not all(domain.held_out for domain in layout.domains):
        raise DataError(f"The run {model} has no held-out images of both domains: give --a and --b, or --data.")
    for domain in layout.domains:
        trained_part = network.spec[domain.name].part
        if domain.part is not None and trained_part is not None and domain.part != trained_part:
            raise UsageError(
                f"The model learned domain {domain.name!r} from the {trained_part} half of side-by-side images, and "
                f"this would be the {domain.part} one: {'leave --swap out' if options.swap else 'add --swap'}."
            )
    return layout


def _batch_spec(network: Model[Any]) -> BatchSpec:
    """What the real images have to be. Pairs are not required, even if the model was trained on pairs."""
    names = tuple(network.spec)
    if len(names) == 2:
        return Unpaired(*names)
    return Labelled(*names) if network.spec[names[0]].classes else Images(*names)


class RealImages:
    """Reads the held-out images of one domain, or all if none is held out, resized to squares as the model sees them.

    files: the images of all ranks. unread: the reasons for those that this rank could not read so far.
    """

    def __init__(self, domain: DomainFiles, spec: Spec, size: int, group: Group, seed: int = 0) -> None:
        """spec: the model's domains. size: side in pixels. seed: of random degradations (see `InputPreparer`)."""
        degraded = parse(domain.synthesis) if domain.synthesis and not domain.real_held_out else None
        own_spec = spec[domain.name].model_copy(update={"synthesis": domain.synthesis or spec[domain.name].synthesis})
        self.domain = domain
        self.files = domain.held_out or domain.train
        self.size = size
        self.group = group
        self.unread: list[str] = []
        self._preparer = InputPreparer(own_spec, spec[degraded.source] if degraded else None, seed)

    def batches(self, batch: int) -> Iterator[tuple[list[Entry], Tensor]]:
        """The batches of this rank: the files, and their images (N, C, size, size) float32 in [-1, 1].

        The batches of all ranks together are those that a single process would read.
        """
        for start in own_batches(range(0, len(self.files), batch), f"images of {self.domain.name}", self.group):
            entries, images = self.read(self.files[start : start + batch])
            if images is not None:
                yield entries, images

    def read(self, entries: Sequence[Entry]) -> tuple[list[Entry], Tensor | None]:
        """Read images: the entries that can be read, and their images in order, or None if no entry can be read."""
        found = list(zip(entries, in_parallel(self._read, entries), strict=True))
        self.unread += [image for _, image in found if isinstance(image, str)]
        images = [image for _, image in found if isinstance(image, Tensor)]
        readable = [entry for entry, image in found if isinstance(image, Tensor)]
        return readable, torch.stack(images) if images else None

    def _read(self, entry: Entry) -> Tensor | str:
        """The image, (C, size, size) float32 in [-1, 1], or why it cannot be read."""
        try:
            return self._preparer(read_image(entry, self.domain.part), entry, (self.size, self.size))
        except DataError as error:
            return str(error).removesuffix(".")

    def unread_notes(self) -> list[str]:
        """A note about the images that could not be read, on any rank; none if all were read.

        Raises DataError if no image could be read.
        """
        unread = list(dict.fromkeys(self.group.gather_round_robin(self.unread)))
        if len(unread) >= len(self.files):
            raise DataError(f"None of the images in {self.domain.location} can be read: {unread[0]}.")
        return [f"Left out of {self.domain.location}: {first_few(unread, '; ')}."] if unread else []


def own_batches(starts: range, title: str, group: Group) -> Iterator[int]:
    """Every n-th batch, for this one of n ranks, with a progress bar on a terminal."""
    own = starts[group.rank :: group.world_size]
    with progress_bar(title, len(own), quiet=group.rank > 0) as advance:
        for start in own:
            yield start
            advance()


def match_pairs(source: RealImages, target: RealImages, notes: list[str]) -> dict[tuple[str, ...], Entry]:
    """The true translations of the source's images, by `Entry.key`.

    An image's truth is the image of the target with the same name, extension aside. If more than half of the source's
    images have none, there are no pairs, and a note is added.
    """
    targets = {entry.key: entry for entry in target.files}
    keys = [entry.key for entry in source.files]
    pairs = {key: targets[key] for key in keys if key in targets}
    if 2 * len(pairs) >= len(keys):
        return pairs
    notes.append(
        f"No image is compared with its truth: {len(pairs):,} of {len(keys):,} images of {source.domain.name!r} share "
        f"their name, without extension, with one of {target.domain.name!r}."
    )
    return {}
