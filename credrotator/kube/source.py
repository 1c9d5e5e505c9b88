"""Policies from the API server, by list and watch; and the Secrets of ours, by label, to notice what others do to them.

A PolicySource. A change of a policy's status is no reason to look at it, but it is how the gateway acknowledges a
delivery; a Secret of ours is one only if it was lost, or its data or metadata are not as we wrote them. Of policies
that lead to one Secret all but one are refused.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from credrotator.core.errors import RotationError
from credrotator.core.model import SECRET_KIND, InvalidPolicy, ObjectKey, Policy, Problem, RotatablePolicy
from credrotator.core.secret_document import Absent, Ownership, Published
from credrotator.core.secretdata import CONTENT, cached_state, is_intact
from credrotator.kube import paths
from credrotator.kube.client import resource_paths
from credrotator.kube.client.informer import Informer, Selection, stop_all
from credrotator.kube.client.live_copy import MALFORMED, key_of
from credrotator.kube.events import InvolvedObject
from credrotator.kube.publishers import Publishers
from credrotator.kube.references import WatchedReferences
from credrotator.kube.served_schema import read_schema
from credrotator.kube.store import ASKING, SELECTOR, stored_secret
from credrotator.policies.asking import asking_key, read_asking
from credrotator.policies.inventory import secret_reader
from credrotator.policies.served import contradicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from credrotator.core.ports import SecretReader
    from credrotator.kube.client.api import KubeApi
    from credrotator.kube.client.api_objects import Json
    from credrotator.policies.managed import FormReader
    from credrotator.policies.served import ServedSchema

log = logging.getLogger(__name__)

ORIGIN = "the API server"
BELL = "credrotator.io/bell"
CONDITION = "credrotator.io/Ready"
_NOTED_BY_SERVERS = {"resourceVersion", "managedFields"}
SCHEMA_AGE_S = 60.0
"""For how long a schema that a policy contradicts is not asked for again."""
NOBODYS = Ownership(labelled=False, policy="", uids=frozenset())


@dataclass(frozen=True, slots=True)
class Observed:
    """A policy as it was last seen. ``last_transition`` is the gateway's latest word in its status, not ours.

    ``version`` is the resourceVersion that the conditions were in; it may be behind. ``written`` tells what people
    wrote from what the servers note beside it.
    """

    policy: Policy | InvalidPolicy
    subject: InvolvedObject
    last_transition: str
    conditions: tuple[Json, ...] = ()
    version: str = field(default="", compare=False)
    written: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Asking:
    """A Secret that asks for itself: the policy that it is, and what it holds."""

    observed: Observed
    secret: OurSecret


class Observer(Protocol):
    """Where a policy's status is seen."""

    def observed(self, key: ObjectKey) -> Observed | None:
        """Return a policy with what its status says."""


@dataclass(frozen=True, slots=True)
class OurSecret:
    """What matters of a Secret of ours: whose it is, and whether what the gateway reads of it is what we wrote.

    ``published`` is what it holds, as far as that can be told without its data, which is not kept; ``content`` is the
    hash of that.
    """

    policy: ObjectKey
    intact: bool
    ownership: Ownership
    published: Published | None = None
    content: str = ""

    def contradicts(self, other: OurSecret | None) -> bool:
        """Tell whether the same credential is said to live otherwise than before: somebody edited what we noted."""
        if other is None or self.published is None or other.published is None or self.content != other.content:
            return False
        return self.published != other.published


@dataclass(frozen=True, slots=True)
class Scope:
    """Which policies are this daemon's. No namespaces: all of them.

    ``schema`` is what the server has of a version that differs between releases of the gateway.
    """

    version: str
    namespaces: tuple[str, ...] = ()
    selector: str = ""
    schema: ServedSchema | None = None

    @property
    def asking(self) -> str:
        """Selects the Secrets that ask for themselves, as kubectl's ``-l``."""
        return ",".join(filter(None, (ASKING, self.selector)))


