"""Contact sheets: many images in one picture, in rows and columns with titles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from PIL import ImageDraw, ImageFont
from torch import Tensor

from translate.data.images import from_pillow, on_white, to_pillow

_FONT = ImageFont.load_default(11)
_LINE = 16  # pixels, the height of a line of text


def grid(
    rows: Sequence[Sequence[Tensor]], titles: Sequence[str] = (), row_titles: Sequence[str] = (), gap: int = 2
) -> Tensor:
    """A contact sheet: uint8 (3, H, W) from rows of uint8 (C, H, W), on white.

    titles: above the columns, each shortened to the width of its column. row_titles: left of the rows.
    gap: pixels between images.
    Images may differ in size and channels. Transparent ones are shown on white, and the first three of many bands.
    """
    images = [image for row in rows for image in row]
    height, width = (max(image.shape[axis] for image in images) + gap for axis in (1, 2))
    top_margin = gap + (_LINE if titles else 0)
    left_margin = gap + max((math.ceil(_FONT.getlength(title)) + 2 for title in row_titles), default=0)
    columns = max(len(row) for row in rows)
    sheet = torch.full((3, top_margin + len(rows) * height, left_margin + columns * width), 255, dtype=torch.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = top_margin + i * height, left_margin + j * width
            sheet[:, top : top + image.shape[1], left : left + image.shape[2]] = on_white(image.cpu())
    texts = [((left_margin + j * width, 2), _shortened(title, width - gap)) for j, title in enumerate(titles)]
    texts += [((2, top_margin + i * height + height // 2 - _LINE // 2), title) for i, title in enumerate(row_titles)]
    return _with_texts(sheet, texts) if texts else sheet


def _shortened(title: str, width: int) -> str:
    """As many letters of a title as fit into a width in pixels."""
    while title and _FONT.getlength(title) > width:
        title = title[:-1]
    return title


def _with_texts(sheet: Tensor, texts: Sequence[tuple[tuple[int, int], str]]) -> Tensor:
    """The sheet with texts whose upper left corners are at (x, y), in pixels."""
    picture = to_pillow(sheet)
    draw = ImageDraw.Draw(picture)
    for position, text in texts:
        draw.text(position, text, fill="black", font=_FONT)
    return from_pillow(picture).contiguous()
