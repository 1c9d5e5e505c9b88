"""How clients prove who they are at a token endpoint: which ways there are, in what order, and which one worked.

What an issuer lists holds for the issuer, not for one client: a client may be registered for one way alone, and some
issuers take Basic apart without decoding it. So the next way is tried, once each, where an issuer does not take the
client, and the one that worked comes first from then on.
Source: RFC 6749 §2.3.1, RFC 7523 §2.2, OpenID Connect Core 1.0 §9.
"""

from __future__ import annotations

import base64
import threading
from collections import OrderedDict
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlencode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from credrotator.core.sensitive import Sensitive
    from credrotator.exchange.issuers.client_assertions import ClientProof

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
KEPT = 4096
"""Clients of which the way that worked is remembered; the one that was asked for least recently goes first."""


class ClientAuthMethod(StrEnum):
    """A way to prove a client; all but the plain ones by the names that discovery has for them."""

    BASIC = "client_secret_basic"
    POST = "client_secret_post"
    PLAIN_BASIC = "client_secret_basic without percent-encoding"
    ASSERTION = "client_assertion"
    KEY = "private_key_jwt"
    KEY_FOR_ISSUER = "private_key_jwt with the issuer as audience"


def methods_for(offered: Iterable[str], client_id: str, secret: str) -> tuple[ClientAuthMethod, ...]:
    """Return the ways to try, in order; none where the issuer offers others only.

    Basic comes first: RFC 6749 §2.3.1 recommends it, and it is the default where an issuer says nothing.

    Args:
        offered: What discovery lists; empty where it says nothing, or was not asked.
        client_id: The client.
        secret: Its secret; both may have characters that form-encoding changes.
    """
    # Nothing listed means Basic by OpenID Connect Discovery §3; issuers that leave the list out often take either.
    listed = set(offered) or {ClientAuthMethod.BASIC, ClientAuthMethod.POST}
    methods = [method for method in (ClientAuthMethod.BASIC, ClientAuthMethod.POST) if method in listed]
    # In plain Basic the first colon ends the id (RFC 7617 §2).
    differs = (quote_plus(client_id), quote_plus(secret)) != (client_id, secret) and ":" not in client_id
    if ClientAuthMethod.BASIC in listed and differs:
        methods.append(ClientAuthMethod.PLAIN_BASIC)
    return tuple(methods)


def assertion_methods(proof: ClientProof) -> tuple[ClientAuthMethod, ...]:
    """Return the ways to try where the client has no secret.

    OpenID Connect Core 1.0 §9 wants the token endpoint as audience of what a client signs; newer profiles, such as
    FAPI 2.0 §5.3.3, want the issuer.
    """
    return (ClientAuthMethod.KEY, ClientAuthMethod.KEY_FOR_ISSUER) if proof.signs else (ClientAuthMethod.ASSERTION,)


class WorkingMethods:
    """Which way worked last, per endpoint and client; safe to share between threads, bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._methods: OrderedDict[tuple[str, str], ClientAuthMethod] = OrderedDict()

    def first(
        self, endpoint: str, client_id: str, methods: tuple[ClientAuthMethod, ...]
    ) -> tuple[ClientAuthMethod, ...]:
        """Return the ways with the one that worked before the others."""
        with self._lock:
            known = self._methods.get((endpoint, client_id))
        # The order of the others stays: sorting is stable.
        return tuple(sorted(methods, key=lambda method: method is not known))

    def note(self, endpoint: str, client_id: str, method: ClientAuthMethod) -> None:
        """Remember that a way worked."""
        with self._lock:
            # By endpoint and client, not by policy: what an issuer takes is a setting of the client.
            self._methods[endpoint, client_id] = method
            self._methods.move_to_end((endpoint, client_id))
            while len(self._methods) > KEPT:
                self._methods.popitem(last=False)


class Authentication:
    """Adds client authentication and resources to a token request, as Authlib wants it.

    NOTE: Authlib's own basic leaves out the form-encoding of id and secret, and its body is a dict, in which all but
    the last ``resource`` of RFC 8707 would be lost; both are put right here.
    """

    def __init__(
        self, method: ClientAuthMethod, resources: tuple[str, ...], assertion: Sensitive | None = None
    ) -> None:
        self._assertion = assertion
        self._method = method
        self._resources = resources

    def __call__(
        self, client: Any, _verb: str, uri: str, headers: dict[str, str], body: str | None
    ) -> tuple[str, dict[str, str], str]:
        """Return address, headers and body with what proves the client."""
        # A list of pairs: the parameter may be repeated (RFC 8707 §2), and Authlib's dict would keep the last one.
        fields = [("resource", resource) for resource in self._resources]
        if self._assertion is not None:
            proof = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": self._assertion.reveal()}
            # RFC 7521 §4.2 has client_id optional here; some issuers find no client without it.
            fields += [("client_id", client.client_id), *proof.items()]
        elif self._method is ClientAuthMethod.POST:
            fields += [("client_id", client.client_id), ("client_secret", client.client_secret)]
        else:
            headers["Authorization"] = self._basic(client.client_id, client.client_secret)
        whole = "&".join(part for part in (body or "", urlencode(fields)) if part)
        return uri, headers, whole

    def _basic(self, client_id: str, secret: str) -> str:
        pair = f"{client_id}:{secret}"
        if self._method is ClientAuthMethod.BASIC:
            # RFC 6749 §2.3.1 has both encoded as in a form, which RFC 7617 knows nothing of: hence the plain way beside
            # it.
            pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
        return "Basic " + base64.b64encode(pair.encode()).decode()
