"""The keyed queue of the daemon: client-go's semantics, priorities, and lanes that keep one issuer from all workers.

Owns: a key is in the queue at most once; it is never handled by two workers; a key that is added while it is handled
is handled once more afterwards. Each key is in some lanes, one for each endpoint that it depends on; keys of one lane
take a bounded number of workers, and the rest of the queue flows past them. Decides under the lock, acts outside it.
Source: client-go ``util/workqueue/queue.go``.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from credrotator.core.model import ObjectKey

URGENT, SOON, ROUTINE = 0, 1, 2
"""Nothing is published, or it expires soon; it should be looked at now; a look that could wait."""


@dataclass(order=True, slots=True)
class _Entry:
    priority: int
    order: int
    key: ObjectKey = field(compare=False)
    lanes: tuple[str, ...] = field(compare=False)


class WorkQueue:
    """A priority queue of keys; see the module's docstring.

    Args:
        lanes_of: Names the lanes of a key; asked when the key is added.
        lane_limit: How many keys of a lane may be handled at a time; asked for each decision.
    """

    def __init__(self, lanes_of: Callable[[ObjectKey], tuple[str, ...]], lane_limit: Callable[[str], int]) -> None:
        self._lanes_of = lanes_of
        self._lane_limit = lane_limit
        # An entry is in one heap: among the ready, or among those that wait for room in a lane. One that is not the
        # key's own in _queued any more is passed over when it comes up.
        self._ready: list[_Entry] = []
        self._blocked: defaultdict[str, list[_Entry]] = defaultdict(list)
        self._queued: dict[ObjectKey, _Entry] = {}
        self._handled: dict[ObjectKey, tuple[str, ...]] = {}
        self._again: dict[ObjectKey, tuple[int, tuple[str, ...]]] = {}
        self._busy: Counter[str] = Counter()
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        """Count the keys that wait, those of full lanes included."""
        with self._changed:
            return len(self._queued) + len(self._again)

    def backlog(self) -> int:
        """Count the keys that wait for nothing but a worker."""
        with self._changed:
            return len(self._ready)

    def add(self, key: ObjectKey, priority: int = ROUTINE) -> None:
        """Ask for a look at a key; asking again only ever makes it more urgent."""
        lanes = tuple(dict.fromkeys(self._lanes_of(key)))
        with self._changed:
            if self._closed:
                return
            if key in self._handled:
                known, _ = self._again.get(key, (priority, lanes))
                self._again[key] = (min(priority, known), lanes)
                return
            self._push(key, priority, lanes)
            self._changed.notify()

    def get(self, timeout_s: float | None = None) -> ObjectKey | None:
        """Take the most urgent key whose lanes have room; None when the queue was closed, or after the timeout."""
        with self._changed:
            entry = self._changed.wait_for(lambda: self._closed or self._take(), timeout_s)
            if not isinstance(entry, _Entry):
                return None
            self._handled[entry.key] = entry.lanes
            self._busy.update(entry.lanes)
            return entry.key

    def is_handled(self, key: ObjectKey) -> bool:
        """Tell whether a worker has the key at this moment."""
        with self._changed:
            return key in self._handled

    def done(self, key: ObjectKey) -> None:
        """Give a key back; to be called once for each ``get``, whatever came of it."""
        with self._changed:
            lanes = self._handled.pop(key)
            self._busy.subtract(lanes)
            for lane in lanes:
                if not self._busy[lane]:
                    del self._busy[lane]
            if key in self._again:
                self._push(key, *self._again.pop(key))
            # Its own key may have come up as well.
            self._changed.notify(1 + self._unblock(lanes))

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

    def _push(self, key: ObjectKey, priority: int, lanes: tuple[str, ...]) -> None:
        known = self._queued.get(key)
        if known is not None:
            if known.priority <= priority and known.lanes == lanes:
                return
            priority = min(priority, known.priority)
        entry = _Entry(priority, next(self._order), key, lanes)
        self._queued[key] = entry
        heapq.heappush(self._ready, entry)

    def _unblock(self, lanes: Iterable[str]) -> int:
        """Let as many entries of each lane come up as it has room for, which may have grown; return how many."""
        raised = 0
        for lane in lanes:
            waiting, room = self._blocked.get(lane), self._lane_limit(lane) - self._busy[lane]
            while waiting and room > 0:
                entry = heapq.heappop(waiting)
                if self._queued.get(entry.key) is entry:
                    heapq.heappush(self._ready, entry)
                    room, raised = room - 1, raised + 1
            if not waiting:
                self._blocked.pop(lane, None)
        return raised

    def _take(self) -> _Entry | None:
        while self._ready:
            entry = heapq.heappop(self._ready)
            if self._queued.get(entry.key) is entry:
                full = next((lane for lane in entry.lanes if self._busy[lane] >= self._lane_limit(lane)), None)
                if full is None:
                    del self._queued[entry.key]
                    return entry
                heapq.heappush(self._blocked[full], entry)
            # It came up where another of its lanes might have: that one's turn is now.
            self._unblock(entry.lanes)
        return None