class ClusterSource:
    """Policies of one cluster."""

    def __init__(
        self, api: KubeApi, scope: Scope, policies: FormReader, acknowledge: Callable[[ObjectKey, str], None]
    ) -> None:
        self._api = api
        self._version = scope.version
        self._reader = policies
        self._acknowledge = acknowledge
        self._schema_asked_s = -math.inf
        self._listeners: list[Callable[[ObjectKey], None]] = []
        self._lock = threading.Lock()
        # Beside the informers' own copies, since these are one for each namespace, and who leads to which Secret is
        # known across them.
        self._policies: dict[ObjectKey, Observed] = {}
        self._secrets: dict[ObjectKey, OurSecret] = {}
        self._publishers = Publishers()
        self._references = WatchedReferences(api, self._report, self._refers)
        namespaces: Iterable[str | None] = scope.namespaces or (None,)
        self._informers: list[Informer[Any]] = []
        for namespace in dict.fromkeys(namespaces):
            secrets = Informer(
                api,
                Selection(resource_paths.secrets(namespace), f"{SELECTOR},!{BELL}"),
                parse=_our_secret,
                changed=self._secret_changed,
            )
            # The Secrets first: what is known to be fresh when its policy is heard of costs no request.
            watched = Informer(
                api,
                Selection(paths.policies(scope.version, namespace), scope.selector, name="policies"),
                parse=self._parse,
                changed=self._policy_changed,
                after=secrets.synced,
                relocate=partial(self._relocate, namespace),
            )
            asking = Informer(
                api,
                Selection(resource_paths.secrets(namespace), scope.asking, name="asking"),
                parse=self._asking,
                changed=self._asking_changed,
            )
            self._informers += [secrets, watched, asking]

    def start(self, changed: Callable[[ObjectKey], None]) -> None:
        """See ``ports.PolicySource``; returns at once, policies are reported as they are listed."""
        self._listeners.append(changed)
        for informer in self._informers:
            informer.start()

    def stop(self) -> None:
        """See ``ports.PolicySource``."""
        stop_all([*self._informers, *self._references.begin_to_stop()])

    def get(self, key: ObjectKey) -> Policy | InvalidPolicy | None:
        """See ``ports.PolicySource``."""
        with self._lock:
            observed = self._policies.get(key)
            if observed is None or not isinstance(observed.policy, RotatablePolicy):
                return observed.policy if observed else None
            return self._publishers.judge(observed.policy, self._holder(observed.policy.secret))

    def observed(self, key: ObjectKey) -> Observed | None:
        """Return a policy with what its status says."""
        with self._lock:
            return self._policies.get(key)

    def policies(self) -> Iterable[ObjectKey]:
        """See ``ports.PolicySource``."""
        with self._lock:
            return list(self._policies)

    def reader(self, key: ObjectKey) -> SecretReader:
        """See ``ports.PolicySource``."""
        return secret_reader(self._references.for_policy(key), key)

    def cached_state(self, policy: Policy) -> Published | None:
        """Return what a policy's Secret held when it was last heard of; None if that is not known for certain."""
        with self._lock:
            seen = self._secrets.get(policy.secret) if policy.secret else None
        return seen.published if seen and seen.intact and seen.ownership.is_of(policy.owner) else None

    def heard_of(self, policy: Policy) -> Published | Absent | None:
        """Return the same; ABSENT where nobody can have made a Secret for the policy, as far as was heard.

        One that the gateway made is not among ours, nor is one whose label somebody took away. Whoever makes one says
        so in the policy's status, so that must be empty.
        """
        with self._lock:
            # Secrets are listed before policies: of one that is known, its Secret would be.
            is_seen = policy.secret in self._secrets
            observed = self._policies.get(policy.key)
        if policy.secret and not is_seen and observed and not observed.conditions:
            return Absent.ABSENT
        return self.cached_state(policy)

    def content(self, policy: Policy) -> str:
        """Return the hash of what a policy's Secret holds; empty where that is not known, or not ours."""
        with self._lock:
            seen = self._secrets.get(policy.secret) if policy.secret else None
        return seen.content if seen and seen.intact and seen.ownership.is_of(policy.owner) else ""

    def trouble(self) -> str | None:
        """See ``ports.PolicySource``."""
        waiting = [informer.name for informer in self._informers if not informer.synced.is_set()]
        absent = [informer.name for informer in self._informers if informer.absent.is_set()]
        if absent:
            return f"not served: {', '.join(absent)}"
        return f"not listed yet: {', '.join(waiting)}" if waiting else None

    def dead(self) -> list[str]:
        """Name the threads of watches that have ended though they were not stopped."""
        return [*(name for informer in self._informers for name in informer.dead()), *self._references.dead()]

    def sweep(self) -> None:
        """End the watches of Secrets that no policy refers to any more; to be called every few seconds."""
        self._references.sweep()

    def awaits_grants(self) -> bool:
        """Tell whether ReferenceGrants are to be read now: somebody lacks one."""
        return self._references.awaits_grants()

    def read_grants(self) -> None:
        """See whether what somebody lacked was granted; such policies are reported."""
        self._references.read_grants()

    def restarts(self) -> Mapping[str, int]:
        """Count the watches that began anew, by reason."""
        total: dict[str, int] = {}
        for informer in self._informers:
            for reason, count in informer.restarts.items():
                total[reason] = total.get(reason, 0) + count
        return total

    def silences(self) -> Mapping[str, float]:
        """Return for how many seconds each kind of watch has said nothing; of several, the most silent one."""
        now_s = time.monotonic()
        longest: dict[str, float] = {}
        for informer in self._informers:
            longest[informer.name] = max(longest.get(informer.name, 0.0), now_s - informer.last_contact)
        return longest

    def _refers(self, key: ObjectKey, secret: ObjectKey) -> bool:
        observed = self.observed(key)
        return observed is not None and secret in _referred(observed.policy)

    def _relocate(self, namespace: str | None) -> str:
        """Return where the policies are now that they are not served where they were: in another version, perhaps."""
        try:
            self._version = paths.served_version(self._api)
        except RotationError as error:
            log.info("%s: %s", error.reason, error.message)
        self._ask_schema()
        return paths.policies(self._version, namespace)

    def _ask_schema(self) -> None:
        self._reader = self._reader.under(read_schema(self._api, self._version))

    def _parse(self, manifest: Json) -> Observed:
        # The gateway was upgraded under the same version: with the old schema, a good policy would be called wrong. Not
        # at each policy: after a downgrade there may be many that contradict what is served indeed.
        if contradicts(manifest, self._reader.served) and time.monotonic() - self._schema_asked_s > SCHEMA_AGE_S:
            self._schema_asked_s = time.monotonic()
            self._ask_schema()
        return observe(manifest, self._reader, self.observed(key_of(manifest)))

    def _asking(self, secret: Json) -> Asking:
        held = _our_secret(secret)
        if not held.ownership.policy:
            # Not filled yet, it leads back to nobody; whoever it is for is told of its changes all the same.
            held = replace(held, policy=asking_key(key_of(secret)))
        return Asking(observe_asking(secret, self._reader), held)

    def _asking_changed(self, key: ObjectKey, asking: Asking | None) -> None:
        # What it holds comes first: after a restart, it is known before anybody asks whether that is fresh.
        is_known = self.observed(asking_key(key)) is not None
        concerned = self._note_secret(key, asking.secret if asking else None)
        self._policy_changed(asking_key(key), asking.observed if asking else None)
        # One that is new was reported with whoever else leads to the Secret.
        for policy in concerned if is_known else ():
            self._report(policy)

    def _report(self, key: ObjectKey) -> None:
        """Have a policy enqueued: it changed, or a Secret of it did."""
        for changed in self._listeners:
            changed(key)

    def _policy_changed(self, key: ObjectKey, observed: Observed | None) -> None:
        with self._lock:
            before = self._policies.get(key)
            if observed is None:
                self._policies.pop(key, None)
            else:
                self._policies[key] = observed
            others = self._publishers.put(key, observed.policy if observed else None)
        # Before it is reported: the attempt that follows reads these Secrets.
        self._references.keep(key, _referred(observed.policy) if observed else frozenset())
        if observed is not None:
            self._acknowledge(key, observed.last_transition)
        # Compared as policies: a status write of the gateway, after each delivery, must not bring about another
        # attempt.
        if observed is None or before is None or before.policy != observed.policy:
            for concerned in (key, *others):
                self._report(concerned)

    def _secret_changed(self, key: ObjectKey, secret: OurSecret | None) -> None:
        for policy in self._note_secret(key, secret):
            self._report(policy)

    def _note_secret(self, key: ObjectKey, secret: OurSecret | None) -> set[ObjectKey]:
        """Keep what a Secret is now; return the policies that have to be looked at."""
        with self._lock:
            known = self._secrets.pop(key, None)
            if secret is not None:
                self._secrets[key] = secret
            # Decided under the lock, reported outside of it: the daemon reads this source when it is told.
            return self._concerned(key, known, secret)

    def _concerned(self, key: ObjectKey, known: OurSecret | None, secret: OurSecret | None) -> set[ObjectKey]:
        """Return the policies that have to be looked at because of a Secret's change."""
        if secret is None or not secret.intact or secret.contradicts(known):
            latest = secret or known
            return self._publishers.of(key) | ({latest.policy} if latest else set())
        if known is not None and known.policy != secret.policy:
            return self._publishers.of(key)
        keeper = self._publishers.keeper(key, secret.policy)
        return set() if keeper is None or secret.ownership.is_of(keeper.owner) else {keeper.key}

    def _holder(self, secret: ObjectKey) -> ObjectKey | None:
        seen = self._secrets.get(secret)
        return seen.policy if seen and seen.ownership.policy else None


