"""What people read of a policy in the cluster: an Event each time something was done, a condition when it changed.

Owns their texts, what was said last, and what is yet to be said of a policy whose status changes too often. Can never
fail a rotation. Source: API conventions, "Typical status properties"; reliability.md I18, 38, 40.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from credrotator.core.model import POLICY_KIND
from credrotator.core.planning import Reason
from credrotator.core.secretdata import show_time
from credrotator.kube import paths
from credrotator.kube.client.api import ApiError, KubeApi
from credrotator.kube.client.api_errors import CONFLICT
from credrotator.kube.events import MESSAGE_BYTES, cut_bytes
from credrotator.kube.source import CONDITION
from credrotator.kube.store import MANAGER
from credrotator.kube.write_budget import WriteBudget, other_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from credrotator.core.model import InvalidPolicy, ObjectKey, Policy
    from credrotator.core.outcome import Outcome
    from credrotator.core.ports import Clock
    from credrotator.kube.client.api_objects import StatusCondition
    from credrotator.kube.deferred import Defer
    from credrotator.kube.policy_events import PolicyEvents
    from credrotator.kube.source import Observer

log = logging.getLogger(__name__)

# The gateway writes the same status; two writers seldom meet more than twice in a row.
WRITE_TRIES = 3
READY = "KeptFresh"
"""Reason of our condition while all is well."""
BEHIND, AHEAD = (f"this machine's clock is {how}, and the vendors' dates count" for how in ("behind", "ahead"))
AS_IT_SHOULD_BE = {"Static", "DefaultChain"}
"""Reasons of an attempt that was skipped because there is nothing to do, and nothing wrong."""


@dataclass(frozen=True, slots=True)
class Reported:
    """What people were told of a policy; ``reason`` is that of a failure, ``clock`` what was said of the machine's."""

    ready: bool
    reason: str
    clock: str = ""


