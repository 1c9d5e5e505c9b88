"""The issuer speaks OIDC Discovery, RFC 6749 and RFC 8707, and its tokens are real."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from credrotator.sandbox import DEFAULT_CLIENT, DEFAULT_CLIENT_SECRET, Client, Sandbox
from tests.sandbox.conftest import TIMEOUT_S, MovableClock, ask_for_token

if TYPE_CHECKING:
    import requests


def claims_of(session: requests.Session, sandbox: Sandbox, compact: str) -> dict[str, Any]:
    """Return the claims after verifying the signature with the published keys."""
    keys = KeySet.import_key_set(session.get(f"{sandbox.issuer.url}/jwks", timeout=TIMEOUT_S).json())
    return dict(jwt.decode(compact, keys, algorithms=["RS256", "ES256"]).claims)


def post_form(session: requests.Session, sandbox: Sandbox, **form: str) -> requests.Response:
    """Ask for a token without a Basic header."""
    form = {"grant_type": "client_credentials", **form}
    return session.post(f"{sandbox.issuer.url}/token", data=form, timeout=TIMEOUT_S)


def test_discovery_names_exactly_the_issuer(sandbox: Sandbox, http: requests.Session) -> None:
    """OIDC Discovery §4.3: ``issuer`` equals the URL that was asked; RFC 9111: it says how long it may be kept."""
    sandbox.issuer.discovery_max_age = timedelta(seconds=90)
    answer = http.get(f"{sandbox.issuer.url}/.well-known/openid-configuration", timeout=TIMEOUT_S)
    assert answer.json()["issuer"] == sandbox.issuer.url
    assert answer.headers["Cache-Control"] == "public, max-age=90"
    assert answer.headers["Content-Type"] == "application/json"


def test_token_carries_what_was_asked(sandbox: Sandbox, http: requests.Session, clock: MovableClock) -> None:
    """RFC 9068 §2.2: iss, sub, aud, client_id, iat, exp, jti and scope stand in a token signed by a published key."""
    sandbox.issuer.token_life = timedelta(seconds=120)
    answer = ask_for_token(http, sandbox.issuer, scope="bedrock azure").json()
    claims = claims_of(http, sandbox, answer["access_token"])
    assert (claims["iss"], claims["sub"], claims["azp"]) == (sandbox.issuer.url, DEFAULT_CLIENT, DEFAULT_CLIENT)
    assert (claims["aud"], claims["scope"]) == ("sts.amazonaws.com", "bedrock azure")
    assert claims["exp"] - claims["iat"] == answer["expires_in"] == 120
    assert abs(claims["iat"] - clock().timestamp()) < 5
    assert answer["token_type"] == "Bearer"


def test_two_tokens_never_equal(sandbox: Sandbox, http: requests.Session) -> None:
    """RFC 7519 §4.1.7: ``jti`` differs for each token."""
    first, second = (ask_for_token(http, sandbox.issuer).json()["access_token"] for _ in range(2))
    assert claims_of(http, sandbox, first)["jti"] != claims_of(http, sandbox, second)["jti"]


@pytest.mark.parametrize(
    ("form", "audience"),
    [
        ({"audience": "api://x"}, "api://x"),
        ({"resource": "https://a.example/"}, "https://a.example/"),
        ({"resource": ["https://a.example/", "https://b.example/"]}, ["https://a.example/", "https://b.example/"]),
        ({"audience": "api://x", "resource": "https://a.example/"}, ["api://x", "https://a.example/"]),
    ],
)
def test_audience_and_resource_become_aud(
    sandbox: Sandbox, http: requests.Session, form: dict[str, Any], audience: str | list[str]
) -> None:
    """RFC 8707 §2: each ``resource``, and the common ``audience``, ends up in ``aud``."""
    token = ask_for_token(http, sandbox.issuer, **form).json()["access_token"]
    assert claims_of(http, sandbox, token)["aud"] == audience


def test_audience_can_be_restricted(sandbox: Sandbox, http: requests.Session) -> None:
    """RFC 8707 §2: a resource that the client may not have is ``invalid_target``."""
    sandbox.issuer.clients[DEFAULT_CLIENT].audiences = frozenset({"sts.amazonaws.com"})
    answer = ask_for_token(http, sandbox.issuer, audience="api://x")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_target")


def test_foreign_scope_is_refused_by_name(sandbox: Sandbox, http: requests.Session) -> None:
    """RFC 6749 §5.2: a scope beyond the client's own is ``invalid_scope``."""
    answer = ask_for_token(http, sandbox.issuer, scope="bedrock admin")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")
    assert "admin" in answer.json()["error_description"]


