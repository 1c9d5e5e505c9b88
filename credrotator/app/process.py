"""A process that goes on until it is told to stop: signals, what its probes say, and what is done every second.

Owns the request to stop and the states of a daemon: starting, running, stopping. Must not know what the daemon does.
"""

from __future__ import annotations

import contextlib
import queue
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stop:
    """The request to stop, safe to make in a signal handler.

    NOTE: ``threading.Event.set`` takes a lock that the interrupted ``wait`` may hold at that moment; a SimpleQueue is
    made for this.
    """

    def __init__(self) -> None:
        # Not a threading.Event: its lock is not reentrant, and a signal handler that interrupts ``wait`` in the same
        # thread could block for ever. SimpleQueue.put is reentrant by contract.
        self._requests: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stopping = False

    @classmethod
    def on_signals(cls) -> Self:
        """Take SIGTERM and SIGINT (Ctrl-C) for the request, from now on; in the main thread only."""
        stop = cls()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        return stop

    def set(self) -> None:
        """Request the stop; from anywhere."""
        self._requests.put(None)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the request, and tell whether it came; in one thread only."""
        if not self._stopping:
            with contextlib.suppress(queue.Empty):
                self._requests.get(timeout=timeout_s)
                self._stopping = True
        return self._stopping


@dataclass(frozen=True, slots=True)
class Election:
    """Whether to take part in leader election, and by which Lease (``NAMESPACE/NAME``; None: the usual one)."""

    on: bool
    lease: str | None


class Running(Protocol):
    """A daemon at work: what its probes ask, and what is done every second beside it."""

    def alive(self) -> str | None:
        """Say what keeps it from its work for good, None if nothing does."""

    def ready(self) -> str | None:
        """Say what keeps it from its work at the moment, None if nothing does."""

    def serving(self) -> str | None:
        """Say what it serves (``serving``), None as long as that is not known."""

    def tick(self) -> None:
        """Do what is done every second."""


class Starting:
    """A daemon that is not at work yet: alive, and not ready."""

    def alive(self) -> None:
        """See ``Running``."""

    def ready(self) -> str:
        """See ``Running``."""
        return "starting"

    def serving(self) -> None:
        """See ``Running``."""

    def tick(self) -> None:
        """See ``Running``."""


class Health:
    """What the probes of a process are told, from before its daemon starts until after it has ended."""

    def __init__(self) -> None:
        self._running: Running = Starting()
        self._stopping = False

    def alive(self) -> str | None:
        """Say what is wrong with the process (liveness), None if nothing is."""
        # Threads end while it is being stopped.
        return None if self._stopping else self._running.alive()

    def ready(self) -> str | None:
        """Say why it does not do its work now (readiness), None if it does."""
        # Unready at once: a Service must not send a scrape to a process whose listener is about to close.
        return "stopping" if self._stopping else self._running.ready()

    @contextlib.contextmanager
    def of(self, running: Running) -> Iterator[None]:
        """Go by a daemon from now on; with the block's end it is being stopped."""
        self._running = running
        try:
            yield
        finally:
            self._stopping = True
