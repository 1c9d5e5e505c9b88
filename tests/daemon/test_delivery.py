"""The doorbell, its substitutes, and whether it was heard."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.model import ObjectKey
from credrotator.core.secretdata import show_time
from credrotator.kube.delivery import Delivery
from credrotator.kube.source import BELL
from credrotator.kube.store import LABELS
from credrotator.observability.metrics import Metrics
from tests.support.manifests import BEDROCK, POLICIES, aws, azure_secret, gcp, gcp_key, owner, read, secret, values
from tests.support.twins import StandingClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.model import RotatablePolicy
    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

BEFORE, AFTER = "2026-11-24T11:00:00Z", "2026-11-24T12:00:01Z"
WRITES = {"create", "update", "patch", "delete"}


@dataclass
class Ringing:
    """A delivery, and the policy that it rings for."""

    server: ApiServer
    delivery: Delivery
    policy: RotatablePolicy
    metrics: Metrics
    clock: StandingClock = field(default_factory=StandingClock)

    def ring(
        self, policy: RotatablePolicy | None = None, last_transition: str = BEFORE, *, created: bool = False
    ) -> None:
        ringing = policy or self.policy
        self.delivery.ring(ringing, ringing.owner, last_transition, created=created)

    def overdue_within(self, seconds: float) -> float | None:
        """Let time pass until a bell is overdue; return how long it took, None if none is in so many seconds."""
        began_s = self.clock.seconds()
        while self.clock.seconds() - began_s < seconds:
            if self.delivery.overdue():
                return self.clock.seconds() - began_s
            self.clock.now += timedelta(seconds=1)
        return None

    def again_after(self, key: ObjectKey = BEDROCK) -> float:
        """Ring again when that is due; return after how many seconds."""
        took_s = self.overdue_within(3600)
        assert took_s is not None
        assert self.delivery.overdue() == [key]
        self.delivery.postpone(key)
        assert self.delivery.overdue() == []
        self.delivery.ring_again(key)
        return took_s

    def writes(self) -> list[tuple[str, str]]:
        """Verb and name of what was written, since the last time that this was asked."""
        found = [(request.verb, request.name) for request in self.server.requests if request.verb in WRITES]
        self.server.requests.clear()
        return found

    def value(self, metric: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"credrotator_{metric}", labels)


@pytest.fixture
def ringing(server: ApiServer, api: KubeApi) -> Ringing:
    """Ring for a policy that the cluster has, with no patience."""
    created = server.create(POLICIES, aws())
    metrics, clock = Metrics(), StandingClock()
    delivery = Delivery(api, clock, metrics, timeout_s=-1, seconds=clock.seconds)
    return Ringing(server, delivery, read(created), metrics, clock)


class TestDoorbell:
    """A Secret named as the policy."""

    def test_first(self, ringing: Ringing) -> None:
        """It is created: empty, labelled as a bell and as ours, owned by the policy as its controller."""
        ringing.ring()
        bell = ringing.server.get("secrets", "bedrock")
        assert bell
        assert not bell.get("data")
        assert bell["metadata"]["labels"] == {**LABELS, BELL: "true"}
        (reference,) = bell["metadata"]["ownerReferences"]
        assert (reference["kind"], reference["name"], reference["controller"]) == (
            "BackendSecurityPolicy",
            "bedrock",
            True,
        )
        assert ringing.writes() == [("create", "")]

    def test_again(self, ringing: Ringing) -> None:
        """It is changed, each time, in one request: an update that changes nothing would be heard by nobody."""
        seen = set()
        for _ in range(3):
            ringing.ring()
            bell = ringing.server.get("secrets", "bedrock")
            assert bell
            seen.add(bell["metadata"]["resourceVersion"])
        assert len(seen) == 3
        assert ringing.writes() == [("create", ""), ("update", "bedrock"), ("update", "bedrock")]

    def test_after_a_restart(self, ringing: Ringing, api: KubeApi) -> None:
        """A bell that an earlier process made is used on."""
        ringing.ring()
        ringing.writes()
        ringing.delivery = Delivery(api, ringing.clock, ringing.metrics)
        ringing.ring()
        assert ringing.writes() == [("create", ""), ("update", "bedrock")]

    @pytest.mark.parametrize("what", ["deleted", "changed"])
    def test_touched_by_others(self, ringing: Ringing, what: str) -> None:
        """A bell that somebody removed or changed rings all the same."""
        ringing.ring()
        if what == "deleted":
            ringing.server.delete("secrets", "bedrock")
        else:
            ringing.server.patch("secrets", "bedrock", {"metadata": {"labels": {"x": "y"}}})
        bell = ringing.server.get("secrets", "bedrock")
        ringing.ring()
        rung = ringing.server.get("secrets", "bedrock")
        assert rung
        assert rung != bell

    def test_a_policy_made_again(self, ringing: Ringing) -> None:
        """The bell belongs to the policy that is there now."""
        ringing.ring()
        ringing.server.delete(POLICIES, "bedrock")
        again = ringing.server.create(POLICIES, aws())
        ringing.ring(read(again))
        bell = ringing.server.get("secrets", "bedrock")
        assert bell
        assert bell["metadata"]["ownerReferences"][0]["uid"] == owner(again).uid


class TestCreateAndDelete:
    """Where no doorbell can be heard."""

    def test_a_foreign_secret_of_that_name(self, ringing: Ringing) -> None:
        """It stays as it is; an owned Secret comes and goes instead, then and later."""
        ringing.server.create("secrets", secret("bedrock", password="theirs"))
        for _ in range(2):
            ringing.ring()
        assert values(ringing.server, "bedrock") == {"password": "theirs"}
        assert [verb for verb, _ in ringing.writes()] == ["create", "create", "delete", "create", "delete"]
        assert len(ringing.server.items("secrets")) == 1

    @pytest.mark.parametrize("labels", [LABELS, {BELL: "true"}, {}])
    def test_one_that_only_looks_like_a_bell(self, ringing: Ringing, labels: dict[str, str]) -> None:
        """Empty is not enough, and ours is not enough: a parked Secret of another policy is both."""
        ringing.server.create("secrets", {"metadata": {"name": "bedrock", "labels": labels}})
        before = ringing.server.get("secrets", "bedrock")
        ringing.ring()
        assert ringing.server.get("secrets", "bedrock") == before

    @pytest.mark.parametrize("form", [azure_secret, gcp, gcp_key])
    def test_what_the_doorbell_does_not_reach(self, ringing: Ringing, form: Callable[[], dict[str, Any]]) -> None:
        """The gateway indexes these under their client secret, their key file, or under nothing.

        The visitor is owned, labelled, and gone afterwards.
        """
        policy = read(ringing.server.create(POLICIES, form()))
        ringing.ring(policy)
        created, deleted = [request for request in ringing.server.requests if request.verb in WRITES]
        assert (created.verb, deleted.verb) == ("create", "delete")
        metadata = created.body["metadata"]
        assert metadata["ownerReferences"][0]["uid"] == policy.uid
        assert metadata["labels"] == {**LABELS, BELL: "true"}
        assert not ringing.server.items("secrets")

    def test_one_that_was_left_over(self, ringing: Ringing) -> None:
        """A crash between coming and going leaves one; the next ring removes it, which is heard as well."""
        policy = read(ringing.server.create(POLICIES, azure_secret()))
        fault = ringing.server.fail(500, "Busy", verb="delete")
        ringing.ring(policy)
        assert len(ringing.server.items("secrets")) == 1
        ringing.server.heal(fault)
        ringing.ring(policy)
        assert not ringing.server.items("secrets")


class TestAcknowledgement:
    """The gateway's status write."""

    def test_heard(self, ringing: Ringing) -> None:
        """A moved lastTransitionTime is the answer; it is timed, and nothing is late."""
        ringing.ring()
        ringing.delivery.acknowledge(BEDROCK, AFTER)
        ringing.delivery.sweep()
        assert ringing.value("delivery_seconds_count", form="doorbell") == 1
        assert ringing.value("unacknowledged") == 0

    def test_the_same_word_again_is_none(self, ringing: Ringing, caplog: pytest.LogCaptureFixture) -> None:
        """A status that did not move says nothing."""
        ringing.ring()
        ringing.delivery.acknowledge(BEDROCK, BEFORE)
        ringing.delivery.sweep()
        assert ringing.value("unacknowledged") == 1
        assert "did not react" in caplog.text

    def test_only_once_logged(self, ringing: Ringing, caplog: pytest.LogCaptureFixture) -> None:
        """Where no gateway runs, each rotation would say so; one line for a policy is enough."""
        for _ in range(3):
            ringing.ring()
            ringing.delivery.sweep()
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        ringing.ring()
        ringing.delivery.acknowledge(BEDROCK, AFTER)
        ringing.delivery.sweep()
        assert ringing.value("unacknowledged") == 0

    @pytest.mark.parametrize(
        ("count", "others"),
        [(50, "47 more policies: default/policy-03, ..."), (4, "1 more policy: default/policy-03")],
    )
    def test_many_at_once(self, ringing: Ringing, caplog: pytest.LogCaptureFixture, count: int, others: str) -> None:
        """A controller that does not run is one fault: three are named, the others counted; all are in the metric."""
        for number in range(count):
            key = ObjectKey("default", f"policy-{number:02}")
            ringing.delivery.ring(replace(ringing.policy, key=key), ringing.policy.owner, BEFORE)
        caplog.clear()
        ringing.delivery.sweep()
        lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert [line.partition(":")[0] for line in lines[:3]] == [f"default/policy-{number:02}" for number in range(3)]
        assert lines[3:] == [f"nor did it for {others}; see that its controller runs"]
        assert ringing.value("unacknowledged") == count

    def test_heard_after_all(self, ringing: Ringing) -> None:
        """An answer that comes late ends the alarm, and its time counts."""
        ringing.ring()
        ringing.delivery.sweep()
        ringing.delivery.acknowledge(BEDROCK, AFTER)
        ringing.delivery.sweep()
        assert ringing.value("unacknowledged") == 0
        assert ringing.value("delivery_seconds_count", form="doorbell") == 1

    def test_another_one_leads(self, ringing: Ringing) -> None:
        """Who does not lead any more waits for nobody, and raises no alarm."""
        ringing.ring()
        ringing.delivery.sweep()
        ringing.delivery.stand_down()
        ringing.delivery.sweep()
        assert ringing.value("unacknowledged") == 0

    def test_in_time(self, ringing: Ringing, api: KubeApi) -> None:
        """Nothing is late before its time."""
        patient = Delivery(api, ringing.clock, ringing.metrics, timeout_s=60)
        patient.ring(ringing.policy, ringing.policy.owner, BEFORE)
        patient.sweep()
        assert ringing.value("unacknowledged") == 0

    def test_a_first_word(self, ringing: Ringing) -> None:
        """A gateway that had said nothing yet answers by saying something."""
        ringing.ring(last_transition="")
        ringing.delivery.acknowledge(BEDROCK, AFTER)
        assert ringing.value("delivery_seconds_count", form="doorbell") == 1

    def test_within_the_same_second(self, ringing: Ringing, caplog: pytest.LogCaptureFixture) -> None:
        """A status has whole seconds: a gateway that spoke in this very second may have answered unseen."""
        ringing.ring(last_transition=show_time(ringing.clock()))
        ringing.delivery.sweep()
        assert ringing.value("unacknowledged") == 0
        assert not caplog.records

    def test_nobody_rang(self, ringing: Ringing) -> None:
        """The gateway's own reconciles are no deliveries."""
        ringing.delivery.acknowledge(BEDROCK, AFTER)
        ringing.delivery.sweep()
        assert ringing.value("delivery_seconds_count", form="doorbell") is None

    def test_the_other_form_is_named(self, ringing: Ringing) -> None:
        """The times of the two forms are told apart, of a foreign Secret's policy too."""
        ringing.server.create("secrets", secret("bedrock", password="theirs"))
        ringing.ring()
        ringing.delivery.acknowledge(BEDROCK, AFTER)
        assert ringing.value("delivery_seconds_count", form="create-and-delete") == 1


