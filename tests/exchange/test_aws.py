"""AssumeRoleWithWebIdentity on the wire, errors by code, what is taken for a credential (reliability.md 16-21, 44)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.errors import Denied, PolicyError, RotationError, Transient
from credrotator.core.model import ObjectKey, OidcClient, SubjectToken
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.http.transport import Transport
from credrotator.exchange.vendors import VendorContext
from credrotator.providers.aws.source import AwsOidc
from credrotator.providers.aws.sts import STS, Sts, session_name
from credrotator.sandbox import (
    DEFAULT_ROLE,
    MISSING,
    Answer,
    CutShort,
    GzipBomb,
    Huge,
    Override,
    ServiceError,
    SkewedDate,
    garbage,
)
from tests.support.exchanging import TOKEN, Backend, FrozenClock, check_showable, key_ref, refused

if TYPE_CHECKING:
    from pathlib import Path

    import requests

GARBAGE = garbage()


def test_the_request(world: Backend) -> None:
    """One unsigned POST with role, token and session name; no duration where the policy sets none."""
    credential = world.exchange_aws()
    (request,) = world.sandbox.sts.requests
    assert set(request.form) == {"Action", "Version", "RoleArn", "RoleSessionName", "WebIdentityToken"}
    assert request.form["Action"] == "AssumeRoleWithWebIdentity"
    assert request.form["RoleArn"] == DEFAULT_ROLE
    assert request.form["RoleSessionName"] == "ai-gateway-bedrock"
    assert "Authorization" not in request.headers
    assert "X-Amz-Security-Token" not in request.headers
    assert credential.region == "eu-central-1"
    assert credential.request_id


def test_g24_the_duration(world: Backend) -> None:
    """G24: DurationSeconds is sent where the policy sets it, in whole seconds, and the expiry is AWS's own."""
    credential = world.exchange_aws(duration=timedelta(minutes=20))
    assert world.sandbox.sts.requests[0].form["DurationSeconds"] == "1200"
    life = credential.expires_at - credential.issued_at
    # Issue is counted from before the call, so the call's own time comes on top.
    assert timedelta(minutes=19, seconds=50) < life < timedelta(minutes=20, seconds=10)


def test_the_expiry_is_awss_own(world: Backend) -> None:
    """The credential lives as long as STS says, to the second, whatever was asked."""
    world.sandbox.sts.roles[DEFAULT_ROLE].forced_life = timedelta(seconds=77)
    credential = world.exchange_aws(duration=timedelta(minutes=20))
    (session,) = world.sandbox.sts.sessions.values()
    assert credential.expires_at == session.expires.replace(microsecond=0)
    assert credential.secret_access_key.reveal() == session.secret_access_key
    assert credential.session_token.reveal() == session.session_token
    assert session.secret_access_key not in repr(credential)


@given(namespace=st.text(max_size=300), name=st.text(max_size=300))
def test_fault_44_session_names(namespace: str, name: str) -> None:
    """Fault 44, G24: any name becomes 2..64 characters that AWS takes, the same each time."""
    found = session_name(ObjectKey(namespace, name))
    assert re.fullmatch(r"[\w+=,.@-]{2,64}", found, re.ASCII)
    assert found == session_name(ObjectKey(namespace, name))


@given(st.sets(st.text("ab./ü", min_size=40, max_size=70), min_size=2, max_size=5))
def test_fault_44_changed_names_stay_apart(names: set[str]) -> None:
    """Fault 44: policies whose names are cut or changed are told apart by a hash."""
    assert len({session_name(ObjectKey("team-a", name)) for name in names}) == len(names)


@pytest.mark.parametrize(("name", "wanted"), [("bedrock", "ai-gateway-bedrock"), ("x" * 53, "ai-gateway-" + "x" * 53)])
def test_short_names_stay_as_they_are(name: str, wanted: str) -> None:
    """The session name leads back to the policy, and is the gateway's own where that fits."""
    assert session_name(ObjectKey("team-a", name)) == wanted


def test_fault_44_arrives(world: Backend) -> None:
    """Fault 44: AWS takes the session name of a policy with 253 characters."""
    policy = ObjectKey("team-a", "long-" * 50 + "end")
    world.exchanger()(policy, world.aws(), world.secrets)
    assert world.sandbox.sts.requests[0].form["RoleSessionName"].startswith("ai-gateway-long-")


