"""What follows an outcome in a cluster: bell, Events, condition, adoption, parking."""

from __future__ import annotations

import base64
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.backoff import LONGEST
from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.core.model import InvalidPolicy, ObjectKey, Policy, Problem, RotatablePolicy, fingerprint
from credrotator.core.outcome import Failure, Outcome
from credrotator.core.planning import plan
from credrotator.core.secret_document import Published
from credrotator.core.secretdata import (
    CONTENT,
    EXPIRY,
    FINGERPRINT,
    GATEWAY_WAKES,
    LONGEST_PARKING,
    TRUE_EXPIRY,
    read_time,
    render,
    show_time,
)
from credrotator.kube.adoption import Adoption
from credrotator.kube.conditions import Conditions
from credrotator.kube.deferred import at_once
from credrotator.kube.delivery import Delivery
from credrotator.kube.events import EventRecorder
from credrotator.kube.listener import ClusterListener
from credrotator.kube.parking import PARK_AGAIN, PARKING, Parking
from credrotator.kube.policy_events import PolicyEvents
from credrotator.kube.source import CONDITION, Observed, observe
from credrotator.kube.store import ClusterStore
from credrotator.kube.write_budget import WriteBudget
from credrotator.observability.audit import Audit
from credrotator.observability.logs import AUDIT
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from tests.support.builders import parse_as
from tests.support.manifests import BEDROCK, BEDROCK_SECRET, POLICIES, VERSION, aws, managed, secret, speak, static
from tests.support.twins import HOUR, NOW, StandingClock, aws_credential

if TYPE_CHECKING:
    from credrotator.core.errors import Kind
    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

MINUTE = timedelta(minutes=1)
WRITES = {"create", "update", "patch", "delete"}


class Listening:
    """A listener over the simulated server, for one policy."""

    def __init__(self, server: ApiServer, api: KubeApi, manifest: dict[str, Any]) -> None:
        self.server, self.api = server, api
        self.clock = StandingClock()
        self.skew: timedelta | None = None
        self.store = ClusterStore(api, WriteBudget(self.clock.seconds))
        server.create(POLICIES, manifest)
        self.name = manifest["metadata"]["name"]
        self.restart()

    def restart(self) -> None:
        """Forget everything, as a new process would."""
        seconds = self.clock.seconds
        audit, self.delivery = Audit(), Delivery(self.api, self.clock, NO_INSTRUMENTATION, seconds=seconds)
        recorder = EventRecorder(self.api, "pod-1", clock=self.clock, monotonic=seconds)
        events = PolicyEvents(recorder, self, at_once)
        conditions = Conditions(
            self.api,
            VERSION,
            self.clock,
            observer=self,
            events=events,
            defer=at_once,
            skew=lambda: self.skew,
            budget=WriteBudget(seconds),
        )
        adoption, parking = Adoption(self.store, events, audit), Parking(self.store, self.clock, audit)
        self.listener = ClusterListener(self, self.delivery, adoption, parking, conditions)

    def observed(self, key: ObjectKey) -> Observed | None:
        """Be the source of statuses, always up to date."""
        found = self.server.get(POLICIES, key.name, key.namespace)
        return observe(found, policy_reader(Defaults())) if found else None

    @property
    def policy(self) -> Policy:
        found = self.observed(ObjectKey("default", self.name))
        assert found
        assert isinstance(found.policy, Policy)
        return found.policy

    def publish(self, tag: str = "A") -> None:
        """Write a credential into the policy's Secret, as a rotation does."""
        policy = self.policy
        assert isinstance(policy, RotatablePolicy)
        issued = aws_credential(self.clock(), tag=tag)
        mark = fingerprint(policy.source)
        document = render(policy.secret, issued, mark, data=policy.data(issued), owner=policy.owner)
        present = self.store.read(policy.secret)
        self.store.publish(document, present.version if present else None)
        self.server.requests.clear()

    def hear(
        self, action: str, reason: str = "Missing", error: Failure | None = None, *, created: bool = False
    ) -> None:
        """Tell the listener of an outcome."""
        policy, expires = self.policy, None if error else self.clock() + HOUR
        outcome = Outcome(
            policy.key,
            policy.provider,
            action,  # type: ignore[arg-type]
            reason,
            policy.secret,
            expires,
            error=error,
            created=created,
        )
        self.listener(policy, outcome)

    def fail(
        self, reason: str = "IssuerUnreachable", kind: Kind = "transient", patience: timedelta | None = None
    ) -> None:
        """Tell the listener of a failure."""
        self.hear("failed", error=Failure(kind, reason, f"{reason} it is", "do something", patience))

    def hang(self, patience: timedelta | None = None) -> None:
        """Tell the listener that the issuer did not answer."""
        self.hear("failed", error=Failure("transient", "IssuerTimeout", "no answer", "wait", patience, hangs=True))

    def events(self) -> list[tuple[str, str]]:
        return [(event["reason"], event["type"]) for event in self.server.items("events")]

    def conditions(self) -> list[dict[str, Any]]:
        found = self.server.get(POLICIES, self.name)
        assert found
        conditions: list[dict[str, Any]] = (found.get("status") or {}).get("conditions") or []
        return conditions

    def ours(self) -> dict[str, Any]:
        (condition,) = [condition for condition in self.conditions() if condition["type"] == CONDITION]
        return condition

    def notes(self, name: str = BEDROCK_SECRET.name) -> dict[str, str]:
        found = self.server.get("secrets", name)
        assert found
        notes: dict[str, str] = found["metadata"]["annotations"]
        return notes

    def gateway_wakes_at(self) -> timedelta:
        """How long after NOW the gateway's rotator would act."""
        until = read_time(self.notes()[EXPIRY])
        assert until
        return until - GATEWAY_WAKES - NOW

    def written(self) -> list[str]:
        return [f"{request.verb} {request.resource}" for request in self.server.requests if request.verb in WRITES]


