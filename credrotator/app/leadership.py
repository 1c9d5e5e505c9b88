"""Which of several replicas writes: by leader election, or the only one there is."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from credrotator.core.instrumentation import DaemonInstrumentation
    from credrotator.kube.listener import ClusterListener
    from credrotator.kube.missed_deliveries import MissedDeliveries
    from credrotator.rotation.daemon import Daemon

log = logging.getLogger("credrotator.run")


def without_election() -> bool:
    """Tell that this process may write: there is no other."""
    return True


class Candidate(Protocol):
    """Takes part in what decides who leads."""

    def start(self) -> None:
        """Begin to."""

    def stop(self) -> None:
        """Leave it to others."""

    def dead(self) -> list[str]:
        """Name the threads of it that have ended though it was not stopped."""


class Leader:
    """What this process does when it becomes the leader, and when it ceases to be."""

    def __init__(
        self,
        daemon: Daemon,
        listener: ClusterListener,
        missed: MissedDeliveries,
        instrumentation: DaemonInstrumentation,
        lease: str,
    ) -> None:
        self._daemon = daemon
        self._listener = listener
        self._missed = missed
        self._instrumentation = instrumentation
        self._by = f" by Lease {lease}" if lease else ""

    def started(self) -> None:
        """Take over: everything has to be attempted, since nobody knows what the former leader left undone."""
        log.info("leading%s", self._by)
        self._instrumentation.note_leading(leading=True)
        self._listener.forget_all()
        self._missed.begin()
        self._daemon.enqueue_all()

    def stopped(self) -> None:
        """Write nothing more; nobody else is known to lead yet."""
        log.info("not leading any more")
        self._instrumentation.note_leading(leading=False)
        self._daemon.pause()
        self._listener.forget_all()
        self._missed.stand_down()

    def lost(self) -> None:
        """Leave it to the next one: what this one knows is not what is so any more."""
        self._daemon.stand_down()


class OnlyCandidate:
    """Leads from start on: there is no other."""

    def __init__(self, leader: Leader) -> None:
        self._leader = leader

    def start(self) -> None:
        """See ``Candidate``."""
        self._leader.started()

    def stop(self) -> None:
        """See ``Candidate``."""

    def dead(self) -> list[str]:
        """See ``Candidate``."""
        return []
