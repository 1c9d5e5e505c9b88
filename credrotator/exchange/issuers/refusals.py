"""What an issuer's refusal of a token request means: by its code, and by its words where one code has several causes.

Issuers use RFC 6749's codes as they like: one calls a missing right to the grant ``unauthorized_client``, another a
wrong secret; an audience that is refused is ``invalid_request``, ``access_denied`` or ``invalid_target``. So the words
decide first, then the code, then the status. What is shown of the words is masked, escaped and cut.
Source: RFC 6749 §5.2, RFC 8707 §2, RFC 9449 §8; reliability.md 8, 9.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from credrotator.core.errors import Denied, Transient, printable
from credrotator.exchange.http.foreign import foreign_text, proofs
from credrotator.exchange.http.transport import json_object, text
from credrotator.exchange.issuers.client_assertions import THE_SECRET
from credrotator.exchange.issuers.client_auth import ClientAuthMethod

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import requests

    from credrotator.core.errors import RotationError
    from credrotator.core.model import OidcClient
    from credrotator.exchange.issuers.token_request import TokenRequest

BAD_REQUEST, UNAUTHORIZED = 400, 401
# Ids have some forty to seventy characters; a Secret may hold anything.
CLIENT_LIMIT = 100
AUDIENCE_FIELD = "oidcExchangeToken.aud"
RESOURCES_FIELD = "oidcExchangeToken.oidc.resources"
SCOPES_FIELD = "oidcExchangeToken.oidc.scopes"


class AuthenticationRefused(Denied):
    """Denied, and perhaps only the way in which the client proved who it is: another one may be worth a try."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error response, read.

    Attributes:
        status: The HTTP status.
        code: OAuth's error code, or what the issuer has in its place; escaped, without the secret.
        description: What it says in words, likewise.
        is_json: Whether the issuer itself may have written it; firewalls and login pages answer in HTML.
    """

    status: int
    code: str
    description: str
    is_json: bool

    @property
    def words(self) -> str:
        """All that is said, in small letters."""
        return f"{self.code}: {self.description}".lower()

    @property
    def tail(self) -> str:
        """The description as the end of a sentence."""
        return f": {self.description}" if self.description else ""


def refusal_of(response: requests.Response, request: TokenRequest) -> Denied:
    """Class an error response of the token endpoint."""
    # Also what the request carried: with an assertion, the proof is made at the time of the request.
    refusal = read_refusal(response, [*(secret.reveal() for secret in request.secrets), *proofs(response.request)])
    for cause in _CAUSES:
        if cause.applies(refusal, request.client):
            message = f"{cause.message(refusal, request)}{refusal.tail}"
            kind = AuthenticationRefused if cause.of_authentication else Denied
            return kind(cause.reason, message, hint=cause.hint(refusal, request))
    return _by_status(refusal)


def read_refusal(response: requests.Response, secrets: Sequence[str]) -> Refusal:
    """Read an error response as OAuth has it, or as one of the issuers that have a format of their own."""
    try:
        document = json_object(response)
    except Transient:
        return Refusal(response.status_code, "", "", is_json=False)
    error = document.get("error")
    body: Mapping[str, Any] = {**document, **error} if isinstance(error, dict) else document
    # OAuth's, then Okta's, Apigee's and the like; the first that is there.
    code = _first(body, "error", "errorCode", "ErrorCode", "code", "status")
    description = _first(body, "error_description", "errorSummary", "message", "errorMessage", "detail", "Error")
    return Refusal(
        response.status_code, foreign_text(code, secrets, 60), foreign_text(description, secrets), is_json=True
    )


def has_error(document: Mapping[str, Any]) -> bool:
    """Tell whether a response is an error, whatever its status; some say that there is none by an empty one."""
    return bool(document.get("error"))


def dpop_required(why: str) -> Denied:
    """Make the refusal for tokens that are bound to a key of the client (RFC 9449)."""
    hint = "switch DPoP (proof of possession) off for this client at the issuer"
    return Denied("DpopRequired", f"the issuer binds this client's tokens to a key, and {why}", hint=hint)


def by_every_method(refusals: Sequence[tuple[ClientAuthMethod, AuthenticationRefused]]) -> Denied:
    """Make one refusal of those of all the ways in which a client tried to prove who it is, and name them.

    NOTE: what is said to Basic without its encoding neither decides nor is shown where another way was tried as well:
    an issuer that decodes it finds the header broken, and that says nothing of the client.
    """
    # Plain Basic is our own guess: an issuer's complaint about it would send people after the wrong thing.
    standard = [refusal for refusal in refusals if refusal[0] is not ClientAuthMethod.PLAIN_BASIC] or refusals
    errors = [error for _, error in standard]
    order = ("InvalidClient", "ClientAuthUnsupported")
    chosen = next((error for reason in order for error in errors if error.reason == reason), errors[0])
    methods: dict[str, list[str]] = {}
    for method, error in standard:
        methods.setdefault(error.message, []).append(method)
    if len(standard) == 1:
        message = chosen.message
    elif len(methods) == 1:
        message = f"{chosen.message} (tried {' and '.join(methods[chosen.message])})"
    else:
        message = "; ".join(f"by {' and '.join(tried)}: {said}" for said, tried in methods.items())
    if len(standard) < len(refusals):
        message = f"{message}; {ClientAuthMethod.PLAIN_BASIC} was refused too"
    return Denied(chosen.reason, message, hint=chosen.hint)


def _first(body: Mapping[str, Any], *names: str) -> str:
    return next((value for name in names if (value := text(body, name))), "")


@dataclass(frozen=True, slots=True)
class _Cause:
    """One cause of refusals, how it is recognised, and what to say of it."""

    reason: str
    applies: Callable[[Refusal, OidcClient], bool]
    message: Callable[[Refusal, TokenRequest], str]
    hint: Callable[[Refusal, TokenRequest], str]
    of_authentication: bool = False


# With "invalid" and "only": "grant type must be one of … only" refuses as well as "not allowed" does.
_NEGATION = r"(not|n't|cannot|un(allowed|authori[sz]ed|supported)|disallow|disabled|denied|restricted|invalid|only)"
_DPOP = re.compile(r"\bdpop\b|dpop_proof|dpop_nonce")
_SCOPE_MISSING = re.compile(
    r"\bscopes?\b.{0,30}\b((must|should) be|is|are|was) (provided|required|missing|specified|mandatory|empty)"
    r"|\b(missing|empty|requires?|required|(must|should) (contain|have|include|specify)|no( default)?|at least one)\b"
    r".{0,60}\bscopes?\b|\bscopes?\b.{0,20}\b(missing|empty)\b"
)
# Six letters and a number are Entra's codes (AADSTS70011), without the vendor's name in this package.
_SCOPE = re.compile(r"\bscopes?\b|[a-z]{6}(70011|1002012)\b")
_GRANT = re.compile(
    rf"\bgrant[_ -]?types?\b.*{_NEGATION}|{_NEGATION}.*\bgrant[_ -]?types?\b"
    rf"|{_NEGATION}.*(authori[sz]ation grant|client_credentials)"
    rf"|client[_ ]credentials (grant|flow).*{_NEGATION}|{_NEGATION}.*(client[_ ]credentials (grant|flow))"
    rf"|{_NEGATION}.*service account|service account.*{_NEGATION}|requested grant"
    r"|\bpublic client\b|client is public|bearer-only|no client credentials user"
)
_ACCESS_POLICY = re.compile(r"policy evaluation failed")
_AUDIENCE = re.compile(
    r"\baudiences?\b|service not enabled within domain|client-grant|resource (server|principal|parameter)"
    r"|invalid_resource|(requested|unknown|unregistered|invalid|this|access the) resource\b"
    r"|not authorized to access\b|[a-z]{6}(500011|650057)\b"
)
_OTHER_METHOD = re.compile(
    r"private_key_jwt|client_assertion|client_secret_jwt|tls_client_auth|\bmtls\b|mutual[- ]tls|client certificate"
    r"|signed jwt"
)
_UNKNOWN_CLIENT = re.compile(
    r"[a-z]{6}700016\b|(unknown|disabled|no such|unregistered) client\b"
    r"|\b(client|application)\b.{0,80}\b(not found|not exist|not registered|is disabled|unknown)\b"
)
_BAD_CLIENT = re.compile(r"(invalid|incorrect|bad|unknown|wrong)_client(_|$)")
_EXPIRED = re.compile(r"expired|[a-z]{6}7000222\b")


def _client(request: TokenRequest) -> str:
    return printable(request.client_id, CLIENT_LIMIT)


def _scopes(request: TokenRequest) -> str:
    return printable(" ".join(request.client.scopes) or "that it adds by itself")


def _audience(request: TokenRequest) -> str:
    named = (*request.client.resources, *([request.client.audience] if request.client.audience else []))
    return printable(" ".join(named) or "(the policy names none)")


def _words(pattern: re.Pattern[str]) -> Callable[[Refusal, OidcClient], bool]:
    return lambda refusal, _: bool(pattern.search(refusal.words))


def _lacks_scope(refusal: Refusal, client: OidcClient) -> bool:
    return not client.scopes and bool(_SCOPE_MISSING.search(refusal.words))


def _refuses_scope(refusal: Refusal, _: OidcClient) -> bool:
    return refusal.code == "invalid_scope" or bool(_SCOPE.search(refusal.words))


def _refuses_target(refusal: Refusal, _: OidcClient) -> bool:
    return refusal.code == "invalid_target"


def _refuses_client(refusal: Refusal, _: OidcClient) -> bool:
    # 401 is for failed client authentication only (RFC 6749 §5.2), whatever the code.
    return bool(_BAD_CLIENT.match(refusal.code)) or (refusal.status == UNAUTHORIZED and bool(refusal.code))


def _refuses_grant(refusal: Refusal, _: OidcClient) -> bool:
    return refusal.code == "unsupported_grant_type"


def _is_unauthorized(refusal: Refusal, _: OidcClient) -> bool:
    return refusal.code == "unauthorized_client"


def for_asker(error: RotationError, request: TokenRequest) -> RotationError:
    """Name the asker's own Secret in a hint: the refusal may have been another namespace's (reliability.md I15)."""
    if THE_SECRET not in error.hint:
        return error
    secrets = [reference.secret for reference in request.client.references]
    return error.anew(hint=error.hint.replace(THE_SECRET, str(secrets[0]))) if secrets else error


def _no_grant(_: Refusal, request: TokenRequest) -> str:
    scopes = f" for the scopes {_scopes(request)}" if request.client.scopes else ""
    return f"the issuer does not let the client use client credentials{scopes}"


def _refuses_assertion(refusal: Refusal, client: OidcClient) -> bool:
    # Whatever else the words are about, such as the audience: it is the assertion's.
    return client.assertion is not None and _refuses_client(refusal, client)


def _wants_other_method(refusal: Refusal, client: OidcClient) -> bool:
    # With an assertion these words are about the client's own way.
    return client.assertion is None and bool(_OTHER_METHOD.search(refusal.words))


def _client_hint(refusal: Refusal, request: TokenRequest) -> str:
    if request.assertion:
        return request.assertion.hint
    if _EXPIRED.search(refusal.words):
        return f"make a new client secret at the issuer, and put it into {THE_SECRET}"
    return f"compare client id and {THE_SECRET} with what the issuer has"


def _scope_hint(refusal: Refusal, request: TokenRequest) -> str:
    if ".default" in refusal.words:
        return f"name the resource and /.default as scope of the policy ({SCOPES_FIELD}), as the issuer says"
    if request.client.scopes:
        return "remove the scope from the policy, or allow it for this client at the issuer"
    return f"name a scope that this client may have ({SCOPES_FIELD}), or remove the scope that the issuer adds"


def _audience_hint(_: Refusal, request: TokenRequest) -> str:
    if request.client.audience or request.client.resources:
        return f"allow this audience for the client at the issuer, or correct aud in the policy ({AUDIENCE_FIELD})"
    return f"name the audience as aud in the policy ({AUDIENCE_FIELD})"


def _target_hint(_: Refusal, request: TokenRequest) -> str:
    if request.client.resources:
        return f"correct resources in the policy ({RESOURCES_FIELD}), or allow them for this client at the issuer"
    return f"name the audience as a URI in resources of the policy ({RESOURCES_FIELD}), or correct aud"


_ALLOW_GRANT = "allow the client-credentials grant for this client at the issuer"

_CAUSES = (
    _Cause(
        "DpopRequired",
        _words(_DPOP),
        lambda *_: "the issuer binds this client's tokens to a key (DPoP), and such a token cannot be exchanged",
        lambda *_: "switch DPoP (proof of possession) off for this client at the issuer",
    ),
    _Cause(
        "InvalidClient",
        _refuses_assertion,
        lambda _, request: f"the issuer does not accept the assertion of client {_client(request)}",
        _client_hint,
        of_authentication=True,
    ),
    _Cause(
        "ScopeRequired",
        _lacks_scope,
        lambda _, request: f"the issuer wants a scope, and the policy names none for client {_client(request)}",
        lambda *_: f"name one in scopes of the policy ({SCOPES_FIELD}) that this client may have",
    ),
    _Cause(
        "GrantNotAllowed",
        _words(_ACCESS_POLICY),
        lambda _, request: f"no access policy of the issuer lets client {_client(request)} have this token",
        lambda *_: "add a rule to the authorization server's access policy for this client, grant and scope",
    ),
    _Cause(
        "GrantNotAllowed",
        _words(_GRANT),
        lambda _, request: f"the issuer does not let client {_client(request)} use client credentials",
        lambda *_: f"{_ALLOW_GRANT}: a confidential client, with service account roles where it has them",
    ),
    _Cause(
        "InvalidScope",
        _refuses_scope,
        lambda _, request: f"the issuer refuses the scopes {_scopes(request)}",
        _scope_hint,
    ),
    _Cause(
        "InvalidTarget",
        _refuses_target,
        lambda _, request: f"the issuer refuses the audience {_audience(request)}",
        _target_hint,
    ),
    _Cause(
        "AudienceRefused",
        _words(_AUDIENCE),
        lambda _, request: f"the issuer refuses the audience {_audience(request)}",
        _audience_hint,
    ),
    _Cause(
        "ClientAuthUnsupported",
        _wants_other_method,
        lambda _, request: f"the issuer wants client {_client(request)} to prove itself otherwise than by its secret",
        lambda *_: (
            "set this client to authenticate by a client secret (basic or post) at the issuer, or annotate the policy "
            "with credrotator.io/client-assertion"
        ),
        of_authentication=True,
    ),
    _Cause(
        "InvalidClient",
        lambda refusal, client: _words(_UNKNOWN_CLIENT)(refusal, client) or _refuses_client(refusal, client),
        lambda _, request: f"the issuer does not accept client {_client(request)}",
        _client_hint,
        of_authentication=True,
    ),
    _Cause("UnauthorizedClient", _refuses_grant, _no_grant, lambda *_: _ALLOW_GRANT),
    _Cause("UnauthorizedClient", _is_unauthorized, _no_grant, lambda *_: _ALLOW_GRANT, of_authentication=True),
)
"""In this order; the first that applies counts."""


def _by_status(refusal: Refusal) -> Denied:
    """Make the refusal for what neither code nor words explain."""
    # Nothing explains it, so another way may be worth a try; a 403 or 404 is about something else.
    kind = AuthenticationRefused if refusal.status in {BAD_REQUEST, UNAUTHORIZED} else Denied
    code = f" {refusal.code}" if refusal.code else ""
    hint = "see the issuer's log, and whether the token endpoint is the right one"
    if not refusal.is_json:
        hint = "see whether a firewall, proxy or login page answers before the issuer; see the issuer's log too"
    return kind("TokenRefused", f"the token endpoint answered {refusal.status}{code}{refusal.tail}", hint=hint)
