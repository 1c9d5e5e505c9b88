"""One attempt at one policy: rotate, record, plan the next, deliver. The same for one pass and for the daemon.

Owns the order of these. Must not know when attempts are made, nor what a delivery is.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Protocol

from credrotator.core.attempts import attempting
from credrotator.core.instrumentation import Timing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from credrotator.core.audit_log import AuditLog
    from credrotator.core.instrumentation import Instrumentation
    from credrotator.core.model import InvalidPolicy, ObjectKey, Policy
    from credrotator.core.outcome import Outcome
    from credrotator.core.ports import Clock, OutcomeListener, SecretReader
    from credrotator.rotation.guard import Guard
    from credrotator.rotation.rotation import RotateOptions


class RotatePolicy(Protocol):
    """The use case; see ``Rotation``."""

    def __call__(self, policy: Policy | InvalidPolicy, secrets: SecretReader, options: RotateOptions) -> Outcome:
        """Do what is due for one policy."""

    def forget(self, key: ObjectKey) -> None:
        """Drop what is held for a policy that is gone."""


class Schedule(Protocol):
    """Plans the next attempt at a policy by how the latest one ended."""

    def plan(self, outcome: Outcome) -> None:
        """Plan it."""


class _OnePass:
    def plan(self, outcome: Outcome) -> None:
        pass


ONE_PASS: Schedule = _OnePass()
"""Nothing follows by itself: whoever called calls again (cron, a person)."""


class AttemptRunner:
    """Makes attempts; safe to share between threads, one thread per policy.

    Args:
        rotation: The use case.
        listener: Told of each outcome that still matters.
        guard: Tells whether it does; asked where nothing was written, since what follows may write.
        clock: The present moment.
        audit: Told of failures.
        instrumentation: Told of attempts, and of their deliveries.
    """

    def __init__(
        self,
        rotation: RotatePolicy,
        listener: OutcomeListener,
        guard: Guard,
        clock: Clock,
        *,
        audit: AuditLog,
        instrumentation: Instrumentation,
    ) -> None:
        self._rotation = rotation
        self._listener = listener
        self._guard = guard
        self._clock = clock
        self._audit = audit
        self._instrumentation = instrumentation

    @contextlib.contextmanager
    def begin(self, key: ObjectKey) -> Iterator[None]:
        """Hold an attempt together: what is logged and measured in the block belongs to it."""
        with attempting(key) as attempt, self._instrumentation.attempt(attempt):
            yield

    def __call__(
        self,
        policy: Policy | InvalidPolicy,
        secrets: SecretReader,
        options: RotateOptions,
        schedule: Schedule,
        due: datetime | None = None,
    ) -> Outcome:
        """Make one attempt, within ``begin``; of a dry run nobody is told.

        Args:
            policy: As it was read.
            secrets: Reads what it refers to.
            options: What to do.
            schedule: Plans the next attempt, before this one's delivery, which may take its time.
            due: When this one was planned to begin (aware UTC); None where it was not planned.
        """
        began, started_s = self._clock(), time.monotonic()
        outcome = self._rotation(policy, secrets, options)
        # Nothing happened, so nobody is told: an audit record of what was not done would be a lie.
        if options.dry_run:
            return outcome
        self._audit.failed(policy, outcome)
        self._instrumentation.record(outcome, Timing(time.monotonic() - started_s, due, began))
        # Before the delivery, which asks the API server and may hang: the next renewal must not depend on it.
        schedule.plan(outcome)
        if outcome.action == "rotated":
            with self._instrumentation.stage("delivery"):
                self._listener(policy, outcome)
        # What was rotated has passed the guard right before its write. Anything else has written nothing yet, and the
        # status write that follows must not be a former leader's.
        elif self._guard.is_current(policy):
            self._listener(policy, outcome)
        return outcome

    def forget(self, key: ObjectKey) -> None:
        """Drop what is known of a policy that is gone."""
        self._rotation.forget(key)
        self._listener.forget(key)
