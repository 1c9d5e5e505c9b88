"""The STS verifies web identities and signatures as AWS does; boto3 is its client."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from credrotator.sandbox import DEFAULT_CLIENT, DEFAULT_ROLE, MISSING, Override, Role, Sandbox
from tests.sandbox.awscalls import assume, caller, refused
from tests.sandbox.conftest import TIMEOUT_S, MovableClock

if TYPE_CHECKING:
    import requests


def test_a_token_becomes_credentials_that_work(sandbox: Sandbox) -> None:
    """AssumeRoleWithWebIdentity answers all members of the API reference, and its credentials sign a request."""
    answer = assume(sandbox, sandbox.issuer.issue(DEFAULT_CLIENT), DurationSeconds=900)
    assert answer["SubjectFromWebIdentityToken"] == DEFAULT_CLIENT
    assert (answer["Audience"], answer["Provider"]) == ("sts.amazonaws.com", sandbox.issuer.url)
    left = answer["Credentials"]["Expiration"] - datetime.now(UTC)
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)
    identity = caller(sandbox, answer["Credentials"])
    assert identity["Arn"] == answer["AssumedRoleUser"]["Arn"]
    assert identity["Arn"] == "arn:aws:sts::123456789012:assumed-role/bedrock/session"
    assert (identity["Account"], identity["UserId"]) == ("123456789012", answer["AssumedRoleUser"]["AssumedRoleId"])


def test_refusals_of_the_token(sandbox: Sandbox, clock: MovableClock) -> None:
    """Each flaw of a token has AWS's own code and status."""
    issue = sandbox.issuer.issue
    forged = sandbox.add_issuer()
    sandbox.sts.issuers.trust(forged.url, sandbox.issuer.public_keys)  # believed to be signed by keys it has not
    stranger = sandbox.add_issuer()
    sandbox.sts.issuers.distrust(stranger.url)
    assert refused(assume, sandbox, "garbage")[:2] == ("InvalidIdentityToken", 400)
    assert refused(assume, sandbox, stranger.issue(DEFAULT_CLIENT))[:2] == ("InvalidIdentityToken", 400)
    assert refused(assume, sandbox, forged.issue(DEFAULT_CLIENT))[:2] == ("InvalidIdentityToken", 400)
    audience = refused(assume, sandbox, issue(DEFAULT_CLIENT, audience="elsewhere"))
    assert audience == ("InvalidIdentityToken", 400, "Incorrect token audience")
    old = issue(DEFAULT_CLIENT)
    clock.offset = timedelta(minutes=6)
    code, status, message = refused(assume, sandbox, old)
    assert (code, status) == ("ExpiredTokenException", 400)
    assert message.startswith("Token expired: current date/time ")


def test_an_altered_token_is_refused(sandbox: Sandbox) -> None:
    """RFC 7515 §5.2: one changed bit of the payload and the signature no longer fits."""
    header, payload, signature = sandbox.issuer.issue(DEFAULT_CLIENT).split(".")
    altered = payload[:-2] + ("A" if payload[-2] != "A" else "B") + payload[-1]
    assert refused(assume, sandbox, f"{header}.{altered}.{signature}")[0] == "InvalidIdentityToken"


def test_tricks_with_the_algorithm_are_refused(sandbox: Sandbox) -> None:
    """RFC 8725 §3.1: neither no signature nor a public key taken as an HMAC secret passes."""
    claims = {"iss": sandbox.issuer.url, "sub": DEFAULT_CLIENT, "aud": "sts.amazonaws.com", "exp": 2**33}
    public = json.dumps(sandbox.issuer.keys.jwks()["keys"][0]).encode()
    confused = jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(public), ["HS256"])
    no_algorithm = urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    unsigned = f"{no_algorithm}.{confused.split('.')[1]}."
    for token in (unsigned, confused):
        assert refused(assume, sandbox, token)[:2] == ("InvalidIdentityToken", 400)


@pytest.mark.parametrize("exp", [None, "soon", 1e300])
def test_a_token_needs_an_expiry(sandbox: Sandbox, exp: object) -> None:
    """RFC 7519 §4.1.4: ``exp`` is a number; a signed token without one is refused all the same."""
    sandbox.issuer.extra_claims = {"exp": exp}
    token = sandbox.issuer.issue(DEFAULT_CLIENT)
    assert refused(assume, sandbox, token) == ("InvalidIdentityToken", 400, "Missing a required claim: exp")


def test_key_that_left_the_set_is_refused(sandbox: Sandbox) -> None:
    """Fault 18: after the issuer dropped its key, an old token is InvalidIdentityToken and a fresh one is fine."""
    old = sandbox.issuer.issue(DEFAULT_CLIENT)
    sandbox.issuer.rotate_keys(keep_old=False)
    assert refused(assume, sandbox, old)[0] == "InvalidIdentityToken"
    assert assume(sandbox, sandbox.issuer.issue(DEFAULT_CLIENT))["Credentials"]


