"""What Google's tokeninfo says of an access token. Pure.

Source: https://developers.google.com/identity/protocols/oauth2 (tokeninfo), RFC 6749 §5.2 for its errors.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from credrotator.core.errors import Outage, printable
from credrotator.exchange.credential_checks import rejected

if TYPE_CHECKING:
    from collections.abc import Mapping

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
REJECTING = frozenset({"invalid_token", "invalid_grant"})


def check_token_info(status: int, answer: Mapping[str, Any]) -> None:
    """See whether a token is known, and opens Google Cloud's APIs.

    Raises:
        Rejected: It does not.
        Outage: The answer says nothing of it.
    """
    if status == HTTPStatus.OK:
        scopes = str(answer.get("scope", "")).split()
        if CLOUD_PLATFORM not in scopes:
            shown = printable(", ".join(scopes) or "nothing", 120)
            hint = "see whether the organisation restricts scopes"
            raise rejected(f"Google says that the token is for {shown}", hint)
        return
    code = printable(answer.get("error", ""), 60)
    message = f"Google's tokeninfo answered {status} {code}: {printable(answer.get('error_description', ''))}"
    if code in REJECTING:
        raise rejected(message, "see whether the service account is enabled")
    raise Outage("GoogleFailed", message, hint="see https://status.cloud.google.com")
