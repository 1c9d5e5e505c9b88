"""Google Cloud by workload identity and by key file: the requests, Google's codes, and what a key file may not say."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.claims import read_claims
from credrotator.core.errors import Denied, RotationError, Transient
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.http.circuit import CircuitBreakers
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.providers import PROVIDERS
from credrotator.providers.gcp.source import GcpPool
from credrotator.sandbox import (
    DEFAULT_ACCOUNT,
    MISSING,
    Answer,
    CutShort,
    GzipBomb,
    Huge,
    Latency,
    Override,
    Redirect,
    ServiceError,
    garbage,
    hostile,
)
from tests.support.exchanging import (
    GOOGLE_IAM,
    GOOGLE_STS,
    GOOGLE_TOKEN,
    POLICY,
    POOL,
    POOL_AUDIENCE,
    TOKEN,
    Backend,
    check_showable,
    refused,
)

if TYPE_CHECKING:
    from credrotator.providers.gcp.source import GcpServiceAccount, GcpToken, GcpWorkloadIdentity
    from credrotator.sandbox import Fault

GARBAGE = garbage()


CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


PATHS = {"exchange": GOOGLE_STS, "impersonation": GOOGLE_IAM, "key": GOOGLE_TOKEN}


steps = pytest.mark.parametrize("step", PATHS)


def policy(world: Backend, step: str) -> GcpWorkloadIdentity | GcpServiceAccount:
    """Describe a policy that takes that step."""
    return world.gcp_key() if step == "key" else world.gcp()


def goes_wrong(world: Backend, step: str, fault: Fault) -> None:
    """Let that step fail like this."""
    world.sandbox.google.faults.add(fault, path=PATHS[step])


def principal(world: Backend, token: GcpToken) -> tuple[str, set[str]]:
    """Return whom a token stands for, and for what."""
    grant = world.sandbox.google.grants[token.token.reveal()]
    return grant.principal, set(grant.scopes)


def test_workload_identity_on_the_wire(world: Backend) -> None:
    """RFC 8693 §2.1, then generateAccessToken: the pool's token has the narrow scope, the account's the wide one."""
    token = world.exchange_gcp()
    first, second = world.sandbox.google.requests
    assert first.path == "/v1/token"
    assert dict(first.form) == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/gateway"
        "/providers/idp",
        "scope": "https://www.googleapis.com/auth/iam",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "subject_token": first.form["subject_token"],
    }
    assert (read_claims(Sensitive(first.form["subject_token"])) or {})["aud"] == POOL_AUDIENCE
    assert second.path == f"/v1/projects/-/serviceAccounts/{DEFAULT_ACCOUNT}:generateAccessToken"
    assert json.loads(second.body) == {"delegates": None, "scope": [CLOUD_PLATFORM], "lifetime": "3600s"}
    assert principal(world, token) == (DEFAULT_ACCOUNT, {CLOUD_PLATFORM})


def test_without_impersonation(world: Backend) -> None:
    """The pool's principal calls Vertex AI itself, so its token has the scope for that; one request."""
    token = world.exchange_gcp(world.gcp(service_account=None))
    (request,) = world.sandbox.google.requests
    assert request.form["scope"] == CLOUD_PLATFORM
    assert principal(world, token) == (
        f"principal://iam.googleapis.com/{POOL.resource}/subject/credrotator",
        {CLOUD_PLATFORM},
    )


def test_a_key_file_on_the_wire(world: Backend) -> None:
    """RFC 7523 §2.1: one POST of an assertion that names Google's endpoint, whatever address it is sent to."""
    token = world.exchange_gcp(world.gcp_key())
    (request,) = world.sandbox.google.requests
    assert request.path == "/token"
    assert request.form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    claims = read_claims(Sensitive(request.form["assertion"])) or {}
    assert (claims["iss"], claims["aud"]) == (DEFAULT_ACCOUNT, "https://oauth2.googleapis.com/token")
    assert claims["scope"] == CLOUD_PLATFORM
    assert claims["exp"] - claims["iat"] == 600
    assert principal(world, token) == (DEFAULT_ACCOUNT, {CLOUD_PLATFORM})
    assert world.issuer.requests.total == 0


