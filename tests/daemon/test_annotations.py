"""Fault 56: what stands in an annotation is its policy's problem alone, for every command and for the daemon."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.model import InvalidPolicy, ObjectKey, Policy
from credrotator.kube.client.live_copy import LiveCopy
from credrotator.kube.source import CONDITION, Observed, observe
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from tests.support.builders import AWS
from tests.support.cluster import Cluster
from tests.support.manifests import POLICIES, managed
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from credrotator.sandbox import Sandbox
    from tests.support.kube.simulator import ApiServer

pytestmark = pytest.mark.timeout(120)

READER = policy_reader(Defaults())
HOSTILE = {
    "int": "!!int ''",
    "float": "a: !!float ''",
    "bool": "a: !!bool perhaps",
    "timestamp": "a: !!timestamp x",
    "binary": "!!binary é",
    "custom": "!custom x",
    "alias": "a: &a [x]\nb: *a",
    "merge": "a: &a {b: 1}\nc: {<<: [*a, *a]}",
    "twice": "region: us-east-1\nregion: us-east-1",
    "deep": "[" * 60_000,
    "long": "a: " + "x" * 250_000,
    "broken": "{",
    "text": "awsRoleArn",
    "empty": "",
}


@pytest.fixture
def cluster(server: ApiServer, running_sandbox: Sandbox, tmp_path: Path) -> Cluster:
    """Return a cluster with a policy that is well."""
    running_sandbox.sts.requests.clear()
    cluster = Cluster(server, running_sandbox, tmp_path)
    cluster.aws("well")
    return cluster


def annotate(cluster: Cluster, name: str, text: str) -> None:
    """Put a text in the place of what the policy's annotation holds."""
    cluster.server.patch(POLICIES, name, {"metadata": {"annotations": {AWS: text}}})


def ready(cluster: Cluster, name: str) -> dict[str, Any] | None:
    """Return what we say of a policy in its status."""
    found = cluster.server.get(POLICIES, name)
    assert found
    conditions = found.get("status", {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == CONDITION), None)


def test_fault_56_every_command_goes_on(cluster: Cluster) -> None:
    """Each hostile policy is a failure of its own; the one beside them is rotated, shown and checked."""
    for name, text in HOSTILE.items():
        cluster.aws(name, managed=True)
        annotate(cluster, name, text)
    results = {
        result["policy"]: result for result in json.loads(cluster.run("rotate", "-A", "-o", "json", code=1))["results"]
    }
    assert results.pop("default/well")["action"] == "rotated"
    assert len(results) == len(HOSTILE)
    for result in results.values():
        assert (result["action"], result["error"]["reason"]) == ("failed", "InvalidPolicy"), result
        assert f"metadata.annotations[{AWS}]" in result["error"]["message"]
    states = {row["policy"]: row["state"] for row in json.loads(cluster.run("status", "-A", "-o", "json"))["policies"]}
    assert states.pop("default/well") == "Fresh"
    assert set(states.values()) == {"Invalid"}
    reports = json.loads(cluster.run("check", "-A", "-o", "json", code=1))["policies"]
    assert [report["policy"] for report in reports if report["result"] == "ok"] == ["default/well"]
    assert cluster.run("convert", "-A", code=1).count("kind: BackendSecurityPolicy") == 1


@pytest.mark.parametrize("text", [HOSTILE["int"], HOSTILE["long"]])
def test_fault_56_a_working_policy_is_not_kept_fresh_by_a_text_that_is_gone(cluster: Cluster, text: str) -> None:
    """The daemon says Ready=False, InvalidPolicy, as soon as it is so, and renews nothing by the old text.

    Put right, the policy is well again. Its neighbour notices nothing.
    """
    cluster.aws("managed", managed=True)
    found = cluster.server.get(POLICIES, "managed")
    assert found
    sound = found["metadata"]["annotations"][AWS]
    with cluster.daemon("-A") as daemon:
        first, neighbour = cluster.new_key(name="managed"), cluster.new_key(name="well")
        cluster.settled()
        annotate(cluster, "managed", text)
        eventually(lambda: (ready(cluster, "managed") or {}).get("status") == "False", 15)
        condition = ready(cluster, "managed")
        assert condition
        assert condition["reason"] == "InvalidPolicy"
        assert daemon.metric("credential_ready_status", name="managed", condition="False") == 1
        # The Secret goes: what was held for the old text does not come back.
        cluster.server.delete("secrets", "managed")
        cluster.settled(1.0)
        assert cluster.key_id("managed") == ""
        annotate(cluster, "managed", sound)
        assert cluster.new_key(name="managed", within_s=15) == first
        eventually(lambda: (ready(cluster, "managed") or {}).get("status") == "True", 15)
        assert cluster.key_id("well") == neighbour
        assert daemon.is_ready()
    assert "Traceback" not in daemon.log


class TestReading:
    """A policy of the API server is read, or is invalid; there is nothing in between that would leave the old one."""

    def test_a_fault_of_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever the reader raises for one policy: that policy is invalid, and the error's text stays out."""
        for error in (ValueError("canary"), TypeError("canary"), KeyError("canary"), RecursionError("canary")):

            def fail(*_: object, raised: Exception = error) -> Policy:
                raise raised

            monkeypatch.setattr(READER, "read", fail)
            observed = observe(managed("bedrock"), READER)
            assert isinstance(observed.policy, InvalidPolicy)
            assert observed.policy.key == ObjectKey("default", "bedrock")
            assert "canary" not in str(observed.policy)

    @pytest.mark.parametrize("conditions", [None, [], ["x"], [None], [{"type": 1}], [{}]])
    def test_conditions_of_another_shape(self, conditions: Any) -> None:
        """A status that others wrote is no reason to keep an old policy."""
        observed = observe(managed("bedrock") | {"status": {"conditions": conditions}}, READER)
        assert isinstance(observed.policy, Policy)

    def test_the_live_copy_follows(self) -> None:
        """A policy that becomes unreadable replaces what was known of it."""
        changes: list[Observed | None] = []
        copy: LiveCopy[Observed] = LiveCopy(
            "policies", lambda item: observe(item, READER), lambda _, observed: changes.append(observed)
        )
        for version, text in enumerate([None, *HOSTILE.values()]):
            item = managed("bedrock")
            if text is not None:
                item["metadata"]["annotations"] = {AWS: text}
            item["metadata"]["resourceVersion"] = str(version)
            copy.apply({"type": "MODIFIED", "object": item})
        assert isinstance(changes[0], Observed)
        assert isinstance(changes[0].policy, Policy)
        assert all(observed and isinstance(observed.policy, InvalidPolicy) for observed in changes[1:])
        known = copy.get(ObjectKey("default", "bedrock"))
        assert known
        assert isinstance(known.policy, InvalidPolicy)
