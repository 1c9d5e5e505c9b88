"""One HTTP server of the sandbox: a port, its TLS, a log, fault switches, and routes that a subclass fills in.

Owns the way of a request from the socket to a route and of the answer back. Must not know OIDC, AWS or Entra.
Specification: RFC 9112 (HTTP/1.1 with persistent connections), RFC 9110 §6.6.1 (Date).
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Literal

from werkzeug import Request, Response
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.http import http_date
from werkzeug.routing import Map, Rule

from credrotator.sandbox.answers import Refused
from credrotator.sandbox.faults import Fault, Faults
from credrotator.sandbox.incoming import BadMessage, persistent, read_request, swallow
from credrotator.sandbox.line import Line
from credrotator.sandbox.listener import Listener
from credrotator.sandbox.recording import RecordedRequest, RequestLog
from credrotator.sandbox.wirefaults import Certificate, Handshake, Mute

if TYPE_CHECKING:
    import ssl

    from credrotator.sandbox.certificates import Certificates

Clock = Callable[[], datetime]
Scheme = Literal["https", "http"]
TLS_HANDSHAKE = 0x16  # RFC 8446 §5.1: the first byte of a ClientHello's record


@dataclass(frozen=True)
class Place:
    """What the servers of one sandbox share: certificates, the clock, and the host name in their URLs."""

    certificates: Certificates
    clock: Clock
    host: str


class Service:
    """A server that a test edits while it runs.

    ``skew`` is added to the sandbox's clock, for this server only: in its tokens, its checks, its log and its Date.
    """

    name: ClassVar[str] = "service"
    routes: ClassVar[Mapping[str, str]] = {}  # path pattern -> "METHOD function"

    def __init__(self, place: Place, port: int, scheme: Scheme = "https") -> None:
        self.requests = RequestLog()
        self.faults = Faults(self._faults_changed)
        self.skew = timedelta()
        self._place = place
        self._scheme: Scheme = scheme
        self._listener = Listener(self.name, port, self._serve)
        self._map = _route_map(self.routes)
        self._switching = threading.Lock()
        self._tls_fault_seen = False

    @property
    def port(self) -> int:
        """Return the TCP port; before the start it may still be 0."""
        return self._listener.port

    @property
    def url(self) -> str:
        """Return the base URL, without a slash at the end."""
        return f"{self._scheme}://{self._place.host}:{self.port}"

    def now(self) -> datetime:
        """Return the time as this server sees it, aware UTC."""
        return self._place.clock() + self.skew

    def start(self) -> None:
        """Listen and serve; raises ``PortTaken`` where the port is in use."""
        self._listener.open()
        self._faults_changed()  # switches may have been set before

    def stop(self) -> None:
        """Close every connection, hanging ones too, and wait until all threads have ended."""
        self._listener.close()

    def drop_connections(self) -> None:
        """Close every connection, so that clients have to make new ones."""
        self._listener.drop_connections()

    def refusal(self, code: str, description: str | None = None) -> Response:
        """Return the answer with which this service refuses for the reason ``code``; subclasses override."""
        return Response(f"{code}: {description}\n", 400)

    def _respond(self, request: Request) -> Response:
        try:
            endpoint, arguments = self._map.bind_to_environ(request.environ).match()
            answer = getattr(self, endpoint)(request, **arguments)
        except Refused as refused:
            return self.refusal(refused.code, refused.description)
        except HTTPException as error:
            return error.get_response(request.environ)
        if not isinstance(answer, Response):
            raise TypeError(f"route {endpoint} answered with {type(answer).__name__}")
        return answer

    def _faults_changed(self) -> None:
        with self._switching:  # so that two switches turned at once do not leave the port in the older state
            self._listener.set_refusing(refusing=self.faults.active("refuse"))
            if self.faults.active("tls") or self._tls_fault_seen:
                self._tls_fault_seen = self.faults.active("tls")
                self.drop_connections()  # a kept-alive connection would go on with the certificate it began with

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # whatever the peer does to its connection ends that connection only
            scheme: Scheme = "https" if connection.recv(1, socket.MSG_PEEK) == bytes([TLS_HANDSHAKE]) else "http"
            self._converse(self._secured(connection) if scheme == "https" else connection, scheme)

    def _secured(self, connection: socket.socket) -> ssl.SSLSocket:
        fault = self.faults.take_connection()
        if isinstance(fault, Mute):
            swallow(connection)
        flaw = fault.flaw if isinstance(fault, Certificate | Handshake) else "none"
        context = self._place.certificates.context(flaw)
        secured = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._listener.replace(secured)
        secured.do_handshake()
        return secured

    def _converse(self, connection: socket.socket, scheme: Scheme) -> None:
        authority = f"{self._place.host}:{self.port}"
        with connection.makefile("rb") as stream:
            try:
                while request := read_request(stream, scheme, authority):
                    self._answer(request, Line(connection))
                    if not persistent(request):
                        return
            except BadMessage as error:
                Line(connection).send(Response(f"{error}\n", 400, headers={"Connection": "close"}))

    def _answer(self, request: Request, line: Line) -> None:
        record = self._record(request)
        with self.requests.recording(record):
            faults = self.faults.take(record)
            for fault in faults:
                fault.before(line)
            response = self._made_by(request, faults)
            response.headers.setdefault("Date", http_date(self.now()))
            for fault in faults:
                response = fault.change(response)
            line.send(response, head_only=request.method == "HEAD")

    def _made_by(self, request: Request, faults: list[Fault]) -> Response:
        if request.scheme != self._scheme:
            return Response(f"this port speaks {self._scheme}\n", 400)
        answers = (fault.answer(request, self) for fault in faults)
        return next((answer for answer in answers if answer is not None), None) or self._respond(request)

    def _record(self, request: Request) -> RecordedRequest:
        # The body first: reading the form would consume the stream, and the signature of a request covers its bytes.
        body = request.get_data(cache=True, parse_form_data=False)
        return RecordedRequest(
            method=request.method,
            path=request.path,
            query=request.args,
            scheme=request.scheme,
            time=self.now(),
            form=request.form,
            headers=Headers(request.headers),
            body=body,
        )


def _route_map(routes: Mapping[str, str]) -> Map:
    rules = []
    for pattern, target in routes.items():
        method, endpoint = target.split()
        rules.append(Rule(pattern, methods=[method], endpoint=endpoint))
    return Map(rules, strict_slashes=False, merge_slashes=False)
