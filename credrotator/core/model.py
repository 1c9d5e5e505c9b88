"""The nouns: policies, what they ask for, what comes out. Frozen data, no I/O, no clock.

A provider brings classes of its own for :class:`Rotatable` (what a policy asks for) and :class:`Credential` (what the
vendor gives); what is abstract there is what the rest of credrotator asks of it.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, cast

from credrotator.core.sensitive import Sensitive

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from credrotator.core.shapes import Shape

POLICY_KIND, SECRET_KIND = "BackendSecurityPolicy", "Secret"
"""Kinds of objects that ask for a credential."""


class ObjectKey(NamedTuple):
    """Namespace and name of a Kubernetes object; prints as ``namespace/name``."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str, default_namespace: str) -> Self:
        """Read ``namespace/name``, or ``name`` in the default namespace."""
        namespace, _, name = text.rpartition("/")
        return cls(namespace or default_namespace, name)


def backend_key(namespace: str, kind: str, name: str) -> ObjectKey:
    """Name a backend: an InferencePool may be called like an AIServiceBackend and is another thing."""
    # The bare name for the usual kind: it is what people see in tables and -o name.
    return ObjectKey(namespace, name if kind == "AIServiceBackend" else f"{kind}/{name}")


@dataclass(frozen=True, slots=True)
class SecretKeyRef:
    """One key of one Secret, and the field of the policy that names it (for messages)."""

    secret: ObjectKey
    key: str
    path: str


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A token that somebody keeps fresh in a file, by the name under which the operator allows it.

    ``audience``: whom the token has to be for, if the policy says so.
    """

    name: str
    audience: str | None = None


@dataclass(frozen=True, slots=True)
class ServiceAccountToken:
    """A token of a service account in the policy's namespace, which the API server gives (TokenRequest).

    ``audience``: whom it is for; never empty in a sound policy.
    """

    name: str
    audience: str


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A client's own key (PEM), with which it signs its assertions, and the id by which the issuer knows the key."""

    private_key: SecretKeyRef
    key_id: SecretKeyRef


ClientAssertion = ServiceAccountToken | TokenFile | ClientKey
"""By what a client proves who it is without a client secret (RFC 7523 §2.2)."""


@dataclass(frozen=True, slots=True)
class OidcClient:
    """The client-credentials request that a policy asks for (RFC 6749 §4.4; RFC 8707 for ``resources``).

    ``token_endpoint`` set means: no discovery. ``audience`` is sent as the ``audience`` parameter. Where there is an
    ``assertion``, the client secret is not read.
    """

    issuer: str
    client_id: str | SecretKeyRef
    client_secret: SecretKeyRef | None
    token_endpoint: str | None = None
    scopes: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    audience: str | None = None
    subject_token: Literal["access_token", "id_token"] = "access_token"
    assertion: ClientAssertion | None = None

    @property
    def references(self) -> tuple[SecretKeyRef, ...]:
        """List every key of a Secret that the request is made from."""
        proof: tuple[SecretKeyRef | str | None, ...] = (self.client_secret,)
        if isinstance(self.assertion, ClientKey):
            proof = self.assertion.private_key, self.assertion.key_id
        elif self.assertion:
            proof = ()
        return tuple(ref for ref in (*proof, self.client_id) if isinstance(ref, SecretKeyRef))


TokenSource = OidcClient | TokenFile | ServiceAccountToken
"""Where a subject token comes from."""


