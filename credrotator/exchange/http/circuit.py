"""Circuit breakers: whether it is worth asking an endpoint now, as this account, and for how many at a time.

Circuits stand for what was really asked, in three grains: host and port, for what befalls connections; the address as
it is called, for outages; the address and as whom it is asked, for rate limits (``CircuitKey``). A namespace's own
failures open a circuit for that namespace; failures of several namespaces, none of whom succeeds, open it for all. An
open circuit lets one trial through at a time, at intervals that double from a quarter of a second; everybody else fails
at once, with words of our own: what another policy was answered is nobody's business. Those that were refused are named
again by :meth:`CircuitBreakers.awake`.

Slots bound how many ask one host at a time, so that it cannot take all workers; each namespace has its share of them.
Those that found none are named by :meth:`CircuitBreakers.awake` as well, as slots come free. Throttling halves what an
account may have of them; successes widen it again, one by one (AIMD).
Source: reliability.md I5, I7, I13..I15, 10, 16.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from contextvars import ContextVar
from datetime import timedelta
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING, Literal

from credrotator.core.circuit_key import CircuitKey
from credrotator.core.clock import suspend_aware
from credrotator.core.errors import NoConnection, NotAsked, Outage, PolicyError, RotationError, Transient, Untrusted
from credrotator.core.fair_share import FairShare
from credrotator.exchange.http.awakening import Awakening
from credrotator.exchange.http.deadline import remaining_s
from credrotator.exchange.http.pauses import Pauses, is_throttling
from credrotator.exchange.http.retry_after import ignores_retry_after
from credrotator.exchange.http.slot_queue import SlotQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from credrotator.core.model import ObjectKey

SLOTS = 12
"""Requests that one host gets at a time; see ``slots_for``."""
SWEEP_EVERY_S = 10.0
SLOT_WAIT_S = 1.0
"""A worker waits no longer for a slot: there are others to serve."""
MOST_CIRCUITS = 2048
LATEST_KEYS = 256
"""Whose parts are remembered: those of an account that is asked a thousand times. Few, since tenants choose them."""
IDLE_S = 300.0
"""A circuit that nobody asked for so long is forgotten, unless a Retry-After is still to be obeyed."""
_OWN_ENDINGS = ("Unreachable", "Timeout", "Failed", "Throttled", "TLS")
_OWN_REASONS = ("ProxyFailed", "InvalidResponse", "CredentialExpired")
"""Reasons that are our own words; any other came with somebody's answer, and is not repeated to others."""


