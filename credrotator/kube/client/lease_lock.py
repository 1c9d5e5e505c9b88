"""The record in a Lease: how it is read, and how it is written so that of two writers one fails.

Owns the shape that client-go gives it. Must not decide who leads. Source: client-go
``tools/leaderelection/resourcelock/leaselock.go``; coordination.k8s.io/v1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from credrotator.kube.client import resource_paths
from credrotator.kube.client.api_errors import NOT_FOUND, ApiError
from credrotator.kube.client.api_objects import Json, LeaseRecord

if TYPE_CHECKING:
    from datetime import timedelta

    from credrotator.core.model import ObjectKey
    from credrotator.core.ports import Clock
    from credrotator.kube.client.api import KubeApi

Lease = Json
"""The whole object, as the server gave it; ``spec_of`` is what is read of it."""


class LeaseLock:
    """One Lease, as seen by one candidate. Every method raises ApiError.

    Args:
        api: The server.
        key: Of the Lease.
        identity: The candidate.
        lease_duration: Written into the record, in whole seconds.
        clock: For the times in the record.
    """

    def __init__(self, api: KubeApi, key: ObjectKey, identity: str, *, lease_duration: timedelta, clock: Clock) -> None:
        self.key, self.identity = key, identity
        self._api, self._clock = api, clock
        self._duration_s = math.ceil(lease_duration.total_seconds())

    def read(self, timeout_s: float) -> Lease | None:
        """Return the Lease, None if there is none."""
        try:
            return self._api.get(resource_paths.lease(self.key), read_timeout_s=timeout_s)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def create(self, timeout_s: float) -> Lease:
        """Create it, held by the candidate; 409 if somebody else was faster."""
        now = self._now()
        record = self._record(acquired=now, renewed=now, transitions=0)
        metadata = {"name": self.key.name, "namespace": self.key.namespace}
        made = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": record}
        return self._api.post(resource_paths.leases(self.key.namespace), made, read_timeout_s=timeout_s)

    def take(self, seen: Lease, timeout_s: float) -> Lease:
        """Renew it, or take it over; 409 unless it still is as it was seen."""
        now, spec = self._now(), spec_of(seen)
        transitions = spec.get("leaseTransitions") or 0
        # A renewal is no change of hands: the count of transitions is how an operator sees that leadership flaps.
        if holder_of(seen) == self.identity:
            record = self._record(acquired=spec.get("acquireTime"), renewed=now, transitions=transitions)
        else:
            record = self._record(acquired=now, renewed=now, transitions=transitions + 1)
        return self._replace(seen, record, timeout_s)

    def release(self, seen: Lease, timeout_s: float) -> Lease:
        """Leave it to whoever comes first; 409 unless it still is as it was seen."""
        now = self._now()
        # A second, as client-go does: others compare with the duration in the record, and zero is not valid.
        record: LeaseRecord = {"holderIdentity": "", "leaseDurationSeconds": 1, "acquireTime": now, "renewTime": now}
        return self._replace(seen, record, timeout_s)

    def _replace(self, seen: Lease, record: LeaseRecord, timeout_s: float) -> Lease:
        # The resourceVersion of what was seen goes along, in the metadata.
        changed = {**seen, "spec": {**spec_of(seen), **record}}
        return self._api.put(resource_paths.lease(self.key), changed, read_timeout_s=timeout_s)

    def _record(self, *, acquired: str | None, renewed: str, transitions: int) -> LeaseRecord:
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._duration_s,
            "acquireTime": acquired,
            "renewTime": renewed,
            "leaseTransitions": transitions,
        }

    def _now(self) -> str:
        # The server takes exactly six decimals.
        return self._clock().isoformat(timespec="microseconds")


def spec_of(lease: Lease) -> LeaseRecord:
    """Return the record; empty if there is none."""
    return lease.get("spec") or {}


def holder_of(lease: Lease) -> str:
    """Return who holds it; empty for nobody."""
    return str(spec_of(lease).get("holderIdentity") or "")
