"""How wrong this machine's clock is, by the Date header of those it talks to (RFC 9110 §6.6.1).

Vendors' dates correct the clock that everything here goes by; the API server's only until a vendor was heard. Issuers'
are only measured: a policy's author chooses the issuer, and a lying one must not put off anybody's renewal. Nor must
a machine whose clock is set back: without a vendor's word the clock goes on as it went.
Source: reliability.md I10, 21, 23.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from credrotator.core.clock import suspend_aware
from credrotator.core.durations import show_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.ports import Clock

log = logging.getLogger(__name__)

TOLERANCE = timedelta(seconds=30)
"""Below this a difference is delay, and the second to which Date is rounded."""
STEP = timedelta(seconds=5)
"""A clock that falls back by less than this is followed; nothing that is due waits long for it."""


class SkewedClock:
    """A Clock that is this machine's, put right by what vendors say.

    Args:
        clock: The machine's.
        seconds: Seconds that only grow, those of suspension included; they tell when the machine's was set back.
    """

    def __init__(self, clock: Clock, seconds: Callable[[], float] = suspend_aware) -> None:
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        # From the beginning, since a standby may not ask for hours, and its clock be set back meanwhile.
        self._anchor = clock(), seconds()
        self._offset = timedelta(0)
        self._heard = False
        self._seen: dict[str, timedelta] = {}

    def __call__(self) -> datetime:
        """Return the present moment, corrected."""
        return self._machine() + self._offset

    @property
    def offset(self) -> timedelta:
        """What is added to the machine's clock; zero while it is right."""
        return self._offset

    def believed(self) -> timedelta | None:
        """Return by how much this machine is behind, by the latest vendor: zero if little; None if none was heard."""
        return self._offset if self._heard else None

    def seen(self) -> dict[str, timedelta]:
        """Return the latest difference by endpoint: theirs minus ours, positive when ours is behind."""
        with self._lock:
            return dict(self._seen)

    def observe(self, endpoint: str, date: str | None, *, trusted: bool) -> None:
        """Take note of a response's Date header; one that is absent or malformed says nothing."""
        difference = self._difference(date)
        if difference is None:
            return
        with self._lock:
            self._seen[endpoint] = difference
            if not trusted:
                return
            self._heard = True
            before, self._offset = self._offset, _told(difference)
            offset = self._offset
        _say(before, offset, endpoint)

    def suppose(self, endpoint: str, date: str | None) -> None:
        """Take note of a Date that counts while no vendor was heard, and only if it is ahead: nothing comes late by it.

        It saves a process that starts with a clock that is behind, and would find all fresh, and ask no vendor.
        """
        difference = self._difference(date)
        if difference is None:
            return
        with self._lock:
            self._seen[endpoint] = difference
            if self._heard:
                return
            before, self._offset = self._offset, max(timedelta(0), _told(difference))
            offset = self._offset
        _say(before, offset, endpoint)

    def _difference(self, date: str | None) -> timedelta | None:
        try:
            theirs = parsedate_to_datetime(date or "")
        except (TypeError, ValueError):
            return None
        return (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)) - self._machine()

    def _machine(self) -> datetime:
        """Return the machine's clock; to be set back has no effect on it, set ahead it only makes renewals earlier."""
        with self._lock:
            shown, seconds = self._clock(), self._seconds()
            known, at = self._anchor
            steady = known + timedelta(seconds=seconds - at)
            if shown < steady - STEP:
                return steady
            self._anchor = shown, seconds
            return shown


def _told(difference: timedelta) -> timedelta:
    return difference if abs(difference) > TOLERANCE else timedelta(0)


def _say(before: timedelta, offset: timedelta, endpoint: str) -> None:
    if abs(offset - before) <= TOLERANCE:
        return
    if not offset:
        log.warning("this machine's clock agrees with that of %s again", endpoint)
        return
    how = "behind" if offset > timedelta(0) else "ahead of"
    log.warning("this machine's clock is %s %s that of %s, which counts", show_duration(abs(offset)), how, endpoint)
