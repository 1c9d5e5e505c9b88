"""Requests to the API server: JSON in, JSON out, over one pool of connections.

Owns timeouts, size limits, the retry after a refused token, and what no answer means. Raw JSON, because the generated
client's models cost twice the CPU and 44 MiB. Must not retry anything else: that is the callers' one layer.
Source: Kubernetes API concepts; reliability.md 28, 29, 31, 49.
"""

from __future__ import annotations

import json
import threading
import time
import weakref
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import urlencode

from urllib3 import exceptions as failures

from credrotator.core.errors import printable
from credrotator.core.sensitive import Sensitive
from credrotator.kube.client.api_errors import (
    NO_ANSWER,
    UNAUTHORIZED,
    ApiError,
    ConfigurationError,
    from_answer,
)
from credrotator.kube.client.authorization import Authorization
from credrotator.kube.client.connection import Connection, find_connection
from credrotator.kube.client.pool import Sender, no_answer, read_body
from credrotator.kube.client.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import urllib3

    from credrotator.kube.client.api_objects import Json

__all__ = ["ApiError", "KubeApi"]

READ_TIMEOUT_S = 30.0
WATCH_READ_TIMEOUT_S = 70.0
BODY_LIMIT = 64 * 1024 * 1024
REFUSAL_LIMIT = 1024 * 1024
MULTIPLE_CHOICES = 300
MERGE_PATCH = "application/merge-patch+json"

Query = str | int | bool | None


class DateObserver(Protocol):
    """Told of the Date header of each answer, None where there is none, in the thread that asked."""

    def __call__(self, date: str | None, /) -> None:
        """Take note of it."""


class _NoObserver:
    def __call__(self, _date: str | None) -> None:
        pass


NO_OBSERVER: DateObserver = _NoObserver()


