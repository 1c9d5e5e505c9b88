"""A request for a renewal, which a policy's annotation makes: done once for each value, whoever asks."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from credrotator.core.errors import Denied
from credrotator.core.model import InvalidPolicy, RotatablePolicy
from credrotator.core.secretdata import (
    CONTENT,
    EXPIRY,
    RENEWED,
    adopt,
    cached_state,
    park,
    parse,
    request_note,
    show_time,
)
from credrotator.rotation.rotation import RotateOptions, Rotation
from tests.support.builders import annotated, aws, read
from tests.support.twins import (
    HOUR,
    NOW,
    SECRET,
    MemoryStore,
    ScriptedExchange,
    StandingClock,
    aws_credential,
    aws_policy,
    document,
    no_secrets,
)

MINUTE = timedelta(minutes=1)


def requested(text: str) -> RotatablePolicy:
    """Return the policy with a request."""
    return replace(aws_policy(), renew_request=text)


class TestOnce:
    """One renewal for each value."""

    def test_each_value_once(self) -> None:
        """A new value renews a fresh credential at once, the same one never again, and none at all asks nothing."""
        store, clock = MemoryStore(), StandingClock()
        exchange = ScriptedExchange(*(aws_credential(NOW + n * MINUTE, tag=str(n)) for n in range(4)))
        done = []
        for minutes, request in enumerate(("", "", "1", "1", "2", "", "2")):
            clock.now = NOW + minutes * MINUTE
            outcome = Rotation(store, exchange, clock)(requested(request), no_secrets, RotateOptions())
            done.append((outcome.action, outcome.reason))
        assert done == [
            ("rotated", "Missing"),
            ("kept", "Fresh"),
            ("rotated", "Requested"),
            ("kept", "Fresh"),
            ("rotated", "Requested"),
            ("kept", "Fresh"),
            ("kept", "Fresh"),
        ]

    def test_with_any_other_reason(self) -> None:
        """A credential that was issued for another reason meanwhile serves the request, too."""
        store, clock = MemoryStore(), StandingClock()
        exchange = ScriptedExchange(aws_credential(NOW))
        rotation = Rotation(store, exchange, clock)
        assert rotation(requested("1"), no_secrets, RotateOptions()).reason == "Missing"
        assert rotation(requested("1"), no_secrets, RotateOptions()).reason == "Fresh"

    def test_fails_and_is_tried_again(self) -> None:
        """A request that fails stays; the old credential does, too."""
        store, clock = MemoryStore(), StandingClock()
        refused = Denied("AccessDenied", "no", hint="grant")
        exchange = ScriptedExchange(aws_credential(NOW), refused, aws_credential(NOW + MINUTE, tag="B"))
        rotation = Rotation(store, exchange, clock)
        assert rotation(requested(""), no_secrets, RotateOptions()).action == "rotated"
        outcomes = [rotation(requested("1"), no_secrets, RotateOptions()) for _ in range(2)]
        assert [(outcome.action, outcome.reason) for outcome in outcomes] == [
            ("failed", "Requested"),
            ("rotated", "Requested"),
        ]

    def test_shorter_than_before(self) -> None:
        """The new credential is published though it expires no later than the old one: it was asked for."""
        store, clock = MemoryStore(), StandingClock()
        exchange = ScriptedExchange(aws_credential(NOW, HOUR), aws_credential(NOW, HOUR / 2, tag="B"))
        rotation = Rotation(store, exchange, clock)
        rotation(requested(""), no_secrets, RotateOptions())
        assert rotation(requested("1"), no_secrets, RotateOptions()).action == "rotated"


class TestRemembered:
    """The Secret remembers, whatever becomes of it."""

    def test_parked(self) -> None:
        """Parking keeps the note."""
        stored = document(annotations=((EXPIRY, show_time(NOW + HOUR)), (RENEWED, "1")), credentials="x")
        assert park(stored, SECRET, aws_policy().owner, NOW + 2 * HOUR).annotations[RENEWED] == "1"

    def test_renewed_by_the_gateway(self) -> None:
        """So does a renewal by the gateway's rotator, and the adoption that follows it."""
        policy, source = requested("1"), aws_policy().source
        store, clock = MemoryStore(), StandingClock()
        Rotation(store, ScriptedExchange(aws_credential(NOW)), clock)(policy, no_secrets, RotateOptions())
        stored = store.read(SECRET)
        assert stored is not None
        assert (state := cached_state(stored.document)) is not None
        assert state.request == "1"
        data = aws_credential(NOW, 2 * HOUR, tag="G").secret_data(None)
        notes = {**stored.document.annotations, EXPIRY: show_time(NOW + 2 * HOUR)}
        theirs = replace(stored.document, data=data, annotations=notes)
        adopted = adopt(theirs, policy.fingerprint, policy.owner)
        for found in (parse(theirs, source), parse(adopted, source)):
            assert getattr(found, "request", None) == "1"
        assert CONTENT in adopted.annotations


class TestReading:
    """The annotation of a policy."""

    def test_read(self) -> None:
        """Any text is a request; a long one is noted by its hash, and the fingerprint is another matter."""
        plain, asked = read(aws()), read(annotated(aws(), renew_requested_at="2026-11-27T12:00:00Z"))
        assert isinstance(plain, RotatablePolicy)
        assert isinstance(asked, RotatablePolicy)
        assert (plain.renew_request, asked.renew_request) == ("", "2026-11-27T12:00:00Z")
        assert plain.fingerprint == asked.fingerprint
        assert plain != asked
        assert len(request_note("x" * 60_000)) < 100
        assert request_note("x" * 60_000) != request_note("x" * 60_001)

    def test_nothing_to_renew(self) -> None:
        """On a policy without rotation it is an error, as other annotations of ours are."""
        manifest = aws()
        manifest["spec"]["awsCredentials"] = {"region": "us-east-1", "credentialsFile": {"secretRef": {"name": "x"}}}
        found = read(annotated(manifest, renew_requested_at="1"))
        assert isinstance(found, InvalidPolicy)
        assert "applies to policies that are rotated only" in str(found.problems[0])


@pytest.mark.parametrize("text", ["", "now", "x" * 128])
def test_short_requests_are_noted_as_they_are(text: str) -> None:
    """People can read in the Secret what was asked for."""
    assert request_note(text) == text
