"""How fast the policies of one namespace try again that an open circuit refused. Pure: the seconds are passed in.

Nobody was asked, and when the circuit recovers it has them woken; so their own tries are only a precaution, and their
number may not grow with that of the policies, least of all shortly before an expiry that thousands share. They are
spaced by namespace: nobody waits for a neighbour's. Source: reliability.md I7, I13.
"""

from __future__ import annotations

import threading

# Of a thousand policies all get a try within twenty seconds, and the circuit answers those without a request.
TRIES_PER_S = 50
SWEEP_EVERY_S = 60.0


class RefusalPace:
    """Spaces tries; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # How many tries each second has, and where it is full the next one that may not be.
        self._counts: dict[tuple[str, int], int] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._swept_s = 0.0

    def wait_s(self, namespace: str, wait_s: float, now_s: float) -> float:
        """Return after how many seconds a try may be made that is to come after ``wait_s``, and count it."""
        with self._lock:
            self._sweep(now_s)
            intended = int(now_s + wait_s)
            second = self._first_free(namespace, intended)
            self._counts[namespace, second] = self._counts.get((namespace, second), 0) + 1
            if self._counts[namespace, second] >= TRIES_PER_S:
                self._next[namespace, second] = second + 1
            # The fraction is kept where there is room: rounded down to whole seconds, all of a second's tries would
            # come at once.
            return wait_s if second == intended else second - now_s

    def _first_free(self, namespace: str, second: int) -> int:
        # Thousands are refused in the same second, each would walk over all full seconds from the first: the shortcuts
        # make that constant on average (the find step of a union-find).
        passed = []
        while (following := self._next.get((namespace, second))) is not None:
            passed.append(second)
            second = following
        for full in passed:
            # The next search gets over all of them in one step.
            self._next[namespace, full] = second
        return second

    def _sweep(self, now_s: float) -> None:
        if now_s < self._swept_s + SWEEP_EVERY_S:
            return
        self._swept_s = now_s
        # Seconds that are over are of no use, and a day has 86 400 of them for each namespace.
        self._counts = {slot: count for slot, count in self._counts.items() if slot[1] >= now_s}
        self._next = {slot: following for slot, following in self._next.items() if slot[1] >= now_s}
