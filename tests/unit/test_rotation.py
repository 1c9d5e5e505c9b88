"""The one use case: what is read, decided, exchanged and written, and what never is."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.errors import Denied, PolicyError, RotationError, StoreAway, Transient
from credrotator.core.model import (
    Credential,
    InvalidPolicy,
    ObjectKey,
    Owner,
    Policy,
    Problem,
    Rotatable,
    SecretKeyRef,
    Static,
    fingerprint,
    generated_secret,
)
from credrotator.core.planning import TINY_LIFE
from credrotator.core.secret_document import Published, SecretDocument, StoredSecret
from credrotator.core.secretdata import (
    ANNOTATED,
    CONTENT,
    EXPIRY,
    FINGERPRINT,
    ISSUED,
    TIMES,
    TRUE_EXPIRY,
    cached_state,
    is_intact,
    park,
    read_time,
    render,
    show_time,
)
from credrotator.core.sensitive import Sensitive
from credrotator.observability.audit import Audit
from credrotator.rotation.rotation import PUBLISH_TRIES, RotateOptions, Rotation
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
    document,
    no_secrets,
    static_policy,
    with_annotation,
)

MINUTE = timedelta(minutes=1)
FAILURES = [
    Transient("IssuerUnreachable", "refused", hint="look"),
    Denied("AccessDenied", "no", hint="grant"),
    PolicyError("SecretNotFound", "none", hint="create"),
]


class Backend:
    """A store, an exchange, a clock, and the rotation between them."""

    def __init__(self, *script: Credential | Exception) -> None:
        self.store = MemoryStore()
        self.exchange = ScriptedExchange(*script or (aws_credential(tag="NEW"),))
        self.clock = StandingClock()
        self.rotation = Rotation(self.store, self.exchange, self.clock, audit=Audit())
        self.policy = aws_policy()

    def publish(self, credential: Credential, role: str = "bedrock") -> SecretDocument:
        """Let the store hold a credential, as an earlier pass would have left it."""
        written = render(SECRET, credential, fingerprint(aws_source(role)))
        self.store.put(written)
        return written

    @property
    def stored(self) -> SecretDocument | None:
        """What the store holds."""
        found = self.store.read(SECRET)
        return found.document if found else None


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


class CountingStore(MemoryStore):
    """A store that counts how often it is read."""

    reads = 0

    def read(self, key: ObjectKey) -> StoredSecret | None:
        self.reads += 1
        return super().read(key)


AWAY = StoreAway("ApiServerTimeout", "no answer", hint="look")
RETRY = RotateOptions(is_retry=True)


class TestStoreAway:
    """Fault 61, I16: what is known of a credential's life is not forgotten, and the store is not asked in vain."""

    def world(self) -> Backend:
        """Let a credential of an hour be due."""
        world = Backend(aws_credential(NOW + 50 * MINUTE, tag="NEW"))
        world.store = CountingStore()
        world.rotation = Rotation(world.store, world.exchange, world.clock)
        world.publish(aws_credential())
        world.rotation(world.policy, no_secrets, RotateOptions())
        world.clock.now = NOW + 50 * MINUTE
        return world

    def test_invariant_16_the_expiry_stays_known(self) -> None:
        """While the store is away, an outcome tells the expiry that was read before."""
        world = self.world()
        world.store.broken = AWAY
        outcome = world.rotation(world.policy, no_secrets, RotateOptions())
        assert (outcome.action, outcome.reason, outcome.expires_at) == ("failed", "Expiring", NOW + HOUR)
        assert outcome.renew_at is not None

    def test_invariant_16_what_was_heard_is_known(self) -> None:
        """So does what was heard of it, before it was ever read."""
        world = self.world()
        world.store.broken = AWAY
        seen = Published(NOW + HOUR, NOW, fingerprint(aws_source()))
        rotation = Rotation(world.store, world.exchange, world.clock, cached_state=lambda _: seen)
        assert rotation(world.policy, no_secrets, RotateOptions()).expires_at == NOW + HOUR

    def test_fault_61_one_exchange_for_all_of_the_outage(self) -> None:
        """A retry gets the credential meanwhile, once; when the store is back it has only to be written."""
        world = self.world()
        world.store.broken = AWAY
        for options in (RotateOptions(), RETRY, RETRY, RETRY):
            assert world.rotation(world.policy, no_secrets, options).action == "failed"
        assert len(world.exchange.calls) == 1
        world.store.broken = None
        outcome = world.rotation(world.policy, no_secrets, RETRY)
        assert (outcome.action, len(world.exchange.calls)) == ("rotated", 1)

    @pytest.mark.parametrize("options", [RotateOptions(), RETRY], ids=["first", "retry"])
    def test_fault_61_a_failing_attempt_reads_once_at_most(self, options: RotateOptions) -> None:
        """The first one reads the store once; a retry asks the exchange, and with it the circuit breaker, before it."""
        world = self.world()
        assert isinstance(world.store, CountingStore)
        world.exchange.script = [FAILURES[0]]
        world.store.reads = 0
        outcome = world.rotation(world.policy, no_secrets, options)
        assert (outcome.action, outcome.expires_at) == ("failed", NOW + HOUR)
        assert world.store.reads == (0 if options.is_retry else 1)

    def test_a_retry_adopts_what_somebody_else_wrote(self) -> None:
        """A credential that was got before the store was read does not replace a fresh one."""
        world = self.world()
        theirs = world.publish(aws_credential(world.clock.now, tag="THEIRS"))
        outcome = world.rotation(world.policy, no_secrets, RETRY)
        assert (outcome.action, outcome.reason, world.stored) == ("kept", "Adopted", theirs)

    def test_nothing_is_kept_of_what_is_gone(self) -> None:
        """I14: what is known of a policy goes with it."""
        world = self.world()
        world.rotation.forget(KEY)
        assert (world.rotation._known, world.rotation._held) == ({}, {})


