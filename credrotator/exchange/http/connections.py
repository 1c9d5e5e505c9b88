"""Connections that obey the exchange's deadline, and do not go where a policy's author must not send them.

Owns the socket level of our HTTP: deadline on every read, addresses checked after resolution and then connected to
(so that a second look-up cannot rebind the name), TLS 1.2 or newer. Source: reliability.md 2, 6, 47.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from credrotator.core.clock import suspend_aware
from credrotator.core.http_response import PlainResponse
from credrotator.core.keep_alive import LONGEST_IDLE_S, socket_options
from credrotator.core.one_write import OneWrite
from credrotator.exchange.http.addresses import LOCAL_NAMES, is_forbidden, meant_by, plain_host, written_address
from credrotator.exchange.http.deadline import remaining_s

if TYPE_CHECKING:
    from collections.abc import Iterable

    from urllib3.response import HTTPResponse

CONNECT_TIMEOUT_S = 5.0


class ForbiddenAddressError(Exception):
    """A policy's issuer resolves to an address that only the operator may name."""


class ClientCertificateWantedError(ssl.SSLError):
    """The other side broke a handshake off after it had chosen a cipher: what it missed is a certificate of ours."""


class _DeadlineSocket(socket.socket):
    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(remaining_s(self.gettimeout()))
        return super().recv_into(*args, **kwargs)


class _DeadlineTlsSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - ssl's own signature
        # The connection had the whole of its timeout already; the handshake gets no more than what is left.
        self.settimeout(remaining_s(self.gettimeout()))
        try:
            super().do_handshake(block)
        except ssl.SSLError as error:
            # The alert is one for "no common cipher" and, in TLS 1.2, for "no client certificate" (RFC 5246 §7.4.6).
            if error.reason == "SSLV3_ALERT_HANDSHAKE_FAILURE" and self.cipher() is not None:
                # Not "from" it: the innermost error is the one that counts.
                raise ClientCertificateWantedError(*error.args) from None
            raise

    def send(self, data: Any, flags: int = 0) -> int:
        try:
            return super().send(data, flags)
        except (ssl.SSLEOFError, BrokenPipeError, ConnectionResetError) as error:
            # In TLS 1.3 a client that misses a certificate is told after its own part of the handshake (RFC 8446
            # §4.4.2.4): the connection is closed by now, and the alert that says why is still to be read.
            with contextlib.suppress(TimeoutError, ssl.SSLEOFError, ConnectionError):
                super().recv(1)
            raise error from None

    def recv(self, *args: Any, **kwargs: Any) -> bytes:
        # Behind an https proxy, urllib3 reads the outer of the two layers by this.
        self.settimeout(remaining_s(self.gettimeout()))
        return super().recv(*args, **kwargs)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(remaining_s(self.gettimeout()))
        return super().recv_into(*args, **kwargs)


def tls_context(bundles: Iterable[str]) -> ssl.SSLContext:
    """Return a verifying context that trusts the given PEM bundles (or hashed directories) and nothing else.

    Raises:
        OSError: A bundle cannot be read, or holds no certificate; the error has its name.
    """
    # Not create_default_context: it would trust the system's CAs as well, beside those that the operator named.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _DeadlineTlsSocket
    for bundle in bundles:
        try:
            if Path(bundle).is_dir():
                context.load_verify_locations(capath=bundle)
            else:
                context.load_verify_locations(bundle)
        except OSError as error:
            # OpenSSL does not say of which file it speaks.
            raise OSError(error.errno, error.strerror or str(error), bundle) from error
    return context


class _Connecting(OneWrite):
    """Resolution, check and connection in one place, instead of urllib3's own ``_new_conn``.

    One that has been idle for long counts as dropped, so that the pool makes a new one in its place.
    """

    response_class = PlainResponse
    used_s = float("inf")

    guarded = False

    def _new_conn(self) -> socket.socket:
        timeout_s = remaining_s(self.timeout if isinstance(self.timeout, int | float) else None)
        try:
            # Resolved once, checked, and connected to by address: a name that is resolved again for the connection may
            # lead elsewhere by then (DNS rebinding).
            addresses = resolve(self._dns_host, self.port, timeout_s)
            if self.guarded:
                check_addresses(self._dns_host, addresses)
            return _connect(addresses, timeout_s)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no connection to {self.host} within {timeout_s:.0f} s") from error
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3's own
        """See HTTPConnection; the connection is idle from about here on."""
        self.used_s = suspend_aware()
        return super().getresponse()

    @property
    def is_connected(self) -> bool:
        """Tell whether it may be used again."""
        return super().is_connected and suspend_aware() - self.used_s < LONGEST_IDLE_S


class _GuardedHttp(_Connecting):
    guarded = True


