"""What policies refer to on the API server: client Secrets, watched one by one by name, and the grants for them.

Never lists the Secrets of a namespace. A watch is started when a policy first refers to a Secret, and ends when no
policy has for a while; a change of the Secret's data is reported for the policies that asked for it.
Source: Gateway API, ReferenceGrant; reliability.md 41, 42.
"""

from __future__ import annotations

import base64
import binascii
import logging
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from credrotator.core.errors import RotationError
from credrotator.core.model import ObjectKey
from credrotator.kube import paths
from credrotator.kube.api_refusals import as_rotation_error
from credrotator.kube.client import resource_paths
from credrotator.kube.client.api import ApiError, KubeApi
from credrotator.kube.client.api_errors import NOT_FOUND
from credrotator.kube.client.informer import Informer, Selection, stop_all
from credrotator.policies.inventory import Grant, read_grant

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

log = logging.getLogger(__name__)

Values = dict[str, bytes]

# A list by one name takes milliseconds; beyond this the plain read tells why.
SYNC_S = 10.0
_POLL_S = 0.2
GRANTS_LIFE_S = 10.0
GRANTS_EVERY_S = 5.0
"""How often grants are read that somebody lacks."""
LINGER_S = 60.0
"""How long a watch outlives the last policy that refers to its Secret: policies are edited and put back."""
MOST_WATCHES = 500
"""Distinct client Secrets that are watched; any beyond are read when they are needed."""


