"""Made-up time: events in order, machines with clocks of their own, and tasks that run one at a time.

A task is a thread, because the code under test blocks; but a baton goes round, so that exactly one of them runs, and
time moves only when none can. The same calls give the same run, event by event. Nothing here sleeps.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH = datetime(2026, 11, 24, tzinfo=UTC)
"""True time zero."""
Value = TypeVar("Value")


class Stopped(BaseException):
    """The task's process was killed, or the world ends; no ``except Exception`` may catch it."""


class Machine:
    """A computer with a wall clock that can be wrong, which can be suspended."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.kernel, self.name = kernel, name
        self.offset = timedelta(0)
        self.suspended_until_s = 0.0
        self._suspended_s = 0.0

    def clock(self) -> datetime:
        """Return what the wall clock shows."""
        return self.kernel.now + self.offset

    def monotonic(self) -> float:
        """Return seconds that stand still while the machine is suspended, as ``time.monotonic`` does."""
        return self.kernel.now_s - self._suspended_s

    def boottime(self) -> float:
        """Return seconds that only grow, those of suspension included."""
        return self.kernel.now_s

    def suspend(self, span_s: float) -> None:
        """Let nothing run here for a while."""
        if self.suspended_until_s <= self.kernel.now_s:
            self.suspended_until_s = self.kernel.now_s + span_s
            self._suspended_s += span_s


@dataclass(order=True, slots=True)
class Event:
    """Something that happens at a time; on a machine, only while that is not suspended."""

    at_s: float
    order: int
    run: Callable[[], None] = field(compare=False)
    machine: Machine | None = field(compare=False, default=None)
    monotonic: float | None = field(compare=False, default=None)
    cancelled: bool = field(compare=False, default=False)


class Task:
    """A thread that runs only while it has the baton."""

    def __init__(self, kernel: Kernel, machine: Machine, name: str, body: Callable[[], object]) -> None:
        self.machine, self.name = machine, name
        self.killed = self.ended = False
        self.event: Event | None = None
        self._kernel, self._body = kernel, body
        self._go = threading.Lock()
        self._go.acquire()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Make the thread; it waits for the baton."""
        self._thread.start()

    def take_baton(self) -> None:
        """Let it run; to be called by the kernel."""
        self._go.release()

    def give_baton(self) -> None:
        """Wait for the next turn; to be called by the task."""
        self._kernel.returned.release()
        self._go.acquire()
        if self.killed:
            raise Stopped

    def join(self) -> None:
        """Wait for its end, after it was told to end."""
        self._thread.join()

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self.killed:
                self._body()
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - raised where the test sees it
            self._kernel.failure = error
        finally:
            self.ended = True
            self._kernel.returned.release()


class Kernel:
    """The order of events."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.current: Task | None = None
        self.failure: BaseException | None = None
        self.returned = threading.Lock()
        self.returned.acquire()
        self._events: list[Event] = []
        self._order = itertools.count()

    @property
    def now(self) -> datetime:
        """The true time."""
        return EPOCH + timedelta(seconds=self.now_s)

    def at(
        self, delay_s: float, run: Callable[[], None], machine: Machine | None = None, *, timer: bool = False
    ) -> Event:
        """Have something happen; on a suspended machine it waits for its end, and a timer for as much longer."""
        monotonic = machine.monotonic() + delay_s if machine and timer else None
        event = Event(self.now_s + max(0.0, delay_s), next(self._order), run, machine, monotonic)
        heapq.heappush(self._events, event)
        return event

    def spawn(self, machine: Machine, name: str, body: Callable[[], object]) -> Task:
        """Start a task, now."""
        task = Task(self, machine, name, body)
        task.start()
        task.event = self.at(0.0, lambda: self._turn(task), machine)
        return task

    def sleep(self, span_s: float, *, timer: bool = True) -> None:
        """Let the current task wait; not a timer is what comes from elsewhere, such as an answer."""
        task = self._running()
        task.event = self.at(span_s, lambda: self._turn(task), task.machine, timer=timer)
        task.give_baton()

    def park(self) -> Callable[[], None]:
        """Return what wakes the current task, to be called once; the task goes to sleep by ``Signal.wait``."""
        task = self._running()

        def wake() -> None:
            task.event = self.at(0.0, lambda: self._turn(task), task.machine)

        return wake

    def kill(self, task: Task) -> None:
        """End a task where it waits; its ``finally`` blocks run at once."""
        task.killed = True
        if task.event:
            task.event.cancelled = True
        if not task.ended:
            self._turn(task)
        task.join()

    def run(self, until_s: float) -> None:
        """Let everything happen up to a time."""
        while self._events and self._events[0].at_s <= until_s:
            event = heapq.heappop(self._events)
            if event.cancelled or self._postponed(event):
                continue
            self.now_s = max(self.now_s, event.at_s)
            event.run()
            if self.failure:
                raise self.failure
        self.now_s = max(self.now_s, until_s)

    def _postponed(self, event: Event) -> bool:
        machine = event.machine
        if machine is None:
            return False
        later_s = machine.suspended_until_s
        if event.monotonic is not None:
            later_s = max(later_s, event.at_s + event.monotonic - (machine.monotonic() - self.now_s + event.at_s))
        if later_s <= event.at_s + 1e-6:
            return False
        event.at_s = later_s
        heapq.heappush(self._events, event)
        return True

    def _running(self) -> Task:
        assert self.current is not None, "only a task can wait"
        return self.current

    def _turn(self, task: Task) -> None:
        if task.ended:
            return
        outer, self.current = self.current, task
        task.take_baton()
        self.returned.acquire()
        self.current = outer


class Signal:
    """What tasks wait for; stands in for conditions, events and futures of ``threading``."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._waiting: list[Callable[[], None]] = []

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for ``notify``; tell whether it came within the timeout."""
        task, heard = self._kernel._running(), False
        wake = self._kernel.park()

        def notified() -> None:
            nonlocal heard
            heard = True
            if timer:
                timer.cancelled = True
            wake()

        def late() -> None:
            self._waiting.remove(notified)
            self._kernel._turn(task)

        timer = None if timeout_s is None else self._kernel.at(timeout_s, late, task.machine, timer=True)
        task.event = timer
        self._waiting.append(notified)
        try:
            task.give_baton()
        except Stopped:
            if notified in self._waiting:
                self._waiting.remove(notified)
            raise
        return heard

    def notify(self, count: int | None = None) -> None:
        """Wake those who wait, or the first of them."""
        woken, self._waiting = self._waiting[:count], self._waiting[len(self._waiting[:count]) :]
        for wake in woken:
            wake()


class FakeCondition(Signal):
    """``threading.Condition`` for tasks; there is nothing to lock, since one runs at a time."""

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        pass

    def notify_all(self) -> None:
        """Wake all."""
        self.notify()


class FakeEvent(Signal):
    """``threading.Event`` for tasks."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self._set = False

    def is_set(self) -> bool:
        """Tell whether it was set."""
        return self._set

    def set(self) -> None:
        """Set it, and wake all."""
        self._set = True
        self.notify()

    def wait(self, timeout: float | None = None) -> bool:
        return self._set or super().wait(timeout) or self._set


class FakeFuture(Future[Any]):
    """``concurrent.futures.Future`` for tasks."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self._signal = Signal(kernel)
        self.add_done_callback(lambda _: self._signal.notify())

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end, and return what was raised."""
        if not self.done() and not self._signal.wait(timeout):
            raise TimeoutError
        return super().exception(0)
