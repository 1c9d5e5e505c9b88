"""The sandbox's Google Cloud: the token exchange of STS, IAM credentials, and the token endpoint, on one port.

Owns what they ask for and give, by settings that a test may edit. Must not know AWS or Entra. Specification: Google
Security Token Service API v1 (``v1/token``; RFC 8693), IAM Service Account Credentials API v1
(``generateAccessToken``), "Using OAuth 2.0 for server to server applications" (RFC 7523 §2.1).
"""

from __future__ import annotations

import re
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from credrotator.sandbox.answers import Refused, json_answer
from credrotator.sandbox.googleaccounts import Grant, PoolProvider, ServiceAccount, signer_of
from credrotator.sandbox.googleanswers import error_answer
from credrotator.sandbox.service import Place, Scheme, Service
from credrotator.sandbox.trust import TrustedIssuers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug import Request, Response

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
SUBJECT_TYPES = ("urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token")
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
IAM = "https://www.googleapis.com/auth/iam"
KEPT_GRANTS = 20_000  # the oldest go first, so that a sandbox may run for days
ACCOUNT_ID = "100000000000000000001"
LIFETIME = re.compile(r"([0-9]{1,6})s")


class Google(Service):
    """A Google Cloud whose providers, accounts and lives are plain attributes; each may be changed while it runs."""

    name: ClassVar[str] = "google"
    routes: ClassVar[Mapping[str, str]] = {
        "/v1/token": "POST exchange",
        "/v1/projects/-/serviceAccounts/<email>:generateAccessToken": "POST impersonate",
        "/token": "POST token",
        "/tokeninfo": "POST token_info",
        "/sandbox/whoami": "GET whoami",
    }

    def __init__(self, place: Place, port: int, scheme: Scheme = "https") -> None:
        super().__init__(place, port, scheme)
        self.issuers = TrustedIssuers()
        self.providers: dict[str, PoolProvider] = {}  # by the full resource name, from // on
        self.accounts: dict[str, ServiceAccount] = {}  # by e-mail address
        self.grants: dict[str, Grant] = {}  # by access token
        self.token_life = timedelta(seconds=3599)

    def refusal(self, code: str, description: str | None = None) -> Response:
        """Return an error: OAuth's for a code in small letters, an API's for one in capitals."""
        return error_answer(code, description)

    def exchange(self, request: Request) -> Response:
        """Answer a token exchange (RFC 8693 §2.1)."""
        form = request.form
        if form.get("grant_type") != TOKEN_EXCHANGE:
            raise Refused("unsupported_grant_type")
        if form.get("requested_token_type") != ACCESS_TOKEN or form.get("subject_token_type") not in SUBJECT_TYPES:
            raise Refused("invalid_request", "Invalid value for requested_token_type or subject_token_type.")
        scopes = frozenset(form.get("scope", "").split())
        if not scopes:
            raise Refused("invalid_scope")
        name = form.get("audience", "")
        provider = self.providers.get(name)
        if provider is None or provider.disabled:
            raise Refused("invalid_target")
        principal = provider.principal(name, form.get("subject_token", ""), self.issuers, self.now())
        body = self._granted(principal, scopes, "ya29.d.")
        return json_answer({**body, "issued_token_type": ACCESS_TOKEN}, headers={"Cache-Control": "no-store"})

    def impersonate(self, request: Request, email: str) -> Response:
        """Answer ``generateAccessToken``."""
        caller = self._caller(request)
        asked = request.get_json(force=True, silent=True)
        found: Mapping[str, Any] = asked if isinstance(asked, dict) else {}
        scopes, lifetime = found.get("scope"), LIFETIME.fullmatch(str(found.get("lifetime", "3600s")))
        if not isinstance(scopes, list) or not scopes or lifetime is None:
            raise Refused("INVALID_ARGUMENT")
        account = self.accounts.get(email)
        if account is None:
            raise Refused("NOT_FOUND", f"Not found; Gaia id not found for email {email}")
        if (
            caller.principal not in account.impersonators
            or account.disabled
            or not caller.scopes & {IAM, CLOUD_PLATFORM}
        ):
            raise Refused("PERMISSION_DENIED")
        life = timedelta(seconds=int(lifetime[1]))
        if not timedelta(0) < life <= account.max_life:
            raise Refused(
                "INVALID_ARGUMENT", "The access token lifetime cannot exceed the limit of the service account."
            )
        expires = self.now() + min(life, self.token_life + timedelta(seconds=1))
        token = self._keep(Grant(email, frozenset(map(str, scopes)), expires), "ya29.c.")
        return json_answer({"accessToken": token, "expireTime": expires.strftime("%Y-%m-%dT%H:%M:%SZ")})

    def token(self, request: Request) -> Response:
        """Answer a service account's signed assertion."""
        if request.form.get("grant_type") != JWT_BEARER:
            raise Refused("unsupported_grant_type")
        email, scope = signer_of(request.form.get("assertion", ""), self.accounts, self.now())
        if not scope:
            raise Refused("invalid_scope")
        return json_answer(self._granted(email, frozenset(scope.split()), "ya29.c."))

    def token_info(self, request: Request) -> Response:
        """Say what an access token is good for; of a pool's own tokens, which have no account, it knows nothing."""
        grant = self.grants.get(request.form.get("access_token", ""))
        account = self.accounts.get(grant.principal) if grant else None
        if grant is None or account is None or account.disabled or self.now() >= grant.expires:
            # Said here alone, and of no exchange.
            return json_answer({"error": "invalid_token", "error_description": "Invalid Value"}, 400)
        left_s = int((grant.expires - self.now()).total_seconds())
        body = {"azp": ACCOUNT_ID, "aud": ACCOUNT_ID, "scope": " ".join(sorted(grant.scopes)), "access_type": "online"}
        return json_answer({**body, "exp": str(int(grant.expires.timestamp())), "expires_in": str(left_s)})

    def whoami(self, request: Request) -> Response:
        """Answer whom the bearer token stands for, as any API of Google's would judge it."""
        caller = self._caller(request)
        if CLOUD_PLATFORM not in caller.scopes:
            raise Refused("PERMISSION_DENIED", "Request had insufficient authentication scopes.")
        return json_answer({"principal": caller.principal, "scopes": sorted(caller.scopes)})

    def _caller(self, request: Request) -> Grant:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        grant = self.grants.get(token)
        if scheme.lower() != "bearer" or grant is None or self.now() >= grant.expires:
            raise Refused("UNAUTHENTICATED")
        return grant

    def _granted(self, principal: str, scopes: frozenset[str], prefix: str) -> dict[str, Any]:
        token = self._keep(Grant(principal, scopes, self.now() + self.token_life), prefix)
        return {"access_token": token, "token_type": "Bearer", "expires_in": int(self.token_life.total_seconds())}

    def _keep(self, grant: Grant, prefix: str) -> str:
        token = prefix + secrets.token_urlsafe(96)
        self.grants[token] = grant
        while len(self.grants) > KEPT_GRANTS:
            self.grants.pop(next(iter(self.grants)), None)
        return token