@pytest.fixture
def here(server: ApiServer, api: KubeApi) -> Listening:
    """Listen for a policy in the gateway's own form."""
    return Listening(server, api, aws())


class TestBell:
    """Who is rung for."""

    def test_after_a_rotation(self, here: Listening) -> None:
        """The gateway's own form needs a doorbell."""
        here.publish()
        here.hear("rotated")
        assert here.server.get("secrets", "bedrock")

    def test_not_for_a_creation(self, here: Listening) -> None:
        """The gateway hears of a Secret whose controller is the policy: one Event and one condition are all."""
        here.publish()
        here.hear("rotated", created=True)
        assert here.written() == ["create events", "patch backendsecuritypolicies"]

    def test_not_for_the_managed_form(self, server: ApiServer, api: KubeApi) -> None:
        """There the gateway watches the Secret itself."""
        here = Listening(server, api, managed())
        here.publish()
        here.hear("rotated")
        assert server.get("secrets", "bedrock") is None

    @pytest.mark.parametrize("action", ["kept", "failed"])
    def test_not_without_news(self, here: Listening, action: str) -> None:
        """Nothing new was published."""
        here.publish()
        here.fail() if action == "failed" else here.hear("kept", "Fresh")
        assert here.server.get("secrets", "bedrock") is None

    def test_fault_28_after_a_write_of_unknown_outcome(self, here: Listening) -> None:
        """It had happened all the same, as the next look finds: the gateway is told then."""
        here.publish()
        here.fail("ApiServerTimeout")
        here.hear("kept", "Fresh")
        assert here.server.get("secrets", "bedrock")


