"""What a failed request means, below and above TLS: our class of error, with its reason and one thing to do.

Owns the mapping of what sockets, OpenSSL, http.client, urllib3 and requests raise. Nothing that the other side sent is
shown here: what does not speak HTTP may be anything, the banner of an internal service included (security 12).
Source: RFC 8446 §6 (alerts), reliability.md 1, 6, 11, 12, 49.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPException, RemoteDisconnected
from typing import TYPE_CHECKING

import urllib3
from requests import exceptions as failures

from credrotator.core.errors import (
    Denied,
    HandshakeRefused,
    NoConnection,
    Outage,
    RotationError,
    Settling,
    Untrusted,
    printable,
)
from credrotator.exchange.http.connections import ClientCertificateWantedError, ForbiddenAddressError

if TYPE_CHECKING:
    from credrotator.exchange.http.endpoint import Endpoint


class BodyTooLargeError(Exception):
    """An answer of more than BODY_LIMIT bytes; nobody here sends one for a good reason."""


class UnfinishedError(failures.ReadTimeout):
    """An answer that began in time and did not end in time."""


class CaFileError(Exception):
    """A file with CA certificates cannot be used."""


UNREADABLE = (failures.ChunkedEncodingError, failures.ContentDecodingError)
CERTIFICATE_SETTLES = Settling(span=timedelta(minutes=1))
"""While certificates are replaced behind a load balancer, some of its servers show the wrong one for some seconds. Who
believed that at once would wait for half of the life that is left, and nobody is sent anything in a handshake that
fails."""
BROKEN_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""The other side hung up in the middle of a handshake, which says nothing about its certificate."""


class answering:  # noqa: N801 - reads as the context manager it is
    """Turn the failures of a request within the block into ours. ``url`` is named without its query."""

    def __init__(self, endpoint: Endpoint, url: str) -> None:
        self._endpoint = endpoint
        self._where = printable(url.partition("?")[0])

    def __enter__(self) -> None:
        """Start."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Map what went wrong, if it is ours to map."""
        if error is not None and (mapped := self._map(error)):
            try:
                raise mapped from error
            finally:
                # Its traceback holds this frame: what holds itself, and all that was read, waits for the collector.
                del mapped

    def _map(self, error: BaseException) -> RotationError | None:
        name, title, where = self._endpoint.name, self._endpoint.title, self._where
        match error:
            case ForbiddenAddressError():
                hint = "name the issuer with --allowed-issuer if this is meant"
                return Denied(f"{name}AddressForbidden", f"{error}, which a policy may not name", hint=hint)
            case CaFileError():
                hint = f"see --ca-file, --issuer-ca and {' and '.join(self._endpoint.ca_variables)}"
                return Denied("CaFileUnreadable", f"a CA file cannot be used: {printable(error)}", hint=hint)
            # Before TLS and timeouts, whose errors may lie within it: whoever is behind the proxy was never reached.
            case failures.ProxyError():
                message = f"the proxy for {where} failed: {_cause(error)}"
                return NoConnection("ProxyFailed", message, hint=_proxy_hint(error, self._endpoint))
            case _ if is_tls(error):
                return _tls_failure(self._endpoint, where, root_cause(error))
            case failures.Timeout() | TimeoutError():
                hint = "see whether it is overloaded, or a firewall drops the packets"
                what = "began to answer, but did not end" if isinstance(error, UnfinishedError) else "did not answer"
                kind = NoConnection if isinstance(error, failures.ConnectTimeout) else Outage
                return kind(f"{name}Timeout", f"{title} at {where} {what} in time", hint=hint, hangs=True)
            # A policy's address was checked; these come from an issuer's discovery document.
            case failures.InvalidURL() | failures.InvalidSchema() | failures.MissingSchema():
                hint = "correct the address in the policy, or what the issuer's discovery says"
                return Denied("InvalidAddress", f"{where} is no address of {title} that can be used", hint=hint)
            case _:
                pass
        return self._map_connection(error) or self._map_answer(error)

    def _map_connection(self, error: BaseException) -> RotationError | None:
        """Map what ended without an answer."""
        if isinstance(error, UNREADABLE):
            return None
        if _is_not_http(root_cause(error)):
            message = f"what answers at {self._where} does not speak HTTP, or not well"
            hint = "see whether host and port are right, and what else listens there"
            return Outage("InvalidResponse", message, hint=hint)
        if not isinstance(error, failures.RequestException | OSError):
            return None
        message = f"{self._endpoint.title} at {self._where} cannot be reached: {_cause(error)}"
        hint = "see whether the name resolves and the port is open from here"
        return NoConnection(f"{self._endpoint.name}Unreachable", message, hint=hint)

    def _map_answer(self, error: BaseException) -> RotationError | None:
        """Map what is wrong with an answer that did come."""
        match error:
            case BodyTooLargeError():
                what = "is longer than 1 MiB"
            case failures.ChunkedEncodingError() | failures.ContentDecodingError():
                what = "broke off or cannot be decoded"
            case ValueError():
                # Requests looks at Location even where it does not follow, and stumbles over one that is no URL.
                what = "leads to an address that is none"
            case _:
                return None
        hint = "see whether something else answers at this address"
        return Outage("InvalidResponse", f"the answer of {self._where} {what}", hint=hint)


