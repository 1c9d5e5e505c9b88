"""What the daemon does with failures, and whom they delay."""

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
from credrotator.core.errors import Denied, NotAsked, Transient
from credrotator.core.model import ObjectKey, TokenFile
from credrotator.observability.logs import JsonFormatter
from credrotator.providers.aws.source import AwsOidc
from credrotator.providers.azure.source import AzureOidc
from credrotator.providers.gcp.source import GcpWorkloadIdentity
from tests.support import builders
from tests.support.fakes import IDP, OTHER, UNREACHABLE, Backend, policy
from tests.support.twins import HOUR, MINUTE, SECOND
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Callable


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

    def test_a_write_that_hangs_holds_no_place_of_its_issuer(self, world: Backend) -> None:
        """The next policy of the same issuer is asked for while the API server is slow with the first one."""
        answered = threading.Event()

        def wait() -> None:
            answered.wait(LIMIT_S)

        world.store.before_publish.append(wait)
        world.add("first", "second")
        eventually(lambda: len(world.exchange.calls) == 2)
        answered.set()
        world.settled()
        assert len(world.store.writes) == 2

    def test_a_verification_that_hangs_holds_one(self, world: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who verifies is a vendor as well: all workers could hang there."""
        answered, asked = threading.Event(), threading.Event()

        def verify(*_: object, **__: object) -> None:
            asked.set()
            answered.wait(LIMIT_S)

        monkeypatch.setattr(world.exchange, "verify", verify)
        for name in ("first", "second"):
            world.source.put(replace(policy(ObjectKey("default", name)), verify=True))
        assert asked.wait(LIMIT_S)
        assert len(world.exchange.calls) == 1
        answered.set()
        world.settled()
        assert len(world.exchange.calls) == 2


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
