"""What follows an outcome in a cluster, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.kube.adoption import Adoption
from credrotator.kube.conditions import Conditions
from credrotator.kube.events import EventRecorder
from credrotator.kube.listener import ClusterListener
from credrotator.kube.parking import Parking
from credrotator.kube.policy_events import PolicyEvents
from credrotator.kube.verified_delivery import NO_VERIFICATION

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from credrotator.app.cluster import Cluster
    from credrotator.core.audit_log import AuditLog
    from credrotator.core.ports import Clock
    from credrotator.kube.deferred import Defer
    from credrotator.kube.delivery import Delivery
    from credrotator.kube.source import Observer, Scope
    from credrotator.kube.verified_delivery import Verification


def make_listener(
    cluster: Cluster,
    scope: Scope,
    observer: Observer,
    delivery: Delivery,
    *,
    clock: Clock,
    audit: AuditLog,
    skew: Callable[[], timedelta | None],
    defer: Defer,
    verification: Verification = NO_VERIFICATION,
) -> ClusterListener:
    """Put it together; for what the parts are, see ``Conditions``."""
    api, store = cluster.api, cluster.store
    # The identity tells replicas apart in reportingInstance, which events.k8s.io wants.
    events = PolicyEvents(EventRecorder(api, cluster.identity), observer, defer)
    conditions = Conditions(api, scope.version, clock, observer=observer, events=events, defer=defer, skew=skew)
    adoption, parking = Adoption(store, events, audit), Parking(store, clock, audit)
    return ClusterListener(observer, delivery, adoption, parking, conditions, verification=verification)
