"""Renders the characters that DejaVu Sans and DejaVu Serif share, in four styles, as pairs of PNGs.

The DejaVu fonts, https://dejavu-fonts.github.io, are Bitstream Vera (Copyright 2003 Bitstream, Inc.) with changes in
the public domain and glyphs of Arev (Copyright 2006 Tavmjong Bah), free to use, copy and render. Their licence lies
beside them, in matplotlib's LICENSE_DEJAVU.
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

SIDE = 64  # of a picture, in pixels
EM = 44  # size of both fonts, in pixels
BASELINE = 48  # from the top, in pixels; leaves room for two accents above a capital, and for descenders
DETAIL = 4  # drawn so many times larger, then averaged: smooth edges, and hinting that does not show

STYLES = {  # in file names -> fonts without and with serifs
    "book": ("DejaVuSans", "DejaVuSerif"),
    "bold": ("DejaVuSans-Bold", "DejaVuSerif-Bold"),
    "italic": ("DejaVuSans-Oblique", "DejaVuSerif-Italic"),
    "bold-italic": ("DejaVuSans-BoldOblique", "DejaVuSerif-BoldItalic"),
}
CATEGORIES = "LNP"  # letters, numbers, punctuation: symbols are drawn alike in both fonts


class Glyph(NamedTuple):
    """One character in one style: two grey pictures, black on white, SIDE × SIDE.

    family: the first character of all that share this one's base letter, by which training and test are split.
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
        """train, or test for one family in ten: a letter is held out in all styles, with accents and look-alikes."""
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
    """Every character that both fonts draw, and draw differently; each picture without serifs comes once.

    Characters that do not fit are left out, and so are look-alikes, as Cyrillic А is of Latin A.
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
    """The family of each base letter: the first of all that look like it without serifs."""
    book = _Font(STYLES["book"][0])
    looks: dict[bytes, str] = {}
    families = {}
    for base in sorted(set(map(_base, book.characters))):
        picture = book.draw(base)
        families[base] = base if picture is None else looks.setdefault(picture.tobytes(), base)
    return families


def _base(character: str) -> str:
    """The letter under the accents; e for é, and for ᵉ as well."""
    return unicodedata.normalize("NFKD", character)[0]


class _Font:
    """One of matplotlib's fonts at the size of the data set."""

    def __init__(self, name: str) -> None:
        from matplotlib import get_data_path
        from matplotlib.ft2font import FT2Font

        path = Path(get_data_path(), "fonts", "ttf", f"{name}.ttf")
        if not path.is_file():
            raise DataError(f"The font {path} is not there, which matplotlib ships; reinstall matplotlib.")
        # the plain layout engine, so that the pictures do not depend on which libraries Pillow was built with
        self.font = ImageFont.truetype(path, EM * DETAIL, layout_engine=ImageFont.Layout.BASIC)
        self.characters = {
            chr(code) for code in FT2Font(str(path)).get_charmap() if unicodedata.category(chr(code))[0] in CATEGORIES
        }

    def draw(self, character: str) -> Image.Image | None:
        """The character on the baseline, its ink in the middle; None unless a margin of a pixel stays free."""
        left, top, right, bottom = self.font.getbbox(character, anchor="ls")
        full, baseline = SIDE * DETAIL, BASELINE * DETAIL
        x = round((full - left - right) / 2)
        if min(x + left, baseline + top) < DETAIL or max(x + right, baseline + bottom) > full - DETAIL:
            return None
        picture = Image.new("L", (full, full), 255)
        ImageDraw.Draw(picture).text((x, baseline), character, fill=0, font=self.font, anchor="ls")
        return picture.reduce(DETAIL)


def _alike(one: Image.Image, other: Image.Image) -> bool:
    """Whether two pictures differ by less than one grey level on average."""
    return ImageStat.Stat(ImageChops.difference(one, other)).mean[0] < 1


DATASET = Dataset(
    name="glyphs",
    domains=("sans", "serif"),
    prepare=prepare,
    licence="DejaVu fonts: free, derived from Bitstream Vera (matplotlib's LICENSE_DEJAVU)",
    about=f"Thousands of letters without and with serifs, {SIDE} × {SIDE}, grey, paired by name.",
)
