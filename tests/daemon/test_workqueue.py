"""The keyed queue: client-go's semantics, priorities, lanes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from credrotator.core.model import ObjectKey
from credrotator.rotation.workqueue import ROUTINE, SOON, URGENT, WorkQueue
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

A, B, C, D = (ObjectKey("default", name) for name in "abcd")


def queue(lanes_of: Callable[[ObjectKey], tuple[str, ...]] = lambda _: (), limit: int = 1) -> WorkQueue:
    """Return a queue; by default its keys depend on nothing."""
    return WorkQueue(lanes_of, lambda _: limit)


def taken(work: WorkQueue) -> ObjectKey | None:
    """Take what can be taken at this moment."""
    return work.get(timeout_s=0)


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
        work = queue(lambda _: ("x",))
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
        work, got = queue(lambda _: ("x",)), []
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
    """What depends on one endpoint takes a bounded number of workers."""

    def test_limit(self) -> None:
        """A full lane lets the rest of the queue flow past, and lets its own go on as room comes."""
        work = queue(lambda key: ("idp",) if key != D else (), limit=2)
        for key in (A, B, C, D):
            work.add(key, URGENT)
        assert [taken(work) for _ in range(4)] == [A, B, D, None]
        work.done(B)
        assert taken(work) == C

    def test_several_lanes(self) -> None:
        """A key needs room in each of its lanes; one that waits for one lane does not hold up the other."""
        lanes = {A: ("idp", "sts"), B: ("idp", "entra"), C: ("other", "entra"), D: ("other", "sts")}
        work = queue(lanes.__getitem__)
        for key in (A, B, C, D):
            work.add(key)
        assert [taken(work) for _ in range(3)] == [A, C, None]
        work.done(A)
        # idp is free for B, which now waits for entra; sts is free for D, which waits for other.
        assert taken(work) is None
        work.done(C)
        assert {taken(work), taken(work), taken(work)} == {B, D, None}

    def test_moved_to_another_lane(self) -> None:
        """A policy that was edited to name another issuer does not wait behind the old one."""
        lanes = {A: ("hangs",), B: ("hangs",)}
        work = queue(lambda key: lanes[key])
        work.add(A)
        work.add(B, SOON)
        assert taken(work) == B
        assert taken(work) is None
        lanes[A] = ("well",)
        work.add(A)
        assert taken(work) == A

    def test_moved_while_handled(self) -> None:
        """An edit that comes while the policy hangs counts for the look after it."""
        lanes = {A: ("hangs",), B: ("well",)}
        work = queue(lambda key: lanes[key])
        work.add(A)
        assert taken(work) == A
        lanes[A] = ("well",)
        work.add(A)
        work.add(B)
        assert taken(work) == B
        work.done(A)
        assert taken(work) is None
        work.done(B)
        assert taken(work) == A

    def test_next_one_comes_up_though_the_first_moved_away(self) -> None:
        """Room that was meant for a key that left its lane goes to the next of that lane."""
        lanes = {A: ("x",), B: ("x",), C: ("x",)}
        work = queue(lambda key: lanes[key])
        for key in (A, B, C):
            work.add(key)
        assert [taken(work), taken(work)] == [A, None]
        work.done(A)
        lanes[B] = ("y",)
        work.add(B)
        assert {taken(work), taken(work)} == {B, C}


def test_many_workers_lose_nothing() -> None:
    """Real threads: each key is handled by one worker at a time, and after its last add at least once."""
    keys = [ObjectKey("default", str(number)) for number in range(50)]
    work = WorkQueue(lambda key: (f"lane-{int(key.name) % 3}",), lambda _: 2)
    lock, handling, asked, seen = threading.Lock(), set[ObjectKey](), Counter[ObjectKey](), Counter[ObjectKey]()
    busy, wrong = Counter[int](), list[str]()

    def handle() -> None:
        while (key := work.get()) is not None:
            lane = int(key.name) % 3
            with lock:
                busy[lane] += 1
                if key in handling or busy[lane] > 2:
                    wrong.append(str(key))
                handling.add(key)
                seen[key] = asked[key]
            time.sleep(0)
            with lock:
                handling.discard(key)
                busy[lane] -= 1
            work.done(key)

    workers = [threading.Thread(target=handle) for _ in range(8)]
    for worker in workers:
        worker.start()
    for number in range(2000):
        key = keys[number * 7 % 50]
        with lock:
            asked[key] += 1
        work.add(key, number % 3)
    eventually(lambda: not len(work) and not handling and seen == asked)
    work.close()
    for worker in workers:
        worker.join(LIMIT_S)
    assert not wrong


def test_a_lane_that_grows_and_shrinks() -> None:
    """The limit of the moment counts: more come up at once when it has grown, none when it has shrunk."""
    limit = 1
    work = WorkQueue(lambda _: ("x",), lambda _: limit)
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
    work = WorkQueue(lambda key: ("x",) if key in {A, B, C} else (), lambda _: 1)
    for key in (A, B, C, D):
        work.add(key)
    assert {taken(work), taken(work)} == {A, D}
    assert taken(work) is None
    assert (work.backlog(), len(work)) == (0, 2)
    work.done(A)
    assert (work.backlog(), len(work)) == (1, 2)


class QueueMachine(RuleBasedStateMachine):
    """The queue beside a model that knows only sets: what waits, how urgently, where, and what is handled."""

    KEYS = st.sampled_from([A, B, C, D])
    LANES = st.sampled_from([(), ("x",), ("y",), ("x", "y"), ("y", "x"), ("z", "x")])

    def __init__(self) -> None:
        super().__init__()
        self.lanes: dict[ObjectKey, tuple[str, ...]] = {}
        self.limit = 1
        self.work = WorkQueue(lambda key: self.lanes.get(key, ()), lambda _: self.limit)
        self.waiting: dict[ObjectKey, tuple[int, tuple[str, ...]]] = {}
        self.handled: dict[ObjectKey, tuple[str, ...]] = {}
        self.again: dict[ObjectKey, tuple[int, tuple[str, ...]]] = {}

    def room(self, lanes: tuple[str, ...]) -> bool:
        busy = Counter(lane for others in self.handled.values() for lane in others)
        return all(busy[lane] < self.limit for lane in lanes)

    @rule(key=KEYS, priority=st.sampled_from([URGENT, SOON, ROUTINE]))
    def add(self, key: ObjectKey, priority: int) -> None:
        self.work.add(key, priority)
        place = self.again if key in self.handled else self.waiting
        known = place.get(key, (priority, ()))[0]
        place[key] = (min(known, priority), self.lanes.get(key, ()))

    @rule(key=KEYS, lanes=LANES)
    def edit(self, key: ObjectKey, lanes: tuple[str, ...]) -> None:
        self.lanes[key] = lanes

    @rule()
    def take(self) -> None:
        key = taken(self.work)
        able = {key: priority for key, (priority, lanes) in self.waiting.items() if self.room(lanes)}
        if key is None:
            assert not able, f"{able} could be handled, and nothing was handed out"
            return
        assert key not in self.handled, "two workers on one key"
        assert key in able, "handed out without being asked for, or over its lane's limit"
        assert able[key] == min(able.values()), "something more urgent waited"
        self.handled[key] = self.waiting.pop(key)[1]

    @precondition(lambda self: self.handled)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.handled)))
        self.work.done(key)
        del self.handled[key]
        if key in self.again:
            self.waiting[key] = self.again.pop(key)

    @invariant()
    def counted(self) -> None:
        assert len(self.work) == len(self.waiting) + len(self.again)

    def teardown(self) -> None:
        """Whatever happened, all that waits comes out in the end: no key is lost."""
        while self.waiting or self.handled:
            self.take()
            for key in list(self.handled):
                self.work.done(key)
                del self.handled[key]
                if key in self.again:
                    self.waiting[key] = self.again.pop(key)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