class TestClockBehind:
    """Fault 68: a machine whose clock is behind, in cron: what was issued in the future is not simply fresh."""

    def world(self, behind: timedelta, true_age: timedelta, tells: datetime | Exception | None) -> Backend:
        """Let a credential be issued, and a machine that is behind look at it later; it may ask for the time."""
        world = Backend(aws_credential(NOW + true_age, tag="NEW"))
        world.publish(aws_credential())
        world.clock.now = NOW + true_age - behind
        self.asked: list[Rotatable] = []

        def ask(source: Rotatable) -> datetime | None:
            self.asked.append(source)
            if isinstance(tells, Exception):
                raise tells
            return tells

        world.rotation = Rotation(world.store, world.exchange, world.clock, ask_time=ask)
        return world

    @pytest.mark.parametrize("age_min", [41, 59, 61, 600])
    def test_fault_68_a_credential_that_is_over_is_not_fresh(self, age_min: int) -> None:
        """By this clock it will be issued tonight; by the vendor's it is due: it is renewed, with a warning."""
        world = self.world(12 * HOUR, age_min * MINUTE, NOW + age_min * MINUTE)
        outcome = world.rotation(world.policy, no_secrets, RotateOptions())
        assert (outcome.action, outcome.reason) == ("rotated", "Expiring")
        assert "set the clock" in outcome.warnings[0]

    def test_fault_68_a_fresh_one_stays(self) -> None:
        """Where the vendor's clock says that it is fresh, it is; the warning stays, and no exchange is made."""
        world = self.world(2 * HOUR, 5 * MINUTE, NOW + 5 * MINUTE)
        outcome = world.rotation(world.policy, no_secrets, RotateOptions())
        assert (outcome.action, outcome.reason, len(self.asked)) == ("kept", "Fresh", 1)
        assert "set the clock" in outcome.warnings[0]
        assert world.exchange.calls == []

    def test_fault_68_nobody_tells(self) -> None:
        """A credential that may be dead is not called fresh: the pass fails, and says what to do."""
        world = self.world(2 * HOUR, 70 * MINUTE, Transient("ClockBehind", "behind", hint="set the clock"))
        outcome = world.rotation(world.policy, no_secrets, RotateOptions())
        assert (outcome.action, outcome.reason) == ("failed", "ClockBehind")

    @pytest.mark.parametrize("behind", [timedelta(0), timedelta(seconds=40)], ids=str)
    def test_a_clock_that_is_right_asks_nobody(self, behind: timedelta) -> None:
        """I4: where all is well no one is asked."""
        world = self.world(behind, timedelta(0), None)
        assert world.rotation(world.policy, no_secrets, RotateOptions()).warnings == ()
        assert self.asked == []

    def test_a_dry_run_asks_nobody(self) -> None:
        """A dry run calls no service; it warns."""
        world = self.world(2 * HOUR, 5 * MINUTE, None)
        outcome = world.rotation(world.policy, no_secrets, RotateOptions(dry_run=True))
        assert (outcome.action, len(outcome.warnings), self.asked) == ("kept", 1, [])


