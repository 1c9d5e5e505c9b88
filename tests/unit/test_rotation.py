"""The one use case: what is read, decided, exchanged and written, and what never is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from credrotator.core.errors import Denied, RotationError, Transient
from credrotator.core.model import (
    Credential,
    InvalidPolicy,
    ObjectKey,
    Policy,
    Problem,
    SecretKeyRef,
    Static,
    fingerprint,
)
from credrotator.core.secret_document import Published
from credrotator.core.secretdata import (
    EXPIRY,
    render,
    show_time,
)
from credrotator.core.sensitive import Sensitive
from credrotator.rotation.rotation import RotateOptions, Rotation
from tests.support.builders import parse_as
from tests.support.twins import (
    HOUR,
    KEY,
    NOW,
    SECRET,
    aws_credential,
    aws_source,
    no_secrets,
    static_policy,
    with_annotation,
)
from tests.unit.rotating import FAILURES, MINUTE, Backend


class TestOutcomes:
    """What a pass does for one policy."""

    def test_missing(self) -> None:
        """A policy without a Secret gets one: one exchange, one write, times of the new credential."""
        world = Backend()
        outcome = world.rotation(world.policy, no_secrets, RotateOptions())
        assert (outcome.action, outcome.reason, outcome.secret) == ("rotated", "Missing", SECRET)
        assert outcome.expires_at == NOW + HOUR
        assert outcome.renew_at is not None
        assert NOW + 30 * MINUTE < outcome.renew_at <= NOW + 40 * MINUTE
        (written,) = world.store.writes
        expected = render(SECRET, aws_credential(tag="NEW"), fingerprint(aws_source()))
        assert (written.data, written.annotations) == (expected.data, expected.annotations)
        assert world.exchange.calls == [KEY]

    def test_fresh(self) -> None:
        """I4: over a fresh Secret a pass exchanges nothing and writes nothing."""
        world = Backend()
        before = world.publish(aws_credential())
        outcome = world.rotation(world.policy, no_secrets, RotateOptions())
        assert (outcome.action, outcome.reason) == ("kept", "Fresh")
        assert outcome.expires_at == NOW + HOUR
        assert (world.exchange.calls, world.store.writes, world.stored) == ([], [], before)

    def test_known_to_be_fresh(self) -> None:
        """What was heard of a fresh Secret is enough to leave it alone; the store is not even asked."""
        world = Backend()
        world.store.broken = Transient("ApiServer", "away", hint="wait")
        seen = parse_as(render(SECRET, aws_credential(), fingerprint(aws_source())), "aws-oidc")
        assert isinstance(seen, Published)
        rotation = Rotation(world.store, world.exchange, world.clock, cached_state=lambda _: seen)
        outcome = rotation(world.policy, no_secrets, RotateOptions())
        assert (outcome.action, outcome.reason, outcome.expires_at) == ("kept", "Fresh", NOW + HOUR)

    @pytest.mark.parametrize("wish", [RotateOptions(), RotateOptions(force=True), RotateOptions(within=HOUR)])
    @pytest.mark.parametrize("life", [HOUR, timedelta(seconds=-1)])
    def test_known_to_be_due(self, wish: RotateOptions, life: timedelta) -> None:
        """What was heard may be old: before anything is exchanged, the store is asked, and its word counts."""
        world = Backend()
        world.publish(aws_credential())
        seen = Published(NOW + life, NOW - HOUR, fingerprint(aws_source("other")))
        rotation = Rotation(world.store, world.exchange, world.clock, cached_state=lambda _: seen)
        rotation(world.policy, no_secrets, wish)
        assert world.exchange.calls == ([] if wish == RotateOptions() else [KEY])

    def test_second_pass(self) -> None:
        """I4: what one pass rotated, the next one, also after a restart, keeps."""
        world = Backend()
        first = world.rotation(world.policy, no_secrets, RotateOptions())
        again = Rotation(world.store, world.exchange, world.clock)(world.policy, no_secrets, RotateOptions())
        assert (again.action, again.expires_at, again.renew_at) == ("kept", first.expires_at, first.renew_at)
        assert (len(world.exchange.calls), len(world.store.writes)) == (1, 1)

    def test_due(self) -> None:
        """At the renewal time the credential is exchanged, not a second before."""
        world = Backend(aws_credential(NOW + 40 * MINUTE))
        world.publish(aws_credential())
        kept = world.rotation(world.policy, no_secrets, RotateOptions())
        assert kept.renew_at is not None
        world.clock.now = kept.renew_at - timedelta(seconds=1)
        assert world.rotation(world.policy, no_secrets, RotateOptions()).action == "kept"
        world.clock.now = kept.renew_at
        rotated = world.rotation(world.policy, no_secrets, RotateOptions())
        assert (rotated.action, rotated.reason) == ("rotated", "Expiring")

    def test_edited(self) -> None:
        """G15: an edit of the policy rotates at once, although the new credential expires sooner than the old."""
        world = Backend(aws_credential(life=15 * MINUTE, tag="NEW"))
        world.publish(aws_credential(), role="another")
        outcome = world.rotation(world.policy, no_secrets, RotateOptions())
        assert (outcome.action, outcome.reason) == ("rotated", "SpecChanged")
        assert outcome.expires_at == NOW + 15 * MINUTE

    @pytest.mark.parametrize("expiry", ["2199-01-01T00:00:00Z", "2026-11-26T12:00:00+00:00"])
    def test_far_future(self, expiry: str) -> None:
        """Fault 37: an expiry that nobody can have issued is repaired at once, and only once."""
        world = Backend()
        world.store.put(with_annotation(world.publish(aws_credential()), EXPIRY, expiry))
        outcome = world.rotation(world.policy, no_secrets, RotateOptions())
        assert (outcome.action, outcome.reason) == ("rotated", "Unreadable")
        assert world.rotation(world.policy, no_secrets, RotateOptions()).action == "kept"

    @pytest.mark.parametrize("expiry", [None, "tomorrow", ""])
    def test_no_expiry(self, expiry: str | None) -> None:
        """G9: a missing or malformed expiry annotation is repaired at once, and only once."""
        world = Backend()
        world.store.put(with_annotation(world.publish(aws_credential()), EXPIRY, expiry))
        assert world.rotation(world.policy, no_secrets, RotateOptions()).reason == "Unreadable"
        assert world.rotation(world.policy, no_secrets, RotateOptions()).action == "kept"

    def test_changed_by_a_person(self) -> None:
        """Fault 38: data that no longer fits its hash is repaired."""
        world = Backend()
        before = world.publish(aws_credential())
        text = before.data["credentials"].reveal().replace("secret-A", "typed")
        world.store.put(replace(before, data={"credentials": Sensitive(text)}))
        assert world.rotation(world.policy, no_secrets, RotateOptions()).reason == "Unreadable"

    def test_adopted_from_the_gateway(self) -> None:
        """A Secret of the gateway's own rotator, with nothing but its annotation, is kept until it is due."""
        world = Backend(aws_credential(NOW + 55 * MINUTE))
        before = world.publish(aws_credential())
        world.store.put(replace(before, annotations={EXPIRY: show_time(NOW + HOUR)}))
        assert world.rotation(world.policy, no_secrets, RotateOptions()).action == "kept"
        world.clock.now = NOW + 55 * MINUTE
        assert world.rotation(world.policy, no_secrets, RotateOptions()).reason == "Expiring"

    def test_within(self) -> None:
        """``within`` renews what would be due before the next run of cron."""
        world = Backend(aws_credential(NOW + 20 * MINUTE))
        world.publish(aws_credential())
        world.clock.now = NOW + 20 * MINUTE
        assert world.rotation(world.policy, no_secrets, RotateOptions(within=10 * MINUTE)).action == "kept"
        outcome = world.rotation(world.policy, no_secrets, RotateOptions(within=21 * MINUTE))
        assert (outcome.action, outcome.reason) == ("rotated", "Expiring")

    def test_force(self) -> None:
        """``force`` replaces a fresh credential, even by one that expires sooner."""
        world = Backend(aws_credential(life=30 * MINUTE, tag="NEW"))
        world.publish(aws_credential())
        outcome = world.rotation(world.policy, no_secrets, RotateOptions(force=True))
        assert (outcome.action, outcome.reason) == ("rotated", "Forced")
        assert world.store.writes[0].data["credentials"].reveal().count("NEW") == 3

    @pytest.mark.parametrize("wish", [RotateOptions(dry_run=True), RotateOptions(dry_run=True, force=True)])
    def test_dry_run(self, wish: RotateOptions) -> None:
        """A dry run says what would be done; it calls nobody and writes nothing."""

        def secrets(_: SecretKeyRef) -> Sensitive:
            return Sensitive("client secret")

        world = Backend()
        assert world.rotation(world.policy, secrets, wish).action == "rotated"
        world.publish(aws_credential())
        assert world.rotation(world.policy, secrets, wish).action == ("rotated" if wish.force else "kept")
        assert (world.exchange.calls, world.store.writes) == ([], [])

    def test_dry_run_without_the_client_secret(self) -> None:
        """A dry run does not promise what the rotation could not keep."""
        outcome = Backend().rotation(Backend().policy, no_secrets, RotateOptions(dry_run=True))
        assert outcome.error
        assert outcome.error.reason == "SecretNotFound"

    def test_tiny_life(self) -> None:
        """A credential of less than a minute is published, with a warning; it is not renewed in a loop."""
        world = Backend(aws_credential(life=timedelta(seconds=40)))
        outcome = world.rotation(world.policy, no_secrets, RotateOptions())
        assert outcome.action == "rotated"
        assert outcome.warnings == ("the credential lives for 40 s only",)
        assert world.rotation(world.policy, no_secrets, RotateOptions()).action == "kept"

    def test_invalid(self) -> None:
        """An invalid policy fails with everything that is wrong with it, and where."""
        problems = (Problem("spec.a", "wrong"), Problem("spec.b", "missing"))
        outcome = Backend().rotation(InvalidPolicy(KEY, "file.yaml:3", problems), no_secrets, RotateOptions())
        assert (outcome.action, outcome.reason) == ("failed", "InvalidPolicy")
        assert outcome.error is not None
        assert outcome.error.message == "spec.a: wrong; spec.b: missing"
        assert "file.yaml:3" in outcome.error.hint


