"""The daemon over a cluster: informers, leader election, delivery, and their order at start and end."""

from __future__ import annotations

import contextlib
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from credrotator.app.assembly import make_daemon, make_queue
from credrotator.app.cluster_listener import make_listener
from credrotator.app.exchanging import make_exchanger
from credrotator.app.leadership import Leader, OnlyCandidate, without_election
from credrotator.app.process import Starting
from credrotator.app.verifying import make_verification
from credrotator.core.errors import RotationError
from credrotator.core.threads import trouble
from credrotator.exchange.http.circuit import slots_for
from credrotator.kube.client.leader_election import LeaderElection
from credrotator.kube.client.lease_term import LeaseTerm
from credrotator.kube.deferred import DeferredWrites
from credrotator.kube.delivery import Delivery
from credrotator.kube.missed_deliveries import Bells, MissedDeliveries
from credrotator.kube.source import ClusterSource, Scope
from credrotator.kube.verified_delivery import NO_VERIFICATION
from credrotator.observability.audit import Audit
from credrotator.providers import policy_reader
from credrotator.rotation.recovery import Recovery
from credrotator.rotation.store_recovery import StoreRecovery

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from credrotator.app.cluster import Cluster
    from credrotator.app.leadership import Candidate
    from credrotator.app.process import Election, Running, Stop
    from credrotator.app.settings import Settings
    from credrotator.core.instrumentation import DaemonInstrumentation
    from credrotator.core.threads import HasThreads
    from credrotator.exchange.http.clock_offset import SkewedClock
    from credrotator.rotation.daemon import Daemon

log = logging.getLogger("credrotator.run")

# The kubelet replaces a projected token at 80 % of its life, and the client reads the file anew each minute at the
# latest.
REFUSED_TOKEN_LIMIT = timedelta(minutes=2)
"""How long a refused token may be one that is just being replaced."""
# A cluster in which the gateway is never installed is asked twice a minute; once it is, that is how late we are.
LONGEST_WAIT_S = 30.0


@contextlib.contextmanager
def serve_cluster(
    cluster: Cluster,
    settings: Settings,
    clock: SkewedClock,
    *,
    workers: int,
    election: Election,
    instrumentation: DaemonInstrumentation,
    stop: Stop,
) -> Iterator[Running]:
    """See ``Backend.serve``: start everything, and end it in order: no new writes, the Lease released."""
    scope = _wait_for_scope(cluster, stop)
    if scope is None:
        # Told to stop before the gateway's API was there: the caller needs something to ask, and ends at its next look.
        yield Starting()
        return
    delivery = Delivery(cluster.api, clock, instrumentation)
    source = ClusterSource(cluster.api, scope, policy_reader(settings.defaults, scope.schema), delivery.acknowledge)
    store = StoreRecovery(cluster.store)
    exchange = make_exchanger(
        settings, clock, instrumentation, account_tokens=cluster.account_tokens, slots=slots_for(workers)
    )
    queue = make_queue(source, exchange, workers)
    # The term is made first: who writes asks it, and the election, which comes last, keeps it.
    term = LeaseTerm()
    leads = term.holds if election.on else without_election
    deferred = DeferredWrites(leads, queue)
    audit = Audit(cluster.identity, leads, failures=logging.WARNING)
    verification = make_verification(
        settings, cluster, source, delivery, instrumentation=instrumentation, leads=leads, defer=deferred.defer
    )
    listener = make_listener(
        cluster,
        scope,
        source,
        delivery,
        clock=clock,
        audit=audit,
        skew=clock.believed,
        defer=deferred.defer,
        verification=verification or NO_VERIFICATION,
    )
    daemon = make_daemon(
        source,
        store,
        exchange,
        queue,
        listener=listener,
        clock=clock,
        leads=leads,
        audit=audit,
        instrumentation=instrumentation,
        cached_state=source.heard_of,
    )
    # One for each thing that may be away: those whom it kept waiting are attempted as soon as it answers.
    helpers: list[Helper] = [Recovery(each.awake, daemon.wake) for each in (exchange.circuits, store)]
    if verification:
        helpers.append(verification)
    lease = cluster.lease(election.lease)
    missed = MissedDeliveries(cluster.api, scope.namespaces or (None,), source, delivery, clock)
    bells = Bells(delivery, missed, deferred.defer)
    leader = Leader(daemon, listener, missed, instrumentation, str(lease) if election.on else "")
    candidate: Candidate = OnlyCandidate(leader)
    if election.on:
        candidate = LeaderElection(cluster.api, lease, cluster.identity, term, listener=leader)
    deferred.start()
    daemon.start()
    for helper in helpers:
        helper.start()
    # Last: with the Lease it begins to work, so everything that works with it has to run by then.
    candidate.start()
    try:
        yield ClusterDaemon(
            daemon,
            source,
            (bells, listener),
            cluster,
            clock=clock,
            instrumentation=instrumentation,
            deferred=deferred,
            threads=(source, deferred, candidate, *helpers),
        )
    finally:
        # The flags first: their threads end while the others are waited for.
        for helper in helpers:
            helper.begin_to_stop()
        # The workers end first: what they write is guarded by the Lease, and what they have to say goes to the deferred
        # writes.
        daemon.stop()
        for helper in helpers:
            helper.stop()
        deferred.stop()
        # Only now is the Lease released: whoever takes it over must find no write of ours on its way.
        candidate.stop()


