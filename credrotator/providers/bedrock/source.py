"""What policies for a short-term Bedrock API key ask for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from credrotator.providers.aws.source import AwsOidc, ChainedRole
from credrotator.providers.bearer import BearerSource, bearer_kind

if TYPE_CHECKING:
    from datetime import timedelta

    from credrotator.core.model import SourceKind, TokenSource

KIND = bearer_kind("bedrock-api-key")


@dataclass(frozen=True, slots=True)
class BedrockApiKey(BearerSource):
    """A key that is made with the credential of a role, which is assumed by web identity, or of the last of a chain.

    ``duration`` None: as long as the role's credential lives by itself.
    """

    oidc: TokenSource
    role_arn: str
    region: str
    duration: timedelta | None = None
    chain: tuple[ChainedRole, ...] = ()

    @property
    def kind(self) -> SourceKind:
        """See ``Rotatable``."""
        return KIND

    @property
    # Made anew at each call: a field of its own would be part of the fingerprint a second time.
    def role(self) -> AwsOidc:
        """The role's credential, with which the key is made."""
        return AwsOidc(self.oidc, self.role_arn, self.region, self.duration, self.chain)

    @property
    def identity(self) -> str:
        """See ``Rotatable``: the role, of several the last."""
        return self.role.identity

    @property
    def asked(self) -> str:
        """See ``Rotatable``: STS; the key is made without asking anybody."""
        return self.role.asked
