"""``credrotator run`` as a process over a simulated API server, and the commands beside it."""

from __future__ import annotations

import base64
import html
import json
import math
import re
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote_plus, unquote

import pytest
import yaml
from jsonschema import Draft202012Validator

from credrotator.sandbox import (
    DEFAULT_ACCOUNT,
    DEFAULT_CLIENT,
    DEFAULT_ROLE,
    Answer,
    Client,
    Echo,
    Hang,
    Override,
    Role,
    Sandbox,
    ServiceError,
    SkewedDate,
)
from tests.support.builders import AWS
from tests.support.cluster import CLIENT, Cluster, patch_role
from tests.support.manifests import POLICIES, aws, manifest, oidc, secret, speak, values
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.sandbox import Fault
    from tests.support.kube.simulator import ApiServer

pytestmark = pytest.mark.timeout(90)

DOCS = Path(__file__).parents[2] / "docs"
CHECK_SCHEMA, STATUS_SCHEMA = (
    Draft202012Validator(json.loads((DOCS / f"{name}.schema.json").read_text())) for name in ("check", "status")
)
OTHER_ROLE = "arn:aws:iam::123456789012:role/other"
SECRET = "ai-eg-bsp-aws"


@pytest.fixture(scope="module")
def running_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Start a sandbox once."""
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        running.sts.roles[OTHER_ROLE] = Role(running.issuer.url, subject=DEFAULT_CLIENT)
        yield running


@pytest.fixture
def sandbox(running_sandbox: Sandbox) -> Iterator[Sandbox]:
    """Return the sandbox, without faults and with an empty log."""
    for service in (running_sandbox.issuer, *running_sandbox.vendors):
        service.requests.clear()
    yield running_sandbox
    for service in (running_sandbox.issuer, *running_sandbox.vendors):
        service.faults.clear()
    running_sandbox.issuer.clients[DEFAULT_CLIENT] = Client("sandbox-client-secret", subject=DEFAULT_CLIENT)


@pytest.fixture
def cluster(server: ApiServer, sandbox: Sandbox, tmp_path: Path) -> Cluster:
    """Return a cluster without policies."""
    return Cluster(server, sandbox, tmp_path)


def test_a_day_in_a_cluster(cluster: Cluster) -> None:
    """Create, edit, deletions and edits of the Secret (38, 39), a new client secret (42): each is found.

    In between nothing is written and nobody asked, own writes that come back as events included.
    """
    server, sandbox = cluster.server, cluster.sandbox
    cluster.aws()
    cluster.azure()
    cluster.aws("managed", managed=True)
    with cluster.daemon() as daemon:
        first = cluster.new_key()
        cluster.settled()
        assert cluster.exchanges() == 2
        assert sorted(cluster.events()) == [("Rotated", "aws"), ("Rotated", "azure"), ("Rotated", "managed")]

        # A second of peace: not one write, not one exchange.
        before = cluster.written()
        time.sleep(1.0)
        assert cluster.written() == before
        assert cluster.exchanges() == 2

        # Edited: another credential.
        patch_role(server, "aws", OTHER_ROLE)
        second = cluster.new_key(first)
        cluster.settled()
        assert cluster.exchanges() == 3

        # Deleted, edited: repaired from memory.
        server.delete("secrets", SECRET)
        eventually(lambda: cluster.key_id() == second)
        server.patch("secrets", SECRET, secret(SECRET, credentials="[default]"))
        eventually(lambda: cluster.key_id() == second)
        server.patch("secrets", SECRET, {"metadata": {"annotations": {"rotators/expiration-time": None}}})
        eventually(lambda: cluster.written().count(f"update secrets/{SECRET}") == 3)
        cluster.settled()
        assert cluster.exchanges() == 3
        assert cluster.events().count(("Repaired", "aws")) == 3

        # The client secret is replaced: looked at, and the published credential stays.
        sandbox.issuer.clients[DEFAULT_CLIENT] = Client("another-secret", subject=DEFAULT_CLIENT)
        server.patch("secrets", CLIENT, secret(CLIENT, client_secret="another-secret"))
        cluster.settled()
        assert cluster.key_id() == second
        # Used at once where it is needed.
        patch_role(server, "aws", DEFAULT_ROLE)
        cluster.new_key(second)

        # Deleted for good: nothing comes back, and its series are gone. Where the Secret's end is seen before the
        # policy's, it is written once more, and the garbage collector takes it again, since its owner is gone.
        server.delete(POLICIES, "aws")

        def forgotten() -> bool:
            server.collect_garbage()
            return daemon.metric("credential_ready_status", name="aws") is None

        eventually(forgotten)
        cluster.settled()
        server.collect_garbage()
        cluster.settled()
        assert values(server, SECRET) is None
        assert daemon.metric("credential_ready_status", name="managed") == 1
        assert daemon.end()[0] == 0
    lists = server.seen("list", "secrets") + server.seen("watch", "secrets")
    assert all(request.query.get("labelSelector") or request.query.get("fieldSelector") for request in lists)
    assert "Traceback" not in daemon.log


def test_a_token_file(cluster: Cluster, tmp_path: Path) -> None:
    """G27: a managed policy without a client secret, by the pod's own token, which is read anew for each exchange."""
    path, sandbox = tmp_path / "token", cluster.sandbox
    cluster.by_token_file("managed", "pod")
    cluster.by_token_file("stranger", "another")
    with cluster.daemon("--token-file", f"pod={path}") as daemon:
        # The kubelet has not written it yet: tried again within seconds.
        eventually(lambda: "TokenFileUnreadable" in daemon.log)
        first = sandbox.issuer.issue(DEFAULT_CLIENT, audience="sts.amazonaws.com")
        path.write_text(first)
        key = cluster.new_key(name="managed")
        assert len(sandbox.issuer.requests) == 0
        second = sandbox.issuer.issue(DEFAULT_CLIENT, audience="sts.amazonaws.com")
        path.write_text(second)
        server = cluster.server
        notes = {AWS: json.dumps({"region": "eu-central-1", "oidcExchangeToken": {"awsRoleArn": DEFAULT_ROLE}})}
        server.patch(POLICIES, "managed", {"metadata": {"annotations": notes}})
        cluster.new_key(key, name="managed")
        assert [request.form["WebIdentityToken"] for request in sandbox.sts.requests] == [first, second]
        eventually(lambda: ("RotationFailed", "stranger") in cluster.events())
    (event,) = [found for found in cluster.server.items("events") if found["involvedObject"]["name"] == "stranger"]
    assert "no token file another that policies of namespace default may use" in event["message"]
    assert first not in daemon.log
    assert str(path) not in json.dumps(cluster.server.items("events"))


