"""What ``status`` says of a policy, state by state."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import Transient
from credrotator.core.model import InvalidPolicy, ObjectKey, Policy, Problem, SecretKeyRef, Static, fingerprint
from credrotator.core.secretdata import EXPIRY, park, render
from credrotator.diagnosis.overview import Row, overview
from credrotator.policies.inventory import Inventory
from credrotator.policies.reader import Defaults
from credrotator.providers.azure.source import AzureClientSecret, EntraApp
from credrotator.providers.gcp.source import GcpServiceAccount, GcpWorkloadIdentity
from credrotator.rotation.rotation import Rotation
from tests.support.builders import gcp, read_policy
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
    static_policy,
    with_annotation,
)

if TYPE_CHECKING:
    from credrotator.core.outcome_shape import LastOutcome

MINUTE = timedelta(minutes=1)
POLICY = aws_policy()


class Looking:
    """An inventory with one policy, and a store."""

    def __init__(self, policy: Policy | InvalidPolicy = POLICY) -> None:
        self.clock, self.store = StandingClock(), MemoryStore()
        self.exchange = ScriptedExchange(AssertionError("status asks nobody"))
        self.inventory = Inventory()
        self.inventory.add_policy(policy)

    def publish(self, policy: Policy = POLICY) -> None:
        """Put a credential of an hour into the store."""
        self.store.put(render(SECRET, aws_credential(self.clock()), fingerprint(policy.source)))

    def row(self, last: LastOutcome | None = None, acknowledged_at: datetime | None = None) -> Row:
        """Describe the policy, and see that nobody was asked and nothing written."""
        rotation = Rotation(self.store, self.exchange, self.clock)
        found = overview(KEY, self.inventory, rotation, last, self.clock(), acknowledged_at=acknowledged_at)
        assert not self.exchange.calls
        assert not self.store.writes
        return found


def test_fresh() -> None:
    """With its times, whom it speaks for, and where it lies."""
    attempting = Looking()
    attempting.publish()
    row = attempting.row()
    assert (row.state, row.why, row.provider, row.secret) == ("Fresh", "", "aws-oidc", SECRET)
    assert row.identity == "arn:aws:iam::123456789012:role/bedrock"
    assert row.expires_at == NOW + HOUR
    assert row.renew_at is not None
    assert NOW + 37 * MINUTE <= row.renew_at <= NOW + 40 * MINUTE


@pytest.mark.parametrize(
    ("after", "state"), [(30 * MINUTE, "Fresh"), (45 * MINUTE, "Due"), (HOUR, "Expired"), (2 * HOUR, "Expired")]
)
def test_with_time(after: timedelta, state: str) -> None:
    """One word for each part of a credential's life."""
    attempting = Looking()
    attempting.publish()
    attempting.clock.now += after
    assert attempting.row().state == state


def test_missing() -> None:
    """Nothing was ever published."""
    row = Looking().row()
    assert (row.state, row.expires_at, row.renew_at) == ("Missing", None, None)


def test_parked() -> None:
    """An empty Secret is no credential; why it is there, and until when, is said."""
    attempting = Looking()
    attempting.store.put(park(None, SECRET, POLICY.owner, NOW + 15 * MINUTE))
    row = attempting.row()
    assert row.state == "Parked"
    assert "2026-11-24T12:15:00Z" in row.why


def test_parked_with_a_credential() -> None:
    """A parked Secret that holds one is described by its true expiry."""
    attempting = Looking()
    attempting.publish()
    attempting.clock.now += 50 * MINUTE
    attempting.store.put(park(attempting.store.secrets[SECRET].document, SECRET, POLICY.owner, NOW + 2 * HOUR))
    row = attempting.row()
    assert (row.state, row.expires_at) == ("Due", NOW + HOUR)


def test_edited() -> None:
    """What is published belongs to what the policy was."""
    attempting = Looking(aws_policy(role="other"))
    attempting.publish()
    assert attempting.row().state == "Edited"


