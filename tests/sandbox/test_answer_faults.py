"""Faults of the answer say exactly what they were told to, on every server, and leave the rest alone."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest

from credrotator.sandbox import (
    DEFAULT_APP,
    DEFAULT_TENANT,
    MISSING,
    Answer,
    Override,
    Redirect,
    Sandbox,
    ServiceError,
    SkewedDate,
)
from tests.sandbox.conftest import DISCOVERY, TIMEOUT_S, MovableClock, ask_for_token, discover

if TYPE_CHECKING:
    import requests


def test_fault_03_wrong_issuer(sandbox: Sandbox, http: requests.Session) -> None:
    """Fault 3: one member of discovery differs, and only on the path that the rule names."""
    sandbox.issuer.faults.add(Override({"issuer": "https://evil.example"}), path=DISCOVERY)
    document = discover(http, sandbox).json()
    assert document["issuer"] == "https://evil.example"
    assert document["token_endpoint"] == f"{sandbox.issuer.url}/token"
    assert "issuer" not in ask_for_token(http, sandbox.issuer).json()


def test_fault_05_token_endpoint_elsewhere(sandbox: Sandbox, http: requests.Session) -> None:
    """Fault 5: discovery may name a token endpoint on another host, and that host answers."""
    endpoint = f"https://127.0.0.1:{sandbox.issuer.port}/token"
    sandbox.issuer.faults.add(Override({"token_endpoint": endpoint}), path=DISCOVERY)
    assert discover(http, sandbox).json()["token_endpoint"] == endpoint
    assert http.post(endpoint, timeout=TIMEOUT_S).json()["error"] == "invalid_client"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize(
    ("to", "base"),
    [("same-origin", "https://localhost:"), ("other-origin", "https://127.0.0.1:"), ("http", "http://localhost:")],
)
def test_fault_07_redirects(sandbox: Sandbox, http: requests.Session, to: str, base: str, status: int) -> None:
    """Fault 7: the log shows who followed a redirect, and whether in the clear; in the clear nothing is given."""
    sandbox.issuer.faults.add(Redirect(to, status))
    first = discover(http, sandbox, allow_redirects=False)
    assert first.status_code == status
    followed = discover(http, sandbox)
    assert followed.url.startswith(base)
    assert followed.ok is base.startswith("https:")
    assert base.startswith(f"{sandbox.issuer.requests[-1].scheme}:")


def test_redirect_to_anywhere(sandbox: Sandbox, http: requests.Session) -> None:
    """Fault 47: a redirect may point at any URL, such as a metadata service."""
    target = "http://169.254.169.254/latest/meta-data"
    sandbox.issuer.faults.add(Redirect(target))
    assert discover(http, sandbox, allow_redirects=False).headers["Location"] == target


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("invalid_client", 401),
        ("invalid_scope", 400),
        ("unauthorized_client", 400),
        ("server_error", 500),
        ("temporarily_unavailable", 503),
    ],
)
def test_faults_08_09_oauth_errors(sandbox: Sandbox, http: requests.Session, code: str, status: int) -> None:
    """Faults 8 and 9: any OAuth error, with the issuer's own shape and status, for one request."""
    sandbox.issuer.faults.add(ServiceError(code), path="/token", times=1)
    answer = ask_for_token(http, sandbox.issuer)
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert ask_for_token(http, sandbox.issuer).ok


@pytest.mark.parametrize("value", [30, -5, 10**12, "soon", ""])
@pytest.mark.parametrize("status", [429, 503])
def test_fault_10_retry_after(sandbox: Sandbox, http: requests.Session, status: int, value: int | str) -> None:
    """Fault 10: Retry-After goes out as it was given, sense or nonsense."""
    sandbox.issuer.faults.add(Answer(status, retry_after=value), times=1)
    answer = discover(http, sandbox)
    assert (answer.status_code, answer.headers["Retry-After"]) == (status, str(value))


def test_fault_10_retry_after_date(sandbox: Sandbox, http: requests.Session) -> None:
    """Fault 10: an aware datetime goes out as an HTTP-date (RFC 9110 §5.6.7)."""
    moment = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    sandbox.sts.faults.add(Answer(503, retry_after=moment))
    answer = http.post(sandbox.sts.url, timeout=TIMEOUT_S)
    assert answer.headers["Retry-After"] == "Wed, 02 Jan 2030 03:04:05 GMT"


def test_rules_of_one_kind_are_a_queue(sandbox: Sandbox, http: requests.Session) -> None:
    """Of each kind the oldest matching rule acts, so answers can be scripted one after the other."""
    for status in (503, 429, 500):
        sandbox.issuer.faults.add(Answer(status), times=1)
    assert [discover(http, sandbox).status_code for _ in range(4)] == [503, 429, 500, 200]


def test_a_rule_can_look_at_the_form(sandbox: Sandbox, http: requests.Session) -> None:
    """``when`` narrows a rule to requests with a certain content."""
    sandbox.issuer.faults.add(ServiceError("invalid_scope"), when=lambda request: request.form.get("scope") == "azure")
    assert not ask_for_token(http, sandbox.issuer, scope="azure").ok
    assert ask_for_token(http, sandbox.issuer, scope="bedrock").ok


