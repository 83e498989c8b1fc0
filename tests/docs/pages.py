"""README.md and docs/, and what is in them that can be held to the code."""

import re
from pathlib import Path
from typing import NamedTuple

SMALL = {"generator": "resnet(blocks=1, width=4)", "discriminator": "patchgan(layers=2, width=4)"}
"""Networks that train in no time."""

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WRITTEN = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("models/*.md"))]
PAGES = {path.name: path for path in WRITTEN}
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Fence(NamedTuple):
    """A block of code; line: of the page, of its first line, from 1."""

    language: str
    text: str
    line: int


def fences(page: str, language: str | None = None) -> list[Fence]:
    """The fences of a page, all or those of one language."""
    text = PAGES[page].read_text(encoding="utf-8")
    found = [
        Fence(match["language"], match["text"], text.count("\n", 0, match.start("text")) + 1)
        for match in FENCE.finditer(text)
    ]
    return [fence for fence in found if language in (None, fence.language)]


def prose(page: str) -> str:
    """A page without its fences."""
    return FENCE.sub("", PAGES[page].read_text(encoding="utf-8"))


def module(page: str, *, after: str = "", before: str = "") -> str:
    """The Python fences of a page, or of a part between two headings, as one module.

    Each is on the lines that it has on the page, for tracebacks.
    """
    page_lines = PAGES[page].read_text(encoding="utf-8").splitlines()
    first = page_lines.index(after) if after else 0
    last = page_lines.index(before) if before else len(page_lines)
    lines: list[str] = []
    for fence in fences(page, "python"):
        if not first < fence.line <= last:
            continue
        lines += [""] * (fence.line - 1 - len(lines))
        lines += fence.text.splitlines()
    return "\n".join(lines)
