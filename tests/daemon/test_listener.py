"""What follows an outcome in a cluster: bell, Events, condition, adoption, parking."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from credrotator.core.outcome import Failure, Outcome
from credrotator.core.secretdata import CONTENT, EXPIRY, FINGERPRINT
from credrotator.observability.logs import AUDIT
from tests.daemon.listening import Listening
from tests.support.manifests import BEDROCK, BEDROCK_SECRET, managed, secret

if TYPE_CHECKING:
    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer


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
