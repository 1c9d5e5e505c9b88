"""The keyed queue: client-go's semantics, urgency, and fairness between namespaces (I5, I13)."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.model import ObjectKey
from credrotator.rotation.workqueue import MOVING_S, ROUTINE, SOON, URGENT, WorkQueue
from tests.daemon.taking import taken, tenant
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

A, B, C, D = (ObjectKey("default", name) for name in "abcd")


def queue(lane_of: Callable[[ObjectKey], str] = lambda _: "", limit: int = 1, *, workers: int = 16) -> WorkQueue:
    """Return a queue; by default its keys depend on nothing."""
    return WorkQueue(workers, lane_of, lambda _: limit)


def take_all(work: WorkQueue) -> list[ObjectKey]:
    """Take what can be taken, giving nothing back."""
    return list(iter(lambda: taken(work), None))


class TestKeys:
    """Of client-go."""

    def test_once(self) -> None:
        """A key that is added twice before it is taken is handed out once."""
        work = queue()
        work.add(A)
        work.add(A)
        assert (len(work), taken(work), taken(work)) == (1, A, None)

    def test_never_two_workers(self) -> None:
        """A key that is added while it is handled waits until it is given back, and comes once more then."""
        work = queue()
        work.add(A)
        assert taken(work) == A
        work.add(A)
        work.add(A)
        assert (taken(work), len(work)) == (None, 1)
        work.done(A)
        assert taken(work) == A
        work.done(A)
        assert (taken(work), len(work)) == (None, 0)

    def test_close(self) -> None:
        """Workers that wait come back with nothing; what is added later is not taken."""
        work, got = queue(), []
        workers = [threading.Thread(target=lambda: got.append(work.get())) for _ in range(3)]
        for worker in workers:
            worker.start()
        work.close()
        for worker in workers:
            worker.join(LIMIT_S)
        work.add(A)
        assert (got, taken(work), len(work)) == ([None] * 3, None, 0)

    def test_closed_with_keys(self) -> None:
        """Closed means no more looks, though keys wait; one that is handled can still be given back."""
        work = queue()
        work.add(A)
        assert taken(work) == A
        work.add(B)
        work.close()
        assert taken(work) is None
        work.done(A)

    def test_clear(self) -> None:
        """What waits is forgotten, what is handled is not handled twice for it."""
        work = queue(lambda _: "x")
        for key in (A, B, C):
            work.add(key)
        assert taken(work) == A
        assert taken(work) is None
        work.add(A)
        work.clear()
        assert len(work) == 0
        work.add(A)
        assert taken(work) is None
        work.done(A)
        assert taken(work) == A

    def test_discard(self) -> None:
        """A key that is gone waits no longer; one that is handled has to come up once more."""
        work = queue(lambda _: "x")
        for key in (A, B):
            work.add(key)
        assert taken(work) == A
        assert (work.discard(A), work.discard(B), work.discard(C)) == (False, True, True)
        assert len(work) == 0
        work.done(A)
        assert taken(work) is None

    def test_wakes_waiting_workers(self) -> None:
        """A worker that waits gets a key as soon as there is one."""
        work, got = queue(), []
        worker = threading.Thread(target=lambda: got.append(work.get()))
        worker.start()
        work.add(A)
        worker.join(LIMIT_S)
        assert got == [A]

    def test_giving_back_wakes_the_next(self) -> None:
        """A worker that waits for room in a lane gets it when another one gives its key back."""
        work, got = queue(lambda _: "x"), []
        work.add(A)
        assert taken(work) == A
        work.add(B)
        worker = threading.Thread(target=lambda: got.append(work.get(timeout_s=10 * LIMIT_S)), daemon=True)
        worker.start()
        eventually(lambda: work._changed._waiters)  # type: ignore[attr-defined]
        work.done(A)
        worker.join(LIMIT_S)
        assert got == [B]


class TestPriority:
    """Creation and near expiry outrank refresh."""

    def test_order(self) -> None:
        """The most urgent first; of equal ones the one that waited longest."""
        work = queue()
        for key, priority in ((A, ROUTINE), (B, SOON), (C, URGENT), (D, SOON)):
            work.add(key, priority)
        assert [taken(work) for _ in range(5)] == [C, B, D, A, None]

    def test_only_more_urgent(self) -> None:
        """Asking again can make a key more urgent, not less, and never doubles it."""
        work = queue()
        work.add(A, ROUTINE)
        work.add(B, SOON)
        work.add(A, URGENT)
        work.add(A, ROUTINE)
        assert [taken(work) for _ in range(3)] == [A, B, None]

    def test_again(self) -> None:
        """A key that is added while handled keeps the most urgent wish."""
        work = queue()
        work.add(A)
        assert taken(work) == A
        work.add(A, URGENT)
        work.add(A, ROUTINE)
        work.add(B, SOON)
        work.done(A)
        assert [taken(work) for _ in range(2)] == [A, B]


class TestLanes:
    """What depends on one endpoint takes a bounded number of workers, within its namespace."""

    def test_limit(self) -> None:
        """A full lane lets the rest of the queue flow past, and lets its own go on as room comes."""
        work = queue(lambda key: "idp" if key != D else "", limit=2)
        for key in (A, B, C, D):
            work.add(key, URGENT)
        assert [taken(work) for _ in range(4)] == [A, D, B, None]
        work.done(B)
        assert taken(work) == C

    def test_in_turn(self) -> None:
        """Lanes of a namespace are served in turn, however many keys one of them had first."""
        work = queue(lambda key: "idp" if key != D else "other", limit=16)
        for key in (A, B, C, D):
            work.add(key)
        assert [taken(work) for _ in range(4)] == [A, D, B, C]

    def test_a_lane_is_the_namespace_s_own(self) -> None:
        """Who names another's issuer takes no room from it."""
        work = queue(lambda _: "idp")
        theirs = [ObjectKey("mallory", str(number)) for number in range(9)]
        for key in (*theirs, A):
            work.add(key)
        assert [taken(work) for _ in range(3)] == [theirs[0], A, None]

    def test_moved_to_another_lane(self) -> None:
        """A policy that was edited to name another issuer does not wait behind the old one."""
        lanes = {A: "hangs", B: "hangs"}
        work = queue(lambda key: lanes[key])
        work.add(A)
        work.add(B, SOON)
        assert taken(work) == B
        assert taken(work) is None
        lanes[A] = "well"
        work.add(A)
        assert taken(work) == A

    def test_moved_while_handled(self) -> None:
        """An edit that comes while the policy hangs counts for the attempt after it."""
        lanes = {A: "hangs", B: "well"}
        work = queue(lambda key: lanes[key])
        work.add(A)
        assert taken(work) == A
        lanes[A] = "well"
        work.add(A)
        work.add(B)
        assert taken(work) == B
        work.done(A)
        assert taken(work) is None
        work.done(B)
        assert taken(work) == A

    def test_next_one_comes_up_though_the_first_moved_away(self) -> None:
        """Room that was meant for a key that left its lane goes to the next of that lane."""
        lanes = {A: "x", B: "x", C: "x"}
        work = queue(lambda key: lanes[key])
        for key in (A, B, C):
            work.add(key)
        assert [taken(work), taken(work)] == [A, None]
        work.done(A)
        lanes[B] = "y"
        work.add(B)
        assert {taken(work), taken(work)} == {B, C}

    def test_moving_to_and_fro_leaves_nothing_behind(self) -> None:
        """Edits while a policy waits cost no memory (I14)."""
        lanes = {A: "x", B: "x"}
        work = queue(lambda key: lanes[key])
        work.add(A)
        assert taken(work) == A
        for number in range(1000):
            lanes[B] = f"lane-{number}"
            work.add(B, ROUTINE)
        assert sum(len(each) for lanes in work._classes for each in lanes.values()) == 1
        assert len(work._waiting) == 1


