"""What issuers say when they refuse, each in its own words, and what becomes of it (reliability.md 8, 9)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.errors import Denied
from credrotator.sandbox import Answer
from tests.support.exchanging import TOKEN, refused

if TYPE_CHECKING:
    from tests.support.exchanging import Backend

AUD, SCOPES = "oidcExchangeToken.aud", "oidcExchangeToken.oidc.scopes"
RESOURCES = "oidcExchangeToken.oidc.resources"


@dataclass(frozen=True)
class Case:
    """A refusal as an issuer writes it, and the reason and words that are expected.

    ``asked``: what the policy asks for; ``body``: the answer's JSON.
    """

    issuer: str
    status: int
    body: dict[str, Any]
    reason: str
    words: tuple[str, ...]
    asked: dict[str, Any] = field(default_factory=lambda: {"audience": "sts.amazonaws.com"})

    def __str__(self) -> str:
        return f"{self.issuer} {self.reason} {self.body.get('error', '')}"


def oauth(error: str, description: str | None = None) -> dict[str, Any]:
    """Return an error as RFC 6749 §5.2 has it."""
    return {"error": error} if description is None else {"error": error, "error_description": description}


NOTHING: dict[str, Any] = {}
SCOPED = {"scopes": ("models.invoke",)}
GRANT = [
    ("Keycloak", 401, oauth("unauthorized_client", "Client not enabled to retrieve service account")),
    ("Keycloak", 401, oauth("unauthorized_client", "Public client not allowed to retrieve service account")),
    ("Keycloak", 400, oauth("invalid_client", "Bearer-only not allowed")),
    ("Auth0", 403, oauth("unauthorized_client", "Grant type 'client_credentials' not allowed for the client.")),
    (
        "Okta",
        400,
        oauth(
            "unauthorized_client",
            "The client is not authorized to use the provided grant type. Configured "
            "grant types: [authorization_code].",
        ),
    ),
    (
        "Hydra",
        400,
        oauth(
            "unauthorized_client",
            "The client is not authorized to request a token using this method. The "
            "OAuth 2.0 Client is not allowed to use authorization grant 'client_credentials'.",
        ),
    ),
    ("oidc-provider", 400, oauth("invalid_request", "requested grant type is not allowed for this client")),
    ("PingFederate", 400, oauth("unauthorized_client", "Unauthorized grant type")),
    (
        "Entra",
        401,
        oauth(
            "invalid_client",
            "AADSTS700025: Client is public so neither 'client_assertion' nor 'client_secret' should be presented.",
        ),
    ),
    ("Salesforce", 400, oauth("invalid_grant", "no client credentials user enabled")),
]
AUDIENCE = [
    ("Auth0", 403, oauth("access_denied", "Service not enabled within domain: sts.amazonaws.com")),
    (
        "Auth0",
        403,
        oauth(
            "access_denied",
            'Client is not authorized to access "sts.amazonaws.com". You need to create a '
            '"client-grant" associated to this API.',
        ),
    ),
    (
        "Auth0",
        403,
        oauth("access_denied", 'Client "x" is not authorized to access resource server "sts.amazonaws.com".'),
    ),
    (
        "Hydra",
        400,
        oauth(
            "invalid_request",
            "The request is missing a required parameter, includes an invalid parameter value, includes a parameter "
            "more than once, or is otherwise malformed. Requested audience 'sts.amazonaws.com' has not been "
            "whitelisted by the OAuth 2.0 Client.",
        ),
    ),
    (
        "AD FS",
        400,
        oauth("unauthorized_client", "MSIS9605: The client is not allowed to access the requested resource."),
    ),
    ("AD FS", 400, oauth("invalid_resource", "MSIS9602: The received 'resource' parameter is invalid.")),
    ("Zitadel", 400, oauth("invalid_request", "audience is not allowed")),
]
CLIENT = [
    ("Keycloak", 401, oauth("unauthorized_client", "Invalid client or Invalid client credentials")),
    ("Keycloak", 401, oauth("invalid_client", "Invalid client or Invalid client credentials")),
    ("Okta", 401, oauth("invalid_client", "The client secret supplied for a confidential client is invalid.")),
    ("Okta", 401, {"errorCode": "invalid_client", "errorSummary": "Invalid value for 'client_id' parameter."}),
    ("Auth0", 401, oauth("access_denied", "Unauthorized")),
    ("Cognito", 400, oauth("invalid_client")),
    (
        "Hydra",
        401,
        oauth(
            "invalid_client",
            "Client authentication failed (e.g., unknown client, no client authentication "
            "included, or unsupported authentication method).",
        ),
    ),
    ("PingFederate", 401, oauth("invalid_client", "Invalid client or client credentials.")),
    ("AD FS", 400, oauth("invalid_client", "MSIS9607: The client authentication failed.")),
    (
        "Entra",
        401,
        oauth(
            "invalid_client",
            "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent "
            "is the client secret value, not the client secret ID.",
        ),
    ),
    (
        "Entra",
        400,
        oauth(
            "unauthorized_client", "AADSTS700016: Application with identifier 'x' was not found in the directory 'y'."
        ),
    ),
    ("Apigee", 401, {"ErrorCode": "invalid_client", "Error": "Client credentials are invalid"}),
    ("Salesforce", 400, oauth("invalid_client_id", "client identifier invalid")),
    ("GitHub", 200, oauth("incorrect_client_credentials", "The client_id and/or client_secret passed are incorrect.")),
]
SCOPE_MISSING = [
    (
        "Okta",
        400,
        oauth(
            "invalid_scope",
            "The authorization server resource does not have any configured default scopes, 'scope' must be provided.",
        ),
    ),
    (
        "Entra",
        400,
        oauth("invalid_request", "AADSTS900144: The request body must contain the following parameter: 'scope'."),
    ),
    (
        "Entra",
        400,
        oauth(
            "invalid_scope",
            "AADSTS1002012: The provided value for scope  is not valid. Client credential "
            "flows must have a scope value with /.default suffixed.",
        ),
    ),
    ("IdentityServer", 400, oauth("invalid_scope", "No scopes found for this client")),
    ("Spring", 400, oauth("invalid_scope", "OAuth 2.0 Parameter: scope is missing")),
]
SCOPE_REFUSED = [
    (
        "Okta",
        400,
        oauth("invalid_scope", "One or more scopes are not configured for the authorization server resource."),
    ),
    ("Auth0", 403, oauth("access_denied", "Client has not been granted scopes: models.invoke")),
    (
        "Hydra",
        400,
        oauth(
            "invalid_scope",
            "The requested scope is invalid, unknown, or malformed. The OAuth 2.0 Client is "
            "not allowed to request scope 'models.invoke'.",
        ),
    ),
    ("Keycloak", 400, oauth("invalid_scope", "Invalid scopes: models.invoke")),
    ("Cognito", 400, oauth("invalid_scope")),
]
DPOP = [
    ("Okta", 400, oauth("invalid_dpop_proof", "The DPoP proof JWT header is missing.")),
    ("Okta", 400, oauth("use_dpop_nonce", "Authorization server requires nonce in DPoP proof.")),
    ("Keycloak", 400, oauth("invalid_request", "DPoP proof is missing")),
]
OTHER_WAY = [
    (
        "Hydra",
        401,
        oauth(
            "invalid_client",
            "Client authentication failed (e.g., unknown client, no client authentication included, or unsupported "
            "authentication method). The OAuth 2.0 Client supports client authentication method 'private_key_jwt', "
            "but method 'client_secret_basic' was requested. You must configure the OAuth 2.0 client's "
            "'token_endpoint_auth_method' value to accept 'client_secret_basic'.",
        ),
    ),
    ("Keycloak", 401, oauth("unauthorized_client", "Parameter client_assertion_type is missing")),
    ("Keycloak", 400, oauth("invalid_client", "Parameter client_assertion_type is missing")),
    ("Ping", 401, oauth("invalid_client", "mutual TLS client certificate required")),
]

CASES = [
    *(Case(*each, "GrantNotAllowed", ("client credentials", "allow the client-credentials grant")) for each in GRANT),
    *(Case(*each, "AudienceRefused", ("refuses the audience sts.amazonaws.com", AUD)) for each in AUDIENCE),
    *(Case(*each, "InvalidClient", ("does not accept client credrotator", "team-a/oidc")) for each in CLIENT),
    *(Case(*each, "ScopeRequired", ("names none", SCOPES), NOTHING) for each in SCOPE_MISSING),
    *(Case(*each, "InvalidScope", ("models.invoke", "remove the scope"), SCOPED) for each in SCOPE_REFUSED),
    *(Case(*each, "DpopRequired", ("DPoP", "switch DPoP"), NOTHING) for each in DPOP),
    *(
        Case(*each, "ClientAuthUnsupported", ("otherwise than by its secret", "by a client secret"))
        for each in OTHER_WAY
    ),
    Case(
        "Okta",
        400,
        oauth("access_denied", "Policy evaluation failed for this request, please check the policy configuration."),
        "GrantNotAllowed",
        ("access policy", "add a rule"),
        SCOPED,
    ),
    Case(
        "Auth0",
        403,
        oauth("access_denied", "No audience parameter was provided, and no default audience has been configured"),
        "AudienceRefused",
        ("names none", f"name the audience as aud in the policy ({AUD})"),
        NOTHING,
    ),
    Case(
        "Entra",
        400,
        oauth(
            "invalid_scope",
            "AADSTS1002012: The provided value for scope x is not valid. Client "
            "credential flows must have a scope value with /.default suffixed to the resource identifier.",
        ),
        "InvalidScope",
        ("/.default as scope", SCOPES),
        SCOPED,
    ),
    Case(
        "Entra",
        401,
        oauth("invalid_client", "AADSTS7000222: The provided client secret keys are expired."),
        "InvalidClient",
        ("make a new client secret", "team-a/oidc"),
    ),
    Case(
        "oidc-provider",
        400,
        oauth("invalid_target", "resource indicator is missing, or unknown"),
        "InvalidTarget",
        ("refuses the audience sts.amazonaws.com", "name the audience as a URI", RESOURCES),
    ),
    Case(
        "oidc-provider",
        400,
        oauth("invalid_target", "resource indicator is missing, or unknown"),
        "InvalidTarget",
        ("refuses the audience https://a.example.com", "correct resources", RESOURCES, "allow them for this client"),
        {"resources": ("https://a.example.com",)},
    ),
    Case("Cognito", 400, oauth("unauthorized_client"), "UnauthorizedClient", ("allow the client-credentials grant",)),
    Case("Spring", 400, oauth("unsupported_grant_type"), "UnauthorizedClient", ("allow the client-credentials grant",)),
    Case(
        "Google",
        400,
        {"error": {"code": 400, "message": "INVALID", "status": "INVALID_ARGUMENT"}},
        "TokenRefused",
        ("400", "INVALID_ARGUMENT"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_faults_08_09_by_the_issuers_words(world: Backend, case: Case) -> None:
    """Faults 8 and 9: codes differ from issuer to issuer; the reason is the cause, and the advice names what to set."""
    world.issuer.faults.add(Answer(case.status, json.dumps(case.body)), path=TOKEN)
    with refused(Denied, case.reason) as caught:
        world.token(**case.asked)
    told = f"{caught.value.message} | {caught.value.hint}"
    assert [word for word in case.words if word not in told] == [], told


@pytest.mark.parametrize("status", [400, 401, 403, 405, 406, 415])
def test_what_stands_before_the_issuer(world: Backend, status: int) -> None:
    """A page in the issuer's place is told apart from the issuer's own refusal."""
    world.issuer.faults.add(Answer(status, "<html>Error 1020</html>", content_type="text/html"), path=TOKEN)
    with refused(Denied, "TokenRefused") as caught:
        world.token()
    assert "firewall" in caught.value.hint