def is_tls(error: BaseException) -> bool:
    """Tell whether TLS failed, and not just the connection below it."""
    return isinstance(error, failures.SSLError | ssl.SSLError) and not isinstance(root_cause(error), BROKEN_OFF)


def root_cause(error: BaseException) -> BaseException:
    """Return the innermost error: the outer ones repeat URLs and object addresses."""
    inner: BaseException = error
    while True:
        # Not __context__, which may lead to what the caller was handling meanwhile.
        candidates = (getattr(inner, "reason", None), inner.__cause__, *reversed(inner.args))
        nested = next((each for each in candidates if isinstance(each, BaseException)), None)
        if nested is None:
            return inner
        inner = nested


def _is_not_http(cause: BaseException) -> bool:
    """Tell whether something did answer; who hangs up is an http.client error too."""
    kinds = HTTPException | urllib3.exceptions.InvalidHeader
    return isinstance(cause, kinds) and not isinstance(cause, RemoteDisconnected)


def _cause(error: BaseException) -> str:
    """Return the innermost sentence, where it is the system's or our own; else its kind alone."""
    inner = root_cause(error)
    sentence = getattr(inner, "verify_message", None) or getattr(inner, "strerror", None)
    if sentence:
        return printable(sentence)
    if status := _proxy_status(inner):
        return f"it answered {status}"
    # NOTE: what http.client and urllib3 say quotes the other side; what says it hung up does not.
    return printable(inner) if isinstance(inner, OSError) else type(inner).__name__


def _proxy_status(cause: BaseException) -> int | None:
    """Return the status with which a proxy refused a tunnel; the words beside it are the proxy's own."""
    refused = re.match(r"Tunnel connection failed: (\d{3})", str(cause))
    return int(refused[1]) if refused else None


def proxy_settings(endpoint: Endpoint) -> str:
    """Say what decides on the proxy to an endpoint."""
    return f"see HTTPS_PROXY, NO_PROXY and {endpoint.proxy_variable or '--issuer-proxy'}"


def _proxy_hint(error: BaseException, endpoint: Endpoint) -> str:
    match _proxy_status(root_cause(error)):
        case 407:
            return "it wants a user: write http://user:password@host:port into the variable that names it"
        case 403:
            return "it does not let requests to this host through: have that allowed, or add the host to NO_PROXY"
        case _:
            pass
    return f"see whether it runs and its address is right; {proxy_settings(endpoint)}"


@dataclass(frozen=True, slots=True)
class _TlsFailure:
    """One way in which a handshake ends, by OpenSSL's names for it (or the alert's, without what stands before it)."""

    suffix: str
    names: frozenset[str]
    message: str
    hint: str


