"""Verification before publishing: what a rejection, and an answer that says nothing, do to what is published."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import Denied, Rejected, RotationError, Transient
from credrotator.core.model import InvalidPolicy, RotatablePolicy, fingerprint
from credrotator.core.planning import can_wait
from credrotator.core.secret_document import Published, Unreadable
from credrotator.core.secretdata import render
from credrotator.observability.audit import Audit
from credrotator.policies.annotations import VERIFY
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from credrotator.rotation.rotation import RotateOptions, Rotation
from tests.support.builders import aws
from tests.support.twins import (
    HOUR,
    KEY,
    NOW,
    SECRET,
    MemoryStore,
    ScriptedExchange,
    StandingClock,
    aws_credential,
    aws_policy,
    aws_source,
    no_secrets,
)

if TYPE_CHECKING:
    from credrotator.core.outcome import Outcome

MINUTE = timedelta(minutes=1)
REJECTED = Rejected("CredentialRejected", "the new credential is not published: 401", hint="look")
AWAY = Transient("StsFailed", "STS answered 503", hint="wait")
MISSET = Denied("StsConfig", "the SDK cannot call STS", hint="correct it")


class Backend:
    """A policy that asks for verification, and what is published for it."""

    def __init__(self, *verdicts: Exception | None) -> None:
        self.store, self.clock = MemoryStore(), StandingClock()
        self.exchange = ScriptedExchange(aws_credential(NOW + 45 * MINUTE, HOUR, "NEW"))
        self.exchange.verdicts = list(verdicts)
        self.rotation = Rotation(self.store, self.exchange, self.clock, audit=Audit())
        self.policy = replace(aws_policy(), verify=True)

    def publish_old(self) -> None:
        """Let the store hold a credential of one hour, issued now."""
        self.store.put(render(SECRET, aws_credential(tag="OLD"), fingerprint(aws_source())))

    def attempt(self, after: timedelta, *, is_retry: bool = False) -> Outcome:
        """Make an attempt so long after the old credential was issued."""
        self.clock.now = NOW + after
        return self.rotation(self.policy, no_secrets, RotateOptions(is_retry=is_retry))

    @property
    def stored(self) -> str:
        """What the store holds, as text."""
        found = self.store.read(SECRET)
        return "".join(value.reveal() for value in found.document.data.values()) if found else ""


def test_nobody_asks_unless_it_is_wanted() -> None:
    """Opt-in: a policy that does not say so is published as ever."""
    world = Backend()
    world.policy = replace(world.policy, verify=False)
    assert world.attempt(timedelta(0)).action == "rotated"
    assert world.exchange.verified == []


def test_a_good_one() -> None:
    """It is verified once, then published without a warning."""
    world = Backend()
    world.publish_old()
    outcome = world.attempt(42 * MINUTE)
    assert (outcome.action, outcome.warnings) == ("rotated", ())
    assert world.exchange.verified == [KEY]
    assert "NEW" in world.stored


@pytest.mark.parametrize("after", [42 * MINUTE, 59 * MINUTE])
def test_fault_74_a_rejected_one_is_never_written(after: timedelta) -> None:
    """The old one stays, at whatever time; the next attempt gets another one."""
    world = Backend(REJECTED)
    world.publish_old()
    outcome = world.attempt(after)
    assert outcome.error is not None
    assert (outcome.action, outcome.reason, outcome.error.reason) == ("failed", "Expiring", "CredentialRejected")
    assert outcome.expires_at == NOW + HOUR
    assert "OLD" in world.stored
    assert world.store.writes == []
    assert world.attempt(after, is_retry=True).action == "rotated"
    assert world.exchange.calls == [KEY, KEY]


def test_a_rejected_one_where_nothing_is_published() -> None:
    """None is published rather than one that the vendor refuses."""
    world = Backend(REJECTED)
    assert world.attempt(timedelta(0)).action == "failed"
    assert world.stored == ""


@pytest.mark.parametrize("doubt", [AWAY, MISSET])
def test_fault_74_no_answer_holds_it_back(doubt: RotationError) -> None:
    """While the old one has a quarter of its life the attempt fails, and the same new one is tried again."""
    world = Backend(doubt, doubt)
    world.publish_old()
    for after, is_retry in ((41 * MINUTE, False), (44 * MINUTE, True)):
        outcome = world.attempt(after, is_retry=is_retry)
        assert outcome.error is not None
        assert (outcome.error.kind, outcome.error.reason) == (doubt.kind, doubt.reason)
        assert "could not be verified" in outcome.error.message
        assert "OLD" in world.stored
    assert world.attempt(44 * MINUTE + 30 * timedelta(seconds=1), is_retry=True).action == "rotated"
    assert world.exchange.calls == [KEY]
    assert len(world.exchange.verified) == 3


@pytest.mark.parametrize("doubt", [AWAY, MISSET])
def test_fault_74_no_answer_does_not_hold_it_back_for_ever(doubt: RotationError) -> None:
    """With less than a quarter left it is published, with a warning that says so."""
    world = Backend(doubt, doubt)
    world.publish_old()
    assert world.attempt(41 * MINUTE).action == "failed"
    outcome = world.attempt(45 * MINUTE, is_retry=True)
    assert outcome.action == "rotated"
    assert "without having been verified" in outcome.warnings[0]
    assert doubt.message in outcome.warnings[0]
    assert "NEW" in world.stored


def test_no_answer_where_nothing_is_published() -> None:
    """A gateway without any credential gains by one that is most likely good."""
    world = Backend(AWAY)
    outcome = world.attempt(timedelta(0))
    assert (outcome.action, len(outcome.warnings)) == ("rotated", 1)


def test_verified_once() -> None:
    """A credential that was verified and could not be written is written by the next attempt, without a second call."""
    world = Backend()
    world.publish_old()
    world.store.broken = Transient("ApiServer", "away", hint="wait")
    assert world.attempt(42 * MINUTE).action == "failed"
    world.store.broken = None
    assert world.attempt(43 * MINUTE, is_retry=True).action == "rotated"
    assert len(world.exchange.verified) == 1
    assert len(world.exchange.calls) == 1


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        (None, False),
        (Unreadable("garbled", NOW + HOUR), False),
        (Published(NOW + 16 * MINUTE, NOW - 44 * MINUTE, None), True),
        (Published(NOW + 15 * MINUTE, NOW - 45 * MINUTE, None), False),
        (Published(NOW + 16 * MINUTE, None, None), True),
        (Published(NOW + 14 * MINUTE, None, None), False),
        (Published(NOW - MINUTE, NOW - HOUR, None), False),
        (Published(NOW + timedelta(days=9), NOW, None), False),
    ],
)
def test_who_can_wait(published: Published | Unreadable | None, expected: bool) -> None:  # noqa: FBT001
    """A quarter of a life; one whose issue nobody noted counts as an hour's."""
    assert can_wait(published, NOW) is expected


