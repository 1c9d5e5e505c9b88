"""The measurements at a glance: a bar chart of what both rotators did, and one sentence.

A group has a bar for each rotator, on a scale of its own. The SVG is plain shapes and text, in colours that are
readable on a light and on a dark page.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.bench.table import Row

MARK, PICTURE = "chart", "performance"
_OURS, _PEER = "credrotator", "the gateway's rotator"
_TITLE = "Both rotators, the same work"
_BAR, _TOP = 16, 8
_STYLE = (
    ".title { font-weight: 600 } text { fill: #24292f } .ours { fill: #1f7a4d } .peer { fill: #9aa4b0 } "
    "@media (prefers-color-scheme: dark) "
    "{ text { fill: #d7dde4 } .ours { fill: #3fb37a } .peer { fill: #6b7684 } }"
)


@dataclass(frozen=True)
class Layout:
    """Where things stand, in pixels: the whole width, where bars begin, and how long the longest one is."""

    width: int
    left: int
    longest: int


WIDE, NARROW = Layout(760, 170, 480), Layout(380, 160, 140)
"""The second one is legible at a phone's width."""


@dataclass(frozen=True)
class Group:
    """Two figures of one kind; less is better. ``unit`` follows the number."""

    title: str
    ours: float
    peer: float
    unit: str
    digits: int = 1


def groups(rows: Iterable[Row]) -> list[Group]:
    """Take from the rows what both rotators did: new policies, and what the last of these works used."""
    found: list[Group] = []
    last: Row | None = None
    for row in rows:
        if row.part == "new" and row.figures:
            last, (ours, peer) = row, (row.figures["ours"], row.figures["peer"])
            title = row.work.partition(", from")[0] + ", until published"
            found.append(Group(title, ours["seconds"], peer["seconds"], "s"))
    if last:
        ours, peer = last.figures["ours"], last.figures["peer"]
        found.append(Group("CPU for the latter", ours["usage"]["cpu_s"], peer["usage"]["cpu_s"], "s"))
        found.append(Group("most memory", ours["usage"]["peak_mib"], peer["usage"]["peak_mib"], "MiB", 0))
        found.append(Group("calls to issuer and STS", _calls(ours["counts"]), _calls(peer["counts"]), "", 0))
    return found


def _calls(counts: dict[str, float]) -> float:
    return counts["discovery"] + counts["token"] + counts["exchange"]


def sentence(rows: Sequence[Row]) -> str:
    """Say what matters most to somebody who has to choose; empty where that was not measured."""
    found = groups(rows)
    if not found:
        return ""
    group, calls = found[0], found[-1]
    work = group.title.removesuffix(", until published")
    return (
        f"{work}: credrotator has published all credentials after {group.ours:.0f} s, the gateway's own rotator after "
        f"{group.peer:.0f} s, and credrotator makes {calls.ours:.0f} calls for them in place of {calls.peer:.0f}."
    )


def described(rows: Iterable[Row]) -> str:
    """Say in words what the picture shows."""
    figures = (
        f"{group.title}: {_figure(group.ours, group)} against {_figure(group.peer, group)}" for group in groups(rows)
    )
    return f"{_OURS} and {_PEER}; {'; '.join(figures)}"


def block(rows: Sequence[Row]) -> str:
    """Return what stands between the page's marks: the sentence and the picture."""
    return f"{sentence(rows)}\n\n![{described(rows)}](pictures/{PICTURE}.svg)"


def pictures(rows: Sequence[Row]) -> dict[str, str]:
    """Return the pictures by their files' names."""
    return {f"{PICTURE}.svg": _svg(rows, WIDE), f"{PICTURE}-narrow.svg": _svg(rows, NARROW)}


def _svg(rows: Sequence[Row], layout: Layout) -> str:
    found, row = groups(rows), 2 * (_BAR + 4) + 38
    lines = [line for number, group in enumerate(found) for line in _bars(group, _TOP + number * row, layout)]
    size = f'viewBox="0 0 {layout.width} {_TOP + len(found) * row}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="sans-serif" font-size="13">'
    words = f"<title>{escape(_TITLE)}</title>", f"<desc>{escape(described(rows))}</desc>"
    return "\n".join([head, *words, f"<style>{_STYLE}</style>", *lines, "</svg>"]) + "\n"


def _bars(group: Group, top: int, layout: Layout) -> Iterator[str]:
    yield f'<text class="title" x="0" y="{top + 14}">{escape(group.title)}</text>'
    longest, left = max(group.ours, group.peer) or 1.0, layout.left
    for number, (name, kind, value) in enumerate(((_OURS, "ours", group.ours), (_PEER, "peer", group.peer))):
        y, width = top + 22 + number * (_BAR + 4), max(1.0, value / longest * layout.longest)
        yield f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>'
        yield f'<rect class="{kind}" x="{left}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2"/>'
        yield f'<text x="{left + width + 8:.1f}" y="{y + 13}">{_figure(value, group)}</text>'


def _figure(value: float, group: Group) -> str:
    return f"{value:.{group.digits}f} {group.unit}".strip()