class TestFairness:
    """I13: a namespace pays for its own, whatever another one asks for."""

    def test_invariant_13_namespaces_take_turns(self) -> None:
        """A thousand policies that came first stand before none of another namespace but the one in hand."""
        work = queue()
        many, few = tenant("many", 1000), tenant("few", 3)
        for key in (*many, *few):
            work.add(key, URGENT)
        order: list[ObjectKey] = []
        while len(order) < 8 and (turn := taken(work)):
            work.done(turn)
            order.append(turn)
        assert [key for key in order if key in few] == few
        assert order.index(few[2]) <= 6

    @pytest.mark.parametrize(("workers", "most"), [(16, 8), (4, 2), (3, 1), (2, 1), (1, 1)])
    def test_invariant_13_half_of_the_workers_at_most(self, workers: int, most: int) -> None:
        """While another namespace has policies, though they are not due, a namespace holds half of the workers."""
        work = queue(workers=workers)
        idle = ObjectKey("idle", "policy")
        work.add(idle)
        assert taken(work) == idle
        work.done(idle)
        for key in tenant("hangs", 100):
            work.add(key, URGENT)
        held = take_all(work)
        assert len(held) == most
        assert work.backlog() == 0

    def test_invariant_13_a_quarter_is_kept_for_those_that_hold_none(self) -> None:
        """Two namespaces that hang leave a quarter of the workers; one that hangs with them takes one of these."""
        work = queue()
        for key in (*tenant("hangs", 100), *tenant("hangs-too", 100)):
            work.add(key, URGENT)
        held = take_all(work)
        assert Counter(key.namespace for key in held) == {"hangs": 6, "hangs-too": 6}
        for namespace in "abcd":
            for key in tenant(namespace, 5):
                work.add(key, ROUTINE)
        held = take_all(work)
        assert sorted(key.namespace for key in held) == ["a", "b", "c", "d"]

    def test_invariant_13_alone_it_leaves_one_for_the_next(self) -> None:
        """The first policy of a second namespace finds a worker, though all of the first one's hang."""
        work = queue()
        for key in tenant("alone", 100):
            work.add(key, URGENT)
        held = take_all(work)
        assert len(held) == 15
        second = ObjectKey("second", "policy")
        work.add(second, ROUTINE)
        assert taken(work) == second

    def test_all_for_one_again_when_the_other_is_gone(self) -> None:
        """A namespace whose last policy is gone does not count any more; one that is asked for again does."""
        work = queue()
        gone = ObjectKey("gone", "policy")
        work.add(gone)
        assert taken(work) == gone
        work.add(gone)
        work.forget(gone)
        work.done(gone)
        for key in tenant("alone", 100):
            work.add(key)
        assert taken(work) == gone
        assert len(take_all(work)) == 8
        work.forget(gone)
        work.done(gone)
        assert len(take_all(work)) == 7

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=120), st.integers(1, 16))
    def test_invariant_13_nobody_starves(self, adds: list[tuple[str, int]], workers: int) -> None:
        """Of one class, between two turns of a namespace that waits every other one has one at most."""
        work = queue(workers=workers)
        for number, (namespace, priority) in enumerate(adds):
            work.add(ObjectKey(namespace, str(number)), priority)
        waiting = {(priority, namespace): 0 for namespace, priority in adds}
        counts = Counter((priority, namespace) for namespace, priority in adds)
        priorities = {ObjectKey(namespace, str(number)): priority for number, (namespace, priority) in enumerate(adds)}
        while (key := taken(work)) is not None:
            work.done(key)
            turn = (priorities[key], key.namespace)
            counts[turn] -= 1
            waiting[turn] = 0
            for other in waiting:
                if other != turn and other[0] == turn[0] and counts[other]:
                    waiting[other] += 1
            assert all(passed <= 2 for other, passed in waiting.items() if counts[other])
        assert not +counts


