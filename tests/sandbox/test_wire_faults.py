"""Faults of the connection happen on real sockets, on every server, and end when they are switched off."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import requests
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import ReadTimeout, SSLError

from credrotator.sandbox import Certificate, Drip, Hang, Latency, Mute, Refuse, Reset, Sandbox
from tests.sandbox.conftest import DISCOVERY, TIMEOUT_S, ask_for_token, discover, trusting_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.sandbox.certificates import Flaw
    from credrotator.sandbox.service import Service

SHORT_S = 1.5
"""Long enough for a head on a busy machine, and short enough to wait for its end."""
SERVERS: list[Callable[[Sandbox], Service]] = [lambda s: s.issuer, lambda s: s.sts, lambda s: s.entra]
on_every_server = pytest.mark.parametrize("server_of", SERVERS, ids=["issuer", "sts", "entra"])


def knock(session: requests.Session, service: Service) -> int:
    """Ask any server for something that it has not, and return the status."""
    return session.get(f"{service.url}/nothing/here", timeout=TIMEOUT_S).status_code


@on_every_server
def test_fault_01_refused(sandbox: Sandbox, http: requests.Session, server_of: Callable[[Sandbox], Service]) -> None:
    """Fault 1: connections are refused, kept-alive ones end, and the same port serves again afterwards."""
    service = server_of(sandbox)
    url = service.url
    assert knock(http, service) == 404
    with service.faults.add(Refuse()):
        with pytest.raises(NoConnection, match="refused"):
            knock(http, service)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", service.port)) != 0
    assert service.url == url
    assert knock(http, service) == 404


def test_refused_before_the_start(sandbox: Sandbox) -> None:
    """A switch that was set while a server was stopped holds from its start on."""
    issuer = sandbox.add_issuer()
    issuer.stop()
    rule = issuer.faults.add(Refuse())
    issuer.start()
    with trusting_session(sandbox.ca_file) as http, pytest.raises(NoConnection):
        knock(http, issuer)
    rule.remove()
    with trusting_session(sandbox.ca_file) as http:
        assert knock(http, issuer) == 404


@pytest.mark.parametrize(("part", "interval_s"), [("head", 0.02), ("body", 0.004)])
def test_fault_02_drip(sandbox: Sandbox, http: requests.Session, part: str, interval_s: float) -> None:
    """Fault 2: a byte at a time keeps a read timeout from firing, however long the whole takes."""
    sandbox.issuer.faults.add(Drip(interval_s, head=part == "head", body=part == "body"), path=DISCOVERY, times=1)
    began = time.monotonic()
    assert discover(http, sandbox, timeout=SHORT_S).json()["issuer"] == sandbox.issuer.url
    assert time.monotonic() - began > SHORT_S


@on_every_server
@pytest.mark.parametrize("flaw", ["expired", "unknown-ca", "wrong-host"])
def test_fault_06_certificates(
    sandbox: Sandbox, http: requests.Session, flaw: Flaw, server_of: Callable[[Sandbox], Service]
) -> None:
    """Fault 6: each flaw of a certificate is seen by a client that verifies, also one with a kept-alive connection."""
    service = server_of(sandbox)
    words = {"expired": "expired", "unknown-ca": "self-signed|issuer", "wrong-host": "match"}[flaw]
    assert knock(http, service) == 404
    with service.faults.add(Certificate(flaw)), pytest.raises(SSLError, match=f"(?i){words}"):
        knock(http, service)
    assert knock(http, service) == 404


def test_fault_06_new_ca(sandbox: Sandbox) -> None:
    """Fault 6: after the CA was renewed, whoever reads ``ca_file`` again gets through, and whoever did not fails."""
    old = ssl.create_default_context(cafile=str(sandbox.ca_file))
    sandbox.renew_ca()
    new = ssl.create_default_context(cafile=str(sandbox.ca_file))
    address = ("127.0.0.1", sandbox.issuer.port)
    with socket.create_connection(address) as plain, pytest.raises(ssl.SSLCertVerificationError):
        old.wrap_socket(plain, server_hostname="localhost")
    with socket.create_connection(address) as plain, new.wrap_socket(plain, server_hostname="localhost") as secured:
        assert secured.version() == "TLSv1.3"


def test_old_tls_is_refused(sandbox: Sandbox) -> None:
    """TLS 1.2 is the least that is spoken."""
    context = ssl.create_default_context(cafile=str(sandbox.ca_file))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", sandbox.issuer.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        assert secured.version() == "TLSv1.2"


@on_every_server
def test_hang_before_the_head(
    sandbox: Sandbox, http: requests.Session, server_of: Callable[[Sandbox], Service]
) -> None:
    """A hanging server lets the read timeout fire, and the request counts as in flight until its client leaves."""
    service = server_of(sandbox)
    service.faults.add(Hang())
    with pytest.raises(ReadTimeout):
        http.get(f"{service.url}/nothing/here", timeout=SHORT_S)
    assert service.requests.count("/nothing/here") == 1
    assert service.requests.wait_for(lambda log: log.in_flight == 0)


def test_mute(sandbox: Sandbox, http: requests.Session) -> None:
    """Fault 2: the handshake itself hangs, and only as many connections as were asked for."""
    sandbox.sts.faults.add(Mute(), times=1)
    with pytest.raises(requests.Timeout):
        http.get(sandbox.sts.url, timeout=SHORT_S)
    assert sandbox.sts.requests.total == 0
    assert knock(http, sandbox.sts) == 404


def test_hang_amid_the_body(sandbox: Sandbox, http: requests.Session) -> None:
    """Head and a few bytes come, then nothing."""
    sandbox.issuer.faults.add(Hang(after_bytes=10), path=DISCOVERY)
    with closing(http.get(f"{sandbox.issuer.url}{DISCOVERY}", timeout=SHORT_S, stream=True)) as answer:
        assert answer.status_code == 200
        assert answer.raw.read(10) == b'{"issuer":'
        with pytest.raises(Exception, match="timed out"):
            answer.raw.read(1)


def test_hang_ends_with_an_answer_when_switched_off(sandbox: Sandbox, http: requests.Session) -> None:
    """Removing the switch answers what hangs: a server that recovers."""
    rule = sandbox.issuer.faults.add(Hang(), times=1)
    before = sandbox.issuer.requests.total
    with socket.create_connection(("127.0.0.1", sandbox.issuer.port)) as plain:
        context = ssl.create_default_context(cafile=str(sandbox.ca_file))
        with context.wrap_socket(plain, server_hostname="localhost") as secured:
            secured.sendall(f"GET {DISCOVERY} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert sandbox.issuer.requests.wait_for(lambda log: log.total == before + 1)
            rule.remove()
            assert secured.recv(15) == b"HTTP/1.1 200 OK"
    assert discover(http, sandbox).status_code == 200


@on_every_server
def test_reset(sandbox: Sandbox, http: requests.Session, server_of: Callable[[Sandbox], Service]) -> None:
    """A TCP reset instead of an answer, as often as was asked for."""
    service = server_of(sandbox)
    assert knock(http, service) == 404
    service.faults.add(Reset(), times=1)
    with pytest.raises(NoConnection):
        knock(http, service)
    assert knock(http, service) == 404


def test_reset_is_one_on_the_wire(sandbox: Sandbox) -> None:
    """What arrives is an RST, not a FIN; asked in the clear, because Python's TLS shows both as the end of file."""
    sandbox.issuer.faults.add(Reset())
    with socket.create_connection(("127.0.0.1", sandbox.issuer.port)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            plain.recv(1)


def test_reset_amid_the_body(sandbox: Sandbox, http: requests.Session) -> None:
    """A TCP reset after a part of the body."""
    sandbox.issuer.faults.add(Reset(after_bytes=10), times=1)
    with pytest.raises(requests.RequestException):
        discover(http, sandbox)


def test_latency_composes_with_other_faults(sandbox: Sandbox, http: requests.Session) -> None:
    """Faults of different kinds act on one request together."""
    sandbox.issuer.faults.add(Latency(SHORT_S), times=1)
    sandbox.issuer.faults.add(Drip(interval_s=0.0001, body=False), times=1)
    began = time.monotonic()
    assert discover(http, sandbox).ok
    assert time.monotonic() - began > SHORT_S
    assert ask_for_token(http, sandbox.issuer).ok


def test_fault_47_a_name_that_is_the_loopback(sandbox: Sandbox, http: requests.Session) -> None:
    """Fault 47: the sandbox is on the loopback by name and by address, and on no other interface."""
    port = sandbox.issuer.port
    for host in ("localhost", "127.0.0.1"):
        assert http.get(f"https://{host}:{port}{DISCOVERY}", timeout=TIMEOUT_S).status_code == 200
    with socket.socket() as probe:
        probe.settimeout(TIMEOUT_S)
        assert probe.connect_ex(("127.0.0.2", port)) != 0
