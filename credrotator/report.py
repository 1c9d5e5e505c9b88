"""What commands print: tables for people in kubectl's manner, JSON and YAML for machines (docs/rotate.schema.json)."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, get_args

import yaml

from credrotator.durations import show_duration
from credrotator.model import Action, Outcome
from credrotator.secretdata import show_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

NONE = "-"


def rotate_document(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Return the stable result of ``rotate -o json``; every member is always there, null where it does not apply."""
    results = list(outcomes)
    counts = Counter(outcome.action for outcome in results)
    return {
        "results": [outcome_document(outcome) for outcome in results],
        "summary": {action: counts[action] for action in get_args(Action)},
    }


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """Return one policy's result."""
    error = outcome.error
    return {
        "policy": str(outcome.policy),
        "provider": outcome.provider,
        "action": outcome.action,
        "reason": outcome.reason,
        "secret": str(outcome.secret) if outcome.secret else None,
        "expiresAt": show_time(outcome.expires_at) if outcome.expires_at else None,
        "renewAt": show_time(outcome.renew_at) if outcome.renew_at else None,
        "error": {"kind": error.kind, "reason": error.reason, "message": error.message, "hint": error.hint}
        if error
        else None,
    }


def structured(document: Any, form: str) -> str:
    """Write a document as ``json`` or ``yaml``."""
    if form == "json":
        return json.dumps(document, indent=2) + "\n"
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def rotate_table(outcomes: Sequence[Outcome], now: datetime, *, wide: bool, dry_run: bool) -> str:
    """Write the result of a pass for a person, failures explained below it."""
    header = ["POLICY", "PROVIDER", "ACTION", "REASON", "EXPIRES IN", "RENEWS IN"] + ["SECRET"] * wide
    rows = [header]
    for outcome in outcomes:
        action = f"{outcome.action} (dry run)" if dry_run and outcome.action == "rotated" else outcome.action
        row = [str(outcome.policy), outcome.provider, action, outcome.reason]
        row += [show_span(outcome.expires_at, now), show_span(outcome.renew_at, now)]
        rows.append(row + [str(outcome.secret or NONE)] * wide)
    counts = rotate_document(outcomes)["summary"]
    summary = ", ".join(f"{count} {action}" for action, count in counts.items())
    return align(rows) + "\n" + "".join(map(explanation, outcomes)) + f"{summary}\n"


def explanation(outcome: Outcome) -> str:
    """Say what went wrong and what to do, and what is odd; nothing for a policy that is well."""
    lines = [f"{outcome.policy}: warning: {warning}" for warning in outcome.warnings]
    if error := outcome.error:
        lines += [f"{outcome.policy}: {error.reason} ({error.kind}): {error.message}", f"  what to do: {error.hint}"]
    return "".join(f"{line}\n" for line in lines)


def show_span(moment: datetime | None, now: datetime) -> str:
    """Write a moment as a span from now; ``expired`` says more than a negative number."""
    if moment is None:
        return NONE
    return (
        show_duration(moment - now)
        if moment > now
        else "now"
        if moment == now
        else f"{show_duration(now - moment)} ago"
    )


def align(rows: Sequence[Sequence[str]]) -> str:
    """Lay out columns with three spaces between them, as kubectl does."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join("   ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)
