"""OpenAI's API: an access token by workload identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.claims import stated_audience
from credrotator.core.errors import printable
from credrotator.providers.bearer import BearerProvider, bearer_form
from credrotator.providers.openai.policy import OpenAiCredentials, read_block
from credrotator.providers.openai.source import OpenAiWorkloadIdentity
from credrotator.providers.provider import SandboxServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.core.model import ObjectKey, Rotatable
    from credrotator.exchange.vendors import Vendor, VendorContext


class OpenAi(BearerProvider):
    """See ``Provider``."""

    name = "openai"
    sources = (OpenAiWorkloadIdentity,)
    managed = bearer_form("openai-credentials", OpenAiCredentials, read_block)
    sandbox = SandboxServer("openai", "OpenAI", 9448)
    advice_member = "openaiWorkloadIdentity"
    advice_title = "the identity provider, and the mapping to its service account, that fit this token"
    console = "in OpenAI's organization settings, under Security, Workload Identity Provider"

    def vendor(self, context: VendorContext) -> Vendor:
        """See ``Provider``."""
        from credrotator.providers.openai.workload_identity import OpenAiTokenEndpoint  # noqa: PLC0415

        return OpenAiTokenEndpoint(context)

    def advise(
        self,
        policy: ObjectKey,  # noqa: ARG002 - nothing there is named after it
        source: Rotatable,
        claims: Mapping[str, object],
    ) -> Mapping[str, object] | None:
        """See ``Provider``."""
        if not isinstance(source, OpenAiWorkloadIdentity):
            return None
        return {
            "identity_provider": {
                "id": source.identity_provider,
                "issuer": printable(claims.get("iss", "")),
                "audience": stated_audience(claims),
                "verification": {"type": "discovery"},
            },
            "federation_rule": {
                # By subject, not by issuer alone: a rule without one would let in every client of the issuer.
                "attribute_matchers": {"sub": printable(claims.get("sub", ""))},
                "service_account_id": source.service_account,
            },
        }
