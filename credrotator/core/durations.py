"""Spans of time as people write and read them: Go's notation (``1h30m``, ``90s``), which kubectl and Helm share."""

from __future__ import annotations

import re
from datetime import timedelta

from credrotator.core.errors import printable

_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
# timedelta ends at 2.7 million years, and datetime before that: a sum with more than this raises OverflowError
# somewhere.
_LONGEST = timedelta(days=3650)


def parse_duration(text: str) -> timedelta:
    """Read ``1h30m``, ``90s``, ``0``; days (``7d``) too.

    Raises:
        ValueError: Not a duration, negative, or longer than ten years.
    """
    parts = _PART.findall(text)
    if text == "0":
        return timedelta(0)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"expected a duration such as 30m or 1h30m, got {printable(text, 40)!r}")
    # Days are no part of Go's notation; people write 7d all the same, and nobody can mean anything else by it.
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds > _LONGEST.total_seconds():
        raise ValueError(f"a duration of more than ten years cannot be meant: {printable(text, 40)!r}")
    return timedelta(seconds=seconds)


def show_duration(span: timedelta) -> str:
    """Write a span in its two largest units: ``1h23m``, ``4m10s``, ``-35s``."""
    seconds = round(span.total_seconds())
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    for large, small, unit, lesser in ((86400, 3600, "d", "h"), (3600, 60, "h", "m"), (60, 1, "m", "s")):
        if seconds >= large:
            rest = seconds % large // small
            return f"{sign}{seconds // large}{unit}" + (f"{rest}{lesser}" if rest else "")
    return f"{sign}{seconds}s"
