"""Deferred status writes: Events and conditions come after what the gateway needs, by a thread of their own.

When many policies are due at once, the next credential is worth more than the Event on the last one. Owns the order
(first come, first written) and the bound of what waits. Must never make a rotation fail, or wait for long.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from credrotator.core.attempts import continuing, current
from credrotator.core.threads import dead

if TYPE_CHECKING:
    from credrotator.core.attempts import Attempt

log = logging.getLogger(__name__)

MOST = 20_000
"""What may wait; beyond it, whoever has something to write does so himself."""
LONGEST_DEFERRAL_S = 10.0
"""How long a write waits for credentials; then people want to know what keeps them."""
LAST_WRITES_S = 1.0
"""Time for what still waits when the daemon ends."""
_POLL_S = 0.05

Defer = Callable[[Callable[[], None]], None]
"""Has something written, now or soon."""


def at_once(work: Callable[[], None]) -> None:
    """Defer nothing: for commands that end, and have no credentials that wait."""
    work()


class DeferredWrites:
    """Does what it is given, one after the other.

    Args:
        leads: Asked before each; what a former leader has to say is dropped.
        backlog: Counts the credentials that wait for a worker.
        most: What may wait.
    """

    def __init__(self, leads: Callable[[], bool], backlog: Callable[[], int], *, most: int = MOST) -> None:
        self._leads = leads
        self._backlog = backlog
        self._waiting: queue.Queue[tuple[float, Attempt | None, Callable[[], None]] | None] = queue.Queue(most)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="deferred-writes", daemon=True)

    def start(self) -> None:
        """Work from now on, in a thread."""
        self._thread.start()

    def stop(self, within_s: float = LAST_WRITES_S) -> None:
        """Finish what waits, as far as that is possible in so many seconds."""
        self._stopping.set()
        # Events are worth a second at the end, not more: what the daemon is given to stop is needed for the Lease.
        ends_s = time.monotonic() + within_s
        while self._thread.is_alive() and not self._waiting.empty() and time.monotonic() < ends_s:
            self._thread.join(0.01)
        dropped = self._drop_all()
        # Wakes the thread up, which may wait for work that never comes.
        self._waiting.put_nowait(None)
        self._thread.join(max(0.0, ends_s - time.monotonic()))
        if dropped:
            log.info("%d Events and conditions were not written any more", dropped)

    def dead(self) -> list[str]:
        """Name its thread if that has ended though it was not stopped."""
        return [] if self._stopping.is_set() else dead((self._thread,))

    def defer(self, work: Callable[[], None]) -> None:
        """Have something done soon; where too much waits, or at the end, at once."""
        attempt = current()
        if not self._stopping.is_set():
            try:
                self._waiting.put_nowait((time.monotonic(), attempt, work))
            except queue.Full:
                log.debug("too much waits to be written")
            else:
                return
        self._do(work)

    def _work(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            since_s, attempt, work = waiting
            # Asked again and again, in place of being told: the queue has no reason to know who waits for it to be
            # short.
            while self._has_to_wait(since_s) and not self._stopping.wait(_POLL_S):
                pass
            with continuing(attempt):
                self._do(work)

    def _has_to_wait(self, since_s: float) -> bool:
        return self._backlog() > 0 and time.monotonic() - since_s < LONGEST_DEFERRAL_S

    def _do(self, work: Callable[[], None]) -> None:
        try:
            # Asked at the time of the write: leadership may have been lost while it waited, and the new leader's
            # condition is the one that counts.
            if self._leads():
                work()
        except Exception:
            # A fault in an Event must cost no more than the Event.
            log.exception("an Event or a condition could not be written")

    def _drop_all(self) -> int:
        dropped = 0
        with contextlib.suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
                dropped += 1
        return dropped
