"""``check`` against every fault of the sandbox: the step at which it shows, and advice that names the real cause."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import pytest

from credrotator import sandbox as everything
from credrotator.sandbox import (
    MISSING,
    Answer,
    Banner,
    Certificate,
    Drip,
    Echo,
    Fault,
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
    Sandbox,
    ServiceError,
    SkewedDate,
    garbage,
    hostile,
)
from credrotator.sandbox.entraanswers import ERRORS as ENTRA_ERRORS
from credrotator.sandbox.googleanswers import APIS, OAUTH
from credrotator.sandbox.stsanswers import ERRORS as STS_ERRORS
from tests.check.checking import Checking, IssuerRoute, cause, failed_step, run
from tests.support.waiting import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator


PATIENCE_S = (2.0, 10.0, LIMIT_S)
"""For cases in which somebody never answers. What comes before it takes milliseconds, but for a machine that is so busy
that a check ends there, as it should, and is given more time."""


WARM: set[str] = set()
"""By which ways a check has been made in this process."""


SLOW = (Hang, Drip, Mute)


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
