"""The wall clock, read in one place; everything else is handed a Clock."""

from __future__ import annotations

from datetime import UTC, datetime


def system_clock() -> datetime:
    """Return the present moment, aware UTC."""
    return datetime.now(UTC)
