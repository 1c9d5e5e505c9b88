"""A sandbox, policies that fit it, and a check of them.

Owns the vocabulary of the tests of ``check``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from credrotator.core.clock import system_clock
from credrotator.core.model import ObjectKey
from credrotator.diagnosis.preflight import Check, Report, Step
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.policies.inventory import Inventory
from credrotator.policies.reader import Defaults
from credrotator.providers import PROVIDERS
from credrotator.sandbox import (
    DEFAULT_ACCOUNT,
    DEFAULT_APP,
    DEFAULT_APP_SECRET,
    DEFAULT_CLIENT,
    DEFAULT_CLIENT_SECRET,
    DEFAULT_POOL,
    DEFAULT_ROLE,
    DEFAULT_TENANT,
    Sandbox,
)
from tests.support.builders import read_any_form
from tests.support.exchanging import service_account_key
from tests.support.manifests import manifest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from credrotator.diagnosis.preflight import Destination

OIDC_SECRET, ENTRA_SECRET = ObjectKey("default", "oidc-client"), ObjectKey("default", "entra")
KEY_SECRET = ObjectKey("default", "vertex-key")
IssuerRoute = Literal["aws", "azure", "secret", "gcp", "key"]


class Checking:
    """A check against the sandbox, with what the policies refer to."""

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        allowed: str | None = "",
        timeout_s: float = 10.0,
        site: Destination | None = None,
        environment: Mapping[str, str] | None = None,
        token_files: Mapping[ObjectKey, Path] | None = None,
    ) -> None:
        self.sandbox = sandbox
        self.inventory = Inventory(
            secrets={
                OIDC_SECRET: {"client-secret": DEFAULT_CLIENT_SECRET.encode()},
                ENTRA_SECRET: {"client-secret": DEFAULT_APP_SECRET.encode()},
            }
        )
        timeout = timedelta(seconds=timeout_s)
        issuers = AllowedIssuers(() if allowed is None else tuple((allowed or sandbox.issuer.url).split()))
        settings = ExchangeSettings(issuers, str(sandbox.ca_file), timeout, token_files=token_files or {})
        clock = SkewedClock(system_clock)
        exchanger = Exchanger(settings, clock, PROVIDERS, environment or sandbox.environment())
        self.check = Check(exchanger, timeout, site, clock)

    def aws(
        self, issuer: str = "", audience: str = "sts.amazonaws.com", role: str = DEFAULT_ROLE, **oidc: Any
    ) -> Report:
        """Check a policy of AWS; ``oidc`` replaces members of its client."""
        exchange = {"awsRoleArn": role, "aud": audience, "oidc": {**self.oidc(issuer), **oidc}}
        block = {"region": "us-east-1", "oidcExchangeToken": exchange}
        return self.run(manifest("p", {"type": "AWSCredentials", "awsCredentials": block}))

    def azure(self, *, secret: bool = False) -> Report:
        """Check a policy of Azure."""
        block: dict[str, Any] = {"tenantID": DEFAULT_TENANT, "clientID": DEFAULT_APP}
        if secret:
            block["clientSecretRef"] = {"name": ENTRA_SECRET.name}
        else:
            block["oidcExchangeToken"] = {"aud": "api://AzureADTokenExchange", "oidc": self.oidc()}
        return self.run(manifest("p", {"type": "AzureCredentials", "azureCredentials": block}))

    def gcp(self, *, key: bool = False, audience: str = f"https:{DEFAULT_POOL}") -> Report:
        """Check a policy of Google Cloud."""
        block: dict[str, Any] = {"projectName": "sandbox-project", "region": "us-central1"}
        if key:
            content, keys = service_account_key()
            self.sandbox.google.accounts[DEFAULT_ACCOUNT].keys |= keys
            self.inventory.secrets[KEY_SECRET] = {"service_account.json": content.encode()}
            block["credentialsFile"] = {"secretRef": {"name": KEY_SECRET.name}}
        else:
            block["workloadIdentityFederationConfig"] = {
                "projectID": "123456789012",
                "workloadIdentityPoolName": "gateway",
                "workloadIdentityProviderName": "idp",
                "oidcExchangeToken": {"aud": audience, "oidc": self.oidc()},
                "serviceAccountImpersonation": {"serviceAccountName": "vertex"},
            }
        return self.run(manifest("p", {"type": "GCPCredentials", "gcpCredentials": block}))

    def run(self, found: dict[str, Any]) -> Report:
        """Check one manifest."""
        policy = read_any_form(found, "p.yaml", Defaults(options={"azure-authority-host": self.sandbox.entra.url}))
        return self.check(policy, self.inventory.reader(policy.key))

    def oidc(self, issuer: str = "") -> dict[str, Any]:
        """Return a policy's client at an issuer."""
        client = {"clientID": DEFAULT_CLIENT, "clientSecret": {"name": OIDC_SECRET.name}}
        return {"provider": {"issuer": issuer or self.sandbox.issuer.url}, **client}


def failed_step(report: Report) -> Step:
    """Return the step that failed, of which there is one, after which no other of the exchange was tried."""
    failed = [step for step in report.steps if step.result == "failed"]
    (step,) = failed
    later = report.steps[report.steps.index(step) + 1 :]
    assert {each.name for each in later} <= {"rights", "delivery"}, report.steps
    assert step.error
    assert step.error.hint
    assert report.failed
    return step


def failure(report: Report) -> tuple[str, str]:
    """Return name and reason of the step that failed."""
    step = failed_step(report)
    return step.name, step.error.reason if step.error else ""


def cause(report: Report) -> str:
    """Return all that a person is told of a failure."""
    error = failed_step(report).error
    return f"{error.message} | {error.hint}" if error else ""


def run(checking: Checking, way: IssuerRoute) -> Report:
    """Check the policy of that kind."""
    if way in {"gcp", "key"}:
        return checking.gcp(key=way == "key")
    return checking.aws() if way == "aws" else checking.azure(secret=way == "secret")
