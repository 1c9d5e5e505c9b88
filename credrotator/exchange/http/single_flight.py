"""One request for all who would send the same: results are shared while they are good, and flights are joined.

Owns no knowledge of what is fetched, and two bounds, of entries and of bytes: the longest unused goes first. Refusals
answer for a moment; rate limits are not remembered here, since the circuit breaker behind ``fetch`` knows of them.
Source: reliability.md I6 (coalescing), I7 (no hammering of what just failed), I14.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

from credrotator.core.clock import suspend_aware
from credrotator.core.errors import NotAsked, Outage, RotationError, Throttled
from credrotator.exchange.http.deadline import remaining_s
from credrotator.exchange.http.retry_after import ignores_retry_after

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from datetime import datetime

    from credrotator.core.ports import Clock

Value = TypeVar("Value")

FAILURE_LIFE = timedelta(seconds=10)
"""How long a refusal answers for those who come right after; a retry waits longer than that anyway."""
OUTAGE_LIFE = timedelta(seconds=1)
"""An outage may be over in a moment; how often it is asked meanwhile is the circuit breaker's business."""
MOST_ENTRIES, MOST_BYTES = 4096, 8 * 1024 * 1024
SWEEP_EVERY_S = 60.0


class Shared(Generic[Value]):
    """A cache of what ``fetch`` returned, per key, with the moment up to which each is good.

    Failures are remembered by ``seconds`` that only grow: a clock that is set, or put right, makes none last.

    Args:
        clock: The present moment.
        seconds: Seconds that only grow.
        size_bytes: Estimates what a value takes in memory.
    """

    def __init__(
        self,
        clock: Clock,
        seconds: Callable[[], float] = suspend_aware,
        *,
        size_bytes: Callable[[Value], int] = lambda _: 1024,
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._size_bytes = size_bytes
        self._lock = threading.Lock()
        # In order of their last use: what is dropped first is what nobody has asked for longest.
        self._values: OrderedDict[Hashable, tuple[Value, datetime]] = OrderedDict()
        self._bytes = 0
        self._swept_s = seconds()
        # The error, up to when it answers for those too who may ignore a Retry-After, and up to when for all others:
        # the former must not ask twice within the same moment either.
        self._failures: dict[Hashable, tuple[RotationError, float, float]] = {}
        # Requests that are on their way. A thousand policies of one client that are due together become one request;
        # without this, each would see an empty cache and ask.
        self._flights: dict[Hashable, Future[Value]] = {}

    def get(self, key: Hashable, fetch: Callable[[], tuple[Value, datetime]]) -> Value:
        """Return a good value, from memory, from another thread's flight, or from ``fetch``.

        Raises:
            RotationError: What ``fetch`` raised, here or for somebody else a moment ago.
            TimeoutError: The flight that was joined did not end within the deadline.
        """
        while True:
            with self._lock:
                if (known := self._values.get(key)) and self._clock() < known[1]:
                    self._values.move_to_end(key)
                    return known[0]
                now_s = self._seconds()
                if (failed := self._failures.get(key)) and now_s < (failed[1] if ignores_retry_after() else failed[2]):
                    # What is left of the Retry-After, or each who comes late would wait for all of it once more.
                    left = timedelta(seconds=failed[2] - now_s)
                    raise failed[0].anew(retry_after=left if failed[0].retry_after else None)
                # Looked up and made under one lock with the value: between two locks, two threads could both begin.
                flight = self._flights.get(key)
                joined = flight is not None
                if flight is None:
                    flight = self._flights[key] = Future()
            if not joined:
                return self._fly(key, flight, fetch)
            # Within the joiner's own deadline: the flight may have begun with a longer one.
            failure = flight.exception(remaining_s())
            if failure is None:
                return flight.result()
            if isinstance(failure, RotationError):
                raise failure.anew()
            # What is no answer of the other side concerns the thread that flew: its deadline, its interrupt. This one
            # goes on, and flies itself while it still has time.

    def drop(self, key: Hashable, value: Value) -> None:
        """Forget a value that turned out to be of no use, unless somebody has replaced it already."""
        with self._lock:
            # By identity. Of many that were refused with the same token the first replaces it, and the others must not
            # throw the new one away.
            if (known := self._values.get(key)) and known[0] is value:
                self._remove(key)

    def _fly(self, key: Hashable, flight: Future[Value], fetch: Callable[[], tuple[Value, datetime]]) -> Value:
        try:
            value, good_until = fetch()
        except BaseException as error:
            self._land(key, failure=error)
            # NOTE: the error itself would be held by the flight, the flight by the frames of its traceback, and with
            # them all that was read from the other side, until a garbage collection: megabytes for each failure.
            flight.set_exception(error.anew() if isinstance(error, RotationError) else TimeoutError())
            raise
        self._land(key, value=(value, good_until))
        flight.set_result(value)
        return value

    def _land(
        self, key: Hashable, *, value: tuple[Value, datetime] | None = None, failure: BaseException | None = None
    ) -> None:
        with self._lock:
            now, now_s = self._clock(), self._seconds()
            # Before anybody is told the result, in one step with keeping it: whoever comes now must find either the
            # flight or the value, or it would ask once more.
            del self._flights[key]
            # Whatever came of it, what was known before is out of date.
            self._failures.pop(key, None)
            if value is not None:
                self._remove(key)
                self._values[key] = value
                self._bytes += self._size_bytes(value[0])
            elif isinstance(failure, RotationError) and not isinstance(failure, Throttled | NotAsked):
                life_s = (OUTAGE_LIFE if isinstance(failure, Outage) else FAILURE_LIFE).total_seconds()
                retry_after_s = max(life_s, failure.retry_after.total_seconds() if failure.retry_after else 0.0)
                self._failures[key] = (failure.anew(), now_s + life_s, now_s + retry_after_s)
            self._shrink(now, now_s)

    def _shrink(self, now: datetime, now_s: float) -> None:
        """Drop what is not good any more, now and then, and what is too much, always."""
        if now_s >= self._swept_s + SWEEP_EVERY_S or len(self._failures) > MOST_ENTRIES:
            self._swept_s = now_s
            for key in [key for key, (_, good_until) in self._values.items() if good_until <= now]:
                self._remove(key)
            self._failures = {name: kept for name, kept in self._failures.items() if now_s < kept[2]}
        while len(self._failures) > MOST_ENTRIES:
            del self._failures[next(iter(self._failures))]
        # In bytes as well: an issuer's token may have a megabyte, and a tenant chooses the issuer. One is always kept,
        # or a large one would be fetched for each policy that shares it.
        while len(self._values) > MOST_ENTRIES or (self._bytes > MOST_BYTES and len(self._values) > 1):
            self._remove(next(iter(self._values)))

    def _remove(self, key: Hashable) -> None:
        known = self._values.pop(key, None)
        if known is not None:
            self._bytes -= self._size_bytes(known[0])
