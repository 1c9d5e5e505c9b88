"""What Google Cloud's policies ask for, and the tokens that Google gives. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from credrotator.core.model import Credential, Rotatable, SourceKind
from credrotator.core.sensitive import Sensitive

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from credrotator.core.model import SecretKeyRef, TokenSource

DATA_KEY, PROJECT_KEY, REGION_KEY = "gcpAccessToken", "projectName", "region"
# The gateway indexes a policy with a key file under that Secret, and one with workload identity under nothing at all.
# Read by gcloud.
VARIABLES = (("token", "CLOUDSDK_AUTH_ACCESS_TOKEN"), ("project", "GOOGLE_CLOUD_PROJECT"))
WORKLOAD_IDENTITY = SourceKind(
    provider="gcp-workload-identity",
    data_key=DATA_KEY,
    heard_by_name=False,
    overriding_variables=(),
    variables=VARIABLES,
)
SERVICE_ACCOUNT = SourceKind(
    provider="gcp-service-account",
    data_key=DATA_KEY,
    heard_by_name=False,
    overriding_variables=(),
    variables=VARIABLES,
)


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


class _GoogleSource(Rotatable):
    """What both ways to a token of Google have in common."""

    __slots__ = ()

    def unusable(self, value: Sensitive) -> str | None:  # noqa: ARG002 - a token is opaque to its client
        """See ``Rotatable``."""
        return None

    def own_expiry(self, value: Sensitive) -> datetime | None:  # noqa: ARG002 - as above
        """See ``Rotatable``."""
        return None


@dataclass(frozen=True, slots=True)
class GcpWorkloadIdentity(_GoogleSource):
    """Google's token exchange (RFC 8693) with the issuer's token, then the impersonation of a service account, if any.

    ``project`` and ``region`` are where the gateway calls Vertex AI; ``service_account`` is an e-mail address.
    """

    oidc: TokenSource
    pool: GcpPool
    project: str
    region: str
    service_account: str | None = None
    duration: timedelta | None = None

    @property
    def kind(self) -> SourceKind:
        """See ``Rotatable``."""
        return WORKLOAD_IDENTITY

    @property
    def token_source(self) -> TokenSource:
        """See ``Rotatable``."""
        return self.oidc

    @property
    def own_references(self) -> tuple[SecretKeyRef, ...]:
        """See ``Rotatable``."""
        return ()

    def fields(self, value: Sensitive) -> Mapping[str, Sensitive]:
        """See ``Rotatable``: the token, and where it is used."""
        where = {"project": Sensitive(self.project), "region": Sensitive(self.region)}
        return {**Rotatable.fields(self, value), **where}

    @property
    def identity(self) -> str:
        """See ``Rotatable``: the service account, or whoever the pool lets in."""
        return self.service_account or f"principals of {self.pool.resource}"

    @property
    def asked(self) -> str:
        """See ``Rotatable``: Google's STS, for the pool."""
        return f"google sts {self.pool.resource}"


@dataclass(frozen=True, slots=True)
class GcpServiceAccount(_GoogleSource):
    """A token for a Google Cloud service account, by a key of it (RFC 7523 §2.1)."""

    key_file: SecretKeyRef

    @property
    def kind(self) -> SourceKind:
        """See ``Rotatable``."""
        return SERVICE_ACCOUNT

    @property
    def token_source(self) -> None:
        """See ``Rotatable``."""

    @property
    def own_references(self) -> tuple[SecretKeyRef, ...]:
        """See ``Rotatable``."""
        return (self.key_file,)

    @property
    def identity(self) -> str:
        """See ``Rotatable``: which account it is stands in the key file only."""
        return f"the account of Secret {self.key_file.secret}"

    @property
    def asked(self) -> str:
        """See ``Rotatable``: Google's token endpoint, for the key file's account."""
        return f"google token {self.key_file.secret}"


@dataclass(frozen=True, slots=True)
class GcpToken(Credential):
    """An access token of Google Cloud. ``project`` and ``region`` only where the gateway's rotator publishes them."""

    token: Sensitive
    issued_at: datetime
    expires_at: datetime
    request_id: str | None = None
    project: str | None = None
    region: str | None = None

    @property
    def summary(self) -> str:
        """See ``Credential``."""
        return "access token"

    def secret_data(self, data_key: str | None) -> Mapping[str, Sensitive]:
        """See ``Credential``; project and region only in the gateway's own form."""
        # In an APIKey's Secret the gateway reads one key; others in it would be data that nobody asked for.
        if data_key is not None:
            return {data_key: self.token}
        named = {PROJECT_KEY: self.project, REGION_KEY: self.region}
        return {DATA_KEY: self.token, **{name: Sensitive(value) for name, value in named.items() if value}}