class TestRungAgain:
    """Row 63: until the gateway has reacted."""

    def test_fault_63_a_write_that_fails(self, ringing: Ringing) -> None:
        """It is made up for, within seconds of the API server's return, whatever the status is able to tell."""
        fault = ringing.server.fail(500, "Busy")
        ringing.ring(last_transition=show_time(ringing.clock()))
        waits = [ringing.again_after() for _ in range(8)]
        assert waits[0] <= 2
        assert max(waits) <= 60
        ringing.server.heal(fault)
        ringing.writes()
        assert ringing.again_after() <= 60
        assert ringing.writes() == [("create", "")]
        ringing.delivery.acknowledge(BEDROCK, AFTER)
        assert ringing.overdue_within(3600) is None

    def test_fault_63_nobody_reacts(self, ringing: Ringing) -> None:
        """It is rung again and again, ever more rarely (I18), and the time that it took counts from the first."""
        ringing.ring()
        waits = [ringing.again_after() for _ in range(9)]
        assert waits[0] >= 5
        assert max(waits) <= 600
        assert waits[-1] >= 300
        ringing.delivery.acknowledge(BEDROCK, AFTER)
        assert ringing.overdue_within(3600) is None
        assert ringing.value("delivery_seconds_sum", form="doorbell") == pytest.approx(sum(waits), abs=60)

    def test_fault_63_an_answer_that_cannot_be_seen(self, ringing: Ringing) -> None:
        """A gateway that spoke in this very second may have answered: it is not waited for."""
        ringing.ring(last_transition=show_time(ringing.clock()))
        assert ringing.overdue_within(3600) is None

    def test_fault_63_another_leads(self, ringing: Ringing) -> None:
        """Who does not lead any more rings no more."""
        ringing.server.fail(500, "Busy")
        ringing.ring()
        ringing.delivery.stand_down()
        assert ringing.overdue_within(3600) is None
        ringing.writes()
        ringing.delivery.ring_again(BEDROCK)
        assert ringing.writes() == []

    def test_fault_63_the_other_form(self, ringing: Ringing) -> None:
        """What comes and goes is rung again as well."""
        policy = read(ringing.server.create(POLICIES, azure_secret()))
        fault = ringing.server.fail(503, "Busy", verb="create")
        ringing.ring(policy)
        ringing.server.heal(fault)
        ringing.writes()
        ringing.again_after(policy.key)
        assert [verb for verb, _ in ringing.writes()] == ["create", "delete"]


