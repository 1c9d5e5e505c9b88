"""The keyed queue of the daemon: client-go's semantics, priorities, and lanes that keep one issuer from all workers.

Owns: a key is in the queue at most once; it is never handled by two workers; a key that is added while it is handled
is handled once more afterwards. Keys of one lane (those that depend on one endpoint) take a bounded number of workers,
the rest of the queue flows past them. Decides under the lock, acts outside it.
Source: client-go ``util/workqueue/queue.go``.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.model import ObjectKey

URGENT, SOON, ROUTINE = 0, 1, 2
"""Nothing is published, or it expires soon; it should be looked at now; a look that could wait."""


@dataclass(order=True, slots=True)
class _Entry:
    priority: int
    order: int
    key: ObjectKey = field(compare=False)
    lane: str = field(compare=False)


class WorkQueue:
    """A priority queue of keys; see the module's docstring.

    Args:
        lane_of: Names the lane of a key; asked when the key is added.
        lane_limit: How many keys of one lane may be handled at a time.
    """

    def __init__(self, lane_of: Callable[[ObjectKey], str], lane_limit: int) -> None:
        self._lane_of = lane_of
        self._lane_limit = lane_limit
        self._ready: list[_Entry] = []
        self._blocked: defaultdict[str, list[_Entry]] = defaultdict(list)
        self._queued: dict[ObjectKey, _Entry] = {}
        self._handled: dict[ObjectKey, str] = {}
        self._again: dict[ObjectKey, int] = {}
        self._busy: defaultdict[str, int] = defaultdict(int)
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        """Count the keys that wait, those of full lanes included."""
        with self._changed:
            return len(self._queued) + len(self._again)

    def add(self, key: ObjectKey, priority: int = ROUTINE) -> None:
        """Ask for a look at a key; asking again only ever makes it more urgent."""
        lane = self._lane_of(key)
        with self._changed:
            if self._closed:
                return
            if key in self._handled:
                self._again[key] = min(priority, self._again.get(key, priority))
                return
            self._push(key, priority, lane)
            self._changed.notify()

    def get(self, timeout_s: float | None = None) -> ObjectKey | None:
        """Take the most urgent key whose lane has room; None when the queue was closed, or after the timeout."""
        with self._changed:
            while not self._closed:
                if entry := self._take():
                    self._handled[entry.key] = entry.lane
                    self._busy[entry.lane] += 1
                    return entry.key
                if not self._changed.wait(timeout_s):
                    return None
            return None

    def done(self, key: ObjectKey) -> None:
        """Give a key back; to be called once for each ``get``, whatever came of it."""
        with self._changed:
            lane = self._handled.pop(key)
            self._busy[lane] -= 1
            if not self._busy[lane]:
                del self._busy[lane]
            if key in self._again:
                self._push(key, self._again.pop(key), lane)
            self._unblock(lane)
            self._changed.notify()

    def close(self) -> None:
        """Hand out nothing more; workers that wait come back with None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget all that waits (a new leader looks at everything anyway)."""
        with self._changed:
            self._ready.clear()
            self._blocked.clear()
            self._queued.clear()
            self._again.clear()

    def _push(self, key: ObjectKey, priority: int, lane: str) -> None:
        known = self._queued.get(key)
        if known is not None and known.priority <= priority:
            return
        # The less urgent entry stays in its heap and is passed over when it comes up: it is no longer in _queued.
        entry = _Entry(priority, next(self._order), key, lane)
        self._queued[key] = entry
        heapq.heappush(self._ready, entry)

    def _unblock(self, lane: str) -> None:
        """Let one more entry of a lane come up, as there is room for it now."""
        waiting = self._blocked.get(lane, [])
        while waiting:
            entry = heapq.heappop(waiting)
            if self._queued.get(entry.key) is entry:
                heapq.heappush(self._ready, entry)
                break
        if not waiting:
            self._blocked.pop(lane, None)

    def _take(self) -> _Entry | None:
        while self._ready:
            entry = heapq.heappop(self._ready)
            if self._queued.get(entry.key) is not entry:
                continue
            if self._busy[entry.lane] >= self._lane_limit:
                heapq.heappush(self._blocked[entry.lane], entry)
                continue
            del self._queued[entry.key]
            return entry
        return None
