"""What tools write into the pages is there: a page that announces a table has one."""

from __future__ import annotations

import html
import re

import pytest

from tests.docs.pages import DOCS, ROOT
from tests.support.tools import load_tool

_GENERATED = re.compile(r"<!-- (?P<mark>[a-z]+) -->\n(?P<content>.*?)<!-- /(?P=mark) -->", re.DOTALL)
_OPENED = re.compile(r"^<!-- (?!not run:)[a-z]+ -->$", re.MULTILINE)
PAGES = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in [*DOCS.rglob("*.md")]}


@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if _OPENED.search(text)])
def test_generated_parts_are_not_empty(name: str) -> None:
    """Between the marks of a generated part is a table with at least one row, or a picture; each mark has its end."""
    parts = [part["content"] for part in _GENERATED.finditer(PAGES[name])]
    assert len(parts) == len(_OPENED.findall(PAGES[name]))
    for content in parts:
        if content.rstrip().endswith(".svg)"):
            continue
        head, rule, *rows = content.splitlines()
        assert head.startswith("|")
        assert set(rule) <= set("|- :")
        assert rows


def test_tables_are_not_empty() -> None:
    """No page has a table of nothing but its head."""
    for name, text in PAGES.items():
        assert not re.search(r"^\|[ |:-]+\|\n(?!\|)", text, re.MULTILINE), name


def test_chapters_are_not_empty() -> None:
    """No page has a heading with nothing below it."""
    for name, text in PAGES.items():
        outside = re.sub(r"^```.*?^```$", "text", text, flags=re.MULTILINE | re.DOTALL)
        headings = re.findall(r"^(#+) .+\n+(?=(#+) |\Z)", outside, re.MULTILINE)
        assert [head for head, following in headings if len(following) <= len(head)] == [], name


@pytest.mark.parametrize("name", ["WIDE", "NARROW"])
def test_the_terminal_shows_what_was_run(name: str) -> None:
    """The front page's picture has the commands of its program, and a summary of what they did."""
    session = getattr(load_tool("record"), name)
    picture = (DOCS / "pictures" / f"{session.name}.svg").read_text(encoding="utf-8")
    lines: dict[str, str] = {}
    for y, text in re.findall(r'<text [^>]*?y="([\d.]+)"[^>]*>([^<]*)</text>', picture):
        lines[y] = lines.get(y, "") + html.unescape(text).replace("\xa0", " ")
    shown = "\n".join(line.rstrip() for line in lines.values())
    places = [shown.index(f"$ {command.rstrip()}\n") for command in session.commands]
    assert places[0] == places[2] < places[1] < places[3]
    assert "\n3 rotated, 0 kept, 0 skipped, 0 failed\n" in shown
    assert "\n0 rotated, 3 kept, 0 skipped, 0 failed\n" in shown
