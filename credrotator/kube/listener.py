"""What follows an outcome in a cluster: the doorbell, Events, the condition, adoption, and parking.

Owns these five and their order. None of them can fail a rotation: the credential is published before, and stays.
Source: Envoy AI Gateway, ``internal/controller``; reliability.md 38, 40.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

from credrotator.core.errors import Conflict, RotationError
from credrotator.core.model import Failure, InvalidPolicy, ObjectKey, Outcome, Policy, RotatablePolicy
from credrotator.core.planning import Reason
from credrotator.core.secretdata import EXPIRY, adopt, park, parked_until, read_time, show_time
from credrotator.kube import paths
from credrotator.kube.client.api import ApiError, KubeApi
from credrotator.kube.client.api_errors import CONFLICT
from credrotator.kube.events import MESSAGE_BYTES, cut_bytes
from credrotator.kube.source import CONDITION
from credrotator.kube.store import MANAGER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.core.audit import AuditLog
    from credrotator.core.ports import Clock
    from credrotator.kube.delivery import Delivery
    from credrotator.kube.events import EventRecorder
    from credrotator.kube.source import Observed
    from credrotator.kube.store import ClusterStore

log = logging.getLogger(__name__)

PARKING = timedelta(minutes=15)
PARK_AGAIN = timedelta(minutes=14)
"""The gateway's rotator wakes 5 min before the annotation; the next failure may come 8 min and an exchange later."""
WRITE_TRIES = 3
READY = "KeptFresh"
"""Reason of our condition while all is well."""
BEHIND, AHEAD = (f"this machine's clock is {how}, and the vendors' dates count" for how in ("behind", "ahead"))
AS_IT_SHOULD_BE = {"Static", "DefaultChain"}
"""Reasons of a look that was skipped because there is nothing to do, and nothing wrong."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """What people were told of a policy; ``reason`` is that of a failure, ``clock`` what was said of the machine's."""

    ready: bool
    reason: str
    clock: str = ""


class Observer(Protocol):
    """Where a policy's status is seen."""

    def observed(self, key: ObjectKey) -> Observed | None:
        """Return a policy with what its status says."""


Defer = Callable[[Callable[[], None]], None]


def at_once(work: Callable[[], None]) -> None:
    """Do it now."""
    work()


