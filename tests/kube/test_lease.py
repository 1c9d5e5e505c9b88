"""Leader election: at most one believes in itself at any time, and there is one again soon.

Time passes when a test lets it; only the tries come by the machine's clock, and soon. Each elector has a client of its
own, so that one can be cut off.
"""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from credrotator.core.model import ObjectKey
from credrotator.kube.client import leader_election as module
from credrotator.kube.client.leader_election import LeaderElection, LeaseTiming
from credrotator.kube.client.lease_term import LeaseTerm
from tests.support.twins import Told
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

LEASE = ObjectKey("default", "credrotator")
OFTEN = LeaseTiming(retry_period=timedelta(seconds=0.02))
HURRIED = LeaseTiming(timedelta(seconds=2), timedelta(seconds=1), timedelta(seconds=0.02))
"""Where a server hangs: it is waited for half of the deadline, by the machine's clock."""
STEP_S = 3.0
"""Shorter than the deadline, so that a holder that works renews in time."""


class Time:
    """What all electors have in common."""

    now_s = 0.0


class Clock:
    """Both clocks of a process; a test moves them."""

    def __init__(self, time: Time) -> None:
        self._time = time
        self.offset = timedelta()
        self.slept_s = 0.0

    def wall(self) -> datetime:
        return datetime(2026, 11, 24, tzinfo=UTC) + timedelta(seconds=self._time.now_s) + self.offset

    def seconds(self) -> float:
        return self._time.now_s + self.slept_s