class TestStatic:
    """Static policies: nothing to rotate, but what they name is checked."""

    REF = SecretKeyRef(ObjectKey("default", "keys"), "credentials", "spec.awsCredentials.credentialsFile.secretRef")

    def policy(self, source: Static) -> Policy:
        """Return a static policy."""
        return static_policy(source)

    def test_there(self) -> None:
        """A Secret that is there is fine."""
        outcome = Backend().rotation(
            self.policy(Static("api-key", self.REF)), lambda _: Sensitive("k"), RotateOptions()
        )
        assert (outcome.action, outcome.reason, outcome.error) == ("skipped", "Static", None)

    def test_missing(self) -> None:
        """A Secret that is missing is a failure of that policy."""
        outcome = Backend().rotation(self.policy(Static("api-key", self.REF)), no_secrets, RotateOptions())
        assert (outcome.action, outcome.reason) == ("failed", "SecretNotFound")

    @pytest.mark.parametrize(("profile", "action"), [("prod", "skipped"), ("test", "failed")])
    def test_profile(self, profile: str, action: str) -> None:
        """The profile that the policy names has to be in the file."""
        text = "[prod]\naws_access_key_id = x\n"
        source = Static("aws-credentials-file", self.REF, profile)
        outcome = Backend().rotation(self.policy(source), lambda _: Sensitive(text), RotateOptions())
        assert outcome.action == action
        assert outcome.error is None or outcome.error.reason == "ProfileMissing"

    def test_default_chain(self) -> None:
        """Without a Secret there is nothing to look at."""
        outcome = Backend().rotation(self.policy(Static("aws-default-chain")), no_secrets, RotateOptions())
        assert (outcome.action, outcome.reason) == ("skipped", "DefaultChain")


