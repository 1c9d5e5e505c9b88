"""What STS answers: refusals by words and code, credentials that are none, XML that is none."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from credrotator.core.errors import Denied, RotationError, Transient
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
from tests.support.exchanging import TOKEN, Backend, check_showable, refused

GARBAGE = garbage()


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
