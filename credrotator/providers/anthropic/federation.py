"""Anthropic's token endpoint: a subject token becomes an access token of a service account.

Owns Anthropic's side of an exchange. The request is the one of Anthropic's own SDK; tests compare the two.
Source: RFC 7523 §2.1; https://platform.claude.com/docs/en/manage-claude/workload-identity-federation
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.circuit_key import CircuitKey
from credrotator.core.claims import claim_time
from credrotator.core.errors import Denied
from credrotator.exchange.credential_checks import BearerApi
from credrotator.exchange.grants import JWT_BEARER, AccessToken, GrantEndpoint, TokenGrant
from credrotator.exchange.http.endpoint import Endpoint
from credrotator.exchange.operator_address import operator_address
from credrotator.exchange.vendors import ExchangeSteps, NetworkEndpoint, Vendor, VendorContext
from credrotator.providers.anthropic.source import AnthropicFederation

if TYPE_CHECKING:
    from credrotator.core.model import Credential, Rotatable, SubjectToken

# The variable is that of Anthropic's SDK: who has the API behind a proxy has it set already.
ENDPOINT = Endpoint("Anthropic", "Anthropic", get="models", address_setting="ANTHROPIC_BASE_URL")
BASE_URL, TOKEN_PATH, MODELS_PATH = "https://api.anthropic.com", "/v1/oauth/token", "/v1/models"
API_VERSION = "2023-06-01"
# Federation is a beta of the API: without both words of the header the endpoint does not know the grant. They are those
# of the official SDK (``lib/credentials``), with which a test compares the request.
BETA_HEADER, OAUTH_BETA = "anthropic-beta", "oauth-2025-04-20"
FEDERATION_BETA = "oidc-federation-2026-04-01"
# Anthropic's own limit. Checked here because its refusal (invalid_request) does not say that the size is the cause.
LONGEST_ASSERTION_BYTES = 16 * 1024
RULE_HINT = (
    "run credrotator check, which prints the issuer and the rule that fit the token; the console's page Workload "
    "identity lists each refused attempt with its cause"
)
# By ``error`` of RFC 6749 §5.2, and by ``error.type`` of Anthropic's other APIs: the endpoint has been seen to answer
# in either form.
HINTS = {
    "invalid_request": "correct federationRuleID, organizationID, serviceAccountID and workspaceID; a rule for several "
    "workspaces needs workspaceID",
    "invalid_request_error": "correct federationRuleID, organizationID, serviceAccountID and workspaceID; a rule for "
    "several workspaces needs workspaceID",
    "not_found_error": "correct federationRuleID, and see that the rule is not archived",
    "permission_error": "let the federation rule cover this service account and workspace",
}
TOKENS = GrantEndpoint(
    ENDPOINT, RULE_HINT, HINTS, status_page="see https://status.claude.com", request_id="request-id", lenient=True
)


class AnthropicTokenEndpoint(Vendor):
    """Gets access tokens of Anthropic's API; safe to share between threads.

    Raises:
        Denied: AnthropicConfig: ANTHROPIC_BASE_URL is no https address.
    """

    def __init__(self, context: VendorContext) -> None:
        self.transport = context.transport(ENDPOINT)
        base = operator_address(ENDPOINT, context.environment, BASE_URL)
        self.url, self._models = base + TOKEN_PATH, base + MODELS_PATH
        self._clock = context.clock

    def credential(self, source: Rotatable, steps: ExchangeSteps) -> AccessToken:
        """See ``Vendor``."""
        assert isinstance(source, AnthropicFederation)  # noqa: S101 - the only source of this provider
        # Whoever is limited there is one account of one organization; policies of others must not wait for it.
        asked = CircuitKey.of_url("anthropic", self.url, f"{source.organization}/{source.service_account}")
        return steps.exchange(asked, lambda token: self.exchange(source, token))

    def verify(self, source: Rotatable, credential: Credential, steps: ExchangeSteps) -> None:
        """See ``Vendor``: the list of models."""
        assert isinstance(source, AnthropicFederation)  # noqa: S101 - the only source of this provider
        assert isinstance(credential, AccessToken)  # noqa: S101 - what it gave
        asked = CircuitKey.of_url("anthropic", self._models, f"{source.organization}/{source.service_account}")
        headers = {BETA_HEADER: OAUTH_BETA, "anthropic-version": API_VERSION}
        api = BearerApi(ENDPOINT, self.transport, f"{self._models}?limit=1", headers)
        steps.ask(asked, lambda: api.show(credential.token, self._clock))

    def endpoint(self, source: Rotatable) -> NetworkEndpoint:  # noqa: ARG002 - one for all
        """See ``Vendor``."""
        return NetworkEndpoint("anthropic", ENDPOINT.title, self.url, self.transport)

    def exchange(self, source: AnthropicFederation, token: SubjectToken) -> AccessToken:
        """Exchange a subject token, which is used up by it.

        Raises:
            RotationError: With Anthropic's own code in the reason where it sent one.
        """
        _check(token)
        fields = {
            "grant_type": JWT_BEARER,
            "assertion": token.token.reveal(),
            "federation_rule_id": source.rule,
            "organization_id": source.organization,
            "service_account_id": source.service_account,
            # Left out and not null where there is none, as the SDK does it.
            **({"workspace_id": source.workspace} if source.workspace else {}),
        }
        headers = {BETA_HEADER: f"{OAUTH_BETA},{FEDERATION_BETA}"}
        whom = f"federation rule {source.rule}, service account {source.service_account}"
        return TOKENS.ask(self.transport, TokenGrant(self.url, fields, whom, headers), token.token, self._clock)


def _check(token: SubjectToken) -> None:
    """Refuse what Anthropic would.

    Raises:
        Denied: TokenTooLong or TokenWithoutIat.
    """
    size = len(token.token.reveal().encode())
    if size > LONGEST_ASSERTION_BYTES:
        message = f"the issuer's token has {size} bytes, and Anthropic takes {LONGEST_ASSERTION_BYTES} at most"
        hint = "have the issuer leave long claims, such as groups or roles, out of this client's tokens"
        raise Denied("TokenTooLong", message, hint=hint)
    # An issuer may leave iat out (RFC 7519 §4.1.6: it is optional); Anthropic measures the age of an assertion by it.
    if claim_time(token.claims, "iat") is None:
        message = "the issuer's token does not say when it was issued (iat), and Anthropic takes none without"
        raise Denied("TokenWithoutIat", message, hint="have the issuer put iat into this client's tokens")
