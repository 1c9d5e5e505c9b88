"""From figures to a table: what was measured, what was wanted, and how the two rotators compare.

Owns the goals. A row is one line of the table; ``met`` is None where no goal was set. The JSON is the same rows, with
the plain figures beside the text.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

MARK = "bench"
_HEADS = ("work", "credrotator", "gateway's rotator", "ratio", "goal", "met")


@dataclass(frozen=True)
class Row:
    """One line: texts for people, figures for machines. ``part`` is what can be measured by itself."""

    work: str
    ours: str
    peer: str = ""
    ratio: str = ""
    goal: str = ""
    met: bool | None = None
    part: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    def cells(self) -> tuple[str, ...]:
        """Return the line's texts in the order of the heads."""
        met = {True: "yes", False: "no", None: ""}[self.met]
        return (self.work, self.ours, self.peer, self.ratio, self.goal, met)


def markdown(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table; goals that were not met come last, where the page explains them."""
    ordered = sorted(rows, key=lambda row: row.met is False)
    lines = [_HEADS, tuple("---" for _ in _HEADS), *(row.cells() for row in ordered)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def plain(rows: Sequence[Row]) -> str:
    """Return the rows as a table for a terminal."""
    lines = [_HEADS, *(row.cells() for row in rows)]
    widths = [max(len(cells[column]) for cells in lines) for column in range(len(_HEADS))]
    return "\n".join("  ".join(map(str.ljust, cells, widths)).rstrip() for cells in lines)


def merged(old: Iterable[Row], new: Sequence[Row]) -> list[Row]:
    """Return the old rows, those of a part that was measured again replaced; what is new comes last."""
    again = {row.part for row in new}
    return [*(row for row in old if row.part not in again), *new]


def document(rows: Iterable[Row], *, quick: bool) -> str:
    """Return the rows as JSON, with what they were measured on."""
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}
    return json.dumps({"quick": quick, "machine": machine, "rows": [asdict(row) for row in rows]}, indent=1) + "\n"


def read(path: Path) -> list[Row]:
    """Read the rows of a document."""
    return [Row(**row) for row in json.loads(path.read_text())["rows"]]


def put_into(page: str, table: str, mark: str = MARK) -> str:
    """Return a page whose table, between the marks, is this one.

    Raises:
        ValueError: The page has no such marks.
    """
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    start, stop = page.index(begin), page.index(end)
    return f"{page[:start]}{begin}\n{table}\n{page[stop:]}"
