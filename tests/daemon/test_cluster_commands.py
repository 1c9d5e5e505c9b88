"""The one-shot commands over a cluster: status, check, renew, convert, rotate beside the daemon."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.support.cluster import SECRET
from tests.support.command_line import run
from tests.support.manifests import POLICIES, manifest, speak, values

if TYPE_CHECKING:
    from tests.support.cluster import Cluster

DOCS = Path(__file__).parents[2] / "docs"


CHECK_SCHEMA, STATUS_SCHEMA = (
    Draft202012Validator(json.loads((DOCS / f"{name}.schema.json").read_text())) for name in ("check", "status")
)


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

    @pytest.mark.parametrize("forbidden", ["list", "*"])
    def test_the_policies_may_not_be_listed(self, cluster: Cluster, forbidden: str) -> None:
        """Without a right to read policies, check names all rights that are missing, in every format, and fails."""
        cluster.aws()
        cluster.server.forbid(forbidden, POLICIES)
        ran = run("check", "-A", "--kubeconfig", str(cluster.kubeconfig))
        missing = "get, list, watch" if forbidden == "*" else "list"
        shown = rf"failed +get, list, watch {POLICIES} in all namespaces +missing: {missing}\n"
        assert (ran.code, bool(re.search(shown, ran.out))) == (1, True), ran.out
        assert re.search(r"ok +list referencegrants in all namespaces", ran.out)
        assert "what to do: grant them to this account, as the chart's Role does" in ran.out
        assert ran.err.startswith("warning: cannot list BackendSecurityPolicies: ")
        assert "credrotator check" not in ran.err
        found = json.loads(cluster.run("check", "-A", "-o", "json", code=1))
        CHECK_SCHEMA.validate(found)
        assert [right["missing"] for right in found["rights"] if right["result"] == "failed"] == [missing.split(", ")]
        for output in ("sarif", "junit", "github"):
            text = cluster.run("check", "-A", "-o", output, code=1)
            assert "ApiServerForbidden" in text
            assert f"missing: {missing}" in unquote(text)
        for output in ("name", "terraform"):
            ran = run("check", "-A", "-o", output, "--kubeconfig", str(cluster.kubeconfig))
            assert (ran.code, ran.out, f"missing: {missing}" in ran.err) == (1, "", True)
        assert not cluster.written()

    def test_one_namespace_may_not_be_listed(self, cluster: Cluster) -> None:
        """Of several namespaces, the one is named whose policies may not be read; other commands refer to check."""
        cluster.server.forbid("list", POLICIES, "team-b")
        selected = ("-n", "team-a", "-n", "team-b")
        printed = cluster.run("check", "-q", *selected, code=1)
        assert re.findall(rf"failed +get, list, watch {POLICIES} in (\S+)", printed) == ["team-b"]
        assert "ok" not in printed
        ran = run("status", *selected, "--kubeconfig", str(cluster.kubeconfig))
        assert (ran.code, "`credrotator check` lists what it needs" in ran.err) == (2, True)

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
