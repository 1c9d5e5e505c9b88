"""The nouns: policies, what they ask for, what comes out. Frozen data, no I/O, no clock.

A provider is a member of :data:`Source` (what a policy asks for) and of :data:`Credential` (what the vendor gives);
mypy then names every ``match`` that needs a branch for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta


class Sensitive:
    """A secret text that shows itself only to :meth:`reveal`.

    NOTE: a plain slotted class on purpose; ``dataclasses.asdict`` would open a dataclass.
    """

    __slots__ = ("_text",)
    _held: ClassVar[dict[int, str]] = {}
    """The text of each one that is alive, for whoever has to keep them out of an output."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._held[id(self)] = text

    def __del__(self) -> None:
        self._held.pop(id(self), None)

    @classmethod
    def held(cls) -> set[str]:
        """Return the texts of all secrets that are alive at this moment."""
        # NOTE: copied in one step; other threads make and drop secrets meanwhile.
        return set(cls._held.copy().values())

    def reveal(self) -> str:
        """Return the secret itself; the caller puts it on the wire or into the Secret and nowhere else."""
        return self._text

    def __repr__(self) -> str:
        return "Sensitive(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sensitive) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, object]) -> Self:
        # NOTE: it never changes, and ``dataclasses.asdict`` copies what it does not know.
        return self

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a secret is not pickled")


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
    return ObjectKey(namespace, name if kind == "AIServiceBackend" else f"{kind}/{name}")


@dataclass(frozen=True, slots=True)
class SecretKeyRef:
    """One key of one Secret, and the field of the policy that names it (for messages)."""

    secret: ObjectKey
    key: str
    path: str


@dataclass(frozen=True, slots=True)
class OidcClient:
    """The client-credentials request that a policy asks for (RFC 6749 §4.4; RFC 8707 for ``resources``).

    ``token_endpoint`` set means: no discovery. ``audience`` is sent as the ``audience`` parameter.
    """

    issuer: str
    client_id: str | SecretKeyRef
    client_secret: SecretKeyRef
    token_endpoint: str | None = None
    scopes: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    audience: str | None = None
    subject_token: Literal["access_token", "id_token"] = "access_token"


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A token that somebody keeps fresh in a file, by the name under which the operator allows it.

    ``audience``: whom the token has to be for, if the policy says so.
    """

    name: str
    audience: str | None = None


TokenSource = OidcClient | TokenFile
"""Where a subject token comes from."""


@dataclass(frozen=True, slots=True)
class AwsOidc:
    """AWS STS AssumeRoleWithWebIdentity with the issuer's token."""

    provider: ClassVar[str] = "aws-oidc"
    oidc: TokenSource
    role_arn: str
    region: str
    duration: timedelta | None = None


@dataclass(frozen=True, slots=True)
class EntraApp:
    """The application in Microsoft Entra that a credential speaks for, and where its authority is."""

    tenant_id: str
    client_id: str
    authority: str
    scope: str


@dataclass(frozen=True, slots=True)
class AzureOidc:
    """Entra client credentials, with the issuer's token as federated client assertion (RFC 7523 §2.2)."""

    provider: ClassVar[str] = "azure-oidc"
    oidc: TokenSource
    app: EntraApp


@dataclass(frozen=True, slots=True)
class AzureClientSecret:
    """Entra client credentials, with a client secret."""

    provider: ClassVar[str] = "azure-client-secret"
    app: EntraApp
    client_secret: SecretKeyRef


@dataclass(frozen=True, slots=True)
class GcpPool:
    """A provider in a workload identity pool of Google Cloud; ``project`` is the pool's project, by its number."""

    project: str
    pool: str
    provider: str

    @property
    def audience(self) -> str:
        """Name the provider as Google's STS wants it: the full resource name."""
        return f"//iam.googleapis.com/{self.resource}/providers/{self.provider}"

    @property
    def resource(self) -> str:
        """Name the pool, as principals of it are named."""
        return f"projects/{self.project}/locations/global/workloadIdentityPools/{self.pool}"


@dataclass(frozen=True, slots=True)
class GcpWorkloadIdentity:
    """Google's token exchange (RFC 8693) with the issuer's token, then the impersonation of a service account, if any.

    ``project`` and ``region`` are where the gateway calls Vertex AI; ``service_account`` is an e-mail address.
    """

    provider: ClassVar[str] = "gcp-workload-identity"
    oidc: TokenSource
    pool: GcpPool
    project: str
    region: str
    service_account: str | None = None
    duration: timedelta | None = None


