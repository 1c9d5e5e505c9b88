"""What policies ask for whose credential is the issuer's own token. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from credrotator.core.errors import printable
from credrotator.core.model import SecretKeyRef, SubjectUse
from credrotator.providers.bearer import BearerSource, bearer_kind

if TYPE_CHECKING:
    from credrotator.core.model import OidcClient, SourceKind

KIND = bearer_kind("client-credentials")


@dataclass(frozen=True, slots=True)
class ClientCredentials(BearerSource):
    """A token of the issuer, for who verifies tokens of this issuer by itself: own gateways, MCP servers."""

    oidc: OidcClient

    @property
    def kind(self) -> SourceKind:
        """See ``Rotatable``."""
        return KIND

    @property
    def token_source(self) -> OidcClient:
        """See ``Rotatable``."""
        return self.oidc

    @property
    def subject_use(self) -> SubjectUse:
        """See ``Rotatable``: it is published as it is."""
        # Never from the cache: a shared token would be old when it is published, and a renewal would publish it again.
        return SubjectUse.CREDENTIAL

    @property
    def identity(self) -> str:
        """See ``Rotatable``."""
        client = self.oidc.client_id
        return f"the client of Secret {client.secret}" if isinstance(client, SecretKeyRef) else printable(client, 80)

    @property
    def asked(self) -> str:
        """See ``Rotatable``: nobody but the issuer."""
        return f"issuer {self.oidc.issuer}"
