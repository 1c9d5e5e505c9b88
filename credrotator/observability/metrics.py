"""Metrics of the daemon, in cert-manager's manner: names and labels.

Owns the metrics' names. Labels hold policy keys, providers, reasons and stages, never foreign text. Series of a policy
that is gone are removed.
"""

from __future__ import annotations

import contextlib
import platform
import threading
import time
from collections import Counter as Counts
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from credrotator import __version__
from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.observability.policy_metrics import PolicyMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime, timedelta

    from credrotator.core.attempts import Attempt
    from credrotator.core.instrumentation import Instrumentation, Stage, Timing
    from credrotator.core.model import ObjectKey
    from credrotator.core.outcome import Outcome

# From a cached token (some 10 ms) to the time limit of an exchange (30 s).
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# For what may wait for a person: an hour late is as bad as a day.
MINUTES = (60.0, 300.0, 900.0, 3600.0)
MOST_REASONS = 64
"""Reasons that get a series of their own, for each provider; all later ones share one."""


class Metrics:
    """All metrics of one process, in a registry of their own; a DaemonInstrumentation, which tells ``traces`` too."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, traces: Instrumentation = NO_INSTRUMENTATION) -> None:
        self._traces = traces
        # Not the global one: tests and embedding programs make several of these in a process.
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
        self.throttles = counter("throttled", "Responses that limited the rate.", ["provider"])
        self.delivery = histogram(
            "delivery_seconds", "From the doorbell to the gateway's reaction.", ["form"], (*SECONDS, *MINUTES)
        )
        self.unacknowledged = gauge("unacknowledged", "Published credentials that the gateway has not reacted to.", [])
        self.in_config = histogram(
            "delivery_config_seconds", "From a publication to the filter's configuration.", [], (*SECONDS, *MINUTES)
        )
        self.behind = gauge("delivery_behind", "Policies whose filter is configured with another credential.", [])
        self.leader = gauge("leader", "1 while this process is the leader.", [])
        self.queue_depth = gauge("queue_depth", "Policies that wait for a worker.", [])
        self.restarts = counter("watch_restarts", "Watches that began anew, by reason.", ["reason"])
        self.silence = gauge("watch_silence_seconds", "For how long a watch has said nothing.", ["watch"])
        self.skew = gauge("clock_skew_seconds", "Their clock minus ours.", ["endpoint"])
        self.unreadable = gauge("manifests_unreadable", "Files of manifests that cannot be read as they are.", [])
        self.hooks = counter("hook_runs", "Runs of --exec and --signal by how they ended.", ["hook", "result"])
        self.build = gauge("build_info", "1, with what is running.", ["version", "python"])
        self.build.labels(__version__, platform.python_version()).set(1)
        # Without the collectors of Python's garbage and platform, whose series say nothing of rotations.
        ProcessCollector(registry=self.registry)
        self._writing = threading.Lock()
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
        """Write all metrics in Prometheus' text format; one at a time, since it takes CPU that probes need."""
        with self._writing:
            return generate_latest(self.registry) + self._policies.exposition()

    def record(self, outcome: Outcome, timing: Timing | None = None) -> None:
        """Bring a policy's series up to date with how an attempt ended."""
        self._traces.record(outcome, timing)
        self._policies.record(outcome)
        if outcome.action == "rotated" and timing:
            self.duration.labels("total").observe(timing.took_s)
            self.observe_lateness(timing.due, timing.began)
        # Not what was kept: after a restart that is every policy, and would drown the rates.
        if outcome.action in {"rotated", "failed"}:
            reason = self._reason(outcome.provider, outcome.error.reason if outcome.error else outcome.reason)
            self.rotations.labels(outcome.provider, outcome.action, reason).inc()

    def forget(self, key: ObjectKey) -> None:
        """Remove the series of a policy that is gone."""
        self._policies.forget(key)

    def attempt(self, attempt: Attempt) -> AbstractContextManager[None]:
        """See ``Instrumentation``."""
        return self._traces.attempt(attempt)

    @contextlib.contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """See ``Instrumentation``."""
        began_s = time.monotonic()
        try:
            with self._traces.stage(stage):
                yield
        finally:
            self.duration.labels(stage).observe(time.monotonic() - began_s)

    def token(self, *, shared: bool) -> None:
        """See ``Instrumentation``."""
        (self.token_coalesced if shared else self.token_requests).inc()
        self._traces.token(shared=shared)

    def request(self, endpoint: str, call: str, code: str) -> None:
        """See ``Instrumentation``."""
        self.requests.labels(endpoint, call, code).inc()
        self._traces.request(endpoint, call, code)

    def throttled(self, endpoint: str) -> None:
        """See ``Instrumentation``."""
        self.throttles.labels(endpoint).inc()
        self._traces.throttled(endpoint)

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Show the depth of the queue as it is when somebody scrapes."""
        self.queue_depth.set_function(depth)

    def note_leading(self, *, leading: bool) -> None:
        """Show whether this process is the leader."""
        self.leader.set(int(leading))

    def note_delivery(self, form: str, took_s: float) -> None:
        """Count a delivery that the gateway acknowledged."""
        self.delivery.labels(form).observe(took_s)

    def note_unacknowledged(self, count: int) -> None:
        """Show how many published credentials the gateway has not reacted to."""
        self.unacknowledged.set(count)

    def note_in_config(self, took_s: float) -> None:
        """Count a credential that the gateway's filter is configured with."""
        self.in_config.observe(took_s)

    def note_behind(self, count: int) -> None:
        """Show for how many policies the filter is configured with another credential."""
        self.behind.set(count)

    def note_skew(self, seen: Mapping[str, timedelta]) -> None:
        """Show by how much others' clocks differ from this machine's."""
        for endpoint, difference in seen.items():
            self.skew.labels(endpoint).set(difference.total_seconds())

    def note_unreadable(self, count: int) -> None:
        """Show of how many files of manifests an earlier reading stays in force."""
        self.unreadable.set(count)

    def note_hook(self, hook: str, succeeded: bool) -> None:  # noqa: FBT001 - see ``DaemonInstrumentation``
        """Count a run of something that follows publications."""
        self.hooks.labels(hook, "succeeded" if succeeded else "failed").inc()

    def note_restarts(self, total: Mapping[str, int]) -> None:
        """Bring the count of watches that began anew up to date."""
        # The source counts from its start; a Prometheus counter can only be raised, so by the difference.
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
