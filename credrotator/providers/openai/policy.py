"""What ``credrotator.io/openai-credentials`` may say. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from credrotator.policies.schema import OidcExchange, OwnBlock, Text, matching
from credrotator.providers.openai.source import OpenAiWorkloadIdentity

if TYPE_CHECKING:
    from credrotator.policies.reader import Reading

# No form of these IDs is known, so the pattern only keeps out what cannot be one.
ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")


class OpenAiCredentials(OwnBlock):
    """An identity provider as OpenAI knows it, and for whom it gives a token."""

    identity_provider_id: Annotated[Text, matching(ID, "the identity provider's ID in OpenAI's settings")]
    service_account_id: Annotated[Text, matching(ID, "the service account's ID in OpenAI's settings")]
    # Both names are for a JWT (RFC 8693 §3), and the endpoint knows no third.
    subject_token_type: Literal["jwt", "id_token"] = "jwt"
    oidc_exchange_token: OidcExchange = OidcExchange()


def read_block(reading: Reading, block: OpenAiCredentials, path: str) -> OpenAiWorkloadIdentity:
    """Check what the block's fields mean together."""
    return OpenAiWorkloadIdentity(
        reading.token_source(block.oidc_exchange_token, f"{path}.oidcExchangeToken"),
        block.identity_provider_id,
        block.service_account_id,
        block.subject_token_type,
    )