def test_wrong_secret_and_unknown_client_look_the_same(sandbox: Sandbox, http: requests.Session) -> None:
    """RFC 6749 §5.2: both are 401 ``invalid_client`` with a challenge, and do not tell which it was."""
    wrong = post_form(http, sandbox, client_id=DEFAULT_CLIENT, client_secret="no")
    unknown = post_form(http, sandbox, client_id="nobody", client_secret="no")
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()
    assert wrong.json()["error"] == "invalid_client"
    assert wrong.headers["WWW-Authenticate"].startswith("Basic ")


def test_basic_credentials_are_form_urlencoded(sandbox: Sandbox, http: requests.Session) -> None:
    """RFC 6749 §2.3.1: id and secret are form-urlencoded before they are joined; raw ones with ``+`` or ``%`` fail."""
    sandbox.issuer.clients["a:b"] = Client("p+q%/:ä", subject="odd")
    encoded = base64.b64encode(b"a%3Ab:p%2Bq%25%2F%3A%C3%A4").decode()
    raw = base64.b64encode("a:b:p+q%/:ä".encode()).decode()
    statuses = [
        http.post(
            f"{sandbox.issuer.url}/token",
            data={"grant_type": "client_credentials"},
            headers={"Authorization": f"Basic {value}"},
            timeout=TIMEOUT_S,
        ).status_code
        for value in (encoded, raw, "!!!", base64.b64encode(b"no-colon").decode())
    ]
    assert statuses == [200, 401, 401, 401]


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_only_the_published_method_is_taken(sandbox: Sandbox, http: requests.Session, method: str) -> None:
    """OIDC Discovery §3: a method that ``token_endpoint_auth_methods_supported`` does not list is refused."""
    sandbox.issuer.auth_methods = [method]
    basic = ask_for_token(http, sandbox.issuer).status_code
    posted = post_form(http, sandbox, client_id=DEFAULT_CLIENT, client_secret=DEFAULT_CLIENT_SECRET).status_code
    assert (basic, posted) == ((200, 401) if method == "client_secret_basic" else (401, 200))


def test_other_grants_and_missing_credentials_are_refused(sandbox: Sandbox, http: requests.Session) -> None:
    """RFC 6749 §5.2: another grant is ``unsupported_grant_type``; no credentials at all is ``invalid_client``."""
    grant = ask_for_token(http, sandbox.issuer, grant_type="password")
    assert (grant.status_code, grant.json()["error"]) == (400, "unsupported_grant_type")
    assert post_form(http, sandbox).json()["error"] == "invalid_client"


def test_openid_brings_an_id_token_and_opaque_hides_the_other(sandbox: Sandbox, http: requests.Session) -> None:
    """OIDC Core §3.1.3.3: scope ``openid`` brings an ID token; a switch makes the access token opaque."""
    sandbox.issuer.access_token_format = "opaque"
    answer = ask_for_token(http, sandbox.issuer, scope="openid").json()
    assert "." not in answer["access_token"]
    assert claims_of(http, sandbox, answer["id_token"])["sub"] == DEFAULT_CLIENT


def test_key_rotation_keeps_or_drops_the_old_key(sandbox: Sandbox, http: requests.Session) -> None:
    """RFC 7517 §5: a token verifies as long as its key is in the set, and no longer."""
    old = sandbox.issuer.issue(DEFAULT_CLIENT)
    sandbox.issuer.rotate_keys()
    assert claims_of(http, sandbox, old)["sub"] == DEFAULT_CLIENT
    sandbox.issuer.rotate_keys(keep_old=False)
    with pytest.raises((JoseError, ValueError)):
        claims_of(http, sandbox, old)


def test_jwks_holds_no_private_key(sandbox: Sandbox, http: requests.Session) -> None:
    """RFC 7517 §9.2: no private member leaves the server."""
    published = http.get(f"{sandbox.issuer.url}/jwks", timeout=TIMEOUT_S).json()["keys"][0]
    assert not {"d", "p", "q", "dp", "dq", "qi"} & set(published)
    assert {"kid", "use", "alg"} <= set(published)


def test_authlib_gets_a_token(sandbox: Sandbox) -> None:
    """Authlib's own client, unmodified, is served; it sends the Basic header by default."""
    with OAuth2Session(DEFAULT_CLIENT, DEFAULT_CLIENT_SECRET, scope="bedrock") as client:
        client.trust_env = False
        client.verify = str(sandbox.ca_file)
        token = client.fetch_token(f"{sandbox.issuer.url}/token", grant_type="client_credentials")
    assert token["scope"] == "bedrock"


def test_a_second_issuer_is_another_issuer(sandbox: Sandbox, http: requests.Session) -> None:
    """Each issuer has its own URL, keys and clients, and its own log."""
    other = sandbox.add_issuer()
    assert ask_for_token(http, other).status_code == 200
    assert (other.requests.count("/token"), sandbox.issuer.requests.count("/token")) == (1, 0)
    assert other.url != sandbox.issuer.url
