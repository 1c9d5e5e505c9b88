"""What ``credrotator.io/token-exchange`` may say. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from credrotator.core.errors import printable
from credrotator.policies.schema import HttpsUrl, OidcExchange, OwnBlock, Text, matching
from credrotator.providers.token_exchange.source import TokenExchange

if TYPE_CHECKING:
    from credrotator.policies.reader import Reading

MOST = 32
"""Entries of a list or of the parameters; no endpoint needs as many."""
VALUE = matching(re.compile(r"[^\x00-\x1f\x7f]{1,4096}"), "a text without control characters, at most 4096 characters")
# NQCHAR: a blank would make two scopes of one, and a quotation mark no scope at all.
SCOPE = matching(re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,512}"), "a scope (RFC 6749 §3.3)")
TYPE = matching(
    re.compile(r"[A-Za-z0-9_-]{1,64}|[A-Za-z][A-Za-z0-9+.-]{0,30}:[!-~]{1,512}"),
    "a token type: jwt, access_token or another name of RFC 8693 §3, or a URI",
)
NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
OURS = frozenset(
    {
        *("grant_type", "subject_token", "subject_token_type", "assertion", "audience", "resource", "scope"),
        *("requested_token_type", "client_secret", "client_assertion", "actor_token"),
        # What other grants send. An endpoint that takes them beside the token would be asked for another grant than the
        # policy says.
        *("password", "refresh_token", "code", "device_code"),
    }
)
"""Parameters that have a field of their own here, or that are secrets, which no annotation holds."""


class TokenExchangeBlock(OwnBlock):
    """An endpoint, and what it is asked for."""

    # The subject token is sent there as it is, so plain http is never taken, as it is for an issuer that the operator
    # allows.
    token_endpoint: HttpsUrl
    grant: Literal["token-exchange", "jwt-bearer"] = "token-exchange"
    encoding: Literal["form", "json"] = "form"
    audience: Annotated[Text, VALUE] | None = None
    resources: list[Annotated[Text, VALUE]] | None = None
    scopes: list[Annotated[Text, SCOPE]] | None = None
    requested_token_type: Annotated[Text, TYPE] | None = None
    subject_token_type: Annotated[Text, TYPE] | None = None
    parameters: dict[str, Annotated[Text, VALUE]] | None = None
    oidc_exchange_token: OidcExchange = OidcExchange()


def read_block(reading: Reading, block: TokenExchangeBlock, path: str) -> TokenExchange:
    """Check what the block's fields mean together."""
    _check(reading, block, path)
    return TokenExchange(
        reading.token_source(block.oidc_exchange_token, f"{path}.oidcExchangeToken"),
        block.token_endpoint,
        block.grant,
        block.encoding,
        block.audience,
        tuple(block.resources or ()),
        tuple(block.scopes or ()),
        block.requested_token_type,
        block.subject_token_type,
        tuple(sorted((block.parameters or {}).items())),
    )


def _check(reading: Reading, block: TokenExchangeBlock, path: str) -> None:
    # RFC 7523 has no such parameters; endpoints ignore them, and the author would believe that they count.
    if block.grant == "jwt-bearer":
        for field, value in (
            ("requestedTokenType", block.requested_token_type),
            ("subjectTokenType", block.subject_token_type),
        ):
            if value is not None:
                reading.wrong(f"{path}.{field}", "is of grant token-exchange only; remove it")
    for name in block.parameters or {}:
        where = f"{path}.parameters.{printable(name, 80)}"
        if not NAME.fullmatch(name):
            reading.wrong(where, "expected a name of letters, digits, dot, _ and -, at most 128 characters")
        elif name in OURS:
            reading.wrong(where, "is no further parameter: use the field for it, or leave it out if it is a secret")
    for field, count in (
        ("resources", len(block.resources or ())),
        ("scopes", len(block.scopes or ())),
        ("parameters", len(block.parameters or ())),
    ):
        if count > MOST:
            reading.wrong(f"{path}.{field}", f"expected at most {MOST}, got {count}")
