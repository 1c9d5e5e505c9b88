"""Row 64: a Secret that is kept is its policy's in name too, or it is lost and nobody notices."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.core.model import InvalidPolicy, ObjectKey, RotatablePolicy
from credrotator.core.secretdata import POLICY
from credrotator.kube.adoption import Adoption
from credrotator.kube.conditions import Conditions
from credrotator.kube.deferred import at_once
from credrotator.kube.delivery import Delivery
from credrotator.kube.events import EventRecorder
from credrotator.kube.listener import ClusterListener
from credrotator.kube.parking import Parking
from credrotator.kube.policy_events import PolicyEvents
from credrotator.kube.source import ClusterSource, Scope
from credrotator.kube.store import MANAGED_BY, ClusterStore
from credrotator.observability.audit import Audit
from credrotator.policies.inventory import Inventory
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from credrotator.rotation.attempt import AttemptRunner
from credrotator.rotation.daemon import Daemon
from credrotator.rotation.edit_budget import EditBudget
from credrotator.rotation.guard import PolicyGuard
from credrotator.rotation.lanes import Lanes
from credrotator.rotation.rotation import Rotation
from credrotator.rotation.workqueue import WorkQueue
from tests.support.builders import AWS
from tests.support.fakes import Exchange
from tests.support.manifests import POLICIES, VERSION, aws, exchange, manifest, values
from tests.support.twins import StandingClock
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

SHARED = ObjectKey("default", "shared")
SECRET = "ai-eg-bsp-bedrock"


def sharing(name: str, *, carrier: str = "shared") -> dict[str, Any]:
    """A managed policy that publishes in a Secret of that name."""
    block = {"region": "us-east-1", "credentialsFile": {"secretRef": {"name": carrier}}}
    annotations = {AWS: json.dumps(exchange())}
    return manifest(name, {"type": "AWSCredentials", "awsCredentials": block}, annotations=annotations)


class Running:
    """A daemon over the simulated server, with an exchange that always gives."""

    def __init__(self, server: ApiServer, api: KubeApi) -> None:
        self.server = server
        clock, audit = StandingClock(), Audit()
        self.exchange = Exchange(clock)
        delivery = Delivery(api, clock, NO_INSTRUMENTATION)
        self.source = ClusterSource(api, Scope(VERSION), policy_reader(Defaults()), delivery.acknowledge)
        store, guard = ClusterStore(api), PolicyGuard(self.source, lambda: True)
        events = PolicyEvents(EventRecorder(api, "pod-1", clock=clock), self.source, at_once)
        conditions = Conditions(
            api, VERSION, clock, observer=self.source, events=events, defer=at_once, skew=lambda: None
        )
        listener = ClusterListener(
            self.source, delivery, Adoption(store, events, audit), Parking(store, clock, audit), conditions
        )
        rotation = Rotation(store, self.exchange, clock, guard, cached_state=self.source.heard_of)
        lanes = Lanes(self.source, lambda _: False, 4)
        self.queue = WorkQueue(4, lanes.of, lanes.limit)
        self.daemon = Daemon(
            self.source,
            self.queue,
            AttemptRunner(rotation, listener, guard, clock, audit=audit, instrumentation=NO_INSTRUMENTATION),
            clock,
            leads=lambda: True,
            instrumentation=NO_INSTRUMENTATION,
            edits=EditBudget(),
        )
        self.daemon.start()
        eventually(lambda: self.source.trouble() is None)

    def secret(self, name: str = SECRET) -> dict[str, Any]:
        return self.server.get("secrets", name) or {"metadata": {}}

    def owners(self, name: str = SECRET) -> set[str]:
        return {reference["uid"] for reference in self.secret(name)["metadata"].get("ownerReferences") or ()}

    def is_of(self, policy: str, name: str = SECRET) -> bool:
        """Tell whether a Secret has data, and names a policy in every respect, with no other owner."""
        found, owner = self.secret(name), self.server.get(POLICIES, policy)
        metadata = found["metadata"]
        return (
            owner is not None
            and bool(found.get("data"))
            and self.owners(name) == {owner["metadata"]["uid"]}
            and (metadata.get("labels") or {}).get(MANAGED_BY) == "credrotator"
            and metadata["annotations"].get(POLICY) == policy
        )

    def collected_until(self, holds: Callable[[], bool]) -> None:
        """Collect garbage until something holds: what is written for a policy whose end is not seen yet is garbage."""

        def collected() -> bool:
            self.server.collect_garbage()
            return holds()

        eventually(collected)

    def settled(self) -> None:
        eventually(lambda: not len(self.queue) and not self.queue._handled)

    def events(self) -> list[tuple[str, str]]:
        return [(event["reason"], event["involvedObject"]["name"]) for event in self.server.items("events")]

    def ready(self, policy: str) -> str:
        """What our condition says of a policy: its status."""
        found = (self.server.get(POLICIES, policy) or {}).get("status") or {}
        ours = [each["status"] for each in found.get("conditions") or () if each["type"] == "credrotator.io/Ready"]
        return ours[0] if ours else ""


@contextlib.contextmanager
def running(server: ApiServer, api: KubeApi) -> Iterator[Running]:
    """Run a daemon until the block ends."""
    here = Running(server, api)
    try:
        yield here
    finally:
        here.daemon.stop()


EDITS: dict[str, dict[str, Any]] = {
    "label": {"labels": {MANAGED_BY: "argocd"}},
    "no label": {"labels": None},
    "annotation": {"annotations": {POLICY: "another"}},
    "no annotation": {"annotations": {POLICY: None}},
    "no owner": {"ownerReferences": None},
}


@pytest.mark.parametrize("edit", EDITS)
def test_fault_64_metadata_is_put_right(server: ApiServer, api: KubeApi, edit: str) -> None:
    """From the same data, without an exchange, at once and after a restart; the Event says that it was repaired."""
    server.create(POLICIES, aws())
    with running(server, api) as here:
        eventually(lambda: here.is_of("bedrock"))
        here.settled()
        data = here.secret()["data"]
        server.patch("secrets", SECRET, {"metadata": EDITS[edit]})
        eventually(lambda: here.is_of("bedrock"))
        eventually(lambda: ("Repaired", "bedrock") in here.events())
        here.settled()
        assert here.secret()["data"] == data
        assert len(here.exchange.calls) == 1
    server.patch("secrets", SECRET, {"metadata": EDITS[edit]})
    with running(server, api) as here:
        eventually(lambda: here.is_of("bedrock"))
        assert here.secret()["data"] == data
        assert not here.exchange.calls


@pytest.mark.parametrize("edit", EDITS)
def test_fault_64_deleted_while_it_is_put_right(server: ApiServer, api: KubeApi, edit: str) -> None:
    """Without our label no watch tells of the end: whoever repairs notices, and publishes what it holds."""
    server.create(POLICIES, aws())
    with running(server, api) as here:
        eventually(lambda: here.is_of("bedrock"))
        here.settled()
        held_up = server.delay(float("inf"), verb="update", resource="secrets", name=SECRET)
        server.patch("secrets", SECRET, {"metadata": EDITS[edit]})
        server.wait_for(1, "update", "secrets")
        server.delete("secrets", SECRET)
        server.heal(held_up)
        eventually(lambda: here.is_of("bedrock"))
        assert len(here.exchange.calls) == 1


def test_fault_64_a_repaired_secret_is_left_alone(server: ApiServer, api: KubeApi) -> None:
    """One repair for one edit, and none for labels and annotations of others."""
    server.create(POLICIES, aws())
    with running(server, api) as here:
        eventually(lambda: here.is_of("bedrock"))
        here.settled()
        server.patch("secrets", SECRET, {"metadata": {"labels": {"team": "x"}, "annotations": {"a/b": "c"}}})
        server.patch("secrets", SECRET, {"metadata": EDITS["label"]})
        eventually(lambda: here.is_of("bedrock"))
        here.settled()
        assert len(server.seen("update", "secrets", name=SECRET)) == 1
        assert here.secret()["metadata"]["labels"]["team"] == "x"


def test_fault_64_made_anew_while_nobody_looked(server: ApiServer, api: KubeApi) -> None:
    """The owner of before is dead: the Secret is given to the policy that is there, before it is collected."""
    server.create(POLICIES, aws())
    with running(server, api) as here:
        eventually(lambda: here.is_of("bedrock"))
        here.settled()
    server.delete(POLICIES, "bedrock")
    server.create(POLICIES, aws())
    with running(server, api) as here:
        eventually(lambda: here.is_of("bedrock"))
        assert server.collect_garbage() == 0, "it was created, which needed no bell"


def test_fault_64_made_anew_and_collected(server: ApiServer, api: KubeApi) -> None:
    """Where the garbage collector was quicker, the Secret is made anew."""
    server.create(POLICIES, aws())
    with running(server, api) as here:
        eventually(lambda: here.is_of("bedrock"))
        server.delete(POLICIES, "bedrock")
        server.collect_garbage()
        server.create(POLICIES, aws())
        here.collected_until(lambda: here.is_of("bedrock"))


def test_fault_64_renamed(server: ApiServer, api: KubeApi) -> None:
    """A policy under another name with the same Secret has it back after the old one's end took it along."""
    server.create(POLICIES, sharing("old"))
    with running(server, api) as here:
        eventually(lambda: here.is_of("old", "shared"))
        server.create(POLICIES, sharing("new"))
        here.settled()
        server.delete(POLICIES, "old")
        here.settled()
        here.collected_until(lambda: here.is_of("new", "shared"))
        eventually(lambda: here.ready("new") == "True")


