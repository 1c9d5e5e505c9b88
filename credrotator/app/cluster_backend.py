"""The backend in a cluster: policies, Secrets, and the gateway that is to notice them."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Self

from credrotator.app.cluster import Cluster
from credrotator.app.cluster_listener import make_listener
from credrotator.app.cluster_status import ClusterStatus
from credrotator.app.consumers import NoHooks
from credrotator.app.destinations import ClusterDestination
from credrotator.app.rendering import NoTemplates
from credrotator.app.verifying import read_in_use
from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.kube.deferred import at_once
from credrotator.kube.delivery import Delivery
from credrotator.kube.reading import read_cluster
from credrotator.observability.audit import Audit
from credrotator.providers import policy_reader
from credrotator.rotation.rotation import Rotation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime

    from credrotator.app.process import Election, Running, Stop
    from credrotator.app.settings import Settings
    from credrotator.app.verifying import InUse
    from credrotator.core.instrumentation import DaemonInstrumentation
    from credrotator.core.model import ObjectKey
    from credrotator.core.outcome_shape import LastOutcome
    from credrotator.core.ports import AccountTokens, Clock, Exchange
    from credrotator.exchange.http.clock_offset import SkewedClock
    from credrotator.kube.access import Right
    from credrotator.kube.listener import ClusterListener
    from credrotator.kube.reading import ClusterInventory
    from credrotator.kube.source import Scope
    from credrotator.kube.store import ClusterStore


class ClusterBackend:
    """See ``Backend``; a context manager, since it has connections.

    Args:
        settings: Name the cluster, and which policies are meant.
        clock: The present moment; told of the API server's dates.

    Raises:
        UsageError: There is no such cluster.
    """

    def __init__(self, settings: Settings, clock: SkewedClock) -> None:
        self._settings = settings
        self._clock = clock
        # Only a supposition: the API server's clock counts while no vendor has answered, and only if it is ahead
        # (docs/decisions.md).
        self._cluster = Cluster(settings, partial(clock.suppose, "api-server"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.close()

    @property
    def store(self) -> ClusterStore:
        """See ``Backend``."""
        return self._cluster.store

    @property
    def account_tokens(self) -> AccountTokens:
        """See ``Backend``."""
        return self._cluster.account_tokens

    def rights(self, lease: str | None) -> list[Right]:
        """See ``Backend``."""
        return self._cluster.rights(lease)

    def read(self) -> ClusterSnapshot:
        """See ``Backend``."""
        scope = self._cluster.scope()
        reader = policy_reader(self._settings.defaults, scope.schema)
        inventory, problems = read_cluster(self._cluster.api, scope, reader)
        in_use, problem = read_in_use(self._settings, self._cluster, inventory.policies.values())
        # A column that cannot be filled; the table is shown all the same.
        problems += filter(None, (problem,))
        return ClusterSnapshot(self._cluster, scope, inventory, problems, self._clock, in_use=in_use)

    def renewing(self, _key: ObjectKey) -> AbstractContextManager[None]:
        """See ``Backend``: processes on many machines share no lock; each write names the version that it replaces."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def serve(
        self, workers: int, election: Election, instrumentation: DaemonInstrumentation, stop: Stop
    ) -> Iterator[Running]:
        """See ``Backend``."""
        from credrotator.app.cluster_daemon import serve_cluster  # noqa: PLC0415 - a pass needs none of it

        with serve_cluster(
            self._cluster,
            self._settings,
            self._clock,
            workers=workers,
            election=election,
            instrumentation=instrumentation,
            stop=stop,
        ) as running:
            yield running


class ClusterSnapshot:
    """See ``Snapshot``."""

    origin = "the cluster"
    # Policies come and go in a cluster, so none is a state like any other; a file without one is a mistake.
    may_be_empty = True
    warnings = ()

    def __init__(
        self,
        cluster: Cluster,
        scope: Scope,
        inventory: ClusterInventory,
        problems: list[str],
        clock: SkewedClock,
        *,
        in_use: InUse,
    ) -> None:
        self.inventory = inventory
        self.in_use = in_use
        self.problems = problems
        self.notes = inventory.notes
        self.namespace = cluster.namespace
        self.renderer = NoTemplates()
        self.hooks = NoHooks()
        self._cluster = cluster
        self._scope = scope
        self._clock = clock
        self._status = ClusterStatus(inventory)
        # Of the snapshot: what it remembers of bells and acknowledgements is of this one pass.
        self._delivery = Delivery(cluster.api, clock, NO_INSTRUMENTATION, waits=False)

    def last_outcome(self, key: ObjectKey) -> LastOutcome | None:
        """See ``Snapshot``."""
        return self._status.last_outcome(key)

    def acknowledged_at(self, key: ObjectKey) -> datetime | None:
        """See ``Snapshot``."""
        return self._status.acknowledged_at(key)

    def listener(self) -> ClusterListener:
        """See ``Snapshot``."""
        return make_listener(
            self._cluster,
            self._scope,
            self.inventory,
            self._delivery,
            clock=self._clock,
            audit=Audit(),
            skew=self._clock.believed,
            # A pass ends after its last policy: what was put off would never be written.
            defer=at_once,
        )

    def request_renewal(self, key: ObjectKey, request: str) -> bool:
        """See ``Snapshot``: by an annotation of the policy."""
        from credrotator.kube.renewal import request_renewal  # noqa: PLC0415 - for one command only

        request_renewal(self._cluster.api, self._scope.version, key, request)
        return True

    def destination(self, exchange: Exchange, clock: Clock, lease: str | None) -> ClusterDestination:
        """See ``Snapshot``."""
        cluster = self._cluster
        rotation = Rotation(cluster.store, exchange, clock)
        return ClusterDestination(
            cluster.api,
            cluster.store,
            self._delivery,
            self._status,
            rotation=rotation,
            ask_rights=partial(cluster.rights, lease),
            ask_account=cluster.account_right,
        )
