"""The clients of the sandbox's issuer and how they prove who they are.

Owns the client registration and the authentication at the token endpoint. Must not make tokens.
Specification: RFC 6749 §2.3.1 (client_secret_basic and client_secret_post), §5.2 (invalid_client); of assertions, see
``assertions``.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from credrotator.sandbox.answers import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import timedelta

    from werkzeug import Request

    from credrotator.sandbox.assertions import AssertionJudge, TrustedAssertions

DEFAULT_CLIENT = "credrotator"
DEFAULT_CLIENT_SECRET = "sandbox-client-secret"
BASIC = "client_secret_basic"
POST = "client_secret_post"


@dataclass
class Client:
    """One registered client.

    Args:
        secret: What it authenticates with.
        subject: The ``sub`` of its tokens.
        scopes: What it may ask for; anything else is ``invalid_scope``.
        audience: The ``aud`` of a token for which no audience was asked.
        audiences: What it may ask for as audience or resource; None for anything.
        token_life: Overrides the issuer's.
        assertions: What it may prove itself by in place of the secret, which is refused then.
    """

    secret: str = field(repr=False)
    subject: str
    scopes: frozenset[str] = frozenset({"openid", "profile", "email", "bedrock", "azure", "gateway"})
    audience: str = "sts.amazonaws.com"
    audiences: frozenset[str] | None = None
    token_life: timedelta | None = None
    assertions: TrustedAssertions | None = None


def authenticated(
    request: Request,
    clients: Mapping[str, Client],
    methods: Collection[str],
    assertions: AssertionJudge,
    *,
    decodes_basic: bool = True,
) -> tuple[str, Client]:
    """Return the id and the registration of the client that sent ``request``.

    Args:
        request: A token request.
        clients: Those that are registered, by id.
        methods: How they may authenticate.
        assertions: Judges assertions.
        decodes_basic: Whether Basic is taken apart as RFC 6749 says; some issuers do as with any other Basic.

    Raises:
        Refused: ``invalid_client`` for wrong, missing or double credentials, or by a method not in ``methods``.
    """
    header = request.headers.get("Authorization")
    if "client_assertion" in request.form:
        if header is not None or "client_secret" in request.form:
            raise Refused("invalid_request", "more than one way of client authentication")
        return _asserted(request, clients, assertions)
    used = BASIC if header is not None else POST
    if used not in methods:
        raise Refused("invalid_client", f"the authentication method {used} is not supported")
    client_id, secret = _basic(header, decodes=decodes_basic) if header is not None else _posted(request)
    client = clients.get(client_id)
    # Both cases take the same way out: the answer must not tell whether the id exists.
    if client is None or client.assertions or not hmac.compare_digest(secret.encode(), client.secret.encode()):
        raise Refused("invalid_client", "client authentication failed")
    return client_id, client


def _asserted(request: Request, clients: Mapping[str, Client], assertions: AssertionJudge) -> tuple[str, Client]:
    client_id = request.form.get("client_id") or assertions.named(request)
    client = clients.get(client_id)
    if client is None or client.assertions is None:
        raise Refused("invalid_client", "client authentication failed")
    assertions.judge(request, client_id, client.assertions)
    return client_id, client


def _basic(header: str, *, decodes: bool) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        joined = base64.b64decode(encoded, validate=True).decode("ascii" if decodes else "utf-8")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Refused("invalid_client", "the Basic credentials are not decodable") from error
    if scheme.lower() != "basic" or ":" not in joined:
        raise Refused("invalid_client", "the Authorization header holds no Basic credentials")
    client_id, _, secret = joined.partition(":")
    if not decodes:
        return client_id, secret
    # RFC 6749 §2.3.1: each half is form-urlencoded before the two are joined, so a "+" or "%" must arrive encoded.
    return unquote_plus(client_id), unquote_plus(secret)


def _posted(request: Request) -> tuple[str, str]:
    if "client_id" not in request.form or "client_secret" not in request.form:
        raise Refused("invalid_client", "no client credentials were sent")
    return request.form["client_id"], request.form["client_secret"]
