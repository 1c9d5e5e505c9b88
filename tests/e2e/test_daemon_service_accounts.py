"""Service accounts of a real API server as subjects, through the daemon, at vendors that verify its signature.

Rights are those of the chart. Each of two tenants has an account, and its own roles, applications, rules and identities
at the vendors; the vendors of the sandbox take the API server's own keys, issuer and subjects.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
import yaml

from credrotator.sandbox import DEFAULT_ORGANIZATION, DEFAULT_TENANT, Sandbox
from credrotator.sandbox.anthropic import AUDIENCE as ANTHROPIC_AUDIENCE
from credrotator.sandbox.anthropic import FederationRule
from credrotator.sandbox.apps import App, FederatedCredential
from credrotator.sandbox.federation import Trusted
from credrotator.sandbox.keys import key_set
from credrotator.sandbox.openai import AUDIENCE as OPENAI_AUDIENCE
from credrotator.sandbox.openai import IdentityProvider
from credrotator.sandbox.roles import Role
from credrotator.sandbox.trust import claims_of
from tests.e2e.gateway_site import Destination
from tests.e2e.published import AwsCredential
from tests.support.cluster_policies import NAMESPACE, POLICIES, SECRETS, aws_file, policy
from tests.support.parts import daemon
from tests.support.parts.api import Json, Name
from tests.support.parts.cluster import Cluster
from tests.support.parts.control_plane import ISSUER as CLUSTER_ISSUER
from tests.support.waiting import eventually

CHART = Path(__file__).parents[2] / "charts" / "credrotator"
TENANTS = ("team-a", "team-b")
APPS = {tenant: f"{number}0000000-1111-2222-3333-444444444444" for number, tenant in enumerate(TENANTS, 1)}
ACCOUNT = "models"
VENDORS = ("aws", "azure", "anthropic", "openai")
KEYS = {"aws": "credentials"}
"""Where the credential lies in the Secret, if not under the gateway's name for keys."""
_START_S = 60.0
_LIFE = timedelta(seconds=20)