class Electors:
    """Electors that are stopped with the test, and what they were told."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.time = Time()
        self.running: dict[str, LeaderElection] = {}
        self.clocks: dict[str, Clock] = {}
        self.apis: list[KubeApi] = []
        self.told: list[str] = []
        self.overlaps = 0

    def start(self, name: str, timing: LeaseTiming = OFTEN) -> LeaderElection:
        clock = self.clocks[name] = Clock(self.time)
        self.apis.append(self.server.api(name))
        election = self.running[name] = LeaderElection(
            self.apis[-1],
            LEASE,
            name,
            LeaseTerm(clock.seconds),
            listener=Told(*(partial(self.told.append, f"{name} {what}") for what in ("started", "stopped", "lost"))),
            timing=timing,
            clock=clock.wall,
        )
        election.start()
        return election

    def leaders(self) -> list[str]:
        return [name for name, election in self.running.items() if election.is_leader()]

    def observe(self, until: list[str]) -> None:
        """Wait until just these lead; count the moments at which more than one did."""

        def is_so() -> bool:
            leaders = self.leaders()
            self.overlaps += len(leaders) > 1
            return leaders == until

        eventually(is_so)

    def have_tried(self, *names: str) -> None:
        """Wait until each of them has begun and ended a try from now on."""
        # One may be on its way; of two, the second began after that.
        before = {name: self._answers(name) for name in names}
        eventually(lambda: all(self._answers(name) >= before[name] + 2 for name in names))

    def pass_time(self, span_s: float, *names: str) -> None:
        """Let time pass, in steps in which each of them tries."""
        ends_s = self.time.now_s + span_s
        while self.time.now_s < ends_s:
            self.time.now_s = min(self.time.now_s + STEP_S, ends_s)
            self.have_tried(*names)
            self.overlaps += len(self.leaders()) > 1

    def _answers(self, name: str) -> int:
        return sum(request.user == name and request.status != 0 for request in self.server.seen(resource="leases"))


@pytest.fixture
def electors(server: ApiServer) -> Iterator[Electors]:
    """Return a group of electors."""
    group = Electors(server)
    yield group
    server.heal()
    for election in group.running.values():
        election.stop()
    for api in group.apis:
        api.close()
    assert not group.overlaps, "two led at once"


def spec(server: ApiServer) -> dict[str, object]:
    """Return the record as it is."""
    found = server.get("leases", LEASE.name)
    assert found
    assert isinstance(found["spec"], dict)
    return found["spec"]


def test_the_first_leads_and_the_second_waits(server: ApiServer, electors: Electors) -> None:
    """A missing Lease is created; who comes later only looks, however long."""
    electors.start("a")
    electors.observe(["a"])
    electors.start("b")
    electors.pass_time(60, "a", "b")
    assert electors.leaders() == ["a"]
    assert electors.told == ["a started"]
    assert electors.running["b"].holder() == "a"
    assert {request.user for request in server.seen("update", "leases")} == {"a"}


def test_the_record_is_what_client_go_writes(server: ApiServer, electors: Electors) -> None:
    """Other tools read it: integers, times with microseconds, transitions counted at each change of holder."""
    electors.start("a")
    electors.observe(["a"])
    first = spec(server)
    assert (first["holderIdentity"], first["leaseDurationSeconds"], first["leaseTransitions"]) == ("a", 15, 0)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", str(first["renewTime"]))
    electors.pass_time(1, "a")
    assert spec(server)["renewTime"] != first["renewTime"]
    renewed = spec(server)
    assert (renewed["acquireTime"], renewed["leaseTransitions"]) == (first["acquireTime"], 0)
    electors.start("b")
    electors.running["a"].stop()
    electors.observe(["b"])
    assert (spec(server)["leaseTransitions"], spec(server)["holderIdentity"]) == (1, "b")


def test_fault_50_a_leader_that_ends_releases_the_lease(server: ApiServer, electors: Electors) -> None:
    """The other need not wait for the whole duration; the leader was told before anybody else could lead."""
    electors.start("a")
    electors.observe(["a"])
    electors.start("b")
    eventually(lambda: electors.running["b"].holder() == "a")
    electors.running["a"].stop()
    assert electors.told[:2] == ["a started", "a stopped"]
    electors.observe(["b"])
    assert electors.time.now_s == 0


def test_a_release_leaves_an_empty_record(server: ApiServer, electors: Electors) -> None:
    """HolderIdentity empty and a duration of a second, as client-go leaves it."""
    electors.start("a")
    electors.observe(["a"])
    server.fail(409, "Conflict", verb="update", times=1)
    electors.running["a"].stop()
    assert (spec(server)["holderIdentity"], spec(server)["leaseDurationSeconds"]) == ("", 1)


def test_who_never_led_releases_nothing(server: ApiServer, electors: Electors) -> None:
    """A standby that ends does not touch the leader's record."""
    electors.start("a")
    electors.observe(["a"])
    electors.start("b")
    eventually(lambda: electors.running["b"].holder() == "a")
    electors.running["b"].stop()
    assert spec(server)["holderIdentity"] == "a"
    assert electors.told == ["a started"]


def test_fault_35_a_leader_that_vanished_is_replaced(server: ApiServer, electors: Electors) -> None:
    """A record of a dead process counts for its duration from when it was first seen, then is taken over."""
    server.create(
        "leases",
        {
            "metadata": {"name": LEASE.name},
            "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 10, "leaseTransitions": 4},
        },
    )
    electors.start("a")
    eventually(lambda: electors.running["a"].holder() == "dead")
    electors.pass_time(9.9, "a")
    assert electors.leaders() == []
    electors.pass_time(0.1, "a")
    electors.observe(["a"])
    assert spec(server)["leaseTransitions"] == 5


