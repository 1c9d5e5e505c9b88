"""Plain client credentials: the issuer's access token itself is the credential."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.providers.bearer import BearerProvider, bearer_form
from credrotator.providers.client_credentials.policy import ClientCredentialsBlock, read_block
from credrotator.providers.client_credentials.source import ClientCredentials

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.core.model import ObjectKey, Rotatable
    from credrotator.exchange.vendors import Vendor, VendorContext


class PlainClientCredentials(BearerProvider):
    """See ``Provider``."""

    name = "client-credentials"
    sources = (ClientCredentials,)
    # ``oidc`` stands in the block itself: nothing is exchanged, so an ``oidcExchangeToken`` around it would say
    # something else.
    managed = bearer_form("client-credentials", ClientCredentialsBlock, read_block, rotatable="oidc")
    advice_member = ""
    advice_title = ""

    def vendor(self, context: VendorContext) -> Vendor:
        """See ``Provider``."""
        from credrotator.providers.client_credentials.issuers_token import IssuersToken  # noqa: PLC0415 - when needed

        return IssuersToken(context)

    def advise(
        self,
        policy: ObjectKey,  # noqa: ARG002 - whoever verifies the token is not known
        source: Rotatable,  # noqa: ARG002
        claims: Mapping[str, object],  # noqa: ARG002
    ) -> Mapping[str, object] | None:
        """See ``Provider``: there is nobody to trust it who could be told."""
        return None