@dataclass(frozen=True)
class Site:
    """The cluster with its tenants, and the daemon at work."""

    cluster: Cluster
    sandbox: Sandbox
    kubeconfig: Path

    def credential(self, tenant: str, vendor: str) -> str:
        """Return what is published, "" for nothing."""
        found = self.cluster.api.find(SECRETS, Name(tenant, f"managed-{vendor}")) or {}
        return base64.b64decode((found.get("data") or {}).get(KEYS.get(vendor, "apiKey"), "")).decode()

    def wait_for(self, tenant: str, *vendors: str) -> None:
        """Return when there is a credential of each."""
        eventually(lambda: all(self.credential(tenant, vendor) for vendor in vendors), _START_S)

    def aws(self, tenant: str) -> AwsCredential:
        """Read the AWS credential."""
        return AwsCredential.parse(self.credential(tenant, "aws"))

    def judged(self, name: str) -> Json:
        """Wait for what the condition of a policy of the second tenant says, and return it."""
        eventually(lambda: self.condition(TENANTS[1], name), _START_S)
        return self.condition(TENANTS[1], name)

    def condition(self, tenant: str, name: str) -> Json:
        """Return what a policy's condition says, if it has one."""
        found = self.cluster.api.get(POLICIES, Name(tenant, name))
        conditions: list[Json] = (found.get("status") or {}).get("conditions") or []
        return next((each for each in conditions if each["type"].startswith("credrotator")), {})

    def check(self, tenant: str, *policies: str) -> str:
        """Run ``check`` as a person would."""
        command = (sys.executable, "-m", "credrotator", "check", "--kubeconfig", str(self.kubeconfig), "-n", tenant)
        done = subprocess.run(
            (*command, *policies),
            capture_output=True,
            text=True,
            env={**daemon.environment(self.sandbox), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr


def _managed(tenant: str, vendor: str, block: Mapping[str, Any], account: str = ACCOUNT, name: str = "") -> Json:
    name = name or f"managed-{vendor}"
    notes = {"credrotator.io/service-account": account, f"credrotator.io/{vendor}-credentials": json.dumps(block)}
    if vendor == "aws":
        manifest = aws_file(name, namespace=tenant)
        manifest["metadata"]["annotations"] = notes
        return manifest
    spec = {"type": "APIKey", "apiKey": {"secretRef": {"name": name}}}
    return policy(name, spec, annotations=notes, namespace=tenant)


def _role(tenant: str) -> str:
    return f"arn:aws:iam::123456789012:role/{tenant}"


def _policies(tenant: str) -> list[Json]:
    # The model vendors have no audience of their own: it is what the rule, or the identity provider, was made with.
    anthropic, openai = ({"oidcExchangeToken": {"aud": each}} for each in (ANTHROPIC_AUDIENCE, OPENAI_AUDIENCE))
    blocks: dict[str, Json] = {
        "aws": {"region": "us-east-1", "oidcExchangeToken": {"awsRoleArn": _role(tenant)}},
        "azure": {"tenantID": DEFAULT_TENANT, "clientID": APPS[tenant], "oidcExchangeToken": {}},
        "anthropic": {
            "federationRuleID": f"fdrl_{tenant[-1]}",
            "organizationID": DEFAULT_ORGANIZATION,
            "serviceAccountID": f"svac_{tenant[-1]}",
            **anthropic,
        },
        "openai": {
            "identityProviderID": f"idp_{tenant[-1]}",
            "serviceAccountID": f"sa_{tenant[-1]}",
            **openai,
        },
    }
    return [_managed(tenant, vendor, blocks[vendor]) for vendor in VENDORS]


def _trust(sandbox: Sandbox, cluster: Cluster) -> None:
    """Let each vendor take the cluster's tokens, each tenant's for what is that tenant's."""
    keys = key_set(json.loads(cluster.api.text("/openid/v1/jwks")))
    for vendor in (sandbox.sts, sandbox.entra, sandbox.anthropic, sandbox.openai):
        vendor.issuers.trust(CLUSTER_ISSUER, lambda: keys)
    for tenant in TENANTS:
        subject, letter = f"system:serviceaccount:{tenant}:{ACCOUNT}", tenant[-1]
        sandbox.sts.roles[_role(tenant)] = Role(CLUSTER_ISSUER, subject=subject)
        sandbox.entra.tenants[DEFAULT_TENANT][APPS[tenant]] = App(
            federated=[FederatedCredential(CLUSTER_ISSUER, subject)]
        )
        by_jwt = Trusted(CLUSTER_ISSUER, ANTHROPIC_AUDIENCE, subject)
        # Short, so that it is renewed while a test looks on: the vendor takes each token once.
        sandbox.anthropic.rules[f"fdrl_{letter}"] = FederationRule(
            by_jwt, service_account=f"svac_{letter}", token_life=_LIFE
        )
        known = IdentityProvider(Trusted(CLUSTER_ISSUER, OPENAI_AUDIENCE, subject), {f"sa_{letter}"})
        sandbox.openai.identity_providers[f"idp_{letter}"] = known


def _install(cluster: Cluster) -> Path:
    """Install the chart, which gives the rights, and return a kubeconfig of its account."""
    values = {
        "watchNamespaces": [NAMESPACE, *TENANTS],
        "serviceAccountTokens": [{"namespace": tenant, "accounts": [ACCOUNT]} for tenant in TENANTS],
        "fullnameOverride": "credrotator",
    }
    file = cluster.directory / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    cluster.helm("install", "eu", str(CHART), "--namespace", NAMESPACE, "--values", str(file))
    return cluster.kubeconfig_of(Name(NAMESPACE, "credrotator"))


@pytest.fixture(scope="module")
def tenants(prepared: Destination) -> Iterator[Site]:
    """Two tenants of four vendors each, and policies that ask for another one's role, or for an account in vain."""
    cluster, sandbox = prepared.cluster, prepared.sandbox
    for tenant in TENANTS:
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": tenant}})
        for account in (ACCOUNT, "unlisted"):
            metadata = {"namespace": tenant, "name": account}
            cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    _trust(sandbox, cluster)
    kubeconfig = _install(cluster)
    foreign = {"region": "us-east-1", "oidcExchangeToken": {"awsRoleArn": _role(TENANTS[0])}}
    own = {"region": "us-east-1", "oidcExchangeToken": {"awsRoleArn": _role(TENANTS[1])}}
    further = [
        _managed(TENANTS[1], "aws", foreign, name="greedy"),
        _managed(TENANTS[1], "aws", own, account="unlisted", name="not-allowed"),
        _managed(TENANTS[1], "aws", own, account="team-a/models", name="far"),
    ]
    for manifest in [*(each for tenant in TENANTS for each in _policies(tenant)), *further]:
        cluster.api.create(POLICIES, manifest)
    names = [option for tenant in TENANTS for option in ("--namespace", tenant)]
    with daemon.serving(kubeconfig, sandbox, "--no-leader-elect", *names, directory=cluster.directory):
        yield Site(cluster, sandbox, kubeconfig)


@pytest.mark.parametrize("tenant", TENANTS)
def test_each_vendor_takes_the_tenants_own_subject(tenants: Site, tenant: str) -> None:
    """What is published stands for what is that tenant's at each vendor."""
    tenants.wait_for(tenant, *VENDORS)
    sandbox, letter = tenants.sandbox, tenant[-1]
    assert f":assumed-role/{tenant}/" in sandbox.sts.sessions[tenants.aws(tenant).key_id].arn
    assert sandbox.openai.grants[tenants.credential(tenant, "openai")].principal == f"sa_{letter}"
    principal = sandbox.anthropic.grants[tenants.credential(tenant, "anthropic")].principal
    assert principal.startswith(f"svac_{letter} ")
    assert claims_of(tenants.credential(tenant, "azure"))["appid"] == APPS[tenant]


@pytest.mark.parametrize("tenant", TENANTS)
def test_each_vendor_answers_what_is_published(tenants: Site, tenant: str) -> None:
    """A request with it is taken, by those that have something to ask."""
    tenants.wait_for(tenant, "aws", "anthropic", "openai")
    sandbox = tenants.sandbox
    flags = {"anthropic-beta": "oauth-2025-04-20", "anthropic-version": "2023-06-01"}
    for vendor, url in (("anthropic", sandbox.anthropic.url), ("openai", sandbox.openai.url)):
        headers = {**flags, "Authorization": f"Bearer {tenants.credential(tenant, vendor)}"}
        answer = requests.get(f"{url}/v1/models", headers=headers, verify=str(sandbox.ca_file), timeout=10)
        assert answer.status_code == HTTPStatus.OK, answer.text
    credential = tenants.aws(tenant)
    sts = boto3.client(
        "sts",
        credential.region,
        endpoint_url=sandbox.sts.url,
        verify=str(sandbox.ca_file),
        aws_access_key_id=credential.key_id,
        aws_secret_access_key=credential.secret,
        aws_session_token=credential.session_token,
    )
    assert f":assumed-role/{tenant}/" in sts.get_caller_identity()["Arn"]


def test_a_vendor_that_takes_each_token_once_gets_another(tenants: Site) -> None:
    """Anthropic's credentials are renewed, each by a token that it has not seen."""
    first = tenants.credential("team-a", "anthropic")
    eventually(lambda: tenants.credential("team-a", "anthropic") not in {"", first}, _START_S)
    assert tenants.condition("team-a", "managed-anthropic")["status"] == "True"


def test_a_role_of_another_tenant_is_refused(tenants: Site) -> None:
    """The subject is the tenant's own, so the other one's role does not let it in."""
    condition = tenants.judged("greedy")
    assert (condition["status"], condition["reason"]) == ("False", "AccessDenied")
    assert not tenants.cluster.api.find(SECRETS, Name("team-b", "greedy"))


def test_an_account_that_nobody_allowed(tenants: Site) -> None:
    """The chart names the accounts; for another one the condition says which right is missing, and what to do."""
    condition = tenants.judged("not-allowed")
    assert (condition["status"], condition["reason"]) == ("False", "ServiceAccountForbidden")
    assert "team-b/unlisted" in condition["message"]
    assert "serviceAccountTokens" in condition["message"]


def test_no_account_of_another_namespace(tenants: Site) -> None:
    """A name with a slash is no name of an account, and the policy says so."""
    condition = tenants.judged("far")
    assert (condition["status"], "service-account" in condition["message"]) == ("False", True)
    assert not tenants.cluster.api.find(SECRETS, Name("team-b", "far"))


def test_check_prints_the_trust_that_fits(tenants: Site) -> None:
    """By the real token: the cluster's issuer, the account as subject, and the vendor's audience."""
    shown = tenants.check("team-a", "managed-aws", "managed-azure", "managed-anthropic", "managed-openai")
    assert CLUSTER_ISSUER in shown
    assert f"system:serviceaccount:team-a:{ACCOUNT}" in shown
    for audience in ("sts.amazonaws.com", "api://AzureADTokenExchange", ANTHROPIC_AUDIENCE, OPENAI_AUDIENCE):
        assert audience in shown
    refused = tenants.check("team-b", "not-allowed")
    assert "serviceaccounts/token" in refused
    assert "team-b" in refused
