"""The sandbox's Microsoft Entra.

Owns tenants, apps and the tokens they get, by settings that a test may edit. Must not know AWS. Specification:
Microsoft identity platform v2.0: OpenID configuration, client credentials flow with a secret or a federated
assertion, signing key discovery.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from credrotator.sandbox.answers import Refused, json_answer
from credrotator.sandbox.apps import App, check_assertion, check_secret
from credrotator.sandbox.entraanswers import error_answer
from credrotator.sandbox.keys import SigningKeys
from credrotator.sandbox.service import Place, Scheme, Service
from credrotator.sandbox.trust import BadSignature, Malformed, Token, TrustedIssuers, UnknownIssuer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug import Request, Response


# What SDKs add to every request of theirs; a client credentials token is for one resource all the same.
IGNORED_SCOPES = frozenset({"openid", "profile", "offline_access", "email"})
DEFAULT_SCOPE_SUFFIX = "/.default"


class Entra(Service):
    """An Entra whose tenants, apps and lives are plain attributes; each may be changed while it runs."""

    name: ClassVar[str] = "entra"
    routes: ClassVar[Mapping[str, str]] = {
        "/<tenant>/v2.0/.well-known/openid-configuration": "GET discovery",
        "/<tenant>/discovery/v2.0/keys": "GET jwks",
        "/<tenant>/oauth2/v2.0/token": "POST token",
        "/sandbox/whoami": "GET whoami",
    }

    def __init__(self, place: Place, port: int, scheme: Scheme = "https") -> None:
        super().__init__(place, port, scheme)
        self.keys = SigningKeys("RS256")
        self.issuers = TrustedIssuers()
        self.tenants: dict[str, dict[str, App]] = {}
        self.resources: set[str] | None = None  # None: every resource exists
        self.token_life = timedelta(seconds=3599)
        self.extended_life: timedelta | None = None  # as long as token_life where None

    def refusal(self, code: str, description: str | None = None) -> Response:
        """Return an Entra error for an AADSTS code."""
        return error_answer(code, description, self.now())

    def discovery(self, _: Request, tenant: str) -> Response:
        """Answer a tenant's OpenID configuration."""
        self._apps(tenant)
        base = f"{self.url}/{tenant}"
        return json_answer(
            {
                "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                "jwks_uri": f"{base}/discovery/v2.0/keys",
                "response_types_supported": ["code", "id_token"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                "tenant_region_scope": None,
            },
            headers={"Cache-Control": "max-age=86400, private"},
        )

    def jwks(self, _: Request, tenant: str) -> Response:
        """Answer the keys that verify Entra's tokens."""
        self._apps(tenant)
        return json_answer(self.keys.jwks())

    def token(self, request: Request, tenant: str) -> Response:
        """Answer a client credentials request."""
        apps = self._apps(tenant)
        form = request.form
        for name in ("grant_type", "client_id", "scope"):
            if not form.get(name):
                text = f"The request body must contain the following parameter: '{name}'."
                raise Refused("900144", text)
        if form["grant_type"] != "client_credentials":
            raise Refused("70003")
        app = apps.get(form["client_id"])
        if app is None:
            text = f"Application with identifier '{form['client_id']}' was not found in the directory."
            raise Refused("700016", text)
        self._authenticate(app, form)
        return self._grant(tenant, form["client_id"], self._resource(form["scope"]))

    def whoami(self, request: Request) -> Response:
        """Answer the claims of the bearer token, after verifying signature and expiry (RFC 6750 §3.1)."""
        scheme, _, compact = request.headers.get("Authorization", "").partition(" ")
        try:
            claims = self._own(compact if scheme.lower() == "bearer" else "")
        except (Malformed, BadSignature, UnknownIssuer) as error:
            challenge = f'Bearer error="invalid_token", error_description="{type(error).__name__}"'
            return json_answer({"error": "invalid_token"}, 401, {"WWW-Authenticate": challenge})
        if request.args.get("audience", claims["aud"]) != claims["aud"]:
            return json_answer({"error": "insufficient_scope"}, 403)
        return json_answer(claims)

    def _authenticate(self, app: App, form: Mapping[str, str]) -> None:
        if "client_assertion" in form:
            check_assertion(app, form, self.issuers, self.now())
        elif "client_secret" in form:
            check_secret(app, form["client_secret"], self.now())
        else:
            raise Refused("7000218")

    def _apps(self, tenant: str) -> dict[str, App]:
        if tenant not in self.tenants:
            text = f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID."
            raise Refused("90002", text)
        return self.tenants[tenant]

    def _resource(self, scope: str) -> str:
        asked = [part for part in scope.split() if part not in IGNORED_SCOPES]
        if len(asked) != 1:
            raise Refused("70011")
        if not asked[0].endswith(DEFAULT_SCOPE_SUFFIX):
            raise Refused("1002012")
        resource = asked[0].removesuffix(DEFAULT_SCOPE_SUFFIX)
        if self.resources is not None and resource not in self.resources:
            raise Refused("500011")
        return resource

    def _grant(self, tenant: str, client_id: str, resource: str) -> Response:
        claims = self._claims(tenant, client_id, resource)
        life_s = int(self.token_life.total_seconds())
        extended = self.token_life if self.extended_life is None else self.extended_life
        body: dict[str, Any] = {
            "token_type": "Bearer",
            "expires_in": life_s,
            "ext_expires_in": int(extended.total_seconds()),
            "access_token": self.keys.sign(claims),
        }
        return json_answer(body, headers={"Cache-Control": "no-store, no-cache"})

    def _claims(self, tenant: str, client_id: str, resource: str) -> dict[str, Any]:
        now = int(self.now().timestamp())
        return {
            "aud": resource,
            "iss": f"{self.url}/{tenant}/v2.0",
            "iat": now,
            "nbf": now,
            "exp": now + int(self.token_life.total_seconds()),
            "azp": client_id,
            "appid": client_id,
            "idtyp": "app",
            "oid": client_id,
            "sub": client_id,
            "tid": tenant,
            "uti": secrets.token_urlsafe(16),
            "ver": "2.0",
        }

    def _own(self, compact: str) -> Mapping[str, Any]:
        own = TrustedIssuers()
        for tenant in self.tenants:
            own.trust(f"{self.url}/{tenant}/v2.0", self.keys.public)
        token: Token = own.verified(compact)
        expires = token.time("exp")
        if expires is None or self.now() >= expires:
            raise Malformed("expired")
        return token.claims
