"""The gate before an endpoint: bounded room, patience when it is asked for, one probe while it is down."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import Denied, Outage, Transient
from credrotator.exchange.http.circuit import FAILURES_TO_OPEN, SLOTS, CircuitBreaker
from credrotator.exchange.http.deadline import deadline
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from credrotator.core.errors import RotationError
    from tests.support.exchanging import Backend


class Seconds:
    """Seconds that a test lets grow."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def down(reason: str = "StsUnreachable", retry_after: timedelta | None = None) -> Transient:
    """A failure of the endpoint."""
    return Transient(reason, "no answer", hint="see whether it is up", retry_after=retry_after)


def fail(circuit: CircuitBreaker, error: RotationError) -> None:
    """Go through the gate and come back with a failure."""
    with pytest.raises(type(error)), circuit.slot():
        raise error


def closed(circuit: CircuitBreaker) -> bool:
    """Tell whether the gate refuses; a turn that it lets through ends well."""
    try:
        with circuit.slot():
            return False
    except Transient:
        return True


@pytest.fixture
def seconds() -> Seconds:
    """A clock of the test's own."""
    return Seconds()


@pytest.fixture
def recovered() -> list[int]:
    """One entry for each time that a gate has opened again."""
    return []


@pytest.fixture
def circuit(seconds: Seconds, recovered: list[int]) -> CircuitBreaker:
    """A gate that is open."""
    return CircuitBreaker(lambda: recovered.append(1), seconds=seconds)


def test_i7_some_failures_in_a_row_close_it(circuit: CircuitBreaker) -> None:
    """While an endpoint fails it is not asked by everybody: after some failures in a row the rest fail at once."""
    for _ in range(FAILURES_TO_OPEN - 1):
        fail(circuit, down())
    assert not closed(circuit)
    for _ in range(FAILURES_TO_OPEN):
        fail(circuit, down())
    with pytest.raises(Transient, match="not asked again for 1 s") as caught, circuit.slot():
        pass
    assert caught.value.reason == "StsUnreachable"
    assert caught.value.retry_after == timedelta(seconds=1)


def test_i7_one_probe_at_a_time_at_doubling_intervals(
    circuit: CircuitBreaker, seconds: Seconds, recovered: list[int]
) -> None:
    """A closed gate lets one through when the pause is over; if that fails too, the pause doubles, up to a ceiling."""
    for _ in range(FAILURES_TO_OPEN):
        fail(circuit, down())
    pauses = []
    for _ in range(7):
        start = seconds.now
        while closed_without_probing(circuit):
            seconds.now += 1
        pauses.append(seconds.now - start)
        fail(circuit, down())
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    seconds.now += 30
    assert not closed(circuit)
    assert recovered == [1]
    assert not closed(circuit)


def closed_without_probing(circuit: CircuitBreaker) -> bool:
    """Tell whether the gate refuses, without taking the probe's place."""
    try:
        circuit._refuse_if_open()
    except Transient:
        return True
    return False


def test_i7_the_probe_keeps_others_out(circuit: CircuitBreaker, seconds: Seconds) -> None:
    """While the probe is away nobody else is let through."""
    for _ in range(FAILURES_TO_OPEN):
        fail(circuit, down())
    seconds.now += 1
    with circuit.slot():
        assert closed(circuit)
    assert not closed(circuit)


def test_fault_16_throttling_halves_the_room_and_is_obeyed(circuit: CircuitBreaker, seconds: Seconds) -> None:
    """Throttling is the endpoint's: everybody waits for as long as it wished, and fewer come at a time afterwards."""
    fail(circuit, down("StsThrottled", timedelta(seconds=20)))
    assert closed(circuit)
    seconds.now += 19
    assert closed(circuit)
    seconds.now += 2
    assert not closed(circuit)
    assert together(circuit) == SLOTS // 2
    for _ in range(SLOTS * SLOTS):
        assert not closed(circuit)
    assert together(circuit) == SLOTS


def together(circuit: CircuitBreaker) -> int:
    """Count how many the gate lets in at a time."""
    inside, leave = list[int](), threading.Event()

    def visit() -> None:
        with circuit.slot():
            inside.append(1)
            leave.wait(LIMIT_S)

    visitors = [threading.Thread(target=visit) for _ in range(SLOTS + 4)]
    for visitor in visitors:
        visitor.start()
    waiting = circuit._changed._waiters  # type: ignore[attr-defined]
    eventually(lambda: len(inside) + len(waiting) == len(visitors))
    count = len(inside)
    leave.set()
    for visitor in visitors:
        visitor.join()
    return count


def test_i5_waiting_for_room_ends_with_the_deadline(circuit: CircuitBreaker) -> None:
    """Who finds no room waits no longer than its own deadline."""
    leave, inside = threading.Event(), threading.Barrier(SLOTS + 1)

    def visit() -> None:
        with circuit.slot():
            inside.wait(LIMIT_S)
            leave.wait(LIMIT_S)

    visitors = [threading.Thread(target=visit) for _ in range(SLOTS)]
    for visitor in visitors:
        visitor.start()
    inside.wait(LIMIT_S)
    with pytest.raises(TimeoutError), deadline(timedelta(milliseconds=50)), circuit.slot():
        pass
    leave.set()
    for visitor in visitors:
        visitor.join()


def test_a_refusal_is_no_failure_of_the_endpoint(circuit: CircuitBreaker) -> None:
    """A no to one policy says that the endpoint is well, however often it is said."""
    for _ in range(3 * FAILURES_TO_OPEN):
        fail(circuit, Denied("AccessDenied", "no", hint="ask"))
        fail(circuit, down("IDPCommunicationError"))
    assert not closed(circuit)


@pytest.mark.parametrize("reason", ["StsUnreachable", "EntraTimeout", "InvalidResponse", "CredentialExpired"])
def test_fault_17_what_tells_of_the_endpoint(circuit: CircuitBreaker, reason: str) -> None:
    """Failures that everybody meets close it: no answer, garbage, and credentials that have expired when they come."""
    for _ in range(FAILURES_TO_OPEN):
        fail(circuit, down(reason))
    assert closed(circuit)


def test_fault_22_an_outage_by_any_name(circuit: CircuitBreaker) -> None:
    """A vendor's own code as reason says nothing to the gate; that it is an outage is said beside it."""
    for _ in range(FAILURES_TO_OPEN):
        fail(circuit, Outage("AADSTS90033", "away", hint="wait"))
    assert closed(circuit)


def test_an_issuer_throttles_one_client_only(seconds: Seconds) -> None:
    """Throttling by an issuer is seen to per client; its gate stays open for other clients."""
    circuit = CircuitBreaker(lambda: None, throttles=False, seconds=seconds)
    fail(circuit, down("IssuerThrottled", timedelta(minutes=1)))
    assert not closed(circuit)


def test_fault_17_a_dead_sts_is_asked_a_bounded_number_of_times(world: Backend) -> None:
    """With STS away, a hundred exchanges reach it some times only; the others fail at once, with the same reason."""
    exchanger = world.exchanger()
    world.sandbox.sts.stop()
    try:
        reasons = set()
        for _ in range(100):
            with pytest.raises(Transient) as caught:
                world.exchange_aws(exchanger)
            reasons.add(caught.value.reason)
        assert reasons == {"StsUnreachable"}
        assert "not asked again" in caught.value.message
    finally:
        world.sandbox.sts.start()