def test_google_cloud(cluster: Cluster) -> None:
    """Both ways end in the gateway's Secret, whose creation tells the gateway; a new key is found."""
    server, google = cluster.server, cluster.sandbox.google
    cluster.gcp()
    cluster.gcp("by-key", key=True)
    with cluster.daemon():
        eventually(lambda: values(server, "ai-eg-bsp-gcp") and values(server, "ai-eg-bsp-by-key"))
        cluster.settled()
        by_identity, by_key = values(server, "ai-eg-bsp-gcp") or {}, values(server, "ai-eg-bsp-by-key") or {}
        assert set(by_identity) == {"gcpAccessToken", "projectName", "region"}
        assert (by_identity["projectName"], by_identity["region"]) == ("sandbox-project", "us-central1")
        assert set(by_key) == {"gcpAccessToken"}
        for found in (by_identity, by_key):
            assert google.grants[found["gcpAccessToken"]].principal == DEFAULT_ACCOUNT
        stored = server.get("secrets", "ai-eg-bsp-by-key")
        assert stored
        assert stored["metadata"]["ownerReferences"][0]["name"] == "by-key"
        assert "rotators/expiration-time" in stored["metadata"]["annotations"]
        assert not [write for write in cluster.written() if "credrotator-bell-" in write]
        assert values(server, "gcp") is None, "a doorbell was rung"

        # A new key file: looked at, the token that is published stays; a deleted one is put back without asking.
        asked = google.requests.total
        server.patch("secrets", "by-key", cluster.key_file("by-key"))
        server.delete("secrets", "ai-eg-bsp-gcp")
        eventually(lambda: values(server, "ai-eg-bsp-gcp") == by_identity)
        cluster.settled()
        assert values(server, "ai-eg-bsp-by-key") == by_key
        assert google.requests.total == asked
    assert "gcp-workload-identity" in cluster.run("status", "-A")


