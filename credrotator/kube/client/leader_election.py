"""One Lease, and whether this process holds it.

Owns leader election by client-go's rules: a record counts as expired only after nobody was seen to change it for as
long as it says, on this process's own clock that only grows. The times in the record are for people and never read.
Must not know what leaders do. Source: client-go ``tools/leaderelection``; reliability.md I8, 33, 34, 50.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from credrotator.core.clock import system_clock
from credrotator.core.errors import printable
from credrotator.core.threads import dead
from credrotator.kube.client.api_errors import CONFLICT, NO_ANSWER, ApiError
from credrotator.kube.client.lease_lock import Lease, LeaseLock, holder_of, spec_of
from credrotator.kube.client.reconnect import jitter

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.model import ObjectKey
    from credrotator.core.ports import Clock
    from credrotator.kube.client.api import KubeApi
    from credrotator.kube.client.lease_term import LeaseTerm

log = logging.getLogger(__name__)

JITTER_FACTOR = 1.2
RELEASE_TRIES = 3
STOP_S = 2.0
"""Longest time to hand over; what the daemon waits for its workers and this must stay below the ten of fault 50."""


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """client-go's three durations and their defaults.

    Attributes:
        lease_duration: Others wait for so long without seeing a change before they take over; whole seconds.
        renew_deadline: The holder stops believing in itself so long after its last renewal.
        retry_period: Between tries.
    """

    lease_duration: timedelta = timedelta(seconds=15)
    renew_deadline: timedelta = timedelta(seconds=10)
    retry_period: timedelta = timedelta(seconds=2)

    def __post_init__(self) -> None:
        if not self.lease_duration > self.renew_deadline > self.retry_period * JITTER_FACTOR > timedelta():
            raise ValueError("lease_duration must exceed renew_deadline, and that 1.2 times retry_period")


DEFAULT_TIMING = LeaseTiming()


class LeadershipListener(Protocol):
    """Hears what becomes of the Lease, in the election's thread; must not block."""

    def started(self) -> None:
        """Begin: the Lease was got, or got back after it had lapsed."""

    def stopped(self) -> None:
        """Pause: it lapsed, was lost or is about to be released; ``is_leader`` has turned False."""

    def lost(self) -> None:
        """Give up, after ``stopped``: somebody else was seen to hold it."""


