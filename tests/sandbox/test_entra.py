"""Entra verifies secrets and federated assertions as Microsoft's does; azure-identity and msal are its clients."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from credrotator.sandbox import (
    DEFAULT_APP,
    DEFAULT_APP_SECRET,
    DEFAULT_CLIENT,
    DEFAULT_TENANT,
    FederatedCredential,
    Sandbox,
)
from tests.sandbox.conftest import TIMEOUT_S, MovableClock

if TYPE_CHECKING:
    import requests
from tests.sandbox.entracalls import RESOURCE, SCOPE, ask, ask_with_assertion, assertion, refusal, whoami

Prepare = Callable[[Sandbox, MovableClock], str]


def _expired(sandbox: Sandbox, clock: MovableClock) -> str:
    compact = assertion(sandbox)
    clock.offset = timedelta(minutes=10)
    return compact


def _not_yet(sandbox: Sandbox, _: MovableClock) -> str:
    sandbox.issuer.skew = timedelta(minutes=10)
    return assertion(sandbox)


def _unknown_issuer(sandbox: Sandbox, _: MovableClock) -> str:
    sandbox.entra.tenants[DEFAULT_TENANT][DEFAULT_APP].federated = [FederatedCredential("https://x", DEFAULT_CLIENT)]
    return assertion(sandbox)


def _distrusted_issuer(sandbox: Sandbox, _: MovableClock) -> str:
    sandbox.entra.issuers.distrust(sandbox.issuer.url)
    return assertion(sandbox)


def _wrong_audience(sandbox: Sandbox, _: MovableClock) -> str:
    return sandbox.issuer.issue(DEFAULT_CLIENT, audience="sts.amazonaws.com")


def _wrong_subject(sandbox: Sandbox, _: MovableClock) -> str:
    sandbox.issuer.clients[DEFAULT_CLIENT].subject = "CredRotator"
    return assertion(sandbox)


def _forged(sandbox: Sandbox, _: MovableClock) -> str:
    compact = assertion(sandbox)
    sandbox.issuer.rotate_keys(keep_old=False)
    return compact


def _unreachable(sandbox: Sandbox, _: MovableClock) -> str:
    sandbox.entra.issuers.trust_foreign(sandbox.issuer.url, sandbox.ca_file)
    compact = assertion(sandbox)
    sandbox.issuer.stop()
    return compact


def _garbage(_: Sandbox, __: MovableClock) -> str:
    return "a.b.c"


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (_expired, (700024, "invalid_client", 401)),
        (_not_yet, (700024, "invalid_client", 401)),
        (_unknown_issuer, (700211, "invalid_client", 401)),
        (_distrusted_issuer, (700211, "invalid_client", 401)),
        (_wrong_audience, (700212, "invalid_client", 401)),
        (_wrong_subject, (700213, "invalid_client", 401)),
        (_forged, (700027, "invalid_client", 401)),
        (_garbage, (700027, "invalid_client", 401)),
        (_unreachable, (90061, "invalid_request", 400)),
    ],
)
def test_refusals_of_an_assertion(
    sandbox: Sandbox, http: requests.Session, clock: MovableClock, prepare: Prepare, expected: tuple[int, str, int]
) -> None:
    """Fault 22: each flaw of an assertion has its own AADSTS code; the subject is compared case-sensitively."""
    assert refusal(ask_with_assertion(http, sandbox, prepare(sandbox, clock))) == expected


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"client_secret": "wrong"}, (7000215, "invalid_client", 401)),
        ({"client_secret": ""}, (7000218, "invalid_client", 401)),
        ({"client_id": "ffffffff-0000-0000-0000-000000000000"}, (700016, "unauthorized_client", 400)),
        ({"tenant": "99999999-0000-0000-0000-000000000000"}, (90002, "invalid_request", 400)),
        ({"scope": RESOURCE}, (1002012, "invalid_scope", 400)),
        ({"scope": f"{SCOPE} https://vault.azure.net/.default"}, (70011, "invalid_scope", 400)),
        ({"scope": "openid"}, (70011, "invalid_scope", 400)),
        ({"scope": ""}, (900144, "invalid_request", 400)),
        ({"grant_type": "password"}, (70003, "unsupported_grant_type", 400)),
    ],
)
def test_refusals_of_a_request(
    sandbox: Sandbox, http: requests.Session, form: dict[str, str], expected: tuple[int, str, int]
) -> None:
    """The published AADSTS codes: secret, application, tenant, scope, parameters."""
    assert refusal(ask(http, sandbox, **{"client_secret": DEFAULT_APP_SECRET, **form})) == expected


def test_an_expired_secret_has_its_own_code(sandbox: Sandbox, http: requests.Session, clock: MovableClock) -> None:
    """Fault 22: AADSTS7000222, from the secret's expiry on, and not before."""
    app = sandbox.entra.tenants[DEFAULT_TENANT][DEFAULT_APP]
    app.secrets["short"] = clock() + timedelta(hours=1)
    assert ask(http, sandbox, client_secret="short").status_code == 200
    clock.offset = timedelta(hours=2)
    assert refusal(ask(http, sandbox, client_secret="short"))[0] == 7000222