def test_a_write_leaves_the_lane() -> None:
    """What is written hangs at nothing: the next of its lane begins, and the place is given back once."""
    work = queue(lambda _: "issuer", limit=1)
    for key in (A, B, C):
        work.add(key)
    assert taken(work) == A
    assert taken(work) is None
    work.leave_lane(A)
    assert taken(work) == B
    assert taken(work) is None
    work.leave_lane(A)
    assert taken(work) is None, "a lane is left once"
    work.done(A)
    assert taken(work) is None, "its place in the lane was given back already"
    work.done(B)
    assert taken(work) == C
    work.leave_lane(D)
    work.done(C)


def test_all_that_wait_find_what_has_become_free() -> None:
    """One wakes the next: when a lane grows, one key that is given back brings as many workers as there is room for."""
    limit = [1]
    work = WorkQueue(8, lambda _: "issuer", lambda _: limit[0])
    began: list[ObjectKey] = []

    def handle() -> None:
        while (key := work.get()) is not None:
            began.append(key)
            gate.wait(LIMIT_S)
            work.done(key)

    gate = threading.Event()
    workers = [threading.Thread(target=handle) for _ in range(6)]
    for key in tenant("alone", 6):
        work.add(key)
    for worker in workers:
        worker.start()
    eventually(lambda: len(began) == 1)
    assert work.get(timeout_s=0.05) is None
    limit[0] = 6
    work.leave_lane(began[0])
    eventually(lambda: len(began) == 6)
    gate.set()
    work.close()
    for worker in workers:
        worker.join(LIMIT_S)
    assert not any(worker.is_alive() for worker in workers)


