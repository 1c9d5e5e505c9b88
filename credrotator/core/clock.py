"""The clocks of this machine, read in one place; everything else is handed them."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def system_clock() -> datetime:
    """Return the present moment, aware UTC."""
    return datetime.now(UTC)


def suspend_aware() -> float:
    """Return seconds that only grow and, where the system can tell, count suspension too.

    NOTE: ``time.monotonic`` stands still while a machine is suspended; its leader would wake up still believing.
    """
    # macOS has no such clock; there, credrotator is for development.
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
