"""JWT claims, read without verification (RFC 7519): to show them, to know an expiry. They authorise nothing."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from credrotator.core.errors import printable
from credrotator.core.json_text import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.core.sensitive import Sensitive

_PARTS = 3
_BASE64URL = re.compile(r"[A-Za-z0-9_=-]*")


def read_claims(token: Sensitive) -> Mapping[str, Any] | None:
    """Return the claims of a signed JWT in compact form, or None if the token is not one (opaque, encrypted, cut)."""
    parts = token.reveal().split(".")
    # An encrypted JWT has five (RFC 7516 §3.1): its claims are for the recipient alone.
    if len(parts) != _PARTS:
        return None
    try:
        header, claims = (_decode(part) for part in parts[:2])
    except ValueError:
        return None
    if not isinstance(header, dict) or "alg" not in header or not isinstance(claims, dict):
        return None
    return claims


def claim_time(claims: Mapping[str, Any] | None, name: str) -> datetime | None:
    """Read a NumericDate claim (``exp``, ``iat``); None if it is absent, before 1970 or no sane number."""
    value = (claims or {}).get(name)
    # JSON's true is an int in Python, and would be the first second of 1970.
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def audiences(claims: Mapping[str, object]) -> list[str]:
    """Return ``aud`` as a list, whichever of its two forms the token uses (RFC 7519 §4.1.3)."""
    audience = claims.get("aud")
    values = audience if isinstance(audience, list) else [audience] if audience else []
    return [printable(value) for value in values]


def stated_audience(claims: Mapping[str, object]) -> str | list[str]:
    """Return ``aud`` as vendors' trust documents have it; see ``one_or_all``."""
    return one_or_all(audiences(claims))


def one_or_all(values: list[str]) -> str | list[str]:
    """Return one value as a text, none or several as a list."""
    return values[0] if len(values) == 1 else values


def _decode(part: str) -> object:
    # NOTE: the decoder passes over what is no Base64, so that a line end would be a part of a token that is "one".
    if not _BASE64URL.fullmatch(part):
        raise ValueError("no Base64url")
    return read_json(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