def test_what_sdks_add_to_the_scope_is_tolerated(sandbox: Sandbox, http: requests.Session) -> None:
    """Go's SDK adds ``openid offline_access profile``; the resource alone decides."""
    answer = ask(http, sandbox, client_secret=DEFAULT_APP_SECRET, scope=f"openid offline_access {SCOPE} profile")
    assert whoami(http, sandbox, answer.json()["access_token"]).json()["aud"] == RESOURCE


def test_resources_can_be_limited(sandbox: Sandbox, http: requests.Session) -> None:
    """AADSTS500011: the tenant does not know the resource."""
    sandbox.entra.resources = {"https://vault.azure.net"}
    assert refusal(ask(http, sandbox, client_secret=DEFAULT_APP_SECRET))[:2] == (500011, "invalid_resource")


def test_lives_are_as_set(sandbox: Sandbox, http: requests.Session) -> None:
    """``expires_in`` and ``ext_expires_in`` are whole seconds, the second as long as the first unless set."""
    sandbox.entra.token_life = timedelta(seconds=75)
    body = ask(http, sandbox, client_secret=DEFAULT_APP_SECRET).json()
    assert (body["expires_in"], body["ext_expires_in"]) == (75, 75)
    sandbox.entra.extended_life = timedelta(hours=24)
    assert ask(http, sandbox, client_secret=DEFAULT_APP_SECRET).json()["ext_expires_in"] == 86_400


def test_whoami_takes_nothing_but_a_good_token(sandbox: Sandbox, http: requests.Session, clock: MovableClock) -> None:
    """RFC 6750 §3.1: a foreign, altered, expired or missing token is 401 invalid_token; a wrong audience 403."""
    token = ask(http, sandbox, client_secret=DEFAULT_APP_SECRET).json()["access_token"]
    altered = token[:-5] + ("AAAAA" if token[-5:] != "AAAAA" else "BBBBB")
    forged = jwt.encode(
        {"alg": "HS256"}, {"iss": f"{sandbox.entra.url}/{DEFAULT_TENANT}/v2.0"}, OctKey.generate_key(256)
    )
    assert whoami(http, sandbox, token, audience=RESOURCE).status_code == 200
    assert whoami(http, sandbox, token, audience="https://vault.azure.net").status_code == 403
    for bad in (assertion(sandbox), altered, forged, "", "x"):
        assert whoami(http, sandbox, bad).status_code == 401
    clock.offset = timedelta(hours=1)
    assert whoami(http, sandbox, token).headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')


def test_keys_of_an_unknown_tenant_are_not_published(sandbox: Sandbox, http: requests.Session) -> None:
    """Every tenant path answers for that tenant only."""
    for path in ("v2.0/.well-known/openid-configuration", "discovery/v2.0/keys"):
        assert http.get(f"{sandbox.entra.url}/{DEFAULT_TENANT}/{path}", timeout=TIMEOUT_S).status_code == 200
        assert refusal(http.get(f"{sandbox.entra.url}/nobody/{path}", timeout=TIMEOUT_S))[0] == 90002
