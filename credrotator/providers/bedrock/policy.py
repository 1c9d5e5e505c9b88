"""What ``credrotator.io/bedrock-api-key`` may say. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.policies.schema import AwsOidcExchange, OwnBlock, Region, Text
from credrotator.providers.aws.policy import read_role
from credrotator.providers.bedrock.source import BedrockApiKey

if TYPE_CHECKING:
    from credrotator.policies.reader import Reading


class BedrockApiKeyBlock(OwnBlock):
    """A region, and the role whose rights the key has."""

    region: Region
    # Optional, as for a role: then the key is good for as long as the role's session, at most twelve hours.
    duration: Text | None = None
    oidc_exchange_token: AwsOidcExchange


def read_block(reading: Reading, block: BedrockApiKeyBlock, path: str) -> BedrockApiKey:
    """Check what the block's fields mean together."""
    where = f"{path}.duration"
    duration = None if block.duration is None else reading.life(block.duration, where)
    exchanged = f"{path}.oidcExchangeToken"
    role = read_role(reading, block.region, block.oidc_exchange_token, exchanged, (where, duration))
    return BedrockApiKey(role.oidc, role.role_arn, role.region, role.duration, role.chain)
