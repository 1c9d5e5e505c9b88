"""Any OAuth token endpoint that takes a subject token: RFC 8693 or RFC 7523."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.claims import audiences
from credrotator.core.errors import printable
from credrotator.providers.bearer import BearerProvider, bearer_form
from credrotator.providers.provider import SandboxServer
from credrotator.providers.token_exchange.policy import TokenExchangeBlock, read_block
from credrotator.providers.token_exchange.source import TokenExchange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.core.model import ObjectKey, Rotatable
    from credrotator.exchange.vendors import Vendor, VendorContext


class AnyTokenExchange(BearerProvider):
    """See ``Provider``."""

    name = "token-exchange"
    sources = (TokenExchange,)
    managed = bearer_form("token-exchange", TokenExchangeBlock, read_block)
    sandbox = SandboxServer("exchange", "the token exchange", 9449)
    advice_member = "tokenExchange"
    advice_title = "what the token endpoint has to trust"
    console = "where the token endpoint is set up"

    def vendor(self, context: VendorContext) -> Vendor:
        """See ``Provider``."""
        from credrotator.providers.token_exchange.any_endpoint import AnyTokenEndpoint  # noqa: PLC0415 - when needed

        return AnyTokenEndpoint(context)

    def advise(
        self,
        policy: ObjectKey,  # noqa: ARG002 - nothing there is named after it
        source: Rotatable,
        claims: Mapping[str, object],
    ) -> Mapping[str, object] | None:
        """See ``Provider``."""
        if not isinstance(source, TokenExchange):
            return None
        return {
            "issuer": printable(claims.get("iss", "")),
            "audiences": audiences(claims),
            "subject": printable(claims.get("sub", "")),
        }
