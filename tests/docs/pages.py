"""The pages of the documentation, and what in them can be run.

Owns the rules of the fenced blocks: a block with a title is a file, `console` is a session with outputs, `sh` is a
script, `text output` is what the command right before it prints. What cannot run here says why, in a comment right
before it: ``<!-- not run: needs a cluster -->``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RUN = ("console", "sh")
# Parts of the navigation whose commands are run; the README's are, too.
SECTIONS = ("Tutorial", "How-to guides")
# What a command may need that is not here; any other reason is none.
REASONS = {
    "needs a cluster",
    "needs a registry",
    "needs AWS",
    "needs krew",
    "needs several clusters",
    "needs a signed release",
    "needs Entra",
    "needs Envoy",
    "needs Google Cloud",
    "needs Hydra",
    "needs Keycloak",
    "needs a clone",
    "needs the gateway's filter",
    "needs root",
    "needs systemd",
    "sets up what it uses",
}

_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^>]+?) -->\n+)?```(?P<kind>[\w-]*)(?P<rest>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Command:
    """One command, and the output that is shown for it; nothing shown is nothing promised."""

    text: str
    shown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """A fenced block; ``start`` and ``end`` are where its text lies in the page."""

    kind: str
    text: str
    title: str | None
    reason: str | None
    is_output: bool
    start: int
    end: int

    @property
    def commands(self) -> list[Command]:
        """The commands in it, in order."""
        if self.kind == "sh":
            lines = [line for line in _logical(self.text.splitlines()) if line and not line.startswith("#")]
            return [Command(line) for line in lines]
        found: list[Command] = []
        for line in _logical(self.text.splitlines()):
            if line.startswith("$ "):
                found.append(Command(line[2:]))
            elif found:
                found[-1] = Command(found[-1].text, (*found[-1].shown, line))
        return found


def _logical(lines: list[str]) -> list[str]:
    """Join each line that ends with a backslash with the next one."""
    joined: list[str] = []
    for line in lines:
        if joined and joined[-1].endswith("\\"):
            joined[-1] = f"{joined[-1]}\n{line}"
        else:
            joined.append(line)
    return joined


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    return [
        Block(
            fence["kind"],
            fence["text"],
            title[1] if (title := _TITLE.search(fence["rest"])) else None,
            fence["reason"],
            fence["kind"] == "text" and fence["rest"].strip() == "output",
            *fence.span("text"),
        )
        for fence in _FENCE.finditer(text)
    ]


def navigation() -> list[Any]:
    """Return the site's navigation, as it stands in mkdocs.yml."""
    entries: list[Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    return entries


def listed(entry: Any) -> list[str]:
    """Return the pages that an entry of the navigation leads to."""
    match entry:
        case str():
            return [entry]
        case list():
            return [page for part in entry for page in listed(part)]
        case dict():
            return [page for part in entry.values() for page in listed(part)]
        case _:
            pass
    raise TypeError(type(entry))


def run_pages() -> list[Path]:
    """Return the pages whose commands are run: the README, the tutorial and the how-to guides."""
    sections = [entry for entry in navigation() if isinstance(entry, dict) and next(iter(entry)) in SECTIONS]
    return [ROOT / "README.md", *(DOCS / page for page in listed(sections))]
