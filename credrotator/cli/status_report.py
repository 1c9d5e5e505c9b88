"""What ``status`` prints: for a person, and for machines."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from credrotator.cli.status_reading import Status
from credrotator.cli.tables import NONE, Cell, align, expiry, plain, show_span
from credrotator.core.counts import counted
from credrotator.core.errors import printable
from credrotator.core.secretdata import read_time, show_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from credrotator.cli.tables import Paint
    from credrotator.core.outcome_shape import LastOutcome
    from credrotator.diagnosis.overview import Row

ANSWERS = {True: "yes", False: "no", None: NONE}
HEADER = ("POLICY", "PROVIDER", "STATE", "EXPIRES IN", "RENEWS IN", "LAST OUTCOME", "BACKENDS", "ROUTES")
WIDE = ("MODELS", "IDENTITY", "SECRET", "ACKNOWLEDGED", "IN USE")
STATE_TONES = {
    "Fresh": "good",
    "Static": "dim",
    "Unknown": "dim",
    "NotSupported": "dim",
    "Due": "warn",
    "Edited": "warn",
    "Parked": "warn",
}
"""Every other state is bad."""
ORDERS: dict[str, Callable[[Row], Any]] = {
    "policy": lambda row: row.policy,
    "provider": lambda row: row.provider,
    "state": lambda row: (not row.needs_attention, row.state),
    "expires": lambda row: row.expires_at,
    "renews": lambda row: row.renew_at,
}
"""What ``--sort-by`` sorts by."""
ONE_PLACE = Status([], complete=True)
LISTED = 3
"""Dependants that a cell names; the rest is counted."""


def document(row: Row) -> dict[str, Any]:
    """Return one policy's standing for machines."""
    return {
        "policy": str(row.policy),
        "provider": row.provider,
        "state": row.state,
        "why": row.why or None,
        "hint": row.hint or None,
        "identity": row.identity or None,
        "secret": str(row.secret) if row.secret else None,
        "expiresAt": show_time(row.expires_at) if row.expires_at else None,
        "renewAt": show_time(row.renew_at) if row.renew_at else None,
        "lastOutcome": row.last,
        "acknowledged": row.acknowledged,
        "inUse": row.in_use,
        "backends": [str(key) for key in row.dependants.backends],
        "routes": [str(key) for key in row.dependants.routes],
        "models": list(row.dependants.models),
        "warnings": list(row.warnings),
    }


def documents(rows: Sequence[Row], status: Status) -> dict[str, Any]:
    """Return the stable document of ``-o json``: the policies, or those of each cluster where several are shown."""
    if not status.contexts:
        return {"policies": [document(row) for row in rows]}
    clusters = [
        {
            "context": context,
            "error": status.unread.get(context),
            "problems": list(status.problems.get(context, ())),
            "policies": [document(row) for row in rows if row.context == context],
        }
        for context in status.contexts
    ]
    return {"clusters": clusters}


def names(rows: Sequence[Row], status: Status) -> str:
    """Write policies as commands take them, one in a line; behind the context and a tab where there are several."""
    return "".join(f"{row.context}\t{row.policy}\n" if status.contexts else f"{row.policy}\n" for row in rows)


def table(rows: Sequence[Row], now: datetime, *, wide: bool, paint: Paint = plain, status: Status = ONE_PLACE) -> str:
    """Lay the rows out for a person; of a cluster that could not be read there is a line that says why."""
    fleet = bool(status.contexts)
    columns = ("CONTEXT",) * fleet + HEADER + (WIDE if wide else ())
    header: list[str | Cell] = [Cell(name, "strong") for name in columns]
    lines = [_cells(row, now, wide=wide) for row in rows]
    if fleet:
        lines = [[printable(row.context), *line] for row, line in zip(rows, lines, strict=True)]
    return align([header, *lines], paint) + _unread(rows, status, paint)


def _unread(rows: Sequence[Row], status: Status, paint: Paint) -> str:
    """Say of each cluster that could not be read why, in a line that the columns do not bound."""
    width = max(map(len, ["CONTEXT", *(printable(row.context) for row in rows)]))
    return "".join(f"{printable(name):<{width}}   {paint(why, 'bad')}\n" for name, why in status.unread.items())


def notes(rows: Sequence[Row], paint: Paint = plain, status: Status = ONE_PLACE) -> str:
    """Say what one word of state does not tell, why a last pass failed and what to do; then count."""
    counted = "" if len(rows) == 1 and not status.contexts else f"\n{summary(rows, paint, status)}"
    return explanations(rows, paint) + counted


