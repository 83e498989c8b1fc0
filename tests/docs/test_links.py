"""Links lead somewhere, and nowhere that only one machine knows."""

import re
from urllib.parse import urlsplit

import pytest
from pages import FENCE, ROOT

FILES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
HOSTS = {"arxiv.org", "example.org", "keepachangelog.com", "pypi.org", "semver.org"}
LOCAL = re.compile(r"(?<![\w.<])/(?:home|root|tmp|work|mnt|Users)/|localhost|127\.0\.0\.1|index-url")
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """The anchors that headings get."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_file
def test_links_within_the_repository_lead_to_a_file_and_heading(file):
    missing = []
    for link in links(file.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = file.parent / path if path else file
        if urlsplit(link).scheme:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            missing.append(link)
    assert not missing, f"{file.name} links to {', '.join(missing)}"


@each_file
def test_links_to_elsewhere_lead_to_known_public_hosts(file):
    hosts = {urlsplit(link).hostname for link in re.findall(r"https?://[^\s)>\]]+", file.read_text(encoding="utf-8"))}
    assert hosts <= HOSTS


@each_file
def test_no_path_or_host_of_one_machine_is_named(file):
    assert not LOCAL.findall(file.read_text(encoding="utf-8"))
