"""The steps below HTTP, one at a time, so that ``check`` can say which of them fails: name, connection, TLS."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from credrotator.errors import Transient, printable
from credrotator.exchange.connections import resolve
from credrotator.exchange.deadline import remaining_s
from credrotator.exchange.transport import CONNECT_TIMEOUT_S, answering

if TYPE_CHECKING:
    import ssl

    from credrotator.exchange.transport import Transport

PORTS = {"https": 443, "http": 80}


def name_addresses(url: str, transport: Transport) -> str:
    """Resolve the host of a URL and list its addresses; a proxy would do it in our place.

    Raises:
        Transient: The name does not resolve.
    """
    if proxy := transport.proxy_for(url):
        return f"left to the proxy at {urlsplit(proxy).hostname}"
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    try:
        found = resolve(host, port, remaining_s(CONNECT_TIMEOUT_S))
    except OSError as error:
        hint = "see whether the name is right and this machine's resolver knows it"
        raise Transient(
            "NameNotResolved", f"{printable(host)} does not resolve: {error.strerror}", hint=hint
        ) from error
    return f"{host} → {', '.join(dict.fromkeys(str(address[4][0]) for address in found))}"


def name_certificate(url: str, transport: Transport) -> str:
    """Shake hands with the host of an https URL, and say what its certificate is and until when it lasts.

    Raises:
        RotationError: No connection, or no trust.
    """
    parts = urlsplit(url)
    if parts.scheme != "https":
        return "plain http: nothing to verify, and nothing protects the client secret"
    if transport.proxy_for(url):
        return "through the proxy; verified with the next step"
    host = parts.hostname or ""
    with answering(transport.endpoint, url):
        address = (host, parts.port or PORTS["https"])
        with (
            socket.create_connection(address, timeout=remaining_s(CONNECT_TIMEOUT_S)) as plain,
            transport.tls().wrap_socket(plain, server_hostname=host) as wrapped,
        ):
            return f"{wrapped.version()}, certificate by {_issuer(wrapped)}, until {_until(wrapped)}"


def _issuer(wrapped: ssl.SSLSocket) -> str:
    found = wrapped.getpeercert() or {}
    names = {key: value for part in found.get("issuer", ()) for key, value in part}  # type: ignore[str-unpack]
    return printable(names.get("commonName") or names.get("organizationName") or "an unnamed CA", 80)


def _until(wrapped: ssl.SSLSocket) -> str:
    return printable((wrapped.getpeercert() or {}).get("notAfter", "unknown"), 40)
