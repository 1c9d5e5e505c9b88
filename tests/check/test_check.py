"""The steps of ``check``, and what the other side must have set up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.claims import audiences
from credrotator.core.model import InvalidPolicy, ObjectKey
from credrotator.policies.reader import Defaults
from credrotator.providers.aws.advice import trust_policy
from credrotator.providers.azure.advice import federated_credential
from credrotator.sandbox import (
    DEFAULT_ACCOUNT,
    DEFAULT_CLIENT,
    DEFAULT_CLIENT_SECRET,
    DEFAULT_POOL,
    DEFAULT_ROLE,
    Sandbox,
)
from tests.check.checking import ENTRA_SECRET, OIDC_SECRET, Checking, failed_step, failure
from tests.support.builders import AWS, read_any_form
from tests.support.manifests import manifest
from tests.support.twins import aws_source

if TYPE_CHECKING:
    from pathlib import Path

    from credrotator.diagnosis.preflight import Report
    from credrotator.providers.aws.source import AwsOidc

DOOR = ["dns", "proxy", "tls"]
STEPS = ["policy", "references", "allowed", *DOOR, "discovery", "token", "claims", *DOOR, "exchange", "delivery"]


class TestWell:
    """What a sound policy's report says."""

    def test_aws(self, checking: Checking) -> None:
        """Every step, in order, with what it found; nothing secret among it."""
        report = checking.aws()
        assert [step.name for step in report.steps] == STEPS
        assert {step.result for step in report.steps[:-1]} == {"ok"}
        assert not report.failed
        assert not report.warnings
        details = {step.name: step.detail for step in report.steps if step.endpoint in {"issuer", "sts", ""}}
        assert [step.endpoint for step in report.steps if step.name == "dns"] == ["issuer", "sts"]
        assert details["dns"] == "localhost → 127.0.0.1"
        assert details["proxy"] == "none"
        assert "credrotator sandbox" in details["tls"]
        assert details["token"].startswith("good until ")
        assert f"iss {checking.sandbox.issuer.url}, aud sts.amazonaws.com" in details["claims"]
        assert details["exchange"].startswith("access key ASIA…, until ")
        assert DEFAULT_CLIENT_SECRET not in repr(report)

    def test_azure(self, checking: Checking) -> None:
        """The same steps; with a client secret there is no issuer to be asked."""
        assert [step.name for step in checking.azure().steps] == STEPS
        report = checking.azure(secret=True)
        assert [step.name for step in report.steps] == ["policy", "references", *DOOR, "exchange", "delivery"]
        assert not report.failed

    def test_a_token_file(self, sandbox: Sandbox, tmp_path: Path) -> None:
        """No issuer is asked; what is in the token is shown, and the advice is written from it."""
        path = tmp_path / "token"
        path.write_text(sandbox.issuer.issue(DEFAULT_CLIENT, audience="sts.amazonaws.com"))
        checking = Checking(sandbox, token_files={ObjectKey("", "pod"): path})
        block = {"region": "us-east-1", "oidcExchangeToken": {"awsRoleArn": DEFAULT_ROLE, "aud": "sts.amazonaws.com"}}
        notes = {AWS: json.dumps(block), "credrotator.io/token-source": "pod"}
        carrier = {"region": "us-east-1", "credentialsFile": {"secretRef": {"name": "x"}}}
        found = manifest("p", {"type": "AWSCredentials", "awsCredentials": carrier}, annotations=notes)
        report = checking.run(found)
        assert [step.name for step in report.steps] == ["policy", "token", "claims", *DOOR, "exchange", "delivery"]
        assert not report.failed
        details = {step.name: step.detail for step in report.steps if not step.endpoint}
        assert details["token"].startswith("token file pod, good until ")
        assert f"iss {sandbox.issuer.url}" in details["claims"]
        assert advised(report)["Statement"][0]["Principal"]["Federated"].endswith(
            sandbox.issuer.url.removeprefix("https:/")
        )
        path.unlink()
        assert failure(checking.run(found)) == ("token", "TokenFileUnreadable")
        assert failure(Checking(sandbox).run(found)) == ("token", "TokenSourceNotAllowed")

    def test_a_named_token_endpoint(self, checking: Checking) -> None:
        """Then there is no discovery, and that is said; the steps below HTTP are those to that endpoint."""
        url = checking.sandbox.issuer.url
        checking.sandbox.issuer.requests.clear()
        report = checking.aws(provider={"issuer": url, "tokenEndpoint": f"{url}/token"})
        assert not report.failed
        assert [step.endpoint for step in report.steps if step.name == "tls"] == ["token", "sts"]
        assert "not needed" in {step.name: step.detail for step in report.steps}["discovery"]
        assert checking.sandbox.issuer.requests.count("/.well-known/*") == 0

    def test_static(self, checking: Checking) -> None:
        """What it names is there, or not."""
        found = manifest("p", {"type": "APIKey", "apiKey": {"secretRef": {"name": "key"}}})
        assert failure(checking.run(found)) == ("references", "SecretNotFound")
        checking.inventory.secrets[ObjectKey("default", "key")] = {"apiKey": b"sk-1"}
        assert not checking.run(found).failed

    def test_default_chain(self, checking: Checking) -> None:
        """Nothing is named, so there is nothing to be found."""
        report = checking.run(manifest("p", {"type": "AWSCredentials", "awsCredentials": {"region": "us-east-1"}}))
        assert report.steps[-1].detail == "the filter's own default chain"

    def test_gcp(self, checking: Checking) -> None:
        """The same steps; with a key file there is no issuer to be asked."""
        report = checking.gcp()
        assert [step.name for step in report.steps] == STEPS
        assert [step.endpoint for step in report.steps if step.name == "dns"] == ["issuer", "google"]
        assert report.steps[-2].detail.startswith("access token, until ")
        report = checking.gcp(key=True)
        assert [step.name for step in report.steps] == ["policy", "references", *DOOR, "exchange", "delivery"]
        assert not report.failed

    def test_nothing_is_written_or_kept(self, checking: Checking) -> None:
        """Two checks ask twice for credentials: one is no rotation's business."""
        checking.sandbox.sts.requests.clear()
        for _ in range(2):
            assert not checking.aws().failed
        assert len(checking.sandbox.sts.requests) == 2


