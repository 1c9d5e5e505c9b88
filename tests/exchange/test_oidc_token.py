"""The token request on the wire, what is read from its answer, and how it is shared (RFC 6749 §4.4, §5)."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from credrotator.core.errors import Denied, PolicyError, Transient
from credrotator.core.model import OidcClient
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.issuers.oidc import TokenRequest
from credrotator.sandbox import DEFAULT_CLIENT, DEFAULT_CLIENT_SECRET, MISSING, Client, Latency, ServiceError
from tests.exchange.token_requests import BASIC, POST, answers, fields, sent
from tests.support.exchanging import DISCOVERY, POLICY, TOKEN, Backend, key_ref, refused


def test_the_least_request(world: Backend) -> None:
    """G14: grant type and nothing else that the policy does not name; no scope parameter where it names none."""
    token = world.token()
    assert fields(world) == {"grant_type": ["client_credentials"]}
    assert token.claims["sub"] == DEFAULT_CLIENT
    assert sent(world).method == "POST"
    assert sent(world).headers["Content-Type"].startswith("application/x-www-form-urlencoded")


def test_all_that_a_policy_can_name(world: Backend) -> None:
    """G13, G14, RFC 8707 §2: exactly the policy's scopes, its audience, and each resource as a parameter of its own."""
    resources = ("https://one.example/a?b=c&d", "urn:two:ö")
    token = world.token(scopes=("openid", "bedrock"), audience="https://three.example/", resources=resources)
    assert fields(world) == {
        "grant_type": ["client_credentials"],
        "scope": ["openid bedrock"],
        "audience": ["https://three.example/"],
        "resource": list(resources),
    }
    assert set(resources) < set(token.claims["aud"])  # type: ignore[call-overload]


def test_g11_a_client_id_by_reference(world: Backend) -> None:
    """G11: clientIDRef is read from its Secret."""
    assert world.token(client_id=key_ref("id", "client-id")).claims["client_id"] == DEFAULT_CLIENT


def test_a_secret_that_is_not_there(world: Backend) -> None:
    """Fault 41: the reader's own refusal comes through, and nobody is asked."""
    with refused(PolicyError, "SecretMissing"):
        world.exchange_aws(oidc=world.oidc(client_secret=key_ref("gone")))
    assert world.issuer.requests.total == 0


def test_g29_the_id_token_on_request(world: Backend) -> None:
    """G29: a policy may have the ID token exchanged, opaque access tokens or not."""
    world.issuer.access_token_format = "opaque"
    token = world.token(subject_token="id_token", scopes=("openid",))
    assert token.claims["sub"] == DEFAULT_CLIENT


def test_g29_no_id_token(world: Backend) -> None:
    """G29: an issuer that gives none is refused with what to do."""
    with refused(Denied, "NoIdToken") as caught:
        world.token(subject_token="id_token")
    assert "openid" in caught.value.hint


def test_g29_an_opaque_token(world: Backend) -> None:
    """G29: a token that no vendor can verify is refused before any vendor sees it."""
    world.issuer.access_token_format = "opaque"
    with refused(Denied, "OpaqueToken") as caught:
        world.exchange_aws()
    assert "id_token" in caught.value.hint
    assert world.sandbox.sts.requests.total == 0


@pytest.mark.parametrize("token", ["a.b.c", "..", "eyJ.eyJ.x", "e30.e30.", "bnVsbA.bnVsbA.x", "a.b.c.d.e", "ü.ü.ü"])
def test_a_token_that_only_looks_signed(world: Backend, token: str) -> None:
    """G29: three parts do not make a JWT; header and claims are JSON objects, and the header names an algorithm."""
    answers(world, access_token=token)
    with refused(Denied, "OpaqueToken"):
        world.token()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("DPoP", "DpopRequired"), ("dpop", "DpopRequired"), ("MAC", "TokenTypeUnusable"), ("PoP ", "TokenTypeUnusable")],
)
def test_fault_14_the_token_type(world: Backend, kind: str, reason: str) -> None:
    """Fault 14: a token that is bound to a key is of no use to anybody else; asking again brings another such."""
    answers(world, token_type=kind)
    with refused(Denied, reason):
        world.token()


