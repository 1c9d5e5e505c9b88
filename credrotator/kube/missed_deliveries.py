"""What a former leader, or this process before it was restarted, published and did not tell the gateway of.

A bell that is older than its policy's credential was not rung for it, and where the gateway's status is, it has not
looked since. Looked at once, when leading begins, by one list of all bells; costs nothing where all is delivered.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from credrotator.core.model import ObjectKey, RotatablePolicy
from credrotator.core.secretdata import read_time
from credrotator.kube.client import resource_paths
from credrotator.kube.client.api import ApiError, KubeApi
from credrotator.kube.client.listing import items
from credrotator.kube.delivery import NOTIFIED_AT
from credrotator.kube.source import BELL
from credrotator.kube.store import SELECTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from credrotator.core.model import InvalidPolicy, Policy
    from credrotator.core.ports import Clock
    from credrotator.core.secret_document import Published
    from credrotator.kube.deferred import Defer
    from credrotator.kube.delivery import Delivery
    from credrotator.kube.source import Observed

log = logging.getLogger(__name__)

AGAIN_S = 60.0
"""After which a look that was to be made counts as forgotten; longer than it may wait to be made, and take."""
AFTER_A_FAILURE_S = 5.0
RUNG_AT_ONCE = 50
"""Bells that are rung again in a second: where no gateway runs, nobody reacts to any."""


class ObservedPolicies(Protocol):
    """What is known of the policies, and of their Secrets."""

    def policies(self) -> Iterable[ObjectKey]:
        """List all policies."""

    def get(self, key: ObjectKey) -> Policy | InvalidPolicy | None:
        """Return a policy as it is now, None if it is gone."""

    def observed(self, key: ObjectKey) -> Observed | None:
        """Return a policy with what its status says."""

    def cached_state(self, policy: Policy) -> Published | None:
        """Return what a policy's Secret held when it was last heard of."""

    def trouble(self) -> str | None:
        """Say why this cannot be relied on at the moment, None if it can."""


class MissedDeliveries:
    """Rings for what was missed, once each time that leading begins.

    Args:
        api: The server.
        namespaces: Where policies are; None for all.
        policies: What is known of them.
        delivery: Rings.
        clock: The present moment: what is issued from now on is delivered by whoever publishes it.
        seconds: Seconds that only grow.
    """

    def __init__(
        self,
        api: KubeApi,
        namespaces: Iterable[str | None],
        policies: ObservedPolicies,
        delivery: Delivery,
        clock: Clock,
        *,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._namespaces = tuple(namespaces)
        self._policies = policies
        self._delivery = delivery
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._began_at: datetime | None = None
        self._due_s = 0.0

    def begin(self) -> None:
        """Have it looked at soon: this process leads from now on."""
        with self._lock:
            self._began_at, self._due_s = self._clock(), self._seconds()

    def stand_down(self) -> None:
        """Leave it to the next leader."""
        with self._lock:
            self._began_at = None

    def is_due(self) -> bool:
        """Tell whether it has to be looked at, and can be."""
        with self._lock:
            # Not before all policies are listed: of one that is not known yet, nothing can be said.
            due = self._began_at is not None and self._seconds() >= self._due_s
        return due and self._policies.trouble() is None

    def postpone(self) -> None:
        """Take note that it is being looked at; if that comes to nothing, it is due again soon."""
        with self._lock:
            self._due_s = self._seconds() + AGAIN_S

    def ring(self) -> None:
        """Ring for all that was missed; what cannot be told now is asked for again later."""
        with self._lock:
            began_at = self._began_at
        if began_at is None:
            return
        try:
            notified_at = self._bells()
            for key in self._policies.policies():
                self._ring_if_missed(key, notified_at.get(key), began_at)
        except ApiError as error:
            log.info("whether the gateway was told of every credential is not known yet: %s", error)
            with self._lock:
                self._due_s = self._seconds() + AFTER_A_FAILURE_S
            return
        with self._lock:
            if self._began_at is began_at:
                self._began_at = None

    def _ring_if_missed(self, key: ObjectKey, notified_at: datetime | None, began_at: datetime) -> None:
        policy = self._policies.get(key)
        if not isinstance(policy, RotatablePolicy) or policy.managed or self._delivery.is_pending(key):
            return
        published, observed = self._policies.cached_state(policy), self._policies.observed(key)
        # What was issued since is delivered by whoever published it, which is this process.
        if published is None or published.issued_at is None or published.issued_at >= began_at or observed is None:
            return
        if _is_missed(published.issued_at, notified_at, read_time(observed.last_transition)):
            log.info("%s: the gateway was not told of the credential that is published", key)
            self._delivery.ring(policy, policy.owner, observed.last_transition)

    def _bells(self) -> dict[ObjectKey, datetime]:
        """Return when each bell was rung last.

        Raises:
            ApiError: The server's refusal.
        """
        notified_at = {}
        for namespace in self._namespaces:
            selector = f"{SELECTOR},{BELL}"
            for bell in items(self._api, resource_paths.secrets(namespace), labelSelector=selector):
                metadata = bell["metadata"]
                text = (metadata.get("annotations") or {}).get(NOTIFIED_AT, "")
                if moment := read_time(text.partition(" ")[0]):
                    notified_at[ObjectKey(metadata["namespace"], metadata["name"])] = moment
        return notified_at


def _is_missed(issued_at: datetime, notified_at: datetime | None, looked_at: datetime | None) -> bool:
    # A gateway that has never said anything is none that could have missed it: it reads the Secret when it comes to it.
    if looked_at is not None and looked_at < issued_at:
        return True
    # No bell: the Secret was created since, which is heard by itself, or the gateway has looked since.
    return notified_at is not None and notified_at < issued_at


class Bells:
    """Has all bells rung that are due for another reason than a publication.

    Args:
        delivery: Knows those that nobody reacted to.
        missed: Knows those that were not rung for before.
        defer: Has them rung once the gateway has what it needs; by the leader only.
    """

    def __init__(self, delivery: Delivery, missed: MissedDeliveries, defer: Defer) -> None:
        self._delivery = delivery
        self._missed = missed
        self._defer = defer

    def tick(self) -> None:
        """Look what is due; to be called every second, in one thread."""
        self._delivery.sweep()
        if self._missed.is_due():
            self._missed.postpone()
            self._defer("", self._missed.ring)
        for key in self._delivery.overdue()[:RUNG_AT_ONCE]:
            self._delivery.postpone(key)
            self._defer(key.namespace, partial(self._delivery.ring_again, key))
