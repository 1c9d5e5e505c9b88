"""How long things took, shown always, and held to a bound where the machine had time for it."""

import os
import statistics
from collections.abc import Sequence
from datetime import timedelta
from math import ceil

import pytest

# Runnable threads per processor, of which the parts themselves make one or two. Beyond it a bound of a second says
# more about who else is running than about what is measured.
_BUSY = 2.5


def show(what: str, delays: Sequence[float]) -> str:
    """Return a line of figures in seconds, with the load under which they were taken."""
    load, *_ = os.getloadavg()
    return (
        f"{what}: {statistics.median(delays):.3f} s median, {p99(delays):.3f} s p99, "
        f"{max(delays):.3f} s max of {len(delays)} (load {load:.0f})"
    )


def p99(delays: Sequence[float]) -> float:
    """Return the delay that 99 of 100 do not exceed."""
    return sorted(delays)[ceil(0.99 * len(delays)) - 1]


def assert_p99(delays: Sequence[float], within: timedelta) -> None:
    """Assert that 99 of 100 took no longer, or skip the test where the machine was busy and they did."""
    kept = p99(delays) <= within.total_seconds()
    load, *_ = os.getloadavg()
    if not kept and load > _BUSY * (os.cpu_count() or 1):
        pytest.skip(f"p99 {p99(delays):.1f} s, on a machine with a load of {load:.0f}")
    assert kept
