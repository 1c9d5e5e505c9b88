"""The daemon as a process: its metrics and probes, its backend, and its end."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from credrotator.app.opening import open_backend
from credrotator.app.process import Health
from credrotator.app.tracing import traces
from credrotator.core.clock import system_clock
from credrotator.core.counts import counted
from credrotator.core.errors import UsageError
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.observability.health import HealthServer
from credrotator.observability.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.app.consumers import Consumers
    from credrotator.app.process import Election, Running, Stop
    from credrotator.app.settings import Settings

log = logging.getLogger("credrotator.run")

# The doorbell's and the status writes' grain, and how late SIGTERM is noticed at most.
TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """How the daemon runs.

    Attributes:
        workers: How many policies at a time.
        election: Whether replicas agree on a leader.
        listen: Address and TCP port of metrics and probes; None: they are not served.
        consumers: What follows a publication.
    """

    workers: int
    election: Election
    listen: tuple[str, int] | None
    consumers: Consumers


def run_service(settings: Settings, options: ServiceOptions, stop: Stop) -> None:
    """Rotate every policy before its credential expires, until told to stop.

    Raises:
        UsageError: The settings do not fit together, or name what is not there.
    """
    # For what is written too: how long a policy is parked is read by others, whose clocks are right perhaps.
    clock, health = SkewedClock(system_clock), Health()
    with traces() as traced:
        metrics = Metrics(traced)
        # The probes are answered first and last: what is waited for, or ended, must not look dead meanwhile.
        with (
            _served(options.listen, metrics, health),
            open_backend(settings, clock, options.consumers) as backend,
            backend.serve(options.workers, options.election, metrics, stop) as running,
            health.of(running),
        ):
            log.info("running with %s", counted(options.workers, "worker", "workers"))
            served = _announce(running)
            while not stop.wait(TICK_S):
                running.tick()
                served = served or _announce(running)
            log.info("stopping")


def _announce(running: Running) -> bool:
    """Say what is served, once that is known: a daemon that serves nothing, or the wrong thing, has no other sign."""
    if (what := running.serving()) is None:
        return False
    log.info("serving %s", what)
    return True


@contextlib.contextmanager
def _served(listen: tuple[str, int] | None, metrics: Metrics, health: Health) -> Iterator[None]:
    if listen is None:
        yield
        return
    try:
        server = HealthServer(*listen, metrics, {"/healthz": health.alive, "/readyz": health.ready})
    except OSError as error:
        raise UsageError(f"--listen {listen[0]}:{listen[1]}: {error.strerror}") from error
    server.start()
    # Port 0 lets the system choose.
    log.info("listening on %s:%d", listen[0] or "*", server.port)
    try:
        yield
    finally:
        server.stop()
