"""The sizes and the pixels that images of a domain have: in a store, and as the input of a trained model."""

from __future__ import annotations

from torch import Tensor

from translate.data.files.sources import Entry
from translate.data.images import as_float, match, resize
from translate.data.options import DataOptions
from translate.data.synthesis import parse
from translate.domains import DomainSpec, Part
from translate.plugins.types import Header
from translate.random_bits import random_bits

Shape = tuple[int, int]
"""Height and width, in pixels."""


def stored_shape(shape: Shape, options: DataOptions, side: int) -> Shape:
    """The size in which an image of `shape` is kept, so that crops of `options.size` fit into it.

    side: what images are resized or scaled to. Images that are too small for a crop are enlarged in proportion.
    """
    if options.preprocess == "resize-and-crop":
        return side, side
    if options.preprocess == "none":
        return shape
    if options.preprocess == "crop":
        scale = 1.0
    else:
        scale = side / (shape[1] if options.preprocess == "scale-width" else min(shape))
    scale = max(scale, options.size / min(shape))
    return tuple(max(options.size, round(length * scale)) for length in shape)  # type: ignore[return-value]


def part_shape(header: Header, part: Part) -> Shape:
    """The size of one half of a side-by-side file, or of the whole image."""
    return header.height, header.width if part is None else max(1, header.width // 2)


def centre_crop(image: Tensor, shape: Shape) -> Tensor:
    """The centre of an image (C, H, W), in this size."""
    top, left = ((old - new) // 2 for old, new in zip(image.shape[1:], shape, strict=True))
    return image[:, top : top + shape[0], left : left + shape[1]]


class InputPreparer:
    """Prepares decoded images as inputs of a trained model. It may be called from several threads.

    spec: of the domain that the model takes.
    source: for a synthesised domain, the domain that it was made from in training. The images are of that domain and
        are degraded here. Without it, they are degraded already.
    seed: of the random numbers of degrading, which also depend on the name of each image.
    """

    def __init__(self, spec: DomainSpec, source: DomainSpec | None = None, seed: int = 0) -> None:
        self.spec = spec if source is None else source
        self.synthesis = parse(spec.synthesis)
        self.degrading = source is not None
        self.seed = seed

    def __call__(self, image: Tensor, entry: Entry, shape: Shape | None = None) -> Tensor:
        """`prepare`, as float32 in [-1, 1]."""
        return self.as_float(self.prepare(image, entry, shape))

    def prepare(self, image: Tensor, entry: Entry, shape: Shape | None = None) -> Tensor:
        """(C, H, W) uint8, uint16 or float32, the domain's half of a file -> (C', H', W') as `as_float` takes it.

        shape: height and width of the result, by default those of the image, times the scale of a synthesis.
        Raises DataError naming the entry if the image does not match the domain.
        """
        spec = self.spec
        image = match(image, spec.channels, spec.bit_depth, spec.background, entry.origin)
        scale = self.synthesis.scale if self.synthesis and not self.degrading else 1
        if shape is not None:
            height, width = (-(-side // scale) for side in shape)
            image = resize(image, height, width, nearest=spec.kind == "labels")
        if self.synthesis is None:
            return image
        floats = as_float(image, spec.value_range)
        if not self.degrading:
            accepted = self.synthesis.accept(floats)
            return accepted if shape is None else centre_crop(accepted, shape)
        (seed,) = random_bits(1, self.seed, "degraded", entry.name).tolist()
        return self.synthesis(floats[None], [seed])[0]

    def as_float(self, images: Tensor) -> Tensor:
        """The result of `prepare`, one image or a batch, as float32 in [-1, 1]; until then it takes less memory."""
        return images if self.synthesis else as_float(images, self.spec.value_range)
