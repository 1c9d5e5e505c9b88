"""Who tries again, and when, after the store was away."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Generic, TypeVar

import pytest

from credrotator.core.attempts import attempting
from credrotator.core.errors import Conflict, Denied, StoreAway, StoreClosed
from credrotator.core.model import ObjectKey
from credrotator.rotation.store_recovery import (
    BATCH,
    FIRST_HOLD_S,
    LONGEST_HOLD_S,
    TRIAL_EVERY_S,
    TRIAL_TAKES_S,
    StoreRecovery,
)
from tests.support.twins import SECRET, MemoryStore, document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credrotator.core.secret_document import SecretDocument

CLOSED = StoreClosed("NotWritable", "read-only file system", hint="look")
AWAY = StoreAway("ApiServerTimeout", "no answer", hint="look")
A, B, C = ObjectKey("default", "a"), ObjectKey("other", "b"), ObjectKey("other", "c")
OTHER = ObjectKey("other", "ai-eg-bsp-b")


Memory = TypeVar("Memory", bound=MemoryStore)


class Recovering(Generic[Memory]):
    """A store that can be away, and made-up seconds."""

    def __init__(self, memory: Memory) -> None:
        self.now_s = 100.0
        self.memory = memory
        self.store = StoreRecovery(self.memory, lambda: self.now_s)

    def read(self, *policies: ObjectKey) -> None:
        for policy in policies:
            with attempting(policy):
                if self.memory.broken:
                    with pytest.raises(type(self.memory.broken)):
                        self.store.read(SECRET)
                else:
                    self.store.read(SECRET)

    def write(self, policy: ObjectKey, secret: ObjectKey = SECRET) -> None:
        with attempting(policy):
            stored = self.memory.read(secret)
            try:
                self.store.publish(document(secret, a="x"), stored.version if stored else None)
            except (StoreAway, StoreClosed):
                return

    def after(self, wait_s: float) -> Sequence[ObjectKey]:
        self.now_s += wait_s
        return self.store.awake(0.0)


def test_fault_61_one_trial_at_a_time() -> None:
    """A policy that waits is named every two seconds, a different one each time; never two at once."""
    world = Recovering(MemoryStore())
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
    world = Recovering(MemoryStore())
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
    world = Recovering(MemoryStore())
    world.read(A, B)
    assert world.after(10.0) == []


class HalfStore(MemoryStore):
    """A store that can always be read; what is written to some Secrets is refused."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[ObjectKey, Exception] = {}

    def publish(self, document: SecretDocument, expected: str | None) -> None:
        if error := self.refused.get(document.key):
            raise error
        super().publish(document, expected)


@pytest.mark.parametrize("error", [AWAY, CLOSED])
def test_fault_61_who_could_not_write_waits_for_a_write(error: Exception) -> None:
    """A disk that is full can be read, and so can a server whose admission fails: reading is no sign of its return."""
    world = Recovering(HalfStore())
    world.memory.refused = {SECRET: error, OTHER: error}
    world.write(A)
    world.write(B, OTHER)
    world.read(A, B, C)
    assert world.after(0.0) == []
    assert world.after(TRIAL_EVERY_S) == [A]
    world.memory.refused.clear()
    world.write(A)
    assert world.after(0.0) == [B]


def test_fault_61_a_trouble_of_its_own_is_no_return() -> None:
    """A policy that fails again though others got through is passed over for ever longer, whatever others do."""
    world = Recovering(HalfStore())
    world.memory.refused = {OTHER: AWAY}
    world.write(B, OTHER)
    named = []
    for second in range(600):
        world.write(A)
        if world.after(1.0) == [B]:
            named.append(second)
            world.write(B, OTHER)
    waits = [later - sooner for sooner, later in pairwise(named)]
    assert waits[0] >= FIRST_HOLD_S - 1
    assert waits == sorted(waits)
    assert len(named) <= 7
    world.memory.refused.clear()
    world.write(B, OTHER)
    assert world.after(600.0) == []


def test_nothing_is_kept_of_who_got_through() -> None:
    """Nor, after a while, of policies that are gone."""
    world = Recovering(MemoryStore())
    for error in (AWAY, None):
        world.memory.broken = error
        world.read(*(ObjectKey("default", f"p{number}") for number in range(50)))
    world.memory.broken = AWAY
    world.read(A)
    world.memory.broken = None
    world.read(B)
    world.after(0.0)
    assert list(world.store._latest) == [A]
    world.now_s += 2 * LONGEST_HOLD_S + 1
    world.read(B)
    assert not world.store._latest