def test_a_lane_that_grows_and_shrinks() -> None:
    """The limit of the moment counts: more come up at once when it has grown, none when it has shrunk."""
    limit = 1
    work = WorkQueue(16, lambda _: "x", lambda _: limit)
    keys = [ObjectKey("default", f"key-{number}") for number in range(8)]
    for key in keys:
        work.add(key)
    assert taken(work) == keys[0]
    assert taken(work) is None
    limit = 3
    work.done(keys[0])
    assert [taken(work) for _ in range(4)] == [*keys[1:4], None]
    limit = 1
    work.done(keys[1])
    work.done(keys[2])
    assert taken(work) is None
    work.done(keys[3])
    assert [taken(work), taken(work)] == [keys[4], None]


def test_the_backlog_is_what_waits_for_a_worker() -> None:
    """What waits for room in its lane could not be handled if there were more workers."""
    work = WorkQueue(16, lambda key: "x" if key in {A, B, C} else "", lambda _: 1)
    for key in (A, B, C, D):
        work.add(key)
    assert {taken(work), taken(work)} == {A, D}
    assert taken(work) is None
    assert (work.backlog(), len(work)) == (0, 2)


@pytest.mark.parametrize("leaves", [WorkQueue.leave_lane, WorkQueue.done])
def test_a_lane_that_moves(leaves: Callable[[WorkQueue, ObjectKey], None]) -> None:
    """While keys leave a lane, those behind them wait for their turn; a second later, for what hangs."""
    now = [100.0]
    work = WorkQueue(16, lambda key: "x" if key in {A, B, C} else "y", lambda _: 1, lambda: now[0])
    for key in (A, B, C, D):
        work.add(key)
    assert {taken(work), taken(work)} == {A, D}
    # Nobody waits behind it: it says nothing of those in the other lane.
    leaves(work, D)
    assert work.moving() == set()
    leaves(work, A)
    assert work.moving() == {A.namespace}
    assert taken(work) == B
    # What waits for its lane is nothing that another namespace has to wait for.
    assert (work.moving(), work.backlog()) == ({A.namespace}, 0)
    now[0] += MOVING_S
    assert work.moving() == set()


def test_a_namespace_that_waits_for_its_share_moves() -> None:
    """A namespace that has its half of the workers waits for them, if they come back."""
    now = [100.0]
    work = WorkQueue(4, lambda _: "x", lambda _: 4, lambda: now[0])
    work.add(ObjectKey("other", "policy"))
    for key in tenant("many", 10):
        work.add(key)
    held = [key for key in take_all(work) if key.namespace == "many"]
    assert (len(held), work.moving(), work.backlog()) == (2, set(), 0)
    work.done(held[0])
    assert work.moving() == {"many"}
    assert (len(take_all(work)), work.moving()) == (1, {"many"})
    now[0] += MOVING_S
    assert work.moving() == set()


def test_the_memory_of_moving_lanes_ends_with_their_keys() -> None:
    """Lanes are names that tenants choose (I14)."""
    work = WorkQueue(1, lambda key: key.name.partition("-")[0], lambda _: 1)
    for number in range(100):
        work.add(ObjectKey("a", f"{number}-first"))
        work.add(ObjectKey("a", f"{number}-second"))
    seen = 0
    while key := taken(work):
        work.done(key)
        seen = max(seen, len(work._left_s))
    assert (seen > 0, work._left_s) == (True, {})
