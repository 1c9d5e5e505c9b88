"""``check`` where nobody is at fault but a setting, and the advice that says which."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from credrotator import sandbox as everything
from credrotator.sandbox import (
    DEFAULT_ACCOUNT,
    DEFAULT_APP,
    DEFAULT_CLIENT,
    DEFAULT_CLIENT_SECRET,
    DEFAULT_POOL,
    DEFAULT_ROLE,
    DEFAULT_TENANT,
    App,
    Client,
    FederatedCredential,
    Role,
    Sandbox,
)
from tests.check.checking import ENTRA_SECRET, OIDC_SECRET, Checking, IssuerRoute, cause, failed_step, run
from tests.support.manifests import manifest

if TYPE_CHECKING:
    from collections.abc import Callable


def _role(sandbox: Sandbox, **changes: Any) -> None:
    sandbox.sts.roles[DEFAULT_ROLE] = replace(sandbox.sts.roles[DEFAULT_ROLE], **changes)


def _audience(sandbox: Sandbox) -> None:
    """Let the role expect an audience that is neither the token's ``aud`` nor its ``azp``."""
    _role(sandbox, audience="x")
    sandbox.issuer.extra_claims["azp"] = None


def _record(sandbox: Sandbox, **changes: Any) -> None:
    good = FederatedCredential(sandbox.issuer.url, DEFAULT_CLIENT)
    sandbox.entra.tenants[DEFAULT_TENANT][DEFAULT_APP] = App(federated=[replace(good, **changes)])


def _unreachable(sandbox: Sandbox) -> None:
    """Let STS look the issuer's keys up where nobody can."""

    def keys() -> Any:
        from credrotator.sandbox.trust import Unreachable  # noqa: PLC0415

        raise Unreachable(sandbox.issuer.url)

    for service in (sandbox.sts, sandbox.entra, sandbox.google):
        service.issuers.trust(sandbox.issuer.url, keys)


SET_UPS: dict[str, tuple[Callable[[Sandbox], object], IssuerRoute, str, str, str]] = {
    "no such client": (lambda s: s.issuer.clients.clear(), "aws", "token", "InvalidClient", "compare client id"),
    "another client secret": (
        lambda s: s.issuer.clients.update({DEFAULT_CLIENT: Client("other", subject="x")}),
        "aws",
        "token",
        "InvalidClient",
        "compare client id and default/oidc-client",
    ),
    "audience not allowed": (
        lambda s: s.issuer.clients.update(
            {DEFAULT_CLIENT: Client(DEFAULT_CLIENT_SECRET, subject="x", audiences=frozenset({"y"}))}
        ),
        "aws",
        "token",
        "InvalidTarget",
        "or correct aud",
    ),
    "opaque tokens": (
        lambda s: setattr(s.issuer, "access_token_format", "opaque"),
        "aws",
        "claims",
        "OpaqueToken",
        "JWT access tokens",
    ),
    "no such role": (lambda s: s.sts.roles.clear(), "aws", "exchange", "AccessDenied", "if the role is there"),
    "another subject": (lambda s: _role(s, subject="x"), "aws", "exchange", "AccessDenied", "subject"),
    "another audience": (
        _audience,
        "aws",
        "exchange",
        "InvalidIdentityToken",
        "add the token's audience to the client ids",
    ),
    "no identity provider": (
        lambda s: s.sts.issuers.distrust(s.issuer.url),
        "aws",
        "exchange",
        "InvalidIdentityToken",
        "make an IAM identity provider",
    ),
    "issuer's keys out of reach of AWS": (_unreachable, "aws", "exchange", "IDPCommunicationError", "JWKS"),
    "keys that nobody published": (
        lambda s: s.sts.issuers.trust(s.issuer.url, lambda: everything_else(s)),
        "aws",
        "exchange",
        "InvalidIdentityToken",
        "signed with one of them",
    ),
    "no such tenant": (lambda s: s.entra.tenants.clear(), "azure", "exchange", "AADSTS90002", "correct tenantID"),
    "no such application": (
        lambda s: s.entra.tenants[DEFAULT_TENANT].clear(),
        "secret",
        "exchange",
        "AADSTS700016",
        "correct clientID",
    ),
    "record of another issuer": (
        lambda s: _record(s, issuer="https://x.example"),
        "azure",
        "exchange",
        "AADSTS700211",
        "the token's issuer",
    ),
    "record of another subject": (
        lambda s: _record(s, subject="x"),
        "azure",
        "exchange",
        "AADSTS700213",
        "the token's subject",
    ),
    "record of another audience": (
        lambda s: _record(s, audience="x"),
        "azure",
        "exchange",
        "AADSTS700212",
        "the token's audience",
    ),
    "issuer's keys out of reach of Entra": (_unreachable, "azure", "exchange", "AADSTS90061", "passing fault"),
    "no such provider": (lambda s: s.google.providers.clear(), "gcp", "exchange", "GoogleInvalidTarget", "projectID"),
    "provider of another issuer": (
        lambda s: setattr(s.google.providers[DEFAULT_POOL], "issuer", "https://x.example"),
        "gcp",
        "exchange",
        "GoogleInvalidGrant",
        "does not match the expected ones: https://x.example",
    ),
    "provider of another audience": (
        lambda s: setattr(s.google.providers[DEFAULT_POOL], "audiences", frozenset({"x"})),
        "gcp",
        "exchange",
        "GoogleInvalidGrant",
        "does not match the expected audience x",
    ),
    "another attribute condition": (
        lambda s: setattr(s.google.providers[DEFAULT_POOL], "subject", "x"),
        "gcp",
        "exchange",
        "GoogleUnauthorizedClient",
        "attribute condition",
    ),
    "issuer's keys out of reach of Google": (_unreachable, "gcp", "exchange", "GoogleCannotReachIssuer", "public"),
    "no grant on the service account": (
        lambda s: s.google.accounts[DEFAULT_ACCOUNT].impersonators.clear(),
        "gcp",
        "exchange",
        "GooglePermissionDenied",
        "roles/iam.workloadIdentityUser",
    ),
    "no such service account": (
        lambda s: s.google.accounts.clear(),
        "gcp",
        "exchange",
        "GoogleNotFound",
        "serviceAccountName",
    ),
    "a service account that is off": (
        lambda s: setattr(s.google.accounts[DEFAULT_ACCOUNT], "disabled", True),
        "key",
        "exchange",
        "GoogleInvalidGrant",
        "enabled",
    ),
    "another secret in Entra": (
        lambda s: s.entra.tenants[DEFAULT_TENANT].update({DEFAULT_APP: App({"other": None})}),
        "secret",
        "exchange",
        "AADSTS7000215",
        "secret's value (not its id)",
    ),
    "an expired secret in Entra": (
        lambda s: s.entra.tenants[DEFAULT_TENANT].update(
            {DEFAULT_APP: App({everything.DEFAULT_APP_SECRET: datetime(2020, 1, 1, tzinfo=UTC)})}
        ),
        "secret",
        "exchange",
        "AADSTS7000222",
        "make a new client secret",
    ),
}