_CLIENT_CERTIFICATE = """
    CERTIFICATE_REQUIRED BAD_CERTIFICATE NO_CERTIFICATE CERTIFICATE_UNKNOWN UNSUPPORTED_CERTIFICATE CERTIFICATE_EXPIRED
    CERTIFICATE_REVOKED UNKNOWN_CA ACCESS_DENIED CERTIFICATE_UNOBTAINABLE
"""
"""Alerts about a certificate: only who wants one of ours can find it missing or wrong."""
_PROTOCOL = """
    PROTOCOL_VERSION UNSUPPORTED_PROTOCOL UNSUPPORTED_SSL_VERSION VERSION_TOO_LOW WRONG_SSL_VERSION
    INAPPROPRIATE_FALLBACK NO_PROTOCOLS_AVAILABLE
"""
_CIPHER = """
    HANDSHAKE_FAILURE INSUFFICIENT_SECURITY NO_SHARED_CIPHER NO_CIPHERS_AVAILABLE WRONG_CIPHER_RETURNED
    UNKNOWN_CIPHER_RETURNED DH_KEY_TOO_SMALL MODULUS_TOO_SMALL UNSAFE_LEGACY_RENEGOTIATION_DISABLED WRONG_SIGNATURE_TYPE
    LEGACY_SIGALG_DISALLOWED_OR_UNSUPPORTED NO_SUITABLE_SIGNATURE_ALGORITHM NO_SUITABLE_KEY_SHARE BAD_KEY_SHARE
    WRONG_CURVE UNSUPPORTED_ELLIPTIC_CURVE
"""
_TLS_FAILURES = (
    _TlsFailure(
        "TLSClientCertificate",
        frozenset(_CLIENT_CERTIFICATE.split()),
        "wants a client certificate, and none is presented",
        "name an address that takes clients without a certificate, or have them let in by their secret alone",
    ),
    _TlsFailure(
        "TLSProtocol",
        frozenset(_PROTOCOL.split()),
        "does not speak TLS 1.2 or newer",
        "have TLS 1.2 or 1.3 switched on there",
    ),
    _TlsFailure(
        "TLSCipher",
        frozenset(_CIPHER.split()),
        "finds no cipher, key exchange or signature that both sides allow",
        "have a current cipher suite (ECDHE with AES-GCM) allowed there; some say this of a host that they do not know",
    ),
    _TlsFailure(
        "TLSName",
        frozenset({"UNRECOGNIZED_NAME"}),
        "knows no host of this name (SNI)",
        "correct the host in the address, or have a certificate for it installed there",
    ),
)
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL"})
_ALERT = re.compile(r"^(?:SSLV3|TLSV1|TLSV13|SSL/TLS)_(?:ALERT_)?")
_ALERT_IN_WORDS = re.compile(r"\b(?:sslv3|tlsv1|tlsv13|ssl/tls) alert ([a-z0-9 ]+)")


def _tls_failure(endpoint: Endpoint, where: str, cause: BaseException) -> RotationError:
    """Class what OpenSSL says of a handshake: a certificate of the other side, or an alert by it."""
    title, alert = f"{endpoint.title} at {where}", _alert_name(cause)
    for failure in _TLS_FAILURES:
        if alert in failure.names:
            return HandshakeRefused(f"{endpoint.name}{failure.suffix}", f"{title} {failure.message}", hint=failure.hint)
    if alert in _NOT_TLS:
        hint = "something else than TLS answers there; see whether host and port are right"
        return HandshakeRefused(f"{endpoint.name}TLS", f"{title} does not answer with TLS: {_cause(cause)}", hint=hint)
    if getattr(cause, "verify_code", None) is None and _is_alert(cause):
        message = f"{title} broke the TLS handshake off: {printable(alert.replace('_', ' ').lower(), 60)}"
        hint = "see the log of that server, or of what stands before it, for this alert"
        return NoConnection(f"{endpoint.name}TLSAlert", message, hint=hint)
    message = f"{title} has no certificate that can be trusted: {_cause(cause)}"
    hint = _certificate_hint(cause)
    return Untrusted(f"{endpoint.name}TLS", message, hint=hint, settling=CERTIFICATE_SETTLES)


def _alert_name(cause: BaseException) -> str:
    if isinstance(cause, ClientCertificateWantedError):
        return "CERTIFICATE_REQUIRED"
    name = getattr(cause, "reason", None)
    if isinstance(name, str):
        return _ALERT.sub("", name)
    # urllib3's own errors have no ``reason`` of OpenSSL, only its sentence.
    words = _ALERT_IN_WORDS.search(str(cause))
    return words[1].strip().replace(" ", "_").upper() if words else ""


def _is_alert(cause: BaseException) -> bool:
    name = getattr(cause, "reason", None)
    return bool(_ALERT.match(name) if isinstance(name, str) else _ALERT_IN_WORDS.search(str(cause)))


def _certificate_hint(cause: BaseException) -> str:
    """Say what to do about a certificate, by OpenSSL's number for what is wrong with it (X509_V_ERR_…)."""
    match getattr(cause, "verify_code", None):
        # Not yet valid, expired.
        case 9 | 10:
            return "have the certificate renewed, or set the clock of this machine"
        # Self-signed, self-signed in the chain, no local issuer, first certificate not verifiable.
        case 18 | 19 | 20 | 21:
            return "add the CA that signed it with --ca-file; if a CA in between is missing, have the server send it"
        # Host name, IP address.
        case 62 | 64:
            return "use a name that is in the certificate, or have one issued for this name"
        # Key of the certificate too small, that of its CA too small, hash of a CA too weak.
        case 66 | 67 | 68:
            return "have a certificate issued with a longer key and a newer hash, by a CA that has them too"
        case _:
            pass
    return "add its CA with --ca-file, or have the certificate corrected"
