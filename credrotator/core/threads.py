"""Threads that should be there: one that ended by a fault leaves the process alive, and something undone for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable


class HasThreads(Protocol):
    """What does its work in threads of its own."""

    def dead(self) -> list[str]:
        """Name those that have ended though it was not stopped."""


def dead(threads: Iterable[threading.Thread | None]) -> list[str]:
    """Return the names of those that were started and have ended."""
    # ``ident`` is None before the start: a thread that was not needed yet is not dead.
    return [thread.name for thread in threads if thread is not None and thread.ident and not thread.is_alive()]


def trouble(parts: Iterable[HasThreads]) -> str | None:
    """Say which threads have ended, None if all go on."""
    ended = [name for part in parts for name in part.dead()]
    return f"dead threads: {', '.join(ended)}" if ended else None
