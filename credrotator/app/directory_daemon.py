"""The daemon over a directory."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from credrotator.app.assembly import make_daemon, make_queue
from credrotator.app.directory_listener import RENDERED_BY_A_DAEMON, DirectoryListener
from credrotator.app.exchanging import make_exchanger
from credrotator.app.leadership import without_election
from credrotator.app.rendering import LoggedRenderer, make_renderer
from credrotator.app.running_hooks import HookThread, make_hooks
from credrotator.app.serving import listed, serving
from credrotator.core.errors import printable
from credrotator.core.threads import trouble
from credrotator.exchange.http.circuit import slots_for
from credrotator.exchange.subject_tokens import no_cluster
from credrotator.files.manifest_source import ManifestSource
from credrotator.files.published_states import WatchedStore
from credrotator.observability.audit import Audit
from credrotator.providers import policy_reader
from credrotator.rotation.recovery import Recovery
from credrotator.rotation.store_recovery import StoreRecovery

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from credrotator.app.consumers import Consumers
    from credrotator.app.settings import Settings
    from credrotator.core.instrumentation import DaemonInstrumentation
    from credrotator.core.threads import HasThreads
    from credrotator.exchange.http.clock_offset import SkewedClock
    from credrotator.files.directory import DirectoryStore
    from credrotator.rotation.daemon import Daemon

TRIAL_EVERY_S = 15.0
"""How often a directory that is full, or may not be written to, is tried; each time leaves a line in the log."""


@contextlib.contextmanager
def serve_directory(
    settings: Settings,
    store: DirectoryStore,
    clock: SkewedClock,
    consumers: Consumers,
    *,
    workers: int,
    instrumentation: DaemonInstrumentation,
) -> Iterator[DirectoryDaemon]:
    """See ``Backend.serve``."""
    reader, watched = policy_reader(settings.defaults), WatchedStore(store)
    source = ManifestSource(settings.filenames, reader, watched, options=settings.manifest_options)
    renderer = LoggedRenderer(make_renderer(consumers.templates, source, store, settings.defaults.namespace))
    hooks = HookThread(make_hooks(consumers, source, store, instrumentation.note_hook))
    exchange = make_exchanger(settings, clock, instrumentation, account_tokens=no_cluster, slots=slots_for(workers))
    recovering = StoreRecovery(watched, trial_every_s=TRIAL_EVERY_S)
    daemon = make_daemon(
        source,
        recovering,
        exchange,
        make_queue(source, exchange, workers),
        # ``looks``: see there, what was fresh is no news.
        listener=DirectoryListener(store, renderer, RENDERED_BY_A_DAEMON, hooks.published, looks=True),
        clock=clock,
        leads=without_election,
        audit=Audit(failures=logging.WARNING),
        instrumentation=instrumentation,
    )
    recoveries = [Recovery(each.awake, daemon.wake) for each in (exchange.circuits, recovering)]
    # Nobody else writes here, and an alert on "no leader" has to stay quiet over a directory too.
    instrumentation.note_leading(leading=True)
    daemon.start()
    for recovery in recoveries:
        recovery.start()
    hooks.start()
    try:
        threads: tuple[HasThreads, ...] = (source, *recoveries, hooks)
        yield DirectoryDaemon(daemon, source, clock, instrumentation, settings=settings, threads=threads)
    finally:
        for recovery in recoveries:
            recovery.begin_to_stop()
        daemon.stop()
        for recovery in recoveries:
            recovery.stop()
        hooks.stop()


class DirectoryDaemon:
    """See ``Running``."""

    def __init__(
        self,
        daemon: Daemon,
        source: ManifestSource,
        clock: SkewedClock,
        instrumentation: DaemonInstrumentation,
        *,
        settings: Settings,
        threads: Sequence[HasThreads],
    ) -> None:
        self._settings = settings
        self._daemon = daemon
        self._threads = threads
        self._source = source
        self._clock = clock
        self._instrumentation = instrumentation

    def alive(self) -> str | None:
        """See ``Running``."""
        return self._daemon.trouble() or trouble(self._threads)

    def ready(self) -> str | None:
        """See ``Running``."""
        return self.alive() or self._source.trouble()

    def serving(self) -> str:
        """See ``Running``; a directory has been read when it starts."""
        settings = self._settings
        where = f"from {listed(settings.filenames)}, credentials to {printable(settings.out)}"
        return serving(self._source, where, settings)

    def tick(self) -> None:
        """See ``Running``."""
        self._instrumentation.note_skew(self._clock.seen())
        self._instrumentation.note_unreadable(self._source.unreadable())
