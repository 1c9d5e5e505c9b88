"""What follows an outcome in a cluster: the doorbell, Events, the condition, adoption, and parking.

Owns these five and their order. None of them can fail a rotation: the credential is published before, and stays.
Source: contract.md, "From the Secret to the filter" (parking); faults.md 38, 40.
"""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from credrotator.errors import Conflict, RotationError
from credrotator.kube import paths
from credrotator.kube.api import ApiError, KubeApi
from credrotator.kube.store import MANAGER
from credrotator.model import InvalidPolicy, ObjectKey, Outcome, Policy, Rotatable, SecretDocument
from credrotator.planning import Reason
from credrotator.policy import fingerprint
from credrotator.secretdata import CONTENT, FINGERPRINT, content_hash, park, parked_until, show_time

if TYPE_CHECKING:
    from credrotator.kube.delivery import Delivery
    from credrotator.kube.events import EventRecorder
    from credrotator.kube.source import Observed
    from credrotator.kube.store import ClusterStore
    from credrotator.ports import Clock

log = logging.getLogger(__name__)

CONDITION = "credrotator.io/Ready"
PARKING = timedelta(minutes=15)
PARK_AGAIN = timedelta(minutes=8)
"""The gateway's rotator wakes 5 min before the annotation; failures are retried at most 8 min apart."""


class Observer(Protocol):
    """Where a policy's status is seen."""

    def observed(self, key: ObjectKey) -> Observed | None:
        """Return a policy with what its status says."""


class ClusterListener:
    """Told of each outcome, in the worker; only the leader has any."""

    def __init__(
        self,
        api: KubeApi,
        version: str,
        clock: Clock,
        *,
        store: ClusterStore,
        source: Observer,
        delivery: Delivery,
        events: EventRecorder,
    ) -> None:
        self._api = api
        self._version = version
        self._clock = clock
        self._store = store
        self._source = source
        self._delivery = delivery
        self._events = events
        self._lock = threading.Lock()
        self._said: dict[ObjectKey, tuple[bool, str]] = {}

    def __call__(self, policy: Policy | InvalidPolicy, outcome: Outcome) -> None:
        """Do what an outcome calls for."""
        if isinstance(policy, Policy) and isinstance(policy.source, Rotatable):
            if outcome.action == "rotated":
                self._announce(policy)
            elif outcome.reason == "Adopted":
                self._adopt(policy, policy.source)
            elif outcome.action == "failed" and not policy.managed and outcome.error and outcome.error.kind != "policy":
                self._park(policy)
        self._say(policy, outcome)

    def forget(self, key: ObjectKey) -> None:
        """Drop what is known of a policy that is gone."""
        self._delivery.forget(key)
        with self._lock:
            self._said.pop(key, None)

    def _announce(self, policy: Policy) -> None:
        """Ring for the gateway's own form; in the managed form it watches the Secret itself."""
        if policy.managed:
            return
        observed = self._source.observed(policy.key)
        self._delivery.ring(policy, policy.owner, observed.last_transition if observed else "")

    def _adopt(self, policy: Policy, source: Rotatable) -> None:
        """Make a Secret of the gateway ours, so that it is watched: the same data, with our labels and notes."""
        assert policy.secret is not None  # noqa: S101 - every rotatable policy has one
        try:
            stored = self._store.read(policy.secret)
            if stored is None or CONTENT in stored.document.annotations:
                return
            data = stored.document.data
            notes = {**stored.document.annotations, CONTENT: content_hash(data), FINGERPRINT: fingerprint(source)}
            self._store.publish(SecretDocument(policy.secret, data, notes, policy.owner), stored.version)
        except (RotationError, Conflict) as error:
            log.info("%s: not adopted yet: %s", policy.key, error)
        else:
            self._tell(policy, "Adopted", f"Secret {policy.secret.name} of the gateway is kept fresh from now on")

    def _park(self, policy: Policy) -> None:
        """Keep the gateway's single worker from this policy's issuer for as long as it fails."""
        assert policy.secret is not None  # noqa: S101 - every rotatable policy has one
        now = self._clock()
        try:
            stored = self._store.read(policy.secret)
            until = parked_until(stored.document if stored else None)
            if until is not None and until > now + PARK_AGAIN:
                return
            document = park(stored.document if stored else None, policy.secret, policy.owner, now + PARKING)
            self._store.publish(document, stored.version if stored else None)
        except (RotationError, Conflict) as error:
            log.warning("%s: not parked: %s", policy.key, error)
        else:
            log.info("%s: parked until %s, while its issuer fails", policy.key, show_time(now + PARKING))

    def _say(self, policy: Policy | InvalidPolicy, outcome: Outcome) -> None:
        """Tell people, once per change: an Event each time something was done, a condition when it changed."""
        if outcome.action == "skipped":
            return
        error = outcome.error
        reason = error.reason if error else str(outcome.reason)
        message = error.message if error else _expiry(outcome)
        standing = (error is None, reason if error else "")
        with self._lock:
            known, self._said[policy.key] = self._said.get(policy.key), standing
        if error and known != standing:
            self._tell(policy, "RotationFailed", f"{reason}: {message}; {error.hint}", warning=True)
        if outcome.action == "rotated":
            repaired = outcome.reason == Reason.UNREADABLE or (outcome.reason == Reason.MISSING and known is not None)
            self._tell(policy, "Repaired" if repaired else "Rotated", f"{reason}: {message}")
        # After a restart a policy that is simply fresh says nothing new.
        if known != standing and not (known is None and outcome.action == "kept"):
            self._write_condition(policy, ready=error is None, reason=reason, message=message)

    def _tell(self, policy: Policy | InvalidPolicy, reason: str, message: str, *, warning: bool = False) -> None:
        observed = self._source.observed(policy.key)
        if observed:
            self._events.emit(observed.subject, reason, message, kind="Warning" if warning else "Normal")

    def _write_condition(self, policy: Policy | InvalidPolicy, *, ready: bool, reason: str, message: str) -> None:
        """Put our condition first: kubectl shows the last one, which is the gateway's."""
        observed = self._source.observed(policy.key)
        present: list[dict[str, Any]] = list(observed.conditions) if observed else []
        ours = next((dict(condition) for condition in present if condition.get("type") == CONDITION), {})
        status = "True" if ready else "False"
        moved = ours.get("status") != status
        condition = {
            "type": CONDITION,
            "status": status,
            "reason": reason,
            "message": message[:1024],
            "lastTransitionTime": show_time(self._clock()) if moved else ours["lastTransitionTime"],
        }
        others = [condition for condition in present if condition.get("type") != CONDITION]
        try:
            path = paths.policy(self._version, policy.key) + "/status"
            self._api.patch(path, {"status": {"conditions": [condition, *others]}}, fieldManager=MANAGER)
        except ApiError as error:
            log.debug("%s: condition not written: %s", policy.key, error)


def _expiry(outcome: Outcome) -> str:
    return f"the credential expires at {show_time(outcome.expires_at)}" if outcome.expires_at else ""