class KubeApi:
    """A client for one API server; safe to share between threads.

    Every method raises :class:`ApiError`. Query parameters are keywords in the API's spelling (``labelSelector=…``);
    those that are None or empty are left out.

    Args:
        connection: How to reach it.
        read_timeout_s: For an answer, unless a request says another.
        user_agent: Who asks, for the server's audit log.
        dates: Learns by how much clocks differ.

    Attributes:
        default_namespace: The context's, or the pod's.
        server: Its address.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        read_timeout_s: float = READ_TIMEOUT_S,
        user_agent: str = "kube-client",
        dates: DateObserver = NO_OBSERVER,
    ) -> None:
        self.default_namespace = connection.namespace
        self.server = connection.server
        self._dates = dates
        self._authorization = Authorization(connection.credentials)
        self._read_timeout_s = read_timeout_s
        self._sender = Sender(connection, {"Accept": "application/json", "User-Agent": user_agent})
        # Weak: a watch that ended is the informer's to drop.
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._refused_since: float | None = None

    @classmethod
    def from_config(
        cls,
        kubeconfig: str | None = None,
        context: str | None = None,
        *,
        user_agent: str = "kube-client",
        dates: DateObserver = NO_OBSERVER,
    ) -> Self:
        """Make a client for the cluster that kubectl would talk to, else the one that this pod runs in.

        Raises:
            ConfigurationError: There is none, or its configuration cannot be used.
        """
        return cls(find_connection(kubeconfig, context), user_agent=user_agent, dates=dates)

    def get(self, path: str, *, read_timeout_s: float | None = None, **query: Query) -> Json:
        """Read one object or a list."""
        return self._exchange("GET", path, query, read_timeout_s=read_timeout_s)

    def post(self, path: str, body: Json, *, read_timeout_s: float | None = None, **query: Query) -> Json:
        """Create an object."""
        return self._exchange("POST", path, query, body=body, read_timeout_s=read_timeout_s)

    def put(self, path: str, body: Json, *, read_timeout_s: float | None = None, **query: Query) -> Json:
        """Replace an object; its resourceVersion, where the body has one, must be the present one."""
        return self._exchange("PUT", path, query, body=body, read_timeout_s=read_timeout_s)

    def patch(
        self,
        path: str,
        body: Json | list[Json],
        *,
        content_type: str = MERGE_PATCH,
        read_timeout_s: float | None = None,
        **query: Query,
    ) -> Json:
        """Change parts of an object; a resourceVersion in a merge patch is a precondition."""
        return self._exchange("PATCH", path, query, body=body, content_type=content_type, read_timeout_s=read_timeout_s)

    def delete(
        self, path: str, body: Json | None = None, *, read_timeout_s: float | None = None, **query: Query
    ) -> Json:
        """Delete an object; ``body``: DeleteOptions, with preconditions."""
        return self._exchange("DELETE", path, query, body=body, read_timeout_s=read_timeout_s)

    def watch(self, path: str, *, read_timeout_s: float = WATCH_READ_TIMEOUT_S, **query: Query) -> Watch:
        """Start a watch from the caller's resourceVersion.

        The iterator ends where the server ends the watch. It raises ApiError for an ERROR event (410: list again), for
        a silence of ``read_timeout_s`` (reason Timeout) and for a connection that broke (Disconnected).
        """
        response = self._send("GET", path, {**query, "watch": True}, read_timeout_s)
        watch = Watch(response, lambda error: no_answer(error, "the watch"))
        self._watches.add(watch)
        return watch

    def own_token(self) -> Sensitive:
        """Return the bearer token with which this client is let in; empty without one.

        Raises:
            ApiError: It cannot be had.
        """
        header = self._header()
        return Sensitive(header.reveal().partition(" ")[2] if header else "")

    def unauthorized_for(self) -> timedelta:
        """Tell for how long every answer has been a 401; zero when the last one was not (reliability.md 31)."""
        since = self._refused_since
        return timedelta() if since is None else timedelta(seconds=time.monotonic() - since)

    def close(self) -> None:
        """Interrupt the watches and close the connections that are not in use; those in use end with their request."""
        for watch in list(self._watches):
            watch.interrupt()
        self._sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, Query],
        *,
        body: object = None,
        content_type: str = "application/json",
        read_timeout_s: float | None = None,
    ) -> Json:
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        timeout_s = read_timeout_s or self._read_timeout_s
        response = self._send(method, path, query, timeout_s, data=data, content_type=content_type)
        body_bytes = read_body(response, BODY_LIMIT, path)
        try:
            parsed = json.loads(body_bytes)
        except (ValueError, RecursionError) as error:
            raise ApiError(NO_ANSWER, "InvalidResponse", f"the answer of {printable(path)} is not JSON") from error
        if not isinstance(parsed, dict):
            raise ApiError(NO_ANSWER, "InvalidResponse", f"the answer of {printable(path)} is not an object")
        return parsed

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Query],
        read_timeout_s: float,
        *,
        data: bytes | None = None,
        content_type: str = "application/json",
    ) -> urllib3.BaseHTTPResponse:
        """Return a response of which the body is still to be read, after one more try if the token was refused."""
        target = path + _encoded(query)
        # Once more after a 401, and for nothing else: the kubelet replaces a token file at any moment, and the one that
        # was read may have just expired.
        for again in (True, False):
            header = self._header()
            headers = {"Authorization": header.reveal()} if header else {}
            if data is not None:
                headers["Content-Type"] = content_type
            try:
                response = self._sender.send(method, target, data, headers, read_timeout_s)
            except (failures.HTTPError, OSError) as error:
                raise no_answer(error, path) from error
            self._note(response.status)
            # An answer from a cache is as old as its Age says, and its Date as well.
            self._dates(None if "Age" in response.headers else response.headers.get("Date"))
            if response.status < MULTIPLE_CHOICES:
                return response
            # Read to its end, or the connection could not be used again.
            refusal = read_body(response, REFUSAL_LIMIT, path)
            if not (again and response.status == UNAUTHORIZED and self._authorization.renew(header)):
                break
        raise from_answer(response.status, response.headers, refusal, wrote=data is not None)

    def _header(self) -> Any:
        try:
            return self._authorization.header()
        except ConfigurationError as error:
            raise ApiError(UNAUTHORIZED, "Unauthorized", printable(error)) from error

    def _note(self, status: int) -> None:
        with self._lock:
            if status != UNAUTHORIZED:
                self._refused_since = None
            # The first of a row counts: after two minutes of nothing but 401s the pod is not ready (fault 31).
            elif self._refused_since is None:
                self._refused_since = time.monotonic()


def _encoded(query: Mapping[str, Query]) -> str:
    given = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in query.items()
        if value or value == 0
    }
    return f"?{urlencode(given)}" if given else ""
