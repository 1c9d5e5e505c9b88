"""Traces: which spans there are, what they say, and when OpenTelemetry is imported at all."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from threading import enumerate as enumerate_threads
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from credrotator.app.tracing import traces
from credrotator.core.attempts import attempting
from credrotator.core.errors import Denied
from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.observability.audit import Audit
from credrotator.observability.metrics import Metrics
from credrotator.observability.traces import Traces
from credrotator.policies.inventory import Inventory
from credrotator.rotation.batch import Batch
from credrotator.rotation.rotation import RotateOptions, Rotation
from tests.support.twins import (
    KEY,
    SECRET,
    ExchangeBy,
    Listener,
    MemoryStore,
    StandingClock,
    aws_credential,
    aws_policy,
)
from tests.support.waiting import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

    from credrotator.core.instrumentation import Instrumentation
    from credrotator.core.model import Credential, ObjectKey, Rotatable
    from credrotator.core.ports import SecretReader


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """Leave no level behind."""
    logger = logging.getLogger("opentelemetry")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Keep the spans."""
    return InMemorySpanExporter()


@pytest.fixture
def instrumentation(exporter: InMemorySpanExporter) -> Iterator[Traces]:
    """Make spans that are there as soon as they end."""
    made = Traces(SimpleSpanProcessor(exporter))
    yield made
    made.close()


class Backend:
    """One policy, an exchange with its stages, a store."""

    def __init__(self, instrumentation: Instrumentation, *, failing: Exception | None = None) -> None:
        self.instrumentation, self.failing = instrumentation, failing
        self.store = MemoryStore()
        self.inventory = Inventory()
        self.inventory.add_policy(aws_policy())

    def exchange(
        self, policy: ObjectKey, source: Rotatable, secrets: SecretReader, *, ignore_retry_after: bool = False
    ) -> Credential:
        with self.instrumentation.stage("token"):
            self.instrumentation.request("idp.example", "token", "200")
            self.instrumentation.token(shared=False)
        with self.instrumentation.stage("exchange"):
            self.instrumentation.throttled("sts eu-central-1")
            if self.failing:
                raise self.failing
        return aws_credential(tag="NEW")

    def go(self, wish: RotateOptions | None = None) -> None:
        clock, instrumentation = StandingClock(), self.instrumentation
        rotation = Rotation(self.store, ExchangeBy(self.exchange), clock, instrumentation=instrumentation)
        batch = Batch(rotation, Listener(), clock, audit=Audit(), instrumentation=instrumentation)
        batch([KEY], self.inventory, wish or RotateOptions(), workers=1, progress=lambda *_: None)


