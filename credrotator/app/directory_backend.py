"""The backend without a cluster: policies from manifests, credentials to a directory."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

from credrotator.app.consumers import NO_CONSUMERS, Consumers, NoHooks
from credrotator.app.destinations import DirectoryDestination
from credrotator.app.directory_listener import RENDERED_IN_A_PASS, DirectoryListener, Unheard
from credrotator.app.rendering import NoTemplates, make_renderer
from credrotator.core.clock import system_clock
from credrotator.core.errors import UsageError
from credrotator.exchange.subject_tokens import no_cluster
from credrotator.files.directory import DirectoryStore
from credrotator.files.manifests import read_manifests
from credrotator.files.nowhere import Nowhere
from credrotator.providers import policy_reader
from credrotator.rotation.rotation import Rotation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime

    from credrotator.app.consumers import PassHooks
    from credrotator.app.process import Election, Running, Stop
    from credrotator.app.rendering import Renderer
    from credrotator.app.settings import Settings
    from credrotator.core.instrumentation import DaemonInstrumentation
    from credrotator.core.model import ObjectKey, RotatablePolicy
    from credrotator.core.outcome_shape import LastOutcome
    from credrotator.core.ports import AccountTokens, Clock, Exchange, OutcomeListener
    from credrotator.exchange.http.clock_offset import SkewedClock
    from credrotator.files.manifests import ManifestReading


class DirectoryBackend:
    """See ``Backend``.

    Args:
        settings: Name the manifests, and the directory perhaps.
        clock: The present moment, as the vendors' dates put it right.
        consumers: What follows a publication.
        writes: Whether anything is to be published; if not, no directory need be named.
    """

    def __init__(self, settings: Settings, clock: SkewedClock, consumers: Consumers, *, writes: bool = True) -> None:
        self._writes = writes
        self._settings = settings
        self._clock = clock
        self._consumers = consumers
        # By the machine's own clock, not the corrected one: its times stand beside those of files.
        self._store = DirectoryStore(settings.out, system_clock, access=settings.access) if settings.out else None

    @property
    def store(self) -> DirectoryStore | Nowhere:
        """See ``Backend``."""
        return _named(self._store) if self._store or self._writes else Nowhere()

    @property
    def account_tokens(self) -> AccountTokens:
        """See ``Backend``: there is no API server to ask."""
        return no_cluster

    def rights(self, _lease: str | None) -> tuple[()]:
        """See ``Backend``: the file system's are seen to policy by policy."""
        return ()

    def read(self) -> DirectorySnapshot:
        """See ``Backend``."""
        settings, defaults = self._settings, self._settings.defaults
        reading = read_manifests(settings.filenames, sys.stdin, policy_reader(defaults), settings.manifest_options)
        renderer, hooks = self._following(reading, defaults.namespace)
        return DirectorySnapshot(reading, defaults.namespace, self._store, renderer, hooks)

    def _following(self, reading: ManifestReading, namespace: str) -> tuple[Renderer, PassHooks]:
        """Return what follows a publication; only who publishes needs a directory for it."""
        consumers = self._consumers
        # ``status -f`` needs no --out, so it must not be asked for here.
        if consumers == NO_CONSUMERS:
            return NoTemplates(), NoHooks()
        from credrotator.app.running_hooks import HooksOfAPass, make_hooks  # noqa: PLC0415 - who has consumers

        store = _named(self._store)
        # A pass has no metrics that could count it.
        hooks = make_hooks(consumers, reading, store, lambda _name, _succeeded: None)
        return make_renderer(consumers.templates, reading, store, namespace), HooksOfAPass(hooks, time.sleep)

    def renewing(self, key: ObjectKey) -> AbstractContextManager[None]:
        """See ``Backend``."""
        return _named(self._store).renewing(key)

    @contextlib.contextmanager
    def serve(
        self,
        workers: int,
        election: Election,  # noqa: ARG002 - nobody else writes here
        instrumentation: DaemonInstrumentation,
        stop: Stop,  # noqa: ARG002 - nothing is waited for
    ) -> Iterator[Running]:
        """See ``Backend``."""
        from credrotator.app.directory_daemon import serve_directory  # noqa: PLC0415 - a pass needs none of it

        with serve_directory(
            self._settings,
            _named(self._store),
            self._clock,
            self._consumers,
            workers=workers,
            instrumentation=instrumentation,
        ) as running:
            yield running


class DirectorySnapshot:
    """See ``Snapshot``."""

    origin = "what -f names"
    may_be_empty = False

    def __init__(
        self,
        reading: ManifestReading,
        namespace: str,
        store: DirectoryStore | None,
        renderer: Renderer,
        hooks: PassHooks,
    ) -> None:
        self.inventory = reading.inventory
        self.problems = reading.problems
        self.warnings = reading.warnings
        self.notes = reading.notes
        self.namespace = namespace
        self.renderer = renderer
        self.hooks = hooks
        self._store = store

    def last_outcome(self, key: ObjectKey) -> LastOutcome | None:
        """See ``Snapshot``."""
        return self._store.last_outcome(key) if self._store else None

    def acknowledged_at(self, _key: ObjectKey) -> datetime | None:
        """See ``Snapshot``: the gateway writes no status here."""
        return None

    def in_use(self, _policy: RotatablePolicy, _content: str) -> None:
        """See ``Snapshot``: there is no filter that a gateway configures."""

    def listener(self) -> OutcomeListener:
        """See ``Snapshot``."""
        return DirectoryListener(self._store, self.renderer, RENDERED_IN_A_PASS) if self._store else Unheard()

    def request_renewal(self, _key: ObjectKey, _request: str) -> bool:
        """See ``Snapshot``: manifests are a person's, so whoever wants a renewal makes it."""
        return False

    def destination(self, exchange: Exchange, clock: Clock, _lease: str | None) -> DirectoryDestination | None:
        """See ``Snapshot``."""
        return DirectoryDestination(self._store, Rotation(self._store, exchange, clock)) if self._store else None


def _named(store: DirectoryStore | None) -> DirectoryStore:
    """Return the store of ``--out``.

    Raises:
        UsageError: It is not named.
    """
    if store is None:
        raise UsageError("name a directory for the credentials with --out DIR")
    return store
