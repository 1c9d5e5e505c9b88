"""Google Cloud verifies subject tokens, grants and signed assertions as Google's does; google-auth is its client."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.auth import identity_pool
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import Request
from google.oauth2 import service_account
from joserfc import jwt
from joserfc.jwk import RSAKey

from credrotator.sandbox import DEFAULT_ACCOUNT, DEFAULT_CLIENT, DEFAULT_POOL, PoolProvider, Sandbox
from tests.sandbox.conftest import TIMEOUT_S, MovableClock

if TYPE_CHECKING:
    import requests

Prepare = Callable[[Sandbox, MovableClock], str]
AUDIENCE = f"https:{DEFAULT_POOL}"
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "audience": DEFAULT_POOL,
    "scope": CLOUD_PLATFORM,
}
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def subject_token(sandbox: Sandbox, audience: str = AUDIENCE) -> str:
    """Return a token of the sandbox's issuer that the default provider takes."""
    return sandbox.issuer.issue(DEFAULT_CLIENT, audience=audience)


def exchange(session: requests.Session, sandbox: Sandbox, token: str, **form: str) -> requests.Response:
    """Exchange a token; ``form`` replaces parameters."""
    data = {**EXCHANGE, "subject_token": token, **form}
    return session.post(f"{sandbox.google.url}/v1/token", data=data, timeout=TIMEOUT_S)


def impersonate(
    session: requests.Session, sandbox: Sandbox, token: str, email: str = DEFAULT_ACCOUNT, **body: Any
) -> requests.Response:
    """Ask for a service account's token."""
    url = f"{sandbox.google.url}/v1/projects/-/serviceAccounts/{email}:generateAccessToken"
    asked = {"scope": [CLOUD_PLATFORM], "lifetime": "3600s", **body}
    return session.post(url, json=asked, headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT_S)


def whoami(session: requests.Session, sandbox: Sandbox, token: str) -> requests.Response:
    """Prove a token."""
    headers = {"Authorization": f"Bearer {token}"}
    return session.get(f"{sandbox.google.url}/sandbox/whoami", headers=headers, timeout=TIMEOUT_S)


def oauth_error(answer: requests.Response) -> tuple[str, str, int]:
    """Return error, description and status of a refusal by STS or the token endpoint."""
    body = answer.json()
    assert set(body) == {"error", "error_description"}
    return body["error"], body["error_description"], answer.status_code


def api_error(answer: requests.Response) -> tuple[str, int]:
    """Return status and HTTP status of a refusal by an API, after checking its shape."""
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    assert error["message"]
    return error["status"], answer.status_code


def _expired(sandbox: Sandbox, clock: MovableClock) -> str:
    compact = subject_token(sandbox)
    clock.offset = timedelta(minutes=10)
    return compact


def _other_issuer(sandbox: Sandbox, _: MovableClock) -> str:
    sandbox.google.providers[DEFAULT_POOL] = PoolProvider("https://idp.example")
    return subject_token(sandbox)


def _unknown_issuer(sandbox: Sandbox, _: MovableClock) -> str:
    sandbox.google.issuers.distrust(sandbox.issuer.url)
    return subject_token(sandbox)


def _audience(sandbox: Sandbox, _: MovableClock) -> str:
    return subject_token(sandbox, "sts.amazonaws.com")


def _subject(sandbox: Sandbox, _: MovableClock) -> str:
    sandbox.issuer.clients[DEFAULT_CLIENT].subject = "CredRotator"
    return subject_token(sandbox)


def _forged(sandbox: Sandbox, _: MovableClock) -> str:
    compact = subject_token(sandbox)
    sandbox.issuer.rotate_keys(keep_old=False)
    return compact


def _unreachable(sandbox: Sandbox, _: MovableClock) -> str:
    sandbox.google.issuers.trust_foreign(sandbox.issuer.url, sandbox.ca_file)
    compact = subject_token(sandbox)
    sandbox.issuer.stop()
    return compact


def _garbage(_: Sandbox, __: MovableClock) -> str:
    return "a.b.c"


