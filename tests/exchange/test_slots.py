"""How many ask at a time: slots at an endpoint, throttling, and what is free for others."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from credrotator.core.circuit_key import CircuitKey
from credrotator.core.errors import Denied, NotAsked, Transient
from credrotator.core.model import ObjectKey
from credrotator.exchange.http.circuit import SLOTS, CircuitBreakers
from credrotator.exchange.http.deadline import deadline
from credrotator.exchange.http.retry_after import ignoring_retry_after
from credrotator.exchange.http.slot_queue import EXPECTED_S
from tests.exchange.crowd import STS, TOKEN, Crowd, impatient, outage, throttled, together


class TestThrottling:
    """Faults 10 and 16."""

    def test_fault_16_throttling_halves_the_room_and_is_obeyed(self, crowd: Crowd) -> None:
        """Who is throttled waits for as long as was asked for, and fewer come at a time afterwards."""
        crowd.fail(throttled())
        assert crowd.refuses()
        crowd.later(19)
        assert crowd.refuses()
        crowd.later(2)
        assert crowd.refuses() is None
        assert together(crowd) == SLOTS // 2
        for _ in range(SLOTS * SLOTS):
            assert crowd.refuses() is None
        assert together(crowd) == SLOTS

    def test_fault_10_a_retry_after_is_overridden_but_not_the_pause(self, crowd: Crowd) -> None:
        """A policy whose credential would not live to see the end may ask; how often, is still bounded."""
        crowd.fail(throttled(timedelta(hours=1)))
        with ignoring_retry_after(on=True):
            assert crowd.refuses()
            crowd.later(1)
            crowd.fail(throttled(timedelta(hours=1)))
            assert crowd.refuses()
        crowd.later(10)
        assert crowd.refuses()

    def test_fault_10_a_retry_after_under_another_status(self, crowd: Crowd) -> None:
        """503 with Retry-After, and a vendor's own code with one, are obeyed as 429 is."""
        for key, end in ((STS, outage("StsFailed", timedelta(seconds=9))), (TOKEN, _wait_of_its_own())):
            crowd.fail(end, key=key)
            refusal = crowd.refuses(key=key)
            assert refusal is not None
            assert refusal.retry_after == timedelta(seconds=9)
        assert crowd.throttled == ["sts", "issuer"]


def _wait_of_its_own() -> Transient:
    return Transient("AADSTS90055", "busy", hint="wait", retry_after=timedelta(seconds=9))


class TestSlots:
    """Row 55: a host that hangs takes no more than its share of the workers."""

    def test_fault_55_a_host_has_so_many_slots_whoever_asks(self, crowd: Crowd) -> None:
        """Accounts and realms of one host share them, or a vendor that hangs would hold all workers."""
        policy = ObjectKey("team", "p")
        entered, reasons = 0, set()
        crowd.circuits._seconds = impatient(crowd.seconds)
        for number in range(3 * SLOTS):
            key = CircuitKey.of_url("issuer", f"https://idp.example/realms/{number}/token")
            try:
                crowd.circuits.enter(key, policy)
            except NotAsked as refusal:
                reasons.add(refusal.reason)
            else:
                entered += 1
        assert (entered, reasons) == (SLOTS, {"IssuerBusy"})

    def test_invariant_13_slots_are_shared_by_namespace(self, crowd: Crowd) -> None:
        """One that hangs with all slots leaves one for a newcomer; two that hang leave a quarter."""
        count = together(crowd, lambda number: f"team-{number % 2}/p")
        assert SLOTS // 2 < count <= SLOTS + 1 - (SLOTS + 1) // 4

    def test_i5_waiting_for_a_slot_ends_with_the_deadline(self) -> None:
        """Who finds no slot waits no longer than its own time limit, and is told so by class."""
        circuits, policy = CircuitBreakers(slots=1), ObjectKey("team", "p")
        leave, inside = threading.Event(), threading.Barrier(2)

        def visit() -> None:
            with circuits.asking(policy), circuits.of(TOKEN).slot():
                inside.wait(10)
                leave.wait(10)

        visitor = threading.Thread(target=visit)
        visitor.start()
        inside.wait(10)
        with (
            pytest.raises(NotAsked, match="has not answered those who asked before") as caught,
            deadline(timedelta(milliseconds=50)),
            circuits.asking(policy),
            circuits.of(TOKEN).slot(),
        ):
            pass
        leave.set()
        visitor.join()
        assert caught.value.reason == "IssuerBusy"