def named(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """Return the spans by name."""
    spans = exporter.get_finished_spans()
    assert len({span.name for span in spans}) == len(spans)
    return {span.name: span for span in spans}


@pytest.mark.parametrize("through", ["traces", "metrics"])
def test_a_rotation(exporter: InMemorySpanExporter, instrumentation: Traces, through: str) -> None:
    """One trace: the rotation, and below it token, exchange, write and delivery, in this order, within its time."""
    Backend(instrumentation if through == "traces" else Metrics(instrumentation)).go()
    spans = named(exporter)
    assert list(spans) == ["token", "exchange", "write", "delivery", "rotation"]
    root = spans.pop("rotation")
    assert root.parent is None
    assert root.context
    assert root.start_time
    assert root.end_time
    for span in spans.values():
        assert span.parent
        assert span.parent.span_id == root.context.span_id
        assert span.start_time
        assert root.start_time <= span.start_time
        assert span.end_time
        assert span.end_time <= root.end_time
    attributes = dict(root.attributes or {})
    assert len(str(attributes.pop("credrotator.rotation"))) == 8
    assert attributes == {
        "credrotator.policy": str(KEY),
        "credrotator.provider": "aws-oidc",
        "credrotator.action": "rotated",
        "credrotator.reason": "Missing",
    }
    assert root.status.status_code is StatusCode.UNSET


def test_requests(exporter: InMemorySpanExporter, instrumentation: Traces) -> None:
    """What is asked stands in the span of its stage, as in the metrics: the endpoint, the call, how it ended."""
    Backend(instrumentation).go()
    spans = named(exporter)
    (event,) = spans["token"].events
    assert dict(event.attributes or {}) == {"endpoint": "idp.example", "call": "token", "code": "200"}
    assert dict(spans["token"].attributes or {}) == {"credrotator.token.shared": False}
    assert [event.name for event in spans["exchange"].events] == ["throttled"]


def test_a_failure(exporter: InMemorySpanExporter, instrumentation: Traces) -> None:
    """The reason, without the text of the error: somebody else may have written it."""
    Backend(instrumentation, failing=Denied("AccessDenied", "canary", hint="canary")).go()
    spans = named(exporter)
    assert list(spans) == ["token", "exchange", "rotation"]
    for name in ("exchange", "rotation"):
        assert spans[name].status.status_code is StatusCode.ERROR
        assert spans[name].status.description == "AccessDenied"
    assert "canary" not in "".join(span.to_json() for span in spans.values())


def test_no_secret(exporter: InMemorySpanExporter, instrumentation: Traces) -> None:
    """I9: nothing that is published stands in a span."""
    world = Backend(instrumentation)
    world.go()
    stored = world.store.read(SECRET)
    assert stored
    told = "".join(span.to_json() for span in exporter.get_finished_spans())
    for secret in (aws_credential(tag="NEW").secret_access_key, aws_credential(tag="NEW").session_token):
        assert secret.reveal() not in told


def test_nothing_is_done(exporter: InMemorySpanExporter, instrumentation: Traces) -> None:
    """A look at what is fresh, a dry run, and what comes outside of a look make no span."""
    world = Backend(instrumentation)
    world.go(RotateOptions(dry_run=True))
    with instrumentation.stage("token"):
        instrumentation.request("idp.example", "token", "200")
        instrumentation.throttled("idp.example")
        instrumentation.token(shared=True)
    assert not exporter.get_finished_spans()
    world.go()
    exporter.clear()
    world.go()
    assert not exporter.get_finished_spans()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_not_wanted(environment: dict[str, str]) -> None:
    """Off, unless the standard variables turn it on; off as well where they ask for what cannot be spoken."""
    with traces(environment) as found:
        assert found is NO_INSTRUMENTATION


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Variables that are there for others do no harm; what to install is said."""
    monkeypatch.delitem(sys.modules, "credrotator.observability.traces", raising=False)
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    caplog.set_level(logging.INFO, "credrotator")
    with traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}) as found:
        assert found is NO_INSTRUMENTATION
    assert "the extra [otel]" in caplog.text


def test_not_imported_when_off() -> None:
    """A cold ``rotate`` does not wait for OpenTelemetry."""
    script = "import sys, credrotator.cli.rotate, credrotator.cli.run, credrotator.app.tracing as t\n"
    script += "with t.traces({}): pass\nprint([name for name in sys.modules if name.startswith('opentelemetry')])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


class Collector(BaseHTTPRequestHandler):
    """Takes spans, as an OpenTelemetry collector does."""

    received: list[ExportTraceServiceRequest]

    def do_POST(self) -> None:
        self.received.append(ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ExportTraceServiceRequest]]:
    """Run a collector that the variables lead to."""
    received: list[ExportTraceServiceRequest] = []
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (Collector,), {"received": received}))
    thread = Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield received
    server.shutdown()
    thread.join()
    server.server_close()


def test_over_the_wire(collected: list[ExportTraceServiceRequest], monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent as OTLP over HTTP at the end; the operator's variables name the service."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=rotator-a,deployment.environment=test")
    with (
        traces(os.environ) as instrumentation,
        attempting(KEY) as attempt,
        instrumentation.attempt(attempt),
        instrumentation.stage("write"),
    ):
        pass
    (spans,) = [request.resource_spans[0] for request in collected]
    assert [span.name for span in spans.scope_spans[0].spans] == ["write", "rotation"]
    attributes = {pair.key: pair.value.string_value for pair in spans.resource.attributes}
    assert attributes["service.name"] == "rotator-a"
    assert attributes["deployment.environment"] == "test"
    assert attributes["service.version"]


def test_a_collector_that_is_away(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The rotation does not fail by it, the end does not wait for it, and the log tells of it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Traces.over_http()
    with attempting(KEY) as attempt, made.attempt(attempt), made.stage("token"):
        pass
    made.close(within_s=0.0)
    # On a busy machine it may be over by now.
    for ending in [thread for thread in enumerate_threads() if thread.name == "last spans"]:
        ending.join(LIMIT_S)
        assert not ending.is_alive()
    assert {record.name.partition(".")[0] for record in caplog.records} == {"opentelemetry"}
