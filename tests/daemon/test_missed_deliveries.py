"""Row 63: what was published and not delivered is made up for by whoever leads next."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.core.model import ObjectKey
from credrotator.core.secret_document import Published
from credrotator.core.secretdata import show_time
from credrotator.kube.deferred import at_once
from credrotator.kube.delivery import Delivery
from credrotator.kube.missed_deliveries import Bells, MissedDeliveries
from credrotator.kube.source import Observed, observe
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from tests.support.manifests import BEDROCK, POLICIES, aws, azure_secret, managed, secret, speak
from tests.support.twins import HOUR, StandingClock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from credrotator.core.model import InvalidPolicy, Policy
    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

MINUTE = timedelta(minutes=1)
WRITES = {"create", "update", "patch", "delete"}


class Taking:
    """A process that takes over; what it knows of policies is always up to date."""

    def __init__(self, server: ApiServer, api: KubeApi) -> None:
        self.server, self.api = server, api
        self.clock = StandingClock()
        self.published: dict[ObjectKey, Published] = {}
        self.listed = True
        self.restart()

    def restart(self) -> None:
        self.delivery = Delivery(self.api, self.clock, NO_INSTRUMENTATION, seconds=self.clock.seconds)
        self.missed = MissedDeliveries(self.api, (None,), self, self.delivery, self.clock, seconds=self.clock.seconds)
        self.bells = Bells(self.delivery, self.missed, at_once)
        self.server.requests.clear()

    def issue(self, key: ObjectKey = BEDROCK) -> None:
        """Publish a credential, and tell nobody."""
        now = self.clock()
        self.published[key] = Published(now + HOUR, now, "x")

    def deliver(self, key: ObjectKey = BEDROCK) -> None:
        """Ring as a publication does."""
        policy = self.get(key)
        assert policy is not None
        self.delivery.ring(policy, policy.owner, "")  # type: ignore[arg-type, union-attr]

    def take_over(self) -> list[str]:
        """Lead from now on, some minutes after what happened before; return what was written."""
        self.clock.now += 5 * MINUTE
        self.restart()
        self.missed.begin()
        return self.tick()

    def tick(self) -> list[str]:
        self.server.requests.clear()
        self.bells.tick()
        return [request.verb for request in self.server.requests if request.verb in WRITES]

    def policies(self) -> Iterable[ObjectKey]:
        return [ObjectKey("default", found["metadata"]["name"]) for found in self.server.items(POLICIES)]

    def observed(self, key: ObjectKey) -> Observed | None:
        found = self.server.get(POLICIES, key.name, key.namespace)
        return observe(found, policy_reader(Defaults())) if found else None

    def get(self, key: ObjectKey) -> Policy | InvalidPolicy | None:
        observed = self.observed(key)
        return observed.policy if observed else None

    def cached_state(self, policy: Policy) -> Published | None:
        return self.published.get(policy.key)

    def trouble(self) -> str | None:
        return None if self.listed else "not listed yet"


@pytest.fixture
def taking(server: ApiServer, api: KubeApi) -> Taking:
    """A policy of AWS, with a credential that was delivered."""
    server.create(POLICIES, aws())
    found = Taking(server, api)
    found.issue()
    found.deliver()
    return found


def test_fault_63_all_is_delivered(taking: Taking) -> None:
    """One list of bells, no write (I4); after that, nothing."""
    assert taking.take_over() == []
    assert [request.verb for request in taking.server.requests] == ["list"]
    assert taking.tick() == []
    assert not taking.server.requests


def test_fault_63_killed_between_write_and_doorbell(taking: Taking) -> None:
    """The bell is older than the credential: it is rung, once."""
    taking.clock.now += 5 * MINUTE
    taking.issue()
    assert taking.take_over() == ["create", "update"]
    found = taking.server.get("secrets", "bedrock") or {}
    assert found["metadata"]["annotations"]["credrotator.io/rung-at"].startswith(show_time(taking.clock()))
    taking.delivery.acknowledge(BEDROCK, "2027-01-01T00:00:00Z")
    assert taking.tick() == []


def test_fault_63_never_rung(server: ApiServer, api: KubeApi) -> None:
    """Killed before the first bell, after the gateway had looked: there is none, and its status is older."""
    server.create(POLICIES, aws())
    taking = Taking(server, api)
    speak(server, "bedrock", show_time(taking.clock() - MINUTE))
    taking.issue()
    assert taking.take_over() == ["create"]


@pytest.mark.parametrize("looked", [timedelta(0), MINUTE, None])
def test_fault_63_created_and_heard(server: ApiServer, api: KubeApi, looked: timedelta | None) -> None:
    """A Secret that was created needed no bell: the gateway has looked since, or reads it when it comes to it (I4)."""
    server.create(POLICIES, aws())
    taking = Taking(server, api)
    taking.issue()
    if looked is not None:
        speak(server, "bedrock", show_time(taking.clock() + looked))
    assert taking.take_over() == []


def test_fault_63_the_gateway_has_not_looked(taking: Taking) -> None:
    """It was rung, and the gateway's status is older than the credential: the former leader waited in vain."""
    speak(taking.server, "bedrock", show_time(taking.clock() - MINUTE))
    assert taking.take_over() != []
    speak(taking.server, "bedrock", show_time(taking.clock() + MINUTE))
    taking.delivery.stand_down()
    assert taking.take_over() == []


def test_fault_63_without_a_bell_of_its_own(server: ApiServer, api: KubeApi) -> None:
    """What comes and goes leaves nothing to compare: the gateway's status has to tell."""
    server.create(POLICIES, azure_secret())
    server.create("secrets", secret("bedrock", password="theirs"))
    server.create(POLICIES, aws())
    taking = Taking(server, api)
    for name in ("openai", "bedrock"):
        taking.issue(ObjectKey("default", name))
    assert taking.take_over() == []
    for name in ("openai", "bedrock"):
        speak(server, name, "2026-11-24T11:00:00Z")
    assert sorted(taking.take_over()) == ["create", "create", "create", "delete", "delete"]


def test_fault_63_nothing_to_tell(server: ApiServer, api: KubeApi) -> None:
    """Managed policies, adopted Secrets, and what this process publishes itself are none of its business."""
    server.create(POLICIES, managed("managed"))
    server.create(POLICIES, aws("adopted"))
    server.create(POLICIES, aws("own"))
    server.create(POLICIES, aws("none"))
    taking = Taking(server, api)
    taking.issue(ObjectKey("default", "managed"))
    key = ObjectKey("default", "adopted")
    taking.issue(key)
    taking.published[key] = replace(taking.published[key], issued_at=None)
    taking.clock.now += 5 * MINUTE
    taking.issue(ObjectKey("default", "own"))
    taking.clock.now -= 5 * MINUTE
    assert taking.take_over() == []


def test_fault_63_when_it_can_be_known(taking: Taking) -> None:
    """Not before the policies are listed, again where the bells cannot be, and not after another one leads."""
    taking.clock.now += 5 * MINUTE
    taking.issue()
    taking.listed = False
    assert taking.take_over() == []
    taking.listed = True
    fault = taking.server.fail(500, "Busy", verb="list")
    assert taking.tick() == []
    taking.server.heal(fault)
    taking.clock.now += timedelta(seconds=6)
    assert taking.tick() == ["create", "update"]
    taking.missed.begin()
    taking.missed.stand_down()
    assert taking.tick() == []
