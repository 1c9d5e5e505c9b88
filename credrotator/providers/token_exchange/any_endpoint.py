"""A token endpoint that a policy names: it gets the subject token, and its access token is the credential.

Owns the request. Where it may go, the operator's rules for issuers say; what it answers is tenants' word, and counts
for nothing beyond the policy. Source: RFC 8693 §2; RFC 7523 §2.1; RFC 6749 §5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.circuit_key import CircuitKey, client_account
from credrotator.core.claims import read_claims
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.credential_checks import check_claims
from credrotator.exchange.grants import JWT_BEARER, TOKEN_EXCHANGE, TOKEN_TYPE, AccessToken, GrantEndpoint, TokenGrant
from credrotator.exchange.http.endpoint import Endpoint
from credrotator.exchange.vendors import ExchangeSteps, NetworkEndpoint, Vendor, VendorContext
from credrotator.providers.token_exchange.source import TokenExchange

if TYPE_CHECKING:
    from credrotator.core.model import Credential, Rotatable, SubjectToken

ENDPOINT = Endpoint(
    "TokenExchange", "the token endpoint", address_setting="tokenEndpoint of the policy", of_tenants=True
)
HINT = (
    "see the endpoint's log; run credrotator check, which prints the issuer, audience and subject that it has to trust"
)
HINTS = {
    "invalid_target": "correct audience or resources, or let the endpoint give tokens for them",
    "invalid_scope": "correct scopes",
    "invalid_client": "the endpoint wants to know the client: name it under parameters (client_id), if that is enough",
    "unsupported_grant_type": "correct grant, or see that this is the right tokenEndpoint",
    "invalid_request": "correct encoding, subjectTokenType and parameters by what the endpoint asks for",
}
# Not lenient, unlike vendors of whom it is known that they leave token_type out: what anybody's endpoint answers is
# checked by RFC 6749 §5.1 to the letter.
TOKENS = GrantEndpoint(ENDPOINT, HINT, HINTS)


class AnyTokenEndpoint(Vendor):
    """Exchanges subject tokens at token endpoints of policies; safe to share between threads."""

    def __init__(self, context: VendorContext) -> None:
        self._clock = context.clock
        self._named = context.named

    def credential(self, source: Rotatable, steps: ExchangeSteps) -> AccessToken:
        """See ``Vendor``."""
        assert isinstance(source, TokenExchange)  # noqa: S101 - the only source of this provider
        # First of all: a token that may not be sent there is not to be asked for.
        self.endpoint(source)

        # The issuer vouches for the client by then, so it is who asks there; nobody's namespace pays for another's.
        account = client_account(steps.policy.namespace, Sensitive(repr(source.token_source)))
        asked = CircuitKey.of_url("tokenexchange", source.token_endpoint, account)
        return steps.exchange(asked, lambda token: self.exchange(source, token))

    def verify(self, source: Rotatable, credential: Credential, steps: ExchangeSteps) -> None:  # noqa: ARG002 - no call
        """See ``Vendor``: what a token says of itself that is a JWT; where an opaque one is good, nobody says."""
        assert isinstance(source, TokenExchange)  # noqa: S101 - the only source of this provider
        assert isinstance(credential, AccessToken)  # noqa: S101 - what it gave
        wanted = (*((source.audience,) if source.audience else ()), *source.resources)
        check_claims(read_claims(credential.token) or {}, self._clock, wanted)

    def endpoint(self, source: Rotatable) -> NetworkEndpoint:
        """See ``Vendor``."""
        assert isinstance(source, TokenExchange)  # noqa: S101 - the only source of this provider
        transport = self._named(ENDPOINT, source.token_endpoint, source.token_source)
        return NetworkEndpoint("tokenexchange", ENDPOINT.title, source.token_endpoint, transport)

    def exchange(self, source: TokenExchange, token: SubjectToken) -> AccessToken:
        """Exchange a subject token.

        Raises:
            RotationError: With the endpoint's own code in the reason where it sent one.
        """
        endpoint = self.endpoint(source)
        grant = TokenGrant(source.token_endpoint, fields_of(source, token), source.identity, encoding=source.encoding)
        return TOKENS.ask(endpoint.transport, grant, token.token, self._clock)


def fields_of(source: TokenExchange, token: SubjectToken) -> dict[str, str | list[str]]:
    """Return what the endpoint is sent (RFC 8693 §2.1, RFC 7523 §2.1)."""
    # First, so that nothing that a tenant adds can replace the grant or the token; the names are refused when the
    # policy is read, too.
    fields: dict[str, str | list[str]] = dict(source.parameters)
    if source.grant == "jwt-bearer":
        fields |= {"grant_type": JWT_BEARER, "assertion": token.token.reveal()}
    else:
        fields |= {
            "grant_type": TOKEN_EXCHANGE,
            "subject_token": token.token.reveal(),
            "subject_token_type": _token_type(source.subject_token_type or "jwt"),
        }
    if source.requested_token_type:
        fields["requested_token_type"] = _token_type(source.requested_token_type)
    if source.audience:
        fields["audience"] = source.audience
    # A form repeats the parameter (RFC 8707 §2); in JSON several are a list, and one is a text, as for every other
    # field.
    if source.resources:
        fields["resource"] = list(source.resources) if len(source.resources) > 1 else source.resources[0]
    if source.scopes:
        fields["scope"] = " ".join(source.scopes)
    return fields


def _token_type(name: str) -> str:
    # RFC 8693 §3: a name without a colon is one of the registered types; a URI is an endpoint's own.
    return name if ":" in name else TOKEN_TYPE + name
