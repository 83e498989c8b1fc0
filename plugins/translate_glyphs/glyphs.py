"""Renders the characters that DejaVu Sans and DejaVu Serif share, in four styles, as pairs of PNGs.

The DejaVu fonts, https://dejavu-fonts.github.io, are Bitstream Vera (Copyright 2003 Bitstream, Inc.) with changes in
the public domain and glyphs of Arev (Copyright 2006 Tavmjong Bah), free to use, copy and render. Their licence is
matplotlib's file LICENSE_DEJAVU, beside the fonts.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageStat

from translate.errors import DataError
from translate.plugins.types import Dataset

SIDE = 64  # of an image, in pixels
EM = 44  # size of both fonts, in pixels
BASELINE = 48  # from the top, in pixels; leaves room for two accents above a capital, and for descenders
DETAIL = 4  # drawn at this many times the size, then averaged: smooth edges without visible hinting

STYLES = {  # style in file names -> fonts without and with serifs
    "book": ("DejaVuSans", "DejaVuSerif"),
    "bold": ("DejaVuSans-Bold", "DejaVuSerif-Bold"),
    "italic": ("DejaVuSans-Oblique", "DejaVuSerif-Italic"),
    "bold-italic": ("DejaVuSans-BoldOblique", "DejaVuSerif-BoldItalic"),
}
CATEGORIES = "LNP"  # letters, numbers, punctuation; symbols look the same in both fonts


class Glyph(NamedTuple):
    """One character in one style: two grey images, black on white, SIDE × SIDE.

    family: the first of all characters that share this one's base letter; the split into training and test uses it.
    """

    character: str
    style: str
    family: str
    sans: Image.Image
    serif: Image.Image

    @property
    def name(self) -> str:
        """The file's name in both domains."""
        return f"u{ord(self.character):04x}-{self.style}.png"

    @property
    def part(self) -> str:
        """Test for one family in ten, else train. A letter is held out in all styles, with accents and look-alikes."""
        return "test" if hashlib.sha256(self.family.encode()).digest()[0] < 26 else "train"


def prepare(folder: Path) -> None:
    """Write every glyph to train/sans, train/serif, test/sans and test/serif. Takes seconds."""
    for part in ("train", "test"):
        for domain in DATASET.domains:
            (folder / part / domain).mkdir(parents=True)
    for glyph in glyphs():
        glyph.sans.save(folder / glyph.part / "sans" / glyph.name)
        glyph.serif.save(folder / glyph.part / "serif" / glyph.name)


def glyphs() -> Iterator[Glyph]:
    """Every character that both fonts draw differently.

    Characters that do not fit are left out, and so are those that look like an earlier one without serifs, as Cyrillic
    А looks like Latin A.
    """
    families = _families()
    for style, (sans_name, serif_name) in STYLES.items():
        sans_font, serif_font = _Font(sans_name), _Font(serif_name)
        seen: set[bytes] = set()
        for character in sorted(sans_font.characters & serif_font.characters):
            sans, serif = sans_font.draw(character), serif_font.draw(character)
            if sans is None or serif is None or _alike(sans, serif) or sans.tobytes() in seen:
                continue
            seen.add(sans.tobytes())
            yield Glyph(character, style, families.get(_base(character), character), sans, serif)


def _families() -> dict[str, str]:
    """The family of each base letter: the first letter that looks the same without serifs."""
    book = _Font(STYLES["book"][0])
    looks: dict[bytes, str] = {}
    families = {}
    for base in sorted(set(map(_base, book.characters))):
        picture = book.draw(base)
        families[base] = base if picture is None else looks.setdefault(picture.tobytes(), base)
    return families


def _base(character: str) -> str:
    """The letter without accents and forms: e for é and for ᵉ."""
    return unicodedata.normalize("NFKD", character)[0]


class _Font:
    """One of matplotlib's fonts, at the size EM."""

    def __init__(self, name: str) -> None:
        from matplotlib import get_data_path
        from matplotlib.ft2font import FT2Font

        path = Path(get_data_path(), "fonts", "ttf", f"{name}.ttf")
        if not path.is_file():
            raise DataError(f"The font {path}, which comes with matplotlib, is missing; reinstall matplotlib.")
        # the basic layout engine, so that images do not depend on the libraries with which Pillow was built
        self.font = ImageFont.truetype(path, EM * DETAIL, layout_engine=ImageFont.Layout.BASIC)
        self.characters = {
            chr(code) for code in FT2Font(str(path)).get_charmap() if unicodedata.category(chr(code))[0] in CATEGORIES
        }

    def draw(self, character: str) -> Image.Image | None:
        """The character on the baseline, horizontally centred; None unless a margin of a pixel stays free."""
        left, top, right, bottom = self.font.getbbox(character, anchor="ls")
        full, baseline = SIDE * DETAIL, BASELINE * DETAIL
        x = round((full - left - right) / 2)
        if min(x + left, baseline + top) < DETAIL or max(x + right, baseline + bottom) > full - DETAIL:
            return None
        picture = Image.new("L", (full, full), 255)
        ImageDraw.Draw(picture).text((x, baseline), character, fill=0, font=self.font, anchor="ls")
        return picture.reduce(DETAIL)


def _alike(one: Image.Image, other: Image.Image) -> bool:
    """Whether two images differ by less than one grey level on average."""
    return ImageStat.Stat(ImageChops.difference(one, other)).mean[0] < 1


DATASET = Dataset(
    name="glyphs",
    domains=("sans", "serif"),
    prepare=prepare,
    licence="DejaVu fonts: free, derived from Bitstream Vera (matplotlib's LICENSE_DEJAVU)",
    about=f"Thousands of letters without and with serifs, {SIDE} × {SIDE}, grey, paired by name.",
)
