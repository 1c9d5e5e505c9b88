"""The program with the command line and the rights that the chart gives it: it starts, and may do all of its work.

No Pod runs here: the process is on this side, with a token of the chart's ServiceAccount.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.sandbox import Role, Sandbox
from credrotator.sandbox.keys import key_set
from tests.chart.rendering import NAME, NAMESPACE
from tests.support import cluster_policies
from tests.support.parts import gateway_crds
from tests.support.parts.api import Name, Resource
from tests.support.parts.cache import Cache, default_root
from tests.support.parts.control_plane import ISSUER as CLUSTER_ISSUER
from tests.support.parts.ports import free_port
from tests.support.parts.process import answers, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.chart.rendering import Helm, Rendered
    from tests.support.parts.cluster import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(40 * 60)]

TEAM = "team-a"
KEYLESS = "team-b"
ACCOUNT_ROLE = "arn:aws:iam::123456789012:role/of-an-account"
LEASES = Resource("coordination.k8s.io/v1", "leases")
EVENTS = Resource("v1", "events")
SECRETS = cluster_policies.SECRETS
POLICIES = ("aws", "azure", "azure-secret", "managed")
PUBLISHED = ("ai-eg-bsp-aws", "ai-eg-bsp-azure", "ai-eg-bsp-azure-secret", "managed")
SHORT = timedelta(seconds=60)
# What the API server says to one who may not.
REFUSAL = "forbidden"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """An issuer, an STS and an Entra."""
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def team(kubernetes: Cluster, issuer: Sandbox) -> Cluster:
    """The cluster with a policy of each kind, and the client secrets that they need."""
    kubernetes.apply_crds(gateway_crds.current(Cache(default_root())))
    url = issuer.issuer.url
    kubernetes.apply(
        *cluster_policies.client_secrets(TEAM),
        cluster_policies.aws("aws", url, namespace=TEAM),
        cluster_policies.azure_federated("azure", url, namespace=TEAM),
        cluster_policies.azure_secret("azure-secret", namespace=TEAM),
        cluster_policies.aws_managed("managed", url, namespace=TEAM),
    )
    return kubernetes


def start(rendered: Rendered, kubernetes: Cluster) -> tuple[str, ...]:
    """Install what was rendered, and return the command that its pod would run, as the pod's account."""
    kubernetes.apply(*rendered.objects)
    kubeconfig = kubernetes.kubeconfig_of(Name(NAMESPACE, NAME))
    arguments: list[str] = rendered.container()["args"]
    return (sys.executable, "-m", "credrotator", *arguments, "--kubeconfig", str(kubeconfig))


def environment(rendered: Rendered, sandbox: Sandbox) -> dict[str, str]:
    """Return the container's variables, and those that lead to the sandbox."""
    return {**rendered.environment(), **sandbox.environment()}


@contextmanager
def untouched(kubernetes: Cluster) -> Iterator[None]:
    """Take away afterwards what was published and told."""
    try:
        yield
    finally:
        kubernetes.kubectl("-n", TEAM, "delete", "secrets", "--selector=app.kubernetes.io/managed-by=credrotator")
        kubernetes.kubectl("-n", TEAM, "delete", "events", "--all")


def published(kubernetes: Cluster) -> bool:
    """Tell whether every policy has its credential."""
    return all((kubernetes.api.find(SECRETS, Name(TEAM, name)) or {}).get("data") for name in PUBLISHED)


def condition(kubernetes: Cluster, policy: str) -> str | None:
    """Return what credrotator says in the status of a policy."""
    status = kubernetes.api.get(cluster_policies.POLICIES, Name(TEAM, policy)).get("status", {})
    found: dict[str, Any] = {item["type"]: item["status"] for item in status.get("conditions", [])}
    return found.get("credrotator.io/Ready")


def test_daemon(helm: Helm, team: Cluster, issuer: Sandbox, tmp_path: Path) -> None:
    """Started as its Deployment says, the daemon takes the Lease, publishes, tells, and is refused nothing."""
    port = free_port()
    values = {
        "watchNamespaces": [TEAM],
        "allowedIssuers": [issuer.issuer.url],
        "listen": {"address": "127.0.0.1", "port": port},
    }
    rendered = helm.render(values)
    command, lease = start(rendered, team), Name(NAMESPACE, NAME)
    with untouched(team):
        with running("daemon", *command, directory=tmp_path, env=environment(rendered, issuer)) as daemon:
            daemon.wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), within=SHORT)
            daemon.wait_until(lambda: published(team), within=SHORT)
            daemon.wait_until(lambda: all(condition(team, name) == "True" for name in POLICIES), within=SHORT)
            assert team.api.get(LEASES, lease)["spec"]["holderIdentity"]
            daemon.wait_until(lambda: told(team), within=SHORT)
        assert not team.api.get(LEASES, lease)["spec"]["holderIdentity"]
        assert bells(team) == []
    assert REFUSAL not in daemon.log.read_text().lower()