class TestEvents:
    """What ``kubectl describe`` shows."""

    def test_rotated(self, here: Listening) -> None:
        """Each rotation, with reason and new expiry."""
        here.hear("rotated")
        here.hear("rotated", "Expiring")
        assert here.events() == [("Rotated", "Normal")] * 2
        messages = sorted(event["message"] for event in here.server.items("events"))
        assert messages[0] == "Expiring: the credential expires at 2026-11-24T13:00:00Z"

    def test_failed(self, here: Listening) -> None:
        """Once for each reason in a row: not at each try; with what to do."""
        for reason in ("IssuerUnreachable", "IssuerUnreachable", "AccessDenied", "AccessDenied"):
            here.fail(reason)
        assert here.events() == [("RotationFailed", "Warning")] * 2
        assert "do something" in here.server.items("events")[0]["message"]

    def test_failing_after_a_restart_is_no_news(self, here: Listening) -> None:
        """The condition says what was said before."""
        here.fail()
        here.restart()
        here.server.requests.clear()
        here.fail()
        assert len(here.events()) == 1
        assert here.written() == []

    @pytest.mark.parametrize(
        ("reason", "before", "expected"),
        [
            ("Unreadable", None, "Repaired"),
            ("Unreadable", "kept", "Repaired"),
            ("Missing", "kept", "Repaired"),
            ("Missing", None, "Rotated"),
            ("Missing", "failed", "Rotated"),
            ("SpecChanged", "kept", "Rotated"),
        ],
    )
    def test_repaired(self, here: Listening, reason: str, before: str | None, expected: str) -> None:
        """Faults 38 and 39: what somebody edited or deleted; a first success after failures is none."""
        if before == "failed":
            here.fail()
        elif before:
            here.hear(before, "Fresh")
        here.hear("rotated", reason)
        assert (expected, "Normal") in here.events()
        assert ("Repaired" in dict(here.events())) == (expected == "Repaired")

    def test_nothing_happened(self, here: Listening) -> None:
        """A restart with everything fresh writes nothing at all (I4)."""
        here.publish()
        for _ in range(3):
            here.restart()
            here.hear("kept", "Fresh")
        assert here.written() == []

    @pytest.mark.parametrize("reason", ["NotLeader", "PolicyGone", "PolicyEdited"])
    def test_what_was_given_up(self, here: Listening, reason: str) -> None:
        """Nobody is told of a look that came to nothing."""
        here.fail()
        here.server.requests.clear()
        here.hear("skipped", reason)
        assert here.written() == []
        assert here.ours()["status"] == "False"