@pytest.mark.parametrize("how", ["dropped", "hanging"])
def test_fault_34_a_leader_that_is_cut_off_steps_down_before_another_steps_up(
    server: ApiServer, electors: Electors, how: str
) -> None:
    """Partition: the old leader stops believing at its renew deadline, the new one begins a duration after."""
    electors.start("a", HURRIED)
    electors.observe(["a"])
    electors.start("b", HURRIED)
    eventually(lambda: electors.running["b"].holder() == "a")
    fault = server.drop(user="a") if how == "dropped" else server.delay(float("inf"), user="a")
    electors.pass_time(0.9, "b")
    assert electors.leaders() == ["a"]
    electors.pass_time(0.1, "b")
    assert electors.leaders() == []
    # Whether another one leads is not known: what it knows still counts.
    eventually(lambda: electors.told == ["a started", "a stopped"])
    electors.pass_time(0.9, "b")
    assert electors.leaders() == []
    electors.pass_time(0.1, "b")
    electors.observe(["b"])
    eventually(lambda: electors.told == ["a started", "a stopped", "b started"])
    server.heal(fault)
    electors.have_tried("a", "b")
    assert electors.leaders() == ["b"]
    eventually(lambda: electors.told == ["a started", "a stopped", "b started", "a lost"])


def test_fault_33_leadership_ends_by_itself_while_the_loop_hangs(server: ApiServer, electors: Electors) -> None:
    """``is_leader`` needs no thread to turn False: it is asked right before each write."""
    electors.start("a")
    electors.observe(["a"])
    server.delay(float("inf"), user="a")
    server.wait_for(len(server.requests) + 1)
    electors.clocks["a"].slept_s = 9.9
    assert electors.leaders() == ["a"]
    electors.clocks["a"].slept_s = 10.0
    assert electors.leaders() == []


def test_fault_33_belief_counts_from_before_the_request(server: ApiServer, electors: Electors) -> None:
    """A renewal that was answered late is as old as its request: others may have seen it as early as that."""
    electors.start("a")
    electors.observe(["a"])
    late = server.delay(float("inf"), verb="update", times=1)
    eventually(lambda: late.taken)
    server.drop(user="a")
    electors.clocks["a"].slept_s = 9.0
    seen = len(server.seen())
    server.heal(late)
    server.wait_for(seen + 2)
    electors.clocks["a"].slept_s = 9.9
    assert electors.leaders() == ["a"]
    electors.clocks["a"].slept_s = 10.0
    assert electors.leaders() == []


def test_a_leader_without_an_answer_tries_again_rather_than_looking(server: ApiServer, electors: Electors) -> None:
    """Looking would hang as well, and the time until the deadline is short."""
    electors.start("a")
    electors.observe(["a"])
    looked = len(server.seen("get", "leases"))
    server.drop(verb="update")
    seen = len(server.seen("update"))
    server.wait_for(seen + 3, "update")
    assert electors.leaders() == ["a"]
    assert len(server.seen("get", "leases")) == looked


def test_fault_24_a_leader_that_was_suspended_does_not_wake_up_as_one(server: ApiServer, electors: Electors) -> None:
    """The clock counts suspension: on waking, leadership has ended before the first look at the Lease."""
    electors.start("a")
    electors.observe(["a"])
    server.delay(float("inf"), user="a")
    electors.clocks["a"].slept_s = 3600.0
    assert electors.leaders() == []


def test_fault_23_steps_of_the_wall_clock_mean_nothing(server: ApiServer, electors: Electors) -> None:
    """An hour forward or back, on either side: the leader stays, the standby waits."""
    electors.start("a")
    electors.observe(["a"])
    electors.start("b")
    for hours in (1, -2, 24):
        electors.clocks["a"].offset = timedelta(hours=hours)
        electors.clocks["b"].offset = -timedelta(hours=hours)
        electors.pass_time(2 * STEP_S, "a", "b")
        assert electors.leaders() == ["a"]
    assert electors.told == ["a started"]


def test_of_two_who_take_over_at_once_one_leads(server: ApiServer, electors: Electors) -> None:
    """Each write names the resourceVersion that was seen, so the second gets 409."""
    record = {"holderIdentity": "dead", "leaseDurationSeconds": 1}
    server.create("leases", {"metadata": {"name": LEASE.name}, "spec": record})
    server.delay(0.05, verb="get")
    names = ("a", "b", "c")
    for name in names:
        electors.start(name)
    eventually(lambda: all(electors.running[name].holder() == "dead" for name in names))
    electors.time.now_s += 1.0
    eventually(electors.leaders)
    leaders = electors.leaders()
    electors.have_tried(*names)
    assert electors.leaders() == leaders
    assert len(leaders) == 1


