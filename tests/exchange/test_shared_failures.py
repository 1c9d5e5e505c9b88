"""Who shares the failure of another one's request waits for the same recovery (reliability.md 17)."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NoReturn

import pytest

from credrotator.core.circuit_key import CircuitKey
from credrotator.core.errors import Denied, NotAsked, Outage, RotationError
from credrotator.core.model import ObjectKey
from credrotator.exchange.http.circuit import CircuitBreakers
from credrotator.exchange.http.pauses import FAILURES_TO_OPEN
from credrotator.exchange.http.single_flight import OUTAGE_LIFE, Shared
from tests.support.waiting import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = CircuitKey.of_url("issuer", "https://idp.example/token", "client")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
FIRST, SECOND, NEIGHBOUR = ObjectKey("team", "first"), ObjectKey("team", "second"), ObjectKey("other", "third")


class Fleet:
    """Policies that share one token, and the issuer that gives it."""

    def __init__(self, slots: int = 12) -> None:
        self.now_s = 1000.0
        self.circuits = CircuitBreakers(seconds=lambda: self.now_s, slots=slots)
        self.tokens: Shared[str] = Shared(lambda: NOW, lambda: self.now_s)
        self.asked = 0

    def attempt(self, policy: ObjectKey, answer: Callable[[], str]) -> str:
        """Get the token for a policy."""

        def fetch() -> tuple[str, datetime]:
            with self.circuits.of(TOKEN).slot():
                self.asked += 1
                return answer(), NOW + timedelta(hours=1)

        with self.circuits.asking(policy):
            return self.tokens.get("token", fetch)

    def fail(self, policy: ObjectKey, answer: Callable[[], str]) -> RotationError:
        """Try, and return what it failed of."""
        with pytest.raises(RotationError) as caught:
            self.attempt(policy, answer)
        return caught.value

    def open(self) -> None:
        """Have the issuer fail until its circuit is open, for longer than an outage is remembered."""
        for _ in range(FAILURES_TO_OPEN + 3):
            self.now_s += 5.0
            self.fail(FIRST, outage)

    def recover(self) -> None:
        """Have the first one's trial succeed."""
        self.now_s += 60
        self.attempt(FIRST, lambda: "token")

    def awake(self) -> set[ObjectKey]:
        """Return who is named within two seconds."""
        named: set[ObjectKey] = set()
        for _ in range(20):
            self.now_s += 0.1
            named.update(self.circuits.awake(0.0))
        return named


def outage() -> NoReturn:
    """Answer as an issuer that is down."""
    raise Outage("IssuerFailed", "503", hint="wait")


def test_fault_17_a_remembered_outage() -> None:
    """Who hears of an outage that another one met a moment ago is named when that is over."""
    fleet = Fleet()
    fleet.open()
    asked = fleet.asked
    assert isinstance(fleet.fail(SECOND, outage), Outage)
    assert fleet.asked == asked
    fleet.recover()
    assert SECOND in fleet.awake()


def test_a_remembered_outage_while_the_circuit_is_closed() -> None:
    """One failure is no outage yet: who shares it goes by its own back-off, which is short then."""
    fleet = Fleet()
    fleet.fail(FIRST, outage)
    fleet.fail(SECOND, outage)
    assert fleet.asked == 1
    fleet.recover()
    assert not fleet.awake()


def test_fault_17_a_joined_flight_that_is_not_let_through() -> None:
    """Who waits for another one's request, which then is not made, is named as well."""
    fleet = Fleet()
    fleet.open()
    fleet.now_s += OUTAGE_LIFE.total_seconds()
    refusal = fleet.fail(FIRST, outage)
    assert isinstance(refusal, NotAsked)

    def refused() -> NoReturn:
        raise refusal.anew()

    with pytest.raises(NotAsked), fleet.circuits.asking(SECOND):
        refused()
    fleet.recover()
    assert SECOND in fleet.awake()


def test_fault_17_a_joined_flight_without_a_slot() -> None:
    """A slot that comes free is for those too that had joined the request that found none."""
    fleet = Fleet(slots=1)
    full = CircuitKey(TOKEN.endpoint, TOKEN.host)
    refusal = NotAsked("IssuerBusy", "no slot", hint="wait", circuits=frozenset({full}))
    with pytest.raises(NotAsked), fleet.circuits.asking(SECOND):
        raise refusal
    assert SECOND in fleet.awake()


def test_a_refusal_waits_for_no_recovery() -> None:
    """What the issuer said of the client is no outage, and wakes nobody."""
    fleet = Fleet()
    fleet.open()

    def denied() -> NoReturn:
        raise Denied("IssuerRefused", "invalid_client", hint="register it")

    fleet.now_s += 60
    assert not fleet.fail(SECOND, denied).circuits
    assert SECOND not in fleet.awake()


def test_what_one_namespace_has_met_keeps_no_other_waiting() -> None:
    """The circuit is open for the first one's namespace alone; the other one goes by its own back-off."""
    fleet = Fleet()
    fleet.open()
    fleet.fail(NEIGHBOUR, outage)
    fleet.recover()
    named = fleet.awake()
    assert NEIGHBOUR not in named


def test_fault_17_joined_while_under_way() -> None:
    """With real threads: the one that joined a flight, or came right after it, is named after the recovery."""
    fleet = Fleet()
    fleet.open()
    fleet.now_s += 60
    begun, ends = threading.Event(), threading.Event()

    def slow() -> NoReturn:
        begun.set()
        ends.wait(LIMIT_S)
        outage()

    failures: list[RotationError] = []
    threads = [
        threading.Thread(target=lambda each=policy: failures.append(fleet.fail(each, slow)), daemon=True)
        for policy in (FIRST, SECOND)
    ]
    threads[0].start()
    assert begun.wait(LIMIT_S)
    threads[1].start()
    ends.set()
    for thread in threads:
        thread.join(LIMIT_S)
    assert [type(each) for each in failures] == [Outage, Outage]
    fleet.recover()
    assert SECOND in fleet.awake()