class TestCreation:
    """A Secret that was created, with the policy as its controller, has told the gateway by itself."""

    def test_heard(self, ringing: Ringing) -> None:
        """The gateway reacts, so that nothing is rung; the time counts as a form of its own."""
        ringing.ring(created=True)
        ringing.delivery.acknowledge(BEDROCK, AFTER)
        assert ringing.overdue_within(3600) is None
        assert ringing.writes() == []
        assert ringing.value("delivery_seconds_count", form="creation") == 1

    @pytest.mark.parametrize(("before", "within"), [(BEFORE, 5), ("", 30)], ids=["spoke", "silent"])
    def test_fault_63_not_heard(self, ringing: Ringing, before: str, within: float) -> None:
        """v0.2 does not heed it: rung within seconds, or later if it has yet to look, and then until it reacts."""
        ringing.ring(last_transition=before, created=True)
        assert ringing.again_after() <= within
        assert ringing.writes() == [("create", "")]
        waits = [ringing.again_after() for _ in range(9)]
        assert waits[0] >= 5
        assert 300 <= waits[-1] <= 600

    @pytest.mark.parametrize("form", [azure_secret, gcp, gcp_key])
    def test_fault_63_in_the_form_that_is_heard(self, ringing: Ringing, form: Callable[[], dict[str, Any]]) -> None:
        """The bell that comes after it is the policy's."""
        policy = read(ringing.server.create(POLICIES, form()))
        ringing.writes()
        ringing.ring(policy, created=True)
        ringing.again_after(policy.key)
        assert [verb for verb, _ in ringing.writes()] == ["create", "delete"]

    @pytest.mark.parametrize("ago_s", [0, 1, 4])
    def test_the_gateway_has_just_spoken(self, ringing: Ringing, ago_s: int) -> None:
        """Perhaps before the creation, perhaps after it: nothing can be told by its status, so it is rung for."""
        ringing.ring(last_transition=show_time(ringing.clock() - timedelta(seconds=ago_s)), created=True)
        assert ringing.writes() == [("create", "")]

    def test_a_command_that_ends(self, ringing: Ringing, api: KubeApi) -> None:
        """Nobody would ring later."""
        ringing.delivery = Delivery(api, ringing.clock, ringing.metrics, waits=False)
        ringing.ring(created=True)
        assert ringing.writes() == [("create", "")]

    def test_an_outage_is_said(self, ringing: Ringing, caplog: pytest.LogCaptureFixture) -> None:
        """The bell that follows is a first one: that it cannot be rung is a warning."""
        ringing.server.fail(500, "Busy")
        ringing.ring(created=True)
        ringing.again_after()
        assert "could not be told" in caplog.text


