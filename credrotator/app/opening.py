"""The one place that decides which backend there is: manifests and a directory, or a cluster."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from credrotator.app.consumers import NO_CONSUMERS
from credrotator.core.errors import RotationError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.app.backend import Backend
    from credrotator.app.consumers import Consumers
    from credrotator.app.settings import Settings
    from credrotator.exchange.http.clock_offset import SkewedClock


@contextlib.contextmanager
def open_backend(
    settings: Settings, clock: SkewedClock, consumers: Consumers = NO_CONSUMERS, *, writes: bool = True
) -> Iterator[Backend]:
    """Open the backend that the settings name.

    Args:
        settings: With manifests (``-f``), or without.
        clock: The present moment; put right by dates of the API server, where there is one.
        consumers: What follows a publication.
        writes: Whether anything is to be published; if not, a directory for it need not be named.

    Raises:
        UsageError: It cannot be opened, or later cannot be read at all.
    """
    if settings.filenames:
        from credrotator.app.directory_backend import DirectoryBackend  # noqa: PLC0415 - a cluster needs none of it

        yield DirectoryBackend(settings, clock, consumers, writes=writes)
        return
    # Before any connection: a wrong use is told even if the cluster is away.
    consumers.refuse()
    from credrotator.app.cluster_backend import ClusterBackend  # noqa: PLC0415 - a directory needs none of it

    try:
        with ClusterBackend(settings, clock) as backend:
            yield backend
    except RotationError as error:
        # Whatever of the cluster itself cannot be read ends a command like a wrong option does (exit code 2): nothing
        # was tried.
        raise UsageError(f"{error.message}; {error.hint}") from error
