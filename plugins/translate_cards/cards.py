"""Cards of public data sets: TOML files with the place of the images, their licence, and whom to cite.

    name = "horse2zebra"                       as the file is called: horse2zebra.toml
    about = "939 horses and 1,177 zebras."
    licence = "not stated"
    citation = "Zhu, Park, Isola, Efros: ..., ICCV 2017, arXiv:1703.10593"

    [[files]]                                  one for each archive
    urls = ["https://...", "https://..."]      the same file at several places, tried in this order
    bytes = 116867962
    sha256 = "..."

    [domains.horses]                           the names that --a and --b take
    train = "horse2zebra/trainA"               the folder in the archive
    test = "horse2zebra/testA"

Those that come with the toolkit are in the package `translate`, or in datasets/ of a checkout; a user's own are in the
folder $TRANSLATE_DATASETS, or else ~/.config/translate/datasets ($XDG_CONFIG_HOME counts).
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import translate
from translate.domains import Part
from translate.errors import DataError
from translate.validation import Location, explain_problems

Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Url = Annotated[str, Field(pattern=r"^https?://\S+$")]
PACKAGED = Path(translate.__file__).with_name("datasets")
CHECKOUT = Path(__file__).parents[2] / "datasets"


class File(BaseModel):
    """One file to download.

    urls: where it is; none for a file that the user has to get by hand.
    name: on disk; by default as in the first url.
    bytes: the exact size; a server that declares another is given up.
    approximate_bytes: where only a rounded size is known, for people and for the check of free space.
    sha256, md5: of the whole file; where neither is known, the first download's is recorded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    urls: tuple[Url, ...] = ()
    name: Word = ""
    bytes: int | None = Field(None, gt=0)
    approximate_bytes: int | None = Field(None, gt=0)
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    md5: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")

    @model_validator(mode="before")
    @classmethod
    def _named_as_in_the_url(cls, values: Any) -> Any:
        if isinstance(values, dict) and "name" not in values and values.get("urls"):
            return {**values, "name": PurePosixPath(unquote(urlsplit(str(values["urls"][0])).path)).name}
        return values

    @property
    def size(self) -> int | None:
        """Bytes, exact or rounded; None if neither is known."""
        return self.bytes or self.approximate_bytes

    @property
    def has_checksum(self) -> bool:
        """Whether the card has one."""
        return bool(self.sha256 or self.md5)


class CardDomain(BaseModel):
    """Where the images of one domain are.

    train, test: folders in the archives; with `classes`, the file of the images in IDX format, whose labels are in
        the file with "labels-idx1" instead of "images-idx3" in its name.
    match: which files of the folder, as in "*_color.png"; what the star stands for becomes the image's name.
    part: this domain is one half of side-by-side images.
    classes: names of the labels of an IDX file, in their order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: str
    test: str | None = None
    match: str | None = Field(None, pattern=r"^[^*/]*\*[^*/]*$")
    part: Part = None
    classes: tuple[Word, ...] = ()

    @property
    def splits(self) -> dict[str, str]:
        """The folders or files of "train" and, if there are any, "test"."""
        return {"train": self.train} | ({"test": self.test} if self.test else {})


class Card(BaseModel):
    """One public data set.

    by_hand: how to get the files where no program may: sentences for people.
    version: raise it if the same files are to be laid out in another way.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Word
    about: str
    licence: str
    citation: str
    homepage: Url | None = None
    by_hand: str = ""
    files: tuple[File, ...] = Field(min_length=1)
    domains: dict[Word, CardDomain] = Field(min_length=1)
    version: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _files_can_be_had(self) -> Self:
        for file in self.files:
            if not file.name:
                raise ValueError("A file needs urls, or, if it is to be got by hand, a name.")
            if not file.urls and not self.by_hand:
                raise ValueError(f"The file {file.name} has no urls, and by_hand does not say how to get it.")
        return self

    @model_validator(mode="after")
    def _halves_are_of_the_same_images(self) -> Self:
        domains = list(self.domains.values())
        if any(domain.part for domain in domains):
            wholes = {(domain.train, domain.test, domain.match) for domain in domains}
            if sorted(domain.part or "" for domain in domains) != ["left", "right"] or len(wholes) > 1:
                raise ValueError("part goes with two domains, one left and one right, of the same images.")
        return self


def read_card(path: Path) -> Card:
    """The card in a TOML file. Raises DataError that names the file, and each field that is wrong."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        card = Card.model_validate(values)
    except OSError as error:
        raise DataError(f"The card {path} cannot be read: {error.strerror or error}.") from error
    except ValidationError as error:
        problems = explain_problems(error, "field", _field, _known_fields)
        raise DataError(f"The card {path} is wrong. {' '.join(problems)}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise DataError(f"The card {path} is no TOML: {error}.") from error
    if card.name != path.stem:
        raise DataError(f"The card {path} is of {card.name!r}; call it {card.name}.toml, or change its name.")
    return card


def cards() -> dict[str, Card]:
    """All cards by name; a user's replaces a built-in one of its name. A card that is wrong costs one warning line."""
    found: dict[str, Card] = {}
    for folder in (PACKAGED if PACKAGED.is_dir() else CHECKOUT, users_folder()):
        for path in sorted(folder.glob("*.toml")):
            try:
                card = read_card(path)
            except DataError as error:
                print(f"warning: {error} It was left out.", file=sys.stderr)
            else:
                found[card.name] = card
    return found


def users_folder() -> Path:
    """Where the user's own cards are: $TRANSLATE_DATASETS, or translate/datasets/ in the user's config folder."""
    if chosen := os.environ.get("TRANSLATE_DATASETS"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "translate" / "datasets"


def _field(location: Location) -> str:
    """A field as TOML users write it: files[0].sha256."""
    return re.sub(r"\.(\d+)", r"[\1]", ".".join(map(str, location)))


def _known_fields(location: Location) -> Iterable[str]:
    """The fields of the table that a field is in."""
    tables: dict[int | str, type[BaseModel]] = {"files": File, "domains": CardDomain}
    return (Card if len(location) == 1 else tables[location[0]]).model_fields
