"""Connections that obey the exchange's deadline, and do not go where a policy's author must not send them.

Owns the socket level of our HTTP: deadline on every read, addresses checked after resolution and then connected to
(so that a second look-up cannot rebind the name), TLS 1.2 or newer. Source: reliability.md 2, 6, 47.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from credrotator.core.clock import suspend_aware
from credrotator.core.keep_alive import LONGEST_IDLE_S, socket_options
from credrotator.exchange.http.deadline import remaining_s

if TYPE_CHECKING:
    from collections.abc import Iterable

    from urllib3.response import HTTPResponse

# Of EC2, Compute Engine, Azure, Alibaba.
METADATA = ("fd00:ec2::254", "fd20:ce::254", "168.63.129.16", "100.100.100.200")
"""Services of a cloud's own machines that are not at a link-local address."""


CONNECT_TIMEOUT_S = 5.0


class ForbiddenAddressError(Exception):
    """A policy's issuer resolves to an address that only the operator may name."""


class _DeadlineSocket(socket.socket):
    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(remaining_s(self.gettimeout()))
        return super().recv_into(*args, **kwargs)


class _DeadlineTlsSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - ssl's own signature
        # The connection had the whole of its timeout already; the handshake gets no more than what is left.
        self.settimeout(remaining_s(self.gettimeout()))
        super().do_handshake(block)

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
        OSError: A bundle cannot be read, or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _DeadlineTlsSocket
    for bundle in bundles:
        if Path(bundle).is_dir():
            context.load_verify_locations(capath=bundle)
        else:
            context.load_verify_locations(bundle)
    return context


class _Connecting(HTTPConnection):
    """Resolution, check and connection in one place, instead of urllib3's own ``_new_conn``.

    One that has been idle for long counts as dropped, so that the pool makes a new one in its place.
    """

    used_s = float("inf")

    guarded = False

    def _new_conn(self) -> socket.socket:
        timeout_s = remaining_s(self.timeout if isinstance(self.timeout, int | float) else None)
        try:
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


OPEN_POOLS: dict[str, type[HTTPConnectionPool]] = {"http": _HttpPool, "https": _HttpsPool}
GUARDED_POOLS: dict[str, type[HTTPConnectionPool]] = {"http": _GuardedHttpPool, "https": _GuardedHttpsPool}


def resolve(host: str, port: int | None, timeout_s: float | None) -> list[Any]:
    """Resolve with a timeout, which getaddrinfo(3) does not know: a thread waits for it in our place."""
    answer: list[Any] = []

    def look_up() -> None:
        try:
            answer.extend(socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.append(error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, str(error)))

    waiting = threading.Thread(target=look_up, name=f"resolve {host}", daemon=True)
    waiting.start()
    waiting.join(timeout_s)
    if not answer:
        raise TimeoutError(f"the name {host} was not resolved in time")
    if isinstance(answer[0], OSError):
        raise answer[0]
    return answer


def check_addresses(host: str, addresses: list[Any]) -> None:
    """Refuse a name that leads where only the operator may lead.

    Raises:
        ForbiddenAddressError: One of the addresses, as getaddrinfo gives them, is local or a machine's own service.
    """
    api_server = os.environ.get("KUBERNETES_SERVICE_HOST", "").strip("[]").lower()
    for *_, (address, *_rest) in addresses:
        ip = ipaddress.ip_address(address.split("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        # The API server is where a pod's own credentials are worth most. Some clouds give its name, not its address.
        is_api_server = _is(ip, api_server) or host.rstrip(".").lower() == api_server
        is_local = ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast
        if is_local or is_api_server or any(_is(ip, service) for service in METADATA):
            raise ForbiddenAddressError(f"{host} resolves to {ip}")


def _is(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, text: str) -> bool:
    """Compare addresses, not their spelling: IPv6 has several."""
    try:
        return ip == ipaddress.ip_address(text)
    except ValueError:
        return False


def check_literal(host: str) -> None:
    """Refuse what needs no look-up to be seen as local, for requests whose names a proxy resolves.

    Raises:
        ForbiddenAddressError: An address that only the operator may name.
    """
    if host.rstrip(".").rpartition(".")[2].lower() == "localhost":
        raise ForbiddenAddressError(f"{host} is the loopback interface")
    try:
        ip = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return
    check_addresses(host, [((str(ip),),)])


def _connect(addresses: list[Any], timeout_s: float | None) -> socket.socket:
    """Connect to the first address that answers; all of them share what is left of the deadline."""
    failure: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        connection = _DeadlineSocket(family, kind, protocol)
        try:
            for option in socket_options():
                connection.setsockopt(*option)
            connection.settimeout(remaining_s(timeout_s))
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure or OSError("the name has no address")