@pytest.mark.parametrize("way", ["impersonation", "pool", "key"])
def test_the_token_is_googles(world: Backend, way: str) -> None:
    """The expiry is Google's, by our clock; project and region come along for workload identity alone."""
    world.clock.offset = timedelta(days=3)
    source = world.gcp_key() if way == "key" else world.gcp(service_account=DEFAULT_ACCOUNT if way != "pool" else None)
    token = world.exchange_gcp(source)
    assert timedelta(minutes=59) < token.expires_at - world.clock() <= timedelta(hours=1)
    assert token.issued_at <= world.clock()
    assert (token.project, token.region) == ((None, None) if way == "key" else ("sandbox-project", "us-central1"))
    assert "ya29." not in repr(token)


@steps
def test_never_from_a_cache(world: Backend, step: str) -> None:
    """Each exchange asks Google; two tokens are two."""
    exchanger = world.exchanger()
    assert len({world.exchange_gcp(policy(world, step), exchanger).token for _ in range(3)}) == 3
    assert world.sandbox.google.requests.count(PATHS[step]) == 3


@steps
@pytest.mark.parametrize("fault", [Answer(429, retry_after=1), Answer(500), Answer(503), ServiceError("UNAVAILABLE")])
def test_no_retries(world: Backend, step: str, fault: Fault) -> None:
    """Retries live in one layer: google-auth repeats such failures by itself, with sleeps, where it is let."""
    goes_wrong(world, step, fault)
    exchanger = world.exchanger()
    for attempt in (1, 2):
        with pytest.raises(Transient):
            world.exchange_gcp(policy(world, step), exchanger)
        assert world.sandbox.google.requests.count(PATHS[step]) == attempt
        exchanger.circuits = CircuitBreakers()
    world.sandbox.google.faults.clear()
    world.exchange_gcp(policy(world, step), exchanger)


def test_the_duration(world: Backend) -> None:
    """credrotator.io/duration is the life of the account's token; more than the account allows is denied, by name."""
    token = world.exchange_gcp(world.gcp(duration=timedelta(minutes=20)))
    assert timedelta(minutes=19) < token.expires_at - world.clock() <= timedelta(minutes=20)
    with refused(Denied, "GoogleInvalidArgument") as caught:
        world.exchange_gcp(world.gcp(duration=timedelta(hours=2)))
    assert "credrotator.io/duration" in caught.value.hint
    world.sandbox.google.accounts[DEFAULT_ACCOUNT].max_life = timedelta(hours=12)
    world.exchange_gcp(world.gcp(duration=timedelta(hours=2)))


CODES: list[tuple[str, str, type[RotationError], str, str]] = [
    ("exchange", "invalid_grant", Denied, "GoogleInvalidGrant", "credrotator check"),
    ("exchange", "invalid_target", Denied, "GoogleInvalidTarget", "projectID"),
    ("exchange", "unauthorized_client", Denied, "GoogleUnauthorizedClient", "attribute condition"),
    ("exchange", "invalid_request", Denied, "GoogleInvalidRequest", "credrotator check"),
    ("exchange", "internal_failure", Transient, "GoogleFailed", "status.cloud.google.com"),
    ("exchange", "temporarily_unavailable", Transient, "GoogleFailed", "status.cloud.google.com"),
    ("impersonation", "PERMISSION_DENIED", Denied, "GooglePermissionDenied", "roles/iam.workloadIdentityUser"),
    ("impersonation", "NOT_FOUND", Denied, "GoogleNotFound", "serviceAccountName"),
    ("impersonation", "SERVICE_DISABLED", Denied, "GoogleServiceDisabled", "enable the IAM Service Account"),
    ("impersonation", "UNAUTHENTICATED", Denied, "GoogleUnauthenticated", "google.subject"),
    ("impersonation", "INVALID_ARGUMENT", Denied, "GoogleInvalidArgument", "roles/iam.workloadIdentityUser"),
    ("impersonation", "RESOURCE_EXHAUSTED", Transient, "GoogleThrottled", "quota raised"),
    ("impersonation", "UNAVAILABLE", Transient, "GoogleFailed", "status.cloud.google.com"),
    ("impersonation", "INTERNAL", Transient, "GoogleFailed", "status.cloud.google.com"),
    ("key", "invalid_grant", Denied, "GoogleInvalidGrant", "new key"),
    ("key", "unauthorized_client", Denied, "GoogleUnauthorizedClient", "credrotator check"),
    ("key", "invalid_scope", Denied, "GoogleInvalidScope", "new key"),
]


