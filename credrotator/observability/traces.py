"""Traces by OpenTelemetry: of each rotation a span, and below it one for each of its stages.

The only module that knows OpenTelemetry; imported where traces are wanted and the extra ``otel`` is installed. Spans
name policies, reasons and endpoints, as the metrics do; no text of an error, and nothing that was sent or answered.
Source: OpenTelemetry specification, "Environment Variable Specification" and "OTLP/HTTP".
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode, set_span_in_context

from credrotator import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

    from credrotator.core.attempts import Attempt
    from credrotator.core.instrumentation import Stage, Timing
    from credrotator.core.outcome import Outcome

NAME = "credrotator"
LAST_SPANS_S = 2.0
"""Time for what is not sent yet when the process ends; a collector that is away must not keep it."""


@dataclass(slots=True)
class _Open:
    """An attempt that is under way. It has a span once something is done: what is fresh is worth none."""

    attempt: Attempt
    began_ns: int
    root: Span | None = None
    stage: Span | None = None


# Our own, beside OpenTelemetry's context: a span may not exist yet when its attempt does.
_OPEN: ContextVar[_Open | None] = ContextVar("open", default=None)


class Traces:
    """An ``Instrumentation`` that makes spans of what it is told; safe to share between threads."""

    def __init__(self, processor: SpanProcessor) -> None:
        # What the variables say of the service wins: the operator knows better what this one is called.
        own = Resource.create({"service.name": NAME, "service.version": __version__})
        resource = own.merge(OTELResourceDetector().detect())
        # shutdown_on_exit=False: its atexit handler would wait for a collector that is away; ``close`` has a limit.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(NAME, __version__)

    @classmethod
    def over_http(cls) -> Traces:
        """Send spans to where the ``OTEL_EXPORTER_OTLP_*`` variables say, from a thread, in batches."""
        # Its complaints are for whoever has turned it on: without them a collector that is away would go unnoticed.
        logging.getLogger("opentelemetry").setLevel(logging.WARNING)
        return cls(BatchSpanProcessor(OTLPSpanExporter()))

    def close(self, within_s: float = LAST_SPANS_S) -> None:
        """Send what is left, as far as that is possible in so many seconds."""
        # In a thread, since shutdown takes no time limit and the exporter retries for up to a minute.
        ending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(within_s)

    @contextlib.contextmanager
    def attempt(self, attempt: Attempt) -> Iterator[None]:
        """See ``Instrumentation``."""
        # Wall-clock nanoseconds, as OTLP wants start times; the span that is made later begins there.
        here = _Open(attempt, time.time_ns())
        before = _OPEN.set(here)
        try:
            yield
        finally:
            _OPEN.reset(before)
            if here.root:
                here.root.end()

    @contextlib.contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """See ``Instrumentation``; outside of an attempt nothing is recorded."""
        here = _OPEN.get()
        if here is None:
            yield
            return
        around, span = here.stage, self._tracer.start_span(stage, set_span_in_context(self._root(here)))
        here.stage = span
        try:
            yield
        # Abandoned and interrupted stages as well: a span without a status would look like a success.
        except BaseException as error:
            # The reason, never the text of the exception: it may have somebody else's words in it.
            span.set_status(Status(StatusCode.ERROR, str(getattr(error, "reason", type(error).__name__))))
            raise
        finally:
            here.stage = around
            span.end()

    def record(self, outcome: Outcome, timing: Timing | None = None) -> None:  # noqa: ARG002 - spans have times of their own
        """See ``Instrumentation``."""
        here = _OPEN.get()
        # A failure has a span though no stage began: a circuit that refuses at once is what people look for.
        if here is None or (here.root is None and outcome.action != "failed"):
            return
        root = self._root(here)
        root.set_attribute("credrotator.provider", outcome.provider)
        root.set_attribute("credrotator.action", outcome.action)
        root.set_attribute("credrotator.reason", outcome.error.reason if outcome.error else outcome.reason)
        if outcome.error:
            root.set_attribute("credrotator.kind", outcome.error.kind)
            root.set_status(Status(StatusCode.ERROR, outcome.error.reason))

    def token(self, *, shared: bool) -> None:
        """See ``Instrumentation``."""
        if (here := _OPEN.get()) and here.stage:
            here.stage.set_attribute("credrotator.token.shared", shared)

    def request(self, endpoint: str, call: str, code: str) -> None:
        """See ``Instrumentation``."""
        if (here := _OPEN.get()) and here.stage:
            here.stage.add_event("request", {"endpoint": endpoint, "call": call, "code": code})

    def throttled(self, endpoint: str) -> None:
        """See ``Instrumentation``."""
        if (here := _OPEN.get()) and here.stage:
            here.stage.add_event("throttled", {"endpoint": endpoint})

    def _root(self, here: _Open) -> Span:
        if here.root is None:
            here.root = self._tracer.start_span("rotation", start_time=here.began_ns)
            here.root.set_attribute("credrotator.policy", str(here.attempt.policy))
            here.root.set_attribute("credrotator.rotation", here.attempt.rotation)
        return here.root
