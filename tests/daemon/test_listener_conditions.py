"""What the listener writes into policies: conditions, and what parks a Secret."""

from __future__ import annotations

import base64
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.backoff import LONGEST
from credrotator.core.model import InvalidPolicy, Problem, fingerprint
from credrotator.core.outcome import Failure, Outcome
from credrotator.core.planning import plan
from credrotator.core.secret_document import Published
from credrotator.core.secretdata import (
    EXPIRY,
    FINGERPRINT,
    GATEWAY_WAKES,
    LONGEST_PARKING,
    TRUE_EXPIRY,
    render,
    show_time,
)
from credrotator.kube.parking import PARK_AGAIN, PARKING
from credrotator.kube.source import CONDITION
from credrotator.observability.logs import AUDIT
from tests.daemon.listening import Listening
from tests.support.builders import parse_as
from tests.support.manifests import BEDROCK, BEDROCK_SECRET, POLICIES, managed, secret, speak, static
from tests.support.twins import HOUR, MINUTE, NOW, aws_credential

if TYPE_CHECKING:
    from credrotator.core.errors import Kind
    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer


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
