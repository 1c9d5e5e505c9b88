"""What policies for OpenAI's API ask for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from credrotator.providers.bearer import BearerSource, bearer_kind

if TYPE_CHECKING:
    from credrotator.core.model import SourceKind, TokenSource

KIND = bearer_kind("openai-oidc")


@dataclass(frozen=True, slots=True)
class OpenAiWorkloadIdentity(BearerSource):
    """Workload identity: the issuer's token for a service account of a project."""

    oidc: TokenSource
    identity_provider: str
    service_account: str
    subject_token_type: Literal["jwt", "id_token"] = "jwt"

    @property
    def kind(self) -> SourceKind:
        """See ``Rotatable``."""
        return KIND

    @property
    def identity(self) -> str:
        """See ``Rotatable``."""
        return self.service_account

    @property
    def asked(self) -> str:
        """See ``Rotatable``: the token endpoint, for the identity provider."""
        return f"openai token {self.identity_provider}"
