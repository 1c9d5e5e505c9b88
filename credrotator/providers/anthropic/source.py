"""What policies for Anthropic's API ask for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from credrotator.core.model import SubjectUse
from credrotator.providers.bearer import BearerSource, bearer_kind

if TYPE_CHECKING:
    from credrotator.core.model import SourceKind, TokenSource

KIND = bearer_kind("anthropic-oidc")


@dataclass(frozen=True, slots=True)
class AnthropicFederation(BearerSource):
    """Workload identity federation: the issuer's token for a service account of an organization.

    ``workspace`` None: the rule covers one only.
    """

    oidc: TokenSource
    rule: str
    organization: str
    service_account: str
    workspace: str | None = None

    @property
    def kind(self) -> SourceKind:
        """See ``Rotatable``."""
        return KIND

    @property
    def subject_use(self) -> SubjectUse:
        """See ``Rotatable``: a token's ``jti`` is taken once."""
        # A shared token would work for one policy, and be refused as a replay for all others that use the same client.
        return SubjectUse.ONCE

    @property
    def identity(self) -> str:
        """See ``Rotatable``."""
        return self.service_account

    @property
    def asked(self) -> str:
        """See ``Rotatable``: the token endpoint, for the organization."""
        # Without the address, which is the operator's and the same for all policies.
        return f"anthropic token {self.organization}"