class SubjectUse(Enum):
    """What an exchange does with a subject token."""

    SHARED = "shared"
    """It is shown, and may be shown again, for another policy too."""
    ONCE = "once"
    """It is shown, and taken for one exchange only (RFC 7523 §3, ``jti``)."""
    CREDENTIAL = "credential"
    """It is the credential itself, and nobody exchanges it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceKind:
    """What is the same for all policies whose credential comes about in one way.

    Attributes:
        provider: Names the way, in JSON, metrics and logs: ``aws-oidc``.
        data_key: Key of the gateway's own Secret that holds the credential.
        heard_by_name: The gateway looks at the policy when a Secret named as the policy is touched.
        overriding_variables: Variables which beat the published credential in the gateway's filter's environment.
        variables: Name of a field (``Rotatable.fields``) and the variable in which the vendor's programs expect it.
    """

    provider: str
    data_key: str
    heard_by_name: bool
    overriding_variables: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = (("token", "TOKEN"),)


class Rotatable(ABC):
    """What a policy asks for, where there is something to rotate. Frozen data; each provider has classes of its own.

    What the rest of credrotator needs to know of a way to get a credential is asked here, so that a new one is told by
    mypy what it lacks.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def kind(self) -> SourceKind:
        """Return what is the same for all sources of this class."""

    @property
    @abstractmethod
    def token_source(self) -> TokenSource | None:
        """Return where the subject token comes from; None where the exchange needs none."""

    @property
    @abstractmethod
    def own_references(self) -> tuple[SecretKeyRef, ...]:
        """List what the source refers to beside its token source: a client secret, a key file."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """Say whom the credential speaks for, as the vendor names it."""

    @property
    @abstractmethod
    def asked(self) -> str:
        """Name who is asked for the exchange, and as whom: what one of them is refused says nothing of another."""

    @abstractmethod
    def unusable(self, value: Sensitive) -> str | None:
        """Say why a published value is no credential of this kind, None if it is one; it is not empty."""

    @abstractmethod
    def own_expiry(self, value: Sensitive) -> datetime | None:
        """Return the expiry that a published value tells by itself; None where it tells none."""

    def fields(self, value: Sensitive) -> Mapping[str, Sensitive]:
        """Take a published value apart, for whoever needs a part of it; most are one token."""
        return {"token": Sensitive(value.reveal().strip())}

    def value_of(self, fields: Mapping[str, Sensitive]) -> Sensitive:
        """Put a value together of its parts, as the gateway would read it; what the source knows may be missing."""
        return fields["token"]

    @property
    def subject_use(self) -> SubjectUse:
        """Tell what becomes of the subject token; most vendors take one as often as it is shown."""
        return SubjectUse.SHARED

    @property
    def provider(self) -> str:
        """Name the way in which the credential comes about."""
        return self.kind.provider

    @property
    def references(self) -> tuple[SecretKeyRef, ...]:
        """List every key of a Secret that the exchange reads."""
        if isinstance(self.token_source, OidcClient):
            return (*self.token_source.references, *self.own_references)
        return self.own_references


@dataclass(frozen=True, slots=True)
class Static:
    """Nothing to rotate: a key or file that a person put there, or (without a Secret) the SDK's default chain."""

    provider: str
    secret: SecretKeyRef | None = None
    profile: str | None = None

    @property
    def references(self) -> tuple[SecretKeyRef, ...]:
        """List every key of a Secret that the policy reads."""
        return (self.secret,) if self.secret else ()


@dataclass(frozen=True, slots=True)
class Unsupported(Static):
    """What a newer gateway may know: nothing is done with it, and nothing is wrong with it."""


Source = Rotatable | Static


@dataclass(frozen=True, slots=True)
class Owner:
    """The policy that a Secret belongs to, as an owner reference names it; or the Secret itself, by its policy's name.

    ``kind``: of the object that asks for the credential.
    """

    api_version: str
    name: str
    uid: str
    kind: str = POLICY_KIND

    @property
    def is_the_secret(self) -> bool:
        """Tell whether the Secret asks for itself, so that it is there before us and belongs to a person."""
        return self.kind == SECRET_KIND


