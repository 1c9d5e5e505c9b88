"""When which policy is due, by APScheduler; a job does nothing but call back.

A renewal has a moment, since an expiry is one. A retry has a wait, in seconds that only grow: a moment that was
reckoned on a clock that was wrong just then would come an hour late once that is put right (reliability.md 23).

Timers are hints. APScheduler sleeps on a monotonic wait that it computed once, so a stepped clock or a suspended
machine makes it late; the sweep, every few seconds, finds what is overdue. The sweep has a thread of its own, since
a clock that is set back would put off a job of APScheduler by as much.

A timer is set by the sweep, shortly before its time: of ten thousand policies, most are due in hours, and most of these
times are replaced before.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler

from credrotator.core.clock import suspend_aware, system_clock
from credrotator.core.threads import dead

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.model import ObjectKey
    from credrotator.core.ports import Clock

log = logging.getLogger(__name__)

SWEEP = timedelta(seconds=10)
MICROSECONDS = 1e6
SWEEPS_AHEAD = 3
"""A timer is set when it is to ring within so many sweeps; one of them may be late."""


@dataclass(frozen=True, order=True, slots=True)
class _Entry:
    """When a key is due. ``until_s``: where that is the end of a wait, on the seconds that only grow."""

    moment: datetime
    until_s: float | None = None

    def left_s(self, moment: datetime, seconds: float) -> float:
        """Return for how long it is not due yet; ``moment`` and ``seconds`` are now."""
        if self.until_s is not None:
            # A wait is an interval: a clock that is set must make it neither longer nor shorter.
            return self.until_s - seconds
        return (self.moment - moment).total_seconds()


class Timetable:
    """Calls ``due`` for each key at its time, from a thread of its own; soonest first where many are overdue.

    Args:
        due: Called with the key; it stays due until it is taken.
        clock: The present moment; perhaps corrected, so not the one that APScheduler looks at.
        sweep: How often to find what timers missed.
        seconds: Seconds that only grow.
        machine: APScheduler's clock.
    """

    def __init__(
        self,
        due: Callable[[ObjectKey], None],
        clock: Clock,
        sweep: timedelta = SWEEP,
        *,
        seconds: Callable[[], float] = suspend_aware,
        machine: Clock = system_clock,
    ) -> None:
        self._due = due
        self._clock = clock
        self._sweep_every = sweep
        self._ahead_s = SWEEPS_AHEAD * sweep.total_seconds()
        self._seconds = seconds
        self._machine = machine
        self._lock = threading.Lock()
        self._times: dict[ObjectKey, _Entry] = {}
        # What a timer was set for.
        self._timers: dict[ObjectKey, _Entry] = {}
        self._stopping = threading.Event()
        self._sweeper = threading.Thread(target=self._keep_sweeping, name="sweep", daemon=True)
        # One thread rings every timer: ringing is a call that only queues, and the default's ten threads are started
        # one by one over hours, which is not to be told from a leak. Misfires are never dropped: the default grace of a
        # second loses jobs that are due together.
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(max_workers=1)},
            job_defaults={"misfire_grace_time": None, "coalesce": True},
        )

    def start(self) -> None:
        """Begin to keep time."""
        self._scheduler.start()
        self._sweeper.start()

    def stop(self) -> None:
        """Stop; nothing is due any more."""
        self._stopping.set()
        if self._scheduler.running:
            # NOTE: a job that is just being processed would be missed by APScheduler after its shutdown has begun, and
            # end its thread with a traceback; removing all waits for it, and leaves no other.
            self._scheduler.pause()
            self._scheduler.remove_all_jobs()
            self._scheduler.shutdown(wait=True)
            self._sweeper.join()

    def dead(self) -> list[str]:
        """Name the threads of it that have ended though it was not stopped."""
        scheduler: threading.Thread | None = getattr(self._scheduler, "_thread", None)
        return [] if self._stopping.is_set() else dead((self._sweeper, scheduler))

    def put(self, key: ObjectKey, moment: datetime) -> None:
        """Make the key due at that moment, instead of when it was to be before."""
        self._set(key, _Entry(moment))

    def put_after(self, key: ObjectKey, wait: timedelta) -> None:
        """Make the key due when so much time has passed, whatever the clock shows then."""
        self._set(key, _Entry(self._clock() + wait, self._seconds() + wait.total_seconds()))

    def take(self, key: ObjectKey) -> datetime | None:
        """Take the key off the timetable; return when it was due, if it was on it."""
        with self._lock:
            entry, timer = self._times.pop(key, None), self._timers.pop(key, None)
        if timer:
            # It may have rung a moment ago.
            with contextlib.suppress(JobLookupError):
                self._scheduler.remove_job(str(key))
        return entry.moment if entry else None

    def sweep(self) -> None:
        """Fire everything whose time has come, whatever the timers think, and set those that are to ring soon."""
        now = self._now()
        with self._lock:
            left = [(entry.left_s(*now), entry, key) for key, entry in self._times.items()]
            soon = [
                key for left_s, entry, key in left if 0 < left_s <= self._ahead_s and self._timers.get(key) != entry
            ]
        # Soonest first, since after a suspension everything is overdue, and workers are few.
        overdue = sorted((entry.moment, key) for left_s, entry, key in left if left_s <= 0)
        # Outside of the lock: ``due`` takes the queue's, and whoever holds that may be asking for this one.
        for _, key in overdue:
            self._due(key)
        for key in soon:
            self._fire(key)

    def _keep_sweeping(self) -> None:
        while not self._stopping.wait(self._sweep_every.total_seconds()):
            try:
                self.sweep()
            except Exception:
                # Without the sweep a clock that is set back puts renewals off for as long as it was set.
                log.exception("a sweep failed; the next one follows")

    def _set(self, key: ObjectKey, entry: _Entry) -> None:
        with self._lock:
            # Nothing new. Each timer that is set wakes APScheduler's thread.
            if self._times.get(key) == entry:
                return
            self._times[key] = entry
        self._fire(key)

    def _fire(self, key: ObjectKey) -> None:
        """Hand the key over if it is time, else set its timer if that is soon; it stays until it is taken.

        NOTE: APScheduler goes by the machine's clock. Given a moment of the corrected one, a timer would ring at once
        where the machine's is ahead, and the attempt that follows would set it again: thousands a second.
        """
        now = self._now()
        with self._lock:
            entry = self._times.get(key)
            if entry is None:
                return
            # Decided anew when the timer rings: the clock may have been corrected meanwhile, in either direction.
            left_s = entry.left_s(*now)
            if 0 < left_s <= self._ahead_s:
                self._timers[key] = entry
            else:
                # One that has rung is none any more; the sweep sets another when it is time.
                self._timers.pop(key, None)
        if left_s > self._ahead_s:
            return
        if left_s <= 0:
            self._due(key)
            return
        # Rounded up: rung half a microsecond early, it would set itself again and again until its time has come.
        rings_at = self._machine() + timedelta(microseconds=math.ceil(left_s * MICROSECONDS))
        self._scheduler.add_job(self._fire, "date", [key], run_date=rings_at, id=str(key), replace_existing=True)

    def _now(self) -> tuple[datetime, float]:
        return self._clock(), self._seconds()
