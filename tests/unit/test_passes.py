"""One pass over many policies: side by side, in order, undisturbed by a bad one, and soon over when interrupted."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from credrotator.core.model import ObjectKey
from credrotator.observability.audit import Audit
from credrotator.policies.inventory import Inventory
from credrotator.rotation.batch import Batch
from credrotator.rotation.rotation import RotateOptions, Rotation
from tests.support.twins import Listener, MemoryStore, ScriptedExchange, StandingClock, aws_credential, aws_policy
from tests.support.waiting import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.model import Credential, Rotatable
    from credrotator.core.outcome import Outcome
    from credrotator.core.ports import SecretReader
    from credrotator.rotation.batch import Progress

KEYS = [ObjectKey("default", f"p{number:02}") for number in range(20)]


class HangingExchange(ScriptedExchange):
    """An exchange that hangs for some policies until it is released."""

    def __init__(self, *hanging: ObjectKey) -> None:
        super().__init__(aws_credential())
        self.hanging = hanging
        self.released = threading.Event()
        self.entered = threading.Event()

    def __call__(
        self, policy: ObjectKey, source: Rotatable, secrets: SecretReader, *, ignore_retry_after: bool = False
    ) -> Credential:
        if policy in self.hanging:
            self.entered.set()
            assert self.released.wait(60)
        return super().__call__(policy, source, secrets, ignore_retry_after=ignore_retry_after)


def inventory() -> Inventory:
    """Return an inventory of all policies."""
    made = Inventory()
    for key in KEYS:
        made.add_policy(aws_policy(key))
    return made


def silent(done: int, total: int) -> None:
    """Show nothing."""


def go(
    exchange: ScriptedExchange,
    *,
    workers: int = 4,
    after: Callable[[Outcome], None] = lambda _: None,
    progress: Progress = silent,
) -> list[Outcome]:
    """Run a pass over all of them."""
    clock, listener = StandingClock(), Listener(lambda _policy, outcome: after(outcome))
    batch = Batch(Rotation(MemoryStore(), exchange, clock), listener, clock, audit=Audit())
    return batch(KEYS, inventory(), RotateOptions(), workers=workers, progress=progress)


def test_order() -> None:
    """Outcomes come in the order of the keys, whatever order the policies end in; each is told to ``after`` once."""
    told: list[ObjectKey] = []
    outcomes = go(ScriptedExchange(aws_credential()), after=lambda outcome: told.append(outcome.policy))
    assert [outcome.policy for outcome in outcomes] == KEYS
    assert sorted(told) == KEYS


def test_progress() -> None:
    """Progress only ever grows, and ends with all of them."""
    seen: list[tuple[int, int]] = []
    go(ScriptedExchange(aws_credential()), progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (len(KEYS), len(KEYS))


def test_side_by_side() -> None:
    """One policy that hangs keeps one worker; the others are done meanwhile."""
    exchange = HangingExchange(KEYS[0])

    def progress(done: int, total: int) -> None:
        if done == total - 1:
            exchange.released.set()

    outcomes = go(exchange, workers=2, progress=progress)
    assert {outcome.action for outcome in outcomes} == {"rotated"}


def test_fault_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """An exception that nobody expected fails that policy only; its text, which nobody vetted, is shown nowhere."""
    exchange = ScriptedExchange(RuntimeError("canary"), aws_credential())
    with caplog.at_level(logging.DEBUG, "credrotator"):
        outcomes = go(exchange, workers=1)
    assert [outcome.action for outcome in outcomes] == ["failed"] + ["rotated"] * (len(KEYS) - 1)
    error = outcomes[0].error
    assert error is not None
    assert (error.reason, error.message) == ("InternalError", "RuntimeError in credrotator itself")
    assert "rotation.py" in caplog.text
    assert "canary" not in caplog.text + repr(outcomes)


def test_interrupted(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a pass that hangs ends it after a short grace: nothing more is started, and what hung is named."""
    monkeypatch.setattr("credrotator.rotation.batch._GRACE_S", 0.05)
    exchange = HangingExchange(*KEYS)

    def ctrl_c(done: int, total: int) -> None:
        assert exchange.entered.wait(LIMIT_S)
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            go(exchange, workers=2, progress=ctrl_c)
        assert caplog.messages == ["interrupted; still under way: default/p00, default/p01"]
    finally:
        exchange.released.set()
    assert set(exchange.calls) <= set(KEYS[:2])
