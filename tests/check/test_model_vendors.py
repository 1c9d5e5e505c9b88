"""``check`` and ``convert`` of policies whose token goes to a model vendor: what to enter there, and what to add."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pygohcl
import pytest

from credrotator.diagnosis.terraform import document as terraform
from credrotator.sandbox import (
    DEFAULT_ACCOUNT_ID,
    DEFAULT_CLIENT,
    DEFAULT_IDENTITY_PROVIDER,
    DEFAULT_ORGANIZATION,
    DEFAULT_ROLE,
    DEFAULT_RULE,
    DEFAULT_SERVICE_ACCOUNT,
)
from tests.check.checking import Checking
from tests.check.documents import document
from tests.support.command_line import run
from tests.support.manifests import manifest

if TYPE_CHECKING:
    from pathlib import Path

    from credrotator.diagnosis.preflight import Report
    from credrotator.sandbox import Sandbox

AUDIENCE = "https://exchange.example"
PATCH = '{"spec":{"headerMutation":{"set":[{"name":"anthropic-beta","value":"oauth-2025-04-20"}]}}}'
EXCHANGE_STEPS = ["policy", "references", "allowed", "dns", "proxy", "tls", "discovery", "token", "claims"]


def spec(name: str) -> dict[str, Any]:
    """Return what the gateway sees: a key in a Secret."""
    return {"type": "APIKey", "apiKey": {"secretRef": {"name": f"{name}-token"}}}


def asking(checking: Checking, name: str) -> dict[str, Any]:
    """Return a policy that the sandbox's vendor of that name serves."""
    if name == "anthropic":
        block: dict[str, Any] = {
            "federationRuleID": DEFAULT_RULE,
            "organizationID": DEFAULT_ORGANIZATION,
            "serviceAccountID": DEFAULT_SERVICE_ACCOUNT,
            "oidcExchangeToken": {"aud": "https://api.anthropic.com", "oidc": checking.oidc()},
        }
    else:
        block = {
            "identityProviderID": DEFAULT_IDENTITY_PROVIDER,
            "serviceAccountID": DEFAULT_ACCOUNT_ID,
            "oidcExchangeToken": {"aud": "https://api.openai.com/v1", "oidc": checking.oidc()},
        }
    annotations = {f"credrotator.io/{name}-credentials": json.dumps(block)}
    return manifest(name, spec(name), annotations=annotations)


def names(report: Report) -> list[str]:
    """Return the steps' names."""
    return [step.name for step in report.steps]


@pytest.mark.parametrize("name", ["anthropic", "openai"])
def test_every_step(checking: Checking, name: str) -> None:
    """Up to the vendor's token, twice in a row: what a vendor takes once is not used up by looking at it."""
    for _ in range(2):
        report = checking.run(asking(checking, name))
        assert not report.failed, report.steps
        headers = ["headers"] if name == "anthropic" else []
        assert names(report) == [*EXCHANGE_STEPS, "dns", "proxy", "tls", "exchange", "delivery", *headers]
        assert report.advice
        assert DEFAULT_CLIENT in json.dumps(report.advice.document)


def test_any_token_endpoint(checking: Checking) -> None:
    """Its address is looked at as any other, and whom it has to trust is printed."""
    url = checking.sandbox.exchange.url
    block = {"tokenEndpoint": f"{url}/token", "oidcExchangeToken": {"aud": AUDIENCE, "oidc": checking.oidc()}}
    found = manifest("tools", spec("tools"), annotations={"credrotator.io/token-exchange": json.dumps(block)})
    report = Checking(checking.sandbox, allowed=f"{checking.sandbox.issuer.url} {url}/token").run(found)
    assert not report.failed, report.steps
    assert names(report) == [*EXCHANGE_STEPS, "dns", "proxy", "tls", "exchange", "delivery"]
    refused = checking.run(found).steps[-2]
    assert (refused.name, refused.error and refused.error.reason) == ("exchange", "IssuerNotAllowed")
    assert report.advice
    trusted = {"issuer": checking.sandbox.issuer.url, "audiences": [AUDIENCE], "subject": DEFAULT_CLIENT}
    assert report.advice.document == trusted


