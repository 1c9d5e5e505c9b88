"""The daemon's shell around the use case: source → queue → workers → timetable, and an ordered end.

Level-triggered: a change or a timer only says "look at this policy"; the worker reads and decides again, so that a
restart with everything fresh does nothing. Owns threads and their end; must not know clusters, files or vendors.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from credrotator.core.attempts import attempting
from credrotator.core.backoff import Streak, failed
from credrotator.core.clock import suspend_aware
from credrotator.core.errors import Abandoned
from credrotator.core.model import InvalidPolicy, ObjectKey, OidcClient, Outcome, Policy, Published, RotatablePolicy
from credrotator.observability.audit import Audit
from credrotator.rotation.rotation import RotateOptions, Rotation
from credrotator.rotation.timetable import Timetable
from credrotator.rotation.workqueue import ROUTINE, SOON, URGENT, WorkQueue

if TYPE_CHECKING:
    from credrotator.core.attempts import Attempt
    from credrotator.core.ports import Clock, Exchange, PolicySource, SecretStore
    from credrotator.observability.metrics import Metrics

log = logging.getLogger(__name__)

Listener = Callable[[Policy | InvalidPolicy, Outcome], None]
"""Told of each outcome, in the worker: delivery, Events, templates."""

NEAR_EXPIRY = timedelta(minutes=5)
STATIC_INTERVAL = timedelta(minutes=10)
"""How often a policy without rotation is looked at again: what it names may have come or gone meanwhile."""
AFTER_A_FAULT = timedelta(minutes=1)
STOP_S = 7.0
"""Time for workers to finish what they write; a hanging exchange is left behind."""
_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
_ROUNDING = timedelta(microseconds=2)
"""Seconds are floats, moments are not; a look at its time must not seem to come a moment before it."""


class Daemon:
    """Rotates all policies of a source for as long as it runs.

    Args:
        source: Which policies there are.
        store: Where their credentials are published.
        exchange: Where credentials come from.
        clock: The present moment.
        metrics: Kept up to date.
        leads: Tells whether this process may write; asked before each look and right before each write.
        listener: Told of each outcome.
        gone: Told of each policy that was deleted.
        audit: Told of each decision about a credential.
        glance: See ``Rotation``.
        well: Tells of a lane (an issuer) whether it is not needed just now: its last answer was a token that is good.
        workers: How many policies at a time; a quarter of them at most for one issuer, three quarters while it is well.
        seconds: Seconds that only grow; retries are reckoned by them.
    """

    def __init__(
        self,
        source: PolicySource,
        store: SecretStore,
        exchange: Exchange,
        clock: Clock,
        *,
        metrics: Metrics,
        leads: Callable[[], bool],
        listener: Listener,
        gone: Callable[[ObjectKey], None] = lambda _: None,
        audit: Audit | None = None,
        cached_state: Callable[[Policy], Published | None] = lambda _: None,
        has_valid_token: Callable[[str], bool] = lambda _: False,
        workers: int,
        seconds: Callable[[], float] = suspend_aware,
    ) -> None:
        self._source = source
        self._clock = clock
        self._seconds = seconds
        self._metrics = metrics
        self._leads = leads
        self._listener = listener
        self._gone = gone
        self._audit = audit or Audit(failures=logging.WARNING)
        self._rotation = Rotation(
            store, exchange, clock, self._guard, instrumentation=metrics, audit=self._audit, cached_state=cached_state
        )
        self._has_valid_token = has_valid_token
        self._most = workers
        self._queue = WorkQueue(self._lanes, self._lane_limit)
        self._timetable = Timetable(self._due, clock, seconds=seconds)
        self._failures: dict[ObjectKey, Streak] = {}
        self._expiries: dict[ObjectKey, float] = {}
        self._attempted: set[ObjectKey] = set()
        self._workers = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True) for number in range(workers)
        ]

    def start(self) -> None:
        """Start all threads; policies are looked at as the source reports them."""
        self._metrics.queue_depth.set_function(lambda: len(self._queue))
        self._timetable.start()
        for worker in self._workers:
            worker.start()
        self._source.start(self.enqueue)

    def stop(self) -> None:
        """End in order: no new looks, writes in hand finished, within ten seconds."""
        ends_s = time.monotonic() + STOP_S
        self._timetable.stop()
        self._queue.close()
        for worker in self._workers:
            worker.join(max(0.0, ends_s - time.monotonic()))
        self._source.stop()

    def enqueue(self, key: ObjectKey) -> None:
        """Have a policy looked at soon; a new one, at once. A change is a reason to forget earlier failures."""
        self._failures.pop(key, None)
        self._queue.add(key, SOON if key in self._expiries else URGENT)

    def enqueue_all(self) -> None:
        """Have every policy looked at: what a new leader does.

        Not what it is looking at, or has looked at already: it leads from a moment before it is told so.
        """
        for key in self._source.policies():
            if key not in self._expiries and key not in self._attempted:
                self.enqueue(key)

    def stand_down(self) -> None:
        """Forget everything: another one leads, and what this one knows, and shows in its metrics, grows stale."""
        self._queue.clear()
        for key in [*self._expiries, *self._source.policies()]:
            self._drop(key)

    def backlog(self) -> int:
        """Count the policies that wait for nothing but a worker."""
        return self._queue.backlog()

    def enqueue_failures(self) -> None:
        """Have every policy looked at that failed last: an endpoint that was away is back.

        Not the one whose answer told so, nor any other that is asking just now: it would be asked twice in one second.
        """
        for key in list(self._failures):
            if not self._queue.is_handled(key):
                self._queue.add(key, SOON)

    def trouble(self) -> str | None:
        """Say what keeps the daemon from its work, None if nothing does (liveness)."""
        dead = [worker.name for worker in self._workers if worker.ident and not worker.is_alive()]
        return f"dead threads: {', '.join(dead)}" if dead else None

    def _due(self, key: ObjectKey) -> None:
        expiry = self._expiries.get(key, 0.0)
        near = expiry - self._clock().timestamp() < NEAR_EXPIRY.total_seconds()
        self._queue.add(key, URGENT if near else ROUTINE)

    def _lanes(self, key: ObjectKey) -> tuple[str, ...]:
        """Name what a policy's exchange depends on first; one that hangs takes a quarter of the workers at most.

        While it is well, three quarters: its token is at hand, and only the vendor is asked.

        What comes after it is not named: policies that hang at their issuer would fill STS's lane for all others.
        """
        policy = self._source.get(key)
        if not isinstance(policy, RotatablePolicy):
            return ()
        token_source = policy.source.token_source
        return (token_source.issuer if isinstance(token_source, OidcClient) else policy.source.asked,)

    def _lane_limit(self, lane: str) -> int:
        return max(1, self._most * (3 if self._has_valid_token(lane) else 1) // 4)

    def _work(self) -> None:
        while (key := self._queue.get()) is not None:
            with attempting(key) as attempt:
                self._work_on(key, attempt)

    def _work_on(self, key: ObjectKey, attempt: Attempt) -> None:
        try:
            if self._leads():
                self._attempted.add(key)
                with self._metrics.attempt(attempt):
                    self._attempt(key)
            if not self._leads():
                # Whoever stood down meanwhile could not know of what this look left behind.
                self._drop(key)
        except Exception:
            # The last line of defence: a fault of ours in one policy must not cost a worker.
            log.exception("looking at %s failed; it will be looked at again", key)
            self._timetable.put_after(key, AFTER_A_FAULT)
        finally:
            self._attempted.discard(key)
            self._queue.done(key)

    def _attempt(self, key: ObjectKey) -> None:
        # Off the timetable first: the sweep would else ask for another look as long as this one takes.
        due, started_s = self._timetable.take(key), time.monotonic()
        policy = self._source.get(key)
        if policy is None:
            self._forget(key)
            return
        began = self._clock()
        streak = self._failures.get(key)
        ignore_retry_after = streak is not None and streak.early and self._steady() + _ROUNDING >= streak.next_try
        outcome = self._rotation(policy, self._source.reader(key), RotateOptions(ignore_retry_after=ignore_retry_after))
        if outcome.action == "rotated":
            self._metrics.duration.labels("total").observe(time.monotonic() - started_s)
            self._metrics.observe_lateness(due, began)
        self._audit.failed(policy, outcome)
        self._metrics.record(outcome)
        self._expiries[key] = outcome.expires_at.timestamp() if outcome.expires_at else 0.0
        self._plan_next(outcome)
        if outcome.action == "rotated":
            with self._metrics.stage("delivery"):
                self._listener(policy, outcome)
        elif self._is_current(policy):
            self._listener(policy, outcome)

    def _is_current(self, policy: Policy | InvalidPolicy) -> bool:
        """Tell whether a look's outcome still matters: an exchange takes time, and what follows may write."""
        if isinstance(policy, InvalidPolicy):
            return self._leads() and self._source.get(policy.key) == policy
        try:
            self._guard(policy)
        except Abandoned:
            return False
        return True

    def _plan_next(self, outcome: Outcome) -> None:
        """Put the policy's next look on the timetable."""
        key = outcome.policy
        if outcome.action == "failed" and outcome.error:
            now = self._steady()
            expires_at = now + (outcome.expires_at - self._clock()) if outcome.expires_at else None
            streak = failed(self._failures.get(key), outcome.error, seed=str(key), now=now, expires_at=expires_at)
            self._failures[key] = streak
            self._timetable.put_after(key, streak.next_try - now)
            return
        self._failures.pop(key, None)
        if outcome.renew_at:
            self._timetable.put(key, outcome.renew_at)
        else:
            self._timetable.put_after(key, STATIC_INTERVAL)

    def _steady(self) -> datetime:
        """Return the moment on a clock that nobody sets, which is the one of streaks: they are made of waits."""
        return _BEGIN + timedelta(seconds=self._seconds())

    def _guard(self, policy: Policy) -> None:
        """Called right before each write: is it still ours to make?"""
        if not self._leads():
            raise Abandoned("NotLeader")
        present = self._source.get(policy.key)
        if not isinstance(present, Policy) or present.uid != policy.uid:
            raise Abandoned("PolicyGone")
        if _asked(present) != _asked(policy) or present.secret != policy.secret:
            raise Abandoned("PolicyEdited")

    def _forget(self, key: ObjectKey) -> None:
        """Drop all that is known of a policy that is gone."""
        self._drop(key)
        self._rotation.forget(key)
        self._gone(key)

    def _drop(self, key: ObjectKey) -> None:
        self._timetable.take(key)
        self._failures.pop(key, None)
        self._expiries.pop(key, None)
        self._metrics.forget(key)


def _asked(policy: Policy) -> object:
    """Return what an edit of a policy has to change for its credential to be another."""
    return policy.fingerprint if isinstance(policy, RotatablePolicy) else policy.source
