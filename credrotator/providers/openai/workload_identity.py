"""OpenAI's token endpoint: a subject token becomes an access token of a service account.

Owns OpenAI's side of an exchange. The request is the one of OpenAI's own SDK; tests compare the two.
Source: RFC 8693 §2; https://developers.openai.com/api/docs/guides/workload-identity-federation
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from credrotator.core.circuit_key import CircuitKey
from credrotator.core.claims import claim_time
from credrotator.core.errors import Denied
from credrotator.exchange.credential_checks import BearerApi
from credrotator.exchange.grants import TOKEN_EXCHANGE, TOKEN_TYPE, AccessToken, GrantEndpoint, TokenGrant
from credrotator.exchange.http.endpoint import Endpoint
from credrotator.exchange.operator_address import operator_address
from credrotator.exchange.vendors import ExchangeSteps, NetworkEndpoint, Vendor, VendorContext
from credrotator.providers.openai.source import OpenAiWorkloadIdentity

if TYPE_CHECKING:
    from credrotator.core.model import Credential, Rotatable, SubjectToken

ENDPOINT = Endpoint("OpenAi", "OpenAI", address_setting="OPENAI_TOKEN_EXCHANGE_URL")
API = Endpoint("OpenAi", "OpenAI", get="models", address_setting="OPENAI_BASE_URL")
"""Where its tokens are used; the variable is that of OpenAI's own SDK."""
API_URL, MODELS_PATH = "https://api.openai.com/v1", "/models"
TOKEN_URL = "https://auth.openai.com/oauth/token"
# OpenAI's documentation wants these, and exp and iat. A refusal does not say which is lacking, so it is said here.
NEEDED = ("iss", "aud", "sub")
MAPPING_HINT = (
    "run credrotator check, which prints the identity provider and the mapping that fit the token; see that neither is "
    "disabled"
)
HINTS = {
    "invalid_request": "correct identityProviderID, serviceAccountID and subjectTokenType",
    # There is no client in the request: the endpoint says so of an identity provider that it does not know.
    "invalid_client": "correct identityProviderID",
    "access_denied": f"let the identity provider's mapping admit this subject for the service account; {MAPPING_HINT}",
}
TOKENS = GrantEndpoint(ENDPOINT, MAPPING_HINT, HINTS, status_page="see https://status.openai.com", lenient=True)


class OpenAiTokenEndpoint(Vendor):
    """Gets access tokens of OpenAI's API; safe to share between threads.

    Raises:
        Denied: OpenAiConfig: OPENAI_TOKEN_EXCHANGE_URL is no https address.
    """

    def __init__(self, context: VendorContext) -> None:
        self.transport = context.transport(ENDPOINT)
        self.url = operator_address(ENDPOINT, context.environment, TOKEN_URL)
        self._api_transport = context.transport(API)
        self._environment = context.environment
        self._clock = context.clock

    def credential(self, source: Rotatable, steps: ExchangeSteps) -> AccessToken:
        """See ``Vendor``."""
        assert isinstance(source, OpenAiWorkloadIdentity)  # noqa: S101 - the only source of this provider
        # Both, so that an account that is refused or throttled does not keep policies for others waiting.
        account = f"{source.identity_provider}/{source.service_account}"
        asked = CircuitKey.of_url("openai", self.url, account)
        return steps.exchange(asked, lambda token: self.exchange(source, token))

    def verify(self, source: Rotatable, credential: Credential, steps: ExchangeSteps) -> None:
        """See ``Vendor``: the list of models, at the API's own address.

        Raises:
            Denied: OpenAiConfig: OPENAI_BASE_URL is no https address.
        """
        assert isinstance(source, OpenAiWorkloadIdentity)  # noqa: S101 - the only source of this provider
        assert isinstance(credential, AccessToken)  # noqa: S101 - what it gave
        api = BearerApi(API, self._api_transport, operator_address(API, self._environment, API_URL) + MODELS_PATH)
        asked = CircuitKey.of_url("openai", api.url, f"{source.identity_provider}/{source.service_account}")
        steps.ask(asked, lambda: api.show(credential.token, self._clock))

    def endpoint(self, source: Rotatable) -> NetworkEndpoint:  # noqa: ARG002 - one for all
        """See ``Vendor``."""
        return NetworkEndpoint("openai", ENDPOINT.title, self.url, self.transport)

    def exchange(self, source: OpenAiWorkloadIdentity, token: SubjectToken) -> AccessToken:
        """Exchange a subject token.

        Raises:
            RotationError: With OpenAI's own code in the reason where it sent one.
        """
        _check(token)
        fields = {
            "grant_type": TOKEN_EXCHANGE,
            "subject_token": token.token.reveal(),
            "subject_token_type": TOKEN_TYPE + source.subject_token_type,
            "identity_provider_id": source.identity_provider,
            "service_account_id": source.service_account,
        }
        whom = f"identity provider {source.identity_provider}, service account {source.service_account}"
        return TOKENS.ask(self.transport, TokenGrant(self.url, fields, whom), token.token, self._clock)


def _check(token: SubjectToken) -> None:
    """Refuse what OpenAI would.

    Raises:
        Denied: TokenLacksClaims.
    """
    lacks = [name for name in NEEDED if not token.claims.get(name)]
    lacks += [name for name in ("exp", "iat") if claim_time(token.claims, name) is None]
    if lacks:
        message = f"the issuer's token has no {', '.join(lacks)}, and OpenAI takes none without"
        raise Denied("TokenLacksClaims", message, hint="have the issuer put these claims into this client's tokens")