class TestTrouble:
    """Nothing of this can fail a rotation, and nothing of it stays."""

    @pytest.mark.parametrize("verb", ["create", "get", "update", "delete"])
    @pytest.mark.parametrize("status", [403, 429, 500])
    def test_refused(self, ringing: Ringing, caplog: pytest.LogCaptureFixture, verb: str, status: int) -> None:
        """A line in the log, whatever is refused; the credential is published."""
        ringing.ring()
        ringing.server.fail(status, "Refused", verb=verb)
        ringing.server.create("secrets", secret("openai", password="theirs"))
        for policy in (ringing.policy, read(aws("openai")), read(azure_secret())):
            ringing.ring(policy)
        assert {record.levelname for record in caplog.records} <= {"WARNING"}

    def test_forget(self, ringing: Ringing) -> None:
        """A deleted policy is neither waited for nor remembered."""
        ringing.server.create("secrets", secret("openai", password="theirs"))
        other = read(ringing.server.create(POLICIES, aws("openai")))
        for policy in (ringing.policy, other):
            ringing.ring(policy)
            ringing.delivery.sweep()
            ringing.ring(policy)
            ringing.delivery.forget(policy.key)
        ringing.delivery.sweep()
        ringing.delivery.forget(ObjectKey("no", "body"))
        delivery = ringing.delivery
        assert not any((delivery._waiting, delivery._unacknowledged, delivery._foreign, delivery._bells))
        assert ringing.value("unacknowledged") == 0


def test_the_bell_says_when(ringing: Ringing) -> None:
    """For people: the time at which it was rung last."""
    ringing.clock.now = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
    ringing.ring()
    bell = ringing.server.get("secrets", "bedrock")
    assert bell
    assert bell["metadata"]["annotations"]["credrotator.io/rung-at"].startswith("2027-01-02T03:04:05Z ")
