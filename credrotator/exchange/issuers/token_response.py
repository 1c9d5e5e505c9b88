"""From a token response to the token that is exchanged (RFC 6749 §5.1).

The token is an assertion here and nothing more, so what the response says beside it matters little: a token type other
than Bearer is a warning, unless it says that the token is of no use without a key that we do not have.
Source: RFC 6749 §5.1, §7.1; RFC 9449 §5 (DPoP); reliability.md 13, 14.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from credrotator.core.claims import claim_time, read_claims
from credrotator.core.errors import Denied, OpaqueToken, printable
from credrotator.core.model import SubjectToken, SubjectUse
from credrotator.exchange.http.endpoint import ISSUER
from credrotator.exchange.http.foreign import foreign_text
from credrotator.exchange.issuers.refusals import dpop_required
from credrotator.exchange.lifetimes import expiry, unusable
from credrotator.exchange.token_values import refuse_long, token_value

if TYPE_CHECKING:
    from datetime import datetime

    from credrotator.core.sensitive import Sensitive
    from credrotator.exchange.issuers.token_request import TokenRequest, TokenResponse

log = logging.getLogger(__name__)

TokenName = Literal["access_token", "id_token"]
"""The members of a token response that may be the subject token."""
LONGEST_TOKEN = 20_000
"""Characters; no exchange takes a longer web identity token, and nobody has one for a good reason."""
# RFC 6749 §7.1 names mac; pop, hok and hawk are drafts' and vendors' names for the same idea.
BOUND = frozenset({"mac", "pop", "hok", "hawk"})
"""Token types that are of no use without a key; DPoP has a reason of its own."""


def read_token(document: TokenResponse, request: TokenRequest, now: datetime) -> SubjectToken:
    """Read a token response.

    Raises:
        RotationError: DpopRequired, TokenTypeUnusable, NoIdToken, NoAccessToken, OpaqueToken, InvalidResponse,
            TokenExpired, TokenTooLong.
    """
    if request.use is SubjectUse.CREDENTIAL:
        return _read_credential(document, request.client.subject_token, now)
    odd = _odd_type(document.get("token_type"), request.client_secret)
    name = request.client.subject_token
    _refuse_none(document, name)
    # A JWT is ASCII. Said here as "opaque", since "not usable" would have it tried again.
    if isinstance(value := document.get(name), str) and value.isprintable() and not value.isascii():
        raise _opaque(name)
    token = token_value(ISSUER, document, name)
    if (length := len(token.reveal())) > LONGEST_TOKEN:
        message = f"the issuer's {name} has {length} characters, more than {LONGEST_TOKEN}"
        raise Denied("TokenTooLong", message, hint="have the issuer put fewer claims into this client's tokens")
    claims = read_claims(token)
    if claims is None:
        raise _opaque(name)
    exp, iat = claim_time(claims, "exp"), claim_time(claims, "iat")
    if exp and iat and iat < exp <= now:
        # NOTE: just issued, and expired by this machine's clock. The vendor is to judge, and its date puts the
        # clock right; refused here, a clock that is ahead would never be put right (reliability.md 23).
        exp = now + (exp - iat)
    expires_at = expiry(ISSUER, document.get("expires_in"), exp, now)
    if odd:
        log.warning("issuer %s: %s", printable(request.client.issuer), odd)
    return SubjectToken(token, expires_at, claims, (odd,) if odd else ())


def _read_credential(document: TokenResponse, name: TokenName, now: datetime) -> SubjectToken:
    """Read a token that is the credential itself: it may be opaque, but what the response says beside it has to hold.

    NOTE: it goes into an ``Authorization: Bearer``, so nothing but a Bearer token with a known end is of use.
    """
    _refuse_none(document, name)
    kind = document.get("token_type")
    if not isinstance(kind, str) or kind.strip().lower() != "bearer":
        shown = f"is {printable(kind, 40)}" if isinstance(kind, str) and kind.strip() else "is missing"
        hint = "have the issuer give Bearer tokens to this client"
        raise Denied("TokenTypeUnusable", f"the token response's token_type {shown}, expected Bearer", hint=hint)
    token = token_value(ISSUER, document, name)
    refuse_long(ISSUER, token)
    claims = read_claims(token) or {}
    exp = claim_time(claims, "exp")
    if document.get("expires_in") is None and exp is None:
        raise unusable(ISSUER, "it does not say when the token expires (expires_in)")
    return SubjectToken(token, expiry(ISSUER, document.get("expires_in"), exp, now), claims)


def _opaque(name: str) -> OpaqueToken:
    hint = (
        "have the issuer give JWT access tokens to this client (often by naming an audience or a resource), or "
        "annotate the policy with credrotator.io/subject-token: id_token"
    )
    message = f"the issuer's {name} is no signed JWT, so no vendor can verify it"
    return OpaqueToken("OpaqueToken", message, hint=hint)


def _odd_type(kind: object, secret: Sensitive) -> str:
    """Return what is odd about a token's type, nothing where it is Bearer.

    Raises:
        Denied: The token is bound to a key.
    """
    written = kind.strip().lower() if isinstance(kind, str) else ""
    if written == "bearer":
        return ""
    if written == "dpop":
        raise dpop_required("the token's type is DPoP")
    if written in BOUND:
        message = f"the issuer gives tokens of type {written}, which are of no use without a key"
        raise Denied("TokenTypeUnusable", message, hint="have the issuer give Bearer tokens to this client")
    shown = foreign_text(kind, [secret.reveal()], 40) if written else "missing"
    return f"the token response's token_type is {shown}, expected Bearer; the token is used all the same"


def _refuse_none(document: TokenResponse, name: TokenName) -> None:
    """Refuse a response whose token is left empty: asking again brings the same."""
    value = document.get(name)
    if name == "id_token" and (not isinstance(value, str) or not value):
        hint = "add the scope openid, or remove the annotation credrotator.io/subject-token"
        raise Denied("NoIdToken", "the issuer gave no id_token for client credentials", hint=hint)
    if name in document and (value is None or (isinstance(value, str) and not value.strip())):
        hint = "see the issuer's log, and whether this client may have access tokens by client credentials"
        raise Denied("NoAccessToken", f"the issuer's answer is a success with an empty {name}", hint=hint)