def _disabled(sandbox: Sandbox, _: MovableClock) -> str:
    sandbox.google.providers[DEFAULT_POOL].disabled = True
    return subject_token(sandbox)


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (_expired, ("invalid_grant", 400, "is stale to sign-in")),
        (_other_issuer, ("invalid_grant", 400, "does not match the expected ones: https://idp.example")),
        (_unknown_issuer, ("invalid_grant", 400, "The issuer in ID Token")),
        (_audience, ("invalid_grant", 400, f"[sts.amazonaws.com] does not match the expected audience {AUDIENCE}")),
        (_subject, ("unauthorized_client", 401, "attribute condition")),
        (_forged, ("invalid_grant", 400, "signature")),
        (_unreachable, ("invalid_grant", 400, "Error connecting to the given credential's issuer")),
        (_garbage, ("invalid_request", 400, "ID Token")),
        (_disabled, ("invalid_target", 400, "disabled or deleted")),
    ],
)
def test_refusals_of_a_subject_token(
    sandbox: Sandbox, http: requests.Session, clock: MovableClock, prepare: Prepare, expected: tuple[str, int, str]
) -> None:
    """Each flaw of a token has Google's code and words; the subject is compared case-sensitively."""
    error, said, got = oauth_error(exchange(http, sandbox, prepare(sandbox, clock)))
    assert (error, got) == expected[:2]
    assert expected[2] in said


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"requested_token_type": "x"}, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request"),
        ({"audience": DEFAULT_POOL + "x"}, "invalid_target"),
        ({"audience": ""}, "invalid_target"),
        ({"scope": ""}, "invalid_scope"),
    ],
)
def test_refusals_of_a_request(sandbox: Sandbox, http: requests.Session, form: dict[str, str], code: str) -> None:
    """RFC 8693 §2.2.2: what is wrong with the request itself."""
    assert oauth_error(exchange(http, sandbox, subject_token(sandbox), **form))[0] == code


