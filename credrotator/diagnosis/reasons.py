"""What each reason means, and what to do about it: read from the ``reasons.toml`` beside the code that gives them.

Owns finding and expanding them. A file names its package's reasons; ``endpoint`` in it says whom the package asks, so
that reasons of all endpoints (``<Endpoint>Unreachable``) are known under their own names too. ``title`` is the chapter
of all reasons in the file, or of one of them.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

FILE = "reasons.toml"
ANY_ENDPOINT = "<Endpoint>"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A reason, explained.

    Attributes:
        name: As in JSON, conditions, Events, logs and metrics; ``<…>`` stands for a part that differs.
        kind: What happens next (``transient``, ``denied``, ``policy``, or several); empty where nothing failed.
        cause: What happened, in sentences.
        cure: What a person can do about it, in sentences.
        title: The chapter to which it belongs.
        names: The reason under every name that it has; several where it is one of all endpoints.
    """

    name: str
    kind: str
    cause: str
    cure: str
    title: str
    names: tuple[str, ...]

    @property
    def pattern(self) -> tuple[str, str] | None:
        """What a vendor's own codes begin and end with; None for a reason with a name of its own."""
        # ``AADSTS<number>`` and the like: a family whose members the vendor numbers.
        before, opening, rest = self.name.partition("<")
        if not opening or ANY_ENDPOINT in self.name:
            return None
        return before, rest.partition(">")[2]

    def covers(self, reason: str) -> bool:
        """Tell whether this explains a reason."""
        if self.pattern is None:
            return reason in self.names
        before, after = self.pattern
        # At least one character for the code itself, or the bare prefix would be explained as a member.
        return len(reason) > len(before + after) and reason.startswith(before) and reason.endswith(after)


@cache
def explanations() -> tuple[Explanation, ...]:
    """Return all of them, by package and in the order of their files; read once, for a report asks for each rule."""
    files = [tomllib.loads(file.read_text("utf-8")) for file in _files(resources.files("credrotator"))]
    endpoints = [content["endpoint"] for content in files if "endpoint" in content]
    return tuple(_explanation(entry, content["title"], endpoints) for content in files for entry in content["reason"])


def explain(reason: str) -> Explanation | None:
    """Return what is known of a reason: its own entry, or that of a family of vendor's codes."""
    known = explanations()
    exact = (entry for entry in known if entry.pattern is None and entry.covers(reason))
    return next(exact, None) or next((entry for entry in known if entry.covers(reason)), None)


def _explanation(entry: dict[str, str], title: str, endpoints: list[str]) -> Explanation:
    name = entry["name"]
    names = tuple(name.replace(ANY_ENDPOINT, endpoint) for endpoint in endpoints) if ANY_ENDPOINT in name else (name,)
    return Explanation(name, entry.get("kind", ""), entry["cause"], entry["cure"], entry.get("title", title), names)


def _files(folder: Traversable) -> Iterator[Traversable]:
    for child in sorted(folder.iterdir(), key=lambda each: each.name):
        # By walking, not by a list of packages: a new provider's file is found without anybody being told.
        if child.is_dir() and child.name != "__pycache__":
            yield from _files(child)
        elif child.name == FILE:
            yield child
