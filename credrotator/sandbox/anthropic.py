"""The sandbox's Anthropic: federation rules at the token endpoint, and an API that answers one message.

Owns what they ask for and give, by settings that a test may edit. Must not know other vendors. Specification: RFC 7523;
Anthropic "Workload identity federation", and what Anthropic's own SDK sends and reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from credrotator.sandbox.answers import Refused, json_answer
from credrotator.sandbox.federation import ModelVendor, SeenIds, Trusted, json_fields, required

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug import Request, Response

    from credrotator.sandbox.googleaccounts import Grant
    from credrotator.sandbox.service import Place, Scheme

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_BETAS = frozenset({"oauth-2025-04-20", "oidc-federation-2026-04-01"})
API_BETA = "oauth-2025-04-20"
MAX_ASSERTION_BYTES = 16 * 1024
DEFAULT_RULE = "fdrl_sandbox"
DEFAULT_ORGANIZATION = "00000000-1111-2222-3333-444444444444"
DEFAULT_SERVICE_ACCOUNT = "svac_sandbox"
DEFAULT_WORKSPACE = "wrkspc_sandbox"
AUDIENCE = "https://api.anthropic.com"
BAD_REQUEST = 400


@dataclass
class FederationRule:
    """Whose token is taken, for which service account, in which workspaces, and for how long."""

    trusted: Trusted
    organization: str = DEFAULT_ORGANIZATION
    service_account: str = DEFAULT_SERVICE_ACCOUNT
    workspaces: tuple[str, ...] = (DEFAULT_WORKSPACE,)
    token_life: timedelta = timedelta(hours=1)
    single_use: bool = True
    seen: SeenIds = field(default_factory=SeenIds, repr=False)

    def workspace(self, asked: object) -> str:
        """Return the workspace that a request is for."""
        if asked is None and len(self.workspaces) > 1:
            raise Refused("invalid_request_error", "workspace_id is required: the rule covers several workspaces")
        chosen = self.workspaces[0] if asked is None else asked
        if chosen not in self.workspaces:
            raise Refused("invalid_grant", "the federation rule does not cover this workspace")
        return str(chosen)


class Anthropic(ModelVendor):
    """An Anthropic whose rules are a plain attribute; each may be changed while it runs."""

    name: ClassVar[str] = "anthropic"
    prefix: ClassVar[str] = "sk-ant-oat01-"
    routes: ClassVar[Mapping[str, str]] = {
        "/v1/oauth/token": "POST token",
        "/v1/messages": "POST message",
        "/v1/models": "GET models",
    }

    def __init__(self, place: Place, port: int, scheme: Scheme = "https") -> None:
        super().__init__(place, port, scheme)
        self.rules: dict[str, FederationRule] = {}

    def refusal(self, code: str, description: str | None = None) -> Response:
        """Return OAuth's error for its codes, and the API's own for codes that end in ``_error``."""
        text = description or code
        status = STATUS.get(code, BAD_REQUEST)
        if code.endswith("_error"):
            return json_answer({"type": "error", "error": {"type": code, "message": text}}, status)
        return json_answer({"error": code, "error_description": text}, status, {"Cache-Control": "no-store"})

    def token(self, request: Request) -> Response:
        """Answer an assertion (RFC 7523 §2.1)."""
        betas = {beta.strip() for beta in request.headers.get("anthropic-beta", "").split(",")}
        if not betas >= TOKEN_BETAS:
            raise Refused("invalid_request_error", "the header anthropic-beta lacks a flag")
        fields = json_fields(request)
        if fields.get("grant_type") != JWT_BEARER:
            raise Refused("unsupported_grant_type")
        assertion = required(fields, "assertion")
        if len(assertion.encode()) > MAX_ASSERTION_BYTES:
            raise Refused("invalid_request", "assertion is too long")
        rule = self.rules.get(required(fields, "federation_rule_id"))
        if rule is None or rule.trusted.disabled or rule.organization != required(fields, "organization_id"):
            raise Refused("invalid_grant", "no federation rule matches the token")
        now = self.now()
        subject = rule.trusted.judge(assertion, self.issuers, now)
        if fields.get("service_account_id", rule.service_account) != rule.service_account:
            raise Refused("invalid_grant", "the federation rule does not cover this service account")
        workspace = rule.workspace(fields.get("workspace_id"))
        if rule.single_use:
            rule.seen.take(subject, now)
        remains = (subject.time("exp") or now) - now
        life = min(rule.token_life, 2 * remains)
        access_token = self.give(f"{rule.service_account} in {workspace}", life)
        body = {"access_token": access_token, "token_type": "Bearer", "expires_in": int(life.total_seconds())}
        headers = {"Cache-Control": "no-store", "request-id": "req_sandbox"}
        return json_answer({**body, "scope": "workspace:developer"}, headers=headers)

    def models(self, request: Request) -> Response:
        """List one model, to whoever may send messages."""
        self._known(request)
        created = self.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        model = {"type": "model", "id": "sandbox-model", "display_name": "Sandbox", "created_at": created}
        return json_answer({"data": [model], "has_more": False, "first_id": model["id"], "last_id": model["id"]})

    def _known(self, request: Request) -> Grant:
        """Return whom a good token stands for, if the flag that tokens of this kind need is there."""
        grant = self.caller(request)
        if grant is None:
            raise Refused("authentication_error", "OAuth token is invalid, revoked or expired")
        betas = {beta.strip() for beta in request.headers.get("anthropic-beta", "").split(",")}
        if API_BETA not in betas:
            raise Refused("authentication_error", "OAuth authentication is currently not supported.")
        if not request.headers.get("anthropic-version"):
            raise Refused("invalid_request_error", "anthropic-version: header is required")
        return grant

    def message(self, request: Request) -> Response:
        """Answer a message, to whoever shows a good token."""
        grant = self._known(request)
        model = str(json_fields(request).get("model", ""))
        text = {"type": "text", "text": f"hello, {grant.principal}"}
        usage = {"input_tokens": 1, "output_tokens": 1}
        return json_answer(
            {
                "id": "msg_sandbox",
                "type": "message",
                "role": "assistant",
                "model": model,
                "content": [text],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": usage,
            }
        )


STATUS = {
    "invalid_grant": 401,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "api_error": 500,
    "server_error": 500,
    "temporarily_unavailable": 503,
    "overloaded_error": 529,
}
