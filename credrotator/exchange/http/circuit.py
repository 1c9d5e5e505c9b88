"""What stands before each endpoint: how many may be inside at a time, and whether it is worth asking at all.

A gate per endpoint (an issuer's origin, STS of a region, an Entra authority) is shared by all policies that use it.
Throttling halves the room and closes the gate for as long as the endpoint wished; successes widen it again, one by one
(AIMD). After some failures in a row the gate closes, and one probe at a time goes through, at doubling intervals, while
everybody else fails at once instead of waiting in line. A policy that would not live to see the end of a wish may ask
before it, but not before the gate's own pause is over. Source: reliability.md I5, I7, 10, 16.
"""

from __future__ import annotations

import contextlib
import threading
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from credrotator.core.errors import Outage, RotationError, Transient
from credrotator.exchange.http.deadline import remaining_s
from credrotator.exchange.http.retry_after import ignores_retry_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLOTS = 16
"""Requests that an endpoint gets at a time while it is well."""
FAILURES_TO_OPEN = 5
"""Failures in a row after which the gate closes."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
AT_FAULT = ("Unreachable", "Timeout", "Failed", "InvalidResponse", "Expired")
THROTTLED = "Throttled"
"""Endings of reasons that speak of the endpoint, not of one policy's request."""


class CircuitBreaker:
    """The gate of one endpoint.

    Args:
        recovered: Called when the gate was closed and has opened again.
        throttles: Whether throttling is the whole endpoint's; an issuer's is one client's, and seen to elsewhere.
        throttled: Called for each answer that asked for patience, unless that is seen to elsewhere.
        seconds: Seconds that only grow.
    """

    def __init__(
        self,
        recovered: Callable[[], None],
        *,
        throttles: bool = True,
        throttled: Callable[[], None] = lambda: None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recovered = recovered
        self._throttles = throttles
        self._throttled = throttled
        self._seconds = seconds
        self._changed = threading.Condition()
        self._in_use = 0
        self._slots = float(SLOTS)
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._open_until_s = 0.0
        self._retry_after_until_s = 0.0
        self._last: Transient | None = None

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for room, within the deadline, and note how it went.

        Raises:
            Transient: The gate is closed; the reason is that of the failure which closed it.
            TimeoutError: No room within the deadline.
        """
        self._enter()
        try:
            yield
        except RotationError as error:
            self._leave(error if isinstance(error, Transient) and self._is_at_fault(error) else None)
            raise
        except BaseException:
            self._leave(None)
            raise
        self._leave(None)

    def _is_at_fault(self, error: Transient) -> bool:
        """Tell whether a failure is the endpoint's, not one request's; a wish for patience is, whatever its reason."""
        throttled = error.reason.endswith(THROTTLED) or error.retry_after is not None
        failed = isinstance(error, Outage) or error.reason.endswith(AT_FAULT)
        return failed or (self._throttles and throttled)

    def _enter(self) -> None:
        with self._changed:
            while True:
                self._refuse_if_open()
                if self._in_use < max(1, int(self._slots)):
                    break
                self._changed.wait(remaining_s())
            self._in_use += 1
            if self._last is not None:
                # The probe: until it is back, the gate stays closed for the others.
                self._open_until_s = self._seconds() + self._pause_s

    def _refuse_if_open(self) -> None:
        until_s = self._open_until_s if ignores_retry_after() else max(self._open_until_s, self._retry_after_until_s)
        left_s = until_s - self._seconds()
        if self._last is None or left_s <= 0:
            return
        raise Transient(
            self._last.reason,
            f"{self._last.message}; it is not asked again for {left_s:.0f} s",
            hint=self._last.hint,
            retry_after=timedelta(seconds=left_s),
        )

    def _leave(self, failure: Transient | None) -> None:
        with self._changed:
            self._in_use -= 1
            recovered = failure is None and self._last is not None
            if failure is None:
                self._failures, self._pause_s, self._last = 0, FIRST_PAUSE_S, None
                self._open_until_s = self._retry_after_until_s = 0.0
                self._slots = min(float(SLOTS), self._slots + 1 / self._slots)
            else:
                self._note(failure)
            self._changed.notify_all()
        if recovered:
            self._recovered()

    def _note(self, failure: Transient) -> None:
        self._failures += 1
        throttled = failure.retry_after is not None or failure.reason.endswith(THROTTLED)
        if throttled:
            self._slots = max(1.0, self._slots / 2)
            self._throttled()
        if not throttled and self._failures < FAILURES_TO_OPEN:
            return
        now_s = self._seconds()
        self._open_until_s = max(self._open_until_s, now_s + self._pause_s)
        if failure.retry_after:
            self._retry_after_until_s = max(self._retry_after_until_s, now_s + failure.retry_after.total_seconds())
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        self._last = failure


class CircuitBreakers:
    """All gates of one process; ``recovered`` is called when a closed one has opened again.

    ``throttled`` is told of each answer that asked for patience, by the first word of the endpoint.
    """

    def __init__(
        self, recovered: Callable[[], None] = lambda: None, throttled: Callable[[str], None] = lambda _: None
    ) -> None:
        self.recovered = recovered
        self._throttled = throttled
        self._lock = threading.Lock()
        self._gates: dict[str, CircuitBreaker] = {}

    def of(self, endpoint: str, *, throttles: bool = True) -> CircuitBreaker:
        """Return the gate of an endpoint."""
        with self._lock:
            if endpoint not in self._gates:
                self._gates[endpoint] = CircuitBreaker(
                    self._tell, throttles=throttles, throttled=partial(self._throttled, endpoint.partition(" ")[0])
                )
            return self._gates[endpoint]

    def _tell(self) -> None:
        self.recovered()
