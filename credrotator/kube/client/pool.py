"""Connections to the API server, what is read from them, and what their failures mean.

Owns TLS, proxy and size limits on the socket's side. Must not know requests. Source: reliability.md 49, security 3.
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import urllib3
from urllib3 import exceptions as failures
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from credrotator.core.clock import suspend_aware
from credrotator.core.errors import printable
from credrotator.core.http_response import PlainResponse
from credrotator.core.keep_alive import LONGEST_IDLE_S, socket_options
from credrotator.core.one_write import OneWrite
from credrotator.kube.client.api_errors import NO_ANSWER, ApiError, BodyTooLong

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3.response import HTTPResponse

    from credrotator.kube.client.connection import Connection


CONNECT_TIMEOUT_S = 5.0


class Sender:
    """Sends requests to one server; nothing is connected yet when it is made. Safe to share between threads.

    Args:
        connection: How to reach it.
        headers: For each request, beside those of the connection.
    """

    def __init__(self, connection: Connection, headers: Mapping[str, str]) -> None:
        self._server = connection.server.rstrip("/")
        self._headers = dict(headers)
        # A header may come several times.
        self._more_headers = urllib3.HTTPHeaderDict(connection.headers) if connection.headers else None
        self._manager = _manager(connection)
        # Half of the time of a request by a manager is for finding the pool of its host, and here is one host.
        self._pool = None if connection.proxy else self._manager.connection_from_url(self._server)
        self._prefix = urlsplit(self._server).path

    def send(
        self, method: str, target: str, body: bytes | None, headers: dict[str, str], read_timeout_s: float
    ) -> urllib3.BaseHTTPResponse:
        """Return a response of which the body is still to be read.

        Raises:
            HTTPError: No answer, as urllib3 has it.
            OSError: No answer.
        """
        how: dict[str, Any] = {
            "body": body,
            "headers": self._all(headers),
            "timeout": _timeout(read_timeout_s),
            # urllib3 would retry by itself, with its own pauses, beneath the one layer that retries here.
            "retries": False,
            "redirect": False,
            "preload_content": False,
        }
        if self._pool is None:
            return self._manager.request(method, self._server + target, **how)
        return self._pool.urlopen(method, self._prefix + target, assert_same_host=False, **how)

    def close(self) -> None:
        """Close the connections that are not in use; those in use end with their request."""
        self._manager.clear()
        if self._pool is not None:
            self._pool = self._manager.connection_from_url(self._server)

    def _all(self, headers: dict[str, str]) -> Mapping[str, str]:
        if self._more_headers is None:
            return self._headers | headers
        every = self._more_headers.copy()
        every |= self._headers | headers
        return every


@lru_cache(maxsize=16)
def _timeout(read_s: float) -> urllib3.Timeout:
    return urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=read_s)


def _manager(connection: Connection) -> urllib3.PoolManager:
    settings: dict[str, Any] = {"num_pools": 2, "maxsize": 32, "retries": False, "socket_options": socket_options()}
    if connection.tls:
        settings["ssl_context"] = connection.tls
        if connection.server_name:
            settings |= {"server_hostname": connection.server_name, "assert_hostname": connection.server_name}
    if connection.proxy:
        return _with_idle_limit(urllib3.ProxyManager(connection.proxy, **settings))
    # NOTE: urllib3 by itself looks at no variable of the environment, so traffic to the API server is never proxied by
    # accident (reliability.md 49).
    return _with_idle_limit(urllib3.PoolManager(**settings))


class _IdleLimit(OneWrite):
    """A connection that has been idle for long counts as dropped, so that the pool makes a new one in its place."""

    response_class = PlainResponse
    used_s = float("inf")

    def __str__(self) -> str:
        """Name the server: urllib3 puts this into what it says to people."""
        return f"{self.host}:{self.port}"

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3's own
        """See HTTPConnection; the connection is idle from about here on."""
        self.used_s = suspend_aware()
        return super().getresponse()

    @property
    def is_connected(self) -> bool:
        """Tell whether it may be used again."""
        return super().is_connected and suspend_aware() - self.used_s < LONGEST_IDLE_S


class _IdleLimitTls(HTTPSConnection, _IdleLimit):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls: type[HTTPConnection] = _IdleLimit


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls: type[HTTPSConnection] = _IdleLimitTls


def _with_idle_limit(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
    return manager


def read_body(response: urllib3.BaseHTTPResponse, limit: int, path: str) -> bytes:
    """Read the whole body; the connection goes back to the pool.

    Raises:
        ApiError: It broke off, or is longer than ``limit``.
    """
    try:
        body = response.read(limit + 1)
    except (failures.HTTPError, OSError) as error:
        response.close()
        raise no_answer(error, path) from error
    # Closed, not given back: the rest of this answer would be read as the beginning of the next one.
    if len(body) > limit:
        response.close()
        raise BodyTooLong(NO_ANSWER, "InvalidResponse", f"the answer of {printable(path)} is too long")
    response.release_conn()
    return body


def no_answer(error: Exception, what: str) -> ApiError:
    """Say why there was no answer about ``what`` (a path)."""
    shown = printable(what)
    match error:
        case failures.NewConnectionError():
            # NOTE: urllib3 makes it a kind of timeout, which it is not.
            return ApiError(NO_ANSWER, "Unreachable", f"the API server cannot be reached: {printable(error)}")
        case failures.TimeoutError() | TimeoutError():
            return ApiError(NO_ANSWER, "Timeout", f"no answer in time: {shown}")
        case failures.SSLError() | ssl.SSLError():
            return ApiError(NO_ANSWER, "TLS", f"its certificate cannot be trusted: {printable(error)}")
        case failures.ProxyError():
            return ApiError(NO_ANSWER, "ProxyFailed", f"the kubeconfig's proxy failed: {printable(error)}")
        case failures.ProtocolError() | ConnectionError():
            return ApiError(NO_ANSWER, "Disconnected", f"the connection broke: {shown}")
        case _:
            return ApiError(NO_ANSWER, "Unreachable", f"the API server cannot be reached: {printable(error)}")