def test_check(helm: Helm, team: Cluster, issuer: Sandbox) -> None:
    """What the daemon's account may do is all that check asks for; the dry runs of its writes leave nothing behind.

    The commands are those of a person in the pod: namespaces, issuers and Lease come from the pod's variables.
    """
    rendered = helm.render({"watchNamespaces": [TEAM], "allowedIssuers": [issuer.issuer.url]})
    command = start(rendered, team)
    variables = environment(rendered, issuer)
    check = (*command[:3], "check", *command[-2:], "--output", "json")
    rotate = (*command[:3], "rotate", *command[-2:])
    with untouched(team):
        for expected in ("will be made", "holds a credential until"):
            done = run(check, variables)
            assert done.returncode == 0, done.stdout + done.stderr
            found = json.loads(done.stdout)
            steps = [step for policy in found["policies"] for step in policy["steps"] if step["name"] == "delivery"]
            assert [expected in step["detail"] for step in steps] == [True] * len(POLICIES)
            assert {right["result"] for right in found["rights"]} == {"ok"}
            assert published(team) is (expected != "will be made")
            assert run(rotate, variables).returncode == 0


def test_job(helm: Helm, team: Cluster, issuer: Sandbox) -> None:
    """One pass, started as its CronJob says, publishes all and is refused nothing; so is what the notes advise."""
    rendered = helm.render({"mode": "cronjob", "allowedIssuers": [issuer.issuer.url]})
    command = start(rendered, team)
    with untouched(team):
        for _ in range(2):
            done = run(command, environment(rendered, issuer))
            assert done.returncode == 0, done.stdout + done.stderr
            assert REFUSAL not in (done.stdout + done.stderr).lower()
        assert published(team)
        assert told(team)
        assert bells(team) == []
        status = (*command[:3], "status", "--all-namespaces", *command[-2:])
        assert run(status, environment(rendered, issuer)).returncode == 0


def run(command: tuple[str, ...], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)


def told(kubernetes: Cluster) -> bool:
    """Tell whether every policy has an Event."""
    events = kubernetes.api.list(EVENTS, TEAM)["items"]
    return {event["involvedObject"]["name"] for event in events} >= set(POLICIES)


def bells(kubernetes: Cluster) -> list[str]:
    """Return the Secrets that should have come and gone."""
    found = [secret["metadata"]["name"] for secret in kubernetes.api.list(SECRETS, TEAM)["items"]]
    return [name for name in found if name.startswith("credrotator-bell")]


@pytest.fixture
def keyless(team: Cluster, issuer: Sandbox) -> dict[str, str]:
    """Make policies that live on a service account's token, by name; STS trusts the cluster, and one account."""
    issuer.sts.issuers.trust(CLUSTER_ISSUER, lambda: key_set(json.loads(team.api.text("/openid/v1/jwks"))))
    issuer.sts.roles[ACCOUNT_ROLE] = Role(CLUSTER_ISSUER, subject=f"system:serviceaccount:{KEYLESS}:bedrock")
    accounts = {"granted": "bedrock", "another": "vertex", "missing": "nobody", "insider": "bedrock"}
    for account in ("bedrock", "vertex"):
        team.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": KEYLESS, "name": account}})
    for name, account in accounts.items():
        exchange = {"awsRoleArn": ACCOUNT_ROLE, **({"aud": CLUSTER_ISSUER} if name == "insider" else {})}
        block = {"region": cluster_policies.REGION, "oidcExchangeToken": exchange}
        manifest = cluster_policies.aws_file(name, namespace=KEYLESS)
        manifest["metadata"]["annotations"] = {
            cluster_policies.AWS_ANNOTATION: json.dumps(block),
            "credrotator.io/service-account": account,
        }
        team.apply(manifest)
    return accounts


def test_tokens_of_service_accounts(helm: Helm, team: Cluster, issuer: Sandbox, keyless: dict[str, str]) -> None:
    """TokenRequest: by the chart's value for the accounts that it names; else the reason says which right to give."""
    values = {"mode": "cronjob", "watchNamespaces": [KEYLESS]}
    refused = "grant credrotator's service account create on serviceaccounts/token, resourceNames"
    found = pass_over(helm.render(values), team, issuer)
    assert {found[name]["reason"] for name in ("granted", "another", "missing")} == {"ServiceAccountForbidden"}
    assert f"{refused} [bedrock], in namespace {KEYLESS}" in found["granted"]["hint"]
    assert "serviceAccountTokens" in found["granted"]["hint"]
    assert REFUSAL in found["granted"]["message"]

    granted = [{"namespace": KEYLESS, "accounts": ["bedrock", "nobody"]}]
    found = pass_over(helm.render({**values, "serviceAccountTokens": granted}), team, issuer)
    assert found["granted"] == {}
    assert found["another"]["reason"] == "ServiceAccountForbidden"
    assert f"{refused} [vertex]" in found["another"]["hint"]
    assert found["missing"]["reason"] == "ServiceAccountMissing"
    assert found["insider"]["reason"] == "ServiceAccountForApiServer"
    assert set(found) == set(keyless)
    assert team.api.get(SECRETS, Name(KEYLESS, "granted"))["data"]


def pass_over(rendered: Rendered, kubernetes: Cluster, sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    """Rotate with the rights of a rendering; return the error of each policy, empty where it was rotated."""
    command = start(rendered, kubernetes)
    rotate = (*command[:3], "rotate", "--namespace", KEYLESS, *command[-2:], "--output", "json")
    done = run(rotate, environment(rendered, sandbox))
    assert done.stdout, done.stderr
    return {
        result["policy"].partition("/")[2]: result.get("error") or {} for result in json.loads(done.stdout)["results"]
    }