class ClusterListener:
    """Told of each outcome, in the worker; only the leader has any.

    ``audit`` is told of adoption and parking.
    ``skew`` tells by how much this machine's clock is behind; None: nobody knows.
    ``later`` has the words to people (Events, conditions) written; the gateway is served at once.
    """

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
        audit: AuditLog,
        skew: Callable[[], timedelta | None] = lambda: None,
        defer: Defer = at_once,
    ) -> None:
        self._api = api
        self._version = version
        self._clock = clock
        self._store = store
        self._source = source
        self._delivery = delivery
        self._events = events
        self._audit = audit
        self._skew = skew
        self._defer = defer
        self._lock = threading.Lock()
        self._reported: dict[ObjectKey, _Standing] = {}

    def __call__(self, policy: Policy | InvalidPolicy, outcome: Outcome) -> None:
        """Do what an outcome calls for."""
        known = self._standing(policy.key)
        if isinstance(policy, RotatablePolicy):
            # Kept after a failure: the write had happened all the same, and nobody told the gateway.
            if outcome.action == "rotated" or (outcome.action == "kept" and known is not None and not known.ready):
                self._announce(policy)
            if outcome.reason == "Adopted":
                self._adopt(policy)
            elif outcome.action == "failed" and not policy.managed and outcome.error and outcome.error.kind != "policy":
                self._park(policy, outcome.error)
        self._report(policy, outcome, known)

    def forget(self, key: ObjectKey) -> None:
        """Drop what is known of a policy that is gone."""
        self._delivery.forget(key)
        with self._lock:
            self._reported.pop(key, None)

    def _announce(self, policy: RotatablePolicy) -> None:
        """Ring for the gateway's own form; in the managed form it watches the Secret itself."""
        if policy.managed:
            return
        observed = self._source.observed(policy.key)
        self._delivery.ring(policy, policy.owner, observed.last_transition if observed else "")

    def _adopt(self, policy: RotatablePolicy) -> None:
        """Make a Secret of the gateway ours, so that it is watched: the same data, with our labels and notes."""
        try:
            stored = self._store.read(policy.secret)
            if stored is None or EXPIRY not in stored.document.annotations:
                return
            adopted = adopt(stored.document, policy.fingerprint, policy.owner)
            if adopted.annotations.items() <= stored.document.annotations.items():
                return
            self._store.publish(adopted, stored.version)
        except (RotationError, Conflict) as error:
            log.info("%s: not adopted yet: %s", policy.key, error)
        else:
            self._audit.adopted(policy, adopted, read_time(adopted.annotations[EXPIRY]))
            self._tell(policy, "Adopted", f"Secret {policy.secret.name} of the gateway is kept fresh from now on")

    def _park(self, policy: RotatablePolicy, failure: Failure) -> None:
        """Keep the gateway's single worker from this policy's issuer for as long as it fails.

        Where the issuer asked for patience, there will be no look before then that could park it again.
        """
        now = self._clock() + (failure.retry_after or timedelta(0))
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
            self._audit.parked(policy, failure.reason, now + PARKING)

    def _standing(self, key: ObjectKey) -> _Standing | None:
        """Return what was said of a policy last; after a restart, what its condition says."""
        with self._lock:
            known = self._reported.get(key)
        observed = self._source.observed(key)
        if known is not None or observed is None:
            return known
        found = [condition for condition in observed.conditions if condition.get("type") == CONDITION]
        if not found:
            return None
        ready, message = found[0].get("status") == "True", str(found[0].get("message"))
        clock = next((text for text in (BEHIND, AHEAD) if text in message), "")
        return _Standing(ready, "" if ready else str(found[0].get("reason")), clock)

    def _report(self, policy: Policy | InvalidPolicy, outcome: Outcome, known: _Standing | None) -> None:
        """Tell people, once per change: an Event each time something was done, a condition when it changed."""
        error = outcome.error
        if outcome.action == "skipped" and (error or outcome.reason not in AS_IT_SHOULD_BE):
            return
        standing = _Standing(error is None, error.reason if error else "", self._remark(known))
        with self._lock:
            self._reported[policy.key] = standing
        if error and (known is None or (known.ready, known.reason) != (standing.ready, standing.reason)):
            self._tell(policy, "RotationFailed", f"{error.reason}: {error.message}; {error.hint}", warning=True)
        if outcome.action == "rotated":
            was_there = known is not None and known.ready
            repaired = outcome.reason == Reason.UNREADABLE or (outcome.reason == Reason.MISSING and was_there)
            self._tell(policy, "Repaired" if repaired else "Rotated", f"{outcome.reason}: {_expiry(outcome)}")
        # After a restart a policy that is simply fresh says nothing new.
        if known != standing and not (known is None and outcome.action in {"kept", "skipped"}):
            observed, remark = self._source.observed(policy.key), standing.clock
            if observed:
                self._defer(lambda: self._write_condition(policy, outcome, remark, observed.subject.uid))

    def _remark(self, known: _Standing | None) -> str:
        """Return what is to be said of this machine's clock; what was said, as long as nobody knows better."""
        skew = self._skew()
        if skew is None:
            return known.clock if known else ""
        return (BEHIND if skew > timedelta(0) else AHEAD) if skew else ""

    def _tell(self, policy: Policy | InvalidPolicy, reason: str, message: str, *, warning: bool = False) -> None:
        observed = self._source.observed(policy.key)
        if observed:
            kind: Literal["Normal", "Warning"] = "Warning" if warning else "Normal"
            self._defer(lambda: self._events.emit(observed.subject, reason, message, kind=kind))

    def _write_condition(self, policy: Policy | InvalidPolicy, outcome: Outcome, remark: str, uid: str) -> None:
        """Put our condition first: kubectl shows the last one, which is the gateway's.

        Written with the version that was seen, and read afresh where that is not the present one: what the gateway says
        at this moment must not be put back by us.
        """
        path = paths.policy(self._version, policy.key)
        observed = self._source.observed(policy.key)
        if observed is None or observed.subject.uid != uid:
            return
        version, present = observed.version, list(observed.conditions)
        for _ in range(WRITE_TRIES):
            try:
                if not version:
                    found = self._api.get(path)
                    version = found["metadata"]["resourceVersion"]
                    present = (found.get("status") or {}).get("conditions") or []
                ours = next((condition for condition in present if condition.get("type") == CONDITION), {})
                others = [condition for condition in present if condition.get("type") != CONDITION]
                conditions = [self._condition(outcome, ours, remark), *others]
                body = {"metadata": {"resourceVersion": version}, "status": {"conditions": conditions}}
                self._api.patch(path + "/status", body, fieldManager=MANAGER)
            except ApiError as error:
                if error.status == CONFLICT:
                    version = ""
                    continue
                log.debug("%s: condition not written: %s", policy.key, error)
            return

    def _condition(self, outcome: Outcome, present: Mapping[str, Any], remark: str) -> dict[str, Any]:
        """Return our condition; its time is when its status changed last."""
        error = outcome.error
        status = "False" if error else "True"
        kept_fresh = f"the credential in Secret {outcome.secret.name} is kept fresh" if outcome.secret else ""
        said = cut_bytes(f"{error.message}; {error.hint}" if error else kept_fresh, MESSAGE_BYTES)
        return {
            "type": CONDITION,
            "status": status,
            "reason": error.reason if error else READY,
            "message": "; ".join(filter(None, (said, remark))),
            "lastTransitionTime": present["lastTransitionTime"]
            if present.get("status") == status
            else show_time(self._clock()),
        }


def _expiry(outcome: Outcome) -> str:
    return f"the credential expires at {show_time(outcome.expires_at)}" if outcome.expires_at else ""
