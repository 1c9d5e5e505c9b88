"""How wrong this machine's clock is, by the Date header of those it talks to (RFC 9110 §6.6.1).

Whoever answers has one vote, its latest; so has this machine, for its own clock. What a vendor says counts where it has
more votes than the machine's own clock: an issuer or the API server agrees, or the vendor says it twice. On its own
word alone a vendor may put the clock ahead, which only makes renewals earlier; back it is put for a moment, in which
the exchange at hand can end, since a single Date of an hour ago must put off nobody's renewal. The API server's word
counts until a vendor spoke, ahead only. An issuer's is a witness and no more: a policy's author chooses it.

Nor must a machine whose clock is set back put anything off: without a vendor's word the clock goes on as it went.
What is a day off or more is nobody's clock. Source: reliability.md I10, 21, 23, 59.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from credrotator.core.clock import suspend_aware
from credrotator.core.durations import show_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.ports import Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Vote:
    difference: timedelta
    at_s: float
    trusted: bool
    repeated: bool


TOLERANCE = timedelta(seconds=30)
"""Below this a difference is delay, and the second to which Date is rounded."""
LARGEST = timedelta(hours=24)
"""A difference beyond this is taken for nonsense: with it, no arithmetic on moments can overflow."""
FRESH_S = 900.0
"""For so long what somebody said about the time is a vote."""
UNCONFIRMED_S = 4.0
"""For so long a clock is put back on a single word; the sweep finds within 10 s what was put off by it."""
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
        # Where it was put back on a single word: what it was before, and until when.
        self._unconfirmed: tuple[timedelta, float] | None = None
        self._vendor_spoke = False
        self._votes: dict[str, _Vote] = {}

    def __call__(self) -> datetime:
        """Return the present moment, corrected."""
        with self._lock:
            return self._machine() + self._current()

    @property
    def offset(self) -> timedelta:
        """What is added to the machine's clock; zero while it is right."""
        with self._lock:
            return self._current()

    def believed(self) -> timedelta | None:
        """Return by how much this machine is behind, by the latest vendor: zero if little; None if none was heard."""
        return self.offset if self._vendor_spoke else None

    def seen(self) -> dict[str, timedelta]:
        """Return the latest difference by endpoint: theirs minus ours, positive when ours is behind."""
        with self._lock:
            return {name: vote.difference for name, vote in self._votes.items()}

    def observe(self, endpoint: str, date: str | None, *, trusted: bool) -> None:
        """Take note of a response's Date header; one that is absent, malformed or absurd says nothing."""
        with self._lock:
            # Noted even where it does not count: it is a witness for or against the next one.
            vote = self._note(endpoint, date, trusted=trusted)
            if vote is None or not trusted:
                return
            self._vendor_spoke = True
            before, offset = self._current(), _correction(vote.difference)
            if offset == before or self._is_confirmed(endpoint, vote):
                self._offset, self._unconfirmed = offset, None
            # Two that disagree: the clock stays as it is, and the next word decides.
            elif self._is_contradicted(endpoint, vote, ahead=offset > before):
                return
            # Ahead on a single word: the worst that comes of it is a renewal that is too early.
            elif offset > before:
                self._offset, self._unconfirmed = offset, None
            else:
                # Back on a single word, for a moment only. The offset of before the first such word is kept: several
                # wrong ones in a row must not become what is returned to.
                self._unconfirmed = self._unconfirmed or (before, self._seconds() + UNCONFIRMED_S)
                self._offset = offset
        _report(before, offset, endpoint)

    def suppose(self, endpoint: str, date: str | None) -> None:
        """Take note of a Date that counts while no vendor was heard, and only if it is ahead: nothing comes late by it.

        It saves a process that starts with a clock that is behind, and would find all fresh, and ask no vendor.
        """
        with self._lock:
            vote = self._note(endpoint, date, trusted=True)
            if vote is None or self._vendor_spoke:
                return
            before, self._offset = self._offset, max(timedelta(0), _correction(vote.difference))
            offset = self._offset
        _report(before, offset, endpoint)

    def _current(self) -> timedelta:
        """Return the offset; one that nobody has confirmed in time is not believed any more."""
        if self._unconfirmed and self._seconds() >= self._unconfirmed[1]:
            self._offset, self._unconfirmed = self._unconfirmed[0], None
        return self._offset

    def _note(self, endpoint: str, date: str | None, *, trusted: bool) -> _Vote | None:
        difference = self._difference(date)
        if difference is None:
            return None
        known = self._votes.get(endpoint)
        repeated = known is not None and self._is_fresh(known) and _agree(known.difference, difference)
        self._votes[endpoint] = _Vote(difference, self._seconds(), trusted, repeated)
        return self._votes[endpoint]

    def _is_confirmed(self, endpoint: str, vote: _Vote) -> bool:
        """Tell whether a vendor's word has more votes than this machine's own clock."""
        if _agree(vote.difference, timedelta(0)):
            return True
        others = self._others(endpoint)
        votes = 1 + vote.repeated + sum(_agree(other.difference, vote.difference) for other in others)
        return votes > 1 + sum(_agree(other.difference, timedelta(0)) for other in others)

    def _is_contradicted(self, endpoint: str, vote: _Vote, *, ahead: bool) -> bool:
        """Tell whether somebody says otherwise; an issuer's word is enough against putting the clock back only."""
        others = [other for other in self._others(endpoint) if other.trusted or not ahead]
        return any(not _agree(other.difference, vote.difference) for other in others)

    def _others(self, endpoint: str) -> list[_Vote]:
        return [vote for name, vote in self._votes.items() if name != endpoint and self._is_fresh(vote)]

    def _is_fresh(self, vote: _Vote) -> bool:
        return self._seconds() - vote.at_s < FRESH_S

    def _difference(self, date: str | None) -> timedelta | None:
        from email.utils import parsedate_to_datetime  # noqa: PLC0415 - a command that asks nobody needs none of it

        try:
            theirs = parsedate_to_datetime(date or "")
            # RFC 9110 has GMT always; a date without any zone is taken for that, since local time would be off by
            # hours.
            difference = (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)) - self._machine()
        except (TypeError, ValueError, OverflowError):
            return None
        return difference if abs(difference) < LARGEST else None

    def _machine(self) -> datetime:
        """Return the machine's clock; to be set back has no effect on it, set ahead it only makes renewals earlier."""
        shown, seconds = self._clock(), self._seconds()
        known, at = self._anchor
        steady = known + timedelta(seconds=seconds - at)
        # The machine's clock was set back. Followed, every renewal would come later by as much, perhaps after its
        # expiry; whether it was wrong before or is now, only a vendor can tell.
        if shown < steady - STEP:
            return steady
        self._anchor = shown, seconds
        return shown


def _correction(difference: timedelta) -> timedelta:
    return difference if abs(difference) > TOLERANCE else timedelta(0)


def _agree(one: timedelta, other: timedelta) -> bool:
    return abs(one - other) <= TOLERANCE


def _report(before: timedelta, offset: timedelta, endpoint: str) -> None:
    if abs(offset - before) <= TOLERANCE:
        return
    if not offset:
        log.warning("this machine's clock agrees with that of %s again", endpoint)
        return
    how = "behind" if offset > timedelta(0) else "ahead of"
    log.warning("this machine's clock is %s %s that of %s, which counts", show_duration(abs(offset)), how, endpoint)