class TestFreeSlots:
    """I13, row 55: who found no slot tries again when one is free, not when its own back-off is over."""

    def fill(self, crowd: Crowd, busy: list[str], key: CircuitKey = TOKEN) -> list[float]:
        """Have all slots of a lone namespace taken, and these policies find none."""
        began = [crowd.circuits.enter(key, ObjectKey("team", f"holder-{number}")) for number in range(SLOTS)]
        crowd.circuits._seconds = impatient(crowd.seconds)
        for policy in busy:
            refusal = crowd.refuses(policy=policy, key=key)
            assert refusal is not None
            assert (refusal.reason, refusal.is_refusal) == ("IssuerBusy", True)
        crowd.circuits._seconds = crowd.seconds
        return began

    def leave(self, crowd: Crowd, began: list[float], count: int = 1, end: BaseException | None = None) -> None:
        """Give slots back."""
        for _ in range(count):
            crowd.circuits.leave(TOKEN, ObjectKey("team", "holder"), began.pop(), end)

    def test_fault_55_as_many_are_named_as_slots_are_free(self, crowd: Crowd) -> None:
        """One slot, one policy, in order of arrival; nobody before one is free, and the rest as those leave."""
        began = self.fill(crowd, [f"team/p{number}" for number in range(5)])
        assert crowd.woken() == []
        self.leave(crowd, began)
        assert crowd.woken() == ["p0"]
        assert crowd.woken() == []
        self.leave(crowd, began, 2)
        assert crowd.woken() == ["p1", "p2"]
        crowd.ask(policy="team/p0")
        assert crowd.woken() == ["p3"]

    def test_fault_55_a_failure_frees_a_slot_too(self, crowd: Crowd) -> None:
        """However the one before has ended."""
        began = self.fill(crowd, ["team/p"])
        self.leave(crowd, began, end=TimeoutError())
        assert crowd.woken() == ["p"]

    def test_invariant_13_free_slots_go_round_by_namespace(self, crowd: Crowd) -> None:
        """A namespace of which many found none stands before nobody else's."""
        began = self.fill(crowd, [*(f"many/{number}" for number in range(20)), "few/only"])
        self.leave(crowd, began, 4)
        assert "only" in crowd.woken()

    def test_one_that_does_not_come_is_expected_for_a_moment(self, crowd: Crowd) -> None:
        """Its slot goes to the next one."""
        began = self.fill(crowd, ["team/p0", "team/p1"])
        self.leave(crowd, began)
        assert crowd.woken() == ["p0"]
        crowd.later(EXPECTED_S - 0.1)
        assert crowd.woken() == []
        crowd.later(0.1)
        assert crowd.woken() == ["p1"]

    def test_one_that_failed_otherwise_is_not_expected(self, crowd: Crowd) -> None:
        """It keeps the pace of its own failure, and its slot goes to the next one."""
        began = self.fill(crowd, ["team/p0", "team/p1"])
        self.leave(crowd, began)
        assert crowd.woken() == ["p0"]
        elsewhere = CircuitKey.of_url("issuer", "https://elsewhere.example/token")
        crowd.fail(Denied("AccessDenied", "no", hint="ask"), policy="team/p0", key=elsewhere)
        self.leave(crowd, began)
        assert crowd.woken() == ["p1"]

    def test_another_slot_is_not_the_one_that_it_waits_for(self, crowd: Crowd) -> None:
        """A token that it got on its way to the vendor does not end the wait for the vendor."""
        began = self.fill(crowd, ["team/p"])
        crowd.ask(policy="team/p", key=STS)
        self.leave(crowd, began)
        assert crowd.woken() == ["p"]

    def test_invariant_14_nothing_is_kept_of_who_waited(self, crowd: Crowd) -> None:
        """Neither of those that are gone, nor of those that came."""
        began = self.fill(crowd, [f"team/p{number}" for number in range(9)])
        for number in range(4):
            crowd.circuits.forget(ObjectKey("team", f"p{number}"))
        self.leave(crowd, began, SLOTS)
        for name in crowd.woken():
            crowd.ask(policy=f"team/{name}")
        queue = crowd.circuits._slot_queue
        assert (len(queue), queue._waiting, queue._expected) == (0, {}, {})