class ClusterReferences:
    """References of one cluster, each read when it is needed; safe to share between threads."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._grants: dict[str, tuple[float, set[Grant]]] = {}

    def for_policy(self, policy: ObjectKey) -> PolicyReferences:
        """Return the references of one policy."""
        return PolicyReferences(self, policy)

    def granted(self, source: str, secret: ObjectKey, policy: ObjectKey) -> bool:  # noqa: ARG002 - whoever it is for
        """See ``inventory.References``; grants are read anew after a few seconds."""
        if source == secret.namespace:
            return True
        grants = self._grants_of(secret.namespace)
        return any(Grant(source, secret.namespace, name) in grants for name in (None, secret.name))

    def values(self, secret: ObjectKey, policy: ObjectKey) -> Values | None:  # noqa: ARG002 - whoever it is for
        """Return a Secret's values for a policy, None if there is no such Secret.

        Raises:
            RotationError: It cannot be read.
        """
        try:
            return _values(self._api.get(resource_paths.secret(secret)))
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise as_rotation_error(error, f"read Secret {secret}") from error

    def _grants_of(self, namespace: str) -> set[Grant]:
        """Read the ReferenceGrants of a namespace.

        Raises:
            RotationError: They cannot be read; without them nothing is permitted, but not for good.
        """
        # Kept for a moment only: a grant that is taken back must not go on to permit, and a thousand policies of one
        # namespace must not read the same list a thousand times.
        known = self._grants.get(namespace)
        if known and time.monotonic() - known[0] < GRANTS_LIFE_S:
            return known[1]
        version = paths.served_grant_version(self._api)
        try:
            listed = self._api.get(paths.reference_grants(version, namespace)).get("items") or [] if version else []
        except ApiError as error:
            raise as_rotation_error(error, f"read the ReferenceGrants of namespace {namespace}") from error
        grants = {
            grant for item in listed for grant in read_grant(item, ObjectKey(namespace, item["metadata"]["name"]))
        }
        self._grants[namespace] = (time.monotonic(), grants)
        return grants


class WatchedReferences(ClusterReferences):
    """References whose Secrets are watched once they were asked for.

    Args:
        api: The server.
        changed: Told of each policy one of whose Secrets has changed.
        refers: Tells whether a policy is there, and refers to a Secret.
    """

    def __init__(
        self, api: KubeApi, changed: Callable[[ObjectKey], None], refers: Callable[[ObjectKey, ObjectKey], bool]
    ) -> None:
        super().__init__(api)
        self._changed = changed
        self._refers = refers
        self._stopping = threading.Event()
        self._most = MOST_WATCHES
        self._lock = threading.Lock()
        # One watch for each Secret that a policy names, by field selector: to list all Secrets of a cluster,
        # credrotator would need the right to read them all.
        self._watches: dict[ObjectKey, Informer[Values]] = {}
        self._readers: defaultdict[ObjectKey, set[ObjectKey]] = defaultdict(set)
        # A watch outlives its last reader for a while: an edit often removes a reference and puts it back, and each new
        # watch costs a list and a thread.
        self._idle_since_s: dict[ObjectKey, float] = {}
        self._refused: dict[ObjectKey, tuple[str, ObjectKey]] = {}
        self._grants_due_s = 0.0

    def values(self, secret: ObjectKey, policy: ObjectKey) -> Values | None:
        """Return a Secret's values for a policy, from its watch; the policy is told when it changes."""
        informer = self._watch(secret, policy)
        if informer is None:
            return super().values(secret, policy)
        if not self._is_synced(informer):
            # The watch cannot say why; a plain read can.
            return super().values(secret, policy)
        return informer.get(secret)

    def granted(self, source: str, secret: ObjectKey, policy: ObjectKey) -> bool:
        """See ``ClusterReferences.granted``; a policy that is refused is told when that has changed."""
        granted = super().granted(source, secret, policy)
        with self._lock:
            if granted:
                self._refused.pop(policy, None)
            else:
                self._refused[policy] = (source, secret)
        return granted

    def awaits_grants(self) -> bool:
        """Tell whether ``read_grants`` is due: somebody was refused, and it was not called for a few seconds."""
        now_s = time.monotonic()
        with self._lock:
            if not self._refused or now_s < self._grants_due_s:
                return False
            self._grants_due_s = now_s + GRANTS_EVERY_S
            return True

    def read_grants(self) -> None:
        """Read the grants that policies lack; report the policies that have them now."""
        with self._lock:
            refused = dict(self._refused)
        for _, secret in refused.values():
            self._grants.pop(secret.namespace, None)
        for policy, (source, secret) in refused.items():
            try:
                granted = self.granted(source, secret, policy)
            except RotationError as error:
                log.debug("grants cannot be read: %s", error)
                continue
            if granted:
                self._changed(policy)

    def dead(self) -> list[str]:
        """Name the threads of watches that have ended though they were not stopped."""
        with self._lock:
            watches = list(self._watches.values())
        return [name for watch in watches for name in watch.dead()]

    def keep(self, policy: ObjectKey, secrets: Collection[ObjectKey]) -> None:
        """Take note that a policy refers to these Secrets and to no others (any more)."""
        with self._lock:
            # Without going over the watches: one that loses its last reader here is ended by the sweep, outside of the
            # lock.
            for secret in [secret for secret, readers in self._readers.items() if policy in readers]:
                if secret not in secrets:
                    self._discard(secret, policy)
            if policy in self._refused and self._refused[policy][1] not in secrets:
                del self._refused[policy]

    def sweep(self, now_s: float | None = None) -> None:
        """End the watches that nobody has needed for a while; ``now_s``: on the clock of ``time.monotonic``."""
        now_s = time.monotonic() if now_s is None else now_s
        with self._lock:
            idle = {secret: self._idle_since_s.get(secret, now_s) for secret in self._watches.keys() - self._readers}
            over = [secret for secret, since_s in idle.items() if now_s - since_s >= LINGER_S]
            ended = [self._watches.pop(secret) for secret in over]
            self._idle_since_s = {secret: since_s for secret, since_s in idle.items() if secret not in over}
        stop_all(ended)

    def begin_to_stop(self) -> list[Informer[Any]]:
        """Watch nothing more; return the watches, which are to be ended."""
        self._stopping.set()
        with self._lock:
            watches: list[Informer[Any]] = list(self._watches.values())
            self._watches.clear()
        return watches

    def stop(self) -> None:
        """End all watches."""
        stop_all(self.begin_to_stop())

    def _is_synced(self, informer: Informer[Values]) -> bool:
        """Wait for the first list, for a while, and not when this is being stopped."""
        ends_s = time.monotonic() + SYNC_S
        while not informer.synced.wait(_POLL_S):
            if self._stopping.is_set() or time.monotonic() >= ends_s:
                return False
        return True

    def _watch(self, secret: ObjectKey, policy: ObjectKey) -> Informer[Values] | None:
        """Return the Secret's watch, None if it is not to be watched."""
        if not self._refers(policy, secret):
            return None
        informer = self._watch_for(secret, policy)
        # NOTE: one that has gone before it was noted as a reader would stay one for ever: its end is over.
        if not self._refers(policy, secret):
            self._drop_reader(secret, policy)
        return informer

    def _drop_reader(self, secret: ObjectKey, policy: ObjectKey) -> None:
        with self._lock:
            self._discard(secret, policy)

    def _discard(self, secret: ObjectKey, policy: ObjectKey) -> None:
        if secret in self._readers:
            self._readers[secret].discard(policy)
            if not self._readers[secret]:
                del self._readers[secret]

    def _watch_for(self, secret: ObjectKey, policy: ObjectKey) -> Informer[Values] | None:
        with self._lock:
            if self._stopping.is_set():
                return None
            self._readers[secret].add(policy)
            known = self._watches.get(secret)
            # Bounded, since each watch is a thread and a connection; beyond it, Secrets are read when they are needed,
            # and an edit of one is noticed at the next attempt.
            if known is not None or len(self._watches) >= self._most:
                return known
            informer = self._watches[secret] = Informer(
                self._api,
                Selection(
                    resource_paths.secrets(secret.namespace),
                    field_selector=f"metadata.name={secret.name}",
                    name="client-secret",
                ),
                parse=_values,
                changed=self._report,
            )
        # Outside of the lock: the thread that begins calls back.
        informer.start()
        return informer

    def _report(self, secret: ObjectKey, _values: Values | None) -> None:
        with self._lock:
            watch, readers = self._watches.get(secret), list(self._readers.get(secret, ()))
        if watch is None or not watch.synced.is_set():
            # The first list is what the policy that caused the watch is reading at this moment: no news to it.
            return
        for policy in readers:
            self._changed(policy)


class PolicyReferences:
    """The references of one policy; see ``inventory.References``."""

    def __init__(self, references: ClusterReferences, policy: ObjectKey) -> None:
        self._references = references
        self._policy = policy

    def granted(self, source: str, secret: ObjectKey) -> bool:
        """See ``inventory.References``."""
        return self._references.granted(source, secret, self._policy)

    def values(self, secret: ObjectKey) -> Mapping[str, bytes] | None:
        """See ``inventory.References``."""
        return self._references.values(secret, self._policy)

    def unreadable(self, secret: ObjectKey, key: str) -> bool:  # noqa: ARG002
        """See ``inventory.References``; the API server stores nothing but base64."""
        return False


def _values(secret: Mapping[str, Any]) -> Values:
    values: Values = {}
    for name, encoded in (secret.get("data") or {}).items():
        try:
            values[name] = base64.b64decode(encoded)
        except (binascii.Error, ValueError):
            # The API server stores only base64, so this is a test's or a proxy's doing; empty, it is refused by name.
            values[name] = b""
    return values
