"""The site's navigation leads to every page, and every link between the repository's documents leads somewhere.

`make docs` holds the same, and anchors too, with the tool that makes the site; this needs nothing but the files.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import DOCS, ROOT, listed, navigation

if TYPE_CHECKING:
    from pathlib import Path

# Made from files outside of docs/, see tools/docs_hooks.py.
MADE = {"changelog.md", "chart.md"}
DOCUMENTS = [*ROOT.glob("*.md"), ROOT / "charts" / "credrotator" / "README.md", *DOCS.rglob("*.md")]
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
_OUTSIDE = re.compile(r"""(?:href|src)="https?://|url\(["']?https?://""")


def test_every_page_is_reached() -> None:
    """Nothing in the navigation is missing or there twice, and no page is left out."""
    reached = listed(navigation())
    assert sorted(set(reached)) == sorted(reached)
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} | MADE
    assert set(reached) == pages


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """A link to a file is right where people read it first: in the repository."""
    targets = _LINK.findall(document.read_text(encoding="utf-8"))
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_pictures_stand_alone() -> None:
    """Pictures bring all that they need, say in words what they show, and have colours for light and dark."""
    for picture in (DOCS / "pictures").glob("*.svg"):
        text = picture.read_text(encoding="utf-8")
        assert not _OUTSIDE.search(text.replace('xmlns="http://www.w3.org/2000/svg"', "")), picture.name
        if picture.stem != "favicon":
            assert "<title" in text, picture.name
            assert "<desc" in text, picture.name
            assert "prefers-color-scheme: dark" in text, picture.name