def observe(manifest: Json, policies: FormReader, before: Observed | None = None) -> Observed:
    """Read a policy of the API server, with what its status says.

    What was read ``before`` counts on where only the status has changed: the gateway writes one after each delivery,
    and the reading takes ten times as long as the rest.

    NOTE: raises for nothing that a tenant may write: what was read before would stay in force, and its credential be
    kept fresh by a text that is gone.
    """
    listed = (manifest.get("status") or {}).get("conditions") or []
    conditions = [condition for condition in listed if isinstance(condition, dict)]
    words = [condition for condition in conditions if condition.get("type") != CONDITION]
    latest = words[-1].get("lastTransitionTime", "") if words else ""
    metadata, written = manifest.get("metadata") or {}, _written(manifest)
    policy = before.policy if before and written and written == before.written else _policy(manifest, policies)
    subject = InvolvedObject(policy.key, str(metadata.get("uid", "")), str(manifest.get("apiVersion", "")))
    return Observed(policy, subject, str(latest), tuple(conditions), str(metadata.get("resourceVersion", "")), written)


def observe_asking(secret: Json, policies: FormReader) -> Observed:
    """Read a Secret of the API server that asks for itself; it has no status.

    NOTE: as for ``observe``, raises for nothing that a tenant may write.
    """
    key, metadata = key_of(secret), secret["metadata"]
    try:
        policy = read_asking(policies, secret, key, ORIGIN)
    except MALFORMED as error:
        policy = _unread(asking_key(key), error)
    return Observed(policy, InvolvedObject(key, str(metadata.get("uid", "")), "v1", SECRET_KIND), "")