class TestCondition:
    """Ours, beside the gateway's."""

    def test_shape_and_place(self, here: Listening) -> None:
        """As the API conventions have it, and before the gateway's: kubectl shows the last one as STATUS."""
        speak(here.server, "bedrock", "2026-11-24T11:00:00Z")
        here.fail("AccessDenied", "denied")
        ours, theirs = here.conditions()
        assert ours == {
            "type": CONDITION,
            "status": "False",
            "reason": "AccessDenied",
            "message": "AccessDenied it is; do something",
            "lastTransitionTime": "2026-11-24T12:00:00Z",
        }
        assert (theirs["type"], theirs["lastTransitionTime"]) == ("Accepted", "2026-11-24T11:00:00Z")

    def test_only_on_change(self, here: Listening) -> None:
        """One write for each change, however often the same thing happens."""
        for _ in range(3):
            here.hear("rotated")
        for _ in range(3):
            here.fail()
        assert here.written().count("patch backendsecuritypolicies") == 2

    def test_transition_time(self, here: Listening) -> None:
        """It moves with the status, not with the reason."""
        here.fail()
        here.clock.now += MINUTE
        here.fail("AccessDenied")
        assert (here.ours()["reason"], here.ours()["lastTransitionTime"]) == ("AccessDenied", "2026-11-24T12:00:00Z")
        here.clock.now += MINUTE
        here.hear("rotated")
        assert (here.ours()["status"], here.ours()["lastTransitionTime"]) == ("True", "2026-11-24T12:02:00Z")

    def test_well_again_after_a_restart(self, here: Listening) -> None:
        """A False that an earlier process left is put right by a look that finds all well."""
        here.publish()
        here.fail()
        here.restart()
        here.hear("kept", "Fresh")
        assert here.ours()["status"] == "True"

    def test_fault_65_what_another_leader_said_is_read_back(self, here: Listening) -> None:
        """Ready was said, then another one led and said False: all well is said anew, though it was said before."""
        here.hear("rotated")
        ours = here.ours() | {"status": "False", "reason": "AccessDenied", "message": "no"}
        here.server.patch(POLICIES, here.name, {"status": {"conditions": [ours]}}, subresource="status")
        here.listener.forget_all()
        here.hear("kept", "Fresh")
        assert here.ours()["status"] == "True"

    def test_fault_65_what_was_not_written_was_not_said(self, here: Listening) -> None:
        """A condition that the API server refused is written with the next outcome, whatever that is."""
        here.fail()
        fault = here.server.fail(500, "Busy", verb="patch")
        here.hear("rotated")
        assert here.ours()["status"] == "False"
        here.server.heal(fault)
        here.hear("kept", "Fresh")
        assert here.ours()["status"] == "True"

    def test_it_holds_no_time_that_grows_old(self, here: Listening) -> None:
        """Written once for many rotations, it must be true for all of them."""
        here.hear("rotated")
        assert here.ours()["message"] == "the credential in Secret ai-eg-bsp-bedrock is kept fresh"

    def test_fault_23_a_wrong_clock_is_said(self, here: Listening) -> None:
        """Once when it is known, and once when it is right again; a restart, which knows nothing yet, leaves it."""
        here.hear("rotated")
        here.skew = 20 * MINUTE
        for _ in range(2):
            here.hear("rotated")
        assert here.ours()["message"].endswith(
            "is kept fresh; this machine's clock is behind, and the vendors' dates count"
        )
        here.restart()
        here.skew = None
        here.hear("kept", "Fresh")
        assert here.written().count("patch backendsecuritypolicies") == 2
        here.skew = -20 * MINUTE
        here.fail()
        assert "clock is ahead" in here.ours()["message"]
        here.skew = timedelta(0)
        here.fail()
        assert "clock" not in here.ours()["message"]
        assert [event["count"] for event in here.server.items("events") if event["reason"] == "RotationFailed"] == [1]

    def test_no_read_where_the_watch_is_up_to_date(self, here: Listening) -> None:
        """What was watched says which version it was; only where that is old, it is read afresh."""
        here.server.requests.clear()
        here.hear("rotated")
        assert [request.verb for request in here.server.requests if request.resource == POLICIES] == ["patch"]

    def test_the_gateways_word_is_not_put_back(self, here: Listening) -> None:
        """What the gateway says between our read and our write wins; then both stand."""
        speak(here.server, "bedrock", "2026-11-24T11:00:00Z", "NotAccepted")
        here.server.fail(409, "Conflict", verb="patch", times=2)
        here.fail()
        assert [condition["type"] for condition in here.conditions()] == [CONDITION, "NotAccepted"]
        (*_, patch) = [request for request in here.server.requests if request.verb == "patch"]
        assert patch.body["metadata"]["resourceVersion"]
        speak(here.server, "bedrock", "2026-11-24T12:01:00Z")
        assert [condition["type"] for condition in here.conditions()] == ["Accepted"]
        here.fail("AccessDenied")
        assert [condition["type"] for condition in here.conditions()] == [CONDITION, "Accepted"]

    def test_our_own_is_no_acknowledgement(self, here: Listening) -> None:
        """What the gateway said last is not what we said last."""
        here.hear("rotated")
        found = here.observed(BEDROCK)
        assert found
        assert found.last_transition == ""
        speak(here.server, "bedrock", "2026-11-24T11:00:00Z")
        here.fail()
        found = here.observed(BEDROCK)
        assert found
        assert found.last_transition == "2026-11-24T11:00:00Z"

    def test_static_policies(self, server: ApiServer, api: KubeApi) -> None:
        """One whose Secret is missing fails, and is well again when it has come; a sound one is not written to."""
        here = Listening(server, api, static())
        here.hear("skipped", "Static")
        assert here.written() == []
        here.fail("SecretNotFound", "policy")
        here.hear("skipped", "Static")
        assert here.ours()["status"] == "True"

    def test_invalid_policies(self, here: Listening) -> None:
        """An Event and a condition that name what is wrong."""
        wrong = InvalidPolicy(BEDROCK, "the API server", (Problem("spec.awsCredentials.region", "is missing"),))
        error = Failure("policy", "InvalidPolicy", "spec.awsCredentials.region: is missing", "correct it")
        here.listener(wrong, Outcome(BEDROCK, "aws-oidc", "failed", "InvalidPolicy", error=error))
        assert (here.ours()["reason"], here.events()) == ("InvalidPolicy", [("RotationFailed", "Warning")])

    @pytest.mark.parametrize("status", [403, 404, 409, 500])
    def test_refused(self, here: Listening, status: int) -> None:
        """A status that cannot be written fails nothing, and is not tried for ever."""
        here.server.fail(status, "Refused", verb="patch")
        here.hear("rotated")
        assert 1 <= here.written().count("patch backendsecuritypolicies") <= 3

    def test_long_messages(self, here: Listening) -> None:
        """G20: cut far below what the API takes, between characters."""
        here.hear("failed", error=Failure("denied", "AccessDenied", "ä" * 40_000, "x"))
        assert 1000 < len(here.ours()["message"].encode()) <= 1024


