"""The sandbox's OIDC issuer: discovery, keys, and tokens for clients.

Owns what the issuer says and the tokens it signs. Must not know AWS or Entra. Specification: OIDC Discovery 1.0 §3
and §4, RFC 6749 §4.4 (client credentials), §5.1 and §5.2 (answers), RFC 8707 (resource), RFC 9068 (claims of access
tokens).
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from credrotator.sandbox.answers import Refused, json_answer
from credrotator.sandbox.assertions import AssertionJudge
from credrotator.sandbox.clients import (
    BASIC,
    DEFAULT_CLIENT,
    DEFAULT_CLIENT_SECRET,
    POST,
    Client,
    authenticated,
)
from credrotator.sandbox.keys import Algorithm, SigningKeys
from credrotator.sandbox.service import Place, Scheme, Service

if TYPE_CHECKING:
    from collections.abc import Mapping

    from joserfc.jwk import KeySet
    from werkzeug import Request, Response


# RFC 6749 §5.2 and RFC 8707 §2 use 400 except where noted; the last two are what a loaded server says (§4.1.2.1).
STATUS_BY_ERROR = {"invalid_client": 401, "server_error": 500, "temporarily_unavailable": 503}


class Issuer(Service):
    """An OIDC issuer whose settings are plain attributes; each may be changed while it runs."""

    name: ClassVar[str] = "issuer"
    routes: ClassVar[Mapping[str, str]] = {
        "/.well-known/openid-configuration": "GET discovery",
        "/jwks": "GET jwks",
        "/token": "POST token",
    }

    def __init__(self, place: Place, port: int, scheme: Scheme = "https", algorithm: Algorithm = "RS256") -> None:
        super().__init__(place, port, scheme)
        self.keys = SigningKeys(algorithm)
        self.clients = {DEFAULT_CLIENT: Client(DEFAULT_CLIENT_SECRET, subject=DEFAULT_CLIENT)}
        self.token_life = timedelta(minutes=5)
        self.discovery_max_age = timedelta(hours=1)
        self.auth_methods = [BASIC, POST]
        self.decodes_basic = True
        self.assertions = AssertionJudge(lambda: self.url, self.now)
        self.access_token_format: Literal["jwt", "opaque"] = "jwt"
        self.extra_claims: dict[str, Any] = {}

    def rotate_keys(self, *, keep_old: bool = True) -> None:
        """Sign with a new key; without ``keep_old`` the tokens issued so far no longer verify."""
        self.keys.rotate(keep_old=keep_old)

    def public_keys(self) -> KeySet:
        """Return the keys that verify this issuer's tokens."""
        return self.keys.public()

    def discovery_document(self) -> dict[str, Any]:
        """Return the provider metadata (OIDC Discovery 1.0 §3)."""
        scopes = sorted(frozenset[str]().union(*(client.scopes for client in self.clients.values())))
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self.keys.algorithm],
            "token_endpoint_auth_methods_supported": self.auth_methods,
            "token_endpoint_auth_signing_alg_values_supported": self.assertions.algorithms,
            "scopes_supported": scopes,
            "claims_supported": ["iss", "sub", "aud", "azp", "iat", "exp", "jti", "scope"],
        }

    def issue(self, client_id: str, audience: str | list[str] | None = None, scope: str = "") -> str:
        """Return a signed token of that client without asking over HTTP."""
        client = self.clients[client_id]
        return self.keys.sign(self._claims(client_id, client, audience or client.audience, scope))

    def refusal(self, code: str, description: str | None = None) -> Response:
        """Return an error answer as RFC 6749 §5.2 has it."""
        body = {"error": code} if description is None else {"error": code, "error_description": description}
        headers = {"Cache-Control": "no-store"}
        if code == "invalid_client":
            headers["WWW-Authenticate"] = 'Basic realm="credrotator sandbox"'
        return json_answer(body, STATUS_BY_ERROR.get(code, 400), headers)

    def discovery(self, _: Request) -> Response:
        """Answer ``/.well-known/openid-configuration``."""
        return json_answer(self.discovery_document(), headers=self._cacheable())

    def jwks(self, _: Request) -> Response:
        """Answer with the JWK Set."""
        return json_answer(self.keys.jwks(), headers=self._cacheable())

    def token(self, request: Request) -> Response:
        """Answer a client credentials request (RFC 6749 §4.4)."""
        client_id, client = authenticated(
            request, self.clients, self.auth_methods, self.assertions, decodes_basic=self.decodes_basic
        )
        if request.form.get("grant_type") != "client_credentials":
            raise Refused("unsupported_grant_type", "only client_credentials is supported")
        scope = _granted_scope(request, client)
        audience = _asked_audience(request, client)
        life = client.token_life or self.token_life
        claims = self._claims(client_id, client, audience, scope)
        body = {"token_type": "Bearer", "expires_in": int(life.total_seconds()), "scope": scope}
        body["access_token"] = self._access_token(claims)
        if "openid" in scope.split():
            body["id_token"] = self.keys.sign(claims)
        return json_answer(body, headers={"Cache-Control": "no-store"})

    def _access_token(self, claims: Mapping[str, Any]) -> str:
        return secrets.token_urlsafe(32) if self.access_token_format == "opaque" else self.keys.sign(claims)

    def _claims(self, client_id: str, client: Client, audience: str | list[str], scope: str) -> dict[str, Any]:
        now = self.now()
        return {
            "iss": self.url,
            "sub": client.subject,
            "aud": audience,
            "azp": client_id,
            "client_id": client_id,
            "iat": int(now.timestamp()),
            "exp": int((now + (client.token_life or self.token_life)).timestamp()),
            "jti": secrets.token_hex(16),
            "scope": scope,
            **self.extra_claims,
        }

    def _cacheable(self) -> dict[str, str]:
        return {"Cache-Control": f"public, max-age={int(self.discovery_max_age.total_seconds())}"}


def _granted_scope(request: Request, client: Client) -> str:
    asked = request.form.get("scope", "").split()
    if unknown := sorted(set(asked) - client.scopes):
        raise Refused("invalid_scope", f"not allowed for this client: {' '.join(unknown)}")
    return " ".join(asked)


def _asked_audience(request: Request, client: Client) -> str | list[str]:
    asked = request.form.getlist("audience") + request.form.getlist("resource")
    if client.audiences is not None and not client.audiences.issuperset(asked):
        raise Refused("invalid_target", "the audience or resource is not allowed for this client")
    if len(asked) > 1:
        return asked
    return asked[0] if asked else client.audience
