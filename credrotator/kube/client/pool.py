"""Connections to the API server, what is read from them, and what their failures mean.

Owns TLS, proxy and size limits on the socket's side. Must not know requests. Source: reliability.md 49, security 3.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3 import exceptions as failures
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from credrotator.core.clock import suspend_aware
from credrotator.core.errors import printable
from credrotator.core.keep_alive import LONGEST_IDLE_S, socket_options
from credrotator.kube.client.api_errors import NO_ANSWER, ApiError, BodyTooLong

if TYPE_CHECKING:
    from urllib3.response import HTTPResponse

    from credrotator.kube.client.connection import Connection


def make_pool(connection: Connection) -> urllib3.PoolManager:
    """Make the pool; nothing is connected yet."""
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


class _IdleLimit(HTTPConnection):
    """A connection that has been idle for long counts as dropped, so that the pool makes a new one in its place."""

    used_s = float("inf")

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
