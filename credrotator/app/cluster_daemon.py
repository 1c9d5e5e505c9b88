"""The daemon over a cluster: informers, leader election, delivery, and their order at start and end."""

from __future__ import annotations

import contextlib
import logging
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from credrotator.app.cluster import LEASE, Cluster
from credrotator.app.daemon import make_daemon, make_queue
from credrotator.cli.options import exchanger
from credrotator.cli.run import Election, Running, Stop
from credrotator.core.clock import system_clock
from credrotator.core.errors import RotationError
from credrotator.core.model import ObjectKey
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.kube.client.leader_election import LeaderElection
from credrotator.kube.deferred import DeferredWrites
from credrotator.kube.delivery import Delivery
from credrotator.kube.source import ClusterSource, Scope
from credrotator.observability.audit import Audit
from credrotator.providers import policy_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from credrotator.app.settings import Settings
    from credrotator.observability.metrics import Metrics

log = logging.getLogger("credrotator.run")

REFUSED_TOKEN_LIMIT = timedelta(minutes=2)
"""For so long a refused token may be one that is just being replaced."""
LONGEST_WAIT_S = 30.0


@contextlib.contextmanager
def running_in_cluster(
    settings: Settings, election: Election, workers: int, metrics: Metrics, stopping: Stop
) -> Iterator[Running]:
    """Start everything, yield, and end it in order: no new writes, the Lease released, watches closed."""
    # For what is written too: how long a policy is parked is read by others, whose clocks are right perhaps.
    clock = SkewedClock(system_clock)
    with Cluster(settings, clock, partial(clock.suppose, "api-server")) as cluster:
        scope = _wait_for_scope(cluster, stopping)
        if scope is None:
            yield Running()
            return
        delivery = Delivery(cluster.api, clock, metrics)
        source = ClusterSource(cluster.api, scope, policy_reader(settings.defaults), delivery.acknowledge)
        leadership = _Leadership(cluster, election, metrics)
        exchange = exchanger(settings, clock, metrics)
        queue = make_queue(source, exchange, workers)
        deferred = DeferredWrites(leadership.holds, queue.backlog)
        audit = Audit(cluster.identity, leadership.holds, failures=logging.WARNING)
        listener = cluster.listener(scope, source, delivery, audit=audit, skew=clock.believed, defer=deferred.defer)
        daemon = make_daemon(
            source,
            cluster.store,
            exchange,
            queue,
            listener=listener,
            clock=clock,
            leads=leadership.holds,
            audit=audit,
            instrumentation=metrics,
            workers=workers,
            cached_state=source.cached_state,
        )
        exchange.circuits.recovered = daemon.enqueue_failures

        def tick() -> None:
            delivery.sweep()
            source.sweep()
            metrics.note_restarts(source.restarts())
            metrics.note_silence(source.silences())
            metrics.note_skew(clock.seen())

        def stand_down() -> None:
            daemon.stand_down()
            delivery.stand_down()

        def ready() -> str | None:
            refused = cluster.api.unauthorized_for()
            if refused > REFUSED_TOKEN_LIMIT:
                return f"the API server has refused the token for {refused.total_seconds():.0f} s"
            return daemon.trouble() or source.trouble()

        deferred.start()
        daemon.start()
        leadership.start(daemon.enqueue_all, stand_down)
        try:
            yield Running(daemon.trouble, ready, tick)
        finally:
            daemon.stop()
            deferred.stop()
            leadership.stop()


def _wait_for_scope(cluster: Cluster, stopping: Stop) -> Scope | None:
    """Wait until the gateway's API is served: it may be installed after us. None when told to stop meanwhile."""
    wait_s = 1.0
    while True:
        try:
            return cluster.scope()
        except RotationError as error:
            log.warning("%s: %s; trying again in %.0f s", error.reason, error.message, wait_s)
        if stopping.wait(wait_s):
            return None
        wait_s = min(wait_s * 2, LONGEST_WAIT_S)


class _Leadership:
    """Leader election, or the lack of it."""

    def __init__(self, cluster: Cluster, election: Election, metrics: Metrics) -> None:
        self._metrics = metrics
        self._election: LeaderElection | None = None
        self._enqueue_all: Callable[[], None] = lambda: None
        self._stand_down: Callable[[], None] = lambda: None
        if election.on:
            lease = ObjectKey.parse(election.lease or LEASE, cluster.api.default_namespace)
            self._election = LeaderElection(
                cluster.api, lease, cluster.identity, started=self._started, stopped=self._stopped
            )

    def start(self, enqueue_all: Callable[[], None], stand_down: Callable[[], None]) -> None:
        """Take part; ``look_at_all`` is called each time this process becomes the leader, the other when it ceases."""
        self._enqueue_all, self._stand_down = enqueue_all, stand_down
        if self._election:
            self._election.start()
        else:
            self._started()

    def stop(self) -> None:
        """Release the Lease."""
        if self._election:
            self._election.stop()

    def holds(self) -> bool:
        """Tell whether this process may write now."""
        return self._election.is_leader() if self._election else True

    def _started(self) -> None:
        log.info("leading%s", f" by Lease {self._election.lease}" if self._election else "")
        self._metrics.note_leading(leading=True)
        self._enqueue_all()

    def _stopped(self) -> None:
        log.info("not leading any more")
        self._metrics.note_leading(leading=False)
        self._stand_down()
