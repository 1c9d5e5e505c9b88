"""The issuer, then STS, are away for a quarter of the credentials' life, while every policy wants a new one.

The drill is the shortest life that AWS gives, on the made-up clock. ``make soak`` has it in fast motion, with a process
and real connections (``drill``).
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.model import RotatablePolicy
from credrotator.core.planning import renewal_time
from credrotator.core.secret_document import Published
from credrotator.core.secretdata import parse
from credrotator.exchange.http.circuit import SLOTS
from credrotator.exchange.http.pauses import FAILURES_TO_OPEN
from tests.reliability.kernel import EPOCH
from tests.reliability.simulation import Backend, Trouble, policy_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.core.model import ObjectKey

POLICIES = int(os.environ.get("DRILL", "150"))
LIFE = timedelta(minutes=15)
AWAY, RECOVERED = LIFE / 4, LIFE / 12
LONGEST_WAVE = LIFE * 0.05 + RECOVERED
"""Renewals come up to 5 % of the life earlier than they must, and the last outage's end may have spread them."""
POLL_S = 0.5
TRIALS = 17
"""An endpoint that is away gets one request for each pause of the breaker; they grow from 0.25 s to half a minute."""


class Readers:
    """Whoever reads the Secrets, every half second; ``complaints`` is what they should not have seen, and when."""

    def __init__(self, world: Backend) -> None:
        self._world = world
        self._seen: set[ObjectKey] = set()
        self.complaints: list[tuple[float, ObjectKey, str]] = []
        self.reads = 0
        world.kernel.at(POLL_S, self._read)

    def _read(self) -> None:
        for key in self._world.policies:
            trouble = self._world.oracle.served(key)
            if trouble is None:
                self.reads += 1
                self._seen.add(key)
            elif key in self._seen:
                self.complaints.append((self._world.kernel.now_s, key, trouble))
        self._world.kernel.at(POLL_S, self._read)


@pytest.fixture
def world() -> Iterator[Backend]:
    """Policies of one issuer and one region."""
    world = Backend(workers=16)
    for number in range(POLICIES):
        world.put(policy_of(f"p{number}", issuer=0, client=0), LIFE)
    yield world
    world.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("issuer", "sts"), [("refuse", "hang"), ("hang", "refuse"), ("garbage", "throttle")], ids=lambda kind: kind
)
def test_outage_drill(world: Backend, issuer: str, sts: str) -> None:
    """No reader sees an expired credential, nobody is hammered, and all is as it was within a twelfth of the life."""
    readers = Readers(world)
    world.boot(world.add_machine())
    world.run(LIFE.total_seconds() / 4)
    assert _published(world).keys() == world.policies.keys(), "the first credentials take too long"
    _outage(world, "https://idp-0.example", issuer)
    _outage(world, "sts us-east-1", sts)
    assert not readers.complaints
    assert readers.reads > POLICIES * LIFE.total_seconds() / POLL_S
    assert not world.oracle.violations, world.oracle.report()


def _outage(world: Backend, name: str, kind: str) -> None:
    """Let an endpoint be away from just before the first renewal is due."""
    due_s = [
        (renewal_time(published, world.policies[key].uid) - EPOCH).total_seconds()
        for key, published in _published(world).items()
    ]
    begins_s = min(due_s) - 1.0
    ends_s = begins_s + AWAY.total_seconds()
    assert max(due_s) < ends_s - LONGEST_WAVE.total_seconds(), "they do not all fall due while it is away"
    place = world.place(name)
    place.troubles.append(Trouble(kind, begins_s, ends_s))
    world.run(ends_s)
    assert not _renewed_since(world, begins_s), "the outage fell into a time when nothing was due"
    tries = [at_s for at_s in place.asked if at_s >= begins_s]
    # As many as may be inside when it begins, the failures that open the breaker, and one trial for each pause.
    assert 0 < len(tries) <= SLOTS + FAILURES_TO_OPEN + TRIALS, f"{len(tries)} tries at {name}"
    world.run(ends_s + RECOVERED.total_seconds())
    missing = world.policies.keys() - _renewed_since(world, ends_s)
    assert not missing, f"{len(missing)} of {POLICIES} policies were not back in time"


def _published(world: Backend) -> dict[ObjectKey, Published]:
    """Return what is published, by policy."""
    documents = {
        key: (world.secrets[policy.secret].document, policy.source)
        for key, policy in world.policies.items()
        if isinstance(policy, RotatablePolicy) and policy.secret in world.secrets
    }
    published = {key: parse(document, source) for key, (document, source) in documents.items()}
    return {key: each for key, each in published.items() if isinstance(each, Published)}


def _renewed_since(world: Backend, moment_s: float) -> set[ObjectKey]:
    """Return the policies whose credential was issued since then."""
    moment = EPOCH + timedelta(seconds=moment_s)
    return {key for key, each in _published(world).items() if each.issued_at and each.issued_at > moment}
