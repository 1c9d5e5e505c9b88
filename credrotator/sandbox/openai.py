"""The sandbox's OpenAI: workload identities at the token endpoint, and an API that answers one completion.

Owns what they ask for and give, by settings that a test may edit. Must not know other vendors. Specification: RFC 8693;
OpenAI "Workload identity federation", and what OpenAI's own SDK sends and reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from joserfc import jws
from joserfc.errors import JoseError

from credrotator.sandbox.answers import Refused, json_answer
from credrotator.sandbox.federation import ModelVendor, Trusted, json_fields, required

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug import Request, Response

    from credrotator.sandbox.googleaccounts import Grant
    from credrotator.sandbox.service import Place, Scheme

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
SUBJECT_TYPES = frozenset({"urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"})
DEFAULT_IDENTITY_PROVIDER = "idp_sandbox"
DEFAULT_ACCOUNT_ID = "sa_sandbox"
AUDIENCE = "https://api.openai.com/v1"
LONGEST_TOKEN_LIFE = timedelta(hours=1)


@dataclass
class IdentityProvider:
    """Whose token is taken, and for which service accounts."""

    trusted: Trusted
    accounts: set[str] = field(default_factory=lambda: {DEFAULT_ACCOUNT_ID})
    token_life: timedelta = LONGEST_TOKEN_LIFE


class OpenAi(ModelVendor):
    """An OpenAI whose identity providers are a plain attribute; each may be changed while it runs."""

    name: ClassVar[str] = "openai"
    prefix: ClassVar[str] = "sk-sandbox-"
    routes: ClassVar[Mapping[str, str]] = {
        "/oauth/token": "POST token",
        "/v1/chat/completions": "POST completion",
        "/v1/models": "GET models",
    }

    def __init__(self, place: Place, port: int, scheme: Scheme = "https") -> None:
        super().__init__(place, port, scheme)
        self.identity_providers: dict[str, IdentityProvider] = {}

    def refusal(self, code: str, description: str | None = None) -> Response:
        """Return OAuth's error for its codes, and the API's own for a code of the API."""
        text, status = description or code, STATUS.get(code, 400)
        if code in API_CODES:
            error = {"message": text, "type": "invalid_request_error", "param": None, "code": code}
            return json_answer({"error": error}, status)
        return json_answer({"error": code, "error_description": text}, status, {"Cache-Control": "no-store"})

    def token(self, request: Request) -> Response:
        """Answer a token exchange (RFC 8693 §2.1)."""
        fields = json_fields(request)
        if fields.get("grant_type") != TOKEN_EXCHANGE:
            raise Refused("unsupported_grant_type")
        if fields.get("subject_token_type") not in SUBJECT_TYPES:
            raise Refused("invalid_request", "subject_token_type is not supported")
        compact = required(fields, "subject_token")
        provider = self.identity_providers.get(required(fields, "identity_provider_id"))
        if provider is None or provider.trusted.disabled:
            raise Refused("invalid_client", "unknown identity provider")
        if not _key_id(compact):
            raise Refused("invalid_grant", "the token lacks kid in its header")
        now = self.now()
        subject = provider.trusted.judge(compact, self.issuers, now)
        account = required(fields, "service_account_id")
        if account not in provider.accounts:
            raise Refused("access_denied", "the subject may not act for this service account")
        life = min(provider.token_life, LONGEST_TOKEN_LIFE, (subject.time("exp") or now) - now)
        body = {
            "access_token": self.give(account, life),
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "Bearer",
            "expires_in": int(life.total_seconds()),
        }
        return json_answer(body, headers={"Cache-Control": "no-store", "x-request-id": "req_sandbox"})

    def models(self, request: Request) -> Response:
        """List one model, to whoever shows a good token."""
        self._known(request)
        created = int(self.now().timestamp())
        model = {"id": "sandbox-model", "object": "model", "created": created, "owned_by": "sandbox"}
        return json_answer({"object": "list", "data": [model]})

    def _known(self, request: Request) -> Grant:
        grant = self.caller(request)
        if grant is None:
            raise Refused("invalid_api_key", "Incorrect API key provided, or it has expired.")
        return grant

    def completion(self, request: Request) -> Response:
        """Answer a chat, to whoever shows a good token."""
        grant = self._known(request)
        message = {"role": "assistant", "content": f"hello, {grant.principal}", "refusal": None}
        return json_answer(
            {
                "id": "chatcmpl-sandbox",
                "object": "chat.completion",
                "created": int(self.now().timestamp()),
                "model": str(json_fields(request).get("model", "")),
                "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )


def _key_id(compact: str) -> str:
    try:
        return str(jws.extract_compact(compact.encode()).headers().get("kid") or "")
    except (JoseError, ValueError) as error:
        raise Refused("invalid_request", "the token is not a signed JWT") from error


API_CODES = frozenset({"invalid_api_key", "rate_limit_exceeded"})
STATUS = {
    "invalid_client": 401,
    "invalid_api_key": 401,
    "access_denied": 403,
    "rate_limit_exceeded": 429,
    "server_error": 500,
    "temporarily_unavailable": 503,
}
