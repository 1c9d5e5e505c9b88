"""The site's navigation leads to every page, and every link between the repository's documents leads somewhere.

`make docs` holds the same, and anchors too, with the tool that makes the site; this needs nothing but the files.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.docs.pages import DOCS, ROOT, listed, navigation
from tests.support.tools import load_tool

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

# Made from files outside of docs/, see tools/docs_hooks.py.
MADE = {"changelog.md", "chart.md", "contributing.md"}
DOCUMENTS = [*ROOT.glob("*.md"), ROOT / "charts" / "credrotator" / "README.md", *DOCS.rglob("*.md")]
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
_OUTSIDE = re.compile(r"""(?:href|src)="https?://|url\(["']?https?://""")

PHONE_PX = 400
SMALLEST_TEXT = 11
_DESCRIPTION = re.compile(r"<desc[^>]*>.+</desc>")


@pytest.fixture(scope="module")
def markup() -> ModuleType:
    """Load what the site's hooks are made of; it needs no MkDocs."""
    module: ModuleType = load_tool("docs_markup")
    return module


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


def test_pictures_have_a_form_for_phones() -> None:
    """Each picture has a narrow twin whose text is legible at a phone's width, and which says the same in words."""
    for picture in (DOCS / "pictures").glob("*.svg"):
        if picture.stem == "favicon" or picture.stem.endswith("-narrow"):
            continue
        wide = picture.read_text(encoding="utf-8")
        narrow = picture.with_stem(f"{picture.stem}-narrow").read_text(encoding="utf-8")
        width = re.findall(r'viewBox="0 0 (\d+) ', narrow)[0]
        assert int(width) <= PHONE_PX
        assert min(map(int, re.findall(r"font-size[=:] ?\"?(\d+)", narrow))) >= SMALLEST_TEXT
        assert _DESCRIPTION.findall(narrow) == _DESCRIPTION.findall(wide) != []


def test_the_copy_button_takes_commands_only(markup: Any) -> None:
    """Neither prompt nor output is copied; a command of several lines is whole; other blocks are copied as they are."""
    session = "$ one --with \\\n  two\noutput\n$ three\n\nmore output\n"
    assert markup.commands(session) == "one --with \\\n  two\nthree"
    shown = (
        '<pre><span></span><code><span class="gp">$ </span>a <span class="s">&quot;b&quot;</span>\nout\n</code></pre>'
    )
    assert 'data-copy="a &quot;b&quot;"' in markup.copied(f'<div class="highlight">{shown}</div>')
    script = '<div class="highlight"><pre><span></span><code>credrotator status\n</code></pre></div>'
    assert markup.copied(script) == script


def test_long_names_leave_room_beside_them(markup: Any) -> None:
    """In tables, and there only, names of metrics and tests break after an underscore, values at blanks."""
    name, value = "credrotator_credential_renewal_timestamp_seconds", "[" + '{"a": 1}, ' * 9 + "]"
    table = f"<td><code>{name}</code></td><td><code>{value}</code> <code>--issuer-ca</code></td>"
    broken = name.replace("_", "_<wbr>")
    assert markup.breakable(table) == (
        f'<td><code class="long">{broken}</code></td>'
        f'<td><code class="long">{value}</code> <code>--issuer-ca</code></td>'
    )
    assert markup.breakable(f"<p><code>{name}</code></p>") == f"<p><code>{name}</code></p>"


def test_notes_stand_out(markup: Any) -> None:
    """A note is marked so that GitHub and the site both set it apart; none is left as a word at a paragraph's start."""
    assert markup.admonitions("> [!WARNING]\n> One.\n> Two.\n\nText\n") == "!!! warning\n\n    One.\n    Two.\n\nText\n"
    for document in DOCUMENTS:
        assert not re.search(r"^(NOTE|WARNING|CAUTION):", document.read_text(encoding="utf-8"), re.MULTILINE), document


def test_a_phone_gets_the_narrow_picture(markup: Any) -> None:
    """The site offers it where there is one, and leaves other images alone."""
    image = '<img alt="x" src="../pictures/journey.svg">'
    assert markup.responsive(image, lambda _: False) == image
    offered = markup.responsive(image, "../pictures/journey-narrow.svg".__eq__)
    assert 'srcset="../pictures/journey-narrow.svg"' in offered
    assert image in offered
