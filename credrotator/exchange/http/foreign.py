"""What the other side says, fit to be shown: without what the request proved itself by, escaped and cut.

Owns the one border that texts of issuers and vendors pass on their way into a message. Masking comes before cutting:
half a secret would not be found. Source: reliability.md I9, 46, 72.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_plus

from credrotator.core.errors import MESSAGE_LIMIT, RotationError, printable
from credrotator.core.masking import masked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import requests

    from credrotator.core.sensitive import Sensitive

PROOFS = frozenset(
    {"client_secret", "client_assertion", "assertion", "subject_token", "actor_token", "WebIdentityToken"}
)
"""Fields of token requests by which a client or a subject proves itself (RFC 6749, 7521, 7523, 8693; web identity)."""


def foreign_text(text: object, secrets: Iterable[str], limit: int = MESSAGE_LIMIT) -> str:
    """Return foreign text as a message may carry it; what is no text is shown as Python writes it."""
    return printable(masked(str(text), secrets), limit)


def said_to(request: requests.PreparedRequest | None, text: object, limit: int = MESSAGE_LIMIT) -> str:
    """Return what was answered to a request, without what that proved itself by."""
    return foreign_text(text, proofs(request) if request is not None else (), limit)


def proofs(request: requests.PreparedRequest) -> tuple[str, ...]:
    """Return the secrets, assertions and tokens that a request carried, in its body or its Authorization."""
    body = request.body.decode("utf-8", "replace") if isinstance(request.body, bytes) else str(request.body or "")
    fields = [(name, value) for name, value in _fields(body) if name in PROOFS]
    return (*(value for _, value in fields), *_authorization(str(request.headers.get("Authorization", ""))))


@contextlib.contextmanager
def masking(*secrets: Sensitive) -> Iterator[None]:
    """Let no error leave the block whose message or hint repeats one of these, whatever it was made from.

    Raises:
        RotationError: The same, with stars where the secret stood.
    """
    try:
        yield
    except RotationError as error:
        # Only where there is an error: most blocks have none, and a secret in a local variable is one in a traceback.
        revealed = [secret.reveal() for secret in secrets]
        message, hint = (masked(text, revealed) for text in (error.message, error.hint))
        if (message, hint) == (error.message, error.hint):
            raise
        # Not "from error": a traceback would show what was taken out.
        raise error.anew(message=message, hint=hint) from None


def _fields(body: str) -> list[tuple[str, str]]:
    if body.startswith("{"):
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return []
        return [(name, value) for name, value in document.items() if isinstance(value, str)]
    return parse_qsl(body)


def _authorization(header: str) -> tuple[str, ...]:
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() != "basic":
        return (credentials,) if credentials else ()
    try:
        pair = base64.b64decode(credentials).decode("utf-8", "replace")
    except (ValueError, binascii.Error):
        return (credentials,)
    secret = pair.partition(":")[2]
    return (credentials, secret, unquote_plus(secret))
