"""``credrotator run``: the daemon, over a cluster or over a directory."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from credrotator import report
from credrotator.clock import system_clock
from credrotator.commands.common import exchanger, need_store, read_settings, reading_options
from credrotator.commands.rotate import MAX_WORKERS, templates_of
from credrotator.daemon import Daemon
from credrotator.errors import UsageError
from credrotator.settings import setting
from credrotator.telemetry import HealthServer, Metrics
from credrotator.watching import ManifestSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.model import InvalidPolicy, Outcome, Policy
    from credrotator.settings import Settings

log = logging.getLogger("credrotator.run")


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


@click.command("run")
@reading_options
@setting("--template", multiple=True, metavar="SRC:DST", help="With --out: render a file after each publish.")
@setting("--workers", type=click.IntRange(1, MAX_WORKERS), default=16, show_default=True, help="Policies at a time.")
@setting("--listen", type=Address(), metavar="ADDR:PORT", help="Serve /metrics, /healthz and /readyz there.")
def command(*, template: tuple[str, ...], workers: int, listen: tuple[str, int] | None, **common: Any) -> int:
    """The daemon: rotate every policy before its credential expires, until it is told to stop.

    \b
    Examples:
      credrotator run -f policies/ --out /var/lib/credrotator --listen 127.0.0.1:8080

    SIGTERM or Ctrl-C ends it within ten seconds; a write in hand is finished.
    """  # noqa: D301 - \b keeps click from filling the paragraph
    settings = read_settings(common)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    logging.getLogger("credrotator").setLevel(min(logging.INFO, logging.getLogger("credrotator").level))
    metrics = Metrics()
    with (
        _over_directory(settings, template, workers, metrics) as (daemon, source),
        _health(listen, metrics, daemon, source),
    ):
        log.info("running with %d workers", workers)
        stopping.wait()
        log.info("stopping")
    return 0


@contextlib.contextmanager
def _over_directory(
    settings: Settings, template: tuple[str, ...], workers: int, metrics: Metrics
) -> Iterator[tuple[Daemon, ManifestSource]]:
    """Run over manifests and ``--out``."""
    store = need_store(settings)
    source = ManifestSource(settings.filenames, settings.defaults, store)
    renderer = templates_of(template, source, store)

    def listen(_policy: Policy | InvalidPolicy, outcome: Outcome) -> None:
        store.record(report.outcome_document(outcome), outcome.policy)
        if outcome.action in {"rotated", "kept"}:
            renderer.render()
        for failure in renderer.failures.values():
            log.error("template: %s: %s", failure.reason, failure.message)

    exchange = exchanger(settings)
    daemon = Daemon(
        source, store, exchange, system_clock, metrics=metrics, leads=lambda: True, listener=listen, workers=workers
    )
    daemon.start()
    try:
        yield daemon, source
    finally:
        daemon.stop()


@contextlib.contextmanager
def _health(listen: tuple[str, int] | None, metrics: Metrics, daemon: Daemon, source: ManifestSource) -> Iterator[None]:
    if listen is None:
        yield
        return
    probes = {"/healthz": daemon.trouble, "/readyz": lambda: daemon.trouble() or source.trouble()}
    try:
        server = HealthServer(*listen, metrics, probes)
    except OSError as error:
        raise UsageError(f"--listen {listen[0]}:{listen[1]}: {error.strerror}") from error
    server.start()
    # Said on a line of its own, since port 0 lets the system choose.
    sys.stderr.write(f"listening on {listen[0] or '*'}:{server.port}\n")
    try:
        yield
    finally:
        server.stop()