class Recorder(Transport):
    """A transport that only writes down where it should have gone."""

    def __init__(self) -> None:
        super().__init__(STS)
        self.urls: list[str] = []

    def request(self, method: str, url: str | bytes, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        self.urls.append(str(url))
        raise Transient("Recorded", "not sent", hint="none")


@pytest.mark.parametrize(
    ("region", "environment", "host"),
    [
        ("eu-central-1", {}, "sts.eu-central-1.amazonaws.com"),
        ("us-east-1", {}, "sts.us-east-1.amazonaws.com"),
        ("ap-southeast-5", {}, "sts.ap-southeast-5.amazonaws.com"),
        ("cn-north-1", {}, "sts.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", {}, "sts.us-gov-west-1.amazonaws.com"),
        ("us-east-1", {"AWS_USE_FIPS_ENDPOINT": "true"}, "sts-fips.us-east-1.amazonaws.com"),
        ("us-gov-west-1", {"AWS_USE_FIPS_ENDPOINT": "true"}, "sts.us-gov-west-1.amazonaws.com"),
        (
            "eu-central-1",
            {"AWS_REGION": "us-west-2", "AWS_DEFAULT_REGION": "us-west-2"},
            "sts.eu-central-1.amazonaws.com",
        ),
        ("eu-central-1", {"AWS_ENDPOINT_URL_STS": "https://sts.corp.example"}, "sts.corp.example"),
        ("eu-central-1", {"AWS_ENDPOINT_URL": "https://aws.corp.example"}, "aws.corp.example"),
    ],
)
def test_endpoints(
    monkeypatch: pytest.MonkeyPatch, frozen: FrozenClock, region: str, environment: dict[str, str], host: str
) -> None:
    """G24: the regional endpoint of the policy's region and partition; FIPS and another STS by AWS's own variables."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    recorder = Recorder()
    with refused(Transient, "Recorded"):
        Sts(VendorContext(lambda _: recorder, frozen, {})).exchange(ObjectKey("a", "b"), source(region), token(frozen))
    assert recorder.urls == [f"https://{host}/"]


def source(region: str = "eu-central-1") -> AwsOidc:
    """Describe an AWS policy without a sandbox."""
    return AwsOidc(OidcClient("https://idp.example", "c", key_ref("oidc")), DEFAULT_ROLE, region)


def token(clock: FrozenClock) -> SubjectToken:
    """Return something that could be a token."""
    return SubjectToken(Sensitive("header.claims.signature"), clock(), {})


AMBIENT = {
    "AWS_ACCESS_KEY_ID": "AKIAAMBIENT",
    "AWS_SECRET_ACCESS_KEY": "ambient",
    "AWS_SESSION_TOKEN": "ambient",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent/token",
    "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/ambient",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1/",
    "AWS_RETRY_MODE": "adaptive",
    "AWS_MAX_ATTEMPTS": "9",
    "AWS_DEFAULTS_MODE": "auto",
}


def test_ambient_settings_are_left_alone(world: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own AWS credentials are neither looked up nor sent, and no metadata service is asked."""
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
    for name, value in AMBIENT.items():
        monkeypatch.setenv(name, value)
    world.exchange_aws()
    (request,) = world.sandbox.sts.requests
    assert "Authorization" not in request.headers
    assert b"ambient" not in request.body.lower()


def test_no_credential_is_looked_up(world: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The SDK's chain of credentials is not walked: what it would run, read or ask is none of ours."""
    config, marker = tmp_path / "aws-config", tmp_path / "marker"
    config.write_text(f"[default]\ncredential_process = touch {marker}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    world.exchange_aws()
    assert not marker.exists()


def test_ambient_retries_are_off(world: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """House rule: retries live in one layer, which is not the SDK, whatever AWS_MAX_ATTEMPTS says."""
    for name, value in AMBIENT.items():
        monkeypatch.setenv(name, value)
    world.sandbox.sts.faults.add(ServiceError("Throttling"))
    for calls in (1, 2):
        # A new one each time, since a gate that was throttled lets nobody through for a second.
        with refused(Transient, "StsThrottled"):
            world.exchange_aws(world.exchanger())
        assert world.sandbox.sts.requests.total == calls


@pytest.mark.parametrize("variable", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
def test_a_profile_that_does_not_exist(world: Backend, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """The call is unsigned: a profile that is misspelt, or somebody else's, has no part in it."""
    monkeypatch.setenv(variable, "nonsense")
    world.exchange_aws()


def test_a_config_file_that_is_none(world: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor have files in a person's home, however broken, and no home is needed."""
    config = tmp_path / "aws-config"
    config.write_text("[broken\n = =")
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(variable, str(config))
    monkeypatch.delenv("HOME", raising=False)
    world.exchange_aws()


def test_no_profile_leads_the_token_elsewhere(
    world: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, frozen: FrozenClock
) -> None:
    """What a profile says of endpoints, regions and FIPS does not count: only the documented variables do."""
    config = tmp_path / "aws-config"
    config.write_text(
        "[profile theirs]\nendpoint_url = https://evil.example\nregion = us-west-2\nuse_fips_endpoint = true\n"
        "services = s\nsts_regional_endpoints = legacy\n[services s]\nsts =\n  endpoint_url = https://evil.example\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "theirs")
    monkeypatch.delenv("AWS_ENDPOINT_URL_STS")
    for variable, value in IGNORED.items():
        monkeypatch.setenv(variable, value)
    recorder = Recorder()
    with refused(Transient, "Recorded"):
        Sts(VendorContext(lambda _: recorder, frozen, {})).exchange(ObjectKey("a", "b"), source(), token(frozen))
    assert recorder.urls == ["https://sts.eu-central-1.amazonaws.com/"]


IGNORED = {
    "AWS_STS_REGIONAL_ENDPOINTS": "legacy",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "AWS_ACCOUNT_ID_ENDPOINT_MODE": "nonsense",
    "AWS_CSM_ENABLED": "true",
}


@pytest.mark.parametrize(("length", "reason"), [(20_000, "Recorded"), (20_001, "TokenTooLong")])
def test_fault_58_a_token_that_is_too_long(frozen: FrozenClock, length: int, reason: str) -> None:
    """AWS takes 20 000 characters: a longer token is refused here, by its own name, and not sent."""
    recorder = Recorder()
    long = SubjectToken(Sensitive("x" * length), frozen(), {})
    with pytest.raises(RotationError) as caught:
        Sts(VendorContext(lambda _: recorder, frozen, {})).exchange(ObjectKey("a", "b"), source(), long)
    check_showable(caught.value)
    assert caught.value.reason == reason
    assert len(recorder.urls) == (0 if reason == "TokenTooLong" else 1)


WORDS = [
    ("OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint", "update-open-id-connect"),
    ("No OpenIDConnect provider found in your account for https://idp.example", "make an IAM identity provider"),
    ("Incorrect token audience", "client ids of the IAM identity provider"),
    ("Couldn't retrieve verification key from your identity provider", "jwks_uri"),
    ("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)", "JWT access"),
    ("Missing a required claim: sub", "claim that AWS names"),
    ("Not authorized to perform: sts:TagSession on resource: arn:aws:iam::1:role/x", "sts:TagSession"),
    ("User is not authorized to perform x with an explicit deny in a service control policy", "service control policy"),
    ("Unsupported signing algorithm in the JWT header: none", "RS256"),
    ("Issuer must be a valid URL", "https address"),
]


@pytest.mark.parametrize(("words", "hint"), WORDS, ids=[words[:30] for words, _ in WORDS])
def test_fault_20_by_awss_words(world: Backend, words: str, hint: str) -> None:
    """One code has many causes: AWS's words tell which, and the advice is for that one."""
    world.sandbox.sts.faults.add(ServiceError("InvalidIdentityToken", words))
    with refused(Denied, "InvalidIdentityToken") as caught:
        world.exchange_aws()
    assert hint in caught.value.hint


@pytest.mark.parametrize("audience", [None, "", []])
def test_fault_20_a_token_without_an_audience(world: Backend, audience: object) -> None:
    """No client id at IAM helps a token that has no audience: the issuer has to put one there."""
    world.issuer.extra_claims = {"aud": audience, "azp": None}
    world.sandbox.sts.faults.add(ServiceError("InvalidIdentityToken", "Incorrect token audience"))
    with refused(Denied, "InvalidIdentityToken") as caught:
        world.exchange_aws()
    assert "have the issuer put an audience (aud)" in caught.value.hint
    assert "client ids" not in caught.value.hint


@pytest.mark.parametrize(
    ("code", "kind", "reason", "hint"),
    [
        ("Throttling", Transient, "StsThrottled", "rate limit"),
        ("SlowDown", Transient, "StsThrottled", "rate limit"),
        ("RequestLimitExceeded", Transient, "StsThrottled", "rate limit"),
        ("InternalFailure", Transient, "StsFailed", "AWS"),
        ("ServiceUnavailable", Transient, "StsFailed", "AWS"),
        ("IDPCommunicationError", Transient, "IDPCommunicationError", "JWKS"),
        ("InvalidIdentityToken", Denied, "InvalidIdentityToken", "identity provider"),
        ("IDPRejectedClaim", Denied, "IDPRejectedClaim", "issuer's log"),
        ("ExpiredTokenException", Denied, "ExpiredTokenException", "clock"),
        ("ExpiredToken", Denied, "ExpiredToken", "clock"),
        ("AccessDenied", Denied, "AccessDenied", "trust policy"),
        ("RegionDisabledException", Denied, "RegionDisabledException", "activate"),
        ("ValidationError", Denied, "ValidationError", "awsRoleArn"),
        ("PackedPolicyTooLarge", Denied, "PackedPolicyTooLarge", "session tags"),
        ("UnheardOf", Denied, "UnheardOf", "common errors"),
        ("Odd Code\n\x1b[31m", Denied, "StsRefused", "common errors"),
    ],
)
def test_faults_16_to_20_by_code(world: Backend, code: str, kind: type[RotationError], reason: str, hint: str) -> None:
    """Faults 16 to 20: each of AWS's codes has its class, and the hint fits it."""
    if code.startswith("Odd"):
        world.sandbox.sts.faults.add(Answer(403, f"<E><Error><Code>{code!r}</Code></Error></E>", "text/xml"))
    else:
        world.sandbox.sts.faults.add(ServiceError(code, "words of AWS"))
    with refused(kind, reason) as caught:
        world.exchange_aws()
    assert hint in caught.value.hint
    assert DEFAULT_ROLE in caught.value.message
    assert "eu-central-1" in caught.value.message


def test_fault_20_the_wrong_role(world: Backend) -> None:
    """Fault 20: a role that does not trust the token is denied, with the way to the trust policy that would."""
    with refused(Denied, "AccessDenied") as caught:
        world.exchange_aws(role_arn="arn:aws:iam::123456789012:role/other")
    assert "credrotator check" in caught.value.hint


def test_fault_20_longer_than_the_role_allows(world: Backend) -> None:
    """Fault 20: the duration error says which annotation to lower, and to what."""
    world.sandbox.sts.roles[DEFAULT_ROLE].max_life = timedelta(hours=1)
    with refused(Denied, "DurationTooLong") as caught:
        world.exchange_aws(duration=timedelta(hours=2))
    assert "credrotator.io/duration" in caught.value.hint
    assert "2h" in caught.value.hint
    assert "MaxSessionDuration" in caught.value.hint


@pytest.mark.parametrize("code", ["ExpiredTokenException", "ExpiredToken", "InvalidIdentityToken"])
def test_fault_19_a_fresh_token_once(world: Backend, code: str) -> None:
    """Faults 18 and 19: a token that AWS calls stale is replaced by a fresh one, once, in the same attempt."""
    exchanger = world.exchanger()
    world.token(exchanger)
    world.sandbox.sts.faults.add(ServiceError(code), times=1)
    world.exchange_aws(exchanger)
    shown = [request.form["WebIdentityToken"] for request in world.sandbox.sts.requests]
    assert len(set(shown)) == 2
    assert world.issuer.requests.count(TOKEN) == 2


def test_fault_19_once_and_no_more(world: Backend) -> None:
    """Fault 19: a second refusal stands; nothing loops."""
    world.sandbox.sts.faults.add(ServiceError("ExpiredTokenException"))
    with refused(Denied, "ExpiredTokenException"):
        world.exchange_aws()
    assert world.sandbox.sts.requests.total == 2
    assert world.issuer.requests.count(TOKEN) == 2


def test_fault_19_no_fresh_token_for_other_refusals(world: Backend) -> None:
    """Fault 20: what a fresh token would not change is not tried again."""
    world.sandbox.sts.faults.add(ServiceError("AccessDenied"))
    with refused(Denied, "AccessDenied"):
        world.exchange_aws()
    assert world.sandbox.sts.requests.total == 1


@pytest.mark.parametrize("name", ["AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration", "Credentials"])
def test_fault_21_no_credential(world: Backend, name: str) -> None:
    """Fault 21: an answer without one part of the credential is no success."""
    world.sandbox.sts.faults.add(Override({name: MISSING}))
    with refused(Transient, "InvalidResponse"):
        world.exchange_aws()


@pytest.mark.parametrize("value", ["A\nregion = x", "A B", "A\tB", " A", "A\u2028B", "A\x85B", "A\u200bB"])
@pytest.mark.parametrize("name", ["AccessKeyId", "SecretAccessKey", "SessionToken"])
def test_a_credential_cannot_add_a_line(world: Backend, name: str, value: str) -> None:
    """What would break the shared-credentials file, or add a setting to it, is refused."""
    world.sandbox.sts.faults.add(Override({name: value}))
    with refused(Transient, "InvalidResponse"):
        world.exchange_aws()


@pytest.mark.parametrize(
    "expiration",
    [
        *("soon", "", "2026-13-45T99:00:00Z", "-1", "99999999999999999999"),
        *("2099-01-01T00:00:00", "2099-01-01", "Infinity", "-Infinity", "NaN", "1e999", "\u0663"),
    ],
)
def test_fault_21_an_expiry_that_is_none(world: Backend, expiration: str) -> None:
    """Fault 21: a timestamp that is none is an unreadable answer, not a crash."""
    world.sandbox.sts.faults.add(Override({"Expiration": expiration}))
    with pytest.raises(Transient) as caught:
        world.exchange_aws()
    assert caught.value.reason in {"InvalidResponse", "CredentialExpired"}


def test_fault_21_expired_already(world: Backend) -> None:
    """Fault 21: a credential that is over is refused, and where the clocks differ, by how much."""
    world.sandbox.sts.faults.add(Override({"Expiration": "2020-01-01T00:00:00Z"}))
    with refused(Transient, "CredentialExpired") as caught:
        world.exchange_aws()
    assert "compare the clock" in caught.value.hint
    world.sandbox.sts.faults.add(SkewedDate(timedelta(hours=-1)))
    with refused(Transient, "CredentialExpired") as caught:
        world.exchange_aws()
    assert re.search(r"(1h|59m\d+s) ahead of AWS's", caught.value.hint)


@pytest.mark.parametrize("name", GARBAGE)
def test_fault_11_garbage(world: Backend, name: str) -> None:
    """Fault 11: a 200 that is no answer of STS is transient InvalidResponse."""
    world.sandbox.sts.faults.add(GARBAGE[name])
    with refused(Transient, "InvalidResponse"):
        world.exchange_aws()


def credentials(inner: str) -> str:
    """Return an answer of STS with these members in place of the credentials' own."""
    return (
        '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        f"<AssumeRoleWithWebIdentityResult>{inner}</AssumeRoleWithWebIdentityResult>"
        "</AssumeRoleWithWebIdentityResponse>"
    )


KEYS = "<AccessKeyId>A</AccessKeyId><SecretAccessKey>S</SecretAccessKey><SessionToken>T</SessionToken>"
UNTIL = "<Expiration>2099-01-01T00:00:00Z</Expiration>"
ODD_XML = {
    "nested": "<Credentials><AccessKeyId><x>A</x></AccessKeyId></Credentials>",
    "nested expiry": f"<Credentials>{KEYS}<Expiration><x>1</x></Expiration></Credentials>",
    "nested deeply": "<Credentials>" * 20_000 + "</Credentials>" * 20_000,
    "nested in itself": f"<Credentials><Credentials>{KEYS}{UNTIL}</Credentials></Credentials>",
    "keys twice": f"<Credentials>{KEYS}{KEYS}{UNTIL}</Credentials>",
    "expiry twice": f"<Credentials>{KEYS}{UNTIL}{UNTIL}</Credentials>",
    "text": "<Credentials>text</Credentials>",
    "nothing": "",
    "no zone": f"<Credentials>{KEYS}<Expiration>2099-01-01T00:00:00</Expiration></Credentials>",
}


@pytest.mark.parametrize("name", ODD_XML)
def test_fault_71_xml_that_is_no_credential(world: Backend, name: str) -> None:
    """Fault 71: XML of another shape than STS's is an unreadable answer, not a crash."""
    world.sandbox.sts.faults.add(Answer(body=credentials(ODD_XML[name]), content_type="text/xml"))
    with refused(Transient, "InvalidResponse"):
        world.exchange_aws()


ODD_ERRORS = {
    "nested": "<ErrorResponse><Error><Code><x>y</x></Code><Message><z/></Message></Error></ErrorResponse>",
    "twice": "<ErrorResponse><Error><Code>A</Code><Code>B</Code></Error></ErrorResponse>",
    "two errors": "<ErrorResponse><Error><Code>A</Code></Error><Error><Code>B</Code></Error></ErrorResponse>",
    "no error": "<ErrorResponse><Code>A</Code></ErrorResponse>",
    "page": "<html><body><Code>A</Code></body></html>",
    "text": "<Code>A</Code>",
}


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize("name", ODD_ERRORS)
def test_fault_71_xml_that_is_no_error(world: Backend, name: str, status: int) -> None:
    """Fault 71: an error of another shape is some refusal, or unreadable; never a crash."""
    world.sandbox.sts.faults.add(Answer(status, ODD_ERRORS[name], content_type="text/xml"))
    with pytest.raises(RotationError) as caught:
        world.exchange_aws()
    check_showable(caught.value)


@pytest.mark.parametrize("fault", [Huge(1 << 40), GzipBomb(1 << 33), CutShort(0.3)], ids=["huge", "bomb", "cut"])
def test_fault_12_too_much(world: Backend, fault: Huge | GzipBomb | CutShort) -> None:
    """Fault 12: no more than 1 MiB is read from STS either; what is cut cannot be read."""
    world.sandbox.sts.faults.add(fault)
    with refused(Transient, "InvalidResponse"):
        world.exchange_aws()


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        (Answer(429, "<html>", retry_after=7), Transient, "StsThrottled"),
        (Answer(503, "<html>", retry_after=7), Transient, "StsFailed"),
        (ServiceError("ServiceUnavailable", retry_after=7), Transient, "StsFailed"),
        (ServiceError("SlowDown", retry_after=7), Transient, "StsThrottled"),
        (Answer(502), Transient, "StsFailed"),
        (Answer(302, headers={"Location": "https://elsewhere.example"}), Denied, "RedirectRefused"),
        (Answer(404, "<html>"), Transient, "InvalidResponse"),
    ],
    ids=str,
)
def test_fault_17_by_status(world: Backend, answer: Answer, kind: type[RotationError], reason: str) -> None:
    """Faults 10 and 17: what stands before STS is told apart by its status, with its Retry-After."""
    world.sandbox.sts.faults.add(answer)
    with refused(kind, reason) as caught:
        world.exchange_aws()
    assert world.sandbox.sts.requests.total == 1
    if answer.retry_after:
        assert caught.value.retry_after == timedelta(seconds=7)


def test_fault_46_hostile_text(world: Backend) -> None:
    """Fault 46: what STS says in words is escaped and cut."""
    world.sandbox.sts.faults.add(Answer(403, hostile_xml(), "text/xml"))
    with refused(Denied, "AccessDenied"):
        world.exchange_aws()


def hostile_xml() -> str:
    """Return a refusal with words that would forge a log line."""
    words = "line&#10;forged&#13;&#x202e;" + "A" * 100_000
    return f"<ErrorResponse><Error><Code>AccessDenied</Code><Message>{words}</Message></Error></ErrorResponse>"


def test_clients_are_made_once_per_region(world: Backend) -> None:
    """A session costs 93 ms and 7 MiB: one for all, one client per region, however many threads."""
    exchanger = world.exchanger()
    for region in ("eu-central-1", "us-east-1", "eu-central-1"):
        world.exchange_aws(exchanger, region=region)
    sts = exchanger.vendor(world.aws())
    assert isinstance(sts, Sts)
    assert set(sts._clients) == {"eu-central-1", "us-east-1"}


@pytest.mark.parametrize("region", ["us-east-99", "eu-nowhere-1", "us-iso-north-7", "mars-central-1"])
def test_fault_57_an_invented_region(world: Backend, region: str) -> None:
    """A region that fits the pattern and is none is the policy's problem: no client is made, nobody is asked."""
    exchanger = world.exchanger()
    with refused(PolicyError, "UnknownRegion"):
        world.exchange_aws(exchanger, region=region)
    assert world.sandbox.sts.requests.total == 0


@pytest.mark.parametrize("region", ["us-gov-west-1", "cn-north-1", "ap-southeast-7", "us-iso-east-1"])
def test_regions_of_every_partition(world: Backend, region: str) -> None:
    """Whatever the SDK knows may be used."""
    assert world.exchanger().endpoint(world.aws(region=region)).url
