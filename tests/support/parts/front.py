"""A door before the API server that a test can jam: it ends TLS, hands on each request, and does what a fault says.

Who comes through proves itself by a token: a client's certificate would end here. Faults, and what they apply to, are
those of the simulated server (`tests.support.kube.faults`), so that one fault reads the same on both.
"""

import contextlib
import http.client
import json
import math
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from tests.support.kube.faults import Fault, Match, Request
from tests.support.kube.listening import HttpListener, cut
from tests.support.kube.routing import read_path
from tests.support.parts.api import Json
from tests.support.parts.cluster import Cluster

_END_TO_END = {"accept", "authorization", "content-type", "user-agent"}
_BLOCK_BYTES = 65_536
_ANSWER_S = 60.0
_TOO_OLD = "too old resource version"


class Front:
    """The door; make one by `before`.

    Attributes:
        requests: What came, in order of arrival; a request's `status` is what it was answered, 0 while, or if never.
    """

    def __init__(self, server: str, trust: ssl.SSLContext, identity: ssl.SSLContext) -> None:
        self.requests: list[Request] = []
        self._server = urlsplit(server)
        self._trust = trust
        self._changed = threading.Condition()
        self._faults: list[Fault] = []
        self._streams: set[_Stream] = set()
        self._stale: set[str] = set()
        self._closing = False
        self._listener = _Listener(self, identity)
        self.url = self._listener.url

    def start(self) -> None:
        self._listener.start()

    def close(self) -> None:
        """Let go of what is held, and cut all connections."""
        with self._changed:
            self._closing = True
            self._faults.clear()
            self._changed.notify_all()
        self.cut_watches()
        self._listener.close()

    def fail(
        self, status: int, reason: str, *, times: int | None = None, retry_after_s: int | None = None, **match: str
    ) -> Fault:
        """Answer matching requests with a refusal; the server does not hear of them."""
        message = "as the test wants it"
        return self._add(Fault(Match(**match), times, status, reason, message, retry_after_s=retry_after_s))

    def hold(self, *, times: int | None = None, lose: bool = False, **match: str) -> Fault:
        """Keep matching requests from the server until the fault is healed; `lose`: for good."""
        return self._add(Fault(Match(**match), times, delay_s=math.inf, drop="before" if lose else ""))

    def delay(self, seconds: float, *, times: int | None = None, **match: str) -> Fault:
        """Hand on matching requests so much later."""
        return self._add(Fault(Match(**match), times, delay_s=seconds))

    def drop(self, when: Literal["before", "after"], *, times: int | None = None, **match: str) -> Fault:
        """Cut the connections of matching requests without an answer; `after`: what they ask for was done."""
        return self._add(Fault(Match(**match), times, drop=when))

    def heal(self, fault: Fault) -> None:
        """End a fault; what it holds goes on its way."""
        with self._changed:
            self._faults = [other for other in self._faults if other is not fault]
            self._changed.notify_all()

    def seen(self, verb: str = "*", resource: str = "*", **match: str) -> list[Request]:
        """Return the requests so far that match."""
        wanted = Match(verb, resource, **match)
        return [request for request in list(self.requests) if wanted.covers(request)]

    def cut_watches(self) -> None:
        """Break the connections of all watches that are open."""
        for stream in self._open_streams():
            stream.cut()

    def silence_watches(self) -> None:
        """Let all watches that are open say nothing more and stay open, as after a firewall has forgotten them."""
        for stream in self._open_streams():
            stream.silent = True

    def expire_watches(self) -> None:
        """Tell all watches that are open that they are too old, as after a compaction: 410 as an event.

        As after a real one, none goes on from what was known: each is refused until its collection was listed again.
        """
        for stream in self._open_streams():
            with self._changed:
                self._stale.add(stream.collection)
            stream.expire()

    def _open_streams(self) -> list["_Stream"]:
        with self._changed:
            return list(self._streams)

    def _add(self, fault: Fault) -> Fault:
        with self._changed:
            self._faults.append(fault)
        return fault

    # For the connections.

    def take(self, request: Request) -> list[Fault]:
        """Return the faults that a request meets, and count it."""
        with self._changed:
            met = [
                fault
                for fault in self._faults
                if fault.match.covers(request) and (fault.times is None or fault.taken < fault.times)
            ]
            for fault in met:
                fault.taken += 1
            collection = _collection(request)
            if request.verb == "list":
                self._stale.discard(collection)
            if request.verb == "watch" and collection in self._stale:
                met.append(Fault(Match(), status=410, reason="Expired", message=_TOO_OLD))
            return met

    def wait(self, fault: Fault) -> None:
        """Wait for as long as a fault says, or until it is healed."""
        over_s = time.monotonic() + fault.delay_s
        with self._changed:
            while fault in self._faults and (left_s := over_s - time.monotonic()) > 0:
                self._changed.wait(min(left_s, _ANSWER_S))

    def ask(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[http.client.HTTPResponse, socket.socket]:
        """Put a request to the server; return its answer, and the connection for whoever has to cut it."""
        host, port = self._server.hostname or "", self._server.port
        connection = http.client.HTTPSConnection(host, port, context=self._trust)
        connection.request(method, target, body or None, {**headers, "Connection": "close"})
        line = connection.sock
        return connection.getresponse(), line

    @contextmanager
    def streaming(self, stream: "_Stream") -> Iterator[None]:
        """Count a watch among the open ones until the block ends."""
        with self._changed:
            self._streams.add(stream)
        try:
            yield
        finally:
            with self._changed:
                self._streams.discard(stream)

    @property
    def closing(self) -> bool:
        return self._closing


@contextmanager
def before(cluster: Cluster) -> Iterator[Front]:
    """Put a door before a cluster's API server, with the server's own certificate."""
    trust = ssl.create_default_context(cafile=str(cluster.ca))
    identity = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    identity.load_cert_chain(cluster.identity.certificate, cluster.identity.key)
    front = Front(cluster.url, trust, identity)
    front.start()
    try:
        yield front
    finally:
        front.close()


class _Stream:
    """A watch that is being handed on."""

    def __init__(
        self, handler: "_Handler", collection: str, answer: http.client.HTTPResponse, line: socket.socket
    ) -> None:
        self.collection = collection
        self.silent = False
        self._handler = handler
        self._answer = answer
        self._line = line
        self._writing = threading.Lock()
        self._ended = False

    def carry(self) -> None:
        """Hand on what comes until either side ends it."""
        while block := self._answer.read1(_BLOCK_BYTES):
            with self._writing:
                if self._ended:
                    return
                if not self.silent:
                    self._chunk(block)
        while self.silent and not self._ended and not self._handler.server.front.closing:
            # The server has ended it; the client is not to hear of that either.
            time.sleep(0.05)
        with self._writing:
            if not self._ended:
                self._chunk(b"")

    def expire(self) -> None:
        status = _status(410, "Expired", _TOO_OLD)
        with self._writing, contextlib.suppress(OSError):
            self._chunk(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
            self._chunk(b"")
            self._ended = True
        self.cut()

    def cut(self) -> None:
        self._ended = True
        cut(self._handler.connection)
        cut(self._line)

    def _chunk(self, data: bytes) -> None:
        self._handler.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))


