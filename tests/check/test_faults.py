"""``check`` against every fault of the sandbox: the step at which it shows, and advice that names the real cause."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import pytest

from credrotator import sandbox as everything
from credrotator.core.errors import Denied
from credrotator.diagnosis.network import name_certificate
from credrotator.exchange.http import connections
from credrotator.exchange.http.connections import ForbiddenAddressError
from credrotator.exchange.http.deadline import deadline
from credrotator.exchange.http.endpoint import ISSUER
from credrotator.exchange.http.transport import Transport
from credrotator.sandbox import (
    DEFAULT_ACCOUNT,
    DEFAULT_APP,
    DEFAULT_CLIENT,
    DEFAULT_CLIENT_SECRET,
    DEFAULT_POOL,
    DEFAULT_ROLE,
    DEFAULT_TENANT,
    MISSING,
    Answer,
    App,
    Banner,
    Certificate,
    Client,
    Drip,
    Echo,
    Fault,
    FederatedCredential,
    GzipBomb,
    Handshake,
    Hang,
    Huge,
    Latency,
    Mute,
    Override,
    Redirect,
    Refuse,
    Reset,
    Role,
    Sandbox,
    ServiceError,
    SkewedDate,
    garbage,
    hostile,
)
from credrotator.sandbox.entraanswers import ERRORS as ENTRA_ERRORS
from credrotator.sandbox.googleanswers import APIS, OAUTH
from credrotator.sandbox.stsanswers import ERRORS as STS_ERRORS
from tests.check.checking import ENTRA_SECRET, OIDC_SECRET, Checking, cause, failed_step
from tests.support.manifests import manifest
from tests.support.waiting import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from credrotator.diagnosis.preflight import Report

PATIENCE_S = (2.0, 10.0, LIMIT_S)
"""For cases in which somebody never answers. What comes before it takes milliseconds, but for a machine that is so busy
that a check ends there, as it should, and is given more time."""
WARM: set[str] = set()
"""By which ways a check has been made in this process."""
SLOW = (Hang, Drip, Mute)
IssuerRoute = Literal["aws", "azure", "secret", "gcp", "key"]
Who = Literal["issuer", "sts", "entra", "google"]
DISCOVERY, TOKEN, ENTRA_TOKEN = "/.well-known/*", "/token", "*/oauth2/v2.0/token"


@dataclass(frozen=True)
class Case:
    """A fault, and what is to be told of it: step, endpoint, reason, and words among message and hint."""

    service: Who
    fault: Fault
    step: str
    reason: str
    words: tuple[str, ...]
    path: str | None = None
    way: IssuerRoute = "aws"

    def __str__(self) -> str:
        return re.sub(r"[^\w=,.()-]+", " ", f"{self.way} {self.path or ''} {self.fault}")[:70]


def run(checking: Checking, way: IssuerRoute) -> Report:
    """Check the policy of that kind."""
    if way in {"gcp", "key"}:
        return checking.gcp(key=way == "key")
    return checking.aws() if way == "aws" else checking.azure(secret=way == "secret")


def doors(service: Who, way: IssuerRoute) -> Iterator[Case]:
    """What goes wrong below HTTP is the same for everybody."""
    name = service.capitalize()
    yield Case(service, Refuse(), "tls", f"{name}Unreachable", ("refused", "port is open"), way=way)
    yield Case(service, Mute(), "tls", f"{name}Timeout", ("did not answer in time", "firewall"), way=way)
    for flaw, words in (
        ("expired", ("has expired", "renewed", "clock")),
        ("unknown-ca", ("O=stranger", "--ca-file")),
        ("wrong-host", ("it is for elsewhere.invalid", "a name that is in the certificate")),
    ):
        yield Case(service, Certificate(flaw), "tls", f"{name}TLS", words, way=way)  # type: ignore[arg-type]


def handshakes(service: Who, way: IssuerRoute) -> Iterator[Case]:
    """Alerts end a handshake before a certificate is judged, so that it is not said to be at fault."""
    name = service.capitalize()
    for flaw, reason, words in (
        ("client-certificate-1.2", "TLSClientCertificate", ("wants a client certificate",)),
        ("protocol", "TLSProtocol", ("TLS 1.2 or newer",)),
        ("cipher", "TLSCipher", ("no cipher",)),
        ("name", "TLSName", ("no host of this name", "correct the host")),
        ("internal-error", "TLSAlert", ("internal error",)),
    ):
        yield Case(service, Handshake(flaw), "tls", f"{name}{reason}", words, way=way)  # type: ignore[arg-type]


def answers(service: Who, step: str, path: str | None, way: IssuerRoute) -> Iterator[Case]:
    """What can be wrong with an answer, whoever gives it."""
    name = service.capitalize()
    known = {"service": service, "step": step, "path": path, "way": way}
    expected: list[tuple[Fault, str, tuple[str, ...]]] = [
        (Reset(), f"{name}Unreachable", ("cannot be reached",)),
        (Reset(after_bytes=5), "InvalidResponse", ("broke off", "something else answers")),
        (Banner(), "InvalidResponse", ("does not speak HTTP", "what else listens there")),
        (Hang(), f"{name}Timeout", ("did not answer in time",)),
        (Hang(after_bytes=5), f"{name}Timeout", ("began to answer, but did not end in time",)),
        (Drip(0.4, head=False), f"{name}Timeout", ("began to answer, but did not end in time",)),
        (Answer(500), f"{name}Failed", ("500", "its log")),
        (Answer(503, retry_after=7), f"{name}Failed", ("503",)),
        (Answer(429), f"{name}Throttled", ("429", "rate limit")),
        (Huge(), "InvalidResponse", ("longer than 1 MiB",)),
        (GzipBomb(), "InvalidResponse", ("longer than 1 MiB",)),
        (Redirect("other-origin"), "RedirectRefused", ("redirects",)),
        (Redirect("http"), "RedirectRefused", ("redirects",)),
        (Redirect("https://login.example/?code=x"), "RedirectRefused", ("redirects to https://login.example/",)),
    ]
    for fault, reason, words in expected:
        yield Case(fault=fault, reason=reason, words=words, **known)  # type: ignore[arg-type]


def nonsense(service: Who, step: str, path: str | None, way: IssuerRoute) -> Iterator[Case]:
    """A 200 that is no answer."""
    for fault in garbage().values():
        yield Case(service, fault, step, "InvalidResponse", (), path, way)


ISSUER_SAYS = {
    "invalid_client": ("InvalidClient", "compare client id and default/oidc-client"),
    "invalid_scope": ("InvalidScope", "remove the scope"),
    "invalid_target": ("InvalidTarget", "oidc.resources), or correct aud"),
    "unauthorized_client": ("UnauthorizedClient", "allow the client-credentials grant"),
    "unsupported_grant_type": ("UnauthorizedClient", "allow the client-credentials grant"),
    "invalid_request": ("TokenRefused", "issuer's log"),
    "server_error": ("IssuerFailed", "its log"),
    "temporarily_unavailable": ("IssuerFailed", "its log"),
}
STS_SAYS = {
    "AccessDenied": ("AccessDenied", "trust policy"),
    "ExpiredToken": ("ExpiredToken", "clocks"),
    "ExpiredTokenException": ("ExpiredTokenException", "clocks"),
    "IDPCommunicationError": ("IDPCommunicationError", "could not reach the issuer's JWKS"),
    "IDPRejectedClaim": ("IDPRejectedClaim", "issuer's log"),
    "MalformedPolicyDocument": ("MalformedPolicyDocument", "AWS_ENDPOINT_URL_STS"),
    "IncompleteSignature": ("IncompleteSignature", "AWS_ENDPOINT_URL_STS"),
    "InternalFailure": ("StsFailed", "AWS Health Dashboard"),
    "InvalidAction": ("InvalidAction", "AWS_ENDPOINT_URL_STS"),
    "InvalidClientTokenId": ("InvalidClientTokenId", "AWS_ENDPOINT_URL_STS"),
    "InvalidIdentityToken": ("InvalidIdentityToken", "can read the issuer's keys"),
    "MissingAuthenticationToken": ("MissingAuthenticationToken", "AWS_ENDPOINT_URL_STS"),
    "MissingParameter": ("MissingParameter", "AWS_ENDPOINT_URL_STS"),
    "RegionDisabledException": ("RegionDisabledException", "activate STS in this region"),
    "ServiceUnavailable": ("StsFailed", "AWS Health Dashboard"),
    "SignatureDoesNotMatch": ("SignatureDoesNotMatch", "AWS_ENDPOINT_URL_STS"),
    "SlowDown": ("StsThrottled", "rate limit"),
    "Throttling": ("StsThrottled", "rate limit"),
    "ValidationError": ("ValidationError", "correct what AWS names"),
}
ENTRA_SAYS = {
    "50013": "published keys",
    "50196": "passing fault",
    "70003": "grant type",
    "70011": "correct the scope",
    "90002": "correct tenantID",
    "90033": "passing fault",
    "90061": "passing fault",
    "500011": "correct the scope",
    "700016": "correct clientID",
    "700024": "clocks",
    "700027": "published keys",
    "700211": "the token's issuer",
    "700212": "the token's audience",
    "700213": "the token's subject",
    "900144": "lacks a parameter",
    "1002012": "correct the scope",
    "7000215": "secret's value (not its id)",
    "7000218": "without client secret or assertion",
    "7000222": "make a new client secret",
    "7000229": "service principal",
}
OAUTH_SAYS = {
    "invalid_grant": ("GoogleInvalidGrant", "provider's settings"),
    "invalid_request": ("GoogleInvalidRequest", "provider's settings"),
    "invalid_scope": ("GoogleInvalidScope", "provider's settings"),
    "invalid_target": ("GoogleInvalidTarget", "correct projectID"),
    "unauthorized_client": ("GoogleUnauthorizedClient", "attribute condition"),
    "unsupported_grant_type": ("GoogleUnsupportedGrantType", "provider's settings"),
    "internal_failure": ("GoogleFailed", "status.cloud.google.com"),
    "temporarily_unavailable": ("GoogleFailed", "status.cloud.google.com"),
}
API_SAYS = {
    "INVALID_ARGUMENT": ("GoogleInvalidArgument", "roles/iam.workloadIdentityUser"),
    "UNAUTHENTICATED": ("GoogleUnauthenticated", "google.subject"),
    "PERMISSION_DENIED": ("GooglePermissionDenied", "roles/iam.workloadIdentityUser"),
    "NOT_FOUND": ("GoogleNotFound", "correct serviceAccountName"),
    "RESOURCE_EXHAUSTED": ("GoogleThrottled", "quota raised"),
    "INTERNAL": ("GoogleFailed", "status.cloud.google.com"),
    "UNAVAILABLE": ("GoogleFailed", "status.cloud.google.com"),
    "SERVICE_DISABLED": ("GoogleServiceDisabled", "enable the IAM Service Account Credentials API"),
}
GOOGLE_STS, GOOGLE_IAM = "/v1/token", "*:generateAccessToken"
CASES: list[Case] = [
    *doors("issuer", "aws"),
    *handshakes("issuer", "aws"),
    *handshakes("google", "gcp"),
    *doors("sts", "aws"),
    *doors("entra", "azure"),
    *doors("google", "gcp"),
    *answers("google", "exchange", GOOGLE_STS, "gcp"),
    *answers("google", "exchange", GOOGLE_IAM, "gcp"),
    *answers("google", "exchange", None, "key"),
    *nonsense("google", "exchange", GOOGLE_IAM, "gcp"),
    *(
        Case("google", ServiceError(code), "exchange", reason, (word,), GOOGLE_STS, "gcp")
        for code, (reason, word) in OAUTH_SAYS.items()
    ),
    *(
        Case("google", ServiceError(code), "exchange", reason, (word,), GOOGLE_IAM, "gcp")
        for code, (reason, word) in API_SAYS.items()
    ),
    Case("google", ServiceError("invalid_grant"), "exchange", "GoogleInvalidGrant", ("make a new key",), None, "key"),
    *answers("issuer", "discovery", DISCOVERY, "aws"),
    *answers("issuer", "token", TOKEN, "azure"),
    *answers("sts", "exchange", None, "aws"),
    *answers("entra", "exchange", ENTRA_TOKEN, "azure"),
    *nonsense("issuer", "discovery", DISCOVERY, "aws"),
    *nonsense("issuer", "token", TOKEN, "aws"),
    *nonsense("sts", "exchange", None, "aws"),
    *nonsense("entra", "exchange", ENTRA_TOKEN, "secret"),
    Case("issuer", Answer(404), "discovery", "DiscoveryFailed", ("404", "set tokenEndpoint"), DISCOVERY),
    Case(
        "issuer",
        Override({"issuer": "https://other.example"}),
        "discovery",
        "IssuerMismatch",
        ("calls itself https://other.example",),
        DISCOVERY,
    ),
    Case(
        "issuer",
        Override({"token_endpoint": MISSING}),
        "discovery",
        "DiscoveryFailed",
        ("names no token_endpoint",),
        DISCOVERY,
    ),
    Case(
        "issuer",
        Override({"token_endpoint_auth_methods_supported": ["private_key_jwt"]}),
        "token",
        "ClientAuthUnsupported",
        ("private_key_jwt only", "allow client_secret_basic"),
        DISCOVERY,
    ),
    Case(
        "issuer",
        Override({"token_endpoint": "http://idp.example/token"}),
        "allowed",
        "InsecureIssuer",
        ("not https",),
        DISCOVERY,
    ),
    Case(
        "issuer",
        Override({"access_token": ""}),
        "token",
        "NoAccessToken",
        ("an empty access_token", "issuer's log"),
        TOKEN,
    ),
    Case(
        "issuer",
        Override({"access_token": MISSING}),
        "token",
        "InvalidResponse",
        ("access_token is missing or empty",),
        TOKEN,
    ),
    Case("issuer", Override({"token_type": "mac"}), "token", "TokenTypeUnusable", ("type mac", "Bearer tokens"), TOKEN),
    Case("issuer", Override({"token_type": "DPoP"}), "token", "DpopRequired", ("DPoP", "switch DPoP"), TOKEN),
    Case("issuer", Echo("basic", status=401), "token", "InvalidClient", ("you sent: ", "***"), TOKEN),
    Case("issuer", Override({"expires_in": 0}), "token", "InvalidResponse", ("expires_in",), TOKEN),
    Case(
        "issuer",
        Override({"access_token": "opaque"}),
        "claims",
        "OpaqueToken",
        ("no signed JWT", "JWT access tokens"),
        TOKEN,
    ),
    Case("issuer", hostile("invalid_client"), "token", "InvalidClient", ("compare client id",), TOKEN),
    Case("sts", hostile("AccessDenied"), "exchange", "InvalidResponse", ("not readable", "AWS_ENDPOINT_URL_STS")),
    Case(
        "sts",
        Override({"Expiration": "2020-01-01T00:00:00Z"}),
        "exchange",
        "CredentialExpired",
        ("expired at 2020", "clock of this machine"),
    ),
    Case(
        "sts",
        Override({"SessionToken": MISSING}),
        "exchange",
        "InvalidResponse",
        ("without complete credentials", "AWS_ENDPOINT_URL_STS"),
    ),
    Case(
        "entra", hostile("7000222"), "exchange", "AADSTS7000222", ("make a new client secret",), ENTRA_TOKEN, "secret"
    ),
    Case(
        "entra",
        Override({"access_token": ""}),
        "exchange",
        "InvalidResponse",
        ("access_token is missing or empty",),
        ENTRA_TOKEN,
        "azure",
    ),
    *(
        Case("issuer", ServiceError(code), "token", reason, (word,), TOKEN)
        for code, (reason, word) in ISSUER_SAYS.items()
    ),
    *(Case("sts", ServiceError(code), "exchange", reason, (word,)) for code, (reason, word) in STS_SAYS.items()),
    *(
        Case("entra", ServiceError(code), "exchange", f"AADSTS{code}", (word,), ENTRA_TOKEN, way)
        for code, word in ENTRA_SAYS.items()
        for way in ("azure", "secret")
    ),
]


def warm(sandbox: Sandbox, way: IssuerRoute, known: set[str] = WARM) -> None:
    """Have a vendor's SDK imported before time counts, which a busy machine may need seconds for."""
    if way not in known:
        run(Checking(sandbox, timeout_s=LIMIT_S), way)
        known.add(way)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_cause(sandbox: Sandbox, case: Case) -> None:
    """The step that shows it, at the endpoint whose fault it is, by reason and in words."""
    warm(sandbox, case.way)
    services = {service.name: service for service in (sandbox.issuer, *sandbox.vendors)}
    services[case.service].faults.add(case.fault, path=case.path)
    for timeout_s in PATIENCE_S if isinstance(case.fault, SLOW) else [LIMIT_S]:
        report = run(Checking(sandbox, timeout_s=timeout_s), case.way)
        step, told = failed_step(report), cause(report)
        assert step.error
        if step.error.reason != "TimeUp":
            break
    assert step.error
    assert (step.name, step.error.reason) == (case.step, case.reason), told
    assert step.endpoint in {case.service, "token", ""}
    assert [word for word in case.words if word not in told] == [], told
    assert told.isprintable()
    assert step.took_s is not None
    assert "run credrotator check" not in told
    if case.step == "exchange" and case.way not in {"secret", "key"}:
        assert report.advice, "the token was seen, so the advice is there"


