"""A rotation where others write too, and what is never published, whatever comes."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.model import (
    Credential,
    fingerprint,
    generated_secret,
)
from credrotator.core.planning import TINY_LIFE
from credrotator.core.secret_document import Published, SecretDocument
from credrotator.core.secretdata import (
    CONTENT,
    EXPIRY,
    FINGERPRINT,
    ISSUED,
    render,
    show_time,
)
from credrotator.rotation.rotation import PUBLISH_TRIES, RotateOptions
from tests.support.builders import parse_as
from tests.support.twins import (
    HOUR,
    KEY,
    NOW,
    SECRET,
    aws_credential,
    aws_source,
    document,
    no_secrets,
    with_annotation,
)
from tests.unit.rotating import FAILURES, MINUTE, Backend

if TYPE_CHECKING:
    from credrotator.core.errors import RotationError


class TestConflicts:
    """I3: one write per rotation, and never a blind one."""

    @pytest.mark.parametrize(
        "wish",
        [RotateOptions(), RotateOptions(force=True), RotateOptions(within=2 * HOUR)],
        ids=["due", "force", "within"],
    )
    def test_adopts(self, wish: RotateOptions) -> None:
        """Where somebody else was quicker and what is there is fresh, it is adopted, whatever was asked for."""
        world = Backend()
        theirs = render(SECRET, aws_credential(tag="THEIRS"), fingerprint(aws_source()))
        world.store.before_publish = [lambda: world.store.put(theirs)]
        outcome = world.rotation(world.policy, no_secrets, wish)
        assert (outcome.action, outcome.reason, outcome.expires_at) == ("kept", "Adopted", NOW + HOUR)
        assert (world.stored, world.store.writes, len(world.exchange.calls)) == (theirs, [], 1)

    def test_retries(self) -> None:
        """Where what is there by now is still due, the credential in hand is written: no second exchange (G36)."""
        world = Backend()
        stale = render(SECRET, aws_credential(NOW - 59 * MINUTE), fingerprint(aws_source()))
        world.store.before_publish = [lambda: world.store.put(stale)] * (PUBLISH_TRIES - 1)
        outcome = world.rotation(world.policy, no_secrets, RotateOptions())
        assert outcome.action == "rotated"
        assert (len(world.store.writes), len(world.exchange.calls)) == (1, 1)

    def test_deleted_meanwhile(self) -> None:
        """A Secret that was deleted during the exchange is created from the credential in hand."""
        world = Backend()
        world.publish(aws_credential(NOW - 59 * MINUTE))
        world.store.before_publish = [world.store.secrets.clear]
        assert world.rotation(world.policy, no_secrets, RotateOptions()).action == "rotated"

    def test_gives_up(self) -> None:
        """After five conflicts the pass fails, says so, and has written nothing."""
        world = Backend()
        stale = render(SECRET, aws_credential(NOW - 59 * MINUTE), fingerprint(aws_source()))
        world.store.before_publish = [lambda: world.store.put(stale)] * 100
        outcome = world.rotation(world.policy, no_secrets, RotateOptions())
        assert outcome.error is not None
        assert (outcome.error.kind, outcome.error.reason) == ("transient", "Conflict")
        assert len(world.store.before_publish) == 100 - PUBLISH_TRIES
        assert world.store.writes == []

    @pytest.mark.parametrize(
        "wish", [RotateOptions(force=True), RotateOptions(within=2 * HOUR)], ids=["force", "within"]
    )
    @pytest.mark.parametrize("times", [1, PUBLISH_TRIES - 1])
    def test_fault_26_a_touched_secret_is_still_to_be_replaced(self, wish: RotateOptions, times: int) -> None:
        """Somebody annotates the Secret meanwhile: its credential, which was to go, is still there, and goes."""
        world = Backend(aws_credential(NOW + MINUTE, tag="NEW"))
        old = world.publish(aws_credential(tag="LEAKED"))

        def touch() -> None:
            world.store.put(with_annotation(old, "team.example/owner", "me"))

        world.store.before_publish = [touch] * times
        outcome = world.rotation(world.policy, no_secrets, wish)
        assert (outcome.action, outcome.reason) == ("rotated", "Forced" if wish.force else "Expiring")
        assert world.stored is not None
        assert "LEAKED" not in world.stored.data["credentials"].reveal()

    def test_fault_26_a_secret_that_is_put_back_is_still_to_be_replaced(self) -> None:
        """Deleted and restored while it is being replaced by force: what is there is the credential that was to go."""
        world = Backend(aws_credential(tag="NEW"))
        old = world.publish(aws_credential(tag="LEAKED"))
        world.store.before_publish = [world.store.secrets.clear, lambda: world.store.put(old)]
        outcome = world.rotation(world.policy, no_secrets, RotateOptions(force=True))
        assert (outcome.action, outcome.reason) == ("rotated", "Forced")

    def test_forced_and_no_better(self) -> None:
        """A forced rotation that gets nothing usable has failed: the credential that was to go is still there."""
        world = Backend(aws_credential(NOW - HOUR, HOUR + timedelta(seconds=1)))
        world.publish(aws_credential(tag="LEAKED"))
        outcome = world.rotation(world.policy, no_secrets, RotateOptions(force=True))
        assert (outcome.action, outcome.reason) == ("failed", "Forced")
        assert outcome.error is not None
        assert outcome.error.reason == "NotBetter"

    def test_forced_against_a_better_one(self) -> None:
        """After a conflict, ``force`` is no licence to replace what somebody else just wrote by something worse."""
        world = Backend(aws_credential(life=2 * MINUTE, tag="NEW"))
        theirs = render(SECRET, aws_credential(NOW - 10 * MINUTE, 15 * MINUTE), fingerprint(aws_source()))
        world.store.before_publish = [lambda: world.store.put(theirs)]
        world.rotation(world.policy, no_secrets, RotateOptions(force=True))
        assert world.stored == theirs


def test_audit(caplog: pytest.LogCaptureFixture) -> None:
    """Security 9: one record per publication: policy, reason, old and new expiry, request id; and no secret (I9)."""
    world = Backend()
    world.publish(aws_credential(NOW - 50 * MINUTE))
    with caplog.at_level(logging.DEBUG, "credrotator"):
        world.rotation(world.policy, no_secrets, RotateOptions())
    (record,) = [text for text in caplog.messages if text.startswith("published")]
    for part in (str(KEY), "Expiring", show_time(NOW + 10 * MINUTE), show_time(NOW + HOUR), "request-NEW"):
        assert part in record
    assert "secret-NEW" not in caplog.text
    assert "session-NEW" not in caplog.text


LIVES = st.integers(-7200, 90_000).map(lambda seconds: timedelta(seconds=seconds))
CREDENTIALS = st.builds(
    lambda age, life, tag: aws_credential(NOW - age, life, tag),
    st.integers(0, 7200).map(lambda seconds: timedelta(seconds=seconds)),
    LIVES,
    st.sampled_from(["", "X", "Y", "%"]),
)
BROKEN = st.sampled_from([EXPIRY, ISSUED, FINGERPRINT, CONTENT])


@st.composite
def stored_documents(draw: st.DrawFn) -> SecretDocument | None:
    """Draw what may lie in the store: nothing, garbage, or a credential with more or less right annotations."""
    kind = draw(st.sampled_from(["nothing", "garbage", "credential", "credential", "damaged"]))
    if kind == "nothing":
        return None
    if kind == "garbage":
        return document(other=draw(st.text(max_size=5)))
    role = draw(st.sampled_from(["bedrock", "bedrock", "another"]))
    whole = render(SECRET, draw(CREDENTIALS), fingerprint(aws_source(role)))
    if kind == "credential":
        return whole
    return with_annotation(whole, draw(BROKEN), draw(st.sampled_from([None, "", "x", "2199-01-01T00:00:00Z"])))


@given(
    before=stored_documents(),
    result=st.one_of(CREDENTIALS, st.sampled_from(FAILURES)),
    theirs=st.one_of(st.none(), stored_documents()),
    wish=st.builds(RotateOptions, LIVES.map(abs), st.booleans(), st.booleans()),
)
def test_never_worse(
    before: SecretDocument | None,
    result: Credential | RotationError,
    theirs: SecretDocument | None,
    wish: RotateOptions,
) -> None:
    """I1, I2: for any store, any result, any rival and any wish, a good credential never gives way to a worse one."""
    world = Backend(result)
    if before:
        world.store.put(before)
    world.store.before_publish = [lambda: world.store.put(theirs)] if theirs else []
    outcome = world.rotation(world.policy, no_secrets, wish)
    replaced = theirs if theirs and not world.store.before_publish else before
    assert len(world.store.writes) <= 1
    if not world.store.writes:
        assert world.stored == replaced
        assert outcome.action != "rotated" or wish.dry_run
        return
    assert outcome.action == "rotated"
    assert not wish.dry_run
    new, old = parse_as(world.stored, "aws-oidc"), parse_as(replaced, "aws-oidc")
    assert isinstance(new, Published)
    assert new.issued_at is not None
    life = new.expires_at - new.issued_at
    assert new.expires_at > NOW
    assert new.expires_at >= NOW + min(life / 2, max(TINY_LIFE, life * 0.05))
    good = isinstance(old, Published) and old.expires_at <= NOW + timedelta(hours=24)
    same_policy = isinstance(old, Published) and old.fingerprint in {None, new.fingerprint}
    # Where only what stands beside the data was touched meanwhile, a forced rotation is still to replace it.
    is_forced = wish.force and (replaced.data if replaced else None) == (before.data if before else None)
    # The same data is the same credential: it lives for as long as it was issued for, whatever is noted beside it.
    is_same = replaced is not None and world.stored is not None and replaced.data == world.stored.data
    if isinstance(old, Published) and good and same_policy and not is_forced and not is_same:
        assert new.expires_at > old.expires_at


@given(before=stored_documents(), result=CREDENTIALS)
def test_settles(before: SecretDocument | None, result: Credential) -> None:
    """I4: whatever the store held, a pass that published is followed by one that keeps, without an exchange."""
    world = Backend(result)
    if before:
        world.store.put(before)
    if world.rotation(world.policy, no_secrets, RotateOptions()).action != "rotated":
        return
    calls = len(world.exchange.calls)
    published = parse_as(world.stored, "aws-oidc")
    assert isinstance(published, Published)
    state = world.rotation.state(world.policy, RotateOptions())
    again = world.rotation(world.policy, no_secrets, RotateOptions())
    if again.action == "kept":
        assert len(world.exchange.calls) == calls
    else:  # a credential that was old already when it came is due again, and only for that
        assert getattr(state.plan, "reason", None) == "Expiring"
    assert generated_secret(KEY) == SECRET
