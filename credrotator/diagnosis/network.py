"""The steps below HTTP, one at a time, so that ``check`` can say which of them fails: name, proxy, TLS.

Each takes the way of a request. Only a certificate that was refused is looked at once more, to say what it is.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from credrotator.core.errors import Denied, HandshakeRefused, RotationError, Transient, Untrusted, printable
from credrotator.exchange.http.connections import (
    CONNECT_TIMEOUT_S,
    check_addresses,
    presented_certificate,
    resolve,
)
from credrotator.exchange.http.deadline import remaining_s
from credrotator.exchange.http.failures import answering

if TYPE_CHECKING:
    import ssl
    from typing import Any

    from cryptography.x509 import Certificate, Name
    from urllib3.util.ssltransport import SSLTransport

    from credrotator.exchange.http.transport import Transport

PORTS = {"https": 443, "http": 80}
NAMES_SHOWN = 4


def name_addresses(url: str, transport: Transport) -> str:
    """Resolve the host of a URL and list its addresses; a proxy would do it in our place.

    Raises:
        Transient: The name does not resolve.
        Denied: It leads to an address that a policy may not name.
    """
    if _proxied(url, transport):
        return "left to the proxy"
    host, port = _address(url)
    try:
        # With what is left of the deadline: getaddrinfo itself has no time limit.
        addresses = resolve(host, port, remaining_s(CONNECT_TIMEOUT_S))
    except TimeoutError as error:
        hint = "see whether this machine's resolver answers (/etc/resolv.conf; in a pod, egress to port 53)"
        raise Transient("NameNotResolved", f"{printable(host)} was not resolved in time", hint=hint) from error
    except OSError as error:
        hint = "see whether the name is right and this machine's resolver knows it"
        if error.errno == socket.EAI_AGAIN:
            hint = "see whether this machine's resolver answers (/etc/resolv.conf; in a pod, egress to port 53)"
        message = f"{printable(host)} does not resolve: {error.strerror}"
        raise Transient("NameNotResolved", message, hint=hint) from error
    if transport.guarded:
        with answering(transport.endpoint, url):
            check_addresses(host, addresses)
    return f"{host} → {', '.join(dict.fromkeys(str(address[4][0]) for address in addresses))}"


def proxy_route(url: str, transport: Transport) -> str:
    """Ask the proxy for ``url`` for a way to it, if there is a proxy.

    Raises:
        RotationError: ProxyInvalid or ProxyFailed.
    """
    proxy = transport.proxy_for(url)
    if proxy is None:
        return "none"
    parts = urlsplit(proxy)
    shown = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    # Plain http goes to the proxy as an ordinary request, so there is no tunnel that could be tried by itself.
    if urlsplit(url).scheme == "https":
        try:
            with transport.connection(url):
                pass
        except RotationError as error:
            # What fails behind the proxy is for the next step to tell.
            if error.reason == "ProxyFailed":
                raise
    return f"through {printable(shown)}"


def name_certificate(url: str, transport: Transport) -> str:
    """Shake hands with the host of an https URL, and say what its certificate is and until when it lasts.

    Raises:
        RotationError: No connection, or no trust; then with what the certificate says of itself.
    """
    if urlsplit(url).scheme != "https":
        return "plain http: nothing to verify, and nothing protects the client secret"
    try:
        with transport.connection(url) as connection:
            return _described(connection)
    except HandshakeRefused:
        raise
    except Untrusted as error:
        # Through a proxy the certificate may be the proxy's own, and asking past it may be forbidden.
        if _proxied(url, transport) or not (shown := _shown(url, transport)):
            raise
        raise Untrusted(error.reason, f"{error.message}; {shown}", hint=error.hint) from error


def _proxied(url: str, transport: Transport) -> bool:
    try:
        return transport.proxy_for(url) is not None
    except Denied:
        # A proxy that is set and cannot be used: resolving here would describe a route that no request takes.
        return True


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or PORTS[parts.scheme]


def _described(connection: ssl.SSLSocket | SSLTransport) -> str:
    certificate: dict[str, Any] = connection.getpeercert() or {}  # type: ignore[assignment]
    issuer = {key: value for part in certificate.get("issuer", ()) for key, value in part}
    by = printable(issuer.get("commonName") or issuer.get("organizationName") or "an unnamed CA", 80)
    return f"{connection.version()}, certificate by {by}, until {printable(certificate.get('notAfter', 'unknown'), 40)}"


def _shown(url: str, transport: Transport) -> str:
    """Describe a certificate that was refused; nothing is sent to whoever presents it."""
    from cryptography import x509  # noqa: PLC0415 - 40 ms, for a failure only

    try:
        # NOTE: the name is resolved once more, so it is judged once more.
        with answering(transport.endpoint, url):
            certificate = x509.load_der_x509_certificate(
                presented_certificate(*_address(url), guarded=transport.guarded)
            )
    except (RotationError, OSError, ValueError):
        return ""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [str(name.value) for name in alternatives]
    except (x509.ExtensionNotFound, ValueError):
        names = []
    listed = ", ".join(names[:NAMES_SHOWN]) + (f" and {len(names) - NAMES_SHOWN} more" * (len(names) > NAMES_SHOWN))
    return printable(f"it is for {listed or _named(certificate.subject)}, {_by(certificate)}, {_times(certificate)}")


def _by(certificate: Certificate) -> str:
    # By names, not by a signature check: it is a word for a person, and nothing is decided by it.
    if certificate.issuer == certificate.subject:
        return "signed by itself"
    return f"signed by {_named(certificate.issuer)}"


def _times(certificate: Certificate) -> str:
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return f"valid from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def _named(name: Name) -> str:
    return name.rfc4514_string() or "nobody"