@dataclass(frozen=True, slots=True)
class GcpServiceAccount:
    """A token for a Google Cloud service account, by a key of it (RFC 7523 §2.1)."""

    provider: ClassVar[str] = "gcp-service-account"
    key_file: SecretKeyRef


@dataclass(frozen=True, slots=True)
class Static:
    """Nothing to rotate: a key or file that a person put there, or (without a Secret) the SDK's default chain."""

    provider: str
    secret: SecretKeyRef | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class Unsupported(Static):
    """What a newer gateway may know: nothing is done with it, and nothing is wrong with it."""


Rotatable = AwsOidc | AzureOidc | AzureClientSecret | GcpWorkloadIdentity | GcpServiceAccount
Source = Rotatable | Static


@dataclass(frozen=True, slots=True)
class Owner:
    """The policy that a Secret belongs to, as an owner reference names it."""

    api_version: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Policy:
    """A valid BackendSecurityPolicy.

    Attributes:
        uid: The object's UID; for a manifest that has none, its key.
        origin: Where it was read (a file, or the API server).
        secret: The Secret that carries the credential, if there is one.
        targets: Backends that the policy itself names (``targetRefs``, v1.x).
        warnings: Oddities that do not stop it.
        data_key: Key of the Secret that holds the credential, where it is not the gateway's own choice.
        managed: The gateway sees a static policy; what to do stands in an annotation (``forms.py``).
    """

    key: ObjectKey
    source: Source
    uid: str
    api_version: str
    origin: str
    secret: ObjectKey | None
    targets: tuple[ObjectKey, ...] = ()
    warnings: tuple[str, ...] = ()
    data_key: str | None = None
    managed: bool = False

    @property
    def provider(self) -> str:
        """Name the way in which the policy's credential comes about."""
        return self.source.provider

    @property
    def owner(self) -> Owner:
        """Name the policy as the owner of its Secret."""
        return Owner(self.api_version, self.key.name, self.uid)


def generated_secret(policy: ObjectKey) -> ObjectKey:
    """Name the Secret that the gateway reads for a policy that is rotated (the gateway's own naming rule)."""
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
    """The issuer's token that is exchanged at the vendor. Times are aware UTC; ``claims`` are read, never trusted."""

    token: Sensitive
    expires_at: datetime
    claims: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class AwsCredential:
    """Temporary security credentials of AWS STS."""

    access_key_id: str
    secret_access_key: Sensitive
    session_token: Sensitive
    region: str
    issued_at: datetime
    expires_at: datetime
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class AzureToken:
    """An access token of Microsoft Entra."""

    token: Sensitive
    issued_at: datetime
    expires_at: datetime
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class GcpToken:
    """An access token of Google Cloud. ``project`` and ``region`` only where the gateway's rotator publishes them."""

    token: Sensitive
    issued_at: datetime
    expires_at: datetime
    request_id: str | None = None
    project: str | None = None
    region: str | None = None


Credential = AwsCredential | AzureToken | GcpToken


@dataclass(frozen=True, slots=True)
class SecretDocument:
    """What a Secret holds, whoever stores it: data, and the annotations that describe it. Written as a whole."""

    key: ObjectKey
    data: Mapping[str, Sensitive]
    annotations: Mapping[str, str]
    owner: Owner | None = None


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A Secret as read, with the version that a later write must name (optimistic concurrency)."""

    document: SecretDocument
    version: str


@dataclass(frozen=True, slots=True)
class Published:
    """A published credential, as far as planning cares. ``issued_at`` and ``fingerprint`` are None when adopted."""

    expires_at: datetime
    issued_at: datetime | None
    fingerprint: str | None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A published Secret that cannot be used as it is, and why."""

    why: str


Action = Literal["rotated", "kept", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A RotationError, flattened for people and machines."""

    kind: Literal["transient", "denied", "policy"]
    reason: str
    message: str
    hint: str
    retry_after: timedelta | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one pass did for one policy."""

    policy: ObjectKey
    provider: str
    action: Action
    reason: str
    secret: ObjectKey | None = None
    expires_at: datetime | None = None
    renew_at: datetime | None = None
    error: Failure | None = None
    warnings: tuple[str, ...] = field(default=(), compare=False)