@pytest.mark.parametrize("row", CODES, ids=[f"{row[0]}-{row[1]}" for row in CODES])
def test_by_code(world: Backend, row: tuple[str, str, type[RotationError], str, str]) -> None:
    """Each code of Google has its class and a hint; the code is part of the reason."""
    step, code, kind, reason, hint = row
    goes_wrong(world, step, ServiceError(code, retry_after=7))
    with refused(kind, reason) as caught:
        world.exchange_gcp(policy(world, step))
    assert hint in caught.value.hint
    assert caught.value.retry_after == (timedelta(seconds=7) if kind is Transient else None)
    assert world.sandbox.google.requests.count(PATHS[step]) == 1


def test_the_issuer_out_of_googles_reach(world: Backend) -> None:
    """As fault 22's 90061: Google could not fetch the issuer's keys, which may pass; nobody else's gate is closed."""
    said = "Error connecting to the given credential's issuer."
    goes_wrong(world, "exchange", ServiceError("invalid_grant", said))
    exchanger = world.exchanger()
    for _ in range(6):
        with refused(Transient, "GoogleCannotReachIssuer") as caught:
            world.exchange_gcp(exchanger=exchanger)
    assert "discovery and keys" in caught.value.hint
    assert world.sandbox.google.requests.total == 6


@pytest.mark.parametrize(
    ("changes", "reason", "word"),
    [
        ({"pool": GcpPool("123456789012", "gateway", "other")}, "GoogleInvalidTarget", "providers/other"),
        ({"pool": GcpPool("1", "gateway", "idp")}, "GoogleInvalidTarget", "projects/1/"),
        ({"service_account": "nobody@sandbox-project.iam.gserviceaccount.com"}, "GoogleNotFound", "nobody@"),
    ],
)
def test_what_google_itself_finds_wrong(world: Backend, changes: dict[str, Any], reason: str, word: str) -> None:
    """A wrong pool or account is denied by Google's own code, and the message names what it was about."""
    with refused(Denied, reason) as caught:
        world.exchange_gcp(world.gcp(**changes))
    assert word in caught.value.message


def test_an_audience_that_the_provider_does_not_take(world: Backend) -> None:
    """The most frequent mistake: Google's words, with both audiences, are in the message."""
    with refused(Denied, "GoogleInvalidGrant") as caught:
        world.exchange_gcp(world.gcp(oidc=world.oidc(audience="sts.amazonaws.com")))
    assert "[sts.amazonaws.com]" in caught.value.message
    assert POOL_AUDIENCE in caught.value.message


def test_no_impersonation_without_the_grant(world: Backend) -> None:
    """403 on impersonation: denied, and the hint names role and principal's place."""
    world.sandbox.google.accounts[DEFAULT_ACCOUNT].impersonators.clear()
    with refused(Denied, "GooglePermissionDenied") as caught:
        world.exchange_gcp()
    assert DEFAULT_ACCOUNT in caught.value.message


def test_a_fresh_token_once(world: Backend) -> None:
    """Fault 19's twin: a token that Google calls stale is dropped and replaced, once, in the same attempt."""
    exchanger = world.exchanger()
    stale = ServiceError("invalid_grant", "ID Token issued at 1713260741 is stale to sign-in.")
    world.sandbox.google.faults.add(stale, path=GOOGLE_STS, times=1)
    world.exchange_gcp(exchanger=exchanger)
    shown = [request.form["subject_token"] for request in world.sandbox.google.requests.matching(GOOGLE_STS)]
    assert len(set(shown)) == 2
    assert world.issuer.requests.count(TOKEN) == 2
    goes_wrong(world, "exchange", stale)
    with refused(Denied, "GoogleStaleToken") as caught:
        world.exchange_gcp(exchanger=exchanger)
    assert "clocks" in caught.value.hint
    assert world.sandbox.google.requests.count(GOOGLE_STS) == 4


def test_fault_23_a_clock_that_is_wrong(world: Backend) -> None:
    """Fault 23: an assertion by a clock that is 2 h ahead is refused; the refusal's Date puts the clock right."""
    clock = SkewedClock(lambda: datetime.now(UTC) + timedelta(hours=2))
    settings = ExchangeSettings(AllowedIssuers((world.issuer.url,)), str(world.sandbox.ca_file))
    exchanger = Exchanger(settings, clock, PROVIDERS, world.exchanger()._environment)
    with refused(Transient, "AssertionOutOfTime"):
        exchanger(POLICY, world.gcp_key(), world.secrets)
    token = exchanger(POLICY, world.gcp_key(), world.secrets)
    assert abs(token.expires_at - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=1)


