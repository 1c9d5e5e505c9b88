"""Row 69: whoever connects to the metrics port, and however slowly, probes are answered."""

from __future__ import annotations

import resource
import socket
import threading
import time
import urllib.request
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from credrotator.observability import health
from credrotator.observability.health import MOST_CONNECTIONS, HealthServer
from credrotator.observability.metrics import Metrics
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOW = 1500
PROBE_S = 5.0
"""A machine that is busy with other tests gets more than the kubelet's second; without bounds it is minutes."""
BEGINNINGS = (b"", b"G", b"GET /healthz HTTP/1.1\r\nX: ")


@pytest.fixture
def server() -> Iterator[HealthServer]:
    """Serve for the length of a test."""
    running = HealthServer("127.0.0.1", 0, Metrics(), {"/healthz": lambda: None})
    running.start()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def _enough_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * SLOW + 1000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this machine allows no more than {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(stack: ExitStack, server: HealthServer, begins: bytes) -> socket.socket:
    """Connect, and send no more than the beginning of a request."""
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5))
    connection.sendall(begins)
    return connection


def probe(server: HealthServer) -> bytes:
    """Ask as the kubelet does."""
    url = f"http://127.0.0.1:{server.port}/healthz"
    with urllib.request.urlopen(url, timeout=PROBE_S) as answer:
        body: bytes = answer.read()
    return body


def threads() -> int:
    """Count the threads that answer."""
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def test_fault_69_fifteen_hundred_slow_connections(server: HealthServer) -> None:
    """Probes are answered before, among and after them; threads are bounded."""
    with ExitStack() as stack:
        for number in range(SLOW):
            connect(stack, server, BEGINNINGS[number % len(BEGINNINGS)])
            if number % 100 == 0:
                assert probe(server) == b"ok\n"
        assert [probe(server) for _ in range(20)] == [b"ok\n"] * 20
        eventually(lambda: threads() <= MOST_CONNECTIONS + 1)
    eventually(lambda: threads() == 0)


def test_fault_69_one_that_does_not_read(server: HealthServer) -> None:
    """Connections that asked for all metrics and take none of them make room for a probe as well."""
    with ExitStack() as stack:
        for _ in range(3 * MOST_CONNECTIONS):
            connect(stack, server, b"GET /metrics HTTP/1.0\r\n\r\n")
        assert probe(server) == b"ok\n"


def test_fault_69_a_connection_has_one_deadline(server: HealthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that drips, and so never times out, is ended all the same."""
    monkeypatch.setattr(health, "DEADLINE_S", 0.2)
    with ExitStack() as stack:
        dripping = connect(stack, server, b"GET /healthz HTTP/1.1\r\n")
        ended = False
        for _ in range(200):
            try:
                dripping.sendall(b"X")
                ended = dripping.recv(1, socket.MSG_DONTWAIT) == b""
            except BlockingIOError:
                pass
            except OSError:
                ended = True
            if ended:
                break
            time.sleep(0.02)
        assert ended
