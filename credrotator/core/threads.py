"""Threads that should be there: one that ended by a fault leaves the process alive, and something undone for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable


def dead(threads: Iterable[threading.Thread | None]) -> list[str]:
    """Return the names of those that were started and have ended."""
    return [thread.name for thread in threads if thread is not None and thread.ident and not thread.is_alive()]
