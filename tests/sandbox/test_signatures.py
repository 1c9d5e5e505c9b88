"""The STS recomputes signatures: nothing but the very credentials that it gave passes, and only for their time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from credrotator.sandbox import DEFAULT_CLIENT, DEFAULT_ROLE, Sandbox
from credrotator.sandbox.answers import Refused
from credrotator.sandbox.sigv4 import SignedRequest
from tests.sandbox.awscalls import assume, caller, refused
from tests.sandbox.conftest import TIMEOUT_S, MovableClock

if TYPE_CHECKING:
    import requests


def test_wrong_secret_token_or_key_is_refused(sandbox: Sandbox) -> None:
    """GetCallerIdentity recomputes the signature: nothing but the very credentials passes."""
    first = assume(sandbox, sandbox.issuer.issue(DEFAULT_CLIENT))["Credentials"]
    second = assume(sandbox, sandbox.issuer.issue(DEFAULT_CLIENT))["Credentials"]
    assert refused(caller, sandbox, first, SecretAccessKey="x" * 40)[:2] == ("SignatureDoesNotMatch", 403)
    mixed = refused(caller, sandbox, first, SessionToken=second["SessionToken"])
    assert mixed[:2] == ("InvalidClientTokenId", 403)
    assert refused(caller, sandbox, first, AccessKeyId="ASIAUNKNOWNUNKNOWN12")[:2] == ("InvalidClientTokenId", 403)


def test_credentials_end_at_their_expiry(sandbox: Sandbox, clock: MovableClock) -> None:
    """A session of seconds can be forced, and is ExpiredToken from its expiry on."""
    sandbox.sts.roles[DEFAULT_ROLE].forced_life = timedelta(seconds=20)
    credentials = assume(sandbox, sandbox.issuer.issue(DEFAULT_CLIENT), DurationSeconds=3600)["Credentials"]
    assert caller(sandbox, credentials)["Account"]
    clock.offset = timedelta(seconds=21)
    assert refused(caller, sandbox, credentials)[:2] == ("ExpiredToken", 403)


@pytest.mark.parametrize(("minutes", "words"), [(6, "Signature expired"), (-6, "Signature not yet current")])
def test_a_signature_is_good_for_five_minutes(sandbox: Sandbox, clock: MovableClock, minutes: int, words: str) -> None:
    """SigV4: a date more than 5 minutes from the server's is refused, which is how skew shows."""
    credentials = assume(sandbox, sandbox.issuer.issue(DEFAULT_CLIENT))["Credentials"]
    clock.offset = timedelta(minutes=minutes)
    code, _, message = refused(caller, sandbox, credentials)
    assert code == "SignatureDoesNotMatch"
    assert words in message


def test_other_services_can_have_signatures_verified(sandbox: Sandbox) -> None:
    """``sts.verify`` judges a request to any service: path, query, body and headers are covered."""
    session = assume(sandbox, sandbox.issuer.issue(DEFAULT_CLIENT))["Credentials"]
    url = "https://bedrock-runtime.eu-central-1.amazonaws.com/model/a%3A0/invoke?b=2&a=1"
    request = AWSRequest("POST", url, data=b"{}", headers={"Host": "bedrock-runtime.eu-central-1.amazonaws.com"})
    keys = Credentials(session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])
    SigV4Auth(keys, "bedrock", "eu-central-1").add_auth(request)
    sent = dict(request.headers.items())
    assert sandbox.sts.verify(SignedRequest("POST", url, sent, b"{}")).arn.endswith("bedrock/session")
    for changed in (
        SignedRequest("POST", url, sent, b"{ }"),
        SignedRequest("POST", url.replace("a=1", "a=2"), sent, b"{}"),
        SignedRequest("PUT", url, sent, b"{}"),
    ):
        with pytest.raises(Refused, match="SignatureDoesNotMatch"):
            sandbox.sts.verify(changed)


def authorization(signed_headers: str) -> str:
    """Return a well-formed header with a signature by nobody."""
    scope = "Credential=ASIAX/20260101/us-east-1/sts/aws4_request"
    return f"AWS4-HMAC-SHA256 {scope}, SignedHeaders={signed_headers}, Signature={'0' * 64}"


@pytest.mark.parametrize("date", ["", "yesterday", "20010101T000000Z"])
def test_the_date_must_be_there_and_fit(sandbox: Sandbox, date: str) -> None:
    """SigV4: X-Amz-Date is an ISO 8601 basic time, of the day that the credential scope names."""
    session = assume(sandbox, sandbox.issuer.issue(DEFAULT_CLIENT))["Credentials"]
    request = AWSRequest("GET", "https://sts.amazonaws.com/", headers={"Host": "sts.amazonaws.com"})
    keys = Credentials(session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])
    SigV4Auth(keys, "sts", "us-east-1").add_auth(request)
    sent = {**dict(request.headers.items()), "X-Amz-Date": date}
    with pytest.raises(Refused, match=r"IncompleteSignature|SignatureDoesNotMatch"):
        sandbox.sts.verify(SignedRequest("GET", "https://sts.amazonaws.com/", sent, b""))


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "MissingAuthenticationToken"),
        ({"Authorization": "Bearer x"}, "IncompleteSignature"),
        ({"Authorization": "AWS4-HMAC-SHA256 Credential=a"}, "IncompleteSignature"),
        ({"Authorization": authorization("x-amz-date")}, "host and date must be signed"),
        ({"Authorization": authorization("host;x-amz-date")}, "InvalidClientTokenId"),
    ],
)
def test_unsigned_calls_are_refused(
    sandbox: Sandbox, http: requests.Session, headers: dict[str, str], code: str
) -> None:
    """Common Errors: no signature, or none that can be read, is refused before anything else."""
    form = {"Action": "GetCallerIdentity"}
    assert code in http.post(sandbox.sts.url, data=form, headers=headers, timeout=TIMEOUT_S).text
