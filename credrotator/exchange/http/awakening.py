"""Which of the policies that an open circuit refused should try again, and when. Pure: the seconds are passed in.

One is named when a trial is due, a different one each time; when a trial has succeeded all of them are, namespace by
namespace in turn, a few at first and then more. Whoever is named may well be refused again, or have tried meanwhile.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from credrotator.exchange.http.agenda import Agenda

if TYPE_CHECKING:
    from credrotator.core.circuit_key import CircuitKey
    from credrotator.core.model import ObjectKey
    from credrotator.exchange.http.pauses import Pauses

FIRST_BATCH, LARGEST_BATCH, BATCH_EVERY_S = 2, 16, 0.1
SHORTEST_RETRY_S = 1.0
"""No policy tries again sooner after a failure of its own (reliability.md I7)."""
CANDIDATE_S = 2.0
"""For so long the one that was named is expected to make the trial; then another one is."""
_LOOK_AT = 8
"""Candidates that are looked at for one that has not failed just now."""

PausesOf = Callable[["CircuitKey"], "Pauses | None"]
"""Returns the pauses of a circuit, None if it is forgotten."""


@dataclass(slots=True)
class _Wave:
    policies: deque[ObjectKey]
    batch: int = FIRST_BATCH


class Awakening:
    """Who waits for which circuit; its owner has a lock."""

    def __init__(self) -> None:
        self._waiting: dict[CircuitKey, dict[str, OrderedDict[ObjectKey, None]]] = {}
        # Those that are to try after a success, a few at a time. All at once they would be the load under which a
        # service that has just come back goes down again.
        self._waves: dict[CircuitKey, _Wave] = {}
        self._circuits: dict[ObjectKey, set[CircuitKey]] = {}
        self._failed_s: dict[ObjectKey, float] = {}
        self._agenda: Agenda[tuple[CircuitKey, str | None]] = Agenda()
        # Up to when a trial is expected of the one that was named. Without it a second one would be named while the
        # first is on its way through the queue, and both would ask.
        self._claimed: dict[tuple[CircuitKey, str], float] = {}

    def __len__(self) -> int:
        """Count the policies that wait."""
        return len(self._circuits)

    def wait(self, key: CircuitKey, policy: ObjectKey, *, trial_at_s: float, asked: bool = False) -> None:
        """Take note that a policy was refused, or failed when it asked, and when the next trial may be made."""
        self._circuits.setdefault(policy, set()).add(key)
        self._waiting.setdefault(key, {}).setdefault(policy.namespace, OrderedDict())[policy] = None
        if asked:
            # The trial was made, and the next one may be named.
            self._claimed.pop((key, policy.namespace), None)
            self._claimed.pop((key, ""), None)
        self._schedule(trial_at_s, key, policy.namespace)

    def failed(self, policy: ObjectKey, now_s: float) -> None:
        """Take note that an attempt of a policy has failed otherwise than by being refused."""
        if policy in self._circuits:
            self._failed_s[policy] = now_s

    def passed(self, key: CircuitKey, policy: ObjectKey) -> None:
        """Take note that a policy got an answer."""
        circuits = self._circuits.get(policy, set())
        if key in circuits:
            circuits.discard(key)
            self._take(key, policy)
        if not circuits:
            self._circuits.pop(policy, None)
            self._failed_s.pop(policy, None)

    def discard(self, policy: ObjectKey) -> None:
        """Drop a policy that is gone."""
        for key in self._circuits.pop(policy, set()):
            self._take(key, policy)
        self._failed_s.pop(policy, None)

    def drop(self, key: CircuitKey) -> None:
        """Drop a circuit that is forgotten; who waits for it is left to its own back-off."""
        for policies in list(self._waiting.get(key, {}).values()):
            for policy in list(policies):
                self.passed(key, policy)

    def recovered(self, key: CircuitKey, now_s: float) -> None:
        """Have all that wait for a circuit named, beginning now."""
        # One of each namespace, then the next one of each: a tenant with a thousand policies does not come before one
        # with one.
        in_turn = itertools.zip_longest(*self._waiting.pop(key, {}).values())
        policies = [policy for turn in in_turn for policy in turn if policy]
        if policies:
            wave = self._waves.setdefault(key, _Wave(deque()))
            wave.policies.extend(policies)
            self._schedule(now_s, key, None)

    def next_s(self) -> float | None:
        """Return when somebody may have to be named next."""
        return self._agenda.next_s()

    def due(self, now_s: float, pauses_of: PausesOf) -> list[ObjectKey]:
        """Return who should try now."""
        named: list[ObjectKey] = []
        while not named and (upcoming := self._agenda.pop(now_s)):
            key, namespace = upcoming
            if namespace is None:
                named += self._next_batch(key, now_s, pauses_of(key))
            else:
                named += self._candidate(key, namespace, now_s, pauses_of(key))
        return named

    def _candidate(self, key: CircuitKey, namespace: str, now_s: float, pauses: Pauses | None) -> list[ObjectKey]:
        waiting = self._waiting.get(key, {}).get(namespace)
        if pauses is None or not waiting:
            return []
        left_s = pauses.left_s(namespace, now_s)
        # One trial for all where the circuit is open for all; else one for each namespace, or a namespace that never
        # comes would keep the others from theirs.
        claim = (key, "" if pauses.is_shared else namespace)
        left_s = max(left_s, self._claimed.get(claim, now_s) - now_s)
        if left_s > 0:
            self._schedule(now_s + left_s, key, namespace)
            return []
        for policy in list(itertools.islice(waiting, _LOOK_AT)):
            # A different one each time: the one whose turn it is may have a trouble of its own, and would fail every
            # trial.
            waiting.move_to_end(policy)
            if self._may_retry(policy, now_s):
                self._claimed[claim] = now_s + CANDIDATE_S
                self._schedule(now_s + CANDIDATE_S, key, namespace)
                return [policy]
        self._schedule(now_s + BATCH_EVERY_S, key, namespace)
        return []

    def _next_batch(self, key: CircuitKey, now_s: float, pauses: Pauses | None) -> list[ObjectKey]:
        wave = self._waves.get(key)
        if wave is None:
            return []
        named: list[ObjectKey] = []
        for _ in range(len(wave.policies)):
            if len(named) >= wave.batch:
                break
            policy = wave.policies.popleft()
            # It has asked meanwhile by itself, or is gone.
            if key not in self._circuits.get(policy, ()):
                continue
            if pauses is not None and pauses.is_open(policy.namespace):
                # It failed again: back to those that wait for a trial.
                self.wait(key, policy, trial_at_s=now_s)
            elif not self._may_retry(policy, now_s):
                wave.policies.append(policy)
            else:
                named.append(policy)
                self.passed(key, policy)
        # Like TCP's slow start: the first ones show whether it bears more.
        wave.batch = min(wave.batch * 2, LARGEST_BATCH)
        if wave.policies:
            self._schedule(now_s + BATCH_EVERY_S, key, None)
        else:
            del self._waves[key]
        return named

    def _may_retry(self, policy: ObjectKey, now_s: float) -> bool:
        return now_s - self._failed_s.get(policy, float("-inf")) >= SHORTEST_RETRY_S

    def _schedule(self, at_s: float, key: CircuitKey, namespace: str | None) -> None:
        """Look at a circuit at a time, or at the sooner of two."""
        self._agenda.schedule(at_s, (key, namespace))

    def _take(self, key: CircuitKey, policy: ObjectKey) -> None:
        namespaces = self._waiting.get(key)
        policies = namespaces.get(policy.namespace) if namespaces else None
        if not namespaces or policies is None:
            return
        policies.pop(policy, None)
        if not policies:
            del namespaces[policy.namespace]
            self._claimed.pop((key, policy.namespace), None)
        if not namespaces:
            del self._waiting[key]
            self._claimed.pop((key, ""), None)
