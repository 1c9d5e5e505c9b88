"""Whether there are traces: where the standard variables ask for them, and the extra ``otel`` is installed."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from credrotator.core.errors import printable
from credrotator.core.instrumentation import NO_INSTRUMENTATION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from credrotator.core.instrumentation import Instrumentation

log = logging.getLogger("credrotator.traces")

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SPOKEN = "http/protobuf"


@contextlib.contextmanager
def traces(environment: Mapping[str, str] = os.environ) -> Iterator[Instrumentation]:
    """Yield what makes traces, and send the last ones at the end; where none are wanted, what takes no notice.

    OpenTelemetry is imported only here: it takes a tenth of a second.
    """
    if not _wanted(environment):
        yield NO_INSTRUMENTATION
        return
    try:
        from credrotator.observability.traces import Traces  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        # No command to copy: on a package index, the bare name would be somebody else's.
        log.info("no traces, although OTEL_EXPORTER_OTLP_ENDPOINT is set: install the wheel with the extra [otel]")
        yield NO_INSTRUMENTATION
        return
    made = Traces.over_http()
    try:
        yield made
    finally:
        made.close()


def _wanted(environment: Mapping[str, str]) -> bool:
    """Read the variables of the specification that turn traces on and off."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    # "none" turns them off; "console" and others would need exporters that the extra does not install.
    if environment.get("OTEL_TRACES_EXPORTER", "").strip() not in {"", "otlp"}:
        return False
    if not any(environment.get(name) for name in ENDPOINTS):
        return False
    protocol = next((environment[name] for name in PROTOCOLS if environment.get(name)), SPOKEN)
    # gRPC would need grpcio, a large compiled package; collectors that speak it speak HTTP too, on port 4318.
    if protocol != SPOKEN:
        log.warning("no traces: %s is asked for, and %s is what can be sent", printable(protocol, 40), SPOKEN)
        return False
    return True