def _written(manifest: Json) -> int:
    """Hash all of a policy that it can be read from; 0 where the server does not count its generations."""
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("generation"), int):
        return 0
    noted = {name: value for name, value in metadata.items() if name not in _NOTED_BY_SERVERS}
    # The generation stands for the spec (Kubernetes API conventions, "Metadata"), but for nothing in the metadata.
    return hash((str(manifest.get("apiVersion")), repr(sorted(noted.items()))))


def _policy(manifest: Json, policies: FormReader) -> Policy | InvalidPolicy:
    try:
        return policies.read(manifest, ORIGIN)
    except MALFORMED as error:
        return _unread(key_of(manifest), error)


def _unread(key: ObjectKey, error: Exception) -> InvalidPolicy:
    """Return what stands for a policy at which we failed; the text stays out, since nobody vetted it."""
    kind = type(error).__name__
    log.warning("%s cannot be read: %s in credrotator itself", key, kind)
    return InvalidPolicy(key, ORIGIN, (Problem("", f"cannot be read: {kind} in credrotator itself; report it"),))


def _referred(policy: Policy | InvalidPolicy) -> frozenset[ObjectKey]:
    """Name the Secrets that a policy reads."""
    references = policy.references if isinstance(policy, Policy) else ()
    return frozenset(reference.secret for reference in references)


def _our_secret(secret: Json) -> OurSecret:
    stored = stored_secret(secret)
    document, ownership = stored.document, stored.ownership or NOBODYS
    policy = ObjectKey(document.key.namespace, ownership.policy)
    content = document.annotations.get(CONTENT, "")
    return OurSecret(policy, is_intact(document), ownership, cached_state(document), content)