def test_refusals_of_the_role(sandbox: Sandbox) -> None:
    """An unknown role, another issuer and another subject are all AccessDenied, 403."""
    role = "arn:aws:iam::123456789012:role/path/other"
    other = sandbox.add_issuer()
    denied = ("AccessDenied", 403, "Not authorized to perform sts:AssumeRoleWithWebIdentity")
    assert refused(assume, sandbox, sandbox.issuer.issue(DEFAULT_CLIENT), role) == denied
    assert refused(assume, sandbox, other.issue(DEFAULT_CLIENT)) == denied
    no_role = refused(assume, sandbox, sandbox.issuer.issue(DEFAULT_CLIENT), "arn:aws:iam::1:user/not-a-role")
    assert no_role == ("ValidationError", 400, "Request ARN is invalid")
    sandbox.sts.roles[role] = Role(sandbox.issuer.url, subject="somebody-else")
    assert refused(assume, sandbox, sandbox.issuer.issue(DEFAULT_CLIENT), role) == denied
    sandbox.sts.roles[role] = Role(other.url)
    assert assume(sandbox, other.issue(DEFAULT_CLIENT), role)["AssumedRoleUser"]["Arn"].endswith("role/other/session")


def test_duration_beyond_the_role_is_refused_in_awss_words(sandbox: Sandbox) -> None:
    """Fault 20: DurationSeconds over the role's maximum is a ValidationError, word for word AWS's."""
    token = sandbox.issuer.issue(DEFAULT_CLIENT)
    code, status, message = refused(assume, sandbox, token, DurationSeconds=3601)
    assert (code, status) == ("ValidationError", 400)
    assert message == "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
    sandbox.sts.roles[DEFAULT_ROLE].max_life = timedelta(hours=12)
    assert assume(sandbox, token, DurationSeconds=43_200)["Credentials"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"DurationSeconds": "899"}, "'899' at 'durationSeconds' failed to satisfy constraint"),
        ({"DurationSeconds": "43201"}, "less than or equal to 43200"),
        ({"RoleSessionName": "a b"}, "regular expression pattern: [\\w+=,.@-]*"),
        ({"RoleSessionName": "é" * 3}, "regular expression pattern"),
        ({"RoleSessionName": "a"}, "length greater than or equal to 2"),
        ({"RoleSessionName": "a" * 65}, "length less than or equal to 64"),
    ],
)
def test_constraints_of_the_parameters(
    sandbox: Sandbox, http: requests.Session, parameters: dict[str, str], words: str
) -> None:
    r"""STS API reference: 900..43200 seconds, a session name of 2..64 characters of ``[\w+=,.@-]``."""
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": DEFAULT_ROLE,
        "RoleSessionName": "session",
        "WebIdentityToken": sandbox.issuer.issue(DEFAULT_CLIENT),
        **parameters,
    }
    answer = http.post(sandbox.sts.url, data=form, timeout=TIMEOUT_S)
    assert answer.status_code == 400
    assert "<Code>ValidationError</Code>" in answer.text
    assert words in answer.text


def test_what_is_no_call_of_ours_is_refused(sandbox: Sandbox, http: requests.Session) -> None:
    """Query protocol: an unknown action is InvalidAction, a missing parameter MissingParameter; GET has no route."""
    unknown = http.post(sandbox.sts.url, data={"Action": "Nothing"}, timeout=TIMEOUT_S)
    missing = http.post(sandbox.sts.url, data={"Action": "AssumeRoleWithWebIdentity"}, timeout=TIMEOUT_S)
    assert "<Code>InvalidAction</Code>" in unknown.text
    assert "<Code>MissingParameter</Code>" in missing.text
    assert http.get(sandbox.sts.url, timeout=TIMEOUT_S).status_code == 405


def test_foreign_issuer_is_discovered_over_http(sandbox: Sandbox) -> None:
    """An issuer outside the sandbox is verified by its own discovery; one that is away is IDPCommunicationError."""
    foreign = sandbox.add_issuer()
    sandbox.sts.issuers.trust_foreign(foreign.url, sandbox.ca_file)
    role = "arn:aws:iam::123456789012:role/foreign"
    sandbox.sts.roles[role] = Role(foreign.url)
    assert assume(sandbox, foreign.issue(DEFAULT_CLIENT), role)["Provider"] == foreign.url
    assert foreign.requests.count("/jwks") == 1
    foreign.stop()
    assert refused(assume, sandbox, foreign.issue(DEFAULT_CLIENT), role)[:2] == ("IDPCommunicationError", 400)


def test_fault_21_answers_without_use(sandbox: Sandbox) -> None:
    """Fault 21: any element of the answer can be replaced or left out."""
    token = sandbox.issuer.issue(DEFAULT_CLIENT)
    sandbox.sts.faults.add(Override({"Expiration": "2001-01-01T00:00:00Z"}), times=1)
    assert assume(sandbox, token)["Credentials"]["Expiration"].year == 2001
    sandbox.sts.faults.add(Override({"Credentials": MISSING}), times=1)
    assert "Credentials" not in assume(sandbox, token)
