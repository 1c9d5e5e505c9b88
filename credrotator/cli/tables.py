"""What commands print: tables for people in kubectl's manner, documents as JSON and YAML for machines."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from credrotator.app.outcome_documents import rotate_document
from credrotator.core.durations import show_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from credrotator.core.model import ObjectKey
    from credrotator.core.outcome import Outcome

    Paint = Callable[[str, str], str]
    """Puts a text into a tone (``good``, ``warn``, ``bad``, ``dim``, ``strong``) on a terminal that has colours."""

NONE = "-"
SOON_S = 300
"""An expiry that is nearer than this is nothing to look away from: the gateway's own rotator wakes then."""
TONES = {"rotated": "good", "failed": "bad", "skipped": "dim"}


class Cell(NamedTuple):
    """A text of a table with its tone."""

    text: str
    tone: str = ""


def names(keys: Iterable[ObjectKey]) -> str:
    """Write policies as ``-o name`` has them, one in a line, as commands take them."""
    return "".join(f"{key}\n" for key in keys)


def plain(text: str, _tone: str) -> str:
    """Paint nothing: for files, pipes, and whoever wants no colours."""
    return text


def structured(document: Any, form: str) -> str:
    """Write a document as ``json`` or ``yaml``."""
    if form == "json":
        return json.dumps(document, indent=2) + "\n"
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def rotate_table(outcomes: Sequence[Outcome], now: datetime, *, wide: bool, dry_run: bool, paint: Paint = plain) -> str:
    """Write the result of a pass for a person, failures explained below it."""
    header = ["POLICY", "PROVIDER", "ACTION", "REASON", "EXPIRES IN", "RENEWS IN"] + ["SECRET"] * wide
    rows: list[list[str | Cell]] = [[Cell(name, "strong") for name in header]]
    for outcome in outcomes:
        action = f"{outcome.action} (dry run)" if dry_run and outcome.action == "rotated" else outcome.action
        row: list[str | Cell] = [str(outcome.policy), outcome.provider, Cell(action, TONES.get(outcome.action, ""))]
        row += [outcome.reason, expiry(outcome.expires_at, now), show_span(outcome.renew_at, now)]
        rows.append(row + [str(outcome.secret or NONE)] * wide)
    counts = rotate_document(outcomes)["summary"]
    summary = ", ".join(
        paint(f"{count} {action}", TONES.get(action, "") if count else "dim") for action, count in counts.items()
    )
    explained = "".join(explanation(outcome, paint) for outcome in outcomes)
    tail = " (dry run: nothing was written)" if dry_run else ""
    return align(rows, paint) + "\n" + explained + "\n" * bool(explained) + f"{summary}{tail}\n"


def failures(outcomes: Iterable[Outcome], paint: Paint = plain) -> str:
    """Explain what failed, and say nothing of the rest."""
    return "".join(explanation(replace(outcome, warnings=()), paint) for outcome in outcomes if outcome.error)


def explanation(outcome: Outcome, paint: Paint = plain) -> str:
    """Say what went wrong and what to do, and what is odd; nothing for a policy that is well."""
    lines = [f"{outcome.policy}: {paint('warning', 'warn')}: {warning}" for warning in outcome.warnings]
    if error := outcome.error:
        lines.append(f"{outcome.policy}: {paint(f'{error.reason} ({error.kind})', 'bad')}: {error.message}")
        lines.append(f"  {paint('what to do', 'strong')}: {error.hint}")
    return "".join(f"{line}\n" for line in lines)


def expiry(moment: datetime | None, now: datetime) -> Cell:
    """Write an expiry as a span from now, in the tone of how near it is."""
    if moment is None:
        return Cell(NONE, "dim")
    left_s = (moment - now).total_seconds()
    return Cell(show_span(moment, now), "bad" if left_s <= 0 else "warn" if left_s < SOON_S else "")


def show_span(moment: datetime | None, now: datetime) -> str:
    """Write a moment as a span from now; ``ago`` says more than a negative number."""
    if moment is None:
        return NONE
    return (
        show_duration(moment - now)
        if moment > now
        else "now"
        if moment == now
        else f"{show_duration(now - moment)} ago"
    )


def align(rows: Sequence[Sequence[str | Cell]], paint: Paint = plain) -> str:
    """Lay out columns with three spaces between them, as kubectl does."""
    cells = [[Cell(content) if isinstance(content, str) else content for content in row] for row in rows]
    widths = [max(len(cell.text) for cell in column) for column in zip(*cells, strict=True)]
    return "".join(_line(row, widths, paint) for row in cells)


def _line(row: Sequence[Cell], widths: Sequence[int], paint: Paint) -> str:
    """Pad outside of what is painted: a terminal would count the codes, or underline the gap."""
    line, gap = "", ""
    for cell, width in zip(row, widths, strict=True):
        if cell.text:
            line += gap + paint(cell.text, cell.tone)
            gap = ""
        gap += " " * (width - len(cell.text) + 3)
    return line + "\n"