def test_clear_turns_everything_off(sandbox: Sandbox, http: requests.Session) -> None:
    """After ``clear`` the server is healthy."""
    sandbox.issuer.faults.add(Answer(500))
    sandbox.issuer.faults.add(SkewedDate(timedelta(hours=1)))
    sandbox.issuer.faults.clear()
    assert discover(http, sandbox).ok


@pytest.mark.parametrize("value", ["3600", 0, -1, 1e12, math.nan, None, []])
def test_fault_13_expires_in(sandbox: Sandbox, http: requests.Session, value: object) -> None:
    """Fault 13: ``expires_in`` can be anything that Python can write, and can be missing."""
    sandbox.issuer.faults.add(Override({"expires_in": value}), times=1)
    sandbox.issuer.faults.add(Override({"expires_in": MISSING}), times=1)
    seen = ask_for_token(http, sandbox.issuer).json()["expires_in"]
    assert repr(seen) == repr(value)  # NaN equals nothing, not even itself
    assert "expires_in" not in ask_for_token(http, sandbox.issuer).json()


@pytest.mark.parametrize("members", [{"token_type": "mac"}, {"access_token": ""}])
def test_fault_14_token_members(sandbox: Sandbox, http: requests.Session, members: dict[str, str]) -> None:
    """Fault 14: a token that is none, at the issuer and at Entra alike."""
    sandbox.issuer.faults.add(Override(members))
    assert members.items() <= ask_for_token(http, sandbox.issuer).json().items()


def test_fault_15_short_lives(sandbox: Sandbox, http: requests.Session) -> None:
    """Fault 15: a life of seconds, per issuer or per client."""
    sandbox.issuer.token_life = timedelta(seconds=30)
    assert ask_for_token(http, sandbox.issuer).json()["expires_in"] == 30
    sandbox.issuer.clients["credrotator"].token_life = timedelta(seconds=5)
    assert ask_for_token(http, sandbox.issuer).json()["expires_in"] == 5


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("Throttling", 400),
        ("SlowDown", 503),
        ("ServiceUnavailable", 503),
        ("InternalFailure", 500),
        ("IDPCommunicationError", 400),
        ("InvalidIdentityToken", 400),
        ("ExpiredTokenException", 400),
        ("AccessDenied", 403),
        ("RegionDisabledException", 403),
        ("SomethingNew", 400),
    ],
)
def test_faults_16_to_20_aws_errors(sandbox: Sandbox, http: requests.Session, code: str, status: int) -> None:
    """Faults 16 to 20: any of AWS's codes, in its XML and with its status."""
    sandbox.sts.faults.add(ServiceError(code))
    answer = http.post(sandbox.sts.url, timeout=TIMEOUT_S)
    assert answer.status_code == status
    assert f"<Code>{code}</Code>" in answer.text
    assert answer.headers["x-amzn-RequestId"] in answer.text


@pytest.mark.parametrize("code", ["7000215", "AADSTS7000222", "700024", "90061", "90033", "50196", "99999"])
def test_fault_22_entra_errors(sandbox: Sandbox, http: requests.Session, code: str) -> None:
    """Fault 22: any AADSTS number, in Entra's JSON."""
    sandbox.entra.faults.add(ServiceError(code, status=418, retry_after=7))
    answer = http.post(f"{sandbox.entra.url}/{DEFAULT_TENANT}/oauth2/v2.0/token", timeout=TIMEOUT_S)
    assert answer.json()["error_codes"] == [int(code.removeprefix("AADSTS"))]
    assert (answer.status_code, answer.headers["Retry-After"]) == (418, "7")


def test_fault_23_skewed_date(sandbox: Sandbox, http: requests.Session, clock: MovableClock) -> None:
    """Fault 23: the Date header alone can lie, or a server's whole clock can, without the others."""
    sandbox.sts.faults.add(SkewedDate(timedelta(minutes=10)))
    sandbox.entra.skew = timedelta(minutes=-10)
    offsets = []
    for service in (sandbox.issuer, sandbox.sts, sandbox.entra):
        date = parsedate_to_datetime(http.get(service.url, timeout=TIMEOUT_S).headers["Date"])
        offsets.append(round((date - clock()) / timedelta(minutes=1)))
    assert offsets == [0, 10, -10]


def test_fault_23_skewed_clock_shows_in_tokens(sandbox: Sandbox, http: requests.Session) -> None:
    """Fault 23: a server whose clock is ahead issues tokens from the future."""
    sandbox.issuer.skew = timedelta(hours=1)
    sandbox.issuer.extra_claims = {"nbf": int(sandbox.issuer.now().timestamp())}
    token = ask_for_token(http, sandbox.issuer).json()["access_token"]
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "RoleArn": "arn:aws:iam::123456789012:role/bedrock",
        "RoleSessionName": "session",
        "WebIdentityToken": token,
    }
    assert "not valid yet" in http.post(sandbox.sts.url, data=form, timeout=TIMEOUT_S).text


def test_the_default_app_is_what_the_docs_say() -> None:
    """The published ids are stable: examples and documentation name them."""
    assert (DEFAULT_TENANT[:8], DEFAULT_APP[:8]) == ("11111111", "aaaaaaaa")
