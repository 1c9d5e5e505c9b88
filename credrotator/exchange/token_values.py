"""What is taken for a token: text that a header, a form and a file hold as they are (RFC 6749 appendix A.12).

A token with a line end or an escape code in it would add a line to what is published, or speak to a terminal; no issuer
has a reason for one. Source: reliability.md 71.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from credrotator.core.errors import Denied
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.lifetimes import unusable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.exchange.http.endpoint import Endpoint

# VSCHAR without the blank: RFC 6750 §2.1 allows fewer still, and vendors do not keep to it.
TOKEN = re.compile(r"[!-~]+")
AROUND = " \t\r\n"
"""What some servers put around a token; it is left out."""


DATA_KEY = "apiKey"
"""Key of a Secret in which the gateway looks for what it sends as ``Authorization: Bearer``."""
LONGEST_CREDENTIAL = 20_000
"""Characters of a token that is published: a header that is longer is turned away by proxies and servers alike."""


def refuse_long(endpoint: Endpoint, token: Sensitive) -> None:
    """Let no token pass that no request could carry.

    Raises:
        Denied: TokenTooLong.
    """
    if (length := len(token.reveal())) > LONGEST_CREDENTIAL:
        message = f"the token of {endpoint.title} has {length} characters, more than {LONGEST_CREDENTIAL}"
        raise Denied("TokenTooLong", message, hint="have fewer claims put into these tokens")


def token_value(endpoint: Endpoint, document: Mapping[str, object], name: str) -> Sensitive:
    """Return a member of a token response as the token that it is.

    Args:
        endpoint: Whose response it is.
        document: The response (RFC 6749 §5.1), as JSON.
        name: The member that holds the token.

    Raises:
        Transient: InvalidResponse: missing, empty, no text, or with characters that no token has.
    """
    value = document.get(name)
    token = value.strip(AROUND) if isinstance(value, str) else ""
    if not token:
        raise unusable(endpoint, f"{name} is missing or empty")
    if not TOKEN.fullmatch(token):
        raise unusable(endpoint, f"{name} has characters in it that no token has")
    return Sensitive(token)