def test_unreadable() -> None:
    """Somebody edited the Secret; what is wrong with it is said."""
    attempting = Looking()
    attempting.publish()
    attempting.store.put(with_annotation(attempting.store.secrets[SECRET].document, EXPIRY, "soon"))
    row = attempting.row()
    assert row.state == "Unreadable"
    assert EXPIRY in row.why


def test_the_store_is_away() -> None:
    """What cannot be read is not called missing."""
    attempting = Looking()
    attempting.store.broken = Transient("ApiServerFailed", "the API server is away", hint="wait")
    assert (attempting.row().state, attempting.row().why) == ("Unreadable", "the API server is away")


def test_invalid() -> None:
    """Everything that is wrong with it."""
    wrong = InvalidPolicy(KEY, "x.yaml", (Problem("spec.a", "is missing"), Problem("spec.b", "is odd")), "aws-oidc")
    row = Looking(wrong).row()
    assert (row.state, row.why) == ("Invalid", "spec.a: is missing; spec.b: is odd")


def test_static_policies() -> None:
    """Sound, or broken and why: what they name has to be there."""
    reference = SecretKeyRef(ObjectKey("default", "key"), "apiKey", "spec.apiKey.secretRef")
    attempting = Looking(static_policy(Static("api-key", reference), POLICY.key))
    broken = attempting.row()
    assert (broken.state, "there is no Secret default/key" in broken.why) == ("Broken", True)
    attempting.inventory.secrets[reference.secret] = {"apiKey": b"sk-1"}
    assert (attempting.row().state, attempting.row().why) == ("Static", "")


def test_azure() -> None:
    """Whom an Entra token speaks for: the application, and where."""
    reference = SecretKeyRef(ObjectKey("default", "entra"), "client-secret", "spec.x")
    source = AzureClientSecret(EntraApp("contoso.example", "app", "https://login.example", "x/.default"), reference)
    assert Looking(replace(POLICY, source=source)).row().identity == "app in contoso.example"


def test_gcp() -> None:
    """Whom a token of Google Cloud speaks for: the account, or the pool's principals, or whose key the Secret holds."""
    source = read_policy(gcp(), "x", Defaults())
    assert isinstance(source, Policy)
    assert isinstance(source.source, GcpWorkloadIdentity)
    impersonated = Looking(replace(POLICY, source=source.source)).row()
    assert impersonated.identity == "vertex@my-project.iam.gserviceaccount.com"
    direct = Looking(replace(POLICY, source=replace(source.source, service_account=None))).row()
    assert direct.identity == ("principals of projects/123456789012/locations/global/workloadIdentityPools/gateway")
    reference = SecretKeyRef(ObjectKey("default", "key"), "service_account.json", "spec.x")
    by_key = Looking(replace(POLICY, source=GcpServiceAccount(reference))).row()
    assert by_key.identity == "the account of Secret default/key"


class TestLastOutcome:
    """What the latest pass did."""

    def test_told(self) -> None:
        """What is on record wins."""
        attempting = Looking()
        attempting.publish()
        last: LastOutcome = {"action": "failed", "reason": "Expiring", "at": "2026-11-24T12:50:00Z", "warnings": ["X"]}
        assert attempting.row(last).last == last

    def test_by_the_secret(self) -> None:
        """Without a record, the Secret itself says when it was issued."""
        attempting = Looking()
        assert attempting.row().last is None
        attempting.publish()
        found = attempting.row().last
        assert found
        assert (found["action"], found["at"]) == ("rotated", "2026-11-24T12:00:00Z")


class TestAcknowledged:
    """Whether the gateway has looked since."""

    @pytest.mark.parametrize(
        ("acknowledged_at", "expected"),
        [(None, None), (NOW - HOUR, False), (NOW, True), (NOW + MINUTE, True)],
    )
    def test_since_it_was_issued(self, acknowledged_at: datetime | None, expected: bool | None) -> None:  # noqa: FBT001
        """Its status moved at or after the moment of issue."""
        attempting = Looking()
        attempting.publish()
        assert attempting.row(acknowledged_at=acknowledged_at).acknowledged is expected

    def test_nothing_published(self) -> None:
        """There is nothing to be acknowledged."""
        assert Looking().row(acknowledged_at=NOW).acknowledged is None
