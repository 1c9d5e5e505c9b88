"""Token requests by which a subject token becomes an access token, sent as form or JSON, and what is made of answers.

Owns RFC 8693 (token exchange) and RFC 7523 §2.1 (assertion) as far as they are the same for every endpoint. Who is
asked, with which fields, and what a refusal's code is to be done about, each provider says. Nothing is called a
credential here that the answer does not call a Bearer token with a known end. Source: RFC 6749 §5.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from credrotator.core.claims import claim_time, read_claims
from credrotator.core.errors import Denied, Outage, RotationError, StaleToken, Throttled, Transient, printable
from credrotator.core.model import Credential
from credrotator.exchange.http.foreign import masking, said_to
from credrotator.exchange.http.transport import (
    RATE_LIMITED,
    SERVER_ERROR,
    TOO_MANY_REQUESTS,
    json_object,
    refuse_failure,
    retry_after,
    text,
)
from credrotator.exchange.lifetimes import expiry, unusable
from credrotator.exchange.token_values import DATA_KEY, refuse_long, token_value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import requests

    from credrotator.core.ports import Clock
    from credrotator.core.sensitive import Sensitive
    from credrotator.exchange.http.endpoint import Endpoint
    from credrotator.exchange.http.transport import Transport

# RFC 8693 §2.1, RFC 7523 §2.1 and RFC 8693 §3, in this order.
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:"
CLOCKS = "compare the clocks of the issuer and this machine"
STALE = re.compile(
    r"(token|assertion|jwt|grant|it)\b.{0,40}\b(has |is |was )?(expired|already (been )?(used|redeemed|exchanged))"
    r"|\breplay|\bjti\b.{0,40}\b(used|seen|reuse)|\bexp\b.{0,20}\bpast\b",
    re.IGNORECASE,
)
"""Words of a refusal for which another subject token is worth one more try."""


@dataclass(frozen=True, slots=True)
class AccessToken(Credential):
    """A token that is sent as ``Authorization: Bearer``."""

    token: Sensitive
    issued_at: datetime
    expires_at: datetime
    request_id: str | None = None

    @property
    def summary(self) -> str:
        """See ``Credential``."""
        return "access token"

    def secret_data(self, data_key: str | None) -> Mapping[str, Sensitive]:
        """See ``Credential``."""
        return {data_key or DATA_KEY: self.token}


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """One token request.

    Attributes:
        url: The token endpoint.
        fields: What is asked; a list is sent several times in a form.
        whom: What it is about, for messages.
        headers: Beside the usual ones.
        encoding: How the fields are written.
    """

    url: str
    fields: Mapping[str, str | list[str]]
    whom: str
    headers: Mapping[str, str] = field(default_factory=dict)
    encoding: Literal["form", "json"] = "json"


@dataclass(frozen=True, slots=True)
class GrantEndpoint:
    """A kind of token endpoint: what is peculiar to it.

    Attributes:
        endpoint: Its name in errors and metrics.
        hint: What to do about a refusal that has no better advice.
        hints: What to do about others, by their code.
        status_page: Where to look when it fails.
        request_id: The header that holds the id of a request.
        lenient: An answer without a ``token_type`` is a Bearer token, as the vendor's own client takes it.
    """

    endpoint: Endpoint
    hint: str
    hints: Mapping[str, str] = field(default_factory=dict)
    status_page: str = "see its status page or its log"
    request_id: str = "x-request-id"
    lenient: bool = False

    def ask(self, transport: Transport, grant: TokenGrant, proof: Sensitive, clock: Clock) -> AccessToken:
        """Send a token request, and return what it is answered with.

        Args:
            transport: How the endpoint is reached.
            grant: The request.
            proof: The subject token in it, which no message repeats.
            clock: The present moment.

        Raises:
            RotationError: Refused, or not usable; the reason has the endpoint's own code where it sent one.
        """
        asked_s = time.monotonic()
        body: dict[str, Any] = (
            {"json": dict(grant.fields)} if grant.encoding == "json" else {"data": dict(grant.fields)}
        )
        with masking(proof):
            headers = {"Accept": "application/json", **grant.headers}
            response = transport.request("POST", grant.url, headers=headers, **body)
            answer = self._success(response, grant, clock)
            # NOTE: the answer's Date may just have put the clock right, so the life is not measured from before.
            now = clock()
            return self._token(answer, response, now - timedelta(seconds=time.monotonic() - asked_s), now)

    def _success(self, response: requests.Response, grant: TokenGrant, clock: Clock) -> dict[str, Any]:
        """Let nothing but a well-formed success pass."""
        # A redirect would send the subject token elsewhere; ``ok`` is true for it (requests counts below 400).
        if not response.ok or response.is_redirect:
            raise self._refusal(response, grant, clock)
        answer = json_object(response)
        # Some answer 200 with an error in the body; its token, if there is one, is none.
        if answer.get("error"):
            raise self._refusal(response, grant, clock)
        return answer

    def _token(
        self, answer: Mapping[str, Any], response: requests.Response, issued_at: datetime, now: datetime
    ) -> AccessToken:
        """Read a token response (RFC 6749 §5.1, RFC 8693 §2.2.1)."""
        kind = answer.get("token_type")
        absent = self.lenient and kind is None
        if not absent and (not isinstance(kind, str) or kind.strip().lower() != "bearer"):
            raise unusable(self.endpoint, "token_type is not Bearer")
        token = token_value(self.endpoint, answer, "access_token")
        refuse_long(self.endpoint, token)
        exp = claim_time(read_claims(token), "exp")
        # A life that is guessed too long leaves the gateway with a dead token, and nobody would know why.
        if answer.get("expires_in") is None and exp is None:
            raise unusable(self.endpoint, "it does not say when the token expires (expires_in)")
        expires_at = expiry(self.endpoint, answer.get("expires_in"), exp, now)
        request_id = said_to(response.request, response.headers.get(self.request_id, ""), 80)
        return AccessToken(token, issued_at, expires_at, request_id or None)

    def _refusal(self, response: requests.Response, grant: TokenGrant, clock: Clock) -> RotationError:
        """Class a refusal by its code: OAuth's (RFC 6749 §5.2), or what an API has in its place."""
        code, description = read_error(response)
        # Without a code of the endpoint's own, the status is all there is: a proxy or a load balancer may have
        # answered.
        if not code:
            refuse_failure(response, self.endpoint, clock)
        status, name, title = response.status_code, self.endpoint.name, self.endpoint.title
        code, shown = said_to(response.request, code, 60), said_to(response.request, description)
        message = f"{title} answered {' '.join(filter(None, (str(status), code)))}: {shown} ({printable(grant.whom)})"
        wait = retry_after(response.headers, clock())
        # Before the code: whoever limits the rate does not always have a code for it.
        if status == TOO_MANY_REQUESTS:
            return Throttled(f"{name}Throttled", message, hint=RATE_LIMITED, retry_after=wait)
        if status >= SERVER_ERROR or code in _PASSING:
            return Outage(f"{name}Failed", message, hint=self.status_page, retry_after=wait)
        # By words, since RFC 6749 has invalid_grant for all that can be wrong with an assertion.
        if STALE.search(description):
            reason = f"{name}StaleToken"
            return StaleToken(reason, message, hint=CLOCKS)
        # ``invalid_target`` becomes InvalidTarget. Letters only, and cut: a tenant's endpoint chooses the code.
        own = "".join(part.capitalize() for part in re.findall("[A-Za-z]+", code))[:40]
        return Denied(f"{name}{own or 'Refused'}", message, hint=self.hints.get(code, self.hint))


_PASSING = frozenset({"temporarily_unavailable", "server_error", "overloaded_error", "api_error"})


def read_error(response: requests.Response) -> tuple[str, str]:
    """Return code and words of an error response, empty where it has none."""
    try:
        answer = json_object(response)
    except Transient:
        return "", ""
    error = answer.get("error")
    body: Mapping[str, Any] = error if isinstance(error, dict) else answer
    code = text(answer, "error") or text(body, "code") or text(body, "type")
    return code, text(answer, "error_description") or text(body, "message")
