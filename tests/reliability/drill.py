"""The outage drill with a process and real connections, in fast motion; ``make soak`` begins with it.

The issuer, then STS, are away for a quarter of the credentials' life, while every policy wants a new one. Lives, and
with them the daemon's longest pauses, are divided by the same number; one second, the shortest time between two tries,
stays one. ``DRILL`` in the environment sets the number of policies: DRILL=1000 takes lives of five minutes, and eight
minutes in all.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from credrotator.exchange.http.circuit import SLOTS
from credrotator.exchange.http.pauses import FAILURES_TO_OPEN, LONGEST_PAUSE_S
from credrotator.exchange.http.single_flight import FAILURE_LIFE
from credrotator.sandbox import Answer, Hang, Sandbox
from tests.reliability.children import running
from tests.reliability.fleet import Fleet, Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.sandbox import Fault
    from credrotator.sandbox.service import Service

SHORTEST_LIFE = timedelta(minutes=15)
TIMEOUT_S = 5.0
POLL = timedelta(seconds=0.5)


class Drill:
    """A fleet of one ``life``, which two processors, shared with the sandbox, have to renew in a twelfth of it."""

    def __init__(self, fleet: Fleet, life: timedelta) -> None:
        self._fleet, self._life = fleet, life
        self._early = life * 0.06
        self._reader = Reader(fleet, POLL)
        self.complaints: list[str] = []

    def run(self) -> list[str]:
        """Run it; return what was measured."""
        fleet, sandbox = self._fleet, self._fleet.sandbox
        # A token lasts for no more than a part of a wave, so that no token from before an outage outlives it.
        sandbox.issuer.token_life = self._early / 2
        arguments = ["run", "-f", str(fleet.manifests), "--out", str(fleet.out), "--timeout", f"{TIMEOUT_S:.0f}s"]
        environment = {**os.environ, **sandbox.environment()}
        log = fleet.directory / "log"
        measured = [f"{fleet.count} policies, lives of {self._life.total_seconds():.0f} s"]
        self._reader.start()
        try:
            with running(*arguments, log=log, environment=environment, constants=self._constants()) as daemon:
                self._check(
                    self._reader.wait_for(fleet.policies, {}, self._life / 2), "the first credentials take too long"
                )
                measured.append(self._outage(sandbox.issuer, Answer(503)))
                measured.append(self._outage(sandbox.sts, Hang()))
                self._check(daemon.wait(0) is None, "the daemon ended by itself")
        finally:
            self._reader.stop()
        self.complaints += [f"{policy} expired at {at}" for policy, at in self._reader.expiries]
        self.complaints += self._reader.complaints
        return [*measured, f"{self._reader.reads} reads"]

    def _constants(self) -> dict[str, object]:
        """Return the daemon's longest pauses, in fast motion."""
        scale = self._life / SHORTEST_LIFE
        return {
            "credrotator.exchange.http.pauses:LONGEST_PAUSE_S": max(1.0, LONGEST_PAUSE_S * scale),
            "credrotator.exchange.http.single_flight:FAILURE_LIFE": FAILURE_LIFE * scale,
        }

    def _check(self, holds: bool, complaint: str) -> None:  # noqa: FBT001 - reads as an assertion
        if not holds:
            self.complaints.append(complaint)

    def _outage(self, service: Service, fault: Fault) -> str:
        """Let a service be away while everything falls due; return how it went."""
        away, recovery = self._life / 4, self._life / 12
        begins_s = self._next_wave_s() - self._early.total_seconds()
        _wait_until(begins_s)
        tries = service.requests.total
        with service.faults.add(fault):
            _wait_until(begins_s + away.total_seconds())
            tries = service.requests.total - tries
            overdue = {policy for policy in self._fleet.policies if self._due_s(policy) <= time.time()}
            before = {policy: len(self._reader.seen[policy]) for policy in overdue}
        back_s = time.monotonic()
        recovered = self._reader.wait_for(overdue, before, recovery)
        took_s = time.monotonic() - back_s
        missing = [policy for policy in overdue if len(self._reader.seen[policy]) <= before[policy]]
        self._check(len(overdue) > self._fleet.count / 2, "the outage fell into a time when nothing was due")
        self._check(recovered, f"{len(missing)} of {len(overdue)} policies were not back after {took_s:.1f} s")
        # As many as may be inside when it begins, the failures that open the breaker, and one trial for each pause.
        bound = SLOTS + FAILURES_TO_OPEN + away.total_seconds() / 1.0
        self._check(tries <= bound, f"{tries} tries at {service.name}")
        return (
            f"{service.name} away for {away.total_seconds():.0f} s ({type(fault).__name__}): {len(overdue)} overdue, "
            f"{tries} tries, all back after {took_s:.1f} s of {recovery.total_seconds():.1f}"
        )

    def _next_wave_s(self) -> float:
        """Return when the middle half of the policies begins to fall due, which may be well after the first.

        If that time is over, it is the next one, after their renewal.
        """
        while True:
            due_s = sorted(self._due_s(policy) for policy in self._fleet.policies)[self._fleet.count // 4]
            if due_s - self._early.total_seconds() > time.time():
                return due_s
            time.sleep(0.5)

    def _due_s(self, policy: str) -> float:
        """Return by when a policy's credential is to be renewed."""
        return (self._reader.latest(policy).issued + self._life / 2).timestamp()


def _wait_until(moment_s: float) -> None:
    while (left_s := moment_s - time.time()) > 0:
        time.sleep(min(left_s, 0.5))


@contextlib.contextmanager
def _fleet(policies: int, life: timedelta) -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="credrotator-drill-") as name, Sandbox(Path(name) / "sandbox") as sandbox:
        fleet = Fleet(sandbox, Path(name), policies, (life,))
        fleet.write()
        yield fleet


def drill() -> bool:
    """Run it as the environment says, print what was measured, tell whether all went as it should."""
    policies = int(os.environ.get("DRILL", "150"))
    life = timedelta(seconds=max(60.0, 0.3 * policies))
    with _fleet(policies, life) as fleet:
        outages = Drill(fleet, life)
        lines = outages.run()
    for line in [*lines, *outages.complaints]:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    return not outages.complaints


if __name__ == "__main__":
    sys.exit(0 if drill() else 1)