class _Https(HTTPSConnection, _Connecting):
    pass


class _GuardedHttps(HTTPSConnection, _GuardedHttp):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Connecting


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls: type[HTTPSConnection] = _Https

    def connected(self) -> HTTPSConnection:
        """Return a connection of its own, with tunnel and handshake done, as a request would get it."""
        connection: HTTPSConnection = self._new_conn()  # type: ignore[assignment]
        connection.timeout = remaining_s(CONNECT_TIMEOUT_S)
        if self.proxy:
            self._prepare_proxy(connection)
        else:
            connection.connect()
        return connection


class _GuardedHttpPool(HTTPConnectionPool):
    ConnectionCls = _GuardedHttp


class _GuardedHttpsPool(_HttpsPool):
    ConnectionCls = _GuardedHttps


def presented_certificate(host: str, port: int, *, guarded: bool) -> bytes:
    """Return the certificate (DER) that a host presents, verified or not, to say what is wrong with it.

    Nothing is sent there, and nothing is believed. The way there is that of any other connection: deadline, and the
    check of addresses where only a policy names the host.

    Raises:
        OSError: No connection, or no handshake.
        HTTPError: As urllib3 has it.
        ForbiddenAddressError: The name leads where only the operator may lead, by now.
    """
    kind: type[HTTPSConnection] = _GuardedHttps if guarded else _Https
    connection = kind(host, port, cert_reqs="NONE", timeout=remaining_s(CONNECT_TIMEOUT_S))
    with contextlib.closing(connection):
        connection.connect()
        secured: Any = connection.sock
        return secured.getpeercert(binary_form=True) or b""


OPEN_POOLS: dict[str, type[HTTPConnectionPool]] = {"http": _HttpPool, "https": _HttpsPool}
GUARDED_POOLS: dict[str, type[HTTPConnectionPool]] = {"http": _GuardedHttpPool, "https": _GuardedHttpsPool}


def resolve(host: str, port: int | None, timeout_s: float | None) -> list[Any]:
    """Resolve with a timeout, which getaddrinfo(3) does not know: a thread waits for it in our place.

    Returns:
        As getaddrinfo: family, type, protocol, canonical name, and the socket's address.

    Raises:
        TimeoutError: There was no answer within ``timeout_s`` (None: for ever).
        OSError: The name has no address.
    """
    answer: list[Any] = []

    def look_up() -> None:
        try:
            answer.extend(socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.append(error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, str(error)))

    waiting = threading.Thread(target=look_up, name=f"resolve {host}", daemon=True)
    waiting.start()
    # The thread is left behind; it ends with the resolver's own timeout. Most have an answer within milliseconds.
    waiting.join(timeout_s)
    if not answer:
        raise TimeoutError(f"the name {host} was not resolved in time")
    if isinstance(answer[0], OSError):
        raise answer[0]
    return answer


def check_addresses(host: str, addresses: list[Any]) -> None:
    """Refuse a name that leads where only the operator may lead.

    Raises:
        ForbiddenAddressError: One of the addresses, as getaddrinfo gives them, is local or a machine's own service, or
            stands for one.
    """
    api_server = os.environ.get("KUBERNETES_SERVICE_HOST", "").strip("[]").lower()
    # The API server is where a pod's own credentials are worth most. Some clouds give its name, not its address.
    by_name = bool(api_server) and plain_host(host) == api_server.rstrip(".")
    for *_, (address, *_rest) in addresses:
        ip = ipaddress.ip_address(address.split("%")[0])
        if by_name or is_forbidden(ip, api_server):
            stands_for = "".join(f", which stands for {meant}" for meant in [*meant_by(ip)][:1])
            raise ForbiddenAddressError(f"{host} resolves to {ip}{stands_for}")


def check_literal(host: str) -> None:
    """Refuse what needs no look-up to be seen as local, for requests whose names a proxy resolves.

    Raises:
        ForbiddenAddressError: An address that only the operator may name.
    """
    if LOCAL_NAMES.fullmatch(plain_host(host)):
        raise ForbiddenAddressError(f"{host} is a name of this machine's own services")
    try:
        address = written_address(host)
    except ValueError as error:
        raise ForbiddenAddressError(f"{host} ends in a number and is no address") from error
    check_addresses(host, [((str(address),),)] if address is not None else [])


def _connect(addresses: list[Any], timeout_s: float | None) -> socket.socket:
    """Connect to the first address that answers; all of them share what is left of the deadline."""
    failure: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        connection = _DeadlineSocket(family, kind, protocol)
        try:
            for option in socket_options():
                connection.setsockopt(*option)
            # For each address anew: the first may have taken most of the time.
            connection.settimeout(remaining_s(timeout_s))
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure or OSError("the name has no address")
