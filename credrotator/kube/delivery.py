"""From a published Secret to the gateway's filter: ringing the doorbell, and waiting for the acknowledgement.

The gateway's controller does not watch the Secrets that it reads. It looks again when a Secret named as the policy is
touched (the doorbell: ours, empty, owned by the policy), or when any Secret is created or deleted whose controller
owner is the policy: a policy's first credential is its own bell (not for v0.2). Its status write on the policy, which
moves ``lastTransitionTime``, is the acknowledgement; until that comes, the bell is rung again and again, ever more
rarely.
Source: Envoy AI Gateway, ``internal/controller/backend_security_policy.go``.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from credrotator.core.attempts import Attempt, continuing, current
from credrotator.core.counts import counted
from credrotator.core.model import ObjectKey, Owner, RotatablePolicy
from credrotator.core.secretdata import show_time
from credrotator.kube.client import resource_paths
from credrotator.kube.client.api import ApiError, KubeApi
from credrotator.kube.client.api_errors import CONFLICT, NOT_FOUND
from credrotator.kube.client.reconnect import RetryWait
from credrotator.kube.source import BELL
from credrotator.kube.store import LABELS, MANAGED_BY, MANAGER, owner_reference
from credrotator.kube.write_budget import WriteBudget, other_writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.instrumentation import DeliveryInstrumentation
    from credrotator.core.ports import Clock
    from credrotator.kube.client.api_objects import Json

log = logging.getLogger(__name__)

TRANSIENT_SECRETS = [f"credrotator-bell-{number}" for number in range(8)]
"""Names of the Secrets that come and go; the chart permits to delete these and no others."""
ACKNOWLEDGE_TIMEOUT_S = 5.0
"""Longest time for the gateway to react; then the delivery counts as unacknowledged."""
NOTIFIED_AT = "credrotator.io/rung-at"
MOST_NAMED = 3
"""Policies of one second with a line each in the log: a controller that does not run is one fault, not thousands."""
UNACKNOWLEDGED_WAIT = RetryWait(first_s=5.0, longest_s=600.0)
"""Before a bell is rung again that nobody reacted to: a gateway that runs reacts within a second."""
HEEDED_WITHIN_S = 3.0
"""Before a bell is rung for a Secret that was created: a gateway that heeds that does so at once."""
FIRST_LOOK_WITHIN_S = 30.0
"""The same, where the gateway has said nothing of the policy yet: it reads the Secret when it comes to it."""
JUST_SPOKE = timedelta(seconds=5)
"""What the gateway said so long ago may have been said before or after a creation."""
UNWRITTEN_WAIT = RetryWait(first_s=1.0, longest_s=60.0)
"""Before a bell is rung again that the API server did not take."""

Form = Literal["doorbell", "create-and-delete", "creation"]


@dataclass(frozen=True, slots=True)
class _Notification:
    """A bell that was rung, and what the gateway's status said before.

    Attributes:
        policy: Whose.
        at_s: When it was rung first.
        form: How.
        last_transition: What the status said.
        undetectable: It may have been heard without a trace.
        again_s: When it is to be rung again.
        tries: How often it was rung.
        written: The API server took it.
    """

    policy: RotatablePolicy
    at_s: float
    form: Form
    last_transition: str
    undetectable: bool
    again_s: float
    tries: int = 1
    written: bool = True
    attempt: Attempt | None = field(default_factory=current)


class Delivery:
    """Rings for policies, one thread per policy, and keeps an eye on the acknowledgement.

    Args:
        api: The server.
        clock: The present moment, to compare with what the status says.
        instrumentation: Told of acknowledgements.
        timeout_s: After which a delivery counts as unacknowledged.
        waits: Whether bells are rung again here; a command that ends rings at once, and for all.
        seconds: Seconds that only grow.
    """

    def __init__(
        self,
        api: KubeApi,
        clock: Clock,
        instrumentation: DeliveryInstrumentation,
        timeout_s: float = ACKNOWLEDGE_TIMEOUT_S,
        *,
        waits: bool = True,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waits = waits
        self._budget = WriteBudget(seconds)
        self._api = api
        self._clock = clock
        self._instrumentation = instrumentation
        self._timeout_s = timeout_s
        self._seconds = seconds
        self._lock = threading.Lock()
        # One for each policy: of several publications only the last matters, the gateway reads the Secret as it is.
        self._waiting: dict[ObjectKey, _Notification] = {}
        # For the alarm, which is raised once and ends when the gateway answers after all.
        self._unacknowledged: set[ObjectKey] = set()
        self._foreign: set[ObjectKey] = set()
        self._damped: set[ObjectKey] = set()
        # Versions of our bells, so that ringing is one request in place of two. A wrong one costs a conflict, and the
        # long way.
        self._bells: dict[ObjectKey, str] = {}
        # Eight names are shared by all policies; two threads with the same one would delete each other's.
        self._transient_locks = [threading.Lock() for _ in TRANSIENT_SECRETS]

    def ring(self, policy: RotatablePolicy, owner: Owner, last_transition: str, *, created: bool = False) -> None:
        """Tell the gateway to look at a policy's Secret. ``last_transition`` is what its status said before.

        Where the Secret was ``created``, with the policy as its controller, that has told the gateway already; a bell
        is rung if it does not react. One that cannot be rung is logged, not raised: the credential is published, and
        the bell is rung again.
        """
        now_s, form = self._seconds(), self._bell_of(policy)
        if created and self._waits and last_transition < show_time(self._clock() - JUST_SPOKE):
            again_s = now_s + (HEEDED_WITHIN_S if last_transition else FIRST_LOOK_WITHIN_S)
            self._wait_for_answer(
                _Notification(policy, now_s, "creation", last_transition, undetectable=False, again_s=again_s)
            )
            return
        # NOTE: the status has whole seconds. A gateway that spoke in this very second can answer in it as well, and
        # then its status, which is how it would be heard, does not change.
        undetectable = last_transition >= show_time(self._clock())
        again_s = now_s + UNACKNOWLEDGED_WAIT.wait_s(1, str(policy.key))
        self._ring(_Notification(policy, now_s, form, last_transition, undetectable, again_s), owner)

    def overdue(self) -> list[ObjectKey]:
        """Return the policies whose bell is to be rung again now: it was not rung, or nobody reacted."""
        now_s = self._seconds()
        with self._lock:
            return [
                key
                for key, notification in self._waiting.items()
                if now_s >= notification.again_s and not (notification.written and notification.undetectable)
            ]

    def postpone(self, key: ObjectKey) -> None:
        """Take note that a policy's bell is about to be rung; where that comes to nothing, it is overdue again."""
        # Postponed before it is done, which is deferred: the sweep comes every second, and would add it again and
        # again.
        again_s = self._seconds() + UNWRITTEN_WAIT.longest_s
        with self._lock:
            if notification := self._waiting.get(key):
                self._waiting[key] = replace(notification, again_s=again_s)

    def ring_again(self, key: ObjectKey) -> None:
        """Ring once more for a policy, unless the gateway has reacted meanwhile."""
        with self._lock:
            notification = self._waiting.get(key)
        if notification is None:
            return
        # A creation that nobody heeded was no bell yet.
        was_rung = notification.form != "creation"
        tries, form = (
            (notification.tries + 1, notification.form) if was_rung else (1, self._bell_of(notification.policy))
        )
        # Ever more rarely: where no gateway runs, nobody will ever answer, and each ring is a write to etcd.
        again_s = self._seconds() + UNACKNOWLEDGED_WAIT.wait_s(tries, str(key))
        undetectable = notification.last_transition >= show_time(self._clock())
        self._ring(
            replace(notification, form=form, tries=tries, again_s=again_s, undetectable=undetectable, written=True),
            notification.policy.owner,
        )

    def is_pending(self, key: ObjectKey) -> bool:
        """Tell whether a policy's bell is to be acknowledged still."""
        with self._lock:
            return key in self._waiting

    def _ring(self, notification: _Notification, owner: Owner) -> None:
        key = notification.policy.key
        # Before it is rung: the answer may be quicker than ours.
        self._wait_for_answer(notification)
        if wait_s := self._budget.wait_s(key):
            # It is rung again when it may be; for all that was published until then, once is enough.
            self._not_written(notification, wait_s)
            self._name_the_other(key)
            return
        self._budget.note(key)
        try:
            if notification.form == "doorbell" and not self._touch(key, owner):
                with self._lock:
                    self._foreign.add(key)
                notification = replace(notification, form="create-and-delete")
                self._wait_for_answer(notification)
            if notification.form == "create-and-delete":
                self._come_and_go(key, owner)
        except ApiError as error:
            self._not_written(notification, UNWRITTEN_WAIT.wait_s(notification.tries, str(key)))
            # An outage is said once for each policy.
            level = logging.WARNING if notification.tries == 1 else logging.DEBUG
            log.log(level, "%s: the gateway could not be told of the new credential: %s", key, error)

    def _name_the_other(self, key: ObjectKey) -> None:
        """Say, once in a row of writes, who else changes a bell, or the policy, all the time."""
        if key in self._damped:
            return
        self._damped.add(key)
        try:
            present = self._api.get(resource_paths.secret(key))
        except ApiError:
            present = None
        log.warning(
            "%s: its doorbell is rung less often now; Secret %s was changed by %s last",
            key,
            key,
            other_writer(present, MANAGER),
        )

    def _not_written(self, notification: _Notification, wait_s: float) -> None:
        key = notification.policy.key
        again_s = self._seconds() + wait_s
        with self._lock:
            # A gateway that has looked meanwhile, for whatever reason, has seen the credential.
            current = self._waiting.get(key)
            if current and (current.at_s, current.tries) == (notification.at_s, notification.tries):
                self._waiting[key] = replace(notification, again_s=again_s, written=False)

    def form(self, policy: RotatablePolicy) -> Form:
        """Tell how a policy's bell would be rung; asks the server, rings nothing.

        Raises:
            ApiError: The server's refusal.
        """
        if self._bell_of(policy) == "create-and-delete":
            return "create-and-delete"
        try:
            current = self._api.get(resource_paths.secret(policy.key))
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            return "doorbell"
        return "doorbell" if _is_bell(current) else "create-and-delete"

    def acknowledge(self, key: ObjectKey, last_transition: str) -> None:
        """Take note of what a policy's status says now; a moved time is the acknowledgement."""
        with self._lock:
            notification = self._waiting.get(key)
            # Unchanged: our own status write, or an event that was on its way.
            if notification is None or notification.last_transition == last_transition:
                return
            del self._waiting[key]
            self._unacknowledged.discard(key)
        self._instrumentation.note_delivery(notification.form, self._seconds() - notification.at_s)

    def sweep(self) -> None:
        """Count what nobody reacted to in time, and say so once."""
        now_s = self._seconds()
        with self._lock:
            late = {
                key: notification
                for key, notification in self._waiting.items()
                if now_s - notification.at_s > self._timeout_s
            }
            for key, notification in late.items():
                if notification.undetectable and notification.written:
                    del self._waiting[key]
            # The others are waited for still: an answer that comes after all ends the alarm.
            news = [
                key
                for key, notification in late.items()
                if not (notification.undetectable and notification.written) and key not in self._unacknowledged
            ]
            self._unacknowledged.update(news)
            count = len(self._unacknowledged)
        for key in news[:MOST_NAMED]:
            with continuing(late[key].attempt):
                log.warning("%s: the gateway did not react to the new credential within %.0f s", key, self._timeout_s)
        if more := news[MOST_NAMED:]:
            others = counted(len(more), "more policy", "more policies")
            first = f"{more[0]}, ..." if len(more) > 1 else more[0]
            log.warning("nor did it for %s: %s; see that its controller runs", others, first)
            log.debug("nor did it for any of: %s", ", ".join(map(str, more)))
        self._instrumentation.note_unacknowledged(count)

    def stand_down(self) -> None:
        """Wait for nobody any more: another one leads, and hears the answers."""
        with self._lock:
            self._waiting.clear()
            self._unacknowledged.clear()

    def forget(self, key: ObjectKey) -> None:
        """Drop what is known of a policy that is gone; its bell goes with it, by the owner reference."""
        with self._lock:
            self._waiting.pop(key, None)
            self._unacknowledged.discard(key)
            self._foreign.discard(key)
            self._damped.discard(key)
            self._bells.pop(key, None)

    def _wait_for_answer(self, notification: _Notification) -> None:
        with self._lock:
            self._waiting[notification.policy.key] = notification

    def _bell_of(self, policy: RotatablePolicy) -> Form:
        """Tell how to ring; the doorbell is not heard of all policies, and not ours to ring for some."""
        is_heard = policy.source.kind.heard_by_name and policy.key not in self._foreign
        return "doorbell" if is_heard else "create-and-delete"

    def _touch(self, key: ObjectKey, owner: Owner) -> bool:
        """Create or change the bell; False if a Secret of that name is somebody else's, which is left alone."""
        bell = self._bell(key, owner)
        try:
            # The usual case: the bell is as it was left, so that one request does.
            if key in self._bells:
                self._put(key, bell, self._bells[key])
                return True
        except ApiError as error:
            if error.status not in {NOT_FOUND, CONFLICT}:
                raise
        try:
            self._note(key, self._api.post(resource_paths.secrets(key.namespace), bell, fieldManager=MANAGER))
        except ApiError as error:
            if error.status != CONFLICT:
                raise
        else:
            return True
        current = self._api.get(resource_paths.secret(key))
        # A Secret of the policy's name that is not ours was there first. Its owner would lose it, so it is never
        # touched.
        if not _is_bell(current):
            return False
        self._put(key, bell, current["metadata"]["resourceVersion"])
        return True

    def _put(self, key: ObjectKey, bell: Json, version: str) -> None:
        metadata = {**bell["metadata"], "resourceVersion": version}
        self._note(key, self._api.put(resource_paths.secret(key), {**bell, "metadata": metadata}, fieldManager=MANAGER))

    def _note(self, key: ObjectKey, bell: Json) -> None:
        with self._lock:
            self._bells[key] = bell["metadata"]["resourceVersion"]

    def _come_and_go(self, key: ObjectKey, owner: Owner) -> None:
        """Create an owned Secret and delete it at once; either event is heard.

        It has one of a few names, so that the right to delete Secrets can be tied to them. One that was left over
        belongs to another policy perhaps, so it makes way; one that is somebody else's stays, and nothing is rung.
        """
        number = int(hashlib.sha256(key.name.encode()).hexdigest(), 16) % len(TRANSIENT_SECRETS)
        transient = ObjectKey(key.namespace, TRANSIENT_SECRETS[number])
        bell = self._bell(transient, owner)
        with self._transient_locks[number]:
            try:
                self._api.post(resource_paths.secrets(key.namespace), bell, fieldManager=MANAGER)
            except ApiError as error:
                if error.status != CONFLICT or not _is_bell(self._api.get(resource_paths.secret(transient))):
                    raise
                self._delete(transient)
                self._api.post(resource_paths.secrets(key.namespace), bell, fieldManager=MANAGER)
            self._delete(transient)

    def _delete(self, key: ObjectKey) -> None:
        try:
            self._api.delete(resource_paths.secret(key))
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise

    def _bell(self, key: ObjectKey, owner: Owner) -> Json:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {
                "namespace": key.namespace,
                "name": key.name,
                "labels": {**LABELS, BELL: "true"},
                "annotations": {NOTIFIED_AT: f"{show_time(self._clock())} {secrets.token_hex(4)}"},
                "ownerReferences": [owner_reference(owner)],
            },
        }


def _is_bell(secret: Json) -> bool:
    labels = secret["metadata"].get("labels") or {}
    return labels.get(MANAGED_BY) == MANAGER and BELL in labels and not secret.get("data")
