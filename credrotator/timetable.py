"""When to look at which policy, by APScheduler; a job does nothing but call back.

Timers are hints. APScheduler sleeps on a monotonic wait that it computed once, so a stepped clock or a suspended
machine makes it late; the sweep, every few seconds against the wall clock, finds what is overdue. The sweep has a
thread of its own, since a clock that is set back would put off a job of APScheduler by as much (reliability.md 23).
"""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.model import ObjectKey
    from credrotator.ports import Clock

SWEEP = timedelta(seconds=10)


class Timetable:
    """Calls ``due`` for each key at its time, from a thread of its own; soonest first where many are overdue."""

    def __init__(self, due: Callable[[ObjectKey], None], clock: Clock, sweep: timedelta = SWEEP) -> None:
        self._due = due
        self._clock = clock
        self._sweep_every = sweep
        self._lock = threading.Lock()
        self._times: dict[ObjectKey, datetime] = {}
        self._stopping = threading.Event()
        self._sweeper = threading.Thread(target=self._keep_sweeping, name="sweep", daemon=True)
        # Misfires are never dropped: the default grace of a second loses jobs that are due together.
        self._scheduler = BackgroundScheduler(timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True})

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

    def put(self, key: ObjectKey, moment: datetime) -> None:
        """Have a look at the key at that moment, instead of the one that was set before."""
        with self._lock:
            if self._times.get(key) == moment:
                return
            self._times[key] = moment
        if moment <= self._clock():
            self._fire(key)
            return
        self._scheduler.add_job(self._fire, "date", [key], run_date=moment, id=str(key), replace_existing=True)

    def take(self, key: ObjectKey) -> datetime | None:
        """Take the key off the timetable; return when it was due, if it was on it."""
        with self._lock:
            moment = self._times.pop(key, None)
        if moment is not None:
            with contextlib.suppress(JobLookupError):
                self._scheduler.remove_job(str(key))
        return moment

    def sweep(self) -> None:
        """Fire everything whose time has come by the wall clock, whatever the timers think."""
        now = self._clock()
        with self._lock:
            overdue = sorted((moment, key) for key, moment in self._times.items() if moment <= now)
        for _, key in overdue:
            self._fire(key)

    def _keep_sweeping(self) -> None:
        while not self._stopping.wait(self._sweep_every.total_seconds()):
            self.sweep()

    def _fire(self, key: ObjectKey) -> None:
        """Hand the key over; it stays until ``take``, so that a look that got lost is repeated by the sweep."""
        self._due(key)