class TestAnnotation:
    """``credrotator.io/verify``."""

    def read(self, value: str | None, *, operator: bool) -> RotatablePolicy | InvalidPolicy:
        """Read a policy with this value."""
        manifest = aws()
        if value is not None:
            manifest["metadata"].setdefault("annotations", {})[VERIFY] = value
        found = policy_reader(Defaults("default", verify=operator)).read(manifest, "here")
        assert isinstance(found, RotatablePolicy | InvalidPolicy)
        return found

    @pytest.mark.parametrize(
        ("value", "operator", "expected"),
        [
            (None, False, False),
            (None, True, True),
            ("true", False, True),
            ("false", True, False),
        ],
    )
    def test_the_policys_word_goes_first(self, value: str | None, operator: bool, expected: bool) -> None:  # noqa: FBT001
        """Before the operator's."""
        found = self.read(value, operator=operator)
        assert isinstance(found, RotatablePolicy)
        assert found.verify is expected

    @pytest.mark.parametrize("value", ["", "yes", "True", "1", "\x1b[2J"])
    def test_anything_else_is_wrong(self, value: str) -> None:
        """The problem names the annotation and what may stand there."""
        found = self.read(value, operator=True)
        assert isinstance(found, InvalidPolicy)
        (problem,) = found.problems
        assert problem.path == f"metadata.annotations[{VERIFY}]"
        assert problem.message.startswith('expected "true" or "false", got')
        assert problem.message.isprintable()

    def test_an_edit_of_it_rotates_nothing(self) -> None:
        """What a credential depends on does not include whether it is verified."""
        one, other = self.read(None, operator=False), self.read("true", operator=False)
        assert isinstance(one, RotatablePolicy)
        assert isinstance(other, RotatablePolicy)
        assert one.fingerprint == other.fingerprint