class _Listener(HttpListener):
    def __init__(self, front: Front, identity: ssl.SSLContext) -> None:
        self.front = front
        super().__init__(_Handler, identity)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def __getattr__(self, name: str) -> Any:
        """Serve all methods alike."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def log_message(self, *_: Any) -> None:
        """Keep quiet; the log is `Front.requests`."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = urlsplit(self.path)
        user = self.headers.get("Authorization", "").removeprefix("Bearer ")
        request = Request(self.command, parts.path, dict(parse_qsl(parts.query)), user)
        request.body = json.loads(body) if body else None
        read_path(request)
        front = self.server.front
        front.requests.append(request)
        try:
            self._meet(front.take(request), request, body)
        except OSError:
            self._cut()

    def _meet(self, faults: list[Fault], request: Request, body: bytes) -> None:
        for fault in faults:
            if fault.delay_s:
                self.server.front.wait(fault)
            if fault.drop == "before" or self.server.front.closing:
                self._cut()
                return
            if fault.status:
                self._refuse(fault, request)
                return
        headers = {name: value for name, value in self.headers.items() if name.lower() in _END_TO_END}
        answer, line = self.server.front.ask(self.command, self.path, headers, body)
        with contextlib.closing(answer):
            if any(fault.drop == "after" for fault in faults):
                answer.read()
                self._cut()
            elif request.verb == "watch" and answer.status == http.client.OK:
                self._stream(request, _Stream(self, _collection(request), answer, line))
            else:
                self._answer(request, answer.status, dict(answer.getheaders()), answer.read())

    def _refuse(self, fault: Fault, request: Request) -> None:
        headers = {"Content-Type": "application/json"}
        if fault.retry_after_s is not None:
            headers["Retry-After"] = str(fault.retry_after_s)
        found = _status(fault.status, fault.reason, fault.message)
        self._answer(request, fault.status, headers, json.dumps(found).encode())

    def _answer(self, request: Request, status: int, headers: dict[str, str], body: bytes) -> None:
        request.status = status
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() in {"content-type", "retry-after"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, request: Request, stream: _Stream) -> None:
        request.status = http.client.OK
        self.send_response(http.client.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with self.server.front.streaming(stream), contextlib.suppress(ValueError, http.client.HTTPException):
            stream.carry()

    def _cut(self) -> None:
        self.close_connection = True
        cut(self.connection)


def _collection(request: Request) -> str:
    """Name what is listed or watched: a path, and what of it."""
    return " ".join((request.path, *(request.query.get(name, "") for name in ("labelSelector", "fieldSelector"))))


def _status(code: int, reason: str, message: str) -> Json:
    """Return what a refusal says, in the API's words."""
    named = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**named, "message": message, "reason": reason, "code": code}
