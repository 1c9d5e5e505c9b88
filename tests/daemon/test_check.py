"""``check`` finds the step that fails and names the real cause; and what the other side must have set up."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.advice import audiences, aws_trust_policy, entra_federated_credential
from credrotator.check import Check, Report
from credrotator.clock import system_clock
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.issuers import AllowedIssuers
from credrotator.forms import read_form
from credrotator.inventory import Inventory
from credrotator.model import AwsOidc, InvalidPolicy, ObjectKey, Policy, Static, Unsupported
from credrotator.policy import Defaults
from credrotator.sandbox import (
    DEFAULT_APP,
    DEFAULT_APP_SECRET,
    DEFAULT_CLIENT,
    DEFAULT_CLIENT_SECRET,
    DEFAULT_ROLE,
    DEFAULT_TENANT,
    MISSING,
    Answer,
    Certificate,
    Client,
    Drip,
    Fault,
    Hang,
    Override,
    Redirect,
    Refuse,
    Reset,
    Sandbox,
    ServiceError,
)
from tests.daemon.manifests import manifest
from tests.unit.twins import aws_source

if TYPE_CHECKING:
    from collections.abc import Iterator

OIDC_SECRET, ENTRA_SECRET = ObjectKey("default", "oidc-client"), ObjectKey("default", "entra")
STEPS = ["policy", "references", "allowed", "name", "tls", "discovery", "token", "exchange"]


@pytest.fixture(scope="module")
def running_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Start a sandbox once."""
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture
def sandbox(running_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Return the sandbox as it is by default, where the vendors' SDKs find it."""
    for name, value in running_sandbox.environment().items():
        monkeypatch.setenv(name, value)
    yield running_sandbox
    for service in (running_sandbox.issuer, running_sandbox.sts, running_sandbox.entra):
        service.faults.clear()
    running_sandbox.issuer.clients = {DEFAULT_CLIENT: Client(DEFAULT_CLIENT_SECRET, subject=DEFAULT_CLIENT)}
    running_sandbox.issuer.extra_claims = {}
    running_sandbox.issuer.access_token_format = "jwt"


class Checking:
    """A check against the sandbox, with what the policies refer to."""

    def __init__(self, sandbox: Sandbox, *, allowed: str = "", timeout_s: float = 10.0) -> None:
        self.sandbox = sandbox
        self.inventory = Inventory(
            secrets={
                OIDC_SECRET: {"client-secret": DEFAULT_CLIENT_SECRET.encode()},
                ENTRA_SECRET: {"client-secret": DEFAULT_APP_SECRET.encode()},
            }
        )
        timeout = timedelta(seconds=timeout_s)
        issuers = AllowedIssuers((allowed or sandbox.issuer.url,))
        settings = ExchangeSettings(issuers, str(sandbox.ca_file), timeout)
        self.check = Check(Exchanger(settings, system_clock, sandbox.environment()), timeout)

    def aws(self, issuer: str = "", audience: str = "sts.amazonaws.com", role: str = DEFAULT_ROLE) -> Report:
        """Check a policy of AWS."""
        exchange = {"awsRoleArn": role, "aud": audience, "oidc": self._oidc(issuer)}
        block = {"region": "us-east-1", "oidcExchangeToken": exchange}
        return self.run(manifest("p", {"type": "AWSCredentials", "awsCredentials": block}))

    def azure(self, *, secret: bool = False) -> Report:
        """Check a policy of Azure."""
        block: dict[str, Any] = {"tenantID": DEFAULT_TENANT, "clientID": DEFAULT_APP}
        if secret:
            block["clientSecretRef"] = {"name": ENTRA_SECRET.name}
        else:
            block["oidcExchangeToken"] = {"aud": "api://AzureADTokenExchange", "oidc": self._oidc()}
        return self.run(manifest("p", {"type": "AzureCredentials", "azureCredentials": block}))

    def run(self, found: dict[str, Any]) -> Report:
        """Check one manifest."""
        policy = read_form(found, "p.yaml", Defaults(azure_authority=self.sandbox.entra.url))
        return self.check(policy, self.inventory.reader(policy.key))

    def _oidc(self, issuer: str = "") -> dict[str, Any]:
        client = {"clientID": DEFAULT_CLIENT, "clientSecret": {"name": OIDC_SECRET.name}}
        return {"provider": {"issuer": issuer or self.sandbox.issuer.url}, **client}


@pytest.fixture
def checking(sandbox: Sandbox) -> Checking:
    """Return a check."""
    return Checking(sandbox)


def failure(report: Report) -> tuple[str, str]:
    """Return the step that failed, which has to be the last one, and the reason."""
    failed = [step for step in report.steps if step.result == "failed"]
    assert failed == report.steps[-1:], report.steps
    error = failed[0].error
    assert error
    assert error.hint
    assert report.failed
    return failed[0].name, error.reason


class TestWell:
    """What a sound policy's report says."""

    def test_aws(self, checking: Checking) -> None:
        """Every step, in order, with what it found; nothing secret among it."""
        report = checking.aws()
        assert [step.name for step in report.steps] == STEPS
        assert {step.result for step in report.steps} == {"ok"}
        assert not report.failed
        assert not report.warnings
        details = {step.name: step.detail for step in report.steps}
        assert details["name"] == "localhost → 127.0.0.1"
        assert "credrotator sandbox" in details["tls"]
        assert f"iss {checking.sandbox.issuer.url}, aud sts.amazonaws.com" in details["token"]
        assert details["exchange"].startswith("access key ASIA…, until ")
        assert DEFAULT_CLIENT_SECRET not in repr(report)

    def test_azure(self, checking: Checking) -> None:
        """The same steps; with a client secret there is no issuer to be asked."""
        assert [step.name for step in checking.azure().steps] == STEPS
        report = checking.azure(secret=True)
        assert [step.name for step in report.steps] == ["policy", "references", "exchange"]
        assert not report.failed

    def test_a_named_token_endpoint(self, checking: Checking) -> None:
        """Then there is no discovery, and that is said."""
        oidc = checking._oidc()
        oidc["provider"]["tokenEndpoint"] = f"{checking.sandbox.issuer.url}/token"
        exchange = {"awsRoleArn": DEFAULT_ROLE, "aud": "sts.amazonaws.com", "oidc": oidc}
        block = {"region": "us-east-1", "oidcExchangeToken": exchange}
        checking.sandbox.issuer.requests.clear()
        report = checking.run(manifest("p", {"type": "AWSCredentials", "awsCredentials": block}))
        assert not report.failed
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

    def test_not_ours(self, checking: Checking) -> None:
        """Skipped, and said why; that is no failure."""
        found = checking.check(
            policy_with(Unsupported("gcp", "spec.gcpCredentials")), checking.inventory.reader(OIDC_SECRET)
        )
        assert (found.steps[-1].result, found.failed) == ("skipped", False)

    def test_nothing_is_written_or_kept(self, checking: Checking) -> None:
        """Two checks ask twice for credentials: one is no rotation's business."""
        checking.sandbox.sts.requests.clear()
        for _ in range(2):
            assert not checking.aws().failed
        assert len(checking.sandbox.sts.requests) == 2


def policy_with(source: Static | Unsupported) -> Policy:
    """Return a policy that is not rotated."""
    return Policy(ObjectKey("default", "p"), source, "uid", "v1beta1", "p.yaml", None)


class TestCauses:
    """Each fault, the step at which it shows, and its name."""

    def test_invalid(self, checking: Checking) -> None:
        """A policy that cannot be read gets no further."""
        found = checking.run(manifest("p", {"type": "AWSCredentials", "awsCredentials": {"region": ""}}))
        assert failure(found) == ("policy", "InvalidPolicy")
        assert "region" in (found.steps[-1].error or pytest.fail("no error")).message

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
        assert failure(Checking(sandbox, allowed=issuer).aws(issuer=issuer)) == ("name", "NameNotResolved")

    @pytest.mark.parametrize(
        ("fault", "step", "reason"),
        [
            (Refuse(), "tls", "IssuerUnreachable"),
            (Reset(), "discovery", "IssuerUnreachable"),
            (Certificate("expired"), "tls", "IssuerTLS"),
            (Certificate("unknown-ca"), "tls", "IssuerTLS"),
            (Certificate("wrong-host"), "tls", "IssuerTLS"),
            (Hang(), "discovery", "IssuerTimeout"),
            (Drip(5), "discovery", "IssuerTimeout"),
            (Answer(404), "discovery", "DiscoveryFailed"),
            (Answer(500), "discovery", "IssuerFailed"),
            (Answer(200, "<html>", "text/html"), "discovery", "InvalidResponse"),
            (Redirect("other-origin"), "discovery", "RedirectRefused"),
            (Override({"issuer": "https://other.example"}), "discovery", "IssuerMismatch"),
            (Override({"token_endpoint": MISSING}), "discovery", "DiscoveryFailed"),
        ],
        ids=lambda value: str(value)[:40] if isinstance(value, Fault) else None,
    )
    def test_the_issuers_door(self, sandbox: Sandbox, fault: Fault, step: str, reason: str) -> None:
        """Network, TLS and discovery."""
        checking = Checking(sandbox, timeout_s=1.5)
        sandbox.issuer.faults.add(fault)
        assert failure(checking.aws()) == (step, reason)

    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            (ServiceError("invalid_client"), "InvalidClient"),
            (ServiceError("invalid_scope"), "InvalidScope"),
            (ServiceError("unauthorized_client"), "UnauthorizedClient"),
            (Answer(200, '{"access_token": "x"', "application/json"), "InvalidResponse"),
            (Override({"access_token": ""}), "InvalidResponse"),
        ],
    )
    def test_the_token(self, checking: Checking, fault: Fault, reason: str) -> None:
        """What the token endpoint says."""
        checking.sandbox.issuer.faults.add(fault, path="/token")
        assert failure(checking.aws()) == ("token", reason)

    @pytest.mark.parametrize("code", ["AccessDenied", "IDPCommunicationError"])
    def test_sts(self, checking: Checking, code: str) -> None:
        """What STS says, by its own word; the advice is there, since the token is known by then."""
        checking.sandbox.sts.faults.add(ServiceError(code))
        report = checking.aws()
        assert failure(report) == ("exchange", code)
        assert "awsTrustPolicy" in report.advice

    def test_another_role(self, checking: Checking) -> None:
        """A role that does not trust the issuer."""
        report = checking.aws(role="arn:aws:iam::123456789012:role/nobody")
        assert failure(report)[0] == "exchange"

    @pytest.mark.parametrize("code", ["AADSTS700213", "AADSTS7000215"])
    def test_entra(self, checking: Checking, code: str) -> None:
        """What Entra says, by its number."""
        checking.sandbox.entra.faults.add(ServiceError(code))
        assert failure(checking.azure()) == ("exchange", code)
        assert failure(checking.azure(secret=True)) == ("exchange", code)

    def test_one_deadline_for_all(self, sandbox: Sandbox) -> None:
        """Steps that each take their time end with the policy's own: the last one is told, and no traceback."""
        sandbox.sts.faults.add(Hang())
        report = Checking(sandbox, timeout_s=1.0).aws()
        assert failure(report) == ("exchange", "StsTimeout")

    def test_the_audience_is_ignored(self, checking: Checking) -> None:
        """An issuer that does as it likes is warned of, before STS refuses."""
        checking.sandbox.issuer.extra_claims = {"aud": "something-else"}
        report = checking.aws()
        assert "something-else" in report.warnings[0]


