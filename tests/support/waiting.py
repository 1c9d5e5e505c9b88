"""Waiting for what another thread or process will do, without a fixed sleep."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


LIMIT_S = 30.0
"""Nothing that a test waits for takes so long, on the busiest machine, unless it never happens."""


def eventually(holds: Callable[[], object], within_s: float = LIMIT_S) -> None:
    """Return as soon as ``holds()`` is true.

    Raises:
        AssertionError: It is not, in time.
    """
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
