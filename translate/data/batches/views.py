"""Which part of an image is seen, turned how: drawn by seed and step, and cut out of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from translate.data.batches.store import Store
from translate.data.images import normalise_, resize
from translate.random_bits import random_bits


class View(NamedTuple):
    """What is seen of one image: a window, in pixels, and how it is turned.

    flip, vertical: mirrored left to right, top to bottom. transposed: rows and columns exchanged, after the mirroring.
    """

    row: int
    top: int
    left: int
    height: int
    width: int
    flip: bool = False
    vertical: bool = False
    transposed: bool = False


def views(
    seed: int,
    shuffle_key: str,
    step: int,
    store: Store,
    rows: Sequence[int],
    size: tuple[int, int],
    hot: Mapping[str, Any],
) -> list[View]:
    """What is seen of each of the images of one step.

    size: height and width of what the model sees. hot: the words of `--augment` that are done here, with their
    arguments: without "crop" or "zoom" the window is the centre.
    """
    bits = random_bits(3 * len(rows), seed, "geometry", shuffle_key, step).reshape(-1, 3).tolist()
    more = random_bits(3 * len(rows), seed, "turns", shuffle_key, step).reshape(-1, 3).tolist()
    found = []
    for row, (top, left, flip), (scale, vertical, quarter) in zip(rows, bits, more, strict=True):
        shape = store.shape(row)
        height, width = size
        if "zoom" in hot:
            low, high = hot["zoom"]
            share = low + (high - low) * scale / 2**64
            height, width = _window(shape, size, share)
        slack = (shape[0] - height, shape[1] - width)
        moves = "crop" in hot or "zoom" in hot
        places = (top % (slack[0] + 1), left % (slack[1] + 1)) if moves else (slack[0] // 2, slack[1] // 2)
        turns = quarter % 4 if "rotate90" in hot else 0  # a quarter turn: transposed, and mirrored
        flipped = bool(flip % 2 and "flip" in hot) ^ (turns in (2, 3))
        upside = bool(vertical % 2 and "vflip" in hot) ^ (turns in (1, 2))
        found.append(View(row, *places, height, width, flipped, upside, turns in (1, 3)))
    return found


def _window(shape: tuple[int, int], size: tuple[int, int], share: float) -> tuple[int, int]:
    """The window of the aspect of `size` that covers a share of the largest such window in an image."""
    scale = share * min(shape[0] / size[0], shape[1] / size[1])
    return min(shape[0], max(1, round(size[0] * scale))), min(shape[1], max(1, round(size[1] * scale)))


def cut_out(store: Store, seen: Sequence[View], size: tuple[int, int], *, nearest: bool = False) -> Tensor:
    """The views of some images of a store: (N, C, height, width), as they are stored and where the store is.

    size: what windows of another size are scaled to, antialiased, or by the nearest pixel. Slices are nine times as
    fast as gathering on the CPU; on a GPU they would be N launches.
    """
    if store.flat.device.type != "cpu" and all((view.height, view.width) == size for view in seen):
        return cut_by_gather(store, seen)
    out = torch.empty((len(seen), store.channels, *size), dtype=store.flat.dtype, device=store.flat.device)
    for image, view in zip(out, seen, strict=True):
        image.copy_(_cut_one(store, view, size, nearest))
    return out


def cut_to_floats(store: Store, seen: Sequence[View], size: tuple[int, int], *, nearest: bool = False) -> Tensor:
    """`cut_out` of a uint8 store on the CPU, and `as_float` of the result, with the same bits: float32 in [-1, 1].

    One image after the other, which stays in the processor's cache meanwhile.
    """
    out = torch.empty((len(seen), store.channels, *size))
    for image, view in zip(out, seen, strict=True):
        normalise_(image.copy_(_cut_one(store, view, size, nearest)), (0, 255))
    return out


def _cut_one(store: Store, view: View, size: tuple[int, int], nearest: bool) -> Tensor:
    window = store.image(view.row)[:, view.top : view.top + view.height, view.left : view.left + view.width]
    mirrored = [axis for axis, turned in ((-1, view.flip), (-2, view.vertical)) if turned]
    window = window.flip(mirrored) if mirrored else window
    window = window.transpose(-1, -2) if view.transposed else window
    if window.shape[1:] == size:
        return window
    scaled = resize(window.view(torch.uint16) if window.dtype == torch.int16 else window, *size, nearest=nearest)
    return scaled.view(window.dtype)


def cut_by_gather(store: Store, seen: Sequence[View]) -> Tensor:
    """`cut_out` in one indexing kernel, for windows that are not scaled."""
    height, width = seen[0].height, seen[0].width
    y, x = torch.arange(height)[:, None], torch.arange(width)
    places = []
    for view in seen:
        at, own_width = int(store.places[view.row, 0]), store.shape(view.row)[1]
        rows, columns = (x, y) if view.transposed else (y, x)
        rows = height - 1 - rows if view.vertical else rows
        columns = width - 1 - columns if view.flip else columns
        places.append(at + (view.top + rows) * own_width + view.left + columns)
    planes = torch.tensor([[c * h * w for c in range(store.channels)] for h, w in (store.shape(v.row) for v in seen)])
    device = store.flat.device
    index = torch.stack(places)[:, None].to(device, non_blocking=True)  # (N, 1, height, width)
    return store.flat[index + planes[:, :, None, None].to(device, non_blocking=True)]