def test_says_what_it_serves(cluster: Cluster) -> None:
    """How many policies, where, and which issuers; once they are listed, and once."""
    cluster.aws()
    with cluster.daemon("-A") as daemon:
        eventually(lambda: "serving " in daemon.log)
        (line,) = [line for line in daemon.log.splitlines() if "serving " in line]
        assert f"serving 1 policy of all namespaces at {cluster.server.url}, credentials to Secrets there" in line
        assert f"allowed issuers: {cluster.issuer}" in line


def test_i4_a_restart_with_everything_fresh(cluster: Cluster) -> None:
    """No token, no exchange, no write."""
    for number in range(5):
        cluster.aws(f"aws-{number}")
    with cluster.daemon() as daemon:
        cluster.new_key(name="aws-4")
        cluster.settled()
        daemon.end()
    before, exchanges = cluster.written(), cluster.exchanges()
    tokens = len(cluster.sandbox.issuer.requests)
    with cluster.daemon() as daemon:
        eventually(lambda: daemon.metric("credential_ready_status", condition="True") == 5)
        cluster.settled()
    assert cluster.written() == before
    assert (cluster.exchanges(), len(cluster.sandbox.issuer.requests)) == (exchanges, tokens)


def test_fault_42_a_wrong_client_secret_is_corrected(cluster: Cluster) -> None:
    """Denied is tried again slowly, but a new client secret at once (fault 8)."""
    cluster.server.patch("secrets", CLIENT, secret(CLIENT, client_secret="wrong"))
    cluster.aws()
    with cluster.daemon():
        eventually(lambda: ("RotationFailed", "aws") in cluster.events())
        cluster.settled()
        # An issuer that answers, if only with a refusal, is no reason to keep the gateway's rotator away.
        assert values(cluster.server, SECRET) is None
        assert "Missing" in cluster.run("status")
        cluster.server.patch("secrets", CLIENT, secret(CLIENT, client_secret="sandbox-client-secret"))
        cluster.new_key()
        cluster.settled()
        assert ("Rotated", "aws") in cluster.events()
        assert "Fresh" in cluster.run("status")


def test_fault_23_parked_by_the_corrected_clock(cluster: Cluster) -> None:
    """A quarter of an hour of the vendors' time: by a clock that is behind, the gateway would find it over already."""
    sick = cluster.sandbox.add_issuer()
    sick.faults.add(Hang())
    for service in (cluster.sandbox.issuer, cluster.sandbox.sts):
        service.faults.add(SkewedDate(timedelta(minutes=20)))
    cluster.aws()
    with cluster.daemon("--timeout", "3s", "--allowed-issuer", "https://localhost:*"):
        first = cluster.new_key()
        # Said twice, and by an issuer too: against the API server, one vendor's word would not be enough.
        patch_role(cluster.server, "aws", OTHER_ROLE)
        cluster.new_key(first)
        cluster.aws("sick", issuer=sick.url)
        # An empty Secret keeps the gateway's rotator away.
        eventually(lambda: values(cluster.server, "ai-eg-bsp-sick") == {})
        assert "Parked" in cluster.run("status")
    parked = cluster.server.get("secrets", "ai-eg-bsp-sick")
    assert parked
    until = datetime.fromisoformat(parked["metadata"]["annotations"]["rotators/expiration-time"])
    assert until > datetime.now(UTC) + timedelta(minutes=30)


def test_failures_are_not_hammered(cluster: Cluster) -> None:
    """The condition's own event and the first list of a watch ask for no further tries (I7); nothing is parked."""
    cluster.sandbox.sts.faults.add(ServiceError("AccessDenied"))
    cluster.aws()
    with cluster.daemon():
        eventually(lambda: ("RotationFailed", "aws") in cluster.events())
        cluster.settled(2.0)
        assert cluster.exchanges() == 1
        assert not [line for line in cluster.written() if line.endswith(f" secrets/{SECRET}")]


def test_a_parked_secret_is_no_reason_to_try(cluster: Cluster) -> None:
    """Its own event comes back from the watch, and is none of a stranger's: it is written once (I7)."""
    cluster.sandbox.sts.faults.add(Hang())
    cluster.aws()
    with cluster.daemon("--timeout", "2s"):
        eventually(lambda: values(cluster.server, SECRET) == {})
        eventually(lambda: cluster.exchanges() > 1)
        assert cluster.written().count(f"create secrets/{SECRET}") == 1
        assert not [line for line in cluster.written() if line == f"update secrets/{SECRET}"]


