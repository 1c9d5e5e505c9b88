"""The work queue beside a model of it, and under many threads."""

from __future__ import annotations

import threading
import time
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from credrotator.core.model import ObjectKey
from credrotator.rotation.workqueue import ROUTINE, SOON, URGENT, WorkQueue
from tests.daemon.taking import taken, tenant
from tests.support.waiting import LIMIT_S, eventually


def test_fault_48_ten_thousand_keys_cost_little_each() -> None:
    """Taking a key looks at no more than what hangs, however many wait: counted, not timed."""
    asked = 0

    def limit(_: str) -> int:
        nonlocal asked
        asked += 1
        return 4

    work = WorkQueue(16, lambda key: key.name[-1], limit)
    for key in (*tenant("a", 5000), *tenant("b", 5000)):
        work.add(key)
    handled = 0
    while turn := taken(work):
        work.done(turn)
        handled += 1
    assert handled == 10_000
    assert asked <= 20_000
    assert not work._waiting
    assert not any(work._classes)


def test_many_workers_lose_nothing() -> None:
    """Real threads: each key is handled by one worker at a time, and after its last add at least once."""
    keys = [ObjectKey("default", str(number)) for number in range(50)]
    work = WorkQueue(8, lambda key: f"lane-{int(key.name) % 3}", lambda _: 2)
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


class QueueMachine(RuleBasedStateMachine):
    """The queue beside a model that knows only sets: what waits, how urgently, where, and what is handled."""

    KEYS = st.builds(ObjectKey, st.sampled_from(["one", "two", "three"]), st.sampled_from("abc"))
    LANES = st.sampled_from(["", "x", "y"])

    @initialize(workers=st.integers(1, 9))
    def begin(self, workers: int) -> None:
        self.workers = workers
        self.lanes: dict[ObjectKey, str] = {}
        self.limit = 1
        self.work = WorkQueue(workers, lambda key: self.lanes.get(key, ""), lambda _: self.limit)
        self.waiting: dict[ObjectKey, tuple[int, str]] = {}
        self.handled: dict[ObjectKey, str] = {}
        self.again: dict[ObjectKey, tuple[int, str]] = {}
        self.known: set[str] = set()

    def may(self, key: ObjectKey, lane: str) -> bool:
        """Say what the module's docstring says."""
        free = self.workers - len(self.handled)
        held = sum(other.namespace == key.namespace for other in self.handled)
        busy = sum((other.namespace, each) == (key.namespace, lane) for other, each in self.handled.items())
        if not free or (lane and busy >= self.limit):
            return False
        if not held:
            return True
        if len(self.known) > 1:
            return held < max(1, self.workers // 2) and free > self.workers // 4
        return free > (1 if self.workers >= 4 else 0)

    @rule(key=KEYS, priority=st.sampled_from([URGENT, SOON, ROUTINE]))
    def add(self, key: ObjectKey, priority: int) -> None:
        self.work.add(key, priority)
        place = self.again if key in self.handled else self.waiting
        urgency = place.get(key, (priority, ""))[0]
        place[key] = (min(urgency, priority), self.lanes.get(key, ""))
        self.known.add(key.namespace)

    @rule(key=KEYS, lane=LANES)
    def edit(self, key: ObjectKey, lane: str) -> None:
        self.lanes[key] = lane

    @rule()
    def take(self) -> None:
        key = taken(self.work)
        able = {key: priority for key, (priority, lane) in self.waiting.items() if self.may(key, lane)}
        if key is None:
            assert not able, f"{able} could be handled, and nothing was handed out"
            return
        assert key not in self.handled, "two workers on one key"
        assert key in able, "handed out without being asked for, or over its namespace's share or its lane's limit"
        assert able[key] == min(able.values()), "something more urgent waited"
        self.handled[key] = self.waiting.pop(key)[1]

    @precondition(lambda self: bool(getattr(self, "handled", None)))
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.handled)))
        self.work.done(key)
        del self.handled[key]
        if key in self.again:
            self.waiting[key] = self.again.pop(key)

    @precondition(lambda self: bool(getattr(self, "handled", None)))
    @rule(data=st.data())
    def begin_work(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.handled)))
        self.work.begin(key)
        self.again.pop(key, None)

    @precondition(lambda self: bool(getattr(self, "handled", None)))
    @rule(data=st.data())
    def leave_lane(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.handled)))
        self.work.leave_lane(key)
        self.handled[key] = ""

    @invariant()
    def counted(self) -> None:
        if hasattr(self, "work"):
            assert len(self.work) == len(self.waiting) + len(self.again)

    def teardown(self) -> None:
        """Whatever happened, all that waits comes out in the end: no key is lost."""
        while hasattr(self, "work") and (self.waiting or self.handled):
            self.take()
            for key in list(self.handled):
                self.work.done(key)
                del self.handled[key]
                if key in self.again:
                    self.waiting[key] = self.again.pop(key)


TestQueueMachine = QueueMachine.TestCase


TestQueueMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