class Helper(Protocol):
    """Works beside the daemon, in a thread of its own."""

    def start(self) -> None:
        """Begin."""

    def begin_to_stop(self) -> None:
        """Begin nothing more."""

    def stop(self) -> None:
        """End."""

    def dead(self) -> list[str]:
        """Name its thread if that has ended though it was not stopped."""


class Ticking(Protocol):
    """Does what is due by now."""

    def tick(self) -> None:
        """Look what is due; called every second, in one thread."""


class ClusterDaemon:
    """See ``Running``."""

    def __init__(
        self,
        daemon: Daemon,
        source: ClusterSource,
        ticking: Sequence[Ticking],
        cluster: Cluster,
        *,
        clock: SkewedClock,
        instrumentation: DaemonInstrumentation,
        deferred: DeferredWrites,
        threads: Sequence[HasThreads],
    ) -> None:
        self._deferred = deferred
        self._threads = threads
        self._daemon = daemon
        self._source = source
        self._ticking = ticking
        self._cluster = cluster
        self._clock = clock
        self._instrumentation = instrumentation

    def alive(self) -> str | None:
        """See ``Running``."""
        return self._daemon.trouble() or trouble(self._threads)

    def ready(self) -> str | None:
        """See ``Running``."""
        # A wrong token never heals by waiting, but only by a restart with another one, or by somebody's RBAC: unready
        # is what both notice.
        refused = self._cluster.api.unauthorized_for()
        if refused > REFUSED_TOKEN_LIMIT:
            return f"the API server has refused the token for {refused.total_seconds():.0f} s"
        return self.alive() or self._source.trouble()

    def serving(self) -> str | None:
        """See ``Running``."""
        return None if self._source.trouble() else self._cluster.serving(self._source)

    def tick(self) -> None:
        """See ``Running``."""
        for each in self._ticking:
            each.tick()
        # Every second here; what it looks at, and how seldom, is its own affair (every 15 s).
        self._source.sweep()
        if self._source.awaits_grants():
            # Not in this thread: a request that hangs would stop the metrics and doorbells with it.
            self._deferred.defer("", self._source.read_grants)
        self._instrumentation.note_restarts(self._source.restarts())
        self._instrumentation.note_silence(self._source.silences())
        self._instrumentation.note_skew(self._clock.seen())


def _wait_for_scope(cluster: Cluster, stop: Stop) -> Scope | None:
    """Wait until the gateway's API is served: it may be installed after us. None when told to stop meanwhile."""
    wait_s = 1.0
    while True:
        try:
            return cluster.scope()
        except RotationError as error:
            said = (error.reason, error.message, error.hint, wait_s)
            log.warning("%s: %s; what to do: %s; trying again in %.0f s", *said)
        if stop.wait(wait_s):
            return None
        # Without jitter: replicas that start together are few, and a discovery request is cheap.
        wait_s = min(wait_s * 2, LONGEST_WAIT_S)
