"""All objects of one reading, and what is asked of them: who may read which Secret, who depends on a policy. Pure.

Rules: a Secret in another namespace needs a ReferenceGrant there (Gateway API, ``ReferenceGrant``); a policy is
reached from an AIServiceBackend by ``backendSecurityPolicyRef`` (v0.2) or names it by ``targetRefs`` (v1.x).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from credrotator.core.errors import PolicyError, printable
from credrotator.core.model import (
    SECRET_KIND,
    InvalidPolicy,
    ObjectKey,
    Policy,
    Problem,
    RotatablePolicy,
    SecretKeyRef,
    backend_key,
)
from credrotator.core.sensitive import Sensitive
from credrotator.policies.annotations import ASKS
from credrotator.policies.characters import odd_character
from credrotator.policies.schema import GROUP, KIND
from credrotator.policies.stand_ins import stand_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from credrotator.core.ports import SecretReader
    from credrotator.policies.manifest import Manifest

log = logging.getLogger(__name__)

MODEL_HEADERS = ("x-ai-eg-model", "x-aigw-model")
FILES = ("credentials", "service_account.json")
"""Keys that hold a whole file, which ends in a newline by right."""
UTF16 = (b"\xff\xfe", b"\xfe\xff")
AS_UTF8 = "write the text as UTF-8 before it is encoded as base64"


@dataclass(frozen=True, slots=True)
class Grant:
    """One ReferenceGrant's permission: policies of ``source`` may use ``name`` (None: all) of ``target``."""

    source: str
    target: str
    name: str | None


