"""The output file of each input: its name, its format, and whether it may be written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from translate.applying.options import ApplyFormat
from translate.data.files.sources import Entry, Source, image_suffixes
from translate.data.files.writers import SAVED_AS, fitting_suffix
from translate.domains import DomainSpec
from translate.errors import DataError, UsageError
from translate.formatting import plural


@dataclass(frozen=True, eq=False)
class Task:
    """One image to translate, and the file that its translation is written to."""

    input: Entry
    output: Path


@dataclass(frozen=True)
class Plan:
    """What one rank does with its share of the inputs.

    tasks: the images to translate. skipped: how many inputs have an output already. failed: {name of an input: why it
    has no output file}.
    """

    tasks: list[Task]
    skipped: int
    failed: dict[str, str]


class OutputFiles:
    """Assigns an output file to each input. No two inputs share an output, and no output replaces an input."""

    def __init__(self, source: Source, input: Path, output: Path, format: ApplyFormat, overwrite: bool) -> None:
        """source: the images that `input` means. output: a folder, or a file if the input is one image.

        Raises UsageError if the output is the folder of the inputs, if it is a file for many images, or if a file of
        its name cannot be written. Raises DataError if all the inputs are in the output folder.
        """
        self.format = format
        self.overwrite = overwrite
        self.output = output
        self.entries = source.entries
        self.single_file: Path | None = None
        self.input_paths: set[Path] = set()  # empty for an archive
        if source.path is not None:
            self._separate_from_inputs(source.path.resolve())
        elif input.suffix.lower() in image_suffixes():
            self.input_paths = {input.resolve()}
            if output.suffix.lower() in image_suffixes() and not output.is_dir():
                self.single_file = output
                self._check_single_file(output)
        if self.single_file is None and output.is_file():
            raise UsageError(f"{output} is a file, but {source.location} needs a folder for its translations.")

    def _check_single_file(self, file: Path) -> None:
        if file.resolve() in self.input_paths:
            raise UsageError(f"OUTPUT {file} is the input itself, which would be overwritten; choose another name.")
        if self.format != "same" and _suffix(file, self.format) != file.suffix.lower():
            raise UsageError(f"OUTPUT {file} and --format {self.format} contradict each other; leave one of them out.")
        if file.suffix.lower() not in SAVED_AS:
            raise UsageError(f"{file} cannot be written; the extension must be one of {', '.join(sorted(SAVED_AS))}.")

    def _separate_from_inputs(self, folder: Path) -> None:
        """Leave the output folder out of the inputs if it is inside the input folder."""
        output = self.output.resolve()
        if output == folder:
            raise UsageError(
                f"OUTPUT {output} is the folder of the inputs, which would be overwritten; choose another folder."
            )
        if output.is_relative_to(folder):
            prefix = output.relative_to(folder).as_posix() + "/"
            self.entries = tuple(entry for entry in self.entries if not entry.name.startswith(prefix))
            if not self.entries:
                raise DataError(f"{folder} has no images outside of OUTPUT, {output}.")
        self.input_paths = {folder / entry.name for entry in self.entries}

    def plan(self, domain: DomainSpec, rank: int, world_size: int) -> Plan:
        """What this rank does: every `world_size`-th input is its own.

        domain: of the translations. Raises UsageError if the chosen format cannot hold images of this domain.
        """
        self._check_format(domain)
        tasks: list[Task] = []
        skipped, failed = 0, {}
        first_inputs: dict[Path, str] = {}
        for number, entry in enumerate(self.entries):
            output = self._output_of(entry, domain)
            first = first_inputs.setdefault(output, entry.name)
            if number % world_size != rank:
                continue
            exists = output.exists()
            if first != entry.name:
                failed[entry.name] = f"its translation would have the same name as that of {first}: {output.name}"
            elif exists and not self.overwrite:
                skipped += 1
            elif exists and output.resolve() in self.input_paths:
                failed[entry.name] = f"its translation would overwrite the input {output}"
            else:
                tasks.append(Task(entry, output))
        return Plan(tasks, skipped, failed)

    def _check_format(self, domain: DomainSpec) -> None:
        chosen = self.single_file.suffix.lower() if self.single_file else f".{self.format}"
        fitting = fitting_suffix(chosen, domain.channels, domain.bit_depth)
        if chosen in SAVED_AS and chosen != fitting:
            raise UsageError(
                f"{chosen} does not hold what this model makes, images of {plural(domain.channels, 'channel')} with "
                f"{domain.bit_depth} bits each; {fitting} does."
            )

    def _output_of(self, entry: Entry, domain: DomainSpec) -> Path:
        if self.single_file is not None:
            return self.single_file
        name = PurePosixPath(entry.name)
        suffix = _suffix(name, self.format)
        if self.format == "same":
            blends_labels = domain.kind == "labels" and SAVED_AS.get(suffix) == "JPEG"
            suffix = ".png" if blends_labels else fitting_suffix(suffix, domain.channels, domain.bit_depth)
        return self.output / (name if suffix == name.suffix.lower() else name.with_suffix(suffix))


def _suffix(name: PurePosixPath | Path, format: ApplyFormat) -> str:
    """The extension, in lower case, of the translation of `name`; a synonym such as .jpeg for .jpg is kept."""
    own = name.suffix.lower()
    if format == "same":
        return own if own in SAVED_AS else ".png"
    return own if {own, f".{format}"} in ({".jpg", ".jpeg"}, {".tif", ".tiff"}) else f".{format}"
