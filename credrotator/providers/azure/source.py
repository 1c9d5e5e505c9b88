"""What Azure policies ask for, and the tokens that Microsoft Entra gives. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from credrotator.core.claims import claim_time, read_claims
from credrotator.core.model import Credential, Rotatable, SourceKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from credrotator.core.model import SecretKeyRef, TokenSource
    from credrotator.core.sensitive import Sensitive

DATA_KEY = "azureAccessToken"
# Read by the OpenAI SDK's client for Azure.
VARIABLES = (("token", "AZURE_OPENAI_AD_TOKEN"),)
OIDC = SourceKind(
    provider="azure-oidc", data_key=DATA_KEY, heard_by_name=True, overriding_variables=(), variables=VARIABLES
)
# The gateway indexes a policy with a client secret under that Secret.
CLIENT_SECRET = SourceKind(
    provider="azure-client-secret",
    data_key=DATA_KEY,
    heard_by_name=False,
    overriding_variables=(),
    variables=VARIABLES,
)


@dataclass(frozen=True, slots=True)
class EntraApp:
    """The application in Microsoft Entra that a credential speaks for, and where its authority is."""

    tenant_id: str
    client_id: str
    authority: str
    scope: str


class _EntraSource(Rotatable):
    """What both ways to a token of Entra have in common."""

    __slots__ = ()
    app: EntraApp

    @property
    def identity(self) -> str:
        """See ``Rotatable``: the application and its tenant."""
        return f"{self.app.client_id} in {self.app.tenant_id}"

    @property
    def asked(self) -> str:
        """See ``Rotatable``: the tenant at its authority, for the application."""
        # The application is part of it: where one is refused or throttled, others of the tenant go on.
        return f"entra {self.app.authority}/{self.app.tenant_id} {self.app.client_id}"

    def unusable(self, value: Sensitive) -> str | None:  # noqa: ARG002 - a token is opaque to its client
        """See ``Rotatable``."""
        return None

    def own_expiry(self, value: Sensitive) -> datetime | None:
        """See ``Rotatable``: an access token of Entra is a JWT, in most cases."""
        return claim_time(read_claims(value), "exp")


@dataclass(frozen=True, slots=True)
class AzureOidc(_EntraSource):
    """Entra client credentials, with the issuer's token as federated client assertion (RFC 7523 §2.2)."""

    oidc: TokenSource
    app: EntraApp

    @property
    def kind(self) -> SourceKind:
        """See ``Rotatable``."""
        return OIDC

    @property
    def token_source(self) -> TokenSource:
        """See ``Rotatable``."""
        return self.oidc

    @property
    def own_references(self) -> tuple[SecretKeyRef, ...]:
        """See ``Rotatable``."""
        return ()


@dataclass(frozen=True, slots=True)
class AzureClientSecret(_EntraSource):
    """Entra client credentials, with a client secret."""

    app: EntraApp
    client_secret: SecretKeyRef

    @property
    def kind(self) -> SourceKind:
        """See ``Rotatable``."""
        return CLIENT_SECRET

    @property
    def token_source(self) -> None:
        """See ``Rotatable``."""

    @property
    def own_references(self) -> tuple[SecretKeyRef, ...]:
        """See ``Rotatable``."""
        return (self.client_secret,)


@dataclass(frozen=True, slots=True)
class AzureToken(Credential):
    """An access token of Microsoft Entra."""

    token: Sensitive
    issued_at: datetime
    expires_at: datetime
    request_id: str | None = None

    @property
    def summary(self) -> str:
        """See ``Credential``."""
        return "access token"

    def secret_data(self, data_key: str | None) -> Mapping[str, Sensitive]:
        """See ``Credential``: the token, and nothing else."""
        return {data_key or DATA_KEY: self.token}