def test_i5_a_hung_issuer(cluster: Cluster) -> None:
    """It delays nobody else, and an end does not wait for it (fault 50)."""
    hung = cluster.sandbox.add_issuer()
    hung.faults.add(Hang())
    for number in range(8):
        cluster.aws(f"hung-{number}", issuer=hung.url)
    with cluster.daemon("--workers", "8", "--timeout", "5m", "--allowed-issuer", "https://localhost:*") as daemon:
        eventually(lambda: hung.requests.in_flight > 0)
        cluster.aws()
        cluster.new_key()
        assert hung.requests.in_flight > 0
        assert daemon.end()[0] == 0
    lease = cluster.server.get("leases", "credrotator")
    assert lease
    assert lease["spec"]["holderIdentity"] == ""


def test_fault_70_silent_references(cluster: Cluster) -> None:
    """Forty client Secrets that the API server says nothing of any more: an end does not wait for any of them."""
    server = cluster.server
    names = [f"client-{number}" for number in range(40)]
    for name in names:
        server.create("secrets", secret(name, client_secret="sandbox-client-secret"))
        server.create(POLICIES, aws(f"of-{name}", oidc(cluster.issuer, name)))

    def asked(verb: str) -> set[str]:
        return {request.query.get("fieldSelector", "") for request in server.seen(verb, "secrets")} - {""}

    with cluster.daemon() as daemon:
        eventually(lambda: len(asked("watch")) == len(names))
        server.requests.clear()
        server.delay(math.inf, resource="secrets")
        server.end_watches("dropped")
        eventually(lambda: len(asked("list")) > len(names) // 2)
        code, took_s = daemon.end()
        assert (code, took_s < 10) == (0, True)
        server.heal()


def test_fault_32_the_api_comes_late(cluster: Cluster) -> None:
    """It waits for the gateway's API, alive but not ready, and says so; then it works."""
    served = cluster.server.resources.pop(POLICIES)
    with cluster.daemon(ready=False) as daemon:
        eventually(lambda: "CrdMissing" in daemon.log)
        assert daemon.get("/healthz")[0] == 200
        assert daemon.get("/readyz") == (503, "starting\n")
        cluster.server.resources[POLICIES] = served
        cluster.aws()
        cluster.new_key()
        assert daemon.is_ready()
    cluster.server.resources.pop(POLICIES)
    with cluster.daemon(ready=False) as daemon:
        eventually(lambda: "CrdMissing" in daemon.log)
        code, took_s = daemon.end()
        assert (code, took_s < 10) == (0, True)


def test_fault_32_only_the_old_version(cluster: Cluster) -> None:
    """A cluster with v0.2 serves v1alpha1 only; that is what is spoken then."""
    for plural in (POLICIES, "aiservicebackends", "aigatewayroutes"):
        cluster.server.resources[plural].versions = ["v1alpha1"]
    cluster.aws()
    with cluster.daemon():
        cluster.new_key()
        cluster.settled()
    found = cluster.server.get("secrets", SECRET)
    assert found
    assert found["metadata"]["ownerReferences"][0]["apiVersion"] == "aigateway.envoyproxy.io/v1alpha1"


def test_fault_30_watches_that_break(cluster: Cluster) -> None:
    """Dropped, too old, refused: what happened meanwhile is found, and nothing is done twice."""
    cluster.aws()
    with cluster.daemon() as daemon:
        cluster.new_key()
        for number, gone_as_event in enumerate((True, False)):
            cluster.server.gone_as_event = gone_as_event
            cluster.server.end_watches("dropped")
            cluster.server.compact()
            cluster.aws(f"more-{number}")
            cluster.new_key(name=f"more-{number}")
        cluster.settled()
        assert cluster.exchanges() == 3
        assert (daemon.metric("watch_restarts_total") or 0) > 0
        assert cluster.events().count(("Rotated", "aws")) == 1


def test_fault_31_a_token_that_is_replaced(cluster: Cluster, tmp_path: Path) -> None:
    """The token's file is read again when it is refused; nobody notices."""
    token = tmp_path / "token"
    token.write_text("old")
    cluster.server.kubeconfig(cluster.kubeconfig, user={"tokenFile": str(token)})
    cluster.server.tokens = {"old"}
    cluster.aws()
    with cluster.daemon() as daemon:
        first = cluster.new_key()
        token.write_text("new")
        cluster.server.tokens = {"new"}
        cluster.server.end_watches()
        patch_role(cluster.server, "aws", OTHER_ROLE)
        cluster.new_key(first)
        assert daemon.is_ready()


def test_i8_of_two_daemons_one_writes(cluster: Cluster) -> None:
    """The standby is ready and shows no policy; when the leader ends, it takes over at once and finds all fresh."""
    cluster.aws()
    with cluster.daemon() as leader:
        first = cluster.new_key()
        cluster.settled()
        with cluster.daemon() as standby:
            assert (leader.leads(), standby.leads()) == (True, False)
            assert standby.metric("credential_ready_status") is None
            exchanges, holder = cluster.exchanges(), cluster.holder()
            leader.end()
            assert cluster.holder() != holder, "it was not released"
            eventually(standby.leads)
            eventually(lambda: standby.metric("credential_ready_status", condition="True") == 1)
            assert cluster.exchanges() == exchanges
            patch_role(cluster.server, "aws", OTHER_ROLE)
            cluster.new_key(first)
    assert cluster.exchanges() == 2


@pytest.mark.slow
def test_fault_35_the_leader_is_killed(cluster: Cluster) -> None:
    """The other writes soon after the Lease has run out, which lasts 15 s: it tries each 2 s, or less often."""
    cluster.aws()
    with cluster.daemon() as leader:
        first = cluster.new_key()
        cluster.settled()
        with cluster.daemon() as standby:
            leader.end(signal.SIGKILL)
            before = len(cluster.server.seen("get", "leases"))
            patch_role(cluster.server, "aws", OTHER_ROLE)
            cluster.new_key(first, within_s=2 * LIMIT_S)
            assert len(cluster.server.seen("get", "leases")) - before <= 15 / 2 + 2
            assert standby.leads()
    assert cluster.exchanges() == 2


def test_without_election(cluster: Cluster) -> None:
    """One replica needs no Lease."""
    cluster.aws()
    with cluster.daemon("--no-leader-elect") as daemon:
        cluster.new_key()
        assert daemon.metric("leader") == 1
    assert not cluster.server.items("leases")


def test_rotate_beside_the_daemon(cluster: Cluster) -> None:
    """A forced pass is published and delivered, and the daemon goes on from there: it neither fights nor repeats."""
    cluster.aws()
    with cluster.daemon():
        first = cluster.new_key()
        cluster.settled()
        found = json.loads(cluster.run("rotate", "--force", "default/aws", "-o", "json"))
        assert found["results"][0]["action"] == "rotated"
        second = cluster.new_key(first)
        cluster.settled()
        assert (cluster.key_id(), cluster.exchanges()) == (second, 2)
        assert json.loads(cluster.run("rotate", "-o", "json"))["summary"]["kept"] == 1
        assert cluster.server.get("secrets", "aws")


def test_scope(cluster: Cluster) -> None:
    """Namespaces and a selector say which policies are a daemon's; -A is all of them."""
    cluster.aws("mine", team="a")
    cluster.aws("theirs", team="b")
    with cluster.daemon("-n", "default", "-l", "team=a"):
        cluster.new_key(name="mine")
        cluster.settled()
        assert cluster.key_id("theirs") == ""
        # A policy that comes into scope is taken on, and one that leaves it is let go; its credential stays.
        cluster.server.patch(POLICIES, "theirs", {"metadata": {"labels": {"team": "a"}}})
        cluster.new_key(name="theirs")
        cluster.server.patch(POLICIES, "mine", {"metadata": {"labels": {"team": "b"}}})
        cluster.settled()
        patch_role(cluster.server, "mine", OTHER_ROLE)
        cluster.settled()
        assert cluster.exchanges() == 2
        assert cluster.key_id("mine")


class TestCommands:
    """Commands that look once, in kubectl's manner."""

    def test_status(self, cluster: Cluster) -> None:
        """Secret, expiry, outcome, acknowledgement, and who depends on it, by both ways of naming."""
        cluster.aws()
        cluster.server.create(
            POLICIES, manifest("broken", {"type": "AWSCredentials", "awsCredentials": {"region": ""}})
        )
        backend = {
            "metadata": {"name": "bedrock", "namespace": "default"},
            "spec": {"backendSecurityPolicyRef": {"kind": "BackendSecurityPolicy", "name": "aws"}},
        }
        match = {"headers": [{"name": "x-ai-eg-model", "value": "nova"}]}
        route = {
            "metadata": {"name": "models", "namespace": "default"},
            "spec": {"rules": [{"matches": [match], "backendRefs": [{"name": "bedrock"}]}]},
        }
        cluster.server.create("aiservicebackends", backend)
        cluster.server.create("aigatewayroutes", route)
        assert re.search(r"default/aws +aws-oidc +Missing", cluster.run("status"))
        cluster.run("rotate", code=1)
        wide = cluster.run("status", "-o", "wide", "-n", "default")
        assert re.search(r"default/aws +aws-oidc +Fresh +\w+ +\w+ +rotated .*default/bedrock +default/models", wide)
        assert re.search(rf"default/models +nova +arn:aws:iam::\d+:role/\S+ +default/{SECRET} +-", wide)
        assert wide.count("must not be empty") == 1, "the status's condition says no more than the table"
        assert "InvalidPolicy" in wide
        assert "region" in wide
        for at, heard in (("2020-01-01T00:00:00Z", False), ("2100-01-01T00:00:00Z", True)):
            speak(cluster.server, "aws", at)
            found = json.loads(cluster.run("status", "aws", "-o", "json"))
            STATUS_SCHEMA.validate(found)
            (row,) = found["policies"]
            assert (row["acknowledged"], row["state"], row["lastOutcome"]["action"]) == (heard, "Fresh", "rotated")

    def test_rights_are_missing(self, cluster: Cluster) -> None:
        """Status does without backends; check names the verbs that are missing, and fails."""
        cluster.aws()
        cluster.server.forbid("list", "aiservicebackends")
        cluster.run("status")
        cluster.server.forbid("update", "secrets")
        cluster.server.forbid("patch", "backendsecuritypolicies/status")
        printed = cluster.run("check", code=1)
        assert re.search(r"failed +get, list, watch, create, update.* secrets in default +missing: update", printed)
        assert re.search(r"failed +patch backendsecuritypolicies/status in default +missing: patch", printed)
        assert not cluster.written()

    def test_check(self, cluster: Cluster) -> None:
        """All steps and all rights; a dry run of a write, and nothing written."""
        cluster.aws()
        found = json.loads(cluster.run("check", "-A", "-o", "json"))
        CHECK_SCHEMA.validate(found)
        assert {step["result"] for step in found["policies"][0]["steps"]} == {"ok"}
        assert {right["result"] for right in found["rights"]} == {"ok"}
        details = {step["name"]: step["detail"] for step in found["policies"][0]["steps"]}
        assert details["rights"].endswith("all granted")
        assert details["delivery"] == f"default/{SECRET} will be made; by doorbell"
        assert any("dryRun" in request.query for request in cluster.server.requests)
        assert values(cluster.server, SECRET) is None
        assert not cluster.written()
        cluster.run("rotate")
        assert f"default/{SECRET} holds a credential until " in cluster.run("check")

    def test_a_service_account(self, cluster: Cluster) -> None:
        """The right for its token is asked for by name; with it, the credential comes without a stored secret."""
        cluster.by_service_account("aws")
        asked = cluster.sandbox.issuer.requests.total
        cluster.server.forbid("create", "serviceaccounts/token")
        cluster.server.create("serviceaccounts", {"metadata": {"name": "bedrock", "namespace": "default"}})
        (report,) = json.loads(cluster.run("check", "-o", "json", code=1))["policies"]
        steps = {step["name"]: step for step in report["steps"]}
        assert steps["token"]["error"]["reason"] == "ServiceAccountForbidden"
        assert "create serviceaccounts/token bedrock in default: missing: create" in steps["rights"]["error"]["message"]
        assert "serviceAccountTokens" in steps["rights"]["error"]["hint"]
        cluster.server.permit()
        found = json.loads(cluster.run("check", "-o", "json"))
        CHECK_SCHEMA.validate(found)
        details = {step["name"]: step["detail"] for step in found["policies"][0]["steps"]}
        assert details["token"].startswith("service account bedrock, good until ")
        assert "aud sts.amazonaws.com" in details["claims"]
        (statement,) = found["policies"][0]["advice"]["awsTrustPolicy"]["Statement"]
        assert statement["Condition"]["StringEquals"]
        cluster.run("rotate")
        assert values(cluster.server, "aws")
        assert cluster.sandbox.issuer.requests.total == asked

    def test_what_the_gateway_says(self, cluster: Cluster) -> None:
        """That it does not accept a policy, or has not looked, shows before anybody asks why requests fail (G30)."""
        cluster.aws()
        cluster.run("rotate")
        speak(cluster.server, "aws", "2020-01-01T00:00:00Z")
        assert "the gateway has not looked at the policy since" in cluster.run("check")
        conditions = [{"type": "NotAccepted", "status": "False", "message": "no such backend"}]
        cluster.server.patch(POLICIES, "aws", {"status": {"conditions": conditions}}, subresource="status")
        assert "so its backends get no credential: no such backend" in cluster.run("check")

    def test_a_filter_with_keys_of_its_own(self, cluster: Cluster) -> None:
        """Variables of its environment would beat the credential without a word (G31)."""
        cluster.aws()
        environment = [{"name": "AWS_REGION", "value": "x"}, {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/x"}]
        labels = {"app.kubernetes.io/managed-by": "envoy-gateway", "app.kubernetes.io/component": "proxy"}
        pod = {
            "metadata": {"namespace": "default", "name": "envoy-1", "labels": labels},
            "spec": {"initContainers": [{"name": "ai-gateway-extproc", "env": environment}], "containers": []},
        }
        cluster.server.create("pods", pod)
        told = cluster.run("check")
        assert "environment beats this credential: default/envoy-1: AWS_WEB_IDENTITY_TOKEN_FILE;" in told
        cluster.server.forbid("list", "pods")
        assert "envoy-1" not in cluster.run("check")

    def test_somebody_elses_secret(self, cluster: Cluster) -> None:
        """What would be refused at the write is refused before it (fault 40); another's bell is gone around."""
        cluster.aws()
        for name in (SECRET, "aws"):
            cluster.server.create("secrets", {"metadata": {"namespace": "default", "name": name}, "data": {}})
        told = cluster.run("check", code=1)
        assert "SecretNotOurs (denied)" in told
        cluster.server.delete("secrets", SECRET)
        assert f"default/{SECRET} will be made; by create-and-delete" in cluster.run("check")

    def test_quota(self, cluster: Cluster) -> None:
        """What only a write shows, a dry run shows (fault 27)."""
        cluster.aws()
        cluster.server.fail(403, "Forbidden", "exceeded quota: secrets", verb="create", resource="secrets")
        assert "exceeded quota: secrets" in cluster.run("check", code=1)

    def test_convert(self, cluster: Cluster) -> None:
        """What is printed can be applied: the managed form is then rotated into the Secret that the gateway watches."""
        cluster.aws()
        (converted,) = yaml.safe_load_all(cluster.run("convert"))
        assert set(converted["metadata"]) == {"name", "namespace", "labels", "annotations"}
        cluster.server.delete(POLICIES, "aws")
        cluster.server.create(POLICIES, converted)
        cluster.run("rotate")
        assert "aws_access_key_id" in (values(cluster.server, "aws-credentials") or {})["credentials"]
        assert cluster.server.get("secrets", "aws") is None
        assert cluster.run("convert") == ""

    def test_namespaces(self, cluster: Cluster) -> None:
        """The context's namespace by default, -n for others, -A for all; names with or without a namespace."""
        cluster.aws()
        cluster.azure(secret=True, namespace="team-a")
        assert "team-a" not in cluster.run("status")
        assert "default/" not in cluster.run("status", "-n", "team-a")
        everything = cluster.run("status", "-A")
        assert "team-a/azure" in everything
        assert "default/aws" in everything
        assert "team-a/azure" in cluster.run("status", "-n", "default", "-n", "team-a", "team-a/azure")
        cluster.server.kubeconfig(cluster.kubeconfig, namespace="team-a")
        assert "team-a/azure" in cluster.run("status", "azure")
        assert "team-a/azure" in cluster.run("status", "--context", "simulated")
        cluster.run("status", "--context", "no-such", code=2)
        assert "/" not in cluster.run("status", "-n", "nowhere")

    def test_nobody_there(self, cluster: Cluster) -> None:
        """Wrong use, in one line, no traceback."""
        cluster.server.close()
        cluster.run("status", code=2)


def test_nothing_secret_is_said(cluster: Cluster) -> None:
    """I9: neither logs, nor Events, nor status, nor metrics hold a client secret, a token or a key."""
    cluster.aws()
    cluster.azure(secret=True)
    cluster.sandbox.entra.faults.add(ServiceError("AADSTS7000215"), times=1)
    with cluster.daemon() as daemon:
        cluster.new_key()
        eventually(lambda: ("RotationFailed", "azure") in cluster.events())
        metrics = daemon.get("/metrics")[1]
        daemon.end()
    published = (values(cluster.server, SECRET) or {})["credentials"]
    hidden = {line.partition(" = ")[2] for line in published.splitlines() if "secret" in line or "token" in line}
    hidden |= {"sandbox-client-secret", "sandbox-entra-secret"}
    policies = json.dumps(cluster.server.items(POLICIES))
    for text in (daemon.log, metrics, json.dumps(cluster.server.items("events")), policies):
        assert not [word for word in hidden if word in text]


PAGE = Answer(body="<html><body><p>Sign in</p></body></html>", content_type="text/html")


@pytest.mark.parametrize(
    ("service", "fault"),
    [
        ("sts", PAGE),
        ("sts", Override({"Expiration": "2099-01-01T00:00:00"})),
        ("sts", Override({"Expiration": "Infinity"})),
        ("entra", PAGE),
        ("entra", Override({"access_token": "eyJ.eyJ.x\nevil: 1"})),
        ("google", PAGE),
    ],
    ids=["page of STS", "no zone", "infinity", "page of Entra", "line end in a token", "page of Google"],
)
def test_fault_71_what_is_no_answer(cluster: Cluster, service: str, fault: Fault) -> None:
    """Fault 71: a reason, an Event, a condition and back-off, as for any failure; and nothing is published."""
    vendor = {"sts": cluster.sandbox.sts, "entra": cluster.sandbox.entra, "google": cluster.sandbox.google}[service]
    vendor.faults.add(fault, when=lambda request: request.method == "POST")
    name = {"sts": "aws", "entra": "azure", "google": "gcp"}[service]
    {"sts": cluster.aws, "entra": lambda: cluster.azure(secret=True), "google": cluster.gcp}[service]()
    with cluster.daemon() as daemon:
        eventually(lambda: ("RotationFailed", name) in cluster.events())
        eventually(lambda: "InvalidResponse" in json.dumps(cluster.server.items(POLICIES)))
        cluster.settled(1.0)
        asked = len(vendor.requests)
        assert "Traceback" not in daemon.log
        assert "InternalError" not in daemon.log
    assert asked <= 8, "it was hammered"
    assert not values(cluster.server, f"ai-eg-bsp-{name}")


@pytest.mark.parametrize("form", ["basic", "form, twice", "json in html", "html, in numbers", "its first half"])
def test_fault_72_a_secret_that_is_repeated(cluster: Cluster, form: str) -> None:
    """Fault 72: neither status nor log, Event or condition has it, whole or in part."""
    client_secret = "cAn4ry/9zQ+w1tH0dD:p4rTs"
    cluster.server.patch("secrets", CLIENT, secret(CLIENT, client_secret=client_secret))
    cluster.sandbox.issuer.faults.add(Echo(form), path="/token")
    cluster.aws()
    with cluster.daemon() as daemon:
        eventually(lambda: ("RotationFailed", "aws") in cluster.events())
        cluster.settled()
        outputs = [cluster.run("status"), cluster.run("status", "-o", "json"), cluster.run("rotate", code=1)]
        outputs += [json.dumps(cluster.server.items(kind)) for kind in ("events", POLICIES)]
        outputs += [daemon.get("/metrics")[1], daemon.log]
    pieces = [client_secret[start : start + 6] for start in range(len(client_secret) - 5)]
    pieces += [base64.b64encode(f"credrotator:{quote_plus(client_secret)}".encode()).decode()[20:32]]
    for output in outputs:
        assert not [piece for piece in pieces if piece in output or piece in unquote(html.unescape(output))]


@pytest.mark.slow
def test_no_time_is_lost_on_short_lives(cluster: Cluster) -> None:
    """G7: a credential of a minute or so is renewed at half of its life, without a loop."""
    cluster.sandbox.entra.token_life = timedelta(seconds=12)
    try:
        cluster.azure(secret=True)
        with cluster.daemon():
            eventually(lambda: len(cluster.sandbox.entra.requests) > 0)
            eventually(lambda: cluster.written().count("update secrets/ai-eg-bsp-azure") == 1)
            tokens = [request for request in cluster.sandbox.entra.requests if request.method == "POST"]
            assert 2 <= len(tokens) <= 3
    finally:
        cluster.sandbox.entra.token_life = timedelta(hours=1)