class TestFailures:
    """I2: no failure path writes; the last good credential stays, and the outcome says until when."""

    @pytest.mark.parametrize("error", FAILURES, ids=lambda error: error.kind)
    @pytest.mark.parametrize("wish", [RotateOptions(force=True), RotateOptions(within=HOUR)], ids=["force", "within"])
    def test_exchange_fails(self, error: RotationError, wish: RotateOptions) -> None:
        """The Secret is as before; kind, reason, message and hint are the error's own; the reason is why it was due."""
        world = Backend(error)
        before = world.publish(aws_credential())
        outcome = world.rotation(world.policy, no_secrets, wish)
        assert outcome.action == "failed"
        assert outcome.reason == ("Forced" if wish.force else "Expiring")
        assert (outcome.expires_at, outcome.secret) == (NOW + HOUR, SECRET)
        assert outcome.error is not None
        told = (outcome.error.kind, outcome.error.reason, outcome.error.message, outcome.error.hint)
        assert told == (error.kind, error.reason, error.message, error.hint)
        assert (world.stored, world.store.writes) == (before, [])

    def test_nothing_published(self) -> None:
        """A first rotation that fails leaves no Secret, not even an empty one."""
        world = Backend(FAILURES[0])
        outcome = world.rotation(world.policy, no_secrets, RotateOptions())
        assert (outcome.action, outcome.reason, outcome.expires_at) == ("failed", "Missing", None)
        assert world.stored is None

    def test_store_cannot_be_read(self) -> None:
        """Without a look at the store nothing is exchanged; the store's own error is the outcome."""
        world = Backend()
        world.store.broken = Denied("UnsafePath", "x can be written to by others", hint="chmod")
        outcome = world.rotation(world.policy, no_secrets, RotateOptions(force=True))
        assert (outcome.action, outcome.reason, world.exchange.calls) == ("failed", "UnsafePath", [])

    def test_store_refuses(self) -> None:
        """A store that refuses the write is the outcome; the old Secret is told."""

        def refuse() -> None:
            raise Transient("DiskFull", "no space", hint="make room")

        world = Backend()
        before = world.publish(aws_credential())
        world.store.before_publish = [refuse]
        outcome = world.rotation(world.policy, no_secrets, RotateOptions(force=True))
        assert outcome.error is not None
        assert (outcome.error.reason, outcome.expires_at) == ("DiskFull", NOW + HOUR)
        assert world.stored == before