def reasons(status: Status, paint: Paint = plain) -> str:
    """Say of each cluster that could not be read why, where the table has no room for it."""
    return "".join(f"\n{printable(name)}: {paint(why, 'bad')}\n" for name, why in status.unread.items())


def explanations(rows: Sequence[Row], paint: Paint = plain) -> str:
    """Say what one word of state does not tell, why a last pass failed, and what to do."""
    return "".join(f"\n{note}" for row in rows for note in _notes(row, paint))


def summary(rows: Sequence[Row], paint: Paint = plain, status: Status = ONE_PLACE) -> str:
    """Count the states in a line."""
    states = Counter(row.state for row in rows)
    counts = ", ".join(paint(f"{count} {state}", _tone(state)) for state, count in states.most_common())
    read = len(status.contexts) - len(status.unread)
    where = f" in {read} of {counted(len(status.contexts), 'cluster', 'clusters')}" if status.contexts else ""
    return f"{counted(len(rows), 'policy', 'policies')}{where}{': ' * bool(rows)}{counts}\n"


def ordered(status: Status, by: str) -> list[Row]:
    """Sort what was read by one of ``ORDERS``; by policy, cluster by cluster, in the order of the contexts."""
    return [
        row
        for context in (status.contexts if by == "policy" and status.contexts else [None])
        for row in in_order([row for row in status.rows if context in {None, row.context}], by)
    ]


def in_order(rows: Sequence[Row], by: str) -> list[Row]:
    """Sort by one of ``ORDERS``; what has no such value comes last, and equals stay as they were."""
    value = ORDERS[by]
    # None does not compare with a time, and what never expires is nobody's first worry.
    there = [row for row in rows if value(row) is not None]
    return sorted(there, key=value) + [row for row in rows if value(row) is None]


def unwell_first(rows: Sequence[Row]) -> list[Row]:
    """Put first what a person should look at: a screen shows the beginning only."""
    return sorted(rows, key=lambda row: not row.needs_attention)


def _cells(row: Row, now: datetime, *, wide: bool) -> list[str | Cell]:
    cells: list[str | Cell] = [str(row.policy), row.provider, Cell(row.state, _tone(row.state))]
    cells += [expiry(row.expires_at, now), show_span(row.renew_at, now), _last(row.last, now)]
    cells += [_join(row.dependants.backends), _join(row.dependants.routes)]
    if wide:
        cells += [_join(row.dependants.models), row.identity or NONE, str(row.secret or NONE)]
        # False alone: None means that nobody knows, as over a directory.
        cells += [Cell(ANSWERS[each], "warn" if each is False else "") for each in (row.acknowledged, row.in_use)]
    return cells


def _tone(state: str) -> str:
    return STATE_TONES.get(state, "bad")


def _notes(row: Row, paint: Paint) -> Iterator[str]:
    if row.why:
        yield _note(row, paint(row.state, _tone(row.state)), row.why, row.hint, paint)
    error = (row.last or {}).get("error")
    # What the last pass found may be what is found again now; a condition has the advice in the same sentence.
    if isinstance(error, dict) and not (row.why and str(error.get("message")).startswith(row.why)):
        kind = f" ({error['kind']})" if error.get("kind") else ""
        reason = paint(f"{error.get('reason')}{kind}", "bad")
        yield _note(row, reason, str(error.get("message")), str(error.get("hint") or ""), paint)
    for warning in row.warnings:
        yield _note(row, paint("warning", "warn"), warning, "", paint)


def _note(row: Row, what: str, why: str, hint: str, paint: Paint) -> str:
    todo = f"  {paint('what to do', 'strong')}: {hint}\n" if hint else ""
    where = f"{printable(row.context)}: " if row.context else ""
    return f"{where}{row.policy}: {what}: {why}\n{todo}"


def _last(last: LastOutcome | None, now: datetime) -> Cell:
    if not last:
        return Cell(NONE, "dim")
    at = read_time(str(last.get("at")))
    when = f" {show_span(at, now)}" if at else ""
    reason = f" ({last['reason']})" if last.get("reason") else ""
    return Cell(f"{last.get('action')}{reason}{when}", "bad" if last.get("action") == "failed" else "")


def _join(items: Sequence[object]) -> str:
    named = ", ".join(map(str, items[:LISTED]))
    return f"{named} +{len(items) - LISTED}" if len(items) > LISTED else named or NONE
