"""The client-credentials request, by Authlib: what it says, and how it is sent.

Owns the request on the wire. Whether its answer is a token or a refusal is others' to say.
Source: RFC 6749 §4.4.2; RFC 8707 §2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, cast

import requests
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.client import OAuth2Client
from requests.auth import AuthBase

from credrotator.core.model import SubjectUse
from credrotator.exchange.http.endpoint import ISSUER
from credrotator.exchange.http.failures import answering
from credrotator.exchange.http.transport import Transport, json_object
from credrotator.exchange.issuers.client_auth import Authentication, ClientAuthMethod

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.model import OidcClient
    from credrotator.core.sensitive import Sensitive
    from credrotator.exchange.issuers.client_assertions import ClientProof

HEADERS = {
    "Accept": "application/json",
    # NOTE: Authlib adds a charset, which the type does not have (RFC 6749 appendix B); some issuers refuse it.
    "Content-Type": "application/x-www-form-urlencoded",
}


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A client-credentials request with its references resolved: equal ones are sent once.

    Attributes:
        client_secret: Empty where there is an assertion.
        assertion: By which the client proves itself without a secret.
        use: What becomes of the token; one that is not to be shared is asked for each time.
    """

    client: OidcClient
    client_id: str
    client_secret: Sensitive
    assertion: ClientProof | None = None
    use: SubjectUse = SubjectUse.SHARED

    @property
    def proof(self) -> Sensitive:
        """What tells one client from another of the same id."""
        return self.assertion.identity if self.assertion else self.client_secret

    @property
    def secrets(self) -> tuple[Sensitive, ...]:
        """List what must not be shown."""
        return () if self.assertion and not self.assertion.signs else (self.proof,)

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two requests the same, whoever's policy they are for."""
        client = self.client
        return (
            *(client.issuer, client.token_endpoint, self.client_id, self.proof),
            type(self.assertion),
            *(client.scopes, client.resources, client.audience, client.subject_token),
        )


class TokenResponse(TypedDict, total=False):
    """A successful answer of a token endpoint (RFC 6749 §5.1; OpenID Connect Core 1.0 §3.1.3.3 for ``id_token``).

    NOTE: parsed, not checked: whoever runs the issuer writes it, so each member may be missing, or be anything.

    Attributes:
        access_token: The token; a JWT, if a vendor is to verify it.
        id_token: The same, where the issuer was asked for one.
        token_type: ``Bearer``, in any case of letters.
        expires_in: Seconds from now on; some issuers write them as text.
    """

    access_token: object
    id_token: object
    token_type: object
    expires_in: object


def send(
    request: TokenRequest,
    endpoint: str,
    transport: Transport,
    method: ClientAuthMethod,
    check: Callable[[requests.Response], None],
    *,
    assertion: Sensitive | None = None,
) -> TokenResponse:
    """Send the token request once, and return the token response (RFC 6749 §5.1) as JSON.

    Args:
        request: What is asked for, and as whom.
        endpoint: The token endpoint.
        transport: How that is talked to.
        method: How the client authenticates.
        check: Raises for whatever is no well-formed success.
        assertion: By which it authenticates, where it has no secret.

    Raises:
        RotationError: What ``check`` or the transport raises.
    """
    client = request.client
    session = requests.Session()
    # requests would read .netrc and send what it finds there in place of our client.
    session.trust_env = False
    session.mount("https://", transport.adapter)
    session.mount("http://", transport.adapter)
    authentication = Authentication(method, client.resources, assertion)
    secret = request.client_secret.reveal()
    speaker = _Client(session, request.client_id, secret, token_endpoint_auth_method=authentication)

    def checked(response: requests.Response) -> requests.Response:
        check(response)
        return response

    speaker.register_compliance_hook("access_token_response", checked)
    # ``audience`` is no parameter of RFC 6749; Auth0 and Ory Hydra know it, others pass over it.
    fields = {"scope": " ".join(client.scopes), "audience": client.audience}
    parameters = {name: value for name, value in fields.items() if value}
    with answering(ISSUER, endpoint):
        settings = transport.settings_for(endpoint)
        # Authlib passes on only what this list names, and our verify, proxies and timeouts are to be among it.
        speaker.SESSION_REQUEST_PARAMS = list(settings)
        response = speaker.fetch_token(
            endpoint, grant_type="client_credentials", headers=dict(HEADERS), **parameters, **settings
        )
        return cast("TokenResponse", dict(response))


class _ClientAuth(AuthBase, ClientAuth):
    """Hands a prepared token request to Authlib for client authentication."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """See requests.auth.AuthBase."""
        prepared = self.prepare(request.method, request.url, request.headers, request.body)  # type: ignore[no-untyped-call]
        request.url, request.headers, request.body = prepared
        return request


class _Client(OAuth2Client):
    """Authlib's OAuth 2.0 client over a session of requests.

    NOTE: not its ``OAuth2Session``, whose package brings OAuth 1, OpenID Connect and JOSE along: 0.15 s of CPU at each
    start of ``rotate``.
    """

    client_auth_class = _ClientAuth

    def parse_response_token(self, resp: requests.Response) -> dict[str, Any]:
        """Return the token response as it is.

        NOTE: Authlib's own adds ``expires_at`` by the machine's clock, and fails on an ``expires_in`` that is odd.
        """
        return json_object(resp)