@dataclass(frozen=True, slots=True)
class Route:
    """One AIGatewayRoute: the backends it sends to, with the models that lead there."""

    key: ObjectKey
    models: Mapping[ObjectKey, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Dependants:
    """What stops working when a policy's credential does."""

    backends: tuple[ObjectKey, ...] = ()
    routes: tuple[ObjectKey, ...] = ()
    models: tuple[str, ...] = ()


@dataclass
class Inventory:
    """Objects by kind.

    Attributes:
        secrets: Values by Secret and key, bytes as they are (a Secret need not be text).
        manifests: The policies as they were read.
        damaged: Values that stand in a manifest and could not be read; each was reported there.
    """

    policies: dict[ObjectKey, Policy] = field(default_factory=dict)
    invalid: dict[ObjectKey, InvalidPolicy] = field(default_factory=dict)
    secrets: dict[ObjectKey, Mapping[str, bytes]] = field(default_factory=dict)
    damaged: set[tuple[ObjectKey, str]] = field(default_factory=set)
    backends: dict[ObjectKey, ObjectKey | None] = field(default_factory=dict)
    routes: dict[ObjectKey, Route] = field(default_factory=dict)
    grants: set[Grant] = field(default_factory=set)
    manifests: dict[ObjectKey, Manifest] = field(default_factory=dict)

    def add_policy(self, policy: Policy | InvalidPolicy) -> None:
        """Keep a policy. Of two that differ under one name nobody can tell which is meant, so neither is used."""
        if policy.key.name.startswith("("):  # it has no valid name, so it is not the same as another such one
            policy = replace(policy, key=self._unnamed(policy.key))
        known = self.policies.get(policy.key) or self.invalid.get(policy.key)
        if known is not None and replace(policy, origin=known.origin) == known:
            return
        if known is not None:
            twice = Problem("metadata.name", f"defined twice, in {known.origin} and in {policy.origin}; remove one")
            policy = InvalidPolicy(policy.key, policy.origin, (twice,), policy.provider)
        self._keep(policy)

    def _unnamed(self, key: ObjectKey) -> ObjectKey:
        count = 1 + sum(other.name.startswith("(") and other.namespace == key.namespace for other in self.invalid)
        return key if count == 1 else ObjectKey(key.namespace, f"{key.name} {count}")

    def _keep(self, policy: Policy | InvalidPolicy) -> None:
        if isinstance(policy, Policy):
            self.policies[policy.key] = policy
        else:
            self.policies.pop(policy.key, None)
            self.invalid[policy.key] = policy

    def refuse_shared_backends(self) -> None:
        """Two policies on one backend contradict each other; the gateway refuses both, so do we."""
        claims: defaultdict[ObjectKey, list[Policy]] = defaultdict(list)
        for policy in self.policies.values():
            # A policy that names a backend twice does not contradict itself.
            for backend in set(policy.targets):
                claims[backend].append(policy)
        problems: defaultdict[ObjectKey, list[Problem]] = defaultdict(list)
        for backend, policies in claims.items():
            if len(policies) > 1:
                names = " and ".join(sorted(str(policy.key) for policy in policies))
                for policy in policies:
                    path = f"spec.targetRefs[{policy.targets.index(backend)}]"
                    problems[policy.key].append(Problem(path, f"backend {backend} is claimed by {names}; keep one"))
        for key, shared in problems.items():
            policy = self.policies[key]
            ordered = tuple(sorted(shared, key=lambda problem: problem.path))
            self._keep(InvalidPolicy(key, policy.origin, ordered, policy.provider))

    def refuse_shared_secrets(self) -> None:
        """Two policies that lead to one Secret would replace each other's credential for ever: the first keeps it."""
        taken: dict[ObjectKey, Policy] = {}
        rotatable = [policy for policy in self.policies.values() if isinstance(policy, RotatablePolicy)]
        # In a fixed order, not in that of the files: which of two keeps a Secret must not change with a rename.
        for policy in sorted(rotatable, key=precedence):
            first = taken.setdefault(policy.secret, policy)
            if first is not policy:
                self._keep(refuse_shared_secret(policy, first.key))

    def reader(self, policy: ObjectKey) -> SecretReader:
        """Return the SecretReader for one policy's references."""
        return secret_reader(self, policy)

    def values(self, secret: ObjectKey) -> Mapping[str, bytes] | None:
        """See ``References``."""
        return self.secrets.get(secret)

    def unreadable(self, secret: ObjectKey, key: str) -> bool:
        """See ``References``."""
        return (secret, key) in self.damaged

    def dependants(self, policy: Policy) -> Dependants:
        """Find the backends, routes and models that hang on a policy."""
        named = {backend for backend, reference in self.backends.items() if reference == policy.key}
        backends = named | set(policy.targets)
        routes = [route for route in self.routes.values() if backends & route.models.keys()]
        models = {model for route in routes for backend in backends for model in route.models.get(backend, ())}
        return Dependants(tuple(sorted(backends)), tuple(sorted(route.key for route in routes)), tuple(sorted(models)))

    def granted(self, source: str, secret: ObjectKey) -> bool:
        """Tell whether policies of namespace ``source`` may use ``secret``."""
        if source == secret.namespace:
            return True
        names = (None, secret.name)
        return any(Grant(source, secret.namespace, name) in self.grants for name in names)


def precedence(policy: RotatablePolicy) -> tuple[bool, bool, ObjectKey]:
    """Return what policies that lead to one Secret are sorted by: the first one keeps it."""
    return policy.kind == SECRET_KIND, policy.managed, policy.key


def refuse_shared_secret(policy: RotatablePolicy, first: ObjectKey) -> InvalidPolicy:
    """Return what a policy is that leads to another one's Secret."""
    asks_itself = policy.kind == SECRET_KIND
    path, advice = ("metadata.labels", f"remove the label {ASKS}") if asks_itself else ("spec", "name another")
    problem = Problem(path, f"Secret {policy.secret} is where {first} publishes; {advice}")
    return InvalidPolicy(policy.key, policy.origin, (problem,), policy.provider)


class References(Protocol):
    """What is asked when a policy's reference to a Secret is followed."""

    def granted(self, source: str, secret: ObjectKey) -> bool:
        """Tell whether policies of namespace ``source`` may use ``secret``."""

    def values(self, secret: ObjectKey) -> Mapping[str, bytes] | None:
        """Return a Secret's values, None if there is no such Secret."""

    def unreadable(self, secret: ObjectKey, key: str) -> bool:
        """Tell whether a value is there in a form that could not be read."""


def secret_reader(references: References, policy: ObjectKey) -> SecretReader:
    """Return how one policy's references are read: the rules, whoever holds the Secrets.

    The function that is returned raises PolicyError: RefNotPermitted, SecretNotReadable, SecretNotFound, or what is
    wrong with the key.
    """

    def read(ref: SecretKeyRef) -> Sensitive:
        secret, where = ref.secret, f"{ref.path} of {policy}"
        if not references.granted(policy.namespace, secret):
            raise PolicyError(
                "RefNotPermitted",
                f"{where}: Secret {secret} is in another namespace, and no ReferenceGrant there permits it",
                hint=f"add a ReferenceGrant in namespace {secret.namespace} from {KIND} in "
                f"{policy.namespace} to Secret {secret.name}",
            )
        if references.unreadable(secret, ref.key):
            raise PolicyError(
                "SecretNotReadable",
                f"{where}: key {ref.key} of Secret {secret} could not be read",
                hint="see the problem that is reported for that Secret",
            )
        values = references.values(secret)
        if values is None:
            raise PolicyError(
                "SecretNotFound",
                f"{where}: there is no Secret {secret}",
                hint=f"create Secret {secret} with the key {ref.key}",
            )
        return _text(values, ref, where)

    return read


def _text(values: Mapping[str, bytes], ref: SecretKeyRef, where: str) -> Sensitive:
    raw = values.get(ref.key)
    if not raw or not raw.strip():
        state = "has no key" if raw is None else "has an empty key"
        hint = f"put the value into Secret {ref.secret} under the key {ref.key}"
        raise PolicyError("SecretKeyMissing", f"{where}: Secret {ref.secret} {state} {ref.key}", hint=hint)
    text = _decoded(raw, ref, where)
    # A file made by an editor or by echo ends in a newline, which no issuer counts as part of a secret.
    value = text.rstrip("\r\n")
    if replaced := stand_in(value):
        reason = "SecretEncrypted" if replaced.encrypted else "SecretPlaceholder"
        message = f"{where}: key {ref.key} of Secret {ref.secret} holds {replaced.what}, not the secret itself"
        raise PolicyError(reason, message, hint=replaced.hint)
    if ref.key not in FILES:
        _warn(text, value, f"{where}: key {ref.key} of Secret {ref.secret}")
    return Sensitive(value)


def _decoded(raw: bytes, ref: SecretKeyRef, where: str) -> str:
    hint = "encode the value once only: data holds base64 of the text, stringData the text itself"
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        if raw.startswith(UTF16):
            hint = f"it is UTF-16, as PowerShell writes it: {AS_UTF8}"
        message = f"{where}: key {ref.key} of Secret {ref.secret} is not UTF-8 text"
        raise PolicyError("SecretNotText", message, hint=hint) from error
    place = text.find("\0") + 1
    if place:
        message = f"{where}: key {ref.key} of Secret {ref.secret} has a NUL (U+0000) at character {place}"
        raise PolicyError("SecretNotText", message, hint=f"it may be UTF-16, as PowerShell writes it: {AS_UTF8}")
    return text


def _warn(text: str, value: str, where: str) -> None:
    """Name what issuers may refuse in a secret: RFC 6749 appendix A lets it have the characters from %x20 to %x7E."""
    if value != text:
        log.warning("%s ends in a newline, which is left out", where)
    if odd := odd_character(value):
        log.warning("%s has %s at character %d, which issuers need not take", where, odd.name, odd.place)
    elif value != value.strip():
        log.warning("%s begins or ends with a blank, which is sent as it is", where)


def read_backend(manifest: Manifest, key: ObjectKey) -> ObjectKey | None:
    """Return the policy that an AIServiceBackend names (v0.2), if any."""
    match manifest:
        case {"spec": {"backendSecurityPolicyRef": {"name": str(name)}}}:
            return ObjectKey(key.namespace, name)
        case _:
            pass
    return None


def read_route(manifest: Manifest, key: ObjectKey) -> Route:
    """Read an AIGatewayRoute's backends and the models that its header matches name."""
    models: defaultdict[ObjectKey, set[str]] = defaultdict(set)
    for rule in _dicts(manifest, "spec", "rules"):
        named = {
            printable(value)
            for match in _dicts(rule, "matches")
            for header in _dicts(match, "headers")
            if _text_of(header, "name").lower() in MODEL_HEADERS and (value := _text_of(header, "value"))
        }
        for ref in _dicts(rule, "backendRefs"):
            namespace, kind = _text_of(ref, "namespace"), _text_of(ref, "kind")
            backend = backend_key(namespace or key.namespace, kind or "AIServiceBackend", _text_of(ref, "name"))
            models[backend] |= named
    return Route(key, {backend: frozenset(names) for backend, names in models.items()})


def read_grant(manifest: Manifest, key: ObjectKey) -> Iterator[Grant]:
    """Read what a ReferenceGrant permits to BackendSecurityPolicies."""
    for source in _dicts(manifest, "spec", "from"):
        if (source.get("group"), source.get("kind")) != (GROUP, KIND):
            continue
        for target in _dicts(manifest, "spec", "to"):
            name = target.get("name")
            # NOTE: only an absent name means all; one that is no text must not grant more than was written.
            if (target.get("group", ""), target.get("kind")) == ("", "Secret") and isinstance(name, str | None):
                yield Grant(_text_of(source, "namespace"), key.namespace, name)


def _text_of(node: Mapping[str, Any], name: str) -> str:
    value = node.get(name)
    return value if isinstance(value, str) else ""


def _dicts(node: Mapping[str, Any], *path: str) -> Iterator[Mapping[str, Any]]:
    """Walk to a list of objects; whatever has another shape is passed over (these kinds are not ours to validate)."""
    value: Any = node
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    for item in value if isinstance(value, list) else []:
        if isinstance(item, dict):
            yield item
