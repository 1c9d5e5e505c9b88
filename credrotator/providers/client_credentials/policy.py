"""What ``credrotator.io/client-credentials`` may say. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.model import OidcClient
from credrotator.policies.annotations import annotation_path
from credrotator.policies.schema import Oidc, OidcExchange, OwnBlock, Text
from credrotator.policies.token_sources import IN_PLACE
from credrotator.providers.client_credentials.source import ClientCredentials

if TYPE_CHECKING:
    from credrotator.policies.reader import Reading


class ClientCredentialsBlock(OwnBlock):
    """An issuer and a client."""

    oidc: Oidc
    aud: Text | None = None


def read_block(reading: Reading, block: ClientCredentialsBlock, path: str) -> ClientCredentials:
    """Check what the block's fields mean together.

    NOTE: no token of another source will do. Whoever may write a policy may often read its Secret as well: the
    operator's token would be published there, for anybody to go elsewhere with it.
    """
    # A token file or a service account's token would be published as it is: the operator's token in a tenant's Secret.
    named = [name for name in IN_PLACE if name in reading.annotations]
    for name in named:
        reading.wrong(annotation_path(name), "the issuer's own token is the credential here; remove it")
    if named:
        # Never used: the reading has a problem, so it becomes an InvalidPolicy; something has to be returned all the
        # same.
        return ClientCredentials(OidcClient("", "", None))
    source = reading.token_source(OidcExchange(oidc=block.oidc, aud=block.aud), path)
    assert isinstance(source, OidcClient)  # noqa: S101 - nothing is named in its place
    return ClientCredentials(source)
