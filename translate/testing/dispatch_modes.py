"""The torch dispatch modes that checks run under: random numbers by image, and no reads on the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class NoiseByImage(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Random numbers by the number of the draw and of the image, so that parts of a batch draw what the whole does.

    The length of a draw's first axis, compared with the number of images in the part, says what its rows are:

    equal           one row an image
    twice as long   two rows an image, one after the other (only if there is a second axis)
    half as long    one row for every second image (only if there is a second axis)
    other           numbers that all images share

    images: the images of the part, as indices in the whole batch.
    """

    def __init__(self, images: range) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.images = images
        self.draws = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name == "randperm":
            self.draws += 1
            result.copy_(self._drawn(result.shape, torch.rand).argsort())
        elif name == "randint":
            self.draws += 1
            *low, high, _ = args
            result.copy_((low[0] if low else 0) + self._drawn(result.shape, torch.rand) * (high - sum(low)))
        elif name in NORMAL or name in UNIFORM:
            self.draws += 1
            drawn = self._drawn(result.shape, torch.randn if name in NORMAL else torch.rand)
            result.copy_(UNIFORM[name](drawn, *args[1:]) if name in UNIFORM else NORMAL[name](drawn, *args[1:]))
        return result

    def _drawn(self, shape: torch.Size, draw: Callable[..., Tensor]) -> Tensor:
        """Numbers of that shape from `draw`."""

        def numbers(shape: torch.Size, image: int) -> Tensor:
            generator = torch.Generator().manual_seed(self.draws * 1009 + image)
            count = shape.numel()
            return draw(max(count, 16), generator=generator)[:count].view(shape)  # torch draws fewer than 16 otherwise

        if rows := self._rows(shape):
            return torch.stack([numbers(shape[1:], row + 1) for row in rows])
        return numbers(shape, 0)

    def _rows(self, shape: torch.Size) -> Sequence[int]:
        """A seed for each row of a draw, made of its image; empty if the images share the draw."""
        first, last, count = self.images.start, self.images.stop, len(self.images)
        if shape and shape[0] == count:
            return self.images
        if len(shape) > 1 and shape[0] == 2 * count:
            return range(2 * first, 2 * last)
        if len(shape) > 1 and 2 * shape[0] == count:
            return range(first, last, 2)
        return ()


NORMAL: dict[str, Callable[..., Tensor]] = {
    "randn": lambda x, *_: x,
    "randn_like": lambda x, *_: x,
    "normal_": lambda x, mean=0.0, std=1.0, *_: mean + std * x,
}
UNIFORM: dict[str, Callable[..., Tensor]] = {
    "rand": lambda x, *_: x,
    "rand_like": lambda x, *_: x,
    "uniform_": lambda x, low=0.0, high=1.0, *_: low + (high - low) * x,
    "bernoulli_": lambda x, p=0.5, *_: (x < p).float(),
}


class NoHostReads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises when a tensor's value is read on the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default):
            raise AssertionError(
                "a loss or forward reads a tensor on the host (item, float, bool): it stops the device"
            )
        return func(*args, **(kwargs or {}))
