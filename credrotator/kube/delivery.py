"""From a published Secret to the gateway's filter: ringing the doorbell, and hearing whether it was heard.

The gateway's controller does not watch the Secrets that it reads. It looks again when a Secret named as the policy is
touched (the doorbell: ours, empty, owned by the policy), or when any Secret is created or deleted whose controller
owner is the policy. Its status write on the policy, which moves ``lastTransitionTime``, is the acknowledgement.
Source: contract.md, "From the Secret to the filter".
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

from credrotator.kube import paths
from credrotator.kube.api import ApiError, KubeApi
from credrotator.kube.store import LABELS, MANAGED_BY, MANAGER, owner_reference
from credrotator.model import AzureClientSecret, ObjectKey, Owner, Policy
from credrotator.secretdata import show_time

if TYPE_CHECKING:
    from credrotator.ports import Clock
    from credrotator.telemetry import Metrics

log = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""Longest time for the gateway to react; then the delivery counts as unacknowledged."""
RUNG = "credrotator.io/rung-at"
NOT_FOUND, CONFLICT = 404, 409

Form = Literal["doorbell", "create-and-delete"]


class Delivery:
    """Rings for policies, one thread per policy, and keeps an eye on the acknowledgement."""

    def __init__(self, api: KubeApi, clock: Clock, metrics: Metrics, patience_s: float = PATIENCE_S) -> None:
        self._api = api
        self._clock = clock
        self._metrics = metrics
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._waiting: dict[ObjectKey, tuple[float, Form, str]] = {}
        self._unheard: set[ObjectKey] = set()
        self._foreign: set[ObjectKey] = set()

    def ring(self, policy: Policy, owner: Owner, last_transition: str) -> None:
        """Tell the gateway to look at a policy's Secret. ``last_transition`` is what its status said before.

        A bell that cannot be rung is logged, not raised: the credential is published, and the gateway finds it by
        itself five minutes before the old one expires.
        """
        form: Form = "create-and-delete" if self._needs_other_bell(policy) else "doorbell"
        with self._lock:
            self._waiting[policy.key] = (time.monotonic(), form, last_transition)
        try:
            if form == "doorbell" and not self._touch(policy.key, owner):
                self._foreign.add(policy.key)
                form = "create-and-delete"
            if form == "create-and-delete":
                self._come_and_go(policy.key, owner)
        except ApiError as error:
            log.warning("%s: the gateway could not be told of the new credential: %s", policy.key, error)

    def heard(self, key: ObjectKey, last_transition: str) -> None:
        """Take note of what a policy's status says now; a moved time is the acknowledgement."""
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is None or waiting[2] == last_transition:
                return
            del self._waiting[key]
            self._unheard.discard(key)
        self._metrics.delivery.labels(waiting[1]).observe(time.monotonic() - waiting[0])

    def sweep(self) -> None:
        """Count what nobody reacted to in time, and say so once."""
        now_s = time.monotonic()
        with self._lock:
            late = [key for key, (rung_s, *_) in self._waiting.items() if now_s - rung_s > self._patience_s]
            for key in late:
                del self._waiting[key]
            self._unheard.update(late)
            count = len(self._unheard)
        for key in late:
            log.warning("%s: the gateway did not react to the new credential within %.0f s", key, self._patience_s)
        self._metrics.unacknowledged.set(count)

    def state(self, key: ObjectKey) -> str:
        """Say how the latest delivery stands: ``waiting``, ``unacknowledged`` or ``acknowledged``."""
        with self._lock:
            return "waiting" if key in self._waiting else "unacknowledged" if key in self._unheard else "acknowledged"

    def forget(self, key: ObjectKey) -> None:
        """Drop what is known of a policy that is gone; its bell goes with it, by the owner reference."""
        with self._lock:
            self._waiting.pop(key, None)
            self._unheard.discard(key)
            self._foreign.discard(key)

    def _needs_other_bell(self, policy: Policy) -> bool:
        """The gateway indexes a policy with a client secret under that Secret, so the doorbell is not heard."""
        return isinstance(policy.source, AzureClientSecret) or policy.key in self._foreign

    def _touch(self, key: ObjectKey, owner: Owner) -> bool:
        """Create or change the bell; False if a Secret of that name is somebody else's, which is left alone."""
        bell = self._bell(key.namespace, owner)
        bell["metadata"]["name"] = key.name
        try:
            self._api.post(paths.secrets(key.namespace), bell, fieldManager=MANAGER)
        except ApiError as error:
            if error.status != CONFLICT:
                raise
        else:
            return True
        present = self._api.get(paths.secret(key))
        metadata = present["metadata"]
        if (metadata.get("labels") or {}).get(MANAGED_BY) != MANAGER or present.get("data"):
            return False
        bell["metadata"]["resourceVersion"] = metadata["resourceVersion"]
        self._api.put(paths.secret(key), bell, fieldManager=MANAGER)
        return True

    def _come_and_go(self, key: ObjectKey, owner: Owner) -> None:
        """Create an owned Secret and delete it at once; either event is heard."""
        bell = self._bell(key.namespace, owner)
        bell["metadata"]["name"] = f"credrotator-bell-{secrets.token_hex(8)}"
        self._api.post(paths.secrets(key.namespace), bell, fieldManager=MANAGER)
        self._api.delete(paths.secret(ObjectKey(key.namespace, bell["metadata"]["name"])))

    def _bell(self, namespace: str, owner: Owner) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {
                "namespace": namespace,
                "labels": {**LABELS, "credrotator.io/bell": "true"},
                "annotations": {RUNG: f"{show_time(self._clock())} {secrets.token_hex(4)}"},
                "ownerReferences": [owner_reference(owner)],
            },
        }