class LeaderElection:
    """Tries to get a Lease and to keep it, in a thread of its own, until stopped.

    Args:
        api: The server.
        lease: Created if it is absent.
        identity: Unique for each process; a restart is another one.
        term: Kept: it holds while the Lease is held.
        listener: Called when the Lease is got, lapses or is lost.
        timing: Durations.
        clock: For the times in the record, which nobody decides by.
    """

    def __init__(
        self,
        api: KubeApi,
        lease: ObjectKey,
        identity: str,
        term: LeaseTerm,
        *,
        listener: LeadershipListener,
        timing: LeaseTiming = DEFAULT_TIMING,
        clock: Clock = system_clock,
    ) -> None:
        self.lease, self.identity = lease, identity
        self._lock = LeaseLock(api, lease, identity, lease_duration=timing.lease_duration, clock=clock)
        self._timing = timing
        self._listener = listener
        self._term, self._seconds = term, term.seconds
        self._seen: Lease = {}
        # When we saw the record change last, by our own clock. The times in it are of another machine's clock, which
        # may be wrong by more than a term.
        self._observed_at = 0.0
        self._leading = self._led = False
        self._complaint = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leader-election", daemon=True)

    def start(self) -> None:
        """Begin to try."""
        self._thread.start()

    def stop(self) -> None:
        """Release the Lease, if it is held, and end. Writes that it guards must have ended before.

        Where the server does not answer, the Lease is left to expire: ending on time matters more (reliability.md 50).
        """
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def dead(self) -> list[str]:
        """Name its thread if that has ended though it was not stopped."""
        return [] if self._stopping.is_set() else dead((self._thread,))

    def is_leader(self) -> bool:
        """See ``LeaseTerm.holds``."""
        return self._term.holds()

    def holder(self) -> str:
        """Return who held the Lease when it was last seen; empty for nobody."""
        return holder_of(self._seen)

    def _run(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            attempt += 1
            try:
                self._step()
            except Exception:
                # The thread's outermost loop: a callback's defect must not make a leader that never renews.
                log.exception("Lease %s: unexpected failure", self.lease)
            # The holder renews on time; candidates are spread, or all would write at the moment in which the Lease
            # expires.
            spread = 0.0 if self._leading else JITTER_FACTOR * jitter(self.identity, attempt)
            self._stopping.wait(self._timing.retry_period.total_seconds() * (1 + spread))
        self._term.end()
        try:
            self._follow()
        finally:
            self._release()

    def _step(self) -> None:
        try:
            self._try()
        except ApiError as error:
            # An outage is said once, not every two seconds.
            known, self._complaint = self._complaint, str(error)
            quiet = error.status == CONFLICT or known == self._complaint
            log.log(logging.DEBUG if quiet else logging.WARNING, "Lease %s: %s", self.lease, error)
        else:
            self._complaint = ""
        self._follow()

    def _follow(self) -> None:
        """Let the callbacks know what became of it."""
        # Compared with what was reported, not with what this try did: the term also ends by itself, while no try
        # succeeds.
        if self.is_leader() != self._leading:
            self._leading = not self._leading
            log.info("Lease %s: %s", self.lease, "got it" if self._leading else "lost or given up")
            self._led = True
            (self._listener.started if self._leading else self._listener.stopped)()
        # In an outage nobody knows whether somebody else leads.
        if self._led and not self._leading and self.holder() not in {"", self.identity}:
            self._led = False
            self._listener.lost()

    def _try(self) -> None:
        """Acquire or renew; the steps are numbered as in client-go's ``tryAcquireOrRenew``."""
        # 1. The holder renews without looking first.
        if self.is_leader():
            try:
                self._believe(self._lock.take, self._seen)
            except ApiError as error:
                if error.status == NO_ANSWER:
                    # Looking would hang as well; what time is left is for the next try.
                    raise
            else:
                return
        # 2. Get the record, or make it.
        record = self._lock.read(self._timeout_s())
        if record is None:
            self._believe(self._lock.create)
            return
        # 3. Somebody else's counts until it was seen unchanged for as long as it says.
        self._observe(record)
        if holder_of(record) not in {"", self.identity} and not self._expired():
            if self.is_leader():
                log.warning("Lease %s: taken by %s", self.lease, printable(holder_of(record)))
                self._term.end()
            return
        # 4. Take it, or renew it.
        self._believe(self._lock.take, record)

    def _believe(self, write: Callable[..., Lease], *seen: Lease) -> None:
        """Write the record, and believe in it from before the request was sent."""
        # Before the request. The server may have written the record at any time since; counted from the answer on, we
        # would believe in the Lease for longer than others wait.
        asked_at = self._seconds()
        self._observe(write(*seen, self._timeout_s()))
        lapsed = self._term.renew(asked_at + self._timing.renew_deadline.total_seconds())
        if self._leading and lapsed:
            # It had lapsed in between, and whoever asked was told no: what was left undone has to be begun anew.
            self._leading = False
            self._listener.stopped()

    def _observe(self, record: Lease) -> None:
        # Compared as a whole, as client-go does: any change by the holder is a sign of life.
        if spec_of(record) != spec_of(self._seen):
            self._observed_at = self._seconds()
        self._seen = record

    def _expired(self) -> bool:
        lasts_s = spec_of(self._seen).get("leaseDurationSeconds") or 0
        return self._seconds() >= self._observed_at + lasts_s

    def _timeout_s(self) -> float:
        # Half, so that one request that hangs leaves time for another one before the term ends.
        return self._timing.renew_deadline.total_seconds() / 2

    def _release(self) -> None:
        """Hand over at once instead of after the whole duration."""
        for _ in range(RELEASE_TRIES):
            try:
                record = self._lock.read(self._timeout_s() / 2)
                if record and holder_of(record) == self.identity:
                    self._lock.release(record, self._timeout_s() / 2)
            except ApiError as error:
                # Our own last renewal may have arrived late and moved the version: read it again.
                if error.status == CONFLICT:
                    continue
                log.info("Lease %s: not released: %s", self.lease, error)
            return