def everything_else(sandbox: Sandbox) -> Any:
    """Return keys that are none of the issuer's."""
    return type(sandbox.issuer.keys)("RS256").public()


@pytest.mark.parametrize("name", SET_UPS)
def test_what_is_set_up_wrongly(sandbox: Sandbox, name: str) -> None:
    """Nobody is at fault but a setting, and the advice says which."""
    change, way, step, reason, word = SET_UPS[name]
    change(sandbox)
    report = run(Checking(sandbox), way)
    found = failed_step(report)
    assert found.error
    assert (found.name, found.error.reason) == (step, reason), cause(report)
    assert word in cause(report)


def test_claims_that_do_not_fit(sandbox: Sandbox) -> None:
    """What the other side will stumble over is said of the token, before it does."""
    sandbox.issuer.extra_claims = {"iss": "https://other.example", "aud": "something-else", "sub": ""}
    report = Checking(sandbox, allowed="https://*").aws()
    told = " | ".join(report.warnings)
    assert "the token names https://other.example as its issuer" in told
    assert "asks for audience sts.amazonaws.com, the token has something-else" in told
    assert "no subject" in told
    assert "IAM identity provider for the token's issuer" in cause(report)


@pytest.mark.parametrize("audience", ["sts.amazonaws.com", None])
@pytest.mark.parametrize("claim", ["aud", "sub"])
def test_nothing_is_printed_that_lets_nobody_in(sandbox: Sandbox, claim: str, audience: str | None) -> None:
    """A token without audience or subject fits no trust policy: what is missing is said in its place."""
    sandbox.issuer.extra_claims = {claim: None, "azp": None}
    checking = Checking(sandbox)
    report = checking.aws(**({"audience": audience} if audience else {}))
    assert report.advice is None
    assert f"({claim})" in " | ".join(report.warnings)
    assert len(report.warnings) == 1


@pytest.mark.parametrize("allowed", ["", "https://*"])
def test_an_issuer_by_http_in_the_token(sandbox: Sandbox, allowed: str) -> None:
    """No vendor verifies such a token: the cause is named, and no trust policy is printed, whoever is allowed."""
    sandbox.issuer.extra_claims = {"iss": "http://adfs.example.com/adfs/services/trust"}
    sandbox.sts.requests.clear()
    report = Checking(sandbox, allowed=allowed).aws()
    assert failed_step(report).name == "token"
    assert "plain http" in cause(report)
    assert report.advice is None
    assert len(sandbox.sts.requests) == 0


@pytest.mark.parametrize(("secret", "way"), [(OIDC_SECRET, "aws"), (ENTRA_SECRET, "secret")])
def test_fault_41_references(sandbox: Sandbox, secret: Any, way: IssuerRoute) -> None:
    """Which Secret, and what of it."""
    checking = Checking(sandbox)
    checking.inventory.secrets[secret] = {"client-secret": b"\xff\xfe"}
    assert "UTF-8" in cause(run(checking, way))
    checking.inventory.secrets[secret] = {"other": b"x"}
    assert "client-secret" in cause(run(checking, way))
    del checking.inventory.secrets[secret]
    assert str(secret) in cause(run(checking, way))


def test_a_role_that_allows_less(sandbox: Sandbox) -> None:
    """The duration that is asked for, and what to set (fault 20)."""
    sandbox.sts.roles[DEFAULT_ROLE] = Role(sandbox.issuer.url, max_life=timedelta(minutes=20))
    checking = Checking(sandbox)
    exchange = {"awsRoleArn": DEFAULT_ROLE, "aud": "sts.amazonaws.com", "oidc": checking.oidc()}
    spec = {"type": "AWSCredentials", "awsCredentials": {"region": "us-east-1", "oidcExchangeToken": exchange}}
    report = checking.run(manifest("p", spec, annotations={"credrotator.io/duration": "1h"}))
    assert failed_step(report).name == "exchange"
    assert "lower credrotator.io/duration to its MaxSessionDuration" in cause(report)
