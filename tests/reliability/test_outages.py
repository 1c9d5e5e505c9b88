"""Outages of the API server, in made-up time: what is known stays known, nothing is overrun, all recovers at once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.reliability.simulation import Backend, Trouble, policy_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.reliability.process import Process

BEGINS_S, BACK_S = 1800.0, 3600.0 - 120.0
"""Before the first renewal of an hour's credentials, and shortly before their expiry."""


@pytest.fixture
def world() -> Iterator[Backend]:
    """200 policies with fresh credentials, and one process that leads; nothing may have gone wrong at the end."""
    world = Backend(workers=16)
    for number in range(200):
        world.put(policy_of(f"p{number}", issuer=number % 4, client=number % 20))
    world.boot(world.add_machine())
    try:
        world.run(BEGINS_S)
        yield world
    finally:
        world.close()
    assert not world.oracle.violations, world.oracle.report()


def break_down(world: Backend, kind: str) -> Process:
    """Let the API server fail over all renewals; return the process."""
    world.api.troubles.append(Trouble(kind, BEGINS_S, BACK_S))
    world.oracle.disturbed(BACK_S - BEGINS_S + 60.0)
    return world.processes[0]


def expiries_shown(process: Process) -> int:
    """Count the policies whose expiry is in the metrics."""
    return process.metrics.exposition().decode().count("credrotator_credential_expiration_timestamp_seconds{")


def rotated_since(world: Backend, at_s: float) -> dict[object, float]:
    """Return when each policy was rotated, after a moment."""
    return {key: when_s for when_s, key in world.oracle.rotations if when_s > at_s}


@pytest.mark.slow
def test_fault_61_back_shortly_before_the_expiry(world: Backend) -> None:
    """200 policies; the store is away from before their renewals to 2 min before the first expiry: none expires.

    All are looked at within 5 s of its return; meanwhile each gets one credential, and its expiry stays in the metrics.
    """
    process = break_down(world, "store")
    world.run(BACK_S - 1.0)
    assert expiries_shown(process) == 200
    world.run(BACK_S + 60.0)
    assert len(rotated_since(world, BACK_S - 1)) == 200
    asked = Counter(key for at_s, _, key, _ in world.oracle.attempts if at_s > BEGINS_S)
    assert max(asked.values()) <= 2


def test_invariant_16_the_lease_lapses(world: Backend) -> None:
    """Where the Lease cannot be renewed either, expiries stay shown though nobody leads; then all is done at once."""
    process = break_down(world, "drop")
    world.run(BACK_S - 1.0)
    assert not process.leads()
    assert expiries_shown(process) == 200
    world.run(BACK_S + 90.0)
    assert len(rotated_since(world, BACK_S - 1)) == 200


@pytest.mark.slow
def test_fault_61_writes_that_fail_while_reads_work(world: Backend) -> None:
    """The server is not kept busy by those that cannot be written; all are within seconds of its recovery.

    That is how a server is whose admission webhook is out of order.
    """
    process = break_down(world, "write")
    # By then all are due, and have failed.
    world.run(3000.0)
    before = process.store.reads
    world.run(3060.0)
    assert process.store.reads - before < 200
    world.run(BACK_S + 60.0)
    rotated = rotated_since(world, BACK_S - 1)
    assert len(rotated) == 200
    assert max(rotated.values()) < BACK_S + 30.0
