"""Many policies in front of circuit breakers, with a clock that is moved."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.circuit_key import CircuitKey
from credrotator.core.errors import NoConnection, NotAsked, Outage, Throttled
from credrotator.core.model import ObjectKey
from credrotator.exchange.http.circuit import SLOT_WAIT_S, SLOTS, CircuitBreakers
from credrotator.exchange.http.pauses import FAILURES_TO_OPEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.errors import RotationError

TOKEN = CircuitKey.of_url("issuer", "https://idp.example/realms/a/token", "client")
STS = "sts us-east-1 123456789012"


class Seconds:
    """Seconds that a test lets grow."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Crowd:
    """Circuit breakers, and policies that ask through them."""

    def __init__(self, slots: int = SLOTS) -> None:
        self.seconds = Seconds()
        self.throttled: list[str] = []
        self.circuits = CircuitBreakers(self.throttled.append, slots=slots, seconds=self.seconds)

    def ask(
        self, end: RotationError | None = None, *, key: CircuitKey | str = TOKEN, policy: str = "team/policy"
    ) -> None:
        """Ask for a policy; the answer is ``end``, None for success."""
        with self.circuits.asking(ObjectKey.parse(policy, "team")), self.circuits.of(key).slot():
            if end is not None:
                raise end

    def fail(
        self, end: RotationError, *, times: int = 1, key: CircuitKey | str = TOKEN, policy: str = "team/p"
    ) -> None:
        """Ask, and hear that."""
        for _ in range(times):
            with pytest.raises(type(end)):
                self.ask(end, key=key, policy=policy)

    def fail_in_turn(self, *policies: str) -> None:
        """Have several fail, so often that it opens for all."""
        for _ in range(FAILURES_TO_OPEN):
            for policy in policies:
                with contextlib.suppress(Outage, NotAsked):
                    self.ask(outage(), policy=policy)

    def refuses(self, *, key: CircuitKey | str = TOKEN, policy: str = "team/policy") -> NotAsked | None:
        """Return the refusal of an attempt; one that is let through succeeds."""
        try:
            self.ask(key=key, policy=policy)
        except NotAsked as refusal:
            return refusal
        return None

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds.now += seconds

    def woken(self) -> list[str]:
        """Return who should try again now."""
        return [policy.name for policy in self.circuits.awake(0)]


def outage(reason: str = "IssuerFailed", retry_after: timedelta | None = None) -> Outage:
    """An endpoint that answers 500."""
    return Outage(reason, "SECRET TEXT of role arn:aws:iam::1:role/x", hint="SECRET HINT", retry_after=retry_after)


def throttled(retry_after: timedelta | None = timedelta(seconds=20)) -> Throttled:
    """An endpoint that answers 429."""
    return Throttled("IssuerThrottled", "SECRET TEXT", hint="SECRET HINT", retry_after=retry_after)


NOBODY = NoConnection("IssuerUnreachable", "nobody there", hint="look")


def together(crowd: Crowd, policy: Callable[[int], str] = lambda _: "team/p", key: CircuitKey | str = TOKEN) -> int:
    """Count how many are let in at a time."""
    entered: list[tuple[ObjectKey, float]] = []
    reasons: set[str] = set()
    typed = CircuitKey.parse(key) if isinstance(key, str) else key
    crowd.circuits._seconds = impatient(crowd.seconds)
    for number in range(3 * SLOTS):
        asks = ObjectKey.parse(policy(number), "team")
        try:
            entered.append((asks, crowd.circuits.enter(typed, asks)))
        except NotAsked as refusal:
            reasons.add(refusal.reason)
    assert reasons <= {"IssuerBusy"}
    crowd.circuits._seconds = crowd.seconds
    for asks, began_s in entered:
        crowd.circuits.leave(typed, asks, began_s, TimeoutError())
    return len(entered)


def impatient(seconds: Seconds) -> Callable[[], float]:
    """Let the wait for a slot be over the second time that it looks."""

    def passed() -> float:
        seconds.now += SLOT_WAIT_S
        return seconds.now

    return passed
