"""The options of training images; the command line turns the fields into flags."""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from translate.errors import UsageError

Preprocess = Literal["resize-and-crop", "scale-width", "scale-short-side", "crop", "none"]
StoreKind = Literal["auto", "device", "memory", "disk"]
RESIZED = ("resize-and-crop", "scale-width", "scale-short-side")


def suggested_range(high: float) -> str:
    """The --value-range of the fewest bits that hold values up to `high`; empty if these use most of 16 bits."""
    return f"0,{2 ** max(8, int(high).bit_length()) - 1}" if high < 2**14 else ""


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises UsageError if it is missing or not TOML."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise UsageError(f"The config {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise UsageError(f"The config {path} is not TOML: {error}.") from error


class DataOptions(BaseModel):
    """Where the images are and how they become batches.

    A DOMAIN is a folder, a zip or tar archive, or the name of a domain that a dataset card or a plugin offers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str | None = Field(
        None, description="One folder, archive, data set or list of pairs (.csv, .txt) that holds both domains."
    )
    a: str | None = Field(
        None,
        description="Images of domain a: a folder, an archive, a domain's name, or made from the other domain, as in "
        '"gray(b)".',
    )
    b: str | None = Field(None, description="Images of domain b.")
    images: str | None = Field(None, description="Images of a model with one domain; classes are its sub-folders.")
    test_data: str | None = Field(None, description="Held-out images of both domains, laid out like --data.")
    test_a: str | None = Field(None, description="Held-out images of domain a, for the sample grids.")
    test_b: str | None = Field(None, description="Held-out images of domain b.")
    test_images: str | None = Field(None, description="Held-out images of a model with one domain.")
    holdout: str | None = Field(
        None, description="Share of the images to hold out where no test folder is found, as in 5%."
    )
    swap: bool = Field(False, description="Exchange the two sides of --data as they are read.")
    size: int = Field(256, ge=8, description="Side of the square training crops, in pixels.")
    preprocess: Preprocess = Field(
        "resize-and-crop",
        description="Before cropping: resize to a square, scale to a width or to a short side, keeping the aspect "
        "ratio, or only crop; none: whole images, all of one size.",
    )
    load_size: int | None = Field(
        None, ge=8, description="Side that images are resized to before cropping [default: size × 286/256 if cropping]."
    )
    augment: str = Field(
        "crop,flip",
        description="Comma list of crop, flip, zoom(0.5, 1), other names, and files (.toml, .json); or none.",
    )
    labels: str = Field(
        "", description="Domains whose images are label maps, as in b: their values are never blended with others."
    )
    background: str = Field(
        "white",
        description="Colour under transparent images: white, black or #rrggbb; keep: alpha is a fourth channel.",
    )
    value_range: str | None = Field(
        None,
        description="LOW,HIGH: the values of images above 8 bits that become -1 and 1 [default: the whole range of 16 "
        "bits; what is found in floats].",
    )
    store: StoreKind = Field(
        "auto", description="Where decoded images are kept: on the device, in memory, or on disk in the cache folder."
    )
    memory_budget: float | None = Field(
        None, gt=0, description="Gigabytes that decoded images may take of the memory [default: half of what is free]."
    )
    batch: int = Field(1, ge=1, description="Images of each domain in a step.")
    seed: int = Field(0, ge=0, description="Seed of every random choice.")

    @field_validator("augment")
    @classmethod
    def _known_augmentations(cls, value: str) -> str:
        from translate.data.augmentation.parsing import check

        check(value)
        return value

    @field_validator("holdout")
    @classmethod
    def _is_share(cls, value: str | None) -> str | None:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)%", value or "5%")
        if match is None or not 0 < float(match[1]) < 100:
            raise ValueError(f"{value!r} is not a share; write a percentage between 0% and 100%, as in 5%.")
        return value

    @field_validator("background")
    @classmethod
    def _is_colour(cls, value: str) -> str:
        if value not in ("white", "black", "keep") and not re.fullmatch("#[0-9a-fA-F]{6}", value):
            raise ValueError(f"{value!r} is not a background; write white, black, keep, or a colour as in #7f7f7f.")
        return value

    @field_validator("value_range")
    @classmethod
    def _is_range(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                low, high = map(float, value.split(","))
            except ValueError:
                raise ValueError(f"{value!r} is not a range; write two numbers, as in 0,4095.") from None
            if not -math.inf < low < high < math.inf:
                raise ValueError(
                    f"the range {value!r} is empty or endless; write two finite numbers, the smaller one first."
                )
        return value

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.load_size is not None and self.preprocess not in RESIZED:
            raise ValueError(f"--preprocess {self.preprocess} resizes nothing, so --load-size does not go with it.")
        if self.load_size is not None and self.load_size < self.size:
            raise ValueError(
                f"--load-size {self.load_size} is smaller than --size {self.size}, so no crop fits into it; "
                "raise --load-size or lower --size."
            )
        return self

    @classmethod
    def of_run(cls, path: Path) -> DataOptions:
        """The options of a `run.toml` without its augmentations. Raises UsageError."""
        stored = read_toml(path).get("fit", {})
        return DataOptions.model_validate(
            {name: stored[name] for name in DataOptions.model_fields.keys() & stored.keys() - {"augment"}}
        )

    @property
    def stored_size(self) -> int:
        """Side that images are resized to before cropping; by default that of the reference, 286 for crops of 256."""
        from translate.data.augmentation.parsing import crops

        if self.load_size is not None:
            return self.load_size
        return round(self.size * 286 / 256) if crops(self.augment) else self.size

    @property
    def holdout_share(self) -> float:
        """The share of images to hold out, from 0 to 1; 0 without --holdout."""
        return float(self.holdout[:-1]) / 100 if self.holdout else 0.0

    @property
    def given_value_range(self) -> tuple[float, float] | None:
        """The two numbers of --value-range."""
        if self.value_range is None:
            return None
        low, high = map(float, self.value_range.split(","))
        return low, high

    @property
    def label_domains(self) -> frozenset[str]:
        """The names of the domains whose images are label maps."""
        return frozenset(word.strip() for word in self.labels.split(",") if word.strip())