def test_each_endpoint_has_a_gate(world: Backend) -> None:
    """Fault 16's twin: where impersonation is throttled, policies that need none go on."""
    exchanger = world.exchanger()
    goes_wrong(world, "impersonation", ServiceError("RESOURCE_EXHAUSTED", retry_after=60))
    for _ in range(2):
        with refused(Transient, "GoogleThrottled"):
            world.exchange_gcp(exchanger=exchanger)
    assert world.sandbox.google.requests.count(GOOGLE_IAM) == 1
    world.exchange_gcp(world.gcp(service_account=None), exchanger)
    world.exchange_gcp(world.gcp_key(), exchanger)


ODD: list[tuple[int, object, type[RotationError], str]] = [
    (400, {"error": {"code": 400}}, Denied, "GoogleRefused"),
    (400, {"error": 5}, Denied, "GoogleRefused"),
    (400, {"error": "üü"}, Denied, "GoogleRefused"),
    (400, {"error": {"status": ["x"], "details": [5, {"reason": 7}]}}, Denied, "GoogleRefused"),
    (403, "<html>", Denied, "GoogleRefused"),
    (404, {}, Denied, "GoogleRefused"),
    (503, "<html>", Transient, "GoogleFailed"),
    (429, {"error": "slow"}, Transient, "GoogleThrottled"),
    (408, {}, Transient, "GoogleFailed"),
]


@steps
@pytest.mark.parametrize("row", ODD)
def test_odd_refusals(world: Backend, step: str, row: tuple[int, object, type[RotationError], str]) -> None:
    """Fault 10: the status tells where no code does; odd bodies are a refusal, never a crash."""
    status, body, kind, reason = row
    goes_wrong(world, step, Answer(status, body if isinstance(body, str) else json.dumps(body)))
    with refused(kind, reason):
        world.exchange_gcp(policy(world, step))


TOKEN_RESPONSES: list[tuple[dict[str, Any], str | None]] = [
    ({"access_token": ""}, "InvalidResponse"),
    ({"access_token": MISSING}, "InvalidResponse"),
    ({"access_token": 7}, "InvalidResponse"),
    ({"access_token": "tök"}, "InvalidResponse"),
    ({"access_token": "a b"}, "InvalidResponse"),
    ({"access_token": "a\nb"}, "InvalidResponse"),
    ({"access_token": "a\x1b[31mb"}, "InvalidResponse"),
    ({"access_token": "a\x00b"}, "InvalidResponse"),
    ({"expires_in": float("inf")}, "InvalidResponse"),
    ({"token_type": "pop"}, "InvalidResponse"),
    ({"token_type": MISSING}, "InvalidResponse"),
    ({"expires_in": 0}, "InvalidResponse"),
    ({"expires_in": "soon"}, "InvalidResponse"),
    ({"expires_in": float("nan")}, "InvalidResponse"),
    ({"expires_in": "3599"}, None),
    ({"expires_in": MISSING}, None),
    ({"expires_in": 1e12}, None),
]


@pytest.mark.parametrize("step", ["exchange", "key"])
@pytest.mark.parametrize(("members", "reason"), TOKEN_RESPONSES)
def test_faults_13_14_the_token_response(
    world: Backend, step: str, members: dict[str, Any], reason: str | None
) -> None:
    """Faults 13 and 14: no token, another type, a life that is none: refused; odd forms that can be read: read."""
    goes_wrong(world, step, Override(members))
    source = world.gcp_key() if step == "key" else world.gcp(service_account=None)
    if reason is None:
        token = world.exchange_gcp(source)
        assert timedelta(0) < token.expires_at - world.clock() <= timedelta(hours=24)
    else:
        with refused(Transient, reason):
            world.exchange_gcp(source)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"accessToken": MISSING}, "InvalidResponse"),
        ({"accessToken": "a b"}, "InvalidResponse"),
        ({"accessToken": "a\r\nb"}, "InvalidResponse"),
        ({"expireTime": "2999-01-01T00:00:00"}, "InvalidResponse"),
        ({"expireTime": float("inf")}, "InvalidResponse"),
        ({"expireTime": MISSING}, "InvalidResponse"),
        ({"expireTime": "tomorrow"}, "InvalidResponse"),
        ({"expireTime": "2001-01-01T00:00:00Z"}, "CredentialExpired"),
        ({"expireTime": "2999-01-01T00:00:00.123456789Z"}, None),
    ],
)
def test_fault_21_the_impersonated_token(world: Backend, members: dict[str, Any], reason: str | None) -> None:
    """Fault 21: no token, or one that has expired, is not published; fractions of a second are read."""
    goes_wrong(world, "impersonation", Override(members))
    if reason is None:
        assert world.exchange_gcp().expires_at.year == 2999
    else:
        with refused(Transient, reason):
            world.exchange_gcp()


