"""Metrics and health as Prometheus and the kubelet see them."""

from __future__ import annotations

import http.client
import socket
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from credrotator.core.model import ObjectKey
from credrotator.core.outcome import Failure, Outcome
from credrotator.observability.health import HealthCheck, HealthServer
from credrotator.observability.metrics import Metrics
from tests.support.twins import HOUR, KEY, NOW, SECRET
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ROTATED = Outcome(KEY, "aws-oidc", "rotated", "Missing", SECRET, NOW + HOUR, NOW + HOUR / 2)
FAILED = Outcome(
    KEY, "aws-oidc", "failed", "Missing", SECRET, error=Failure("transient", "IssuerUnreachable", "down", "wait")
)


class Served:
    """A server of metrics, and what it answers."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.metrics = Metrics()
        self.wrong: dict[str, str | None] = {"/healthz": None, "/readyz": None}
        self.server = HealthServer(host, 0, self.metrics, {path: self._probe(path) for path in self.wrong})
        self.server.start()

    def get(self, path: str) -> tuple[int, str, str]:
        """Return status, type and body."""
        connection = http.client.HTTPConnection(self.host or "127.0.0.1", self.server.port, timeout=5)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, answer.headers["Content-Type"], body

    def sample(self, metric: str, /, **labels: str) -> float | None:
        """Return a sample's value as a scraper reads it, None if there is none."""
        for family in text_string_to_metric_families(self.get("/metrics")[2]):
            for sample in family.samples:
                if sample.name == f"credrotator_{metric}" and labels.items() <= sample.labels.items():
                    return sample.value
        return None

    def _probe(self, path: str) -> HealthCheck:
        return lambda: self.wrong[path]


@pytest.fixture
def served() -> Iterator[Served]:
    """Serve on a free port for the length of a test."""
    running = Served()
    yield running
    running.server.stop()


