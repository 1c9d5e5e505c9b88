"""No exchange: the issuer's token is the credential, and nobody else is asked.

The token may be opaque; that its type is Bearer and that its end is known, the issuer's side sees to.
Source: RFC 6749 §4.4, §5.1; RFC 6750 §2.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.claims import read_claims
from credrotator.exchange.credential_checks import check_claims
from credrotator.exchange.grants import AccessToken
from credrotator.exchange.vendors import ExchangeSteps, NetworkEndpoint, Vendor, VendorContext
from credrotator.providers.client_credentials.source import ClientCredentials

if TYPE_CHECKING:
    from credrotator.core.model import Credential, Rotatable


class IssuersToken(Vendor):
    """Publishes tokens of issuers; safe to share between threads."""

    def __init__(self, context: VendorContext) -> None:
        self._clock = context.clock
        self._issuer = context.issuer

    def credential(self, source: Rotatable, steps: ExchangeSteps) -> AccessToken:  # noqa: ARG002 - as the steps have it
        """See ``Vendor``."""
        issued_at = self._clock()
        token = steps.subject_token()
        # An answer's Date may have put the clock right meanwhile.
        return AccessToken(token.token, min(issued_at, self._clock()), token.expires_at)

    def verify(self, source: Rotatable, credential: Credential, steps: ExchangeSteps) -> None:  # noqa: ARG002 - no call
        """See ``Vendor``: what a token says of itself that is a JWT."""
        assert isinstance(source, ClientCredentials)  # noqa: S101 - the only source of this provider
        assert isinstance(credential, AccessToken)  # noqa: S101 - what it gave
        client = source.oidc
        wanted = (*((client.audience,) if client.audience else ()), *client.resources)
        check_claims(read_claims(credential.token) or {}, self._clock, wanted)

    def endpoint(self, source: Rotatable) -> NetworkEndpoint:
        """See ``Vendor``: the issuer."""
        assert isinstance(source, ClientCredentials)  # noqa: S101 - the only source of this provider
        return self._issuer(source.oidc)
