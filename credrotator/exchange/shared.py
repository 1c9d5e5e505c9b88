"""One request for all who would send the same: results shared while they are good, flights joined, failures remembered.

Owns no knowledge of what is fetched. Source: faults.md I6 (coalescing) and I7 (no hammering of what just failed).
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

from credrotator.errors import RotationError
from credrotator.exchange.deadline import remaining_s

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from datetime import datetime

    from credrotator.ports import Clock

Value = TypeVar("Value")

FAILURE_LIFE = timedelta(seconds=10)
"""How long a failure answers for those who come right after; a retry waits longer than that anyway."""
_SWEEP_AT = 4096


class Shared(Generic[Value]):
    """A cache of what ``fetch`` returned, per key, with the moment up to which each is good."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._values: dict[Hashable, tuple[Value, datetime]] = {}
        self._failures: dict[Hashable, tuple[RotationError, datetime]] = {}
        self._flights: dict[Hashable, Future[Value]] = {}

    def get(self, key: Hashable, fetch: Callable[[], tuple[Value, datetime]]) -> Value:
        """Return a good value, from memory, from another thread's flight, or from ``fetch``.

        Raises:
            RotationError: What ``fetch`` raised, here or for somebody else a moment ago.
            TimeoutError: The flight that was joined did not end within the deadline.
        """
        with self._lock:
            now = self._clock()
            if (known := self._values.get(key)) and now < known[1]:
                return known[0]
            if (failed := self._failures.get(key)) and now < failed[1]:
                raise failed[0]
            flight = self._flights.get(key)
            joined = flight is not None
            if flight is None:
                flight = self._flights[key] = Future()
        if joined:
            return flight.result(remaining_s())
        return self._fly(key, flight, fetch)

    def drop(self, key: Hashable) -> None:
        """Forget a value that turned out to be of no use."""
        with self._lock:
            self._values.pop(key, None)

    def _fly(self, key: Hashable, flight: Future[Value], fetch: Callable[[], tuple[Value, datetime]]) -> Value:
        try:
            value, good_until = fetch()
        except BaseException as error:
            self._land(key, failure=error)
            flight.set_exception(error)
            raise
        self._land(key, value=(value, good_until))
        flight.set_result(value)
        return value

    def _land(
        self, key: Hashable, *, value: tuple[Value, datetime] | None = None, failure: BaseException | None = None
    ) -> None:
        with self._lock:
            now = self._clock()
            del self._flights[key]
            self._failures.pop(key, None)
            if value is not None:
                self._values[key] = value
            elif isinstance(failure, RotationError):
                self._failures[key] = (failure, now + max(FAILURE_LIFE, failure.retry_after or FAILURE_LIFE))
            if len(self._values) + len(self._failures) > _SWEEP_AT:
                self._values = {name: kept for name, kept in self._values.items() if now < kept[1]}
                self._failures = {name: kept for name, kept in self._failures.items() if now < kept[1]}
