"""The issuer, then STS, are away for a quarter of the credentials' life, while every policy wants a new one.

The drill is the shortest life that AWS gives (15 min), in fast motion: lives, and with them the daemon's longest
pauses, are divided by the same number. One second, the shortest time between two tries, stays one.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.exchange.http.circuit import FAILURES_TO_OPEN, LONGEST_PAUSE_S, SLOTS
from credrotator.exchange.http.single_flight import FAILURE_LIFE
from credrotator.sandbox import Answer, Hang, Sandbox
from tests.reliability.children import running
from tests.reliability.fleet import Fleet, Reader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from credrotator.sandbox import Fault
    from credrotator.sandbox.service import Service

POLICIES = int(os.environ.get("DRILL", "150"))
SHORTEST_LIFE = timedelta(minutes=15)
LIFE = timedelta(seconds=max(60.0, 0.3 * POLICIES))
"""What is overdue after an outage has to get through two processors, daemon and sandbox together, within a twelfth of
it. DRILL=1000 takes lives of five minutes, and eight minutes in all."""
SCALE = LIFE / SHORTEST_LIFE
AWAY, RECOVERED = LIFE / 4, LIFE / 12
RENEWED_BY, EARLY = LIFE / 2, LIFE * 0.06
"""Renewals come up to 5 % of the life before that."""
TIMEOUT_S = 5.0


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Policies, and an issuer whose tokens last so short that it is needed all the time."""
    with Sandbox(tmp_path / "sandbox") as sandbox:
        sandbox.issuer.token_life = LIFE / 6
        found = Fleet(sandbox, tmp_path, POLICIES, (LIFE,))
        found.write()
        yield found


def _constants() -> dict[str, object]:
    """Return the daemon's longest pauses, in fast motion."""
    return {
        "credrotator.exchange.http.circuit:LONGEST_PAUSE_S": max(1.0, LONGEST_PAUSE_S * SCALE),
        "credrotator.exchange.http.single_flight:FAILURE_LIFE": FAILURE_LIFE * SCALE,
    }


@pytest.mark.timeout(600)
def test_outage_drill(fleet: Fleet, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No reader sees an expired credential, nobody is hammered, and all is as it was within a twelfth of the life."""
    sandbox = fleet.sandbox
    arguments = ["run", "-f", str(fleet.manifests), "--out", str(fleet.out), "--timeout", f"{TIMEOUT_S:.0f}s"]
    environment = {**os.environ, **sandbox.environment()}
    reader = Reader(fleet, timedelta(seconds=0.5))
    reader.start()
    said = [f"{POLICIES} policies, lives of {LIFE.total_seconds():.0f} s"]
    try:
        with running(*arguments, log=tmp_path / "log", environment=environment, constants=_constants()) as daemon:
            assert reader.wait_for(fleet.policies, {}, LIFE / 2), "the first credentials take too long"
            said.append(_outage(fleet, reader, sandbox.issuer, Answer(503)))
            said.append(_outage(fleet, reader, sandbox.sts, Hang()))
            assert daemon.wait(0) is None
    finally:
        reader.stop()
    with capfd.disabled():
        print("\n" + "\n".join([*said, f"{reader.reads} reads"]))  # noqa: T201 - these are the drill's figures
    assert not reader.expiries
    assert not reader.complaints


def _outage(fleet: Fleet, reader: Reader, service: Service, fault: Fault) -> str:
    """Let a service be away while everything falls due; return how it went."""
    begins_s = _next_wave_s(fleet, reader) - EARLY.total_seconds()
    _wait_until(begins_s)
    tries = service.requests.total
    with service.faults.add(fault):
        _wait_until(begins_s + AWAY.total_seconds())
        tries = service.requests.total - tries
        overdue = {policy for policy in fleet.policies if _due_s(reader, policy) <= time.time()}
        before = {policy: len(reader.seen[policy]) for policy in overdue}
    back_s = time.monotonic()
    recovered = reader.wait_for(overdue, before, RECOVERED)
    took_s = time.monotonic() - back_s
    missing = [policy for policy in overdue if len(reader.seen[policy]) <= before[policy]]
    assert len(overdue) > POLICIES / 2, "the outage fell into a time when nothing was due"
    assert recovered, f"{len(missing)} of {len(overdue)} policies were not back after {took_s:.1f} s"
    # As many as may be inside when it begins, the failures that close the gate, and one probe for each pause.
    bound = SLOTS + FAILURES_TO_OPEN + AWAY.total_seconds() / 1.0
    assert tries <= bound, f"{tries} tries at {service.name}"
    return (
        f"{service.name} away for {AWAY.total_seconds():.0f} s ({type(fault).__name__}): {len(overdue)} overdue, "
        f"{tries} tries, all back after {took_s:.1f} s of {RECOVERED.total_seconds():.1f}"
    )


def _next_wave_s(fleet: Fleet, reader: Reader) -> float:
    """Return when the middle half of the policies begins to fall due; on a slow machine that is well after the first.

    If that time is over, it is the next one, after their renewal.
    """
    while True:
        due_s = sorted(_due_s(reader, policy) for policy in fleet.policies)[len(fleet.policies) // 4]
        if due_s - EARLY.total_seconds() > time.time():
            return due_s
        time.sleep(0.5)


def _due_s(reader: Reader, policy: str) -> float:
    """Return by when a policy's present credential is to be renewed."""
    return (reader.latest(policy).issued + RENEWED_BY).timestamp()


def _wait_until(moment_s: float) -> None:
    while (left_s := moment_s - time.time()) > 0:
        time.sleep(min(left_s, 0.5))
