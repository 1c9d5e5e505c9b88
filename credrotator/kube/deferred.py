"""Deferred status writes: Events and conditions come after what the gateway needs, by a thread of their own.

When many policies are due at once, the next credential is worth more than the Event on the last one. Owns the order
(each namespace in turn; within one, first come, first written) and the bound of what waits. Must never make a rotation
fail, or wait for long: a namespace that rotates all the time holds up what is to be written for itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

from credrotator.core.attempts import continuing, current
from credrotator.core.counts import counted
from credrotator.core.threads import dead

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from credrotator.core.attempts import Attempt

log = logging.getLogger(__name__)

MOST = 20_000
"""What may wait; beyond it, whoever has something to write does so himself."""
LONGEST_DEFERRAL_S = 10.0
"""How long a write waits for credentials; then people want to know what keeps them."""
LAST_WRITES_S = 1.0
"""Time for what still waits when the daemon ends."""
_POLL_S = 0.05


class Defer(Protocol):
    """Has something written, now or soon."""

    def __call__(self, namespace: str, work: Callable[[], None], /) -> None:
        """Take something to be done.

        Args:
            namespace: For whose policies; empty for what concerns several.
            work: Does it.
        """


class Credentials(Protocol):
    """Knows of credentials that come before what is deferred."""

    def backlog(self) -> int:
        """Count those that wait for a worker: everything waits for them."""

    def moving(self) -> Collection[str]:
        """Return the namespaces in which one follows the other: what concerns these waits."""


class _Waiting(NamedTuple):
    since_s: float
    attempt: Attempt | None
    work: Callable[[], None]


def at_once(_namespace: str, work: Callable[[], None]) -> None:
    """Defer nothing: for commands that end, and have no credentials that wait."""
    work()


class DeferredWrites:
    """Does what it is given, one after the other.

    Args:
        leads: Asked before each; what a former leader has to say is dropped.
        credentials: What it waits for.
        most: What may wait.
    """

    def __init__(self, leads: Callable[[], bool], credentials: Credentials, *, most: int = MOST) -> None:
        self._leads = leads
        self._credentials = credentials
        self._most = most
        # By namespace, that whose turn it is first. None is empty.
        self._turns: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        self._count = 0
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="deferred-writes", daemon=True)

    def start(self) -> None:
        """Work from now on, in a thread."""
        self._thread.start()

    def stop(self, within_s: float = LAST_WRITES_S) -> None:
        """Finish what waits, as far as that is possible in so many seconds."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()
        # Events are worth a second at the end, not more: what the daemon is given to stop is needed for the Lease.
        if self._thread.ident:
            self._thread.join(within_s)
        with self._changed:
            dropped = self._count
            self._turns.clear()
            self._count = 0
        if dropped:
            what = counted(dropped, "Event or condition was", "Events and conditions were")
            log.info("%s not written any more", what)

    def dead(self) -> list[str]:
        """Name its thread if that has ended though it was not stopped."""
        return [] if self._stopping.is_set() else dead((self._thread,))

    def defer(self, namespace: str, work: Callable[[], None]) -> None:
        """See ``Defer``; where too much waits, or at the end, it is done at once."""
        waiting = _Waiting(time.monotonic(), current(), work)
        with self._changed:
            if not self._stopping.is_set() and self._count < self._most:
                self._turns.setdefault(namespace, deque()).append(waiting)
                self._count += 1
                if self._count == 1:
                    self._changed.notify()
                return
        self._do(work)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._turns or self._stopping.is_set())
                if not self._turns:
                    return
            if waiting := self._take():
                with continuing(waiting.attempt):
                    self._do(waiting.work)
            else:
                # Asked again and again, in place of being told: the queue has no reason to know who waits for it to be
                # short.
                self._stopping.wait(_POLL_S)

    def _take(self) -> _Waiting | None:
        """Take what is to be written next, None if all has to wait."""
        # Before the lock is taken: the queue has one of its own.
        everything, moving = self._credentials.backlog() > 0, self._credentials.moving()
        with self._changed:
            patient_s = time.monotonic() - LONGEST_DEFERRAL_S
            for namespace, waiting in self._turns.items():
                has_to_wait = (everything or namespace in moving) and waiting[0].since_s > patient_s
                if has_to_wait and not self._stopping.is_set():
                    continue
                taken = waiting.popleft()
                self._count -= 1
                self._turns.move_to_end(namespace)
                if not waiting:
                    del self._turns[namespace]
                return taken
        return None

    def _do(self, work: Callable[[], None]) -> None:
        try:
            # Asked at the time of the write: leadership may have been lost while it waited, and the new leader's
            # condition is the one that counts.
            if self._leads():
                work()
        except Exception:
            # A fault in an Event must cost no more than the Event.
            log.exception("an Event or a condition could not be written")
