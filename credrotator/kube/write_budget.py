"""How often we write one object, and who else does: two programs that each put their own back must not race.

Five writes in a row are fine, then ten a minute. Whoever is refused a write says who the other one is, as the object's
``managedFields`` name it. Source: reliability.md I18, 62; Kubernetes, "Server-Side Apply", field management.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from credrotator.core.clock import suspend_aware
from credrotator.core.errors import Transient, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from credrotator.core.model import ObjectKey

BURST = 5
EVERY_S = 6.0
MOST = 20_000
"""Objects that are remembered; the longest untouched is forgotten first."""
MANAGER_LENGTH = 128
SHORTEST_WAIT_S = 0.001
"""Less is rounding."""


class WriteBudget:
    """Counts the writes of each object; safe to share between threads.

    Args:
        seconds: Seconds that only grow.
    """

    def __init__(self, seconds: Callable[[], float] = suspend_aware) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        # When as many writes as in the beginning may be made again.
        self._full_s: OrderedDict[ObjectKey, float] = OrderedDict()

    def check(self, key: ObjectKey, present: Mapping[str, Any] | None, manager: str) -> None:
        """Return if an object may be written now.

        Args:
            key: Its namespace and name.
            present: The object as it is now, None if it is not there.
            manager: Our own name as field manager.

        Raises:
            Transient: ContestedWrite: there were too many of late; its ``retry_after`` tells when the next may be made.
        """
        wait_s = self.wait_s(key)
        if not wait_s:
            return
        raise Transient(
            "ContestedWrite",
            f"{key} is changed by {other_writer(present, manager)} each time that it was written; it is written less "
            "often now",
            hint="have the other writer leave this object alone",
            retry_after=timedelta(seconds=wait_s),
        )

    def wait_s(self, key: ObjectKey, spare: int = 0) -> float:
        """Return for how many seconds an object is not to be written; 0 if it may be written now.

        Args:
            key: Its namespace and name.
            spare: How many writes have to be left then; -1: one more than the burst is allowed.
        """
        with self._lock:
            now_s = self._seconds()
            wait_s = self._full_s.get(key, now_s) - now_s - (BURST - 1 - spare) * EVERY_S
        return wait_s if wait_s >= SHORTEST_WAIT_S else 0.0

    def note(self, key: ObjectKey) -> None:
        """Count a write that was made."""
        with self._lock:
            now_s = self._seconds()
            self._full_s[key] = max(now_s, self._full_s.get(key, now_s)) + EVERY_S
            self._full_s.move_to_end(key)
            self._shrink(now_s)

    def _shrink(self, now_s: float) -> None:
        while len(self._full_s) > MOST or next(iter(self._full_s.values())) <= now_s:
            self._full_s.popitem(last=False)


def other_writer(present: Mapping[str, Any] | None, manager: str) -> str:
    """Name the field manager, other than ours, that wrote an object last."""
    metadata = (present or {}).get("metadata") or {}
    fields = metadata.get("managedFields") or []
    others = [entry for entry in fields if isinstance(entry, dict) and entry.get("manager") not in {manager, None}]
    if not others:
        return "somebody else"
    latest = max(others, key=lambda entry: str(entry.get("time") or ""))
    return printable(latest["manager"], MANAGER_LENGTH)
