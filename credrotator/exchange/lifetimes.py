"""How long a token lives, from a response that may say it in several ways, or not, or wrongly (RFC 6749 §5.1)."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from credrotator.core.errors import Outage

if TYPE_CHECKING:
    from credrotator.exchange.http.endpoint import Endpoint

# As ``planning.LONGEST_LIFE``: beyond it an expiry is taken for an error.
LONGEST_TOKEN = timedelta(hours=24)
DEFAULT_TOKEN_LIFE = timedelta(minutes=5)
"""For a token that tells its life neither in the response nor in ``exp``."""


def expiry(endpoint: Endpoint, expires_in: object, exp: datetime | None, now: datetime) -> datetime:
    """Take the sooner of ``expires_in`` (seconds from now) and the JWT's ``exp``, at most 24 h ahead.

    Raises:
        Outage: ``expires_in`` is no positive number, or the token has expired already.
    """
    stated = None if expires_in is None else now + _span(endpoint, expires_in)
    known = [moment for moment in (stated, exp) if moment]
    expires_at = min(known) if known else now + DEFAULT_TOKEN_LIFE
    if expires_at <= now:
        raise Outage(
            "TokenExpired",
            f"{endpoint.title} gave a token that expired at {expires_at:%Y-%m-%dT%H:%M:%SZ}",
            hint="compare the clock of this machine with the one over there",
        )
    return min(expires_at, now + LONGEST_TOKEN)


def unusable(endpoint: Endpoint, what: str) -> Outage:
    """Make the error for a token response that is JSON but nonsense."""
    message = f"the token response of {endpoint.title} is not usable: {what}"
    return Outage("InvalidResponse", message, hint="see whether the token endpoint is the right one")


def _span(endpoint: Endpoint, value: object) -> timedelta:
    try:
        seconds = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        seconds = math.nan
    if isinstance(value, str) and math.isinf(seconds):
        # "Infinity" is a word; a number that is too large for a float is one that is large.
        seconds = math.nan
    if not seconds > 0:
        shown = f"{seconds:g}" if math.isfinite(seconds) else f"a {type(value).__name__}"
        raise unusable(endpoint, f"expires_in is {shown}, expected a positive number of seconds")
    # The inner bound keeps timedelta from OverflowError; the outer one is the rule.
    return min(timedelta(seconds=min(seconds, 1e8)), LONGEST_TOKEN)