class TestAdoption:
    """A Secret that the gateway made."""

    def test_adopted(self, here: Listening) -> None:
        """The same data and expiry, with our labels and notes; said once; then it is like any other of ours."""
        here.publish()
        data = (here.server.get("secrets", BEDROCK_SECRET.name) or {})["data"]
        here.server.delete("secrets", BEDROCK_SECRET.name)
        theirs = {"name": BEDROCK_SECRET.name, "annotations": {EXPIRY: "2026-11-24T13:00:00Z"}}
        here.server.create("secrets", {"metadata": theirs, "data": data})
        for _ in range(2):
            here.hear("kept", "Adopted")
        found = here.server.get("secrets", BEDROCK_SECRET.name)
        assert found
        assert found["data"] == data
        assert found["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "credrotator"}
        assert found["metadata"]["annotations"].keys() >= {EXPIRY, CONTENT, FINGERPRINT}
        assert here.events() == [("Adopted", "Normal")]
        assert here.written().count("update secrets") == 1

    def test_recorded(self, here: Listening, caplog: pytest.LogCaptureFixture) -> None:
        """Adoption is a decision, with the expiry that the gateway has written; nothing adopted is none."""
        caplog.set_level(logging.INFO, AUDIT)
        here.hear("kept", "Adopted")
        assert not caplog.records
        here.server.create("secrets", secret(BEDROCK_SECRET.name, credentials="x"))
        notes = {"metadata": {"annotations": {EXPIRY: "2026-11-24T13:00:00Z"}}}
        here.server.patch("secrets", BEDROCK_SECRET.name, notes)
        for _ in range(2):
            here.hear("kept", "Adopted")
        (record,) = [record.__dict__["fields"] for record in caplog.records]
        assert (record["decision"], record["secret"]) == ("adopted", str(BEDROCK_SECRET))
        assert record["old_expiry"] == record["new_expiry"] == "2026-11-24T13:00:00Z"
        assert record["content_hash"] == here.notes()[CONTENT]

    def test_changed_meanwhile(self, here: Listening) -> None:
        """A Secret that somebody else writes at that moment is theirs; the next look tries again."""
        here.server.create("secrets", secret(BEDROCK_SECRET.name, credentials="x"))
        here.server.patch("secrets", BEDROCK_SECRET.name, {"metadata": {"annotations": {EXPIRY: "x"}}})
        fault = here.server.fail(409, "Conflict", verb="update")
        here.hear("kept", "Adopted")
        assert here.events() == []
        here.server.heal(fault)
        here.hear("kept", "Adopted")
        assert here.events() == [("Adopted", "Normal")]

    def test_gone_meanwhile(self, here: Listening) -> None:
        """There is nothing to adopt."""
        here.hear("kept", "Adopted")
        assert here.events() == []


class TestParking:
    """While its issuer does not answer, the gateway's single worker is kept from a policy."""

    def test_a_policy_without_a_secret(self, here: Listening) -> None:
        """It gets an empty one, ours and owned; to planning that is the same as none."""
        here.hang()
        found = here.server.get("secrets", BEDROCK_SECRET.name)
        assert found
        assert not found.get("data")
        assert found["metadata"]["ownerReferences"][0]["name"] == "bedrock"
        assert here.gateway_wakes_at() == PARKING - GATEWAY_WAKES
        stored = here.store.read(BEDROCK_SECRET)
        assert stored
        assert parse_as(stored.document, "aws-oidc") is None

    def test_near_expiry(self, here: Listening) -> None:
        """The data stays, and so does the true expiry, in a note of ours that planning goes by."""
        here.publish()
        here.clock.now += 50 * MINUTE
        here.hang()
        assert here.notes()[TRUE_EXPIRY] == "2026-11-24T13:00:00Z"
        assert here.gateway_wakes_at() == 59 * MINUTE
        stored = here.store.read(BEDROCK_SECRET)
        assert stored
        published = parse_as(stored.document, "aws-oidc")
        decided = plan(published, fingerprint=fingerprint(here.policy.source), seed="x", now=here.clock())
        assert getattr(decided, "reason", None) == "Expiring"
        assert "ASIAA" in stored.document.data["credentials"].reveal()

    def test_far_from_expiry(self, here: Listening) -> None:
        """While the gateway sleeps anyway nothing is written."""
        here.publish()
        here.clock.now += 40 * MINUTE
        here.hang()
        assert TRUE_EXPIRY not in here.notes()

    def test_the_gateway_never_wakes(self, here: Listening) -> None:
        """However the failures fall: at each moment up to the next try, the annotation is far enough ahead.

        A try comes at most LONGEST after the last one ended, and an exchange may take half a minute.
        """
        step = LONGEST["denied"] + timedelta(seconds=30)
        for _ in range(20):
            for pause in (step, MINUTE, step / 2, timedelta(seconds=1)):
                here.hang()
                assert NOW + here.gateway_wakes_at() > here.clock() + step
                here.clock.now += pause

    def test_few_writes(self, here: Listening) -> None:
        """Failures within a minute of the last parking write nothing."""
        for _ in range(10):
            here.hang()
            here.clock.now += timedelta(seconds=5)
        assert [line for line in here.written() if line.endswith("secrets")] == ["create secrets"]
        assert PARKING - PARK_AGAIN == MINUTE

    def test_parking_is_recorded(self, here: Listening, caplog: pytest.LogCaptureFixture) -> None:
        """It is a decision, made once for many failures: why, and until when."""
        caplog.set_level(logging.INFO, AUDIT)
        here.hang()
        here.hang()
        (record,) = [record.__dict__["fields"] for record in caplog.records]
        assert (record["decision"], record["parked_until"]) == ("parked", show_time(NOW + PARKING))
        assert record["policy"] == str(here.policy.key)

    def test_the_issuers_patience(self, here: Listening) -> None:
        """A Retry-After of an hour means no look for an hour: parked for so long."""
        here.hang(patience=HOUR)
        assert here.gateway_wakes_at() == HOUR + PARKING - GATEWAY_WAKES

    def test_unparked_by_success(self, here: Listening) -> None:
        """The next publication says the true expiry again."""
        here.publish()
        here.clock.now += 50 * MINUTE
        here.hang()
        here.publish("B")
        assert TRUE_EXPIRY not in here.notes()
        assert here.notes()[EXPIRY] == show_time(here.clock() + HOUR)

    @pytest.mark.parametrize("kind", ["transient", "denied", "policy"])
    def test_invariant_17_not_for_an_answer(self, here: Listening, kind: Kind) -> None:
        """What is refused, or fails here, keeps the gateway's worker from nothing; its rotator may well succeed."""
        here.publish()
        before = here.notes()
        for minutes in (50, 4, 4, 4):
            here.clock.now += minutes * MINUTE
            for reason in ("IssuerNotAllowed", "IssuerTLS", "ProxyFailed", "ApiServerTimeout", "InternalError"):
                here.fail(reason, kind)
        assert here.notes() == before

    def test_invariant_17_never_past_the_expiry(self, here: Listening) -> None:
        """However long the issuer hangs, the gateway's rotator wakes before the credential has expired."""
        here.publish()
        for _ in range(90):
            here.clock.now += MINUTE
            here.hang(patience=HOUR)
            assert here.gateway_wakes_at() <= HOUR - MINUTE
        assert here.notes()[TRUE_EXPIRY] == show_time(NOW + HOUR)

    def test_invariant_17_without_a_credential_not_for_ever(self, here: Listening) -> None:
        """Nobody knows whether the gateway could reach what we cannot: after some hours it may try."""
        for _ in range(24 * 12):
            here.hang()
            here.clock.now += 5 * MINUTE
        assert here.gateway_wakes_at() == LONGEST_PARKING - GATEWAY_WAKES

    def test_invariant_17_over_a_write_of_the_gateway(self, here: Listening) -> None:
        """A parked Secret that the gateway has renewed meanwhile is its credential, with its expiry and no other."""
        here.publish()
        here.clock.now += 50 * MINUTE
        here.hang()
        theirs = base64.b64encode(
            render(BEDROCK_SECRET, aws_credential(tag="T"), "x").data["credentials"].reveal().encode()
        )
        expires_at = here.clock() + 12 * MINUTE
        notes = {"metadata": {"annotations": {EXPIRY: show_time(expires_at)}}, "data": {"credentials": theirs.decode()}}
        here.server.patch("secrets", BEDROCK_SECRET.name, notes)
        here.clock.now += MINUTE
        here.hang()
        assert here.notes()[TRUE_EXPIRY] == show_time(expires_at)
        assert NOW + here.gateway_wakes_at() == here.clock() + 10 * MINUTE
        stored = here.store.read(BEDROCK_SECRET)
        assert stored
        assert parse_as(stored.document, "aws-oidc") == Published(expires_at, None, None)
        here.hear("kept", "Adopted")
        assert (here.notes()[TRUE_EXPIRY], here.notes()[FINGERPRINT]) == (
            show_time(expires_at),
            fingerprint(here.policy.source),
        )

    def test_managed_policies_never(self, server: ApiServer, api: KubeApi) -> None:
        """The gateway rotates nothing there, so there is nobody to be kept away."""
        here = Listening(server, api, managed())
        here.hang()
        assert not server.items("secrets")

    def test_not_for_what_only_an_edit_helps(self, here: Listening) -> None:
        """A policy that refers to nothing hangs nobody's worker."""
        here.fail("SecretNotFound", "policy")
        assert not here.server.items("secrets")

    def test_a_foreign_secret(self, here: Listening) -> None:
        """Fault 40: what is somebody else's is not parked either."""
        here.server.create("secrets", secret(BEDROCK_SECRET.name, password="theirs"))
        before = here.server.get("secrets", BEDROCK_SECRET.name)
        here.hang()
        assert here.server.get("secrets", BEDROCK_SECRET.name) == before

    @pytest.mark.parametrize("status", [403, 409, 500])
    def test_refused(self, here: Listening, status: int) -> None:
        """A parking that cannot be written fails nothing: Event and condition come all the same."""
        here.server.fail(status, "Refused", resource="secrets", verb="create")
        here.hang()
        assert here.events() == [("RotationFailed", "Warning")]
        assert here.ours()["reason"] == "IssuerTimeout"


def test_forget(here: Listening) -> None:
    """Nothing stays of a policy that is gone."""
    here.hear("rotated")
    here.listener.forget(BEDROCK)
    assert not here.listener._conditions._reported
    assert not here.listener._delivery._bells


def test_the_whole_api_server_is_away(here: Listening) -> None:
    """None of it raises: a worker goes on."""
    here.server.drop(times=None)
    policy = here.policy
    error = Failure("transient", "IssuerUnreachable", "x", "y")
    for outcome in (
        Outcome(policy.key, "aws-oidc", "rotated", "Missing", policy.secret),
        Outcome(policy.key, "aws-oidc", "failed", "Missing", policy.secret, error=error),
        Outcome(policy.key, "aws-oidc", "kept", "Adopted", policy.secret),
    ):
        here.listener(policy, outcome)
