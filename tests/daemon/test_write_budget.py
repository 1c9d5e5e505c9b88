"""I18: doorbell, condition and Events of one policy are written five times in a row, then ten times a minute."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.kube.conditions import READY
from credrotator.kube.write_budget import BURST, EVERY_S
from tests.daemon.listening import WRITES, Listening
from tests.support.manifests import POLICIES, aws

if TYPE_CHECKING:
    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

SECOND = timedelta(seconds=1)
MINUTES = 1
OTHER = [
    {"manager": "helm", "time": "2026-01-02T00:00:00Z"},
    {"manager": "credrotator", "time": "2026-01-03T00:00:00Z"},
]


@pytest.fixture
def here(server: ApiServer, api: KubeApi) -> Listening:
    """Listen for a policy in the gateway's own form, which another writer touches as well."""
    manifest = aws()
    manifest["metadata"]["managedFields"] = OTHER
    return Listening(server, api, manifest)


def flip(here: Listening, number: int) -> None:
    """Let its outcome be another one than the last, as somebody has it who edits it all the time."""
    here.fail(("IssuerTLS", "IssuerFailed")[number // 2 % 2]) if number % 2 else here.hear("rotated")


def writes(here: Listening) -> Counter[str]:
    """Count the writes of each object; Events are counted as they stand in the request."""
    found: Counter[str] = Counter()
    for request in here.server.requests:
        if request.verb in WRITES:
            found[f"{request.resource}/{request.subresource}"] += 1
    return found


@pytest.mark.slow
def test_invariant_18_whatever_is_written_for_one_policy(here: Listening) -> None:
    """Twenty other outcomes a second, for a minute: each kind of write keeps to its budget."""
    here.publish()
    number = 0
    for _ in range(MINUTES * 60):
        for _ in range(20):
            flip(here, number)
            number += 1
        here.listener.tick()
        for key in here.delivery.overdue():
            here.delivery.ring_again(key)
        here.clock.now += SECOND
        here.delivery.sweep()
    allowed = BURST + MINUTES * 60 / EVERY_S
    found = writes(here)
    assert {name for name in found if "events" not in name} == {"secrets/", "backendsecuritypolicies/status"}
    # A bell and its Secret are one object each; the Secret itself is not written here.
    assert max(found.values()) <= allowed


def test_invariant_18_the_last_word_is_said(here: Listening) -> None:
    """What had to wait is written when it may be; of several, the last."""
    for number in range(30):
        flip(here, number)
    here.fail("IssuerTLS")
    assert here.ours()["reason"] == READY
    here.clock.now += EVERY_S * SECOND
    here.listener.tick()
    assert here.ours()["reason"] == "IssuerTLS"
    here.server.requests.clear()
    here.clock.now += 10 * EVERY_S * SECOND
    here.listener.tick()
    assert here.written() == []


def test_invariant_18_a_bell_that_had_to_wait_is_rung(here: Listening) -> None:
    """For all that was published meanwhile, once."""
    for _ in range(BURST + 3):
        here.hear("rotated")
    assert here.delivery.overdue() == []
    here.server.requests.clear()
    here.clock.now += EVERY_S * SECOND
    (key,) = here.delivery.overdue()
    here.delivery.ring_again(key)
    assert here.written() == ["update secrets"]


def test_invariant_18_the_other_writer_of_a_policy_is_named(here: Listening, caplog: pytest.LogCaptureFixture) -> None:
    """As managedFields have it, once."""
    for number in range(40):
        flip(here, number)
    said = [record.getMessage() for record in caplog.records if "written less often" in record.getMessage()]
    assert said == [
        "default/bedrock: its condition is written less often now; the policy was changed by helm last",
    ]


def test_invariant_18_nothing_is_kept_of_a_policy_that_is_gone(here: Listening) -> None:
    """I14: neither is it written any more."""
    for number in range(30):
        flip(here, number)
    here.listener.forget(here.policy.key)
    here.server.requests.clear()
    here.clock.now += EVERY_S * SECOND
    here.listener.tick()
    assert here.written() == []
    assert here.server.get(POLICIES, here.name) is not None


def test_invariant_18_what_is_wrong_is_said_first(here: Listening) -> None:
    """Where success and failure take turns, as fast as may be written, the Events of success do not take all places."""
    for _ in range(BURST):
        here.hear("rotated")
    here.server.requests.clear()
    for _ in range(3):
        here.clock.now += EVERY_S * SECOND
        here.hear("rotated")
        here.fail("ContestedWrite")
    told = [request.body["reason"] for request in here.server.requests if request.verb == "create"]
    assert "RotationFailed" in told