def test_a_key_of_bedrock_beside_a_policy_of_aws(checking: Checking, tmp_path: Path) -> None:
    """The role is advised as for any policy of AWS, and of both policies one file comes, with each thing once."""
    exchange = {"awsRoleArn": DEFAULT_ROLE, "aud": "sts.amazonaws.com", "oidc": checking.oidc()}
    block = {"region": "us-east-1", "oidcExchangeToken": exchange}
    key = manifest("key", spec("key"), annotations={"credrotator.io/bedrock-api-key": json.dumps(block)})
    report = checking.run(key)
    assert not report.failed, report.steps
    assert names(report) == [*EXCHANGE_STEPS, "dns", "proxy", "tls", "exchange", "delivery"]
    signed = manifest("signed", {"type": "AWSCredentials", "awsCredentials": block})
    advice = [report.advice, checking.run(signed).advice]
    text = terraform([each for each in advice if each])
    resources = pygohcl.loads(text)["resource"]
    assert [len(resources[kind]) for kind in ("aws_iam_openid_connect_provider", "aws_iam_role")] == [1, 1]
    assert "# For default/key, default/signed." in text
    second = "arn:aws:iam::210987654321:role/shared"
    key["metadata"]["annotations"]["credrotator.io/role-chain"] = json.dumps([{"roleArn": second}])
    file = tmp_path / "policies.json"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "oidc-client", "namespace": "default"}}
    secret["stringData"] = {"client-secret": "sandbox-client-secret"}
    file.write_text("\n".join(json.dumps(each) for each in (key, secret)))
    (checked,) = document(run("check", "-f", str(file), "-o", "json"))["policies"]
    assert checked["advice"]["awsTrustPolicy"]["Statement"]
    assert [link["roleArn"] for link in checked["advice"]["awsRoleChain"]] == [second]
    assert checked["advice"]["terraform"]


def test_the_issuers_own_token(checking: Checking) -> None:
    """The issuer is asked, and nobody after it; nobody has to be told whom to trust, and the token may be opaque."""
    block = {"aud": "https://mcp.example", "oidc": checking.oidc()}
    found = manifest("own", spec("own"), annotations={"credrotator.io/client-credentials": json.dumps(block)})
    issuer = checking.sandbox.issuer
    for kind in ("jwt", "opaque"):
        issuer.access_token_format = kind
        try:
            report = checking.run(found)
        finally:
            issuer.access_token_format = "jwt"
        assert not report.failed, report.steps
        assert names(report) == [*EXCHANGE_STEPS, "exchange", "delivery"]
        assert report.advice is None


def test_the_rule_that_fits(checking: Checking) -> None:
    """Issuer, subject and audience as the token has them; what was entered so lets the token in."""
    sandbox, found = checking.sandbox, asking(checking, "anthropic")
    kept = sandbox.anthropic.rules[DEFAULT_RULE]
    sandbox.anthropic.rules[DEFAULT_RULE] = replace(kept, trusted=replace(kept.trusted, audience="other"))
    try:
        report = checking.run(found)
        failed = [step for step in report.steps if step.result == "failed"]
        assert [(step.name, step.error.reason) for step in failed if step.error] == [
            ("exchange", "AnthropicInvalidGrant")
        ]
        assert report.advice
        document: dict[str, Any] = dict(report.advice.document)
        assert document["issuer"]["issuer_url"] == sandbox.issuer.url
        match = document["rule"]["match"]
        advised = replace(kept.trusted, audience=match["audience"], subject=match["subject_prefix"])
        sandbox.anthropic.rules[DEFAULT_RULE] = replace(kept, trusted=advised)
        assert not checking.run(found).failed
    finally:
        sandbox.anthropic.rules[DEFAULT_RULE] = kept


def test_on_the_command_line(checking: Checking, sandbox: Sandbox, tmp_path: Path) -> None:
    """JSON by its schema; Terraform as comments; the backend's header by check and by convert, for each backend."""
    file = tmp_path / "policies.json"
    secret = manifest("oidc-client", {})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": secret["metadata"]}
    secret["stringData"] = {"client-secret": "sandbox-client-secret"}
    found = asking(checking, "anthropic")
    target = {"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend", "name": "claude"}
    found["spec"] = {**spec("anthropic"), "targetRefs": [target]}
    file.write_text("\n".join(json.dumps(each) for each in (found, asking(checking, "openai"), secret)))
    ran = run("check", "-f", str(file), "-o", "json")
    assert ran.code == 0, ran.out
    anthropic, openai = (policy["advice"] for policy in document(ran)["policies"])
    assert anthropic["anthropicFederation"]["rule"]["id"] == DEFAULT_RULE
    assert openai["openaiWorkloadIdentity"]["identity_provider"]["issuer"] == sandbox.issuer.url
    assert PATCH in run("check", "-f", str(file)).out
    text = run("check", "-f", str(file), "-o", "terraform").out
    assert text
    assert all(line.startswith("#") or not line for line in text.splitlines())
    converted = run("convert", "-f", str(file))
    assert (converted.code, converted.out) == (0, "")
    assert f"kubectl patch aiservicebackend claude -n default --type merge -p '{PATCH}'" in converted.err
