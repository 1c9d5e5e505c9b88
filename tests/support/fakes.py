"""A daemon over memory: a source that a test edits, an exchange that hangs or fails on demand, and what was said.

Owns the memory twins of what the daemon is put together from, beside those of ``tests.support.twins``.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from apscheduler.schedulers.background import BackgroundScheduler

from credrotator.core.errors import Transient
from credrotator.core.model import InvalidPolicy, ObjectKey, Policy, RotatablePolicy
from credrotator.observability.audit import Audit
from credrotator.observability.metrics import Metrics
from credrotator.providers.aws.source import AwsOidc
from credrotator.rotation.attempt import AttemptRunner
from credrotator.rotation.daemon import Daemon
from credrotator.rotation.edit_budget import ChargedExchange, EditBudget
from credrotator.rotation.guard import PolicyGuard
from credrotator.rotation.lanes import LaneGuard, Lanes
from credrotator.rotation.rotation import Rotation
from credrotator.rotation.timetable import Timetable
from credrotator.rotation.workqueue import WorkQueue
from tests.support.builders import client_of
from tests.support.twins import HOUR, Listener, MemoryStore, StandingClock, aws_credential, aws_policy, no_secrets
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from credrotator.core.model import Credential, InvalidPolicy, Rotatable
    from credrotator.core.outcome import Outcome
    from credrotator.core.ports import SecretReader
    from credrotator.providers.aws.source import AwsCredential


IDP, OTHER = "https://idp.example", "https://other.example"
NEVER = timedelta(days=1)


def _nothing() -> None:
    """Happen not."""


class MemorySource:
    """A PolicySource that a test edits."""

    def __init__(self) -> None:
        self.present: dict[ObjectKey, Policy | InvalidPolicy] = {}
        self._changed: Callable[[ObjectKey], None] = lambda _key: None

    def start(self, changed: Callable[[ObjectKey], None]) -> None:
        self._changed = changed
        for key in list(self.present):
            self._changed(key)

    def stop(self) -> None:
        self._changed = lambda _key: None

    def get(self, key: ObjectKey) -> Policy | InvalidPolicy | None:
        return self.present.get(key)

    def policies(self) -> Iterable[ObjectKey]:
        return list(self.present)

    def reader(self, key: ObjectKey) -> SecretReader:
        return no_secrets

    def trouble(self) -> str | None:
        return None

    def put(self, policy: Policy | InvalidPolicy) -> None:
        """Create or edit a policy."""
        self.present[policy.key] = policy
        self._changed(policy.key)

    def delete(self, key: ObjectKey) -> None:
        """Delete a policy."""
        del self.present[key]
        self._changed(key)


class Exchange:
    """An Exchange by issuer: one that hangs until it is let go, one that fails, and credentials for all others.

    Attributes:
        calls: Who asked, in order.
        waiting: How many are held at the moment.
        meanwhile: Run once, by the next exchange, before it answers.
    """

    def __init__(self, clock: StandingClock) -> None:
        self.life = HOUR
        self.calls: list[ObjectKey] = []
        self.ignored_retry_after: list[bool] = []
        self.hanging: set[str] = set()
        self.failing: dict[str, Exception] = {}
        self.verdicts: dict[ObjectKey, Exception] = {}
        self.verified: list[ObjectKey] = []
        self.meanwhile: Callable[[], None] = _nothing
        self.waiting = 0
        self._clock = clock
        self._changed = threading.Condition()

    def __call__(
        self, policy: ObjectKey, source: Rotatable, secrets: SecretReader, *, ignore_retry_after: bool = False
    ) -> AwsCredential:
        assert isinstance(source, AwsOidc)
        issuer = client_of(source).issuer
        with self._changed:
            self.calls.append(policy)
            self.ignored_retry_after.append(ignore_retry_after)
            number = len(self.calls)
            meanwhile, self.meanwhile = self.meanwhile, _nothing
        meanwhile()
        with self._changed:
            self.waiting += 1
            self._changed.wait_for(lambda: issuer not in self.hanging)
            self.waiting -= 1
        if issuer in self.failing:
            raise self.failing[issuer]
        return aws_credential(self._clock(), self.life, str(number))

    def verify(
        self, policy: ObjectKey, source: Rotatable, credential: Credential, *, ignore_retry_after: bool = False
    ) -> None:
        self.verified.append(policy)
        if policy in self.verdicts:
            raise self.verdicts[policy]

    def let_go(self) -> None:
        """End all hanging."""
        with self._changed:
            self.hanging.clear()
            self._changed.notify_all()


UNREACHABLE = Transient("IssuerUnreachable", "nobody answers", hint="see the network")


class Timers(BackgroundScheduler):  # type: ignore[misc]
    """APScheduler that runs, and whose jobs are never due."""

    def _process_jobs(self) -> None:
        """Find none, and sleep until there is another one."""


class Backend:
    """A daemon and everything around it; ``outcomes`` is what its listener was told."""

    def __init__(self, *, workers: int = 4) -> None:
        self.clock = StandingClock()
        self.wrong = timedelta(0)
        self.source, self.store = MemorySource(), MemoryStore()
        self.exchange = Exchange(self.clock)
        self.metrics = Metrics()
        self.leading = True
        self.has_valid_token: set[str] = set()
        self.outcomes: list[Outcome] = []
        self.gone: list[ObjectKey] = []
        self.listening: Callable[[], None] = _nothing
        self.workers = workers
        self.daemon = self._daemon()

    def _daemon(self) -> Daemon:
        def leads() -> bool:
            return self.leading

        guard = PolicyGuard(self.source, leads)
        audit, listener = Audit(failures=logging.WARNING), Listener(self._told, self.gone.append)

        def seconds() -> float:
            return self.clock.seconds() - self.wrong.total_seconds()

        edits = EditBudget(seconds)
        self.lanes = Lanes(self.source, self.has_valid_token.__contains__, self.workers)
        queue = WorkQueue(self.workers, self.lanes.of, self.lanes.limit)
        self.rotation = Rotation(
            self.store,
            ChargedExchange(self.exchange, edits),
            self.clock,
            LaneGuard(guard, queue),
            instrumentation=self.metrics,
            audit=audit,
        )
        daemon = Daemon(
            self.source,
            queue,
            AttemptRunner(self.rotation, listener, guard, self.clock, audit=audit, instrumentation=self.metrics),
            self.clock,
            leads=leads,
            instrumentation=self.metrics,
            edits=edits,
            seconds=seconds,
        )
        # Time passes by ``later`` alone: a timer of the machine's time, or a sweep, would fire beside it.
        daemon._timetable = Timetable(daemon._due, self.clock, NEVER, seconds=seconds)
        daemon._timetable._scheduler = Timers()
        return daemon

    def restart(self) -> None:
        """End the daemon and start another one: all that it knew is gone."""
        self.daemon.stop()
        self.metrics = Metrics()
        self.outcomes.clear()
        self.daemon = self._daemon()
        self.daemon.start()

    def add(self, *names: str, issuer: str = "https://idp.example", role: str = "bedrock") -> list[ObjectKey]:
        """Create policies that trust an issuer."""
        keys = [ObjectKey("default", name) for name in names]
        for key in keys:
            self.source.put(policy(key, issuer=issuer, role=role))
        return keys

    def later(self, by: timedelta) -> None:
        """Let time pass, and the timetable look at the clock."""
        self.clock.now += by
        self.daemon._timetable.sweep()

    def set_clock(self, by: timedelta) -> None:
        """Set the clock, ahead or back; no time passes."""
        self.clock.now += by
        self.wrong += by

    def settled(self, within_s: float = LIMIT_S) -> None:
        """Wait until nobody works and nothing waits."""
        queue = self.daemon._queue
        eventually(lambda: not len(queue) and not queue._handled, within_s)

    def look_again(self, key: ObjectKey) -> Outcome:
        """Have a policy looked at, and return what came of it."""
        count = len(self.outcomes)
        self.daemon.enqueue(key)
        eventually(lambda: len(self.outcomes) > count)
        self.settled()
        return self.outcomes[-1]

    def of(self, key: ObjectKey) -> list[Outcome]:
        """Return what became of one policy, look by look."""
        return [outcome for outcome in list(self.outcomes) if outcome.policy == key]

    def _told(self, _policy: Policy | InvalidPolicy, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.listening()


def policy(key: ObjectKey, *, issuer: str = "https://idp.example", role: str = "bedrock") -> RotatablePolicy:
    """Return a policy of AWS."""
    found = aws_policy(key, role)
    assert isinstance(found.source, AwsOidc)
    return replace(found, source=replace(found.source, oidc=replace(client_of(found), issuer=issuer)))