class TestCauses:
    """Each fault, the step at which it shows, and its name."""

    def test_invalid(self, checking: Checking) -> None:
        """A policy that cannot be read gets no further."""
        found = checking.run(manifest("p", {"type": "AWSCredentials", "awsCredentials": {"region": ""}}))
        assert failure(found) == ("policy", "InvalidPolicy")
        assert "region" in (failed_step(found).error or pytest.fail("no error")).message

    def test_fault_41_no_client_secret(self, checking: Checking) -> None:
        """Which Secret, and which key."""
        del checking.inventory.secrets[OIDC_SECRET]
        report = checking.aws()
        assert failure(report) == ("references", "SecretNotFound")
        del checking.inventory.secrets[ENTRA_SECRET]
        assert failure(checking.azure(secret=True)) == ("references", "SecretNotFound")

    @pytest.mark.parametrize("allowed", ["https://other.example", "https://other.example/*"])
    def test_not_allowed(self, sandbox: Sandbox, allowed: str) -> None:
        """The operator's list does not have it."""
        assert failure(Checking(sandbox, allowed=allowed).aws()) == ("allowed", "IssuerNotAllowed")

    def test_fault_4_in_the_clear(self, sandbox: Sandbox) -> None:
        """An http issuer that the operator did not name."""
        found = Checking(sandbox).aws(issuer="http://idp.example")
        assert failure(found)[0] in {"policy", "allowed"}

    def test_fault_1_no_such_name(self, sandbox: Sandbox) -> None:
        """A name that nobody knows is said to be one."""
        issuer = "https://no-such-host.invalid"
        assert failure(Checking(sandbox, allowed=issuer).aws(issuer=issuer)) == ("dns", "NameNotResolved")


def advised(report: Report) -> dict[str, Any]:
    """Return what the report says the other side needs."""
    assert report.advice
    return dict(report.advice.document)


CLAIMS = {"iss": "https://idp.example/realms/ai", "aud": "sts.amazonaws.com", "sub": "service", "azp": "gateway"}