class TestBetterOnly:
    """I1: what is published is never replaced by something worse."""

    @pytest.mark.parametrize("life_s", [-1, 0, 30])
    def test_too_short(self, life_s: int) -> None:
        """A credential that is over, or nearly, when it arrives is not published, not even where nothing is."""
        world = Backend(aws_credential(NOW - HOUR, HOUR + timedelta(seconds=life_s)))
        outcome = world.rotation(world.policy, no_secrets, RotateOptions(force=True))
        assert outcome.error is not None
        assert outcome.error.reason == "NotBetter"
        assert world.stored is None

    @pytest.mark.parametrize("credential", [
        replace(aws_credential(), secret_access_key=Sensitive("")),
        replace(aws_credential(), session_token=Sensitive("")),
        replace(aws_credential(), access_key_id=""),
    ])  # fmt: skip
    def test_not_usable(self, credential: Credential) -> None:
        """What does not read back as a credential is not published; the message does not show it."""
        world = Backend(credential)
        before = world.publish(aws_credential(tag="OLD"))
        outcome = world.rotation(world.policy, no_secrets, RotateOptions(force=True))
        assert outcome.error is not None
        assert outcome.error.reason == "NotPublishable"
        assert "secret-A" not in outcome.error.message
        assert world.stored == before

    def test_due_and_no_better(self) -> None:
        """A vendor that hands out the old credential again, when it is due, is a failure that someone has to see."""
        world = Backend(aws_credential(tag="SAME"))
        before = world.publish(aws_credential(tag="SAME"))
        world.clock.now = NOW + 50 * MINUTE
        outcome = world.rotation(world.policy, no_secrets, RotateOptions())
        assert (outcome.action, outcome.reason) == ("failed", "Expiring")
        assert outcome.error is not None
        assert outcome.error.reason == "NotBetter"
        assert world.stored == before

    @pytest.mark.parametrize("life", [HOUR, 50 * MINUTE])
    def test_early_and_no_better(self, life: timedelta) -> None:
        """An early pass that gets nothing better keeps what is there, and that is no failure."""
        world = Backend(aws_credential(life=life, tag="NEW"))
        before = world.publish(aws_credential())
        outcome = world.rotation(world.policy, no_secrets, RotateOptions(within=2 * HOUR))
        assert (outcome.action, outcome.reason, outcome.expires_at) == ("kept", "NotBetter", NOW + HOUR)
        assert (world.stored, world.store.writes) == (before, [])