class TestMetrics:
    """What each series says."""

    def test_a_rotation(self, served: Served) -> None:
        """Expiry, renewal, readiness and the count of rotations, by policy and provider."""
        served.metrics.record(ROTATED)
        of = {"namespace": "default", "name": "bedrock", "provider": "aws-oidc"}
        assert served.sample("credential_expiration_timestamp_seconds", **of) == (NOW + HOUR).timestamp()
        assert served.sample("credential_renewal_timestamp_seconds", **of) == (NOW + HOUR / 2).timestamp()
        assert served.sample("credential_ready_status", name="bedrock", condition="True") == 1
        assert served.sample("credential_ready_status", name="bedrock", condition="False") == 0
        assert served.sample("rotations_total", provider="aws-oidc", result="rotated", reason="Missing") == 1

    def test_a_failure(self, served: Served) -> None:
        """A failure is counted by its own reason and turns readiness over; a kept credential counts nothing."""
        served.metrics.record(ROTATED)
        served.metrics.record(FAILED)
        served.metrics.record(Outcome(ObjectKey("default", "other"), "aws-oidc", "kept", "Fresh", SECRET, NOW, NOW))
        assert served.sample("credential_ready_status", name="bedrock", condition="False") == 1
        assert served.sample("rotations_total", result="failed", reason="IssuerUnreachable") == 1
        assert served.sample("rotations_total", result="kept") is None

    def test_what_is_not_known_any_more(self, served: Served) -> None:
        """A credential that is gone leaves no expiry behind: an alert must not believe in it."""
        served.metrics.record(ROTATED)
        served.metrics.record(FAILED)
        assert served.sample("credential_expiration_timestamp_seconds", name="bedrock") is None
        assert served.sample("credential_renewal_timestamp_seconds", name="bedrock") is None

    def test_a_deleted_policy(self, served: Served) -> None:
        """Its series vanish, those of others stay; forgetting twice, or a stranger, does no harm."""
        other = ObjectKey("default", "other")
        served.metrics.record(ROTATED)
        served.metrics.record(Outcome(other, "azure-oidc", "kept", "Fresh", SECRET, NOW + HOUR, NOW))
        for _ in range(2):
            served.metrics.forget(KEY)
        served.metrics.forget(ObjectKey("no", "body"))
        for name in ("credential_expiration_timestamp_seconds", "credential_ready_status"):
            assert served.sample(name, name="bedrock") is None
            assert served.sample(name, name="other") is not None

    def test_another_provider(self, served: Served) -> None:
        """A policy that changed its provider has no series under the old one."""
        served.metrics.record(ROTATED)
        served.metrics.record(Outcome(KEY, "azure-oidc", "kept", "Fresh", SECRET, NOW + HOUR, NOW))
        assert served.sample("credential_expiration_timestamp_seconds", provider="aws-oidc") is None
        assert served.sample("credential_expiration_timestamp_seconds", provider="azure-oidc") is not None

    def test_static_policies(self, served: Served) -> None:
        """A policy without rotation is ready or not, and has no expiry."""
        served.metrics.record(Outcome(KEY, "api-key", "skipped", "Static"))
        assert served.sample("credential_ready_status", condition="True") == 1
        assert served.sample("credential_expiration_timestamp_seconds") is None

    def test_lateness(self, served: Served) -> None:
        """Lateness counts from the moment a renewal was due; an early one is in time, an unforeseen one not counted."""
        served.metrics.observe_lateness(None, NOW)
        served.metrics.observe_lateness(NOW, NOW + timedelta(seconds=2))
        served.metrics.observe_lateness(NOW, NOW - HOUR)
        assert served.sample("rotation_lateness_seconds_count") == 2
        assert served.sample("rotation_lateness_seconds_sum") == 2

    def test_watches_that_began_anew(self, served: Served) -> None:
        """Totals of the informers become a counter that only grows."""
        for total in ({"Gone": 1}, {"Gone": 3, "Silent": 1}, {"Gone": 3, "Silent": 1}):
            served.metrics.note_restarts(total)
        assert served.sample("watch_restarts_total", reason="Gone") == 3
        assert served.sample("watch_restarts_total", reason="Silent") == 1

    def test_odd_names(self, served: Served) -> None:
        """Whatever is in a label, the text stays readable."""
        odd = ObjectKey('a"b\\c', "d\ne")
        served.metrics.record(Outcome(odd, "aws-oidc", "kept", "Fresh", SECRET, NOW, NOW))
        assert served.sample("credential_ready_status", namespace=odd.namespace, name=odd.name, condition="True") == 1


class TestHealth:
    """Probes."""

    @pytest.mark.parametrize("path", ["/healthz", "/readyz"])
    def test_probes(self, served: Served, path: str) -> None:
        """200 while nothing is wrong, 503 with what is otherwise; asked anew each time."""
        assert served.get(path)[0] == 200
        served.wrong[path] = "the API server is away"
        assert served.get(path)[::2] == (503, "the API server is away\n")
        served.wrong[path] = None
        assert served.get(f"{path}?verbose")[::2] == (200, "ok\n")

    def test_anything_else(self, served: Served) -> None:
        """404, and what there is."""
        status, _, body = served.get("/secrets")
        assert (status, "/metrics" in body) == (404, True)

    def test_type(self, served: Served) -> None:
        """The content type names the exposition format."""
        assert served.get("/metrics")[1].startswith("text/plain; version=")

    def test_ipv6(self) -> None:
        """An address with colons is served in IPv6."""
        running = Served("::1")
        assert running.get("/healthz")[0] == 200
        running.server.stop()

    def test_prober_that_hangs_up(self, served: Served, capfd: pytest.CaptureFixture[str]) -> None:
        """Nobody's traces in the log, and the next one is served."""
        with socket.create_connection(("127.0.0.1", served.server.port)) as rude:
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            rude.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert served.get("/healthz")[0] == 200
        assert capfd.readouterr().err == ""

    def test_stop(self) -> None:
        """The port is free, the thread has ended."""
        before = threading.active_count()
        running = Served()
        assert running.get("/healthz")[0] == 200
        running.server.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", running.server.port))
        eventually(lambda: threading.active_count() <= before)
