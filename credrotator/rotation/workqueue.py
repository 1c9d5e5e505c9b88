"""The keyed queue of the daemon: client-go's semantics, urgency, and fairness between namespaces.

Owns: a key is in the queue at most once; it is never handled by two workers; a key that is added while it is handled
is handled once more afterwards. Within a class of urgency work is handed out by namespace in turn, and within a
namespace by lane in turn: no order of arrival lets a thousand policies of one stand before one of another. A lane is
what a policy's exchange hangs at, if it hangs; it counts within its namespace only, since a policy can name anything.
Decides under the lock, acts outside it. Source: client-go ``util/workqueue/queue.go``; reliability.md I5, I13.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from credrotator.core.fair_share import FairShare

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.model import ObjectKey

_Name = TypeVar("_Name")
URGENT, SOON, ROUTINE = 0, 1, 2
"""Nothing is published, or it expires soon; an attempt should come now; an attempt that could wait."""
MOVING_S = 1.0
"""For so long after a key has left its lane, the lane counts as moving."""


@dataclass(frozen=True, slots=True)
class _Entry:
    priority: int
    lane: str


Lanes = OrderedDict[str, OrderedDict["ObjectKey", None]]
"""The keys of one namespace that wait, by lane, each in order of arrival; the lane whose turn it is comes first."""


class WorkQueue:
    """A fair queue of keys; see the module's docstring.

    Args:
        workers: How many keys may be handled at a time.
        lane_of: Names the lane of a key, empty for none; asked when the key is added.
        lane_limit: How many keys of a lane a namespace may have handled at a time; asked for each decision.
        monotonic: Seconds that only grow.
    """

    def __init__(
        self,
        workers: int,
        lane_of: Callable[[ObjectKey], str],
        lane_limit: Callable[[str], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lane_of = lane_of
        self._lane_limit = lane_limit
        self._share = FairShare(workers)
        # By namespace and lane: two namespaces that name the same issuer do not share a lane, or one could fill the
        # other's.
        self._busy: Counter[tuple[str, str]] = Counter()
        # By class of urgency: the namespaces that have keys in it, the one whose turn it is first. Those that may take
        # nothing now are passed over; they hold workers, so they are never more than there are workers.
        self._classes: tuple[OrderedDict[str, Lanes], ...] = (OrderedDict(), OrderedDict(), OrderedDict())
        # Where a key stands, so that one that becomes more urgent is moved in constant time: a thousand expire
        # together.
        self._queued: dict[ObjectKey, _Entry] = {}
        # Counted as keys come and go. Counting them when somebody asks would take the lock for as long as there are
        # keys, and the deferred writes ask twenty times a second.
        self._waiting: Counter[tuple[str, str]] = Counter()
        # When a key left a lane in which others wait: these wait for their turn, and not for what hangs.
        self._monotonic = monotonic
        self._left_s: dict[tuple[str, str], float] = {}
        # client-go's "processing" and "dirty" sets. A key that is added while a worker has it goes to the second, not
        # to the queue: two workers at one policy would exchange twice, and dropping it would lose the event that came
        # meanwhile.
        self._handled: dict[ObjectKey, str] = {}
        self._again: dict[ObjectKey, _Entry] = {}
        # All keys that exist, not only those that wait: whether there are other namespaces decides how many workers one
        # may have, and that must not change with each moment in which nobody else happens to be due.
        self._known: set[ObjectKey] = set()
        self._namespaces: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._closed = False

    @property
    def workers(self) -> int:
        """How many keys may be handled at a time."""
        return self._share.places

    def __len__(self) -> int:
        """Count the keys that wait, those that could not be handled now included."""
        with self._changed:
            return len(self._queued) + len(self._again)

    def backlog(self) -> int:
        """Count the keys that wait for nothing but a worker; those behind a key that hangs have to wait longer."""
        with self._changed:
            several = len(self._namespaces) > 1
            full = {each for each in self._share.holders() if self._share.is_full(each, several=several)}
            held_up = sum(
                self._held_up(place, waiting, is_full=place[0] in full) for place, waiting in self._waiting.items()
            )
            return len(self._queued) - held_up

    def moving(self) -> set[str]:
        """Return the namespaces in which keys wait for others of their lane, and these come through."""
        with self._changed:
            since_s = self._monotonic() - MOVING_S
            return {namespace for (namespace, _), left_s in self._left_s.items() if left_s > since_s}

    def _held_up(self, place: tuple[str, str], waiting: int, *, is_full: bool) -> int:
        """Count the keys of a lane that wait for its limit, or for their namespace's."""
        if is_full:
            return waiting
        _, lane = place
        busy = self._busy[place]
        # Of a lane with a single key that nobody holds, the limit cannot bar anything; asking for it costs a lookup by
        # issuer.
        if not lane or not (busy or waiting > 1):
            return 0
        return max(0, waiting - max(0, self._lane_limit(lane) - busy))

    def add(self, key: ObjectKey, priority: int = ROUTINE) -> None:
        """Ask for an attempt at a key; asking again only ever makes it more urgent."""
        # Asked before the lock is taken: it reads the policies, which have a lock of their own.
        lane = self._lane_of(key)
        with self._changed:
            # Workers have been told to end; what is added now would never be handled, nor given back.
            if self._closed:
                return
            self._know(key)
            if key in self._handled:
                # Only ever more urgent: a routine sweep must not calm down an edit that came a moment before.
                again = self._again.get(key)
                self._again[key] = _Entry(min(priority, again.priority) if again else priority, lane)
                return
            self._push(key, priority, lane)
            # One key, one worker: waking all of them for each of ten thousand keys would have them fight for the lock.
            self._changed.notify()

    def get(self, timeout_s: float | None = None) -> ObjectKey | None:
        """Take the key whose turn it is; None when the queue was closed, or after the timeout."""
        with self._changed:
            taken: list[ObjectKey] = []
            # The key is taken by the condition itself, under the lock: between seeing that there is one and taking it
            # another worker could have been quicker.
            self._changed.wait_for(lambda: self._closed or self._take(taken), timeout_s)
            if taken and self._queued:
                # One wakes the next for as long as there is something to take: a limit may have grown meanwhile.
                self._changed.notify()
            return taken[0] if taken else None

    def is_handled(self, key: ObjectKey) -> bool:
        """Tell whether a worker has the key at this moment."""
        with self._changed:
            return key in self._handled

    def begin(self, key: ObjectKey) -> None:
        """Take note that the work on a key begins only now: what was asked for until now is answered by it."""
        with self._changed:
            self._again.pop(key, None)

    def leave_lane(self, key: ObjectKey) -> None:
        """Take note that what a key could hang at is behind it: another key of its lane may begin, beside its write."""
        with self._changed:
            lane = self._handled.get(key)
            if not lane:
                return
            self._handled[key] = ""
            _decrease(self._busy, (key.namespace, lane))
            self._note_left((key.namespace, lane))
            if self._waiting[key.namespace, lane]:
                self._changed.notify()

    def done(self, key: ObjectKey) -> None:
        """Give a key back; to be called once for each ``get``, whatever came of it."""
        with self._changed:
            # The lane that it was taken with, not the one that it has now: an edit may have named another issuer
            # meanwhile, whose count would then go below zero while this lane stays full for ever.
            lane = self._handled.pop(key)
            self._share.give_back(key.namespace)
            if lane:
                _decrease(self._busy, (key.namespace, lane))
            self._note_left((key.namespace, lane))
            if again := self._again.pop(key, None):
                self._push(key, again.priority, again.lane)
            # One key left makes room for one, and whoever gave it back comes for the next; waking all that wait, of
            # which most find nothing, cost more than the queue's own work.
            self._changed.notify()

    def discard(self, key: ObjectKey) -> bool:
        """Take a key that is gone out of the queue; False if it is handled just now, and has to come up once more."""
        with self._changed:
            if key in self._handled:
                return False
            if entry := self._queued.get(key):
                self._remove(key, entry)
            return True

    def forget(self, key: ObjectKey) -> None:
        """Take note that a key is gone, unless somebody has asked for another attempt at it."""
        with self._changed:
            if key in self._known and key not in self._queued and key not in self._again:
                self._known.discard(key)
                _decrease(self._namespaces, key.namespace)

    def close(self) -> None:
        """Hand out nothing more; workers that wait come back with None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget all that waits (a new leader enqueues everything anyway)."""
        with self._changed:
            for waiting in self._classes:
                waiting.clear()
            self._queued.clear()
            self._waiting.clear()
            self._left_s.clear()
            self._again.clear()
            # What a worker has at this moment will be given back, and is counted until then.
            self._known = set(self._handled)
            self._namespaces = Counter(key.namespace for key in self._known)

    def _note_left(self, place: tuple[str, str]) -> None:
        if place in self._waiting:
            self._left_s[place] = self._monotonic()

    def _know(self, key: ObjectKey) -> None:
        if key not in self._known:
            self._known.add(key)
            self._namespaces[key.namespace] += 1

    def _is_lane_full(self, namespace: str, lane: str) -> bool:
        return bool(lane) and self._busy[namespace, lane] >= self._lane_limit(lane)

    def _push(self, key: ObjectKey, priority: int, lane: str) -> None:
        if queued := self._queued.get(key):
            # It keeps its place: moved to the end by each event, a policy whose Secret is touched all the time would
            # never be handled.
            if queued.priority <= priority and queued.lane == lane:
                return
            # The lane has changed: the issuer that it would hang at is another one, so it has to be counted there.
            priority = min(priority, queued.priority)
            self._remove(key, queued)
        self._queued[key] = _Entry(priority, lane)
        self._waiting[key.namespace, lane] += 1
        lanes = self._classes[priority].setdefault(key.namespace, OrderedDict())
        lanes.setdefault(lane, OrderedDict())[key] = None

    def _remove(self, key: ObjectKey, entry: _Entry) -> None:
        """Take a key out of its place; what is empty then goes with it."""
        namespaces = self._classes[entry.priority]
        lanes = namespaces[key.namespace]
        del lanes[entry.lane][key]
        # Lanes and namespaces are names that tenants choose. Left empty, they would pile up, and each decision would
        # walk over all of them.
        if not lanes[entry.lane]:
            del lanes[entry.lane]
        if not lanes:
            del namespaces[key.namespace]
        del self._queued[key]
        _decrease(self._waiting, (key.namespace, entry.lane))
        if (key.namespace, entry.lane) not in self._waiting:
            self._left_s.pop((key.namespace, entry.lane), None)

    def _take(self, taken: list[ObjectKey]) -> bool:
        """Take the key whose turn it is into ``taken``; False if nothing may be handled now."""
        several = len(self._namespaces) > 1
        for priority, namespaces in enumerate(self._classes):
            for namespace, lanes in namespaces.items():
                # Passed over, not waited for: the next namespace's key must not stand behind one that may have no
                # worker now.
                if not self._share.admits(namespace, several=several):
                    continue
                lane = next((each for each in lanes if not self._is_lane_full(namespace, each)), None)
                if lane is not None:
                    key = next(iter(lanes[lane]))
                    self._hand_out(key, _Entry(priority, lane))
                    taken.append(key)
                    return True
        return False

    def _hand_out(self, key: ObjectKey, entry: _Entry) -> None:
        self._remove(key, entry)
        # Their next turn comes after everybody else's.
        namespaces = self._classes[entry.priority]
        if key.namespace in namespaces:
            namespaces.move_to_end(key.namespace)
            if entry.lane in namespaces[key.namespace]:
                namespaces[key.namespace].move_to_end(entry.lane)
        self._handled[key] = entry.lane
        self._share.take(key.namespace)
        if entry.lane:
            self._busy[key.namespace, entry.lane] += 1


def _decrease(counts: Counter[_Name], name: _Name) -> None:
    """Count one less; nothing is kept of what is gone."""
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]