def slots_for(workers: int) -> int:
    """Return how many requests one host gets at a time, of a daemon with so many workers: three quarters of them."""
    return max(1, workers * 3 // 4)


_asking: ContextVar[ObjectKey | None] = ContextVar("asking", default=None)


class _Circuit:
    """What is known of one endpoint and account, or of one host; all of it under its owner's lock."""

    def __init__(self, key: CircuitKey, slots: int) -> None:
        self.key = key
        self.pauses = Pauses()
        # One more than a namespace that is alone can have: the next one's.
        self.share = FairShare(slots + 1)
        self.slots = self.width = float(slots)
        self.in_use = 0
        self.touched_s = 0.0

    def is_idle(self, now_s: float) -> bool:
        """Tell whether nothing is lost when it is forgotten."""
        # Whoever is away comes back through ``leave``, which needs the circuit.
        if self.in_use:
            return False
        # Also at once after a success: most circuits are in this state nearly always, and none of them needs memory.
        if self.pauses.is_well and self.width >= self.slots:
            return True
        return now_s - self.touched_s > IDLE_S and now_s > self.pauses.obeys_until_s()

    def room(self) -> int:
        """Count what is left: of what throttling allows an account, or of a host's slots."""
        if self.key.account:
            return max(1, int(self.width)) - self.in_use
        return self.share.places - self.share.held()

    def admits(self, namespace: str) -> bool:
        """Tell whether a namespace may have one more of the slots."""
        return self.share.admits(namespace, several=bool(self.share.holders() - {namespace}))

    def narrow(self) -> None:
        """Halve the room: it is too much for the endpoint."""
        # Half at once, and back by one for each round of successes: TCP's answer to congestion, which finds the rate
        # that a vendor allows without knowing it (Chiu and Jain 1989).
        self.width = max(1.0, self.width / 2)

    def widen(self) -> None:
        """Give a little room back."""
        self.width = min(self.slots, self.width + 1 / self.width)


class CircuitBreakers:
    """All circuit breakers of one process; safe to share between threads.

    Args:
        throttled: Called with the kind of endpoint for each answer that limits the rate.
        slots: Requests that one host gets at a time.
        seconds: Seconds that only grow.
        condition: Makes what threads wait on, for slots and for who is to try again.
    """

    def __init__(
        self,
        throttled: Callable[[str], None] = lambda _: None,
        *,
        slots: int = SLOTS,
        seconds: Callable[[], float] = suspend_aware,
        condition: Callable[[], threading.Condition] = threading.Condition,
    ) -> None:
        self._throttled = throttled
        self._slots = max(1, slots)
        self._seconds = seconds
        self._changed = condition()
        # The longest untouched first. Addresses and accounts come from policies, so a tenant could make as many as it
        # likes: they are bounded, and those with nothing to remember are not kept at all (reliability.md I14).
        self._circuits: OrderedDict[CircuitKey, _Circuit] = OrderedDict()
        self._awakening = Awakening()
        self._slot_queue = SlotQueue()
        self._swept_s = seconds()
        # Threads that wait for a slot, as opposed to the one that waits in ``awake``: a slot that comes free wakes
        # somebody only if somebody waits for it.
        self._waiting_for_slots = 0

    def count(self) -> int:
        """Count the circuits that are remembered."""
        with self._changed:
            return len(self._circuits)

    def of(self, key: CircuitKey | str) -> CircuitBreaker:
        """Return the circuit breaker of who is asked, and as whom; a text is read by ``CircuitKey.parse``."""
        return CircuitBreaker(self, CircuitKey.parse(key) if isinstance(key, str) else key)

    @contextlib.contextmanager
    def asking(self, policy: ObjectKey) -> Iterator[None]:
        """Let what is asked in the block be asked for a policy: one attempt, whose failure is taken note of."""
        token = _asking.set(policy)
        try:
            yield
        except RotationError as error:
            with self._changed:
                self._await(policy, error)
            raise
        finally:
            _asking.reset(token)

    def awake(self, timeout_s: float) -> list[ObjectKey]:
        """Return the policies that should try again now: for a trial, after one has succeeded, for a free slot.

        Waits for them; returns none after the timeout.
        """
        ends_s = self._seconds() + timeout_s
        with self._changed:
            while True:
                now_s = self._seconds()
                # Here, because this is the one thread that comes by regularly even if nobody asks anything.
                self._forget_idle(now_s)
                policies = self._awakening.due(now_s, self._pauses_of) + self._slot_queue.due(now_s, self)
                if policies or now_s >= ends_s:
                    return policies
                next_s = min((each for each in self._agenda() if each is not None), default=ends_s)
                self._changed.wait(max(0.01, min(ends_s, next_s) - now_s))

    def forget(self, policy: ObjectKey) -> None:
        """Drop a policy that is gone."""
        with self._changed:
            self._awakening.discard(policy)
            self._slot_queue.discard(policy)

    def free(self, key: CircuitKey) -> int:
        """See ``slot_queue.Room``; under the lock."""
        circuit = self._circuits.get(key)
        return circuit.room() if circuit else self._slots

    def admits(self, key: CircuitKey, namespace: str) -> bool:
        """See ``slot_queue.Room``; under the lock."""
        circuit = self._circuits.get(key)
        return circuit is None or circuit.admits(namespace)

    def enter(self, key: CircuitKey, policy: ObjectKey | None) -> float:
        """Take a slot for a request; return when it began.

        Raises:
            NotAsked: The circuit is open for this namespace, or no slot came free.
        """
        namespace = policy.namespace if policy else ""
        with self._changed:
            # Computed once: with each wake-up anew, a busy host would hold a worker for as long as others ask it.
            gives_up_s = self._seconds() + SLOT_WAIT_S
            while True:
                # At each turn anew: what nobody holds may be forgotten meanwhile.
                circuits = {grain: self._circuit(grain) for grain in _grains(key)}
                for circuit in circuits.values():
                    self._refuse_if_open(circuit, key, namespace)
                full = _without_room(circuits.values(), namespace)
                if full is None:
                    break
                self._wait_for_slot(key, full, gives_up_s)
            if policy:
                self._slot_queue.arrived(policy, circuits)
            # Noted at the start: failures of requests that were on their way when a pause began belong to the burst
            # that began it. With each of them counted, twelve at a time would double the pause twelve times.
            began_s = self._seconds()
            # Shares of namespaces count at the host, because connections are what a host that hangs uses up; an account
            # has no namespaces.
            circuits[_host(key)].share.take(namespace)
            for circuit in circuits.values():
                circuit.in_use += 1
                circuit.pauses.begin(namespace, began_s)
            return began_s

    def leave(self, key: CircuitKey, policy: ObjectKey | None, began_s: float, end: BaseException | None) -> None:
        """Give a slot back, and take note of how the request ended: None is success."""
        with self._changed:
            agenda = self._agenda()
            circuits = {grain: self._circuits[grain] for grain in _grains(key)}
            circuits[_host(key)].share.give_back(policy.namespace if policy else "")
            now_s = self._seconds()
            for grain, circuit in circuits.items():
                circuit.in_use -= 1
                match _verdict(grain, key, end):
                    case "failed" if isinstance(end, RotationError):
                        self._fail(circuit, policy, end, began_s, now_s)
                    case "well":
                        self._succeed(circuit, policy, now_s)
                    case _:
                        circuit.pauses.end_without_verdict(policy.namespace if policy else "", now_s)
                self._forget_if_idle(circuit, now_s)
                self._slot_queue.freed(grain, now_s)
            # Whoever waits in ``awake`` wakes up for nothing otherwise, once for each request.
            if self._waiting_for_slots or self._agenda() != agenda:
                self._changed.notify_all()
        if _is_rate_limit(end):
            self._throttled(key.endpoint)

    def _await(self, policy: ObjectKey, error: RotationError) -> None:
        """Have a policy named again when what its attempt failed of has recovered, whoever it was that asked.

        Of many that are due together one asks, and the others share its failure: without this, each of them would be
        left to its own back-off, minutes after the recovery.
        """
        now_s, was_asked = self._seconds(), not isinstance(error, NotAsked)
        agenda = self._agenda()
        for key in [each for each in error.circuits if isinstance(each, CircuitKey)]:
            pauses = self._pauses_of(key)
            if pauses is not None and pauses.is_open(policy.namespace):
                self._awakening.wait(key, policy, trial_at_s=now_s + pauses.left_s(policy.namespace, now_s))
            elif not was_asked:
                # Nobody asked, and nothing is in the way any more, or it is a slot that is missing.
                self._slot_queue.wait(key, policy, now_s)
        # A refusal of ours is no failure of the policy's: it was not asked, and may be named again at once.
        if was_asked:
            self._awakening.failed(policy, now_s)
            self._slot_queue.discard(policy)
        # Whoever waits in ``awake`` wakes up for nothing otherwise, once for each failure.
        if self._agenda() != agenda:
            self._changed.notify_all()

    def _agenda(self) -> tuple[float | None, float | None]:
        """Return when the next policies are to be woken: after a pause, and for a free slot."""
        return self._awakening.next_s(), self._slot_queue.next_s()

    def _refuse_if_open(self, circuit: _Circuit, key: CircuitKey, namespace: str) -> None:
        left_s = circuit.pauses.left_s(namespace, self._seconds(), ignore_retry_after=ignores_retry_after())
        if left_s <= 0:
            return
        raise NotAsked(
            circuit.pauses.reason,
            f"{key.title} is not asked again for {ceil(left_s)} s",
            hint="wait: it is tried again by itself; credrotator check shows what it answers",
            retry_after=timedelta(seconds=left_s),
            hangs=circuit.pauses.hangs,
            circuits=frozenset({circuit.key}),
        )

    def _wait_for_slot(self, key: CircuitKey, full: CircuitKey, gives_up_s: float) -> None:
        try:
            left_s = remaining_s(gives_up_s - self._seconds()) or 0.0
        except TimeoutError:
            left_s = 0.0
        if left_s <= 0:
            raise NotAsked(
                f"{key.endpoint.capitalize()}Busy",
                f"{key.title} has not answered those who asked before",
                hint="see whether it is slow or overloaded; raise --workers if it is not",
                circuits=frozenset({full}),
            )
        self._waiting_for_slots += 1
        try:
            self._changed.wait(left_s)
        finally:
            self._waiting_for_slots -= 1

    def _fail(
        self, circuit: _Circuit, policy: ObjectKey | None, error: RotationError, began_s: float, now_s: float
    ) -> None:
        namespace = policy.namespace if policy else ""
        error.circuits |= {circuit.key}
        # An hour of Retry-After is for whoever was asked to wait, not for the address.
        limit = error if circuit.key.account and isinstance(error, Transient) else None
        reason = _own_reason(error, circuit.key.endpoint)
        counts = circuit.pauses.fail(namespace, reason, limit, began_s=began_s, now_s=now_s, hangs=error.hangs)
        if counts and is_throttling(limit):
            circuit.narrow()
        if policy and circuit.pauses.is_open(namespace):
            trial_at_s = now_s + circuit.pauses.left_s(namespace, now_s)
            self._awakening.wait(circuit.key, policy, trial_at_s=trial_at_s, asked=True)

    def _succeed(self, circuit: _Circuit, policy: ObjectKey | None, now_s: float) -> None:
        if policy:
            self._awakening.passed(circuit.key, policy)
        circuit.widen()
        # A refusal counts as a success, too: whoever answers is there.
        if circuit.pauses.succeed():
            self._awakening.recovered(circuit.key, now_s)

    def _circuit(self, key: CircuitKey) -> _Circuit:
        now_s = self._seconds()
        if key not in self._circuits:
            self._circuits[key] = _Circuit(key, self._slots)
            if len(self._circuits) > MOST_CIRCUITS:
                # Never one in use, nor the one that was just made: it would be dropped before its first request.
                oldest = next((each for each in self._circuits.values() if not each.in_use and each.key != key), None)
                if oldest:
                    self._drop(oldest)
        circuit = self._circuits[key]
        circuit.touched_s = now_s
        self._circuits.move_to_end(key)
        return circuit

    def _forget_idle(self, now_s: float) -> None:
        """Forget, now and then, what nobody has asked for long."""
        if now_s < self._swept_s + SWEEP_EVERY_S:
            return
        self._swept_s = now_s
        for circuit in list(self._circuits.values()):
            self._forget_if_idle(circuit, now_s)

    def _forget_if_idle(self, circuit: _Circuit, now_s: float) -> None:
        if circuit.is_idle(now_s):
            self._drop(circuit)

    def _drop(self, circuit: _Circuit) -> None:
        # By identity: one of the same key may have been made after this one was dropped.
        if self._circuits.get(circuit.key) is circuit:
            del self._circuits[circuit.key]
            self._awakening.drop(circuit.key)

    def _pauses_of(self, key: CircuitKey) -> Pauses | None:
        circuit = self._circuits.get(key)
        return circuit.pauses if circuit else None


class CircuitBreaker:
    """The circuit breaker of who is asked, and as whom."""

    def __init__(self, breakers: CircuitBreakers, key: CircuitKey) -> None:
        self._breakers = breakers
        self.key = key

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Ask within the block, in the name of the policy of ``CircuitBreakers.asking``; how it ends is taken note of.

        Raises:
            NotAsked: The circuit is open, or no slot came free in time.
        """
        policy = _asking.get()
        began_s = self._breakers.enter(self.key, policy)
        end: BaseException | None = None
        try:
            yield
        # An interrupt or the end of the process as well: a slot that is never given back is lost for all.
        except BaseException as error:
            end = error
            raise
        finally:
            self._breakers.leave(self.key, policy, began_s, end)


@lru_cache(LATEST_KEYS)
def _grains(key: CircuitKey) -> tuple[CircuitKey, ...]:
    """Return the three circuits of a request: host and port, address, address and account."""
    return _host(key), CircuitKey(key.endpoint, key.address), CircuitKey(key.endpoint, key.address, key.account or "-")


@lru_cache(LATEST_KEYS)
def _host(key: CircuitKey) -> CircuitKey:
    return CircuitKey(key.endpoint, key.host)


def _without_room(circuits: Iterable[_Circuit], namespace: str) -> CircuitKey | None:
    """Return which of the circuits of a request keeps it waiting: the host, whose slots are taken, or the account."""
    host, _, account = circuits
    if account.room() <= 0:
        return account.key
    return None if host.admits(namespace) else host.key


def _verdict(grain: CircuitKey, key: CircuitKey, end: BaseException | None) -> Literal["well", "failed", "none"]:
    """Say what the end of a request says of one of its circuits: a connection's fault is not the address's, and so on.

    Any answer, a refusal as well, shows that the host is reached; a rate limit says nothing of others at the address.
    """
    if end is not None and (isinstance(end, NotAsked | PolicyError) or not isinstance(end, RotationError)):
        return "none"
    if isinstance(end, NoConnection | Untrusted):
        # Nobody reached the address, so nothing is known of it; counted there as well, one broken network would open a
        # circuit for each address behind it, and each would need a trial of its own.
        return "failed" if grain == _host(key) else "none"
    if grain == _host(key):
        return "well"
    if _is_rate_limit(end) and (grain.account or not isinstance(end, Outage)):
        return "failed" if grain.account else "none"
    if isinstance(end, Outage):
        # The address is down for every account alike.
        return "none" if grain.account else "failed"
    return "well"


def _is_rate_limit(end: BaseException | None) -> bool:
    return isinstance(end, Transient) and not isinstance(end, NotAsked) and is_throttling(end)


def _own_reason(error: RotationError, endpoint: str) -> str:
    name = endpoint.capitalize()
    if error.reason in _OWN_REASONS or error.reason in {name + ending for ending in _OWN_ENDINGS}:
        return error.reason
    return f"{name}Throttled" if isinstance(error, Transient) and is_throttling(error) else f"{name}Failed"
