"""How wrong this machine's clock is, by the Date header of those it talks to (RFC 9110 §6.6.1).

Vendors' dates correct the clock that everything here goes by; issuers' are only measured: a policy's author chooses the
issuer, and a lying one must not put off anybody's renewal. Source: faults.md 21, 23; gaps.md G37.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from credrotator.ports import Clock

TOLERANCE = timedelta(seconds=30)
"""Below this a difference is delay, and the second to which Date is rounded."""


class SkewedClock:
    """A Clock that is this machine's, put right by what vendors say."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._offset = timedelta(0)
        self._seen: dict[str, timedelta] = {}

    def __call__(self) -> datetime:
        """Return the present moment, corrected."""
        return self._clock() + self._offset

    @property
    def offset(self) -> timedelta:
        """What is added to the machine's clock; zero while it is right."""
        return self._offset

    def seen(self) -> dict[str, timedelta]:
        """Return the latest difference by endpoint: theirs minus ours, positive when ours is behind."""
        with self._lock:
            return dict(self._seen)

    def observe(self, endpoint: str, date: str | None, *, trusted: bool) -> None:
        """Take note of a response's Date header; one that is absent or malformed says nothing."""
        try:
            theirs = parsedate_to_datetime(date or "")
        except (TypeError, ValueError):
            return
        difference = (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)) - self._clock()
        with self._lock:
            self._seen[endpoint] = difference
            if trusted:
                self._offset = difference if abs(difference) > TOLERANCE else timedelta(0)
