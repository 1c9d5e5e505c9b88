"""Metrics and health of the daemon, in cert-manager's manner: names, labels, and an HTTP server for them.

Owns the metrics' names. Labels hold policy keys, providers, reasons and stages, never foreign text. Series of a policy
that is gone are removed.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import socket
import socketserver
import sys
import threading
import time
from collections import Counter as Counts
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from credrotator import __version__
from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.observability.policy_metrics import PolicyMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime, timedelta

    from credrotator.core.attempts import Attempt
    from credrotator.core.instrumentation import Instrumentation, Stage
    from credrotator.core.model import ObjectKey, Outcome

log = logging.getLogger(__name__)

HealthCheck = Callable[[], str | None]
"""Returns what is wrong, or None."""

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MINUTES = (60.0, 300.0, 900.0, 3600.0)
MOST_REASONS = 64
"""Reasons that get a series of their own, for each provider; all later ones share one."""


class Metrics:
    """All metrics of one process, in a registry of their own; a ``meter.Meter``, which tells ``traces`` too."""

    def __init__(self, traces: Instrumentation = NO_INSTRUMENTATION) -> None:
        self._traces = traces
        self.registry = CollectorRegistry()
        self._policies = PolicyMetrics()
        gauge, counter, histogram = self._makers()
        self.rotations = counter("rotations", "Rotations by how they ended.", ["provider", "result", "reason"])
        self.duration = histogram("rotation_duration_seconds", "Time of a rotation, and of its stages.", ["stage"])
        self.lateness = histogram(
            "rotation_lateness_seconds", "How long after it was due a renewal began.", [], (*SECONDS, *MINUTES)
        )
        self.token_requests = counter("token_requests", "Token requests sent to issuers.", [])
        self.token_coalesced = counter("token_coalesced", "Tokens that needed no request of their own.", [])
        self.requests = counter(
            "provider_requests", "Requests to issuers and vendors by how they ended.", ["provider", "call", "code"]
        )
        self.throttles = counter("throttled", "Answers that asked for patience.", ["provider"])
        self.delivery = histogram(
            "delivery_seconds", "From the doorbell to the gateway's reaction.", ["form"], (*SECONDS, *MINUTES)
        )
        self.unacknowledged = gauge("unacknowledged", "Published credentials that the gateway has not reacted to.", [])
        self.leader = gauge("leader", "1 while this process is the leader.", [])
        self.queue_depth = gauge("queue_depth", "Policies that wait for a worker.", [])
        self.restarts = counter("watch_restarts", "Watches that began anew, by reason.", ["reason"])
        self.silence = gauge("watch_silence_seconds", "For how long a watch has said nothing.", ["watch"])
        self.skew = gauge("clock_skew_seconds", "Their clock minus ours.", ["endpoint"])
        self.build = gauge("build_info", "1, with what is running.", ["version", "python"])
        self.build.labels(__version__, platform.python_version()).set(1)
        ProcessCollector(registry=self.registry)
        self._reasons: dict[str, set[str]] = {}
        self._restarts: Counts[str] = Counts()

    def _makers(self) -> tuple[Callable[..., Gauge], Callable[..., Counter], Callable[..., Histogram]]:
        registry = self.registry

        def gauge(name: str, text: str, labels: list[str]) -> Gauge:
            return Gauge(f"credrotator_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, labels: list[str]) -> Counter:
            return Counter(f"credrotator_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, labels: list[str], buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(f"credrotator_{name}", text, labels, registry=registry, buckets=buckets)

        return gauge, counter, histogram

    def exposition(self) -> bytes:
        """Write all metrics in Prometheus' text format."""
        return generate_latest(self.registry) + self._policies.exposition()

    def record(self, outcome: Outcome) -> None:
        """Bring a policy's series up to date with how a look at it ended."""
        self._traces.record(outcome)
        self._policies.record(outcome)
        if outcome.action in {"rotated", "failed"}:
            reason = self._reason(outcome.provider, outcome.error.reason if outcome.error else outcome.reason)
            self.rotations.labels(outcome.provider, outcome.action, reason).inc()

    def forget(self, key: ObjectKey) -> None:
        """Remove the series of a policy that is gone."""
        self._policies.forget(key)

    def attempt(self, attempt: Attempt) -> AbstractContextManager[None]:
        """See ``Meter``."""
        return self._traces.attempt(attempt)

    @contextlib.contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """See ``Meter``."""
        began_s = time.monotonic()
        try:
            with self._traces.stage(stage):
                yield
        finally:
            self.duration.labels(stage).observe(time.monotonic() - began_s)

    def token(self, *, shared: bool) -> None:
        """See ``Meter``."""
        (self.token_coalesced if shared else self.token_requests).inc()
        self._traces.token(shared=shared)

    def request(self, endpoint: str, call: str, code: str) -> None:
        """See ``Meter``."""
        self.requests.labels(endpoint, call, code).inc()
        self._traces.request(endpoint, call, code)

    def throttled(self, endpoint: str) -> None:
        """See ``Meter``."""
        self.throttles.labels(endpoint).inc()
        self._traces.throttled(endpoint)

    def note_skew(self, seen: Mapping[str, timedelta]) -> None:
        """Show by how much others' clocks differ from this machine's."""
        for endpoint, difference in seen.items():
            self.skew.labels(endpoint).set(difference.total_seconds())

    def note_restarts(self, total: Mapping[str, int]) -> None:
        """Bring the count of watches that began anew up to date."""
        for reason, count in (Counts(total) - self._restarts).items():
            self.restarts.labels(self._reason("", reason)).inc(count)
        self._restarts = Counts(total)

    def note_silence(self, seconds: Mapping[str, float]) -> None:
        """Show for how long each watch has said nothing."""
        for watch, silent_s in seconds.items():
            self.silence.labels(watch).set(silent_s)

    def observe_lateness(self, due: datetime | None, now: datetime) -> None:
        """Count by how much a renewal came too late; one that was not due before counts as in time."""
        if due is not None:
            self.lateness.observe(max(0.0, (now - due).total_seconds()))

    def _reason(self, whose: str, reason: str) -> str:
        """Return a reason as a label: some come from others' error codes, and no one may make series without end."""
        known = self._reasons.setdefault(whose, set())
        if reason not in known:
            if len(known) >= MOST_REASONS or not (reason.isascii() and reason.isalnum()):
                return "Other"
            known.add(reason)
        return reason


class HealthServer:
    """Serves /metrics, /healthz and /readyz on one address."""

    def __init__(self, host: str, port: int, metrics: Metrics, checks: Mapping[str, HealthCheck]) -> None:
        handler = type("Handler", (_Handler,), {"metrics": metrics, "checks": dict(checks)})
        self._server = (_Server6 if ":" in host else _Server)((host, port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serve from now on, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # NOTE: HTTPServer's own looks the host's name up in DNS, which may hang, and nobody asks for it here.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[0], self.server_address[1]  # type: ignore[assignment]

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Keep a prober that hangs up out of the log's traces."""
        log.debug("answering %s failed: %s", client_address, sys.exception())


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    metrics: Metrics
    checks: Mapping[str, HealthCheck]
    timeout = 10

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, self.metrics.exposition(), CONTENT_TYPE_LATEST)
        elif check := self.checks.get(path):
            wrong = check()
            self._answer(503 if wrong else 200, (wrong or "ok").encode() + b"\n", "text/plain; charset=utf-8")
        else:
            self._answer(404, b"/metrics, /healthz, /readyz\n", "text/plain; charset=utf-8")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: probes come every few seconds."""