@pytest.mark.parametrize("kind", ["", None, MISSING, 7, ["Bearer"], "BearerToken", "N_A", "JWT", "\x1b[31m"])
def test_fault_14_an_odd_token_type_is_a_warning(
    world: Backend, kind: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 14: the token is an assertion and no more, so that a JWT of another type, or of none, is used and told."""
    answers(world, token_type=kind)
    with caplog.at_level(logging.WARNING, "credrotator"):
        token = world.token()
    (warning,) = token.warnings
    assert "token_type" in warning
    assert warning.isprintable()
    assert warning in caplog.text


def test_fault_14_an_opaque_token_of_an_odd_type(world: Backend) -> None:
    """Fault 14: what is no JWT is not made one by a warning."""
    world.issuer.access_token_format = "opaque"
    answers(world, token_type="BearerToken")
    with refused(Denied, "OpaqueToken"):
        world.token()


@pytest.mark.parametrize("kind", ["bearer", "BEARER", "Bearer"])
def test_the_token_type_has_no_case(world: Backend, kind: str) -> None:
    """RFC 6749 §5.1: the value is case insensitive."""
    answers(world, token_type=kind)
    assert world.token().claims


@pytest.mark.parametrize("token", [MISSING, 7, {}])
def test_fault_14_no_access_token(world: Backend, token: object) -> None:
    """Fault 14: an answer without a token is no success."""
    answers(world, access_token=token)
    with refused(Transient, "InvalidResponse"):
        world.token()


@pytest.mark.parametrize("token", ["", " ", None])
def test_fault_14_an_empty_access_token(world: Backend, token: object) -> None:
    """Fault 14: an issuer that leaves the token empty does so on purpose; somebody has to look there."""
    answers(world, access_token=token)
    with refused(Denied, "NoAccessToken"):
        world.token()


@pytest.mark.parametrize("inside", ["\n", "\r\nx: y\r\n", "\x1b[31m", "\x00", " ", "\t", "\u2028", "\x85"])
def test_fault_71_a_token_with_control_characters(world: Backend, inside: str) -> None:
    """Fault 71: a token that would add a line, or speak to a terminal, is no token, whatever is to the left of it."""
    token = world.issuer.issue(DEFAULT_CLIENT)
    answers(world, access_token=token[:50] + inside + token[50:])
    with pytest.raises((Transient, Denied)) as caught:
        world.exchange_aws()
    assert caught.value.reason in {"InvalidResponse", "OpaqueToken"}
    assert world.sandbox.sts.requests.total == 0


def test_a_line_end_around_a_token(world: Backend) -> None:
    """What a server puts around a token is left out."""
    answers(world, access_token=f" {world.issuer.issue(DEFAULT_CLIENT)}\r\n")
    assert world.exchange_aws().access_key_id


@pytest.mark.parametrize("error", [None, "", [], {}, False])
def test_an_empty_error_is_none(world: Backend, error: object) -> None:
    """Some issuers send all members of their answer's type each time; an error that says nothing is none."""
    answers(world, error=error, error_description=error)
    assert world.token().claims


@pytest.mark.parametrize(
    ("expires_in", "wanted_s"),
    [("60", 60), (60, 60), (60.5, 60.5), ("60.5", 60.5), (MISSING, 300), (None, 300), (1e12, 300)],
)
def test_fault_13_expires_in(world: Backend, expires_in: object, wanted_s: float) -> None:
    """Fault 13: read in all forms; missing, or longer than the JWT's own exp: the exp holds."""
    answers(world, expires_in=expires_in)
    before = world.clock()
    life = world.token().expires_at - before
    assert wanted_s - 2 < life.total_seconds() < wanted_s + 2


@pytest.mark.parametrize("expires_in", [0, -1, "soon", float("nan"), float("inf"), "Infinity", True, [], {"a": 1}])
def test_fault_13_nonsense(world: Backend, expires_in: object) -> None:
    """Fault 13: nonsense is a refusal, whatever Authlib would make of it."""
    answers(world, expires_in=expires_in)
    with refused(Transient, "InvalidResponse"):
        world.token()


def test_fault_13_without_any_expiry(world: Backend) -> None:
    """Fault 13: neither expires_in nor exp means five minutes; a day at most."""
    world.issuer.extra_claims = {"exp": "never"}
    answers(world, expires_in=MISSING)
    assert timedelta(minutes=4) < world.token().expires_at - world.clock() <= timedelta(minutes=5)


def test_fault_13_a_day_at_most(world: Backend) -> None:
    """Fault 13: clamped to 24 h."""
    world.issuer.token_life = timedelta(days=365)
    assert world.token().expires_at - world.clock() <= timedelta(hours=24)


def test_i6_one_request_for_all(world: Backend) -> None:
    """I6: threads at once, and those who come later while the token is good, share one request."""
    world.issuer.faults.add(Latency(0.1), path=TOKEN)
    exchanger = world.exchanger()
    with ThreadPoolExecutor(16) as pool:
        tokens = list(pool.map(lambda _: world.token(exchanger), range(16)))
    assert len({token.token for token in tokens}) == 1
    assert world.token(exchanger) is tokens[0]
    assert world.issuer.requests.count(TOKEN) == 1
    assert world.issuer.requests.count(DISCOVERY) == 1


def test_i6_policies_share_a_token_not_a_credential(world: Backend) -> None:
    """I6: two policies with one client get two credentials by one token."""
    exchanger = world.exchanger()
    first, second = world.exchange_aws(exchanger), world.exchange_aws(exchanger, region="us-east-1")
    assert first.access_key_id != second.access_key_id
    assert world.issuer.requests.count(TOKEN) == 1
    assert world.sandbox.sts.requests.total == 2


def test_a_token_near_its_end_is_not_shared(world: Backend) -> None:
    """A token is handed out while an exchange with it can succeed: up to 30 s before its end, or half its life."""
    exchanger = world.exchanger()
    world.token(exchanger)
    for moment, wanted in [(265, 1), (275, 2)]:
        world.clock.offset = timedelta(seconds=moment)
        world.token(exchanger)
        assert world.issuer.requests.count(TOKEN) == wanted


def test_fault_42_a_new_client_secret_is_used_at_once(world: Backend) -> None:
    """Faults 8 and 42: another secret is another request, even while the failure of the old one is remembered."""
    exchanger = world.exchanger()
    world.values["oidc"] = "wrong"
    for _ in range(2):
        with refused(Denied, "InvalidClient"):
            world.token(exchanger)
    assert world.issuer.requests.count(TOKEN) == len([BASIC, POST])
    world.values["oidc"] = DEFAULT_CLIENT_SECRET
    world.token(exchanger)
    assert world.issuer.requests.count(TOKEN) == len([BASIC, POST]) + 1


def test_i7_a_failure_is_tried_again_after_seconds(world: Backend) -> None:
    """I7: a failure answers for a few seconds, then the issuer is asked again."""
    exchanger = world.exchanger()
    with world.issuer.faults.add(ServiceError("server_error"), path=TOKEN):
        for _ in range(3):
            with refused(Transient, "IssuerFailed"):
                world.token(exchanger)
    assert world.issuer.requests.count(TOKEN) == 1
    world.clock.offset = timedelta(seconds=11)
    world.token(exchanger)
    assert world.issuer.requests.count(TOKEN) == 2


texts = st.text("ab", max_size=2)


requests = st.builds(
    lambda issuer, endpoint, scopes, resources, audience, kind, who, secret: TokenRequest(
        OidcClient(issuer, "unused", key_ref("oidc"), endpoint, scopes, resources, audience, kind),
        who,
        Sensitive(secret),
    ),
    texts,
    st.none() | texts,
    st.lists(texts, max_size=2).map(tuple),
    st.lists(texts, max_size=2).map(tuple),
    st.none() | texts,
    st.sampled_from(["access_token", "id_token"]),
    texts,
    texts,
)


PARTS = ["issuer", "token_endpoint", "scopes", "resources", "audience", "subject_token", "client_id", "client_secret"]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(one=requests, other=requests, part=st.sampled_from(PARTS))
def test_i6_the_key_is_all_that_is_sent(one: TokenRequest, other: TokenRequest, part: str) -> None:
    """I6: two requests are the same exactly if every part of them is, so no token reaches who did not ask for it."""
    if part in {"client_id", "client_secret"}:
        changed = replace(one, **{part: getattr(other, part)})
        differs = getattr(one, part) != getattr(other, part)
    else:
        changed = replace(one, client=replace(one.client, **{part: getattr(other.client, part)}))
        differs = getattr(one.client, part) != getattr(other.client, part)
    assert (one.key != changed.key) is differs
    assert replace(one).key == one.key


@given(one=requests)
def test_i6_the_key_knows_no_policy(one: TokenRequest) -> None:
    """I6: where a policy's secret lies, and how its client id came about, is no part of what is sent."""
    client = replace(one.client, client_id=key_ref("id"), client_secret=key_ref("elsewhere"))
    assert replace(one, client=client).key == one.key


@pytest.mark.parametrize(
    "changes",
    [
        {"scopes": ("openid",)},
        {"audience": "other"},
        {"resources": ("urn:x",)},
        {"client_id": "twin"},
        {"subject_token": "id_token", "scopes": ("openid",)},
        {"token_endpoint": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_i6_different_requests_get_different_tokens(world: Backend, changes: dict[str, Any]) -> None:
    """I6: whatever differs on the wire is a request of its own."""
    world.issuer.clients["twin"] = Client(DEFAULT_CLIENT_SECRET, subject="twin")
    if "token_endpoint" in changes:
        changes = {"token_endpoint": world.issuer.url + TOKEN}
    exchanger = world.exchanger()
    first, second = world.token(exchanger), world.token(exchanger, **changes)
    assert first.token != second.token
    assert world.issuer.requests.count(TOKEN) == 2


def test_a_token_request_shows_no_secret(world: Backend) -> None:
    """I9: a request and its key can be printed."""
    request = world.exchanger().token_request(POLICY, world.oidc(), world.secrets)
    assert DEFAULT_CLIENT_SECRET not in f"{request!r} {request.key!r}"


def test_i5_an_issuer_is_well_while_its_token_is_good(world: Backend) -> None:
    """Until the token needs to be fetched anew; a failure ends it at once, and only a token begins it."""
    issuer, exchanger = world.issuer.url, world.exchanger()
    assert not exchanger.has_valid_token(issuer)
    world.token(exchanger)
    assert exchanger.has_valid_token(issuer)
    assert not exchanger.has_valid_token("https://elsewhere.example")
    world.issuer.faults.add(ServiceError("invalid_client"))
    with pytest.raises(Denied):
        world.token(exchanger, scopes=("other",))
    assert not exchanger.has_valid_token(issuer)


def test_fault_58_a_token_that_is_too_long(world: Backend) -> None:
    """AWS takes 20 000 characters; what is longer is refused before it is kept, or shown to any vendor."""
    world.issuer.extra_claims = {"padding": "x" * 15_000}
    exchanger = world.exchanger()
    with refused(Denied, "TokenTooLong"):
        world.exchange_aws(exchanger)
    assert world.sandbox.sts.requests.total == 0
    assert not exchanger.issuers._tokens._values