EDITS = [timedelta(hours=5), timedelta(minutes=-50), timedelta(hours=-1), timedelta(seconds=1)]


class TestEditedTimes:
    """Fault 37: an expiry that somebody edited is not believed, and put right at once."""

    def publish(self, life: timedelta) -> tuple[Backend, SecretDocument]:
        """Let a pass of before have published a credential, and nobody remember it."""
        world = Backend(aws_credential(NOW, life, tag="NEW"))
        return world, world.publish(aws_credential(life=life))

    @pytest.mark.parametrize("moved", EDITS, ids=str)
    @pytest.mark.parametrize("name", [EXPIRY, ANNOTATED])
    @pytest.mark.parametrize("life", [HOUR, 10 * MINUTE], ids=str)
    def test_fault_37_an_edited_expiry_is_not_believed(self, moved: timedelta, name: str, life: timedelta) -> None:
        """Later or sooner, ours or the gateway's: it is repaired once, with a credential that lives as it says."""
        world, before = self.publish(life)
        edited = show_time((read_time(before.annotations[name]) or NOW) + moved)
        world.store.put(with_annotation(before, name, edited))
        assert cached_state(with_annotation(before, name, edited)) is None
        assert not is_intact(with_annotation(before, name, edited))
        outcome = world.rotation(world.policy, no_secrets, RotateOptions())
        assert (outcome.action, outcome.reason, outcome.expires_at) == ("rotated", "Unreadable", NOW + life)
        assert world.stored is not None
        assert all(world.stored.annotations[each] == before.annotations[each] for each in (EXPIRY, ANNOTATED, ISSUED))
        assert world.rotation(world.policy, no_secrets, RotateOptions()).action == "kept"

    @pytest.mark.parametrize("moved", EDITS, ids=str)
    def test_fault_37_ours_is_known_while_it_cannot_be_repaired(self, moved: timedelta) -> None:
        """Where no new credential is to be had, what is known of the old one's life is still what we wrote."""
        world, before = self.publish(HOUR)
        world.exchange.script = [FAILURES[0]]
        world.store.put(with_annotation(before, EXPIRY, show_time(NOW + HOUR + moved)))
        outcome = world.rotation(world.policy, no_secrets, RotateOptions())
        assert (outcome.action, outcome.reason, outcome.expires_at) == ("failed", "Unreadable", NOW + HOUR)

    @pytest.mark.parametrize("names", [(TRUE_EXPIRY,), (EXPIRY, ANNOTATED, TRUE_EXPIRY), (ISSUED,)], ids=str)
    @pytest.mark.parametrize("life", [HOUR, 10 * MINUTE], ids=str)
    def test_fault_37_who_wrote_it_knows_its_times(self, names: tuple[str, ...], life: timedelta) -> None:
        """A daemon believes no other times beside its own credential, however whole they look; no exchange is made."""
        world = Backend(aws_credential(NOW, life))
        rotation, seen = world.rotation, None
        rotation(world.policy, no_secrets, RotateOptions())
        assert world.stored is not None
        before = world.stored
        for name in names:
            if name in world.stored.annotations or name == TRUE_EXPIRY:
                world.store.put(with_annotation(world.stored, name, show_time(NOW + 5 * HOUR)))
        if names != (ISSUED,):
            seen = cached_state(world.stored)
            assert seen is None or seen.expires_at == NOW + 5 * HOUR
        outcome = rotation(world.policy, no_secrets, RotateOptions())
        assert (outcome.action, outcome.expires_at) == ("rotated", NOW + life)
        assert (world.stored.annotations, len(world.exchange.calls)) == (before.annotations, 1)

    @pytest.mark.parametrize(
        "names", [(TRUE_EXPIRY,), (EXPIRY, ANNOTATED, TRUE_EXPIRY), (ISSUED,), (CONTENT,)], ids=str
    )
    @pytest.mark.parametrize("life", [HOUR, 10 * MINUTE], ids=str)
    def test_fault_37_another_process_can_tell(self, names: tuple[str, ...], life: timedelta) -> None:
        """Who has never seen the Secret finds that its times are not those that were written with its data."""
        world, edited = self.publish(life)
        for name in names:
            edited = with_annotation(edited, name, show_time(NOW + 5 * HOUR))
        world.store.put(edited)
        assert cached_state(edited) is None
        assert not is_intact(edited)
        outcome = world.rotation(world.policy, no_secrets, RotateOptions())
        assert (outcome.action, outcome.reason, outcome.expires_at) == ("rotated", "Unreadable", NOW + life)

    def test_a_secret_of_an_older_version_is_believed(self) -> None:
        """It has no hash of its times, and is neither rotated nor written for that."""
        world, before = self.publish(HOUR)
        notes = {name: text for name, text in before.annotations.items() if name != TIMES}
        world.store.put(replace(before, annotations=notes))
        assert is_intact(replace(before, annotations=notes))
        assert world.rotation(world.policy, no_secrets, RotateOptions()).action == "kept"

    @pytest.mark.parametrize("name", [TRUE_EXPIRY, ISSUED])
    def test_fault_37_parking_keeps_an_edit_of_the_times_known(self, name: str) -> None:
        """Parked with an edited time, the Secret still shows that it is none of ours."""
        _, before = self.publish(HOUR)
        edited = with_annotation(before, name, show_time(NOW + 5 * HOUR))
        parked = park(edited, SECRET, Owner("v1", "bedrock", "uid"), NOW + 15 * MINUTE)
        assert not is_intact(parked)
        assert is_intact(park(before, SECRET, Owner("v1", "bedrock", "uid"), NOW + 15 * MINUTE))

    def test_fault_37_what_is_heard_of_an_edit_is_not_believed(self) -> None:
        """What the watch says of the Secret counts only as far as it agrees with what was written."""
        world = Backend(aws_credential())
        heard: list[Published] = []
        rotation = Rotation(
            world.store, world.exchange, world.clock, cached_state=lambda _: heard[0] if heard else None
        )
        rotation(world.policy, no_secrets, RotateOptions())
        heard.append(Published(NOW + 5 * HOUR, NOW, fingerprint(aws_source())))
        world.clock.now = NOW + 50 * MINUTE
        world.exchange.script = [aws_credential(world.clock.now, tag="NEW")]
        assert rotation(world.policy, no_secrets, RotateOptions()).action == "rotated"

    def test_parking_makes_no_edit_true(self) -> None:
        """A Secret that is parked with an edited annotation keeps our expiry as the true one."""
        _, before = self.publish(HOUR)
        edited = with_annotation(before, EXPIRY, show_time(NOW + 5 * HOUR))
        parked = park(edited, SECRET, Owner("v1", "bedrock", "uid"), NOW + 15 * MINUTE)
        found = parse_as(parked, "aws-oidc")
        assert isinstance(found, Published)
        assert found.expires_at == NOW + HOUR


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
    for part in (str(KEY), "Expiring", str(NOW + 10 * MINUTE), str(NOW + HOUR), "request-NEW"):
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
    if isinstance(old, Published) and good and same_policy and not is_forced:
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