def test_two_who_create_it_at_once(server: ApiServer, electors: Electors) -> None:
    """AlreadyExists is a lost race, nothing more."""
    server.delay(0.1, verb="create")
    electors.start("a")
    electors.start("b")
    eventually(electors.leaders)
    electors.have_tried("a", "b")
    assert len(electors.leaders()) == 1


def test_a_renewal_without_an_answer_is_found_out(server: ApiServer, electors: Electors) -> None:
    """Unknown outcome: the record has moved on, so the leader reads it, finds itself, and goes on."""
    electors.start("a")
    electors.observe(["a"])
    server.drop("after", verb="update", times=3)
    seen = len(server.seen("update"))
    server.wait_for(seen + 8, "update")
    assert electors.leaders() == ["a"]
    assert electors.told == ["a started"]


def test_a_lease_that_somebody_deletes_is_made_again(server: ApiServer, electors: Electors) -> None:
    """The leader notices at its next renewal and stays the leader."""
    electors.start("a")
    electors.observe(["a"])
    server.delete("leases", LEASE.name)
    eventually(lambda: server.get("leases", LEASE.name))
    assert electors.leaders() == ["a"]


def test_a_lease_that_somebody_else_took_is_given_up_at_once(server: ApiServer, electors: Electors) -> None:
    """Whatever was the reason: two never both believe."""
    electors.start("a")
    electors.observe(["a"])
    server.patch("leases", LEASE.name, {"spec": {"holderIdentity": "intruder"}})
    electors.observe([])
    eventually(lambda: electors.told == ["a started", "a stopped", "a lost"])


def test_fault_50_a_server_that_hangs_does_not_keep_a_leader_from_ending(
    server: ApiServer, electors: Electors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Lease is left to expire; who ends has stopped believing before."""
    electors.start("a", HURRIED)
    electors.observe(["a"])
    server.delay(float("inf"), user="a")
    server.wait_for(len(server.requests) + 1)
    electors.running["a"].stop()
    electors.observe([])
    electors.start("b")
    eventually(lambda: electors.running["b"].holder() == "a")
    electors.pass_time(2.0, "b")
    electors.observe(["b"])
    server.delay(float("inf"), user="b")
    server.wait_for(len(server.requests) + 1)
    monkeypatch.setattr(module, "STOP_S", 0.1)
    electors.running["b"].stop()
    assert electors.running["b"]._thread.is_alive(), "it waited for an answer"


def test_refusals_do_not_end_the_election(
    server: ApiServer, electors: Electors, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the right to see Leases nobody leads, which is said once; once it is granted somebody does."""
    server.forbid(resource="leases")
    electors.start("a")
    server.wait_for(3, "get", "leases")
    assert electors.leaders() == []
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    server.permit()
    electors.observe(["a"])


def test_a_defect_in_a_callback_leaves_the_election_running(server: ApiServer) -> None:
    """It is logged; the Lease is still renewed."""
    called = threading.Event()

    def started() -> None:
        called.set()
        raise ZeroDivisionError

    with server.api() as api:
        election = LeaderElection(
            api, LEASE, "a", LeaseTerm(), listener=Told(started, lambda: None, lambda: None), timing=OFTEN
        )
        election.start()
        assert called.wait(LIMIT_S)
        server.wait_for(3, "update", "leases")
        assert election.is_leader()
        election.stop()


@pytest.mark.parametrize("durations", [(10, 10, 2), (15, 10, 9), (15, 10, 0)])
def test_durations_that_cannot_work_are_refused(durations: tuple[int, int, int]) -> None:
    """Client-go's own checks: the holder must give up before others take over, and try more than once."""
    with pytest.raises(ValueError, match="must exceed"):
        LeaseTiming(*(timedelta(seconds=duration) for duration in durations))
