"""Who may take one more of a few places (workers, slots) that several tenants share. Pure.

While several tenants are about, none holds more than half of the places, and a quarter is kept for tenants that hold
none: however many hang, a newcomer does not wait for them. A tenant that is alone has all places but one.
"""

from __future__ import annotations

from collections import Counter

FEWEST_TO_KEEP = 4
"""From so many places on, one is kept though a tenant is alone: the next one must not wait for what the first holds."""


class FairShare:
    """Places and who holds them; not safe to share between threads, its owner has a lock.

    Args:
        places: How many there are, at least one.
    """

    def __init__(self, places: int) -> None:
        self.places = max(1, places)
        self._held: Counter[str] = Counter()

    def take(self, tenant: str) -> None:
        """Count a place as held."""
        self._held[tenant] += 1

    def give_back(self, tenant: str) -> None:
        """Count a place as free again."""
        self._held[tenant] -= 1
        # Tenants come and go; a name with a zero would stay for ever, and count as a holder.
        if self._held[tenant] <= 0:
            del self._held[tenant]

    def holders(self) -> frozenset[str]:
        """Return the tenants that hold a place."""
        return frozenset(self._held)

    def held(self) -> int:
        """Count the places that are held."""
        return self._held.total()

    def is_full(self, tenant: str, *, several: bool) -> bool:
        """Tell whether a tenant holds all that it may, however many places are free."""
        return self._held[tenant] >= self._limit(several=several)

    def admits(self, tenant: str, *, several: bool) -> bool:
        """Tell whether a tenant may take one more place now; ``several``: there are other tenants."""
        free = self.places - self.held()
        # A newcomer takes any place that is free, the kept ones included: they are kept for nobody else.
        if not self._held[tenant]:
            return free > 0
        # Both bounds are needed. Half for each keeps one tenant from taking everything; the quarter is left over when
        # two tenants that hang have taken their halves.
        return free > self._kept(several=several) and not self.is_full(tenant, several=several)

    def _limit(self, *, several: bool) -> int:
        # At least one, or a daemon with a single worker would admit nobody.
        return max(1, self.places // 2) if several else self.places - self._kept(several=False)

    def _kept(self, *, several: bool) -> int:
        if several:
            return self.places // 4
        # With two or three workers a kept one is a third of the throughput, all the time, for a tenant that may never
        # come.
        return 1 if self.places >= FEWEST_TO_KEEP else 0