@steps
@pytest.mark.parametrize("name", GARBAGE)
def test_fault_11_garbage(world: Backend, step: str, name: str) -> None:
    """Fault 11: a 200 that is no answer of Google is InvalidResponse."""
    goes_wrong(world, step, GARBAGE[name])
    with refused(Transient, "InvalidResponse"):
        world.exchange_gcp(policy(world, step))


@steps
@pytest.mark.parametrize("fault", [Huge(1 << 40), GzipBomb(1 << 33), CutShort()], ids=["huge", "bomb", "cut"])
def test_fault_12_too_much(world: Backend, step: str, fault: Fault) -> None:
    """Fault 12: no more than 1 MiB is read from Google either; what is cut cannot be read."""
    goes_wrong(world, step, fault)
    with refused(Transient, "InvalidResponse"):
        world.exchange_gcp(policy(world, step))


@steps
@pytest.mark.parametrize("to", ["same-origin", "other-origin", "http"])
def test_fault_07_never_led_on(world: Backend, step: str, to: str) -> None:
    """Fault 7: a redirected request is not sent again, or token and assertion would go along."""
    goes_wrong(world, step, Redirect(to, 307))
    with refused(Denied, "RedirectRefused"):
        world.exchange_gcp(policy(world, step))
    assert world.sandbox.google.requests.count(PATHS[step]) == 1


@steps
@pytest.mark.parametrize("code", ["invalid_grant", "PERMISSION_DENIED"])
def test_fault_46_hostile_text(world: Backend, step: str, code: str) -> None:
    """Fault 46: what Google says in words is escaped and cut."""
    goes_wrong(world, step, hostile(code, 500_000))
    with pytest.raises(RotationError) as caught:
        world.exchange_gcp(policy(world, step))
    check_showable(caught.value)


@pytest.mark.parametrize(("step", "proof"), [("exchange", "subject_token"), ("key", "assertion")])
def test_i9_what_was_shown_is_not_repeated(world: Backend, step: str, proof: str) -> None:
    """I9: a refusal that quotes the token or the assertion is shown without it."""
    exchanger, source = world.exchanger(), policy(world, step)
    token = world.token(exchanger, audience=POOL_AUDIENCE).token.reveal()
    quoted = token if proof == "subject_token" else ""
    goes_wrong(world, step, ServiceError("invalid_grant", f"no good: {quoted}"))
    with refused(Denied, "GoogleInvalidGrant") as caught:
        world.exchange_gcp(source, exchanger)
    if quoted:
        assert "no good: ***" in caught.value.message


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CLOUDSDK_API_ENDPOINT_OVERRIDES_STS", "http://sts.example/"),
        ("CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS", "iam.example"),
        ("CLOUDSDK_AUTH_TOKEN_HOST", "https://user@token.example/token"),
        ("CLOUDSDK_AUTH_TOKEN_HOST", "https://token.example/token?x=1"),
    ],
)
def test_overrides_that_are_none(world: Backend, variable: str, value: str) -> None:
    """An override that is no https address is refused by its name, and nothing is sent anywhere."""
    with refused(Denied, "GoogleConfig") as caught:
        world.exchange_gcp(world.gcp_key(), world.exchanger(environment={variable: value}))
    assert variable in caught.value.message
    assert world.sandbox.google.requests.total == 0


def test_one_deadline_for_all_steps(world: Backend) -> None:
    """Fault 2: each step within its own time, all of them together beyond the deadline: ended."""
    exchanger = world.exchanger(timeout_s=0.4)
    assert exchanger.vendor(world.gcp()) is exchanger.vendor(world.gcp())
    for service in (world.issuer, world.sandbox.google):
        service.faults.add(Latency(0.18))
    with pytest.raises(Transient) as caught:
        world.exchange_gcp(exchanger=exchanger)
    assert caught.value.reason.endswith("Timeout")
