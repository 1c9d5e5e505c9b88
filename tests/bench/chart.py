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

MARK, PICTURE = "chart", "performance.svg"
_OURS, _PEER = "credrotator", "the gateway's rotator"
_WIDTH, _LEFT, _LONGEST = 760, 170, 480
_BAR, _GROUP, _TOP = 16, 78, 8
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-weight:600}.ours{fill:#1f7a4d}.peer{fill:#9aa4b0}"
    "@media(prefers-color-scheme:dark){text{fill:#d7dde4}.ours{fill:#3fb37a}.peer{fill:#6b7684}}"
)


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
            title = row.work.partition(", from")[0] + ": until all credentials are published"
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
    work = group.title.partition(":")[0]
    return (
        f"{work}: credrotator has published all credentials after {group.ours:.0f} s, the gateway's own rotator after "
        f"{group.peer:.0f} s, and credrotator makes {calls.ours:.0f} calls for them in place of {calls.peer:.0f}."
    )


def block(rows: Sequence[Row]) -> str:
    """Return what stands between the page's marks: the sentence and the picture."""
    told = "; ".join(
        f"{group.title}: {_figure(group.ours, group)} against {_figure(group.peer, group)}" for group in groups(rows)
    )
    return f"{sentence(rows)}\n\n![{_OURS} and {_PEER}; {told}](pictures/{PICTURE})"


def svg(rows: Iterable[Row]) -> str:
    """Return the picture."""
    found = groups(rows)
    height = _TOP + len(found) * _GROUP
    lines = [line for number, group in enumerate(found) for line in _bars(group, _TOP + number * _GROUP)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">'
    return "\n".join([head, f"<style>{_STYLE}</style>", *lines, "</svg>"]) + "\n"


def _bars(group: Group, top: int) -> Iterator[str]:
    yield f'<text class="title" x="0" y="{top + 14}">{escape(group.title)}</text>'
    longest = max(group.ours, group.peer) or 1.0
    for number, (name, kind, value) in enumerate(((_OURS, "ours", group.ours), (_PEER, "peer", group.peer))):
        y, width = top + 22 + number * (_BAR + 4), max(1.0, value / longest * _LONGEST)
        yield f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>'
        yield f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2"/>'
        yield f'<text x="{_LEFT + width + 8:.1f}" y="{y + 13}">{_figure(value, group)}</text>'


def _figure(value: float, group: Group) -> str:
    return f"{value:.{group.digits}f} {group.unit}".strip()
