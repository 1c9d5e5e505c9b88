"""One record per decision: its fields, at which level, and that none of them is a secret."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest

from credrotator.core.errors import Abandoned, Denied, RotationError
from credrotator.core.model import InvalidPolicy, Policy, Problem, fingerprint
from credrotator.core.secretdata import CONTENT, render, show_time
from credrotator.observability.audit import Audit
from credrotator.observability.logs import AUDIT
from credrotator.rotation.rotation import RotateOptions, Rotation
from tests.support.builders import parse_as
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

MINUTE = timedelta(minutes=1)
WHO = {"policy": str(KEY), "provider": "aws-oidc", "instance": "pod-1", "leader": True}


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Any:
    """What was recorded so far, as fields."""
    caplog.set_level(logging.DEBUG, AUDIT)

    def found() -> list[dict[str, object]]:
        return [record.__dict__["fields"] for record in caplog.records if record.name == AUDIT]

    return found


class Backend:
    """A rotation whose store holds a credential that ends in ten minutes."""

    def __init__(self, *script: Any) -> None:
        self.store, self.exchange = MemoryStore(), ScriptedExchange(*script or (aws_credential(tag="NEW"),))
        self.guarded: RotationError | Abandoned | None = None
        self.rotation = Rotation(
            self.store, self.exchange, StandingClock(), self._guard, audit=Audit("pod-1", lambda: True)
        )
        self.put(aws_credential(NOW - 50 * MINUTE))

    def put(self, credential: Any) -> None:
        self.store.put(render(SECRET, credential, fingerprint(aws_source())))

    def _guard(self, _policy: Policy) -> None:
        if self.guarded:
            raise self.guarded

    def go(self, wish: RotateOptions | None = None) -> str:
        return self.rotation(aws_policy(), no_secrets, wish or RotateOptions()).reason


class EmptyBackend(Backend):
    """The same, with nothing published before."""

    def put(self, credential: Any) -> None:
        """Keep the store empty."""


def test_published(records: Any) -> None:
    """Who, which policy, why, old and new expiry, the hash that stands in the Secret, the vendor's id."""
    world = Backend()
    assert world.go() == "Expiring"
    stored = world.store.read(SECRET)
    assert stored
    assert records() == [
        WHO
        | {
            "decision": "published",
            "reason": "Expiring",
            "secret": str(SECRET),
            "old_expiry": show_time(NOW + 10 * MINUTE),
            "new_expiry": show_time(NOW + HOUR),
            "content_hash": stored.document.annotations[CONTENT],
            "request_id": "request-NEW",
        }
    ]
    held = {sensitive.reveal() for sensitive in stored.document.data.values()}
    assert not held & {str(value) for value in records()[0].values()}


def test_times_are_readable_in_text_too(caplog: pytest.LogCaptureFixture) -> None:
    """RFC 3339, as everywhere in the log; and a first credential takes no other's place."""
    followed, first = Backend(), EmptyBackend()
    with caplog.at_level(logging.INFO):
        followed.go()
        first.go()
    new = show_time(NOW + HOUR)
    followed_line, first_line = [record.getMessage() for record in caplog.records if record.name == AUDIT]
    assert f"expiry {show_time(NOW + 10 * MINUTE)} -> {new}," in followed_line
    assert f"expiry none -> {new}," in first_line


def test_nothing_is_decided_on_a_fresh_one(records: Any) -> None:
    """Kept, or only looked at: no record."""
    world = Backend()
    world.go(RotateOptions(dry_run=True))
    world.put(aws_credential(NOW))
    assert world.go() == "Fresh"
    assert records() == []


def test_refused_because_not_better(records: Any) -> None:
    """Issued, and worse than what is there."""
    world = Backend(aws_credential(life=5 * MINUTE, tag="NEW"))
    world.put(aws_credential(NOW - 20 * MINUTE))
    assert world.go(RotateOptions(within=HOUR)) == "NotBetter"
    (record,) = records()
    assert record | WHO == record
    assert (record["decision"], record["reason"], record["request_id"]) == ("refused", "NotBetter", "request-NEW")
    assert (record["old_expiry"], record["new_expiry"]) == (show_time(NOW + 40 * MINUTE), show_time(NOW + 5 * MINUTE))


def test_refused_because_not_ours(records: Any) -> None:
    """Issued, and meanwhile another one leads."""
    world = Backend()
    world.guarded = Abandoned("NotLeader")
    assert world.go() == "NotLeader"
    assert [(record["decision"], record["reason"]) for record in records()] == [("refused", "NotLeader")]


def test_refused_because_somebody_was_quicker(records: Any) -> None:
    """Issued, and found replaced at the moment of the write."""
    world = Backend()
    theirs = render(SECRET, aws_credential(NOW, tag="THEIRS"), fingerprint(aws_source()))
    world.store.before_publish = [lambda: world.store.put(theirs)]
    assert world.go() == "Adopted"
    assert [(record["decision"], record["reason"]) for record in records()] == [("refused", "Adopted")]


def test_failed(records: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Kind, reason, what to do, and until when what is there holds; at the level that was asked for."""
    world = Backend(Denied("AccessDenied", "no", hint="grant"))
    outcome = world.rotation(aws_policy(), no_secrets, RotateOptions())
    Audit("pod-1", lambda: True, failures=logging.WARNING).failed(aws_policy(), outcome)
    assert records() == [
        WHO
        | {
            "decision": "failed",
            "reason": "AccessDenied",
            "secret": str(SECRET),
            "old_expiry": show_time(NOW + 10 * MINUTE),
            "new_expiry": None,
            "kind": "denied",
            "hint": "grant",
            "see": "reasons#AccessDenied",
        }
    ]
    assert [(record.levelno, record.getMessage()) for record in caplog.records if record.name == AUDIT] == [
        (logging.WARNING, f"{KEY}: AccessDenied (denied): no; what to do: grant; see reasons#AccessDenied")
    ]


def test_failed_as_written(records: Any) -> None:
    """A policy that cannot work has no Secret; without an election nobody leads."""
    policy = InvalidPolicy(KEY, "a file", (Problem("spec", "missing"),))
    outcome = Backend().rotation(policy, no_secrets, RotateOptions())
    Audit("pod-1").failed(policy, outcome)
    (record,) = records()
    assert (record["reason"], record["secret"], record["leader"]) == ("InvalidPolicy", None, None)
    assert record["provider"] == "unknown"


def test_adopted_and_parked(records: Any) -> None:
    """What is done to a Secret without a new credential."""
    audit, document = Audit("pod-1", lambda: True), render(SECRET, aws_credential(), "print")
    assert parse_as(document, "aws-oidc")
    audit.adopted(aws_policy(), document, NOW + HOUR)
    audit.parked(aws_policy(), "IssuerUnreachable", NOW + 15 * MINUTE)
    ends = show_time(NOW + HOUR)
    adopted = {"decision": "adopted", "reason": "Adopted", "old_expiry": ends, "new_expiry": ends}
    parked = {"decision": "parked", "reason": "IssuerUnreachable", "parked_until": show_time(NOW + 15 * MINUTE)}
    more = {"secret": str(SECRET), "content_hash": document.annotations[CONTENT]}
    assert records() == [WHO | adopted | more, WHO | parked | {"secret": str(SECRET)}]


def test_nobody_asked(caplog: pytest.LogCaptureFixture) -> None:
    """Where the level says no, nothing is put together."""
    caplog.set_level(logging.ERROR, AUDIT)
    Backend().go()
    assert [record for record in caplog.records if record.name == AUDIT] == []
