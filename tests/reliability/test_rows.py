"""Rows of the table of faults that are about rules, not about wires: one short test for each."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.model import InvalidPolicy, ObjectKey, Policy
from credrotator.core.planning import Keep, Reason, Rotate, plan, renewal_time
from credrotator.core.secret_document import Published, SecretDocument, Unreadable
from credrotator.core.secretdata import render, show_time
from credrotator.core.sensitive import Sensitive
from credrotator.policies.inventory import Inventory
from credrotator.policies.reader import Defaults
from credrotator.rotation.workqueue import ROUTINE, URGENT, WorkQueue
from tests.support.builders import HOUR, NOW, SECRET, aws, aws_credential, parse_as, read_any_form

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPIRY = "rotators/expiration-time"


def decide(document: SecretDocument | None) -> Keep | Rotate:
    """Decide for what a store holds."""
    return plan(parse_as(document, "aws-oidc"), fingerprint="f", seed="uid", now=NOW)


def published() -> SecretDocument:
    """A Secret that was just published."""
    return render(SECRET, aws_credential(), "f")


@pytest.mark.parametrize("life_s", [70, 240, 300, 600])
def test_fault_15_a_short_life_makes_no_loop(life_s: int) -> None:
    """Renewed at half of its life, not at once: the usual window of some minutes would be longer than the life."""
    document = render(SECRET, aws_credential(life=timedelta(seconds=life_s)), "f")
    decided = decide(document)
    assert isinstance(decided, Keep)
    assert 0.45 * life_s <= (decided.until - NOW).total_seconds() <= 0.5 * life_s


@pytest.fixture
def time_zone() -> Iterator[Any]:
    """Put this process into another time zone for a while."""

    def put(name: str) -> None:
        os.environ["TZ"] = name
        time.tzset()

    before = os.environ.get("TZ")
    yield put
    if before is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
def test_fault_25_time_zones_and_daylight_saving_change_nothing(zone: str, time_zone: Any) -> None:
    """Over the hour in which New York's clocks go back, and from anywhere, the decision and the Secret are the same."""
    time_zone(zone)
    night = datetime.fromisoformat("2026-11-01T05:30:00+00:00")
    credential = replace(aws_credential(), issued_at=night, expires_at=night + HOUR)
    there = night.astimezone(timezone(timedelta(hours=-4)))
    found = parse_as(render(SECRET, replace(credential, issued_at=there), "f"), "aws-oidc")
    assert found == Published(night + HOUR, night, "f")
    assert renewal_time(Published(night + HOUR, night, "f"), "uid") == renewal_time(
        Published(night + HOUR, there, "f"), "uid"
    )
    assert show_time(there) == "2026-11-01T05:30:00Z"


@pytest.mark.parametrize("expiry", [None, "", "soon", "2026-11-24", "2199-01-01T00:00:00Z"])
def test_fault_37_an_expiry_that_nobody_can_have_issued_is_repaired_once(expiry: str | None) -> None:
    """Missing, malformed or far ahead: the policy is rotated once, and what is then published is kept."""
    document = published()
    notes = {name: text for name, text in document.annotations.items() if name != EXPIRY}
    broken = replace(document, annotations=notes if expiry is None else {**notes, EXPIRY: expiry})
    decided = decide(broken)
    assert isinstance(decided, Rotate)
    assert decided.reason is Reason.UNREADABLE
    assert isinstance(decide(published()), Keep)


def test_fault_38_edited_data_is_noticed() -> None:
    """Data that is not what was written is no credential of ours, however good it looks."""
    document = published()
    edited = Sensitive(document.data["credentials"].reveal().replace("FwoG", "GwoF"))
    found = parse_as(replace(document, data={"credentials": edited}), "aws-oidc")
    assert found == Unreadable("its data was changed by somebody else")


def managed(name: str, secret: str) -> Policy | InvalidPolicy:
    """A policy in the managed form that publishes into a Secret of its choice."""
    manifest = aws()
    block = manifest["spec"]["awsCredentials"]
    manifest["metadata"] |= {"name": name, "annotations": {"credrotator.io/aws-credentials": str(block)}}
    manifest["spec"]["awsCredentials"] = {"region": "us-east-1", "credentialsFile": {"secretRef": {"name": secret}}}
    return read_any_form(manifest, f"{name}.yaml", Defaults())


@pytest.mark.parametrize("secret", ["shared", "ai-eg-bsp-bedrock"])
def test_fault_45_the_second_policy_of_one_secret_is_refused(secret: str) -> None:
    """Of two policies that lead to one Secret the first keeps it, a drop-in one before others; the second says why."""
    inventory = Inventory()
    for policy in (
        managed("zebra", secret),
        managed("apple", secret),
        read_any_form(aws(), "bedrock.yaml", Defaults()),
    ):
        inventory.add_policy(policy)
    inventory.refuse_shared_secrets()
    first = "bedrock" if secret == "ai-eg-bsp-bedrock" else "apple"
    assert ObjectKey("team-a", first) in inventory.policies
    wrong = inventory.invalid[ObjectKey("team-a", "zebra")]
    assert f"is where team-a/{first} publishes" in str(wrong.problems[0])


def test_fault_48_ten_thousand_policies_at_once() -> None:
    """The queue holds each policy once, however often it is asked for, and a new policy goes before the refreshes."""
    queue = WorkQueue(16, lambda _: "", lambda _: 4)
    keys = [ObjectKey("default", f"policy-{number}") for number in range(10_000)]
    for key in [*keys, *keys, *keys]:
        queue.add(key, ROUTINE)
    assert len(queue) == 10_000
    newcomer = ObjectKey("default", "newcomer")
    queue.add(newcomer, URGENT)
    assert queue.get(0) == newcomer
    assert queue.get(0) == keys[0]
