"""Verified credentials, program by program: the daemon in a cluster, and what ``check`` asks for verified delivery."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from credrotator.kube.filter_config import config_names
from credrotator.policies.annotations import VERIFY
from credrotator.sandbox import Answer, Sandbox, ServiceError
from tests.support.cluster import Cluster
from tests.support.filter_configs import GATEWAY, SYSTEM
from tests.support.manifests import POLICIES
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from credrotator.sandbox.recording import RecordedRequest
    from tests.support.kube.simulator import ApiServer

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def cluster(server: ApiServer, tmp_path: Path) -> Iterator[Cluster]:
    """Return a cluster with a policy for AWS, and a sandbox of its own."""
    with Sandbox(tmp_path / "sandbox") as sandbox:
        found = Cluster(server, sandbox, tmp_path)
        found.aws()
        yield found


def asks_whose_it_is(request: RecordedRequest) -> bool:
    """Tell whether STS is asked whose a session is."""
    return request.form.get("Action") == "GetCallerIdentity"


def verifications(cluster: Cluster) -> int:
    """Count the questions whose a session is."""
    return sum(map(asks_whose_it_is, cluster.sandbox.sts.requests))


def condition(cluster: Cluster) -> dict[str, str]:
    """Return what the policy's condition says."""
    found = cluster.server.get(POLICIES, "aws") or {}
    conditions = found.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"].startswith("credrotator.io/")), {})


def test_fault_74_a_role_whose_session_is_refused(cluster: Cluster) -> None:
    """The old credential stays; Event, condition and metric say why; when it passes, the new one is published."""
    sts = cluster.sandbox.sts
    with cluster.daemon("--verify-credentials") as daemon:
        first = cluster.new_key()
        assert verifications(cluster) == 1
        with sts.faults.add(ServiceError("AccessDenied", "with an explicit deny"), when=asks_whose_it_is):
            cluster.run("renew", "aws")
            eventually(lambda: ("RotationFailed", "aws") in cluster.events())
            eventually(lambda: condition(cluster).get("reason") == "CredentialRejected")
            assert cluster.key_id() == first
            assert "with an explicit deny" in condition(cluster)["message"]
            eventually(lambda: (daemon.metric("rotations_total", result="failed") or 0) >= 1)
        cluster.run("renew", "aws")
        cluster.new_key(first)
        assert daemon.metric("rotation_duration_seconds_count", stage="verify")
        eventually(lambda: "see reasons#CredentialRejected" in daemon.log)


def test_the_policys_own_word(cluster: Cluster) -> None:
    """``false`` at the policy goes before the operator's option."""
    cluster.server.patch(POLICIES, "aws", {"metadata": {"annotations": {VERIFY: "false"}}})
    with cluster.daemon("--verify-credentials"):
        cluster.new_key()
    assert verifications(cluster) == 0


def test_fault_74_an_outage_publishes_where_nothing_is(cluster: Cluster) -> None:
    """STS says nothing of the session: without anything published, it is published, with a warning in the log."""
    cluster.sandbox.sts.faults.add(Answer(status=503), when=asks_whose_it_is)
    with cluster.daemon("--verify-credentials") as daemon:
        cluster.new_key()
        # Said once the Secret is there, which is seen first.
        eventually(lambda: "published without having been verified" in daemon.log)


class TestRights:
    """``check`` with ``--verify-delivery``."""

    OPTIONS = ("-o", "json", "--verify-delivery", str(GATEWAY), "--filter-namespace", SYSTEM)

    def test_all_granted(self, cluster: Cluster) -> None:
        """Each Secret of the configuration is asked for by its name, where the filters are."""
        found = json.loads(cluster.run("check", *self.OPTIONS))
        (right,) = [right for right in found["rights"] if str(GATEWAY) in right["what"]]
        assert right["result"] == "ok"
        assert SYSTEM in right["what"]

    def test_missing(self, cluster: Cluster) -> None:
        """What is missing is named, with the chart's value that grants it."""
        cluster.server.forbid("get", "secrets", SYSTEM)
        found = json.loads(cluster.run("check", *self.OPTIONS, code=1))
        (step,) = [step for step in found["policies"][0]["steps"] if step["name"] == "rights"]
        assert step["error"]["reason"] == "RightsMissing"
        assert config_names(GATEWAY).index in step["error"]["message"]
        assert "verifyDelivery.gateways" in step["error"]["hint"]

    def test_nobody_asks_without_the_option(self, cluster: Cluster) -> None:
        """Who does not want it needs no right there."""
        cluster.server.forbid("get", "secrets", SYSTEM)
        found = json.loads(cluster.run("check", "-o", "json"))
        assert {right["result"] for right in found["rights"]} == {"ok"}
