"""Verified delivery: a gateway that writes stale copies, as v1.1.0 does, is found out and put right."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.model import ObjectKey
from credrotator.core.secretdata import CONTENT, render
from credrotator.kube.deferred import at_once
from credrotator.kube.delivery import Delivery
from credrotator.kube.events import EventRecorder
from credrotator.kube.filter_config_reader import FilterConfigReader, FilterConfigs
from credrotator.kube.in_use import BEHIND_AFTER_S
from credrotator.kube.policy_events import PolicyEvents
from credrotator.kube.source import Observed, observe
from credrotator.kube.store import ClusterStore
from credrotator.kube.verified_delivery import BEHIND, IN_USE, SELDOM_S, SOON_S, VerifiedDelivery
from credrotator.observability.metrics import Metrics
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from credrotator.sandbox import Sandbox
from tests.support.cluster import Cluster
from tests.support.filter_configs import GATEWAY, INDEX, SYSTEM, WHOLE, SimulatedGateway, parts, whole
from tests.support.manifests import BEDROCK, BEDROCK_SECRET, POLICIES, aws, managed, owner
from tests.support.twins import StandingClock, aws_credential
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from credrotator.core.model import InvalidPolicy, Policy
    from credrotator.kube.client.api import KubeApi
    from tests.support.kube.simulator import ApiServer

TARGET = {"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend", "name": "bedrock"}
FOUND_WITHIN_S = 10.0


def with_target(policy: dict[str, Any]) -> dict[str, Any]:
    """Attach a policy to the backend."""
    return {**policy, "spec": {**policy["spec"], "targetRefs": [TARGET]}}


class Verifying:
    """A leader that compares, look by look, on a clock that the test moves."""

    def __init__(self, server: ApiServer, api: KubeApi, policy: dict[str, Any] | None = None) -> None:
        self.server, self.api = server, api
        self.clock, self.metrics, self.leading = StandingClock(), Metrics(), True
        self.gateway = SimulatedGateway(server)
        self.created = server.create(POLICIES, policy or with_target(aws()))
        self.store = ClusterStore(api)
        self.secret = BEDROCK_SECRET if policy is None else ObjectKey("default", "bedrock-credentials")
        self.gateway.route("bedrock", self.secret)
        self.delivery = Delivery(api, self.clock, self.metrics, seconds=self.clock.seconds)
        self.verified = VerifiedDelivery(
            FilterConfigReader(api, FilterConfigs((GATEWAY,), SYSTEM)),
            self,
            self.delivery,
            events=PolicyEvents(EventRecorder(api, "test", clock=self.clock), self, at_once),
            instrumentation=self.metrics,
            leads=lambda: self.leading,
            defer=at_once,
            seconds=self.clock.seconds,
        )
        self.generation = 0

    def publish(self, *, tell: bool = True) -> None:
        """Publish a new credential as the daemon does, ring, and tell who compares."""
        self.generation += 1
        credential = aws_credential(self.clock(), tag=str(self.generation))
        stored = self.store.read(self.secret)
        document = render(self.secret, credential, "fingerprint", owner=owner(self.created))
        self.store.publish(document, stored.version if stored else None)
        if tell:
            self.verified.published(BEDROCK)

    def look(self, after_s: float = 0.0) -> float:
        self.clock.now += timedelta(seconds=after_s)
        return self.verified.look()

    def looks_until_rung(self) -> float:
        """Look as often as the thread would, until the bell is rung; return the seconds that took."""
        began_s, before = self.clock.seconds(), self.bell()
        wait_s = self.look()
        while self.bell() == before:
            wait_s = self.look(wait_s)
            assert self.clock.seconds() - began_s < 60
        return self.clock.seconds() - began_s

    def bell(self) -> str | None:
        found = self.server.get("secrets", "bedrock")
        return found["metadata"]["resourceVersion"] if found else None

    def value(self, metric: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"credrotator_{metric}", labels)

    def events(self) -> list[str]:
        return [event["reason"] for event in self.server.items("events")]

    def policies(self) -> Iterable[ObjectKey]:
        return [BEDROCK]

    def observed(self, key: ObjectKey) -> Observed | None:
        found = self.server.get(POLICIES, key.name, key.namespace)
        return observe(found, policy_reader(Defaults())) if found else None

    def get(self, key: ObjectKey) -> Policy | InvalidPolicy | None:
        observed = self.observed(key)
        return observed.policy if observed else None

    def content(self, _policy: Policy) -> str:
        found = self.server.get("secrets", self.secret.name) or {"metadata": {}}
        return str(found["metadata"].get("annotations", {}).get(CONTENT, ""))


@pytest.fixture
def verifying(server: ApiServer, api: KubeApi) -> Verifying:
    """A policy whose first credential is published and in use."""
    found = Verifying(server, api)
    found.publish()
    found.gateway.see()
    found.gateway.reconcile()
    found.look(0.5)
    return found


def test_in_use(verifying: Verifying) -> None:
    """Counted with the time that it took; after that it is looked at seldom, and nothing is written."""
    assert verifying.value("delivery_config_seconds_count") == 1
    assert verifying.value("delivery_config_seconds_sum") == pytest.approx(0.5)
    assert verifying.look(10) == SELDOM_S
    assert verifying.value("delivery_behind") == 0
    assert verifying.events() == []
    assert verifying.bell() is None


def test_fault_73_a_stale_copy_is_found_and_put_right(verifying: Verifying, caplog: pytest.LogCaptureFixture) -> None:
    """Upstream 2603: the controller hears the bell, and writes what its cache had. Found within 10 s, rung, told."""
    verifying.clock.now += timedelta(minutes=40)
    verifying.publish()
    verifying.gateway.reconcile()
    with caplog.at_level(logging.INFO, "credrotator"):
        took_s = verifying.looks_until_rung()
        assert BEHIND_AFTER_S < took_s <= FOUND_WITHIN_S
        assert verifying.value("delivery_behind") == 1
        assert verifying.events() == [BEHIND]
        verifying.gateway.see()
        verifying.gateway.reconcile()
        verifying.look(SELDOM_S)
    assert verifying.value("delivery_behind") == 0
    assert sorted(verifying.events()) == [BEHIND, IN_USE]
    assert len([record for record in caplog.records if record.name == "credrotator.kube.verified_delivery"]) == 2
    assert "ASIA" not in caplog.text
    # Late is late: one within the time, one not.
    assert verifying.value("delivery_config_seconds_bucket", le="5.0") == 1
    assert verifying.value("delivery_config_seconds_count") == 2


def test_fault_73_a_gateway_that_falls_back(verifying: Verifying) -> None:
    """A configuration that was right, and is written again from an old copy with nobody publishing anything."""
    old = [verifying.server.get("secrets", name, SYSTEM) for name in (f"{INDEX}-part-000", INDEX, WHOLE)]
    verifying.publish()
    verifying.gateway.see()
    verifying.gateway.reconcile()
    verifying.look(1)
    verifying.clock.now += timedelta(minutes=5)
    for found in old:
        assert found
        verifying.server.patch("secrets", found["metadata"]["name"], {"data": found["data"]}, SYSTEM)
    assert verifying.looks_until_rung() <= FOUND_WITHIN_S


def test_fault_73_after_a_restart(server: ApiServer, api: KubeApi) -> None:
    """What is behind when this process begins is found as well; how long it took is not known, and not counted."""
    verifying = Verifying(server, api)
    verifying.publish(tell=False)
    verifying.gateway.see()
    verifying.gateway.reconcile()
    verifying.publish(tell=False)
    assert verifying.looks_until_rung() <= FOUND_WITHIN_S
    assert verifying.value("delivery_config_seconds_count") == 0


def test_fault_73_bells_are_bounded(verifying: Verifying) -> None:
    """A gateway that never writes the new one: told a few times in an hour, said once (I18)."""
    verifying.publish()
    verifying.server.requests.clear()
    for _ in range(900):
        verifying.look(SELDOM_S)
        verifying.delivery.acknowledge(BEDROCK, f"{verifying.clock.now:%Y-%m-%dT%H:%M:%SZ}")
    rings = [request for request in verifying.server.requests if request.verb in {"create", "update"}]
    assert len([request for request in rings if request.resource == "secrets"]) < 20
    assert verifying.events() == [BEHIND]


def test_one_that_waits_for_the_gateway_is_not_rung_for_twice(verifying: Verifying) -> None:
    """While the bell of the publication is not acknowledged, whoever rang it rings again."""
    verifying.publish()
    policy = verifying.get(BEDROCK)
    verifying.delivery.ring(policy, policy.owner, "")  # type: ignore[arg-type, union-attr]
    before = verifying.bell()
    verifying.look(BEHIND_AFTER_S + 1)
    assert verifying.value("delivery_behind") == 1
    assert verifying.bell() == before


def test_the_managed_form(server: ApiServer, api: KubeApi) -> None:
    """It is compared as well; nothing is rung for: the gateway watches the Secret."""
    verifying = Verifying(server, api, with_target(managed()))
    verifying.publish()
    verifying.gateway.see()
    verifying.gateway.reconcile()
    verifying.look(1)
    assert verifying.value("delivery_config_seconds_count") == 1
    verifying.publish()
    verifying.look(0)
    verifying.look(BEHIND_AFTER_S + 1)
    assert verifying.events() == [BEHIND]
    assert verifying.bell() is None


class TestShapes:
    """Which of the two configurations counts."""

    def test_whole_only(self, server: ApiServer, api: KubeApi) -> None:
        """v1.0 knows of no parts."""
        verifying = Verifying(server, api)
        verifying.gateway = SimulatedGateway(server, in_parts=False)
        verifying.gateway.route("bedrock", verifying.secret)
        verifying.publish()
        verifying.gateway.see()
        verifying.gateway.reconcile()
        verifying.look(1)
        assert verifying.value("delivery_config_seconds_count") == 1

    def test_parts_only(self, verifying: Verifying) -> None:
        """A configuration that is too long for one Secret."""
        verifying.server.delete("secrets", WHOLE, SYSTEM)
        verifying.publish()
        verifying.gateway.see()
        verifying.gateway.reconcile()
        verifying.server.delete("secrets", WHOLE, SYSTEM)
        verifying.look(1)
        assert verifying.value("delivery_config_seconds_count") == 2

    @pytest.mark.parametrize(("parts_at", "whole_at", "expected"), [("11", "12", "whole"), ("12", "11", "parts")])
    def test_one_of_them_is_left_over(
        self, server: ApiServer, api: KubeApi, parts_at: str, whole_at: str, expected: str
    ) -> None:
        """After a step back to v1.0, or where the whole has become too long, the later one counts."""
        text = {each: f"backends: [{{name: default/{each}/r, auth: {{k: {{key: x}}}}}}]" for each in ("whole", "parts")}
        for secret in (*parts(text["parts"], at=f"2026-11-24T{parts_at}:00:00Z"), whole(text["whole"])):
            server.create("secrets", secret)
        server.patch("secrets", WHOLE, whole(text["whole"], at=f"2026-11-24T{whole_at}:00:00Z"), SYSTEM)
        (config,) = FilterConfigReader(api, FilterConfigs((GATEWAY,), SYSTEM)).read(["credentials"])
        assert list(config.backends) == [ObjectKey("default", expected)]

    def test_while_it_is_written(self, verifying: Verifying) -> None:
        """Between part and index the former configuration counts, as it does for the filter."""
        verifying.publish()
        torn = parts("backends: []")[0]
        verifying.server.patch("secrets", torn["metadata"]["name"], {"data": torn["data"]}, SYSTEM)
        index = {"data": parts("backends: [] # another")[-1]["data"]}
        verifying.server.patch("secrets", INDEX, index, SYSTEM)
        verifying.look(1)
        assert verifying.value("delivery_config_seconds_count") == 1
        verifying.gateway.see()
        verifying.gateway.reconcile()
        verifying.look(1)
        assert verifying.value("delivery_config_seconds_count") == 2

    def test_few_requests(self, verifying: Verifying) -> None:
        """What has not changed is read as index and whole, without its parts; by names, never by a list."""
        verifying.server.requests.clear()
        verifying.look(SELDOM_S)
        asked = [(request.verb, request.namespace, request.name) for request in verifying.server.requests]
        assert asked == [("get", SYSTEM, INDEX), ("get", SYSTEM, WHOLE)]


class TestTrouble:
    """What cannot be read is said once, and is no alarm of another kind."""

    def test_forbidden(self, verifying: Verifying, caplog: pytest.LogCaptureFixture) -> None:
        """Without the right nothing is known; with it all goes on."""
        verifying.server.forbid("get", "secrets", SYSTEM)
        verifying.publish()
        with caplog.at_level(logging.INFO, "credrotator"):
            assert [verifying.look(10) for _ in range(3)] == [SELDOM_S] * 3
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            verifying.server.permit()
            verifying.gateway.see()
            verifying.gateway.reconcile()
            verifying.look(1)
            assert "can be read again" in caplog.text
        assert verifying.value("delivery_behind") == 0

    def test_no_such_gateway(self, server: ApiServer, api: KubeApi, caplog: pytest.LogCaptureFixture) -> None:
        """A name that is wrong, or a gateway that has not written yet."""
        verifying = Verifying(server, api)
        verifying.publish()
        for _ in range(3):
            verifying.look(10)
        (said,) = [record.message for record in caplog.records if "not known" in record.message]
        assert said.endswith("no filter configuration: the gateway has written none under these names")

    def test_who_does_not_lead(self, verifying: Verifying) -> None:
        """It reads nothing, says nothing, and begins anew when it leads."""
        verifying.publish()
        verifying.leading = False
        verifying.server.requests.clear()
        verifying.look(20)
        assert not verifying.server.requests
        verifying.verified.forget_all()
        verifying.leading = True
        verifying.look(0)
        assert verifying.value("delivery_behind") == 0
        assert verifying.looks_until_rung() <= FOUND_WITHIN_S

    def test_soon_after_a_publication(self, verifying: Verifying) -> None:
        """Looked at every half second then, for as long as it may be on its way."""
        verifying.publish()
        assert verifying.look() == SOON_S
        assert verifying.look(BEHIND_AFTER_S + 1) == SELDOM_S


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Start a sandbox once."""
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@contextlib.contextmanager
def controller(cluster: Cluster, up_to_date: threading.Event) -> Iterator[SimulatedGateway]:
    """Run a controller that answers each bell of ``aws`` and each creation of its Secret.

    It answers with the copies of Secrets that it has at that moment.
    """
    gateway, ended = SimulatedGateway(cluster.server), threading.Event()
    gateway.route("bedrock", ObjectKey("default", "ai-eg-bsp-aws"))

    def work() -> None:
        heard = None
        while not ended.wait(0.02):
            bell, secret = (cluster.server.get("secrets", name) for name in ("aws", "ai-eg-bsp-aws"))
            news = bell and bell["metadata"]["resourceVersion"], secret and secret["metadata"]["uid"]
            if any(news) and news != heard:
                heard = news
                if up_to_date.is_set():
                    gateway.see()
                gateway.reconcile()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield gateway
    finally:
        ended.set()
        thread.join(LIMIT_S)


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_fault_73_the_daemon_finds_out(server: ApiServer, sandbox: Sandbox, tmp_path: Path) -> None:
    """The whole program against a controller whose copies are a generation behind; ``status`` sees the same."""
    cluster = Cluster(server, sandbox, tmp_path)
    cluster.aws()
    server.patch(POLICIES, "aws", {"spec": {"targetRefs": [TARGET]}})
    verify = ("--verify-delivery", str(GATEWAY))
    up_to_date = threading.Event()
    up_to_date.set()
    with controller(cluster, up_to_date), cluster.daemon(*verify) as daemon:
        first = cluster.new_key()
        eventually(lambda: daemon.metric("delivery_config_seconds_count") == 1)
        assert in_use(cluster, verify) is True
        up_to_date.clear()
        cluster.run("renew", "aws")
        cluster.new_key(first)
        eventually(lambda: daemon.metric("delivery_behind") == 1)
        assert in_use(cluster, verify) is False
        up_to_date.set()
        eventually(lambda: daemon.metric("delivery_behind") == 0)
        assert in_use(cluster, verify) is True
        eventually(lambda: [reason for reason, _ in cluster.events()].count(IN_USE) == 1)
        assert cluster.key_id() not in daemon.log
    wide = cluster.run("status", "-o", "wide", *verify)
    assert wide.splitlines()[0].endswith("IN USE")
    assert in_use(cluster, ()) is None


def in_use(cluster: Cluster, options: tuple[str, ...]) -> bool | None:
    """Ask status."""
    (row,) = json.loads(cluster.run("status", "-o", "json", *options))["policies"]
    found: bool | None = row["inUse"]
    return found
