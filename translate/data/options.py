"""What a user may say about the training images; the command line turns the fields into flags."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from translate.errors import did_you_mean

AUGMENTATIONS = ("crop", "flip")


class DataOptions(BaseModel):
    """Where the images are and how they become batches.

    A DOMAIN is a folder, a zip or tar archive, or the name of a domain that a plugin offers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str | None = Field(None, description="One folder, archive or data set that holds both domains.")
    a: str | None = Field(None, description="Images of domain a: a folder, an archive, or a domain's name.")
    b: str | None = Field(None, description="Images of domain b.")
    images: str | None = Field(None, description="Images of a model with one domain; classes are its sub-folders.")
    test_data: str | None = Field(None, description="Held-out images of both domains, laid out like --data.")
    test_a: str | None = Field(None, description="Held-out images of domain a, for the sample grids.")
    test_b: str | None = Field(None, description="Held-out images of domain b.")
    test_images: str | None = Field(None, description="Held-out images of a model with one domain.")
    swap: bool = Field(False, description="Exchange the two sides of --data as they are read.")
    size: int = Field(256, ge=8, description="Side of the square training crops, in pixels.")
    load_size: int | None = Field(
        None, ge=8, description="Side the images are resized to before cropping [default: size × 286/256 if cropping]."
    )
    augment: str = Field("crop,flip", description="Comma list of crop and flip, or none.")
    batch: int = Field(1, ge=1, description="Images of each domain in a step.")
    seed: int = Field(0, ge=0, description="Seed of every random choice.")

    @field_validator("augment")
    @classmethod
    def _known_augmentations(cls, value: str) -> str:
        for word in _words(value):
            if word not in AUGMENTATIONS:
                hint = did_you_mean(word, [*AUGMENTATIONS, "none"])
                raise ValueError(f"{word!r} is no augmentation. {hint}")
        return value

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.load_size is not None and self.load_size < self.size:
            raise ValueError(
                f"--load-size {self.load_size} is smaller than --size {self.size}, so no crop fits into it; "
                "raise --load-size or lower --size."
            )
        return self

    @property
    def augmentations(self) -> frozenset[str]:
        """The augmentations asked for, as a set of words."""
        return frozenset(_words(self.augment))

    @property
    def stored_size(self) -> int:
        """Side that images are resized to; the reference's 286 for crops of 256, in proportion, unless given."""
        if self.load_size is not None:
            return self.load_size
        return round(self.size * 286 / 256) if "crop" in self.augmentations else self.size


def _words(augment: str) -> list[str]:
    words = [word.strip() for word in augment.split(",")]
    return [] if words == ["none"] else words
