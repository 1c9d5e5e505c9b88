"""Anthropic's API: an access token by workload identity federation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.claims import stated_audience
from credrotator.core.errors import printable
from credrotator.providers.anthropic.policy import AnthropicCredentials, read_block
from credrotator.providers.anthropic.source import AnthropicFederation
from credrotator.providers.bearer import BearerProvider, bearer_form
from credrotator.providers.provider import SandboxServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.core.model import ObjectKey, Rotatable
    from credrotator.exchange.vendors import Vendor, VendorContext


class Anthropic(BearerProvider):
    """See ``Provider``."""

    name = "anthropic"
    sources = (AnthropicFederation,)
    managed = bearer_form(
        "anthropic-credentials",
        AnthropicCredentials,
        read_block,
        # Requests with such a token need it beside Authorization. The gateway sets no header for type APIKey beside the
        # key, so the backend has to (see ``header_mutation``).
        headers={"anthropic-beta": "oauth-2025-04-20"},
    )
    sandbox = SandboxServer("anthropic", "Anthropic", 9447)
    advice_member = "anthropicFederation"
    advice_title = "the federation issuer and rule that fit this token"
    console = "in the Claude Console, under Workload identity"

    def vendor(self, context: VendorContext) -> Vendor:
        """See ``Provider``."""
        from credrotator.providers.anthropic.federation import AnthropicTokenEndpoint  # noqa: PLC0415 - when needed

        return AnthropicTokenEndpoint(context)

    def advise(
        self,
        policy: ObjectKey,  # noqa: ARG002 - nothing there is named after it
        source: Rotatable,
        claims: Mapping[str, object],
    ) -> Mapping[str, object] | None:
        """See ``Provider``."""
        if not isinstance(source, AnthropicFederation):
            return None
        return {
            "issuer": {"issuer_url": printable(claims.get("iss", "")), "jwks": {"type": "discovery"}},
            "rule": {
                "id": source.rule,
                "match": {
                    "subject_prefix": printable(claims.get("sub", "")),
                    "audience": stated_audience(claims),
                },
                # The least that the gateway's requests need; a rule may grant more, and then a leaked token could do
                # more.
                "oauth_scope": "workspace:inference",
                "target": {"type": "service_account", "service_account_id": source.service_account},
                "workspace_id": source.workspace,
            },
        }