class Conditions:
    """Tells people of outcomes; safe to share between threads, one thread per policy.

    Args:
        api: The server.
        version: Of the gateway's API.
        clock: For the time at which a condition changed.
        observer: Knows the policies' status.
        events: Writes Events.
        defer: Has conditions written once the gateway has what it needs.
        skew: By how much this machine's clock is behind; None while nobody knows.
        budget: How often a policy's status may be written.
    """

    def __init__(
        self,
        api: KubeApi,
        version: str,
        clock: Clock,
        *,
        observer: Observer,
        events: PolicyEvents,
        defer: Defer,
        skew: Callable[[], timedelta | None],
        budget: WriteBudget | None = None,
    ) -> None:
        self._api = api
        self._version = version
        self._clock = clock
        self._observer = observer
        self._events = events
        self._defer = defer
        self._skew = skew
        self._lock = threading.Lock()
        # So that a condition is written when something changed, not at each attempt: every status write is an event for
        # all who watch policies, the gateway's controller included.
        self._reported: dict[ObjectKey, Reported] = {}
        self._budget = budget or WriteBudget()
        # Only the last one for each policy: what is written late is out of date, unless it is the latest.
        self._late: dict[ObjectKey, Callable[[], None]] = {}

    def forget(self, key: ObjectKey) -> None:
        """Drop what is known of a policy that is gone."""
        with self._lock:
            self._reported.pop(key, None)
            self._late.pop(key, None)

    def forget_all(self) -> None:
        """Drop what was said of all policies: what another leader has written since counts, and is read back."""
        with self._lock:
            self._reported.clear()
            self._late.clear()

    def tick(self) -> None:
        """Have the conditions written that had to wait; to be called every second or so."""
        with self._lock:
            due = [key for key in self._late if not self._budget.wait_s(key)]
            writes = [(key, self._late.pop(key)) for key in due]
        for key, write in writes:
            self._write_soon(key, write)

    def reported(self, key: ObjectKey) -> Reported | None:
        """Return what was said of a policy last; after a restart, what its condition says."""
        with self._lock:
            known = self._reported.get(key)
        observed = self._observer.observed(key)
        if known is not None or observed is None:
            return known
        ours = [condition for condition in observed.conditions if condition.get("type") == CONDITION]
        if not ours:
            return None
        ready, message = ours[0].get("status") == "True", str(ours[0].get("message"))
        clock = next((text for text in (BEHIND, AHEAD) if text in message), "")
        return Reported(ready, "" if ready else str(ours[0].get("reason")), clock)

    def report(self, policy: Policy | InvalidPolicy, outcome: Outcome, known: Reported | None) -> None:
        """Tell people of an outcome; ``known`` is what they were told before."""
        error = outcome.error
        if outcome.action == "skipped" and (error or outcome.reason not in AS_IT_SHOULD_BE):
            return
        news = Reported(error is None, error.reason if error else "", self._remark(known))
        with self._lock:
            self._reported[policy.key] = news
        if error and (known is None or (known.ready, known.reason) != (news.ready, news.reason)):
            self._events.emit(
                policy.key, "RotationFailed", f"{error.reason}: {error.message}; {error.hint}", warning=True
            )
        if outcome.repaired:
            self._events.emit(policy.key, "Repaired", "Ownership: the Secret is this policy's again")
        if outcome.action == "rotated":
            was_there = known is not None and known.ready
            repaired = outcome.reason == Reason.UNREADABLE or (outcome.reason == Reason.MISSING and was_there)
            self._events.emit(
                policy.key, "Repaired" if repaired else "Rotated", f"{outcome.reason}: {_expiry(outcome)}"
            )
        # After a restart a policy that is simply fresh says nothing new.
        if known != news and not (known is None and outcome.action in {"kept", "skipped"}):
            observed, remark = self._observer.observed(policy.key), news.clock
            # A Secret has no status, so what is to be said of one that asks for itself is said in Events.
            if observed and observed.subject.kind == POLICY_KIND:
                self._write_soon(
                    policy.key, lambda: self._write_condition(policy, outcome, remark, observed.subject.uid)
                )

    def _write_soon(self, key: ObjectKey, write: Callable[[], None]) -> None:
        """Have a condition written, or put off where there were many of late: then the last one counts."""
        if not self._budget.wait_s(key):
            self._budget.note(key)
            self._defer(key.namespace, write)
            return
        with self._lock:
            is_news = key not in self._late
            self._late[key] = write
        if is_news:
            self._defer(key.namespace, lambda: self._name_the_other(key))

    def _name_the_other(self, key: ObjectKey) -> None:
        observed = self._observer.observed(key)
        if observed is None:
            return
        try:
            present = self._api.get(paths.policy(observed.subject.api_version.rpartition("/")[2], key))
        except ApiError:
            present = None
        log.warning(
            "%s: its condition is written less often now; the policy was changed by %s last",
            key,
            other_writer(present, MANAGER),
        )

    def _remark(self, known: Reported | None) -> str:
        """Return what is to be said of this machine's clock; what was said, as long as nobody knows better."""
        skew = self._skew()
        if skew is None:
            return known.clock if known else ""
        return (BEHIND if skew > timedelta(0) else AHEAD) if skew else ""

    def _write_condition(self, policy: Policy | InvalidPolicy, outcome: Outcome, remark: str, uid: str) -> None:
        """Put our condition first: kubectl shows the last one, which is the gateway's.

        Written with the version that was seen, and read afresh where that is not the present one: what the gateway says
        at this moment must not be put back by us.
        """
        observed = self._observer.observed(policy.key)
        # Deleted, and perhaps made anew, while this waited: the outcome was another policy's.
        if observed is None or observed.subject.uid != uid:
            return
        # As it was seen last: the version that was served at the start may not be any more.
        path = paths.policy(observed.subject.api_version.rpartition("/")[2] or self._version, policy.key)
        version, present = observed.version, list(observed.conditions)
        for _ in range(WRITE_TRIES):
            try:
                if not version:
                    current = self._api.get(path)
                    version = current["metadata"]["resourceVersion"]
                    present = (current.get("status") or {}).get("conditions") or []
                ours = next((condition for condition in present if condition.get("type") == CONDITION), {})
                others = [condition for condition in present if condition.get("type") != CONDITION]
                conditions = [self._condition(outcome, ours, remark), *others]
                # A merge patch replaces the whole list, so it names the version that the list was read from.
                body = {"metadata": {"resourceVersion": version}, "status": {"conditions": conditions}}
                self._api.patch(path + "/status", body, fieldManager=MANAGER)
            except ApiError as error:
                if error.status == CONFLICT:
                    version = ""
                    continue
                log.debug("%s: condition not written: %s", policy.key, error)
                self.forget(policy.key)
            return

    def _condition(self, outcome: Outcome, present: Mapping[str, Any], remark: str) -> StatusCondition:
        """Return our condition; its time is when its status changed last."""
        error = outcome.error
        status = "False" if error else "True"
        kept_fresh = f"the credential in Secret {outcome.secret.name} is kept fresh" if outcome.secret else ""
        message = cut_bytes(f"{error.message}; {error.hint}" if error else kept_fresh, MESSAGE_BYTES)
        return {
            "type": CONDITION,
            "status": status,
            "reason": error.reason if error else READY,
            "message": "; ".join(filter(None, (message, remark))),
            "lastTransitionTime": present["lastTransitionTime"]
            if present.get("status") == status
            else show_time(self._clock()),
        }


def _expiry(outcome: Outcome) -> str:
    return f"the credential expires at {show_time(outcome.expires_at)}" if outcome.expires_at else ""