@pytest.mark.parametrize("names", [("first", "second"), ("second", "first")])
def test_fault_64_two_policies_of_one_secret(server: ApiServer, api: KubeApi, names: tuple[str, str]) -> None:
    """The one that has it keeps it, whatever they are called; the other is refused, and takes over when it may."""
    keeper, refused = names
    server.create(POLICIES, sharing(keeper))
    with running(server, api) as here:
        eventually(lambda: here.is_of(keeper, "shared"))
        before = values(server, "shared")
        server.create(POLICIES, sharing(refused))
        eventually(lambda: here.ready(refused) == "False")
        here.settled()
        judged = here.source.get(ObjectKey("default", refused))
        assert isinstance(judged, InvalidPolicy)
        assert f"Secret default/shared is where default/{keeper} publishes" in str(judged.problems[0])
        assert (values(server, "shared"), len(here.exchange.calls)) == (before, 1)
        server.delete(POLICIES, keeper)
        here.settled()
        here.collected_until(lambda: here.is_of(refused, "shared"))
        eventually(lambda: here.ready(refused) == "True")


def test_fault_64_refused_in_the_words_of_rotate(server: ApiServer, api: KubeApi) -> None:
    """At a start, where neither has the Secret, it is the same one as in one pass, with the same problem."""
    for name in ("b", "a"):
        server.create(POLICIES, sharing(name))
    with running(server, api) as here:
        eventually(lambda: here.is_of("a", "shared"))
        judged = {name: here.source.get(ObjectKey("default", name)) for name in ("a", "b")}
        inventory = Inventory()
        for name in judged:
            observed = here.source.observed(ObjectKey("default", name))
            assert observed
            inventory.add_policy(observed.policy)
    inventory.refuse_shared_secrets()
    assert isinstance(judged["a"], RotatablePolicy)
    assert judged["b"] == inventory.invalid[ObjectKey("default", "b")]


def test_fault_64_one_of_two_names_another(server: ApiServer, api: KubeApi) -> None:
    """An edit ends the quarrel at once."""
    server.create(POLICIES, sharing("a"))
    with running(server, api) as here:
        eventually(lambda: here.is_of("a", "shared"))
        server.create(POLICIES, sharing("b"))
        eventually(lambda: here.ready("b") == "False")
        server.patch(POLICIES, "b", {"spec": sharing("b", carrier="own")["spec"]})
        eventually(lambda: here.is_of("b", "own"))
        assert here.is_of("a", "shared")
