"""What comes up when: each item at most once, at the soonest of the times that were named for it. Pure.

Its owner passes the seconds in, and has a lock.
"""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

Item = TypeVar("Item", bound="Hashable")


class Agenda(Generic[Item]):
    """Items by their times."""

    def __init__(self) -> None:
        # Items themselves are not compared: of two of one time, the first one that was named comes up first.
        self._entries: list[tuple[float, int, Item]] = []
        # A heap cannot move an entry. The soonest time of each is here, and an entry that says another one is passed
        # over when it comes up.
        self._scheduled: dict[Item, float] = {}
        self._order = itertools.count()

    def __len__(self) -> int:
        """Count the entries, those that will be passed over included."""
        return len(self._entries)

    def schedule(self, at_s: float, item: Item) -> None:
        """Have an item come up at a time, or at the sooner of two."""
        if at_s < self._scheduled.get(item, float("inf")):
            self._scheduled[item] = at_s
            heapq.heappush(self._entries, (at_s, next(self._order), item))

    def next_s(self) -> float | None:
        """Return when something may come up next."""
        return self._entries[0][0] if self._entries else None

    def pop(self, now_s: float) -> Item | None:
        """Take the first item that has come up; None: there is none."""
        while self._entries and self._entries[0][0] <= now_s:
            at_s, _, item = heapq.heappop(self._entries)
            # Else replaced by a sooner one, which has been handled.
            if self._scheduled.get(item) == at_s:
                del self._scheduled[item]
                return item
        return None