@dataclass(frozen=True, slots=True)
class Policy:
    """A valid BackendSecurityPolicy.

    Attributes:
        uid: The object's UID; for a manifest that has none, its key.
        origin: Where it was read (a file, or the API server).
        secret: The Secret that carries the credential, if there is one.
        targets: Backends that the policy itself names (``targetRefs``, v1.x).
        warnings: Oddities that do not stop it.
    """

    key: ObjectKey
    source: Source
    uid: str
    api_version: str
    origin: str
    secret: ObjectKey | None
    targets: tuple[ObjectKey, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def provider(self) -> str:
        """Name the way in which the policy's credential comes about."""
        return self.source.provider

    @property
    def references(self) -> tuple[SecretKeyRef, ...]:
        """List every key of a Secret that the policy reads."""
        return self.source.references

    @property
    def owner(self) -> Owner:
        """Name the policy as the owner of its Secret."""
        return Owner(self.api_version, self.key.name, self.uid)


@dataclass(frozen=True, slots=True)
class RotatablePolicy(Policy):
    """A valid policy with something to rotate: it has a Secret, and a fingerprint.

    Attributes:
        data_key: Key of the Secret that holds the credential, where it is not the gateway's own choice.
        managed: The gateway sees a static policy; what to do stands in an annotation (``managed``).
        renew_request: Any text, by another one of which a renewal is asked for; empty: none is.
        verify: A new credential is to be looked at before it is published.
        kind: What asks for the credential; ``SECRET_KIND``: the Secret itself (``asking``).
        shape: How the credential's parts lie in the Secret; None: as the gateway reads it.
        fingerprint: Hash of what the credential depends on: an edit of any of it makes the published one the wrong one.
    """

    source: Rotatable
    secret: ObjectKey
    data_key: str | None = None
    managed: bool = False
    renew_request: str = ""
    verify: bool = False
    kind: str = POLICY_KIND
    shape: Shape | None = None
    fingerprint: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Once, when the policy is read: each rotation asks for it several times. The class is frozen, hence this way.
        object.__setattr__(self, "fingerprint", fingerprint(self.source, self.shape.name if self.shape else ""))

    @property
    def owner(self) -> Owner:
        """See ``Policy``."""
        return Owner(self.api_version, self.key.name, self.uid, self.kind)

    def data(self, credential: Credential) -> Mapping[str, Sensitive]:
        """Return what the Secret is to hold of a credential."""
        if self.shape is None:
            return credential.secret_data(self.data_key)
        value = credential.secret_data(None)[self.source.kind.data_key]
        return self.shape.data(self.source.fields(value))


def fingerprint(source: Source, shape: str = "") -> str:
    """Hash what a credential depends on, in 16 hexadecimal digits.

    What a client proves itself by is no part of it: a new secret for the same client leaves a good credential good.
    Where a key file lies is: another file is another account's, most likely.
    """
    facts: dict[str, Any] = asdict(cast("Any", source))
    # What a client proves itself by is no part: a new secret of the same client gives the same credential, and its
    # rotation must not rotate all policies that use it.
    facts.pop("client_secret", None)
    for proof in ("client_secret", "assertion"):
        facts.get("oidc", {}).pop(proof, None)
    # What is left empty is no fact: a release that lets more be said does not rotate what says nothing of it.
    named = {"provider": source.provider, **{name: fact for name, fact in facts.items() if fact != ()}}
    # A Secret of another shape is of no use to its readers, however fresh it is.
    named |= {"shape": shape} if shape else {}
    return hashlib.sha256(json.dumps(named, sort_keys=True, default=str).encode()).hexdigest()[:16]


def generated_secret(policy: ObjectKey) -> ObjectKey:
    """Name the Secret that the gateway reads for a policy that is rotated (the gateway's own naming rule)."""
    # ``GetBSPSecretName`` of ``internal/controller/rotators``.
    return ObjectKey(policy.namespace, f"ai-eg-bsp-{policy.name}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one field of one object."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


@dataclass(frozen=True, slots=True)
class InvalidPolicy:
    """A BackendSecurityPolicy that cannot work as written, with everything that is wrong with it."""

    key: ObjectKey
    origin: str
    problems: tuple[Problem, ...]
    provider: str = "unknown"


@dataclass(frozen=True, slots=True)
class SubjectToken:
    """The issuer's token that is exchanged at the vendor. Times are aware UTC; ``claims`` are read, never trusted.

    ``warnings``: what was odd about the answer that it came with.
    """

    token: Sensitive
    expires_at: datetime
    claims: Mapping[str, object]
    warnings: tuple[str, ...] = ()


class Credential(ABC):
    """What a vendor gave. Times are aware UTC; each provider has a class of its own."""

    __slots__ = ()

    @property
    @abstractmethod
    def issued_at(self) -> datetime:
        """When its life began, by our clock."""

    @property
    @abstractmethod
    def expires_at(self) -> datetime:
        """When the vendor stops taking it."""

    @property
    @abstractmethod
    def request_id(self) -> str | None:
        """The vendor's id of the request, for its support; None where it sent none."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """What it is, for people, with nothing secret: ``access key ASIA…``."""

    @abstractmethod
    def secret_data(self, data_key: str | None) -> Mapping[str, Sensitive]:
        """Return the values of the Secret that the gateway reads, by key.

        Args:
            data_key: Where the gateway reads the credential; None: where its own rotator would write it.
        """
