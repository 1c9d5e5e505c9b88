"""What ``credrotator.io/anthropic-credentials`` may say. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from credrotator.policies.schema import OidcExchange, OwnBlock, Text, matching
from credrotator.providers.anthropic.source import AnthropicFederation

if TYPE_CHECKING:
    from credrotator.policies.reader import Reading

# IDs of Anthropic's objects say by their prefix what they are, so one in the wrong field is found before any request.
RULE = matching(re.compile(r"fdrl_[0-9A-Za-z]{1,64}"), "a federation rule's ID, fdrl_…")
ORGANIZATION = matching(
    re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"), "an organization's ID, which is a UUID"
)
SERVICE_ACCOUNT = matching(re.compile(r"svac_[0-9A-Za-z]{1,64}"), "a service account's ID, svac_…")
WORKSPACE = matching(re.compile(r"wrkspc_[0-9A-Za-z]{1,64}|default"), "a workspace's ID, wrkspc_…, or default")


class AnthropicCredentials(OwnBlock):
    """A federation rule, and for whom it gives a token."""

    federation_rule_id: Annotated[Text, RULE]
    organization_id: Annotated[Text, ORGANIZATION]
    service_account_id: Annotated[Text, SERVICE_ACCOUNT]
    # Optional: needed only where the rule covers several workspaces, and the API cannot choose.
    workspace_id: Annotated[Text, WORKSPACE] | None = None
    oidc_exchange_token: OidcExchange = OidcExchange()


def read_block(reading: Reading, block: AnthropicCredentials, path: str) -> AnthropicFederation:
    """Check what the block's fields mean together."""
    return AnthropicFederation(
        reading.token_source(block.oidc_exchange_token, f"{path}.oidcExchangeToken"),
        block.federation_rule_id,
        block.organization_id,
        block.service_account_id,
        block.workspace_id,
    )
