"""The sandbox's token exchange: any OAuth server that takes tokens of another issuer, and an API behind it.

Owns what it asks for and gives, by settings that a test may edit. Specification: RFC 8693 §2 (token exchange), RFC 7523
§2.1 (assertion), RFC 8707 (resource), in form or JSON.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from credrotator.sandbox.answers import Refused, json_answer
from credrotator.sandbox.federation import ModelVendor, Trusted, json_fields, required
from credrotator.sandbox.trust import BadSignature, Malformed, UnknownIssuer, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug import Request, Response

    from credrotator.sandbox.service import Place, Scheme

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:"
SUBJECT_TYPES = frozenset({f"{TOKEN_TYPE}jwt", f"{TOKEN_TYPE}access_token", f"{TOKEN_TYPE}id_token"})
AUDIENCE = "https://exchange.example"
TARGETS = frozenset({"https://mcp.example", "https://tools.example"})
STATUS = {"invalid_client": 401, "invalid_token": 401, "server_error": 500, "temporarily_unavailable": 503}


class TokenExchange(ModelVendor):
    """A token endpoint whose trust, targets and lives are plain attributes; each may be changed while it runs.

    ``parameters``: what each request has to have beside the standard's parameters. ``revoked``: tokens, its own or an
    issuer's, that it does not take any more.
    """

    name: ClassVar[str] = "exchange"
    prefix: ClassVar[str] = "exchanged-"
    routes: ClassVar[Mapping[str, str]] = {"/token": "POST token", "/sandbox/whoami": "GET whoami"}

    def __init__(self, place: Place, port: int, scheme: Scheme = "https") -> None:
        super().__init__(place, port, scheme)
        self.trusted: list[Trusted] = []
        self.targets = TARGETS
        self.scopes = frozenset({"tools", "models"})
        self.parameters: dict[str, str] = {}
        self.revoked: set[str] = set()
        self.token_life = timedelta(minutes=30)

    def refusal(self, code: str, description: str | None = None) -> Response:
        """Return an error (RFC 6749 §5.2)."""
        body = {"error": code, "error_description": description or code}
        return json_answer(body, STATUS.get(code, 400), {"Cache-Control": "no-store"})

    def revoke(self, token: str) -> None:
        """Take a token no more, wherever it is from."""
        super().revoke(token)
        self.revoked.add(token)

    def token(self, request: Request) -> Response:
        """Answer either grant."""
        fields = json_fields(request) if request.mimetype == "application/json" else request.form.to_dict()
        kind = fields.get("grant_type")
        if kind == TOKEN_EXCHANGE:
            if fields.get("subject_token_type") not in SUBJECT_TYPES:
                raise Refused("invalid_request", "subject_token_type is not supported")
            compact = required(fields, "subject_token")
        elif kind == JWT_BEARER:
            compact = required(fields, "assertion")
        else:
            raise Refused("unsupported_grant_type")
        self._check(fields, request)
        subject = self._subject(compact)
        body = {
            "access_token": self.give(subject, self.token_life),
            "issued_token_type": fields.get("requested_token_type", f"{TOKEN_TYPE}access_token"),
            "token_type": "Bearer",
            "expires_in": int(self.token_life.total_seconds()),
        }
        return json_answer(body, headers={"Cache-Control": "no-store", "x-request-id": "req_sandbox"})

    def whoami(self, request: Request) -> Response:
        """Answer whom a bearer token stands for: one that was given here, or one of a trusted issuer as it is."""
        grant = self.caller(request)
        if grant is not None:
            return json_answer({"principal": grant.principal})
        compact = request.headers.get("Authorization", "").partition(" ")[2]
        if compact in self.revoked:
            raise Refused("invalid_token", "the token was revoked")
        try:
            token = self.issuers.verified(compact)
        except (Malformed, UnknownIssuer, Unreachable, BadSignature) as error:
            raise Refused("invalid_token", "neither given here nor by a trusted issuer") from error
        expires = token.time("exp")
        if expires is None or self.now() >= expires:
            raise Refused("invalid_token", "the token has expired")
        return json_answer({"principal": token.subject})

    def _check(self, fields: Mapping[str, Any], request: Request) -> None:
        for name, value in self.parameters.items():
            if fields.get(name) != value:
                raise Refused("invalid_request", f"{name} is missing or wrong")
        resources = fields.get("resource", [])
        asked = [*(request.form.getlist("resource") or ([resources] if isinstance(resources, str) else resources))]
        asked += [fields["audience"]] if fields.get("audience") else []
        if not self.targets.issuperset(asked):
            raise Refused("invalid_target", "no token is given for this audience or resource")
        if not self.scopes.issuperset(str(fields.get("scope", "")).split()):
            raise Refused("invalid_scope", "no token is given with this scope")

    def _subject(self, compact: str) -> str:
        refusal = Refused("invalid_grant", "nobody is trusted")
        for trusted in self.trusted:
            try:
                return trusted.judge(compact, self.issuers, self.now()).subject
            except Refused as error:
                refusal = error
        raise refusal
