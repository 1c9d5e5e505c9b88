"""What both backends put together alike: the queue and the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.ports import NOTHING_CACHED
from credrotator.exchange.asked_time import AskedTime
from credrotator.rotation.attempt import AttemptRunner
from credrotator.rotation.daemon import Daemon
from credrotator.rotation.edit_budget import ChargedExchange, EditBudget
from credrotator.rotation.guard import PolicyGuard
from credrotator.rotation.lanes import LaneGuard, Lanes
from credrotator.rotation.rotation import Rotation
from credrotator.rotation.workqueue import WorkQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.audit_log import AuditLog
    from credrotator.core.instrumentation import DaemonInstrumentation
    from credrotator.core.model import InvalidPolicy, ObjectKey, Policy
    from credrotator.core.outcome import Outcome
    from credrotator.core.ports import CachedState, Clock, OutcomeListener, PolicySource, SecretStore
    from credrotator.exchange.exchanger import Exchanger
    from credrotator.exchange.http.circuit import CircuitBreakers


def make_queue(source: PolicySource, exchange: Exchanger, workers: int) -> WorkQueue:
    """Make the queue of policies that wait for a worker."""
    lanes = Lanes(source, exchange.has_valid_token, workers)
    return WorkQueue(workers, lanes.of, lanes.limit)


def make_daemon(
    source: PolicySource,
    store: SecretStore,
    exchange: Exchanger,
    queue: WorkQueue,
    *,
    listener: OutcomeListener,
    clock: Clock,
    leads: Callable[[], bool],
    audit: AuditLog,
    instrumentation: DaemonInstrumentation,
    cached_state: CachedState = NOTHING_CACHED,
) -> Daemon:
    """Put a daemon together; for what the parts are, see ``Rotation``, ``AttemptRunner`` and ``Daemon``."""
    guard, edits = PolicyGuard(source, leads), EditBudget()
    rotation = Rotation(
        store,
        # Around the exchange, and not in the queue: an edit that needs no exchange costs its namespace nothing.
        ChargedExchange(exchange, edits),
        clock,
        LaneGuard(guard, queue),
        instrumentation=instrumentation,
        audit=audit,
        cached_state=cached_state,
        ask_time=AskedTime(exchange, clock),
    )
    listener = _Forgetting(listener, exchange.circuits)
    attempt = AttemptRunner(rotation, listener, guard, clock, audit=audit, instrumentation=instrumentation)
    return Daemon(source, queue, attempt, clock, leads=leads, instrumentation=instrumentation, edits=edits)


class _Forgetting:
    """A listener, and circuit breakers that forget what it forgets."""

    def __init__(self, listener: OutcomeListener, circuits: CircuitBreakers) -> None:
        self._listener = listener
        self._circuits = circuits

    def __call__(self, policy: Policy | InvalidPolicy, outcome: Outcome) -> None:
        self._listener(policy, outcome)

    def forget(self, key: ObjectKey) -> None:
        self._listener.forget(key)
        # Else a namespace that comes and goes would leave its failures' counts behind for ever.
        self._circuits.forget(key)
