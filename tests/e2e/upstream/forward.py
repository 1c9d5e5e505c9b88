"""A model vendor of the sandbox behind the gateway: it judges the token, and answers."""

from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import requests

from tests.e2e.published import token_id
from tests.e2e.upstream.journal import Request, Verdict

_PASSED_ON = ("authorization", "content-type", "anthropic-beta", "anthropic-version")


@dataclass(frozen=True)
class Forward:
    """Passes requests on to a vendor.

    Attributes:
        url: Of the vendor's server.
        ca: The CA file that its certificate is checked with.
        probe: A path that is asked with GET in place of the request's own, where the vendor serves no models.
    """

    url: str
    ca: Path
    probe: str = ""

    def verify(self, request: Request) -> Verdict:
        """Tell which token came, and what the vendor says of it."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            return Verdict("none", "no bearer token")
        answer = requests.request(
            "GET" if self.probe else request.method,
            f"{self.url}{self.probe or request.target}",
            headers={name: request.headers[name] for name in _PASSED_ON if name in request.headers},
            data=None if self.probe else request.body,
            verify=str(self.ca),
            timeout=10,
        )
        if answer.status_code != HTTPStatus.OK:
            return Verdict(token_id(token), f"{answer.status_code}: {answer.text}", answer.status_code)
        return Verdict(token_id(token), answer=None if self.probe else answer.json())
