"""One total deadline for everything that one exchange does, however many requests and however slowly they drip.

A read timeout alone restarts with each byte. The deadline is a context variable, so that it reaches the sockets
through libraries that only know read timeouts.
"""

from __future__ import annotations

import contextlib
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

_ends_at: ContextVar[float | None] = ContextVar("deadline", default=None)


@contextlib.contextmanager
def deadline(span: timedelta) -> Iterator[None]:
    """Let everything in the block end within ``span``; an outer deadline that ends sooner stays in force."""
    ends_at = time.monotonic() + span.total_seconds()
    outer = _ends_at.get()
    # The sooner of both: a step with a longer limit of its own must not outlast the exchange that it is part of.
    token = _ends_at.set(ends_at if outer is None else min(outer, ends_at))
    try:
        yield
    finally:
        _ends_at.reset(token)


def remaining_s(limit_s: float | None = None) -> float | None:
    """Return the seconds left, at most ``limit_s``; None without a deadline and a limit.

    Raises:
        TimeoutError: The deadline has passed.
    """
    ends_at = _ends_at.get()
    if ends_at is None:
        return limit_s
    left = ends_at - time.monotonic()
    # An error, not a zero: to sockets, zero means "do not block", and None means "wait for ever".
    if left <= 0:
        raise TimeoutError("the exchange's total deadline has passed")
    return left if limit_s is None else min(left, limit_s)
