"""The daemon's shell: when it looks at what, what it does with failures, and how it ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from credrotator.core.errors import Conflict, Denied, Transient
from credrotator.core.model import InvalidPolicy, Problem, Static, generated_secret
from credrotator.core.secretdata import EXPIRY, FINGERPRINT
from credrotator.rotation.daemon import STATIC_INTERVAL
from tests.support.fakes import IDP, UNREACHABLE, Backend, policy
from tests.support.twins import HOUR, KEY, MINUTE, SECOND, SECRET, static_policy, with_annotation
from tests.support.waiting import eventually


class TestTime:
    """Rotation when it is due, and only then."""

    def test_first_rotation(self, world: Backend) -> None:
        """A policy without a Secret is rotated as soon as it is there, once."""
        world.add("bedrock")
        eventually(lambda: len(world.outcomes) == 1)
        world.settled()
        assert [outcome.action for outcome in world.outcomes] == ["rotated"]
        assert (len(world.exchange.calls), len(world.store.writes)) == (1, 1)

    def test_renewal_in_time(self, world: Backend) -> None:
        """Renewed at two thirds of its life, not before."""
        world.add("bedrock")
        world.settled()
        world.later(35 * MINUTE)
        world.settled()
        assert len(world.store.writes) == 1
        world.later(5 * MINUTE)
        eventually(lambda: len(world.store.writes) == 2)
        assert world.outcomes[-1].reason == "Expiring"

    def test_ten_hours(self, world: Backend) -> None:
        """Renewals go on for as long as it runs: about one in 39 minutes for a life of an hour (I12)."""
        world.add("bedrock")
        world.settled()
        for _ in range(100):
            world.later(timedelta(minutes=6))
            world.settled()
        assert 14 <= len(world.store.writes) <= 17
        assert len(world.exchange.calls) == len(world.store.writes)

    def test_static_policies(self, world: Backend) -> None:
        """What needs no rotation is looked at now and then: what it names may come or go."""
        world.source.put(static_policy(Static("api-key"), KEY))
        eventually(lambda: len(world.outcomes) == 1)
        world.later(STATIC_INTERVAL - SECOND)
        world.settled()
        assert len(world.outcomes) == 1
        world.later(SECOND)
        eventually(lambda: len(world.outcomes) == 2)
        assert not world.exchange.calls

    def test_invalid_policies(self, world: Backend) -> None:
        """A policy that cannot work is a failure that only an edit helps; then it is rotated at once."""
        world.source.put(InvalidPolicy(KEY, "test", (Problem("spec", "wrong"),)))
        eventually(lambda: [outcome.reason for outcome in world.outcomes] == ["InvalidPolicy"])
        world.add("bedrock")
        eventually(lambda: len(world.store.writes) == 1)

    def test_lateness_and_duration(self, world: Backend) -> None:
        """Both are measured: from when it was due to when the look began."""
        world.add("bedrock")
        world.settled()
        due = world.outcomes[0].renew_at
        assert due
        world.later(due - world.clock.now + 3 * SECOND)
        eventually(lambda: len(world.store.writes) == 2)
        eventually(lambda: world.metrics.registry.get_sample_value("credrotator_rotation_lateness_seconds_sum") == 3)
        assert world.metrics.registry.get_sample_value(
            "credrotator_rotation_duration_seconds_count", {"stage": "total"}
        )


class TestChanges:
    """Edits, deletions, and what others do to a Secret."""

    def test_fault_57_five_hundred_edits_in_a_minute(self, world: Backend) -> None:
        """Three exchanges at once, then one in six seconds, twelve in a minute; the last edit is what counts."""
        asked = []
        for number in range(500):
            world.add("bedrock", role=f"role-{number}")
            world.settled()
            asked.append(len(world.exchange.calls))
            world.later(timedelta(seconds=0.12))
            world.settled()
        assert asked[2] == 3
        assert asked[-1] <= 12
        world.later(timedelta(seconds=6))
        world.settled()
        assert len(world.exchange.calls) == asked[-1] + 1
        assert world.outcomes[-1].action == "rotated"
        assert world.store.writes[-1].annotations[FINGERPRINT] == policy(KEY, role="role-499").fingerprint

    def test_fault_57_deleting_it_and_making_it_anew_is_no_way_around(self, world: Backend) -> None:
        """The budget outlives the policy; a deletion itself waits for nothing."""
        for _ in range(50):
            world.add("bedrock")
            world.settled()
            world.source.delete(KEY)
            world.settled()
            world.store.secrets.clear()
        assert len(world.exchange.calls) == 3
        assert len(world.gone) == 50

    def test_fault_57_retries_are_not_edits(self, world: Backend) -> None:
        """A policy that has failed again and again is tried at once when somebody corrects it."""
        world.exchange.failing[IDP] = UNREACHABLE
        (key,) = world.add("bedrock")
        for _ in range(20):
            world.settled()
            world.later(5 * MINUTE)
        world.settled()
        world.exchange.failing.clear()
        assert world.look_again(key).action == "rotated"

    def test_an_edit_rotates_at_once(self, world: Backend) -> None:
        """Another role, another credential, however long the old one would live (G15)."""
        (key,) = world.add("bedrock")
        world.settled()
        world.add("bedrock", role="other")
        eventually(lambda: [outcome.reason for outcome in world.of(key)] == ["Missing", "SpecChanged"])

    def test_an_edit_that_changes_nothing(self, world: Backend) -> None:
        """A look, and no exchange."""
        (key,) = world.add("bedrock")
        world.settled()
        world.add("bedrock")
        eventually(lambda: [outcome.action for outcome in world.of(key)] == ["rotated", "kept"])
        assert len(world.exchange.calls) == 1

    def test_a_deleted_policy_is_forgotten(self, world: Backend) -> None:
        """No look, no series, nothing in memory; its Secret is its owner's to remove."""
        (key,) = world.add("bedrock")
        world.settled()
        world.source.delete(key)
        eventually(lambda: world.gone == [key])
        world.later(24 * HOUR)
        world.settled()
        assert len(world.exchange.calls) == 1
        left = (world.daemon._failures, world.daemon._expiries, world.daemon._timetable._times)
        assert not any(left)
        assert not world.rotation._held
        assert b'name="bedrock"' not in world.metrics.exposition()

    def test_fault_43_deleted_during_the_exchange(self, world: Backend) -> None:
        """Nothing is written for a policy that is gone by then, and nobody is told of it."""
        world.exchange.meanwhile = lambda: world.source.delete(KEY)
        world.add("bedrock")
        eventually(lambda: world.gone == [KEY])
        world.settled()
        assert not world.store.writes
        assert not world.outcomes
        assert not world.daemon._expiries

    def test_fault_43_a_failure_of_a_deleted_policy(self, world: Backend) -> None:
        """What follows a failure may write (parking), so it must not follow for a policy that is gone."""
        world.exchange.failing[IDP] = UNREACHABLE
        world.exchange.meanwhile = lambda: world.source.delete(KEY)
        world.add("bedrock")
        eventually(lambda: world.gone == [KEY])
        assert not world.outcomes

    def test_fault_43_edited_during_the_exchange(self, world: Backend) -> None:
        """The credential of the old wish is thrown away, and the new wish granted."""
        world.exchange.meanwhile = lambda: world.source.put(policy(KEY, role="other"))
        world.add("bedrock")
        eventually(lambda: len(world.store.writes) == 1)
        world.settled()
        assert len(world.exchange.calls) == 2
        assert [outcome.action for outcome in world.outcomes] == ["rotated"]

    def test_fault_43_deleted_and_made_again(self, world: Backend) -> None:
        """Another policy of the same name is another policy: the UID tells them apart."""

        def replace_it() -> None:
            world.source.put(replace(policy(KEY), uid="another"))

        world.exchange.meanwhile = replace_it
        world.add("bedrock")
        eventually(lambda: len(world.store.writes) == 1)
        world.settled()
        owner = world.store.writes[0].owner
        assert owner is not None
        assert owner.uid == "another"

    def test_fault_39_a_deleted_secret_is_put_back(self, world: Backend) -> None:
        """From memory, without another exchange."""
        world.add("bedrock")
        world.settled()
        del world.store.secrets[SECRET]
        assert world.look_again(KEY).action == "rotated"
        assert len(world.exchange.calls) == 1
        assert world.store.writes[0].data == world.store.writes[1].data

    def test_g9_a_lost_annotation_is_repaired(self, world: Backend) -> None:
        """The expiry is put back, from memory."""
        world.add("bedrock")
        world.settled()
        world.store.put(with_annotation(world.store.writes[0], EXPIRY, None))
        world.look_again(KEY)
        assert (len(world.exchange.calls), len(world.store.writes)) == (1, 2)
        assert world.store.writes[1].annotations == world.store.writes[0].annotations

    @pytest.mark.parametrize(
        "refusal",
        [
            Denied("QuotaExceeded", "full", hint="make room"),
            Transient("ApiServerFailed", "500", hint="wait"),
        ],
        ids=["fault 27", "fault 28"],
    )
    def test_a_credential_that_could_not_be_written_is_kept(
        self, world: Backend, refusal: Denied | Transient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The retry writes what was issued; there is no second exchange."""

        def refuse() -> None:
            raise refusal

        world.store.before_publish += [refuse, refuse]
        (key,) = world.add("bedrock")
        eventually(lambda: len(world.of(key)) == 1)
        for _ in range(2):
            world.later(10 * MINUTE)
            world.settled()
        assert [outcome.action for outcome in world.outcomes] == ["failed", "failed", "rotated"]
        assert (len(world.exchange.calls), len(world.store.writes)) == (1, 1)

    def test_g36_a_conflict_costs_no_exchange(self, world: Backend) -> None:
        """Somebody else was quicker: read again, decide again, with the credential in hand (fault 26)."""

        def conflict() -> None:
            raise Conflict("quicker")

        world.store.before_publish += [conflict, conflict]
        world.add("bedrock")
        eventually(lambda: len(world.store.writes) == 1)
        assert len(world.exchange.calls) == 1


def test_the_secret_is_the_only_state(world: Backend) -> None:
    """A credential that another one published meanwhile is taken as it is."""
    (key,) = world.add("bedrock")
    world.settled()
    document = world.store.writes[0]
    world.store.put(document)
    assert world.look_again(key).action == "kept"
    assert world.store.secrets[generated_secret(key)].document == document
