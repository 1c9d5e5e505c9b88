"""A rotation where something cannot be believed: a store that is away, a clock, times that somebody edited."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from credrotator.core.errors import StoreAway, Transient
from credrotator.core.model import (
    ObjectKey,
    Owner,
    Rotatable,
    fingerprint,
)
from credrotator.core.secret_document import Published, SecretDocument, StoredSecret
from credrotator.core.secretdata import (
    ANNOTATED,
    CONTENT,
    EXPIRY,
    ISSUED,
    TIMES,
    TRUE_EXPIRY,
    cached_state,
    is_intact,
    park,
    read_time,
    show_time,
)
from credrotator.rotation.rotation import RotateOptions, Rotation
from tests.support.builders import parse_as
from tests.support.twins import (
    HOUR,
    KEY,
    NOW,
    SECRET,
    MemoryStore,
    aws_credential,
    aws_source,
    no_secrets,
    with_annotation,
)
from tests.unit.rotating import FAILURES, MINUTE, Backend


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
