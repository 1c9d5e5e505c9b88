"""Who tries again, and when, after the store was away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from credrotator.core.attempts import attempting
from credrotator.core.errors import Conflict, Denied, StoreAway
from credrotator.core.model import ObjectKey
from credrotator.rotation.store_recovery import BATCH, TRIAL_EVERY_S, TRIAL_TAKES_S, StoreRecovery
from tests.support.twins import SECRET, MemoryStore

if TYPE_CHECKING:
    from collections.abc import Sequence

AWAY = StoreAway("ApiServerTimeout", "no answer", hint="look")
A, B = ObjectKey("default", "a"), ObjectKey("other", "b")


class Recovering:
    """A store that can be away, and made-up seconds."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.memory = MemoryStore()
        self.store = StoreRecovery(self.memory, lambda: self.now_s)

    def read(self, *policies: ObjectKey) -> None:
        for policy in policies:
            with attempting(policy):
                if self.memory.broken:
                    with pytest.raises(type(self.memory.broken)):
                        self.store.read(SECRET)
                else:
                    self.store.read(SECRET)

    def after(self, wait_s: float) -> Sequence[ObjectKey]:
        self.now_s += wait_s
        return self.store.awake(0.0)


def test_fault_61_one_trial_at_a_time() -> None:
    """A policy that waits is named every two seconds, a different one each time; never two at once."""
    world = Recovering()
    world.memory.broken = AWAY
    world.read(A, B)
    assert world.after(0.0) == []
    assert world.after(TRIAL_EVERY_S) == [A]
    assert world.after(TRIAL_EVERY_S) == []
    world.read(A)
    assert world.after(TRIAL_EVERY_S - 0.1) == []
    assert world.after(0.1) == [B]
    assert world.after(TRIAL_TAKES_S) == [A]


@pytest.mark.parametrize("sign", [None, Denied("ApiServerForbidden", "no", hint="grant"), Conflict("x")])
def test_fault_61_all_are_named_when_the_store_is_back(sign: Exception | None) -> None:
    """Any answer tells: the policies that failed are named within the second, some at a time."""
    world = Recovering()
    world.memory.broken = AWAY
    policies = [ObjectKey("default", f"p{number}") for number in range(200)]
    world.read(*policies)
    world.memory.broken = sign
    world.read(A)
    named: list[ObjectKey] = []
    for _ in range(10):
        batch = world.after(0.1)
        assert len(batch) <= BATCH
        named += batch
    assert named == policies
    assert world.after(10.0) == []


def test_what_works_names_nobody() -> None:
    """Without an outage there is nothing to wake."""
    world = Recovering()
    world.read(A, B)
    assert world.after(10.0) == []