def test_every_fault_is_tried() -> None:
    """No fault of the sandbox, and no code of its services, is left out."""
    kinds = {getattr(everything, name) for name in everything.__all__}
    faults = {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Fault)} - {Fault}
    passing = {Latency, SkewedDate}
    assert {type(case.fault) for case in CASES} | passing == faults
    assert STS_SAYS.keys() == STS_ERRORS.keys()
    assert ENTRA_SAYS.keys() == ENTRA_ERRORS.keys()
    assert OAUTH_SAYS.keys() == OAUTH.keys()
    assert API_SAYS.keys() == {*APIS, "SERVICE_DISABLED"}


class TestThatPass:
    """Faults that stop nothing are told all the same."""

    @pytest.mark.parametrize("service", ["issuer", "sts"])
    def test_latency(self, sandbox: Sandbox, service: Literal["issuer", "sts"]) -> None:
        """The time stands at the step that took it."""
        {"issuer": sandbox.issuer, "sts": sandbox.sts}[service].faults.add(Latency(0.3), path=None)
        report = Checking(sandbox).aws()
        assert not report.failed
        step = next(step for step in report.steps if step.name == {"issuer": "token", "sts": "exchange"}[service])
        assert step.took_s is not None
        assert step.took_s >= 0.3

    @pytest.mark.parametrize(("minutes", "how"), [(10, "behind"), (-10, "ahead of")])
    @pytest.mark.parametrize("service", ["issuer", "sts"])
    def test_skewed_date(self, sandbox: Sandbox, service: Literal["issuer", "sts"], minutes: int, how: str) -> None:
        """Clocks that differ are named, with whose they are (fault 23)."""
        fault = SkewedDate(timedelta(minutes=minutes))
        {"issuer": sandbox.issuer, "sts": sandbox.sts}[service].faults.add(fault)
        report = Checking(sandbox).aws()
        whose = {"issuer": "the issuer", "sts": "AWS STS"}[service]
        assert any(re.search(rf"clock is (10m(1s)?|9m5\ds) {how} that of {whose}", told) for told in report.warnings)

    def test_redirect_to_the_same_origin(self, sandbox: Sandbox) -> None:
        """Of discovery, that is followed (fault 7)."""
        sandbox.issuer.faults.add(Redirect("same-origin"), path=DISCOVERY)
        assert not Checking(sandbox).aws().failed


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


