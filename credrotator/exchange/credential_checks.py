"""What providers share for verifying a new credential: claims of a token that is a JWT, and a call that shows one.

Owns the line between a rejection and an answer that says nothing of the credential. Claims are read, not verified: the
token came from its issuer by TLS, and what is looked for is a mistake in a setup. Source: RFC 7519 §4.1; RFC 6750 §3.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from credrotator.core.claims import audiences, claim_time
from credrotator.core.errors import Outage, Rejected, printable
from credrotator.exchange.grants import read_error
from credrotator.exchange.http.foreign import masking, said_to
from credrotator.exchange.http.transport import json_object, refuse_failure

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import requests

    from credrotator.core.errors import RotationError, Settling
    from credrotator.core.ports import Clock
    from credrotator.core.sensitive import Sensitive
    from credrotator.exchange.http.endpoint import Endpoint
    from credrotator.exchange.http.transport import Transport

REASON = "CredentialRejected"
REJECTIONS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
TOLERANCE = timedelta(minutes=1)
"""By which two clocks that are right may differ."""


def rejected(why: str, hint: str, settling: Settling | None = None) -> Rejected:
    """Make the error for a credential that is none that would do; ``why`` begins in small letters."""
    return Rejected(REASON, f"the new credential is not published: {why}", hint=hint, settling=settling)


def check_claims(claims: Mapping[str, Any], clock: Clock, audience: Collection[str] = ()) -> None:
    """See whether a token is current, and for whom it should be.

    Args:
        claims: The token's.
        clock: The present moment.
        audience: Of whom one is enough; empty: the policy does not say.

    Raises:
        Rejected: It is not.
    """
    now, begins, ends = clock(), claim_time(claims, "nbf"), claim_time(claims, "exp")
    if ends is not None and ends <= now:
        raise rejected(f"the token expired at {ends:%Y-%m-%dT%H:%M:%SZ} (exp)", CLOCKS)
    if begins is not None and begins > now + TOLERANCE:
        raise rejected(f"the token is not good before {begins:%Y-%m-%dT%H:%M:%SZ} (nbf)", CLOCKS)
    named = audiences(claims)
    if audience and named and not set(named) & set(audience):
        wanted = " or ".join(printable(each, 80) for each in audience)
        hint = "correct the audience or scope in the policy, or what the issuer makes of it"
        raise rejected(f"the token is for {', '.join(named)} (aud), not for {wanted}", hint)


CLOCKS = "compare the clocks of the issuer and this machine"


@dataclass(frozen=True, slots=True)
class BearerApi:
    """An API to which a token is shown, by a request that changes nothing and costs nothing.

    Attributes:
        endpoint: Names the vendor.
        transport: How it is reached.
        url: What is read there.
        headers: What the API wants beside the token.
    """

    endpoint: Endpoint
    transport: Transport
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def show(self, token: Sensitive, clock: Clock) -> None:
        """Show a token.

        Raises:
            Rejected: 401 or 403.
            RotationError: Any other failure, which says nothing of the token.
        """
        with masking(token):
            sent = {"Authorization": f"Bearer {token.reveal()}", "Accept": "application/json", **self.headers}
            response = self.transport.request("GET", self.url, headers=sent)
            if not response.ok or response.is_redirect:
                refuse_failure(response, self.endpoint, clock)
                raise self._refusal(response)
            # What stands in the way, as a portal that wants a login, answers everything with success.
            json_object(response)

    def _refusal(self, response: requests.Response) -> RotationError:
        title, (code, words) = self.endpoint.title, read_error(response)
        code, words = said_to(response.request, code, 60), said_to(response.request, words)
        message = f"{title} answered {' '.join(filter(None, (str(response.status_code), code)))}: {words}"
        if response.status_code in REJECTIONS:
            return rejected(message, f"see at {title} whether the account is enabled, and may list models")
        hint = f"see whether {self.endpoint.address_setting} is right"
        return Outage(f"{self.endpoint.name}Failed", message, hint=hint)