def test_the_pools_token(sandbox: Sandbox, http: requests.Session) -> None:
    """RFC 8693 §2.2.1, and whom the token stands for."""
    body = exchange(http, sandbox, subject_token(sandbox)).json()
    assert body["token_type"] == "Bearer"
    assert body["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert body["expires_in"] == 3599
    principal = "principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/gateway"
    assert whoami(http, sandbox, body["access_token"]).json()["principal"] == f"{principal}/subject/{DEFAULT_CLIENT}"


def test_audiences_can_be_named(sandbox: Sandbox, http: requests.Session) -> None:
    """Allowed audiences take the place of the provider's own name."""
    sandbox.google.providers[DEFAULT_POOL].audiences = frozenset({"gateway"})
    assert exchange(http, sandbox, subject_token(sandbox, "gateway")).status_code == 200
    assert exchange(http, sandbox, subject_token(sandbox)).status_code == 400


def test_impersonation(sandbox: Sandbox, http: requests.Session, clock: MovableClock) -> None:
    """The account's token for a principal that has been granted it, for as long as asked, and no longer."""
    token = exchange(http, sandbox, subject_token(sandbox)).json()["access_token"]
    body = impersonate(http, sandbox, token, lifetime="60s").json()
    assert set(body) == {"accessToken", "expireTime"}
    assert whoami(http, sandbox, body["accessToken"]).json() == {
        "principal": DEFAULT_ACCOUNT,
        "scopes": [CLOUD_PLATFORM],
    }
    clock.offset = timedelta(seconds=61)
    assert api_error(whoami(http, sandbox, body["accessToken"])) == ("UNAUTHENTICATED", 401)


def test_refusals_of_impersonation(sandbox: Sandbox, http: requests.Session) -> None:
    """AIP-193: no grant, no such account, no token, too long, no scope, an account that is off."""
    token = exchange(http, sandbox, subject_token(sandbox)).json()["access_token"]
    narrow = exchange(http, sandbox, subject_token(sandbox), scope="https://www.googleapis.com/auth/gmail.send")
    account = sandbox.google.accounts[DEFAULT_ACCOUNT]
    assert api_error(impersonate(http, sandbox, "x")) == ("UNAUTHENTICATED", 401)
    assert api_error(impersonate(http, sandbox, token, "x@y.iam.gserviceaccount.com")) == ("NOT_FOUND", 404)
    bodies: list[dict[str, Any]] = [{"lifetime": "3601s"}, {"lifetime": "0s"}, {"lifetime": "1h"}, {"scope": []}]
    for body in (*bodies, {"scope": "x"}):
        assert api_error(impersonate(http, sandbox, token, **body)) == ("INVALID_ARGUMENT", 400)
    denied = impersonate(http, sandbox, narrow.json()["access_token"])
    assert api_error(denied) == ("PERMISSION_DENIED", 403)
    assert denied.json()["error"]["details"][0]["reason"] == "IAM_PERMISSION_DENIED"
    account.disabled = True
    assert api_error(impersonate(http, sandbox, token)) == ("PERMISSION_DENIED", 403)
    account.disabled = False
    account.impersonators.clear()
    assert api_error(impersonate(http, sandbox, token)) == ("PERMISSION_DENIED", 403)


class Assertions:
    """Signed assertions of the default account, sound or with one thing wrong."""

    def __init__(self, sandbox: Sandbox, clock: MovableClock) -> None:
        self.sandbox, self.clock = sandbox, clock
        self.file = json.loads(sandbox.google.accounts[DEFAULT_ACCOUNT].new_key(DEFAULT_ACCOUNT))

    def make(self, *, key_id: str | None = None, key: str | None = None, **changes: Any) -> str:
        now = int(self.clock().timestamp())
        claims = {
            "iss": DEFAULT_ACCOUNT,
            "aud": "https://oauth2.googleapis.com/token",
            "scope": CLOUD_PLATFORM,
            "iat": now,
            "exp": now + 3600,
            **changes,
        }
        signer = RSAKey.import_key(key or self.file["private_key"])
        header = {"alg": "RS256", "kid": key_id or self.file["private_key_id"]}
        return jwt.encode(header, {name: value for name, value in claims.items() if value is not None}, signer)

    def present(self, session: requests.Session, assertion: str, grant_type: str = JWT_BEARER) -> requests.Response:
        form = {"grant_type": grant_type, "assertion": assertion}
        return session.post(f"{self.sandbox.google.url}/token", data=form, timeout=TIMEOUT_S)


def test_assertions(sandbox: Sandbox, http: requests.Session, clock: MovableClock) -> None:
    """RFC 7523 §3: signature by the named key, issuer, audience, times; Google's words for each."""
    assertions = Assertions(sandbox, clock)
    sound = assertions.present(http, assertions.make())
    assert whoami(http, sandbox, sound.json()["access_token"]).json()["principal"] == DEFAULT_ACCOUNT
    now = int(clock().timestamp())
    stranger = RSAKey.generate_key(2048).as_pem(private=True).decode()
    for changes, code, word in (
        ({"iss": "x@y"}, "invalid_grant", "account not found"),
        ({"key_id": "x"}, "invalid_grant", "Invalid JWT Signature"),
        ({"key": stranger}, "invalid_grant", "Invalid JWT Signature"),
        ({"aud": "https://elsewhere.example"}, "invalid_grant", "audience"),
        ({"exp": now + 4000}, "invalid_grant", "short-lived"),
        ({"iat": now - 7200, "exp": now - 3600}, "invalid_grant", "reasonable timeframe"),
        ({"iat": now + 7200, "exp": now + 9000}, "invalid_grant", "reasonable timeframe"),
        ({"exp": None}, "invalid_grant", "short-lived"),
        ({"scope": None}, "invalid_scope", "scope"),
    ):
        error, said, _ = oauth_error(assertions.present(http, assertions.make(**changes)))
        assert error == code
        assert word in said
    assert oauth_error(assertions.present(http, "a.b.c"))[0] == "invalid_grant"
    assert oauth_error(assertions.present(http, assertions.make(), "password"))[0] == "unsupported_grant_type"
    sandbox.google.accounts[DEFAULT_ACCOUNT].disabled = True
    assert "not found" in oauth_error(assertions.present(http, assertions.make()))[1]


def test_whoami_takes_nothing_but_a_good_token(sandbox: Sandbox, http: requests.Session) -> None:
    """A foreign token is 401, one without the scope that Vertex AI wants is 403."""
    assert api_error(whoami(http, sandbox, "ya29.x")) == ("UNAUTHENTICATED", 401)
    body = exchange(http, sandbox, subject_token(sandbox), scope="https://www.googleapis.com/auth/iam").json()
    assert api_error(whoami(http, sandbox, body["access_token"])) == ("PERMISSION_DENIED", 403)


class Supplier(identity_pool.SubjectTokenSupplier):
    """Where google-auth takes the subject token from."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def get_subject_token(self, context: object, request: object) -> str:
        return subject_token(self.sandbox)


def test_google_auth_is_served(sandbox: Sandbox, http: requests.Session) -> None:
    """The library as people use it, unmodified: workload identity with impersonation, and a key file."""
    url = f"{sandbox.google.url}/v1/projects/-/serviceAccounts/{DEFAULT_ACCOUNT}:generateAccessToken"
    pool = identity_pool.Credentials(
        audience=DEFAULT_POOL,
        subject_token_type=EXCHANGE["subject_token_type"],
        token_url=f"{sandbox.google.url}/v1/token",
        subject_token_supplier=Supplier(sandbox),
        service_account_impersonation_url=url,
        scopes=[CLOUD_PLATFORM],
    )
    pool.refresh(Request(http))
    assert whoami(http, sandbox, str(pool.token)).json()["principal"] == DEFAULT_ACCOUNT
    info = json.loads(sandbox.google.accounts[DEFAULT_ACCOUNT].new_key(DEFAULT_ACCOUNT))
    info["token_uri"] = f"{sandbox.google.url}/token"
    account = service_account.Credentials.from_service_account_info(info, scopes=[CLOUD_PLATFORM])
    account.refresh(Request(http))
    assert whoami(http, sandbox, str(account.token)).json()["principal"] == DEFAULT_ACCOUNT
    sandbox.google.accounts[DEFAULT_ACCOUNT].keys.clear()
    with pytest.raises(RefreshError, match="Invalid JWT Signature"):
        account.refresh(Request(http))
