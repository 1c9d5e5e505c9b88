"""Who found no slot at an endpoint, and who of them should try again when one is free. Pure: the seconds are passed in.

No more are named than there are free slots, namespace by namespace in turn: naming all would only have them wait in
workers, and fail again. Who was named is expected for a moment, during which its slot is not offered to another one.
Source: reliability.md I7, I13.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

from credrotator.exchange.http.agenda import Agenda

if TYPE_CHECKING:
    from collections.abc import Container

    from credrotator.core.circuit_key import CircuitKey
    from credrotator.core.model import ObjectKey

EXPECTED_S = 2.0
"""For so long a slot is kept for one that was named; then another one is named."""


class Room(Protocol):
    """Tells what an endpoint has left."""

    def free(self, key: CircuitKey) -> int:
        """Count the slots that nobody holds."""

    def admits(self, key: CircuitKey, namespace: str) -> bool:
        """Tell whether a namespace may have one of them."""


class SlotQueue:
    """Who waits for a slot of which circuit; its owner has a lock."""

    def __init__(self) -> None:
        self._waiting: dict[CircuitKey, OrderedDict[str, OrderedDict[ObjectKey, None]]] = {}
        self._keys: dict[ObjectKey, CircuitKey] = {}
        # Named, and on their way to a slot. These slots look free, and would be promised twice.
        self._expected: dict[CircuitKey, dict[ObjectKey, float]] = {}
        self._agenda: Agenda[CircuitKey] = Agenda()

    def __len__(self) -> int:
        """Count the policies that wait, or are expected."""
        return len(self._keys)

    def wait(self, key: CircuitKey, policy: ObjectKey, now_s: float) -> None:
        """Take note that a policy found no slot."""
        self.discard(policy)
        self._keys[policy] = key
        self._waiting.setdefault(key, OrderedDict()).setdefault(policy.namespace, OrderedDict())[policy] = None
        # Whoever held the slot may have left while this one gave up.
        self.freed(key, now_s)

    def freed(self, key: CircuitKey, now_s: float) -> None:
        """Have a circuit looked at: it may have room."""
        if key in self._waiting:
            self._agenda.schedule(now_s, key)

    def arrived(self, policy: ObjectKey, keys: Container[CircuitKey]) -> None:
        """Take note that a policy has a slot of these circuits: it does not wait for one of them any more."""
        if self._keys.get(policy) in keys:
            self.discard(policy)

    def discard(self, policy: ObjectKey) -> None:
        """Drop a policy that has a slot, has failed otherwise, or is gone."""
        key = self._keys.pop(policy, None)
        if key is None:
            return
        self._take(key, policy)
        expected = self._expected.get(key, {})
        expected.pop(policy, None)
        if not expected:
            self._expected.pop(key, None)

    def next_s(self) -> float | None:
        """Return when somebody may have to be named next."""
        return self._agenda.next_s()

    def due(self, now_s: float, room: Room) -> list[ObjectKey]:
        """Return who should try now."""
        named: list[ObjectKey] = []
        while key := self._agenda.pop(now_s):
            named += self._name(key, now_s, room)
        return named

    def _name(self, key: CircuitKey, now_s: float, room: Room) -> list[ObjectKey]:
        for late in [each for each, until_s in self._expected.get(key, {}).items() if until_s <= now_s]:
            # It has not come: its own back-off is all that is left to it.
            self.discard(late)
        named: list[ObjectKey] = []
        free = room.free(key) - len(self._expected.get(key, {}))
        while len(named) < free and (policy := self._next(key, room)):
            self._take(key, policy)
            self._expected.setdefault(key, {})[policy] = now_s + EXPECTED_S
            named.append(policy)
        if key in self._waiting and (expected := self._expected.get(key)):
            # Nobody else would look at this circuit again if those that were named never come.
            self.freed(key, min(expected.values()))
        return named

    def _next(self, key: CircuitKey, room: Room) -> ObjectKey | None:
        namespaces = self._waiting.get(key, OrderedDict())
        for namespace, policies in namespaces.items():
            if room.admits(key, namespace):
                # Its next turn comes after all others': slots go round by namespace, as the workers do.
                namespaces.move_to_end(namespace)
                return next(iter(policies))
        return None

    def _take(self, key: CircuitKey, policy: ObjectKey) -> None:
        namespaces = self._waiting.get(key)
        policies = namespaces.get(policy.namespace) if namespaces else None
        if not namespaces or policies is None:
            return
        policies.pop(policy, None)
        if not policies:
            del namespaces[policy.namespace]
        if not namespaces:
            del self._waiting[key]