class TestAdvice:
    """What has to stand on the other side, by the token that was seen."""

    def policy(self, source: AwsOidc | None = None, **claims: Any) -> dict[str, Any]:
        """Return the trust policy's only statement."""
        given = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
        (statement,) = trust_policy(source or aws_source(), given)["Statement"]
        return dict(statement)

    def test_the_real_one(self, checking: Checking) -> None:
        """For the sandbox's token it is what the sandbox's role trusts."""
        advice = advised(checking.aws())
        host = checking.sandbox.issuer.url.removeprefix("https://")
        equals = advice["Statement"][0]["Condition"]["StringEquals"]
        assert equals[f"{host}:sub"] == DEFAULT_CLIENT
        assert "sts.amazonaws.com" in equals[f"{host}:aud"]
        assert json.loads(json.dumps(advice)) == advice
        federated = advised(checking.azure())
        assert federated == {
            "name": "credrotator-default-p",
            "issuer": checking.sandbox.issuer.url,
            "subject": DEFAULT_CLIENT,
            "audiences": ["api://AzureADTokenExchange"],
        }
        pool = "projects/123456789012/locations/global/workloadIdentityPools/gateway"
        assert advised(checking.gcp()) == {
            "provider": {
                "name": f"{pool}/providers/idp",
                "attributeMapping": {"google.subject": "assertion.sub"},
                "oidc": {"issuerUri": checking.sandbox.issuer.url, "allowedAudiences": [f"https:{DEFAULT_POOL}"]},
            },
            "grant": {
                "role": "roles/iam.workloadIdentityUser",
                "on": DEFAULT_ACCOUNT,
                "member": f"principal://iam.googleapis.com/{pool}/subject/{DEFAULT_CLIENT}",
            },
        }

    def test_provider_and_account(self) -> None:
        """The provider lies in the role's own account and partition, named by the issuer without its scheme."""
        source = replace(aws_source(), role_arn="arn:aws-cn:iam::210987654321:role/x")
        expected = "arn:aws-cn:iam::210987654321:oidc-provider/idp.example/realms/ai"
        assert self.policy(source)["Principal"] == {"Federated": expected}

    def test_an_issuer_without_scheme(self) -> None:
        """Google's tokens have one; the name is then complete as it is."""
        found = self.policy(iss="accounts.google.com")
        assert found["Principal"]["Federated"].endswith("oidc-provider/accounts.google.com")
        assert set(found["Condition"]["StringEquals"]) == {"accounts.google.com:aud", "accounts.google.com:sub"}

    @pytest.mark.parametrize(
        ("aud", "azp", "expected"),
        [
            ("a", None, "a"),
            ("a", "g", ["a", "g"]),
            (["a", "b"], None, ["a", "b"]),
            (None, "g", "g"),
        ],
    )
    def test_audience(self, aud: object, azp: object, expected: object) -> None:
        """IAM compares ``azp`` where there is one, and ``aud`` otherwise; both are let in."""
        equals = self.policy(aud=aud, azp=azp)["Condition"]["StringEquals"]
        assert equals["idp.example/realms/ai:aud"] == expected

    def test_without_subject(self) -> None:
        """What the token does not have cannot be asked for."""
        assert list(self.policy(sub=None)["Condition"]["StringEquals"]) == ["idp.example/realms/ai:aud"]

    def test_hostile_claims(self) -> None:
        """Control characters of a token reach no terminal."""
        shown = json.dumps(self.policy(sub="a\x1b[31m", aud=["x\n"]))
        assert "\\u001b" not in shown
        assert audiences({"aud": 5}) == ["5"]
        assert audiences({}) == []

    def test_entras_names(self) -> None:
        """Letters, digits, dash and underscore, at most 120."""
        named = federated_credential(ObjectKey("team", "a.b" + "c" * 200), CLAIMS)["name"]
        assert named.startswith("credrotator-team-a-bccc")
        assert len(named) == 120


def test_invalid_policies_have_no_advice(checking: Checking) -> None:
    """Nothing is known of their token."""
    report = checking.run(manifest("p", {}))
    assert isinstance(read_any_form(manifest("p", {}), "x", Defaults()), InvalidPolicy)
    assert report.advice is None
