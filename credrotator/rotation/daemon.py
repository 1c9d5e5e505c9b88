"""The daemon's shell around attempts: source → queue → workers → timetable, and an ordered end.

Level-triggered: a change or a timer only enqueues a policy; the worker reads and decides again, so that a
restart with everything fresh does nothing. Owns threads and their end; must not know clusters, files or vendors.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from credrotator.core.backoff import SHORTEST, Streak, failed
from credrotator.core.clock import suspend_aware
from credrotator.core.model import Policy
from credrotator.core.threads import dead, trouble
from credrotator.rotation.refusal_pace import RefusalPace
from credrotator.rotation.rotation import RotateOptions
from credrotator.rotation.timetable import Timetable
from credrotator.rotation.workqueue import ROUTINE, SOON, URGENT, WorkQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.instrumentation import DaemonInstrumentation
    from credrotator.core.model import ObjectKey
    from credrotator.core.outcome import Outcome
    from credrotator.core.ports import Clock, PolicySource
    from credrotator.rotation.attempt import AttemptRunner
    from credrotator.rotation.edit_budget import EditBudget

log = logging.getLogger(__name__)

# The gateway's own rotator wakes then: what is not renewed by now is in a hurry.
NEAR_EXPIRY = timedelta(minutes=5)
STATIC_INTERVAL = timedelta(minutes=10)
"""How often a policy without rotation gets an attempt: what it names may have come or gone meanwhile."""
# A bug fails again at once; a minute keeps the log readable, and is short against any life.
AFTER_A_FAULT = timedelta(minutes=1)
AFTER_A_LAPSE = timedelta(seconds=5)
"""After an attempt that was not to be finished: why not may have passed at once, with nobody to say so."""
STOP_S = 6.0
"""Time for workers to finish what they write; a hanging exchange is left behind."""
_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
_ROUNDING = timedelta(microseconds=2)
"""Seconds are floats, moments are not; an attempt at its time must not seem to come a moment before it."""


class Daemon:
    """Rotates all policies of a source for as long as it runs.

    Args:
        source: Which policies there are.
        queue: Of policies that wait for a worker.
        attempt: Makes an attempt at one.
        clock: The present moment.
        leads: Tells whether this process may write; asked before each attempt.
        instrumentation: Kept up to date.
        edits: How often edits may cost an exchange.
        seconds: Seconds that only grow; retries are reckoned by them.
    """

    def __init__(
        self,
        source: PolicySource,
        queue: WorkQueue,
        attempt: AttemptRunner,
        clock: Clock,
        *,
        leads: Callable[[], bool],
        instrumentation: DaemonInstrumentation,
        edits: EditBudget,
        seconds: Callable[[], float] = suspend_aware,
    ) -> None:
        self._source = source
        self._queue = queue
        self._attempt = attempt
        self._clock = clock
        self._seconds = seconds
        self._instrumentation = instrumentation
        self._leads = leads
        self._timetable = Timetable(self._due, clock, seconds=seconds)
        # Not in the store: a restart begins the back-off anew, which costs one attempt, and needs no write for each
        # failure.
        self._failures: dict[ObjectKey, Streak] = {}
        self._expiries: dict[ObjectKey, float] = {}
        self._attempted: set[ObjectKey] = set()
        self._planned: set[ObjectKey] = set()
        self._counts = False
        # Woken while they are being handled. The wake-up is not lost, it shortens the wait that follows.
        self._woken: set[ObjectKey] = set()
        self._edits = edits
        self._pace = RefusalPace()
        self._workers = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True) for number in range(queue.workers)
        ]

    def start(self) -> None:
        """Start all threads; policies are enqueued as the source reports them."""
        self._instrumentation.watch_queue(self._queue.__len__)
        self._timetable.start()
        for worker in self._workers:
            worker.start()
        self._source.start(self.enqueue)

    def stop(self) -> None:
        """End in order: no new attempts, writes in hand finished, within ten seconds."""
        ends_s = time.monotonic() + STOP_S
        # First whoever makes work, then whoever hands it out, then whoever does it: in another order, a worker would be
        # given a key that nobody waits for.
        self._timetable.stop()
        self._queue.close()
        # Before the workers: one that waits for what the source reads need not wait any more.
        self._source.stop()
        for worker in self._workers:
            worker.join(max(0.0, ends_s - time.monotonic()))

    def enqueue(self, key: ObjectKey) -> None:
        """Enqueue a policy; a new one comes first. A change is a reason to forget earlier failures.

        Where changes have cost too many exchanges of late, it waits for its turn (reliability.md, 57).
        """
        self._failures.pop(key, None)
        if self._source.get(key) is None and self._queue.discard(key):
            # To forget takes no worker: what is kept of those that are gone must not wait for those that hang.
            self._forget(key)
            return
        # After deletions, which are free: a namespace that is removed at once must not wait for a budget of edits.
        wait_s = self._edits.edited(key)
        if wait_s > 0:
            self._timetable.put_after(key, timedelta(seconds=wait_s))
            return
        self._queue.add(key, URGENT if self._is_near_expiry(key) else SOON)

    def enqueue_all(self) -> None:
        """Enqueue every policy: what a new leader does.

        Not what it has an attempt at, or had one already: it leads from a moment before it is notified. After a pause
        those come first that have the least time left.
        """
        self._counts = True
        # Unknown counts as expired: a policy of which nothing is known may have no credential at all.
        for key in sorted(self._source.policies(), key=lambda each: self._expiries.get(each, 0.0)):
            if key not in self._planned and key not in self._attempted:
                self.enqueue(key)

    def pause(self) -> None:
        """Look at nothing more: this one may not write just now, and nobody else is known to.

        What is known stays known and shown: it is in an outage that an expiry must not vanish from the metrics.
        """
        self._queue.clear()
        self._planned.clear()
        for key in [*self._expiries, *self._source.policies()]:
            self._timetable.take(key)

    def stand_down(self) -> None:
        """Forget everything: another one leads, and what this one knows, and shows in its metrics, grows stale."""
        self._counts = False
        self._queue.clear()
        for key in [*self._expiries, *self._source.policies()]:
            self._drop(key)

    def wake(self, key: ObjectKey) -> None:
        """Have a policy try again that was refused because of others' failures: what it needs may be back.

        Not one that is asking just now: it would ask twice in one second. If that attempt is refused as well, the next
        one comes as soon as it may.
        """
        if self._queue.is_handled(key):
            self._woken.add(key)
        elif key in self._failures:
            self._queue.add(key, URGENT if self._is_near_expiry(key) else SOON)

    def trouble(self) -> str | None:
        """Say what keeps the daemon from its work, None if nothing does (liveness)."""
        return trouble((self, self._timetable))

    def dead(self) -> list[str]:
        """Name the workers that have ended."""
        return dead(self._workers)

    def _due(self, key: ObjectKey) -> None:
        self._queue.add(key, URGENT if self._is_near_expiry(key) else ROUTINE)

    def _is_near_expiry(self, key: ObjectKey) -> bool:
        return self._expiries.get(key, 0.0) - self._clock().timestamp() < NEAR_EXPIRY.total_seconds()

    def _work(self) -> None:
        while (key := self._queue.get()) is not None:
            with self._attempt.begin(key):
                self._work_on(key)

    def _work_on(self, key: ObjectKey) -> None:
        try:
            if self._leads():
                self._attempted.add(key)
                # A new leader enqueues everything, this key among it where the worker had it in hand already: nothing
                # has been read yet, so a second attempt right after this one would ask the vendor twice.
                self._queue.begin(key)
                self._rotate(key)
            if not self._leads():
                # Whoever paused or stood down meanwhile could not know of what this attempt left behind.
                self._leave(key)
        except Exception:
            # The last line of defence: a fault of ours in one policy must not cost a worker.
            log.exception("an attempt at %s failed; another one follows", key)
            self._timetable.put_after(key, AFTER_A_FAULT)
        finally:
            self._attempted.discard(key)
            self._woken.discard(key)
            self._queue.done(key)

    def _rotate(self, key: ObjectKey) -> None:
        # Off the timetable first: the sweep would else ask for another attempt as long as this one takes.
        due, policy = self._timetable.take(key), self._source.get(key)
        if policy is None:
            self._forget(key)
            return
        options = RotateOptions(ignore_retry_after=self._is_early(key), is_retry=key in self._failures)
        with self._edits.attempt(key):
            self._attempt(policy, self._source.reader(key), options, schedule=self, due=due)

    def _is_early(self, key: ObjectKey) -> bool:
        """Tell whether this attempt comes before what was asked for, since the credential would not live to see it."""
        streak = self._failures.get(key)
        return streak is not None and streak.early and self._steady() + _ROUNDING >= streak.next_try

    def plan(self, outcome: Outcome) -> None:
        """See ``Schedule``: put the policy's next attempt on the timetable."""
        key = outcome.policy
        self._planned.add(key)
        self._expiries[key] = outcome.expires_at.timestamp() if outcome.expires_at else 0.0
        if outcome.action == "failed" and outcome.error:
            now = self._steady()
            # Carried over to the clock that nobody sets, like everything that streaks are made of: a step of the wall
            # clock must neither shorten a back-off to nothing nor stretch it past the expiry.
            expires_at = now + (outcome.expires_at - self._clock()) if outcome.expires_at else None
            streak = failed(
                self._failures.get(key), outcome.error, seed=self._seed(key), now=now, expires_at=expires_at
            )
            self._failures[key] = streak
            wait = streak.next_try - now
            if outcome.error.is_refusal:
                # The circuit recovered while this attempt was being refused; the next wake-up may never come.
                wait = SHORTEST if key in self._woken else wait
                wait_s = self._pace.wait_s(key.namespace, wait.total_seconds(), self._seconds())
                wait = timedelta(seconds=wait_s)
            self._timetable.put_after(key, wait)
            return
        self._failures.pop(key, None)
        # A moment of the vendor's clock, not an interval: when our clock is put right, the renewal moves with it.
        if outcome.renew_at:
            self._timetable.put(key, outcome.renew_at)
        else:
            self._timetable.put_after(key, AFTER_A_LAPSE if outcome.abandoned else STATIC_INTERVAL)

    def _seed(self, key: ObjectKey) -> str:
        """Return what spreads a policy's retries: clusters with policies of one name must not ask in step."""
        policy = self._source.get(key)
        uid = policy.uid if isinstance(policy, Policy) else ""
        # A manifest without a UID has its name for one, on every machine.
        return uid if uid and uid != str(key) else f"{socket.gethostname()}/{key}"

    def _steady(self) -> datetime:
        """Return the moment on a clock that nobody sets, which is the one of streaks: they are made of waits."""
        return _BEGIN + timedelta(seconds=self._seconds())

    def _forget(self, key: ObjectKey) -> None:
        """Drop all that is known of a policy that is gone."""
        self._drop(key)
        self._attempt.forget(key)

    def _leave(self, key: ObjectKey) -> None:
        """Plan nothing more for a policy; what is known of it stays for as long as it counts."""
        if not self._counts:
            self._drop(key)
            return
        self._timetable.take(key)
        self._planned.discard(key)
        self._queue.forget(key)

    def _drop(self, key: ObjectKey) -> None:
        self._timetable.take(key)
        self._planned.discard(key)
        self._failures.pop(key, None)
        self._expiries.pop(key, None)
        self._edits.forget(key)
        self._queue.forget(key)
        self._instrumentation.forget(key)
