"""A model's declaration of its domains, and the description of each domain that the model gets in its constructor.

A model has one of four declarations. It determines the flags for images and the fields of a batch:

    Unpaired("a", "b")    --a --b (or --data)   Batch(a, b)             drawn independently
    Paired("a", "b")      --a --b (or --data)   Batch(a, b)             the same scene on both sides
    Images("images")      --images              Batch(images)
    Labelled("images")    --images              Batch(images, labels)   classes from sub-folders
    Labelled("images", optional=True)                                   or no classes, if there are no sub-folders
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, model_validator

if TYPE_CHECKING:
    from torch import Tensor


class Pair(Protocol):
    """The batch of `Unpaired("a", "b")` and `Paired("a", "b")`: (N, C, H, W) float32 in [-1, 1] each."""

    @property
    def a(self) -> Tensor: ...
    @property
    def b(self) -> Tensor: ...


Depth = Literal[8, 16, 32]
Part = Literal["left", "right"] | None
"""Which half of a side-by-side image; None is all of it."""


class DomainSpec(BaseModel):
    """One domain of images as the model sees it; part of the model file.

    name: of the domain on the command line and in batches, as in "a" or "images".
    title: the name of its folder or data set, for sample grids and messages.
    channels: of an image tensor (channels, height, width).
    size: side of the square training crops, in pixels.
    kind: "labels" are label maps: their values are codes, not colours, and are never interpolated.
    bit_depth: of the source images: 8 and 16 are unsigned integers, 32 is floating point.
    value_range: the source values that become -1 and 1; of 8 bits always (0, 255).
    background: the colour under transparent images; "keep" if alpha is one of the channels.
    part: which half of a side-by-side image holds this domain, None for whole images.
    classes: names of the sub-folders, in label order, for labelled images.
    synthesis: how images of another domain become images of this one, as in "gray(b)"; empty for images of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str = ""
    kind: Literal["images", "labels", "volume"] = "images"
    channels: int = 3
    size: int = 256
    bit_depth: Depth = 8
    value_range: tuple[float, float] = (0.0, 255.0)
    background: str = "white"
    part: Part = None
    classes: tuple[str, ...] = ()
    synthesis: str = ""

    @model_validator(mode="before")
    @classmethod
    def _eight_bits_have_one_range(cls, values: Any) -> Any:
        """Replace `value_range` in files of the first versions, which have (-1, 1) here, the range of the tensors."""
        if isinstance(values, dict) and values.get("bit_depth", 8) == 8:
            return {**values, "value_range": (0.0, 255.0)}
        return values


class Spec(dict[str, DomainSpec]):
    """The domains of a model, by name; `spec.a` is `spec["a"]`."""

    def __getattr__(self, name: str) -> DomainSpec:
        if name not in self:
            raise AttributeError(f"no domain {name!r}; there are: {', '.join(self)}")
        return self[name]

    @property
    def deep(self) -> bool:
        """Whether images of some domain have more than 8 bits."""
        return any(domain.bit_depth > 8 for domain in self.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the model file's manifest and the run's record."""
        return {name: domain.model_dump(mode="json") for name, domain in self.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Spec:
        return cls({name: DomainSpec.model_validate(value) for name, value in values.items()})


@cache
def _batch_type(fields: tuple[str, ...]) -> Any:
    return namedtuple("Batch", fields)  # the fields are known at run time only


@dataclass(frozen=True)
class BatchSpec:
    """The base class of the declarations. names: of the domains. fields: of a batch. optional: see `Labelled`."""

    names: tuple[str, ...]
    fields: tuple[str, ...]
    optional: bool = False

    @property
    def batch_type(self) -> Any:
        """The NamedTuple class of this declaration's batches."""
        return _batch_type(self.fields)


class Unpaired(BatchSpec):
    """Two domains without correspondence: each batch draws from both independently."""

    def __init__(self, source: str = "a", target: str = "b") -> None:
        super().__init__((source, target), (source, target))


class Paired(BatchSpec):
    """Two domains whose images correspond: the same scene, the same geometry when augmented."""

    def __init__(self, source: str = "a", target: str = "b") -> None:
        super().__init__((source, target), (source, target))


class Images(BatchSpec):
    """One domain of images."""

    def __init__(self, name: str = "images") -> None:
        super().__init__((name,), (name,))


class Labelled(BatchSpec):
    """One domain of images in class sub-folders; `labels` is int64 (N,), an index into the domain's classes.

    optional: whether a folder without sub-folders is accepted. The domain then has no classes, and the labels are 0.
    """

    def __init__(self, name: str = "images", *, optional: bool = False) -> None:
        super().__init__((name,), (name, "labels"), optional)