CLAIMS = {"iss": "https://idp.example/realms/ai", "aud": "sts.amazonaws.com", "sub": "service", "azp": "gateway"}


class TestAdvice:
    """What has to stand on the other side, by the token that was seen."""

    def policy(self, source: AwsOidc | None = None, **claims: Any) -> dict[str, Any]:
        """Return the trust policy's only statement."""
        given = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
        (statement,) = aws_trust_policy(source or aws_source(), given)["Statement"]
        return dict(statement)

    def test_the_real_one(self, checking: Checking) -> None:
        """For the sandbox's token it is what the sandbox's role trusts."""
        advice = checking.aws().advice["awsTrustPolicy"]
        host = checking.sandbox.issuer.url.removeprefix("https://")
        equals = advice["Statement"][0]["Condition"]["StringEquals"]
        assert equals[f"{host}:sub"] == DEFAULT_CLIENT
        assert "sts.amazonaws.com" in equals[f"{host}:aud"]
        assert json.loads(json.dumps(advice)) == advice
        federated = checking.azure().advice["entraFederatedCredential"]
        assert federated == {
            "name": "credrotator-default-p",
            "issuer": checking.sandbox.issuer.url,
            "subject": DEFAULT_CLIENT,
            "audiences": ["api://AzureADTokenExchange"],
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
        named = entra_federated_credential(ObjectKey("team", "a.b" + "c" * 200), CLAIMS)["name"]
        assert named.startswith("credrotator-team-a-bccc")
        assert len(named) == 120


def test_invalid_policies_have_no_advice(checking: Checking) -> None:
    """Nothing is known of their token."""
    report = checking.run(manifest("p", {}))
    assert isinstance(read_form(manifest("p", {}), "x", Defaults()), InvalidPolicy)
    assert not report.advice