@pytest.mark.parametrize(("public", "described"), [(2, True), (1, False)])
def test_security_11_a_refused_name_is_judged_again(
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    public: int,
    described: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Security 11: to describe a refused certificate, the name is looked up once more, and judged once more."""
    sandbox.issuer.faults.add(Certificate("unknown-ca"))
    judged: list[str] = []

    def check(host: str, _: object) -> None:
        judged.append(host)
        if len(judged) > public:
            raise ForbiddenAddressError(f"{host} resolves to 127.0.0.1")

    genuine = connections.resolve
    monkeypatch.setattr(connections, "resolve", lambda _, port, timeout_s: genuine("127.0.0.1", port, timeout_s))
    monkeypatch.setattr(connections, "check_addresses", check)
    with Transport(ISSUER, guarded=True, bundles=(str(sandbox.ca_file),)) as transport, pytest.raises(Denied) as caught:
        name_certificate(f"https://idp.example:{sandbox.issuer.port}/", transport)
    assert ("O=stranger" in caught.value.message) is described
    assert judged == ["idp.example"] * 2


class TestProxies:
    """Between here and the issuer (fault 49)."""

    def checking(self, sandbox: Sandbox, proxy: str) -> Checking:
        """Return a check whose requests go through a proxy."""
        environment = {**sandbox.environment(), "HTTPS_PROXY": proxy, "NO_PROXY": ""}
        return Checking(sandbox, environment=environment)

    def test_through_it(self, sandbox: Sandbox) -> None:
        """It resolves names, TLS goes through, and its password is not shown."""
        proxy = sandbox.add_proxy()
        proxy.credentials = ("me", "hush")
        report = self.checking(sandbox, proxy.url.replace("//", "//me:hush@")).aws()
        details = {step.name: step.detail for step in report.steps if step.endpoint == "issuer"}
        assert not report.failed
        assert details["dns"] == "left to the proxy"
        assert details["proxy"] == f"through {proxy.url}"
        assert "credrotator sandbox" in details["tls"]

    def test_it_wants_a_user(self, sandbox: Sandbox) -> None:
        """And none is given."""
        proxy = sandbox.add_proxy()
        proxy.credentials = ("me", "hush")
        report = self.checking(sandbox, proxy.url).aws()
        assert (failed_step(report).name, failed_step(report).endpoint) == ("proxy", "issuer")
        assert "407" in cause(report)
        assert "user:password@" in cause(report)

    def test_it_is_down(self, sandbox: Sandbox) -> None:
        """Nobody listens there."""
        proxy = sandbox.add_proxy()
        url = proxy.url
        proxy.stop()
        report = self.checking(sandbox, url).aws()
        assert failed_step(report).name == "proxy"
        assert "refused" in cause(report)
        assert "whether it runs" in cause(report)

    def test_it_does_not_let_through(self, sandbox: Sandbox) -> None:
        """The sandbox's proxy leads to the loopback interface only."""
        checking = Checking(
            sandbox,
            allowed="https://idp.example",
            environment={**sandbox.environment(), "HTTPS_PROXY": sandbox.add_proxy().url, "NO_PROXY": ""},
        )
        report = checking.aws(issuer="https://idp.example")
        assert failed_step(report).name == "proxy"
        assert "does not let requests to this host through" in cause(report)

    def test_it_is_none(self, sandbox: Sandbox) -> None:
        """A proxy of a kind that is not spoken."""
        report = self.checking(sandbox, "socks5://proxy.example:1080").aws()
        assert failed_step(report).name == "proxy"
        assert "HTTPS_PROXY" in cause(report)

    def test_certificates_behind_it(self, sandbox: Sandbox) -> None:
        """What is wrong behind the proxy is not the proxy's."""
        checking = self.checking(sandbox, sandbox.add_proxy().url)
        sandbox.issuer.faults.add(Certificate("unknown-ca"))
        report = checking.aws()
        assert failed_step(report).name == "tls"
        assert "--ca-file" in cause(report)


def test_no_step_is_blamed_for_the_time_of_others(sandbox: Sandbox) -> None:
    """When nothing is left of the whole, the next step says that, and not that a name does not resolve."""
    with deadline(timedelta(0)):
        report = Checking(sandbox).aws()
    assert "the steps before this one took all the time" in cause(report)
    assert "--timeout" in cause(report)


def test_fault_47_a_name_that_leads_here(sandbox: Sandbox) -> None:
    """An address that a policy may not name shows with its name, and nobody is called there."""
    sandbox.issuer.requests.clear()
    report = Checking(sandbox, allowed=None).aws()
    assert failed_step(report).name == "dns"
    assert "resolves to 127.0.0.1" in cause(report)
    assert "--allowed-issuer" in cause(report)
    assert len(sandbox.issuer.requests) == 0


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
