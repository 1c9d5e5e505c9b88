"""``credrotator run``: the daemon, over a cluster or over a directory."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from credrotator.app.settings import setting
from credrotator.app.tracing import traces
from credrotator.cli import tables as report
from credrotator.cli.options import (
    exchanger,
    lease_option,
    need_store,
    read_settings,
    reading_options,
    workers_option,
)
from credrotator.cli.rotate import templates_of
from credrotator.core.clock import system_clock
from credrotator.core.errors import UsageError
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.files.manifest_source import ManifestSource
from credrotator.observability.metrics import HealthServer, Metrics
from credrotator.rotation.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from credrotator.app.settings import Settings
    from credrotator.core.model import InvalidPolicy, Outcome, Policy

log = logging.getLogger("credrotator.run")

TICK_S = 1.0


class Address(click.ParamType[tuple[str, int]]):
    """``ADDR:PORT`` on the command line; ``:8080`` means all addresses, port 0 any free one."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """See click.ParamType."""
        if isinstance(value, tuple):
            return value
        host, colon, port = str(value).rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the largest port
            self.fail(f"expected ADDR:PORT such as 127.0.0.1:8080, got {value}", param, ctx)
        return host.strip("[]"), int(port)


@dataclass(slots=True)
class Running:
    """A daemon, from before it is at work: what its probes ask, and what is to be done every second beside it."""

    alive: Callable[[], str | None] = lambda: None
    ready: Callable[[], str | None] = lambda: "starting"
    tick: Callable[[], None] = lambda: None


class Stop:
    """The wish to end, safe to express in a signal handler.

    NOTE: ``threading.Event.set`` takes a lock that the interrupted ``wait`` may hold at that moment; a SimpleQueue is
    made for this.
    """

    def __init__(self) -> None:
        self._wishes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stopping = False

    def set(self) -> None:
        """Wish for the end; from anywhere."""
        self._wishes.put(None)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the wish, and tell whether it came; in one thread only."""
        if not self._stopping:
            with contextlib.suppress(queue.Empty):
                self._wishes.get(timeout=timeout_s)
                self._stopping = True
        return self._stopping


@dataclass(frozen=True, slots=True)
class Election:
    """Whether to take part in leader election, and by which Lease (``NAMESPACE/NAME``)."""

    on: bool
    lease: str | None


@click.command("run")
@reading_options
@setting("--template", multiple=True, metavar="SRC:DST", help="With --out: render a file after each publish.")
@workers_option
@setting("--listen", type=Address(), metavar="ADDR:PORT", help="Serve /metrics, /healthz and /readyz there.")
@setting("--leader-elect/--no-leader-elect", default=True, show_default=True, help="One of several replicas writes.")
@lease_option
def command(
    *,
    template: tuple[str, ...],
    workers: int,
    listen: tuple[str, int] | None,
    leader_elect: bool,
    lease: str | None,
    **common: Any,
) -> int:
    """Rotate every policy before its credential expires, until told to stop: the daemon.

    \b
    Examples:
      # in a cluster: all namespaces, with metrics and probes
      credrotator run -A --listen 0.0.0.0:8080
      # a deployment of two teams, beside others in the cluster
      credrotator run -n team-a -n team-b --lease team-a/credrotator
      # without a cluster
      credrotator run -f policies/ --out /var/lib/credrotator --listen 127.0.0.1:8080

    SIGTERM or Ctrl-C ends it within ten seconds; a write in hand is finished.
    """  # noqa: D301 - \b keeps click from filling the paragraph
    settings = read_settings(common)
    stopping, running = Stop(), Running()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    logging.getLogger("credrotator").setLevel(min(logging.INFO, logging.getLogger("credrotator").level))
    with traces() as traced:
        metrics = Metrics(traced)
        if settings.in_cluster:
            if template:
                raise UsageError("--template goes with -f and --out: in a cluster the gateway feeds its filter itself")
            work = _over_cluster(settings, Election(leader_elect, lease), workers, metrics, stopping)
        else:
            work = _over_directory(settings, template, workers, metrics)
        # The probes are answered first and last: what is waited for, or ended, must not look dead meanwhile.
        with _health(listen, metrics, running), work as daemon:
            running.alive, running.ready = daemon.alive, daemon.ready
            log.info("running with %d workers", workers)
            while not stopping.wait(TICK_S):
                daemon.tick()
            log.info("stopping")
            running.ready = lambda: "stopping"
    return 0


@contextlib.contextmanager
def _over_directory(settings: Settings, template: tuple[str, ...], workers: int, metrics: Metrics) -> Iterator[Running]:
    """Run over manifests and ``--out``."""
    store = need_store(settings)
    source = ManifestSource(settings.filenames, settings.defaults, store, options=settings.manifest_options)
    renderer = templates_of(template, source, store)

    def listen(_policy: Policy | InvalidPolicy, outcome: Outcome) -> None:
        store.record(report.outcome_document(outcome), outcome.policy)
        if outcome.action in {"rotated", "kept"}:
            renderer.render()
        for failure in renderer.failures.values():
            log.error("template: %s: %s", failure.reason, failure.message)

    clock = SkewedClock(system_clock)
    exchange = exchanger(settings, clock, metrics)
    daemon = Daemon(
        source,
        store,
        exchange,
        clock,
        metrics=metrics,
        leads=lambda: True,
        listener=listen,
        has_valid_token=exchange.has_valid_token,
        workers=workers,
    )
    exchange.circuits.recovered = daemon.enqueue_failures
    metrics.leader.set(1)
    daemon.start()
    try:
        yield Running(
            daemon.trouble, lambda: daemon.trouble() or source.trouble(), lambda: metrics.note_skew(clock.seen())
        )
    finally:
        daemon.stop()


@contextlib.contextmanager
def _over_cluster(
    settings: Settings, election: Election, workers: int, metrics: Metrics, stopping: Stop
) -> Iterator[Running]:
    """Run over a cluster; imported late, since a directory needs none of it."""
    from credrotator.app.cluster_daemon import running_in_cluster  # noqa: PLC0415

    with running_in_cluster(settings, election, workers, metrics, stopping) as running:
        yield running


@contextlib.contextmanager
def _health(listen: tuple[str, int] | None, metrics: Metrics, running: Running) -> Iterator[None]:
    if listen is None:
        yield
        return
    try:
        # Looked up at each question: what answers it changes while it is served.
        checks = {"/healthz": lambda: running.alive(), "/readyz": lambda: running.ready()}  # noqa: PLW0108
        server = HealthServer(*listen, metrics, checks)
    except OSError as error:
        raise UsageError(f"--listen {listen[0]}:{listen[1]}: {error.strerror}") from error
    server.start()
    # Port 0 lets the system choose.
    log.info("listening on %s:%d", listen[0] or "*", server.port)
    try:
        yield
    finally:
        server.stop()
