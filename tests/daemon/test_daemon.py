"""The daemon's shell: when it looks at what, what it does with failures, and how it ends."""

from __future__ import annotations

import io
import json
import logging
import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.backoff import LONGEST_UNSERVED
from credrotator.core.errors import Conflict, Denied, NotAsked, Transient
from credrotator.core.model import InvalidPolicy, Problem, Static, TokenFile, generated_secret
from credrotator.core.secretdata import EXPIRY, FINGERPRINT
from credrotator.observability.logs import JsonFormatter
from credrotator.providers.aws.source import AwsOidc
from credrotator.providers.azure.source import AzureOidc
from credrotator.providers.gcp.source import GcpWorkloadIdentity
from credrotator.rotation.daemon import STATIC_INTERVAL, STOP_S
from tests.support import builders
from tests.support.fakes import UNREACHABLE, Backend, policy
from tests.support.twins import HOUR, KEY, SECRET, static_policy, with_annotation
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
IDP, OTHER = "https://idp.example", "https://other.example"


@pytest.fixture
def world() -> Iterator[Backend]:
    """A daemon of four workers that runs, without policies."""
    here = Backend()
    here.daemon.start()
    yield here
    here.exchange.let_go()
    here.daemon.stop()


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


class TestFailures:
    """Back-off, and what ends it."""

    def test_back_off(self, world: Backend) -> None:
        """After a failure nothing is tried until its time; each failure in a row doubles the wait."""
        world.exchange.failing[IDP] = Denied("AccessDenied", "no", hint="grant it")
        (key,) = world.add("bedrock")
        eventually(lambda: len(world.of(key)) == 1)
        for waited, tries in ((59, 1), (1, 2), (119, 2), (1, 3), (239, 3), (1, 4)):
            world.later(waited * SECOND)
            world.settled()
            assert len(world.exchange.calls) == tries, f"after {waited} s"
        world.exchange.failing.clear()
        world.later(8 * MINUTE)
        eventually(lambda: world.outcomes[-1].action == "rotated")

    def test_fault_55_woken_while_it_is_being_refused(self, world: Backend) -> None:
        """A slot that came free a moment too soon is not lost: the next try comes after a second, not a back-off."""
        world.exchange.failing[IDP] = NotAsked("StsThrottled", "not now", hint="wait", retry_after=SECOND)
        (key,) = world.add("bedrock")
        eventually(lambda: len(world.of(key)) == 1)
        world.exchange.meanwhile = lambda: world.daemon.wake(key)
        world.later(5 * MINUTE)
        eventually(lambda: len(world.of(key)) == 2)
        world.settled()
        world.exchange.failing.clear()
        world.later(SECOND)
        eventually(lambda: world.outcomes[-1].action == "rotated")

    @pytest.mark.parametrize("wrong", [timedelta(hours=1), -timedelta(hours=1)])
    def test_fault_23_a_retry_is_a_wait(self, world: Backend, wrong: timedelta) -> None:
        """A failure while the clock was wrong is tried again after its minute, not an hour later, nor at once."""
        world.exchange.failing[IDP] = Denied("AccessDenied", "no", hint="grant it")
        world.set_clock(wrong)
        world.add("bedrock")
        eventually(lambda: len(world.exchange.calls) == 1)
        world.settled()
        world.set_clock(-wrong)
        for waited, tries in ((59, 1), (2, 2)):
            world.later(waited * SECOND)
            world.settled()
            assert len(world.exchange.calls) == tries, f"after {waited} s"

    def test_a_success_ends_the_row(self, world: Backend) -> None:
        """The next failure waits as briefly as a first one."""
        world.exchange.failing[IDP] = Denied("AccessDenied", "no", hint="grant it")
        (key,) = world.add("bedrock")
        for _ in range(3):
            world.settled()
            world.later(8 * MINUTE)
        world.exchange.failing.clear()
        world.later(8 * MINUTE)
        eventually(lambda: world.outcomes[-1].action == "rotated")
        world.exchange.failing[IDP] = UNREACHABLE
        world.later(40 * MINUTE)
        eventually(lambda: world.outcomes[-1].action == "failed")
        world.settled()
        due = world.daemon._timetable.take(key)
        assert due is not None
        assert due - world.clock.now <= 2 * SECOND

    def test_retry_after(self, world: Backend) -> None:
        """The server's wish is obeyed (fault 10)."""
        world.exchange.failing[IDP] = Transient("Throttled", "slow", hint="wait", retry_after=4 * MINUTE)
        world.add("bedrock")
        world.settled()
        world.later(4 * MINUTE - SECOND)
        world.settled()
        assert len(world.exchange.calls) == 1
        world.later(SECOND)
        eventually(lambda: len(world.exchange.calls) == 2)

    def test_fault_52_who_never_had_a_credential_does_not_wait_an_hour(self, world: Backend) -> None:
        """An hour of Retry-After is overridden after some minutes, by a try that says so, and again after some more."""
        world.exchange.failing[IDP] = Transient("Throttled", "slow", hint="wait", retry_after=HOUR)
        world.add("bedrock")
        world.settled()
        for tries in (1, 2):
            world.later(LONGEST_UNSERVED - SECOND)
            world.settled()
            assert len(world.exchange.calls) == tries
            world.later(SECOND)
            world.settled()
            assert len(world.exchange.calls) == tries + 1
        assert world.exchange.ignored_retry_after == [False, True, True]

    def test_a_long_exchange_is_not_tried_again_at_once(self, world: Backend) -> None:
        """Sweeps that come while a policy is looked at ask for no second look: the back-off would mean nothing."""
        world.add("bedrock")
        world.settled()
        world.exchange.hanging.add(IDP)
        world.exchange.failing[IDP] = Denied("AccessDenied", "no", hint="grant it")
        world.later(40 * MINUTE)
        eventually(lambda: world.exchange.waiting == 1)
        for _ in range(3):
            world.later(10 * SECOND)
        world.exchange.let_go()
        world.settled()
        assert len(world.exchange.calls) == 2

    def test_a_change_ends_the_wait(self, world: Backend) -> None:
        """An edit, or a new client secret, is a reason to try at once, and to forget earlier failures."""
        world.exchange.failing[IDP] = Denied("AccessDenied", "no", hint="grant it")
        (key,) = world.add("bedrock")
        for _ in range(3):
            world.settled()
            world.later(8 * MINUTE)
        world.settled()
        tries = len(world.exchange.calls)
        assert world.look_again(key).action == "failed"
        world.later(MINUTE)
        eventually(lambda: len(world.exchange.calls) == tries + 2)
        world.settled()
        world.exchange.failing.clear()
        assert world.look_again(key).action == "rotated"

    def test_a_fault_of_ours(self, world: Backend, caplog: pytest.LogCaptureFixture) -> None:
        """An unexpected exception costs no worker and no policy: it is looked at again a minute later."""
        world.exchange.failing[IDP] = ZeroDivisionError("a defect")
        keys = world.add("a", "b", "c", "d", "e")
        world.settled()
        assert world.daemon.trouble() is None
        world.exchange.failing.clear()
        world.later(59 * SECOND)
        world.settled()
        assert not world.outcomes
        world.later(SECOND)
        eventually(lambda: {outcome.policy for outcome in world.outcomes} == set(keys))

    def test_every_line_names_its_look(self, world: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the worker logs carries the policy's key and an id of this look; the audit record is one of them."""
        written = io.StringIO()
        handler = logging.StreamHandler(written)
        handler.setFormatter(JsonFormatter())
        monkeypatch.setattr(logging.getLogger("credrotator"), "handlers", [handler])
        world.exchange.failing[IDP] = Denied("AccessDenied", "no", hint="grant")
        keys = world.add("a", "b")
        world.settled()
        lines = [json.loads(line) for line in written.getvalue().splitlines()]
        failed = [line for line in lines if line.get("decision") == "failed"]
        assert {line["policy"] for line in failed} == set(map(str, keys))
        assert {line["level"] for line in failed} == {"warning"}
        assert len({line["rotation"] for line in failed}) == len(failed) >= 2

    def test_a_listener_that_fails(self, world: Backend) -> None:
        """What follows an outcome can go wrong; the credential is published, and the next look comes."""

        def fail() -> None:
            world.listening = lambda: None
            raise OSError("no space left")

        world.listening = fail
        world.add("bedrock")
        world.settled()
        assert len(world.store.writes) == 1
        world.later(MINUTE)
        eventually(lambda: [outcome.action for outcome in world.outcomes] == ["rotated", "kept"])

    @pytest.mark.parametrize("threads", [4, 16])
    def test_i5_a_hung_issuer_takes_a_quarter_of_the_workers(self, threads: int) -> None:
        """Policies of others are rotated as if nothing were; those of the hung one come when it is well again."""
        world = Backend(workers=threads)
        world.exchange.hanging.add(IDP)
        world.daemon.start()
        hung = world.add(*(f"hung-{number}" for number in range(20)))
        eventually(lambda: world.exchange.waiting == threads // 4)
        has_valid_token = world.add(*(f"well-{number}" for number in range(20)), issuer=OTHER)
        eventually(lambda: {outcome.policy for outcome in world.outcomes} == set(has_valid_token))
        assert world.exchange.waiting == threads // 4
        world.exchange.let_go()
        eventually(lambda: {outcome.policy for outcome in world.outcomes} == {*has_valid_token, *hung})
        world.daemon.stop()

    def test_i5_an_issuer_that_is_well_has_more(self) -> None:
        """While its token is at hand, its policies may take three quarters; some workers are left for others."""
        world = Backend(workers=16)
        world.exchange.hanging.add(IDP)
        world.has_valid_token.add(IDP)
        world.daemon.start()
        world.add(*(f"hung-{number}" for number in range(30)))
        eventually(lambda: world.exchange.waiting == 12)
        has_valid_token = world.add(*(f"well-{number}" for number in range(20)), issuer=OTHER)
        eventually(lambda: {outcome.policy for outcome in world.outcomes} == set(has_valid_token))
        assert world.exchange.waiting == 12
        world.exchange.let_go()
        world.daemon.stop()


@pytest.mark.parametrize(
    ("source", "lane"),
    [
        (builders.aws, "https://idp.example/realms/ai"),
        (builders.gcp, "https://idp.example/realms/ai"),
        (builders.azure_secret, "entra https://login.microsoftonline.com/contoso.example app"),
        (builders.gcp_key, "google token team-a/key"),
    ],
)
def test_what_a_policy_hangs_at_first(source: Callable[[], builders.Manifest], lane: str) -> None:
    """Its issuer; where none is asked, the vendor: a quarter of the workers is all that either may hold."""
    world = Backend()
    found = builders.valid(source())
    world.source.put(found)
    assert world.lanes.of(found.key) == lane


@pytest.mark.parametrize(
    ("source", "lane"), [(builders.aws, "sts us-east-1"), (builders.azure, "login"), (builders.gcp, "google")]
)
def test_what_a_policy_with_a_token_file_hangs_at_first(source: Callable[[], builders.Manifest], lane: str) -> None:
    """A file does not hang, so it is the vendor."""
    world = Backend()
    found = builders.valid(source())
    assert isinstance(found.source, AwsOidc | AzureOidc | GcpWorkloadIdentity)
    world.source.put(replace(found, source=replace(found.source, oidc=TokenFile("pod"))))
    assert lane in world.lanes.of(found.key)


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
        assert b'name="bedrock"' not in scrape(world)

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


class TestLeadership:
    """Only the leader writes (I8)."""

    def test_a_standby_does_nothing(self, world: Backend) -> None:
        """No exchange, no write, nothing to see in its metrics."""
        world.leading = False
        world.add("bedrock")
        world.settled()
        assert not world.exchange.calls
        assert not world.outcomes
        assert b'name="bedrock"' not in scrape(world)

    def test_a_new_leader_looks_at_everything(self, world: Backend) -> None:
        """What changed while another one led is found."""
        world.leading = False
        keys = world.add("a", "b")
        world.settled()
        world.leading = True
        world.daemon.enqueue_all()
        eventually(lambda: {outcome.policy for outcome in world.outcomes} == set(keys))

    def test_it_leads_before_it_is_told_so(self, world: Backend) -> None:
        """I7: what it has looked at by then, or is looking at, is not looked at again, least of all what fails."""
        world.exchange.failing[IDP] = UNREACHABLE
        world.exchange.meanwhile = world.daemon.enqueue_all
        world.add("bedrock")
        world.settled()
        world.daemon.enqueue_all()
        world.settled()
        assert len(world.exchange.calls) == 1

    def test_told_between_taking_a_policy_and_reading_it(self, world: Backend) -> None:
        """I7: a worker that has a policy in hand when it begins to lead makes the one attempt that is asked for."""
        world.leading = False
        world.daemon.enqueue_all()
        world.exchange.failing[IDP] = UNREACHABLE
        asked = threading.Event()

        def lead() -> bool:
            # Once, in the moment in which the worker asks: everything is enqueued then, this policy too.
            if not asked.is_set():
                asked.set()
                world.leading = True
                world.daemon.enqueue_all()
            return world.leading

        world.daemon._leads = lead
        world.add("bedrock")
        world.settled()
        assert asked.is_set()
        assert len(world.exchange.calls) == 1

    def test_fault_33_lost_between_exchange_and_write(self, world: Backend) -> None:
        """Leadership is asked for right before the write; nothing is published, and nobody told."""

        def lose() -> None:
            world.leading = False
            world.daemon.stand_down()

        world.exchange.meanwhile = lose
        world.add("bedrock")
        eventually(lambda: len(world.exchange.calls) == 1)
        world.settled()
        assert not world.store.writes
        assert not world.outcomes

    def test_a_failure_after_it_was_lost(self, world: Backend) -> None:
        """Whoever does not lead parks nothing and says nothing."""
        world.exchange.failing[IDP] = UNREACHABLE
        world.exchange.meanwhile = lambda: setattr(world, "leading", False)
        world.add("bedrock")
        eventually(lambda: len(world.exchange.calls) == 1)
        world.settled()
        assert not world.outcomes
        assert not world.daemon._failures

    def test_standing_down(self, world: Backend) -> None:
        """What an old leader showed grows stale, so it shows it no more; and it looks at nothing."""
        world.add("a", "b")
        world.settled()
        assert b'name="a"' in scrape(world)
        world.leading = False
        world.daemon.stand_down()
        assert b'name="a"' not in scrape(world)
        world.later(2 * HOUR)
        world.settled()
        assert len(world.exchange.calls) == 2
        assert not world.daemon._timetable._times

    def test_invariant_16_a_pause(self, world: Backend) -> None:
        """Where the Lease lapses in an outage, expiries stay known and shown; then all is looked at, soonest first."""
        keys = world.add("a", "b", "c")
        world.settled()
        world.leading = False
        world.daemon.pause()
        world.later(2 * HOUR)
        world.settled()
        shown = scrape(world)
        assert all(f'name="{key.name}"'.encode() in shown for key in keys)
        assert len(world.exchange.calls) == 3
        assert not world.daemon._timetable._times
        world.leading = True
        world.daemon.enqueue_all()
        eventually(lambda: len(world.exchange.calls) == 6)

    def test_invariant_16_a_pause_within_an_attempt(self, world: Backend) -> None:
        """What an attempt left behind is planned no further, and its expiry stays known."""
        (key,) = world.add("bedrock")
        world.settled()
        world.daemon.enqueue_all()

        def lapse() -> None:
            world.leading = False
            world.daemon.pause()

        world.exchange.meanwhile = lapse
        world.later(HOUR)
        eventually(lambda: len(world.exchange.calls) == 2)
        world.settled()
        assert b'name="bedrock"' in scrape(world)
        assert not world.daemon._timetable._times
        world.daemon.stand_down()
        assert b'name="bedrock"' not in scrape(world)
        assert key not in world.daemon._expiries

    def test_coming_back(self, world: Backend) -> None:
        """Leading again, it does what is due by the store, with what it still holds."""
        (key,) = world.add("bedrock")
        world.settled()
        world.leading = False
        world.daemon.stand_down()
        world.leading = True
        world.daemon.enqueue_all()
        eventually(lambda: [outcome.action for outcome in world.of(key)] == ["rotated", "kept"])
        assert b'name="bedrock"' in scrape(world)


class TestStartAndEnd:
    """Restart and stop."""

    def test_i4_a_restart_with_everything_fresh(self) -> None:
        """No exchange, no write, one read for each policy."""
        world = Backend()
        world.add(*(f"policy-{number}" for number in range(50)))
        world.daemon.start()
        world.settled()
        assert len(world.exchange.calls) == len(world.store.writes) == 50
        world.restart()
        eventually(lambda: len(world.outcomes) == 50)
        world.settled()
        assert {outcome.action for outcome in world.outcomes} == {"kept"}
        assert len(world.exchange.calls) == len(world.store.writes) == 50
        world.daemon.stop()

    def test_i11_a_restart_keeps_the_schedule(self) -> None:
        """Renewals come when they would have come."""
        world = Backend()
        world.add(*(f"policy-{number}" for number in range(10)))
        world.daemon.start()
        world.settled()
        before = dict(world.daemon._timetable._times)
        world.restart()
        eventually(lambda: len(world.outcomes) == 10)
        world.settled()
        assert world.daemon._timetable._times == before
        world.daemon.stop()

    def test_fault_50_stop_with_a_hanging_exchange(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The end does not wait for an exchange; what comes of it later is looked at by nobody."""
        assert STOP_S < 9
        monkeypatch.setattr("credrotator.rotation.daemon.STOP_S", 0.2)
        world = Backend()
        world.exchange.hanging.add(IDP)
        world.daemon.start()
        world.add("bedrock")
        eventually(lambda: world.exchange.waiting == 1)
        world.daemon.stop()
        assert world.exchange.waiting == 1
        world.leading = False
        world.exchange.let_go()

    def test_stop_lets_a_write_finish(self) -> None:
        """What is being written is written before stop returns."""
        world = Backend()
        writing, written = threading.Event(), threading.Event()

        def slowly() -> None:
            writing.set()
            written.wait(LIMIT_S)

        world.store.before_publish.append(slowly)
        world.daemon.start()
        world.add("bedrock")
        assert writing.wait(LIMIT_S)
        threading.Timer(0.2, written.set).start()
        world.daemon.stop()
        assert len(world.store.writes) == 1

    def test_stop_ends_all_threads(self) -> None:
        """Nothing of it is left behind."""
        before = set(threading.enumerate())
        world = Backend(workers=8)
        world.daemon.start()
        world.add("a", "b", "c")
        world.settled()
        world.daemon.stop()
        eventually(lambda: set(threading.enumerate()) <= before)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_dead_sweep_is_trouble(self, world: Backend) -> None:
        """Without it what timers miss is missed for good."""
        timetable = world.daemon._timetable
        assert timetable.dead() == []
        timetable._sweeper = threading.Thread(target=lambda: None, name="sweep")
        timetable._sweeper.start()
        timetable._sweeper.join()
        assert world.daemon.trouble() == "dead threads: sweep"

    def test_a_lapse_is_made_up_for_soon(self, world: Backend) -> None:
        """What was given up because another one led at that moment is looked at again within seconds."""
        (key,) = world.add("one")
        world.settled()
        lapsed = replace(world.outcomes[-1], action="skipped", reason="NotLeader", renew_at=None, abandoned=True)
        world.daemon.plan(lapsed)
        due = world.daemon._timetable.take(key)
        assert due is not None
        assert due - world.clock() <= timedelta(seconds=15)

    def test_retries_differ_between_clusters(self, world: Backend) -> None:
        """Policies of one name in two clusters have different UIDs, and must not ask in step."""
        world.exchange.failing["https://idp.example"] = UNREACHABLE
        (key,) = world.add("one")
        world.settled()
        failed = world.outcomes[-1]
        waits = set()
        for uid in ("a", "b"):
            world.source.present[key] = replace(policy(key), uid=uid)
            world.daemon._failures.clear()
            for _ in range(6):
                world.daemon.plan(failed)
            due = world.daemon._timetable.take(key)
            assert due is not None
            waits.add(due - world.clock())
        assert len(waits) == 2

    def test_dead_workers_are_trouble(self, world: Backend) -> None:
        """Liveness tells of a worker that ended though it should not have."""
        assert world.daemon.trouble() is None
        world.daemon._queue.close()
        eventually(lambda: "worker-0" in (world.daemon.trouble() or ""))


def scrape(world: Backend) -> bytes:
    """Return the metrics text."""
    return world.metrics.exposition()


def test_the_secret_is_the_only_state(world: Backend) -> None:
    """A credential that another one published meanwhile is taken as it is."""
    (key,) = world.add("bedrock")
    world.settled()
    document = world.store.writes[0]
    world.store.put(document)
    assert world.look_again(key).action == "kept"
    assert world.store.secrets[generated_secret(key)].document == document
