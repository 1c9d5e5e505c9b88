"""What an issuer's refusals become: class, reason, hint, foreign text that can do no harm (reliability.md 8-12, 46)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.errors import Denied, RotationError, Transient
from credrotator.core.model import ObjectKey, SecretKeyRef
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.http.transport import BODY_LIMIT, LONGEST_RETRY_AFTER, retry_after
from credrotator.sandbox import (
    DEFAULT_CLIENT_SECRET,
    MISSING,
    Answer,
    CutShort,
    Fault,
    GzipBomb,
    Huge,
    Override,
    Redirect,
    ServiceError,
    garbage,
    hostile,
)
from tests.support.exchanging import DISCOVERY, TOKEN, Backend, check_showable, refused

GARBAGE = garbage()
BOTH = pytest.mark.parametrize("path", [DISCOVERY, TOKEN], ids=["discovery", "token"])


def goes_wrong(world: Backend, fault: Fault, path: str = TOKEN) -> None:
    """Let the issuer fail like this."""
    world.issuer.faults.add(fault, path=path)


@pytest.mark.parametrize(
    ("code", "kind", "reason", "named"),
    [
        ("invalid_client", Denied, "InvalidClient", "credrotator"),
        ("invalid_scope", Denied, "InvalidScope", "openid bedrock"),
        ("unauthorized_client", Denied, "UnauthorizedClient", "openid bedrock"),
        ("unsupported_grant_type", Denied, "UnauthorizedClient", "openid bedrock"),
        ("invalid_target", Denied, "InvalidTarget", "urn:aud"),
        ("invalid_request", Denied, "TokenRefused", "invalid_request"),
        ("unheard_of", Denied, "TokenRefused", "unheard_of"),
        ("server_error", Transient, "IssuerFailed", "500"),
        ("temporarily_unavailable", Transient, "IssuerFailed", "503"),
    ],
)
def test_faults_08_09_by_code(world: Backend, code: str, kind: type[RotationError], reason: str, named: str) -> None:
    """Faults 8 and 9: each error of RFC 6749 §5.2 and RFC 8707 §2 has its class; the message names the subject."""
    goes_wrong(world, ServiceError(code, "words of the issuer"))
    with refused(kind, reason) as caught:
        world.token(scopes=("openid", "bedrock"), audience="urn:aud")
    assert named in caught.value.message
    assert "words of the issuer" in caught.value.message or kind is Transient


def test_fault_08_names_the_secret_to_look_at(world: Backend) -> None:
    """Fault 8: a wrong client secret leads to the Secret that holds it."""
    world.values["oidc"] = "wrong"
    with refused(Denied, "InvalidClient") as caught:
        world.token()
    assert "team-a/oidc" in caught.value.hint


def test_an_error_with_status_200(world: Backend) -> None:
    """Some issuers say error with status 200; it is an error all the same."""
    goes_wrong(world, Answer(body='{"error": "invalid_scope"}'))
    with refused(Denied, "InvalidScope"):
        world.token()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 418])
def test_a_refusal_without_json(world: Backend, status: int) -> None:
    """G19: a refusal in HTML is a refusal; its body is not shown."""
    goes_wrong(world, Answer(status, "<html>canary</html>", content_type="text/html"))
    with refused(Denied, "TokenRefused") as caught:
        world.token()
    assert str(status) in caught.value.message
    assert "canary" not in caught.value.message


def test_a_request_that_timed_out_over_there(world: Backend) -> None:
    """RFC 9110 §15.5.9: 408 may be repeated."""
    goes_wrong(world, Answer(408))
    with refused(Transient, "IssuerFailed"):
        world.token()


@pytest.mark.parametrize("code", ["invalid_client", "invalid_scope", "x"])
def test_fault_46_hostile_text(world: Backend, code: str) -> None:
    """Fault 46: control characters are escaped, a megabyte is cut, in every message."""
    goes_wrong(world, hostile(code, 900_000))
    with refused(
        Denied, {"invalid_client": "InvalidClient", "invalid_scope": "InvalidScope"}.get(code, "TokenRefused")
    ):
        world.token()


@pytest.mark.parametrize("member", ["error", "error_description"])
@pytest.mark.parametrize("value", [None, 7, ["x"], {"a": {"b": 1}}, "\x00" * 9, True])
def test_fault_46_odd_types(world: Backend, member: str, value: object) -> None:
    """Fault 46: members of an error that are no text do no harm."""
    goes_wrong(world, Answer(400, json.dumps({"error": "x", "error_description": "y", member: value})))
    with refused(Denied, "TokenRefused"):
        world.token()


@pytest.mark.parametrize("before", [0, 40, 285, 299])
@pytest.mark.parametrize("member", ["error", "error_description"])
def test_i9_the_secret_is_never_echoed(world: Backend, member: str, before: int) -> None:
    """I9: an issuer that repeats the secret, plain or encoded, does not get it into a message, not even half of it."""
    secret = world.values["oidc"] = "canary/secret+with odd:parts"
    said = "." * before + secret + quote_plus(secret)
    goes_wrong(world, Answer(400, json.dumps({"error": "invalid_client", member: said})))
    with pytest.raises(Denied) as caught:
        world.token()
    check_showable(caught.value, secret, quote_plus(secret), "canary")


@BOTH
@pytest.mark.parametrize("name", GARBAGE)
def test_fault_11_garbage(world: Backend, name: str, path: str) -> None:
    """Fault 11: a 200 that is HTML, cut JSON, an array, deeply nested …: transient InvalidResponse, body unshown."""
    goes_wrong(world, GARBAGE[name], path)
    with refused(Transient, "InvalidResponse") as caught:
        world.token()
    assert "Sign in" not in caught.value.message


@BOTH
@pytest.mark.parametrize(
    "fault",
    [Huge(BODY_LIMIT + 1), Huge(1 << 40, declared=True), Huge(1 << 40), GzipBomb(1 << 33)],
    ids=["over", "declared", "endless", "bomb"],
)
def test_fault_12_too_much(world: Backend, fault: Fault, path: str) -> None:
    """Fault 12: at most 1 MiB is read, after decompression."""
    goes_wrong(world, fault, path)
    with refused(Transient, "InvalidResponse") as caught:
        world.token()
    assert "1 MiB" in caught.value.message


def test_fault_12_a_mebibyte_is_read(world: Backend) -> None:
    """Fault 12: the limit is the limit: a body just as long is read."""
    goes_wrong(world, Override({"padding": "x" * (BODY_LIMIT - 4000)}))
    assert world.token().claims


@pytest.mark.parametrize(
    "fault",
    [
        Huge(8 * BODY_LIMIT),
        Answer(body=b"\x1f\x8b garbage", headers={"Content-Encoding": "gzip"}),
        Answer(body="x" * (4 * BODY_LIMIT)),
        CutShort(),
    ],
    ids=["endless", "not gzip", "too long", "cut"],
)
def test_a_rest_is_never_taken_for_an_answer(world: Backend, fault: Fault) -> None:
    """After an answer that was not read to its end, the next request gets its own answer."""
    exchanger = world.exchanger()
    world.issuer.faults.add(fault, path=TOKEN, times=1)
    for scope in ("openid", "profile", "email"):
        try:
            token = world.token(exchanger, scopes=(scope,))
        except Transient as error:
            assert (scope, error.reason) == ("openid", "InvalidResponse")  # noqa: PT017 - only the first may fail
        else:
            assert token.claims["scope"] == scope


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("to", ["same-origin", "other-origin", "https://[bad"])
def test_fault_07_a_token_request_is_never_led_on(world: Backend, status: int, to: str) -> None:
    """Fault 7: a redirected token request is not sent again, or the secret would go along."""
    goes_wrong(world, Redirect(to, status))
    with pytest.raises(RotationError) as caught:
        world.token()
    check_showable(caught.value)
    assert caught.value.reason == ("InvalidResponse" if "bad" in to else "RedirectRefused")
    assert world.issuer.requests.count(TOKEN) == 1


NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted_s"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("0", 0),
        ("999999999999999999999999", 3600),
        ("Tue, 24 Nov 2026 12:02:00 GMT", 120),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0),
        ("Tue, 24 Nov 2099 12:00:00 GMT", 3600),
        ("Tuesday, 24-Nov-26 12:02:00 GMT", 120),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        ("Tue, 99 Nov 2026 12:02:00 GMT", None),
    ],
)
def test_fault_10_retry_after(text: str, wanted_s: int | None) -> None:
    """Fault 10: seconds and dates; garbage and negative numbers mean nothing, huge ones an hour."""
    found = retry_after({"Retry-After": text}, NOW)
    assert found == (None if wanted_s is None else timedelta(seconds=wanted_s))


@given(st.text() | st.from_regex(r"\w{3}, \d{1,3} \w{3} \d{1,6} \d\d:\d\d:\d\d [+-]?\w{1,6}", fullmatch=True))
def test_fault_10_retry_after_is_always_sane(text: str) -> None:
    """Fault 10: whatever stands there, the wait is between nothing and an hour, or none is asked for."""
    found = retry_after({"Retry-After": text}, NOW)
    assert found is None or timedelta(0) <= found <= LONGEST_RETRY_AFTER


@BOTH
@pytest.mark.parametrize(("status", "reason"), [(429, "IssuerThrottled"), (503, "IssuerFailed")])
@pytest.mark.parametrize("wish", [120, "date", "soon", -3])
def test_fault_10_on_the_wire(world: Backend, path: str, status: int, reason: str, wish: Any) -> None:
    """Fault 10: 429 and 503 are transient, with the server's wish where it is readable."""
    date = world.clock() + timedelta(seconds=120)
    goes_wrong(world, Answer(status, retry_after=date if wish == "date" else wish), path)
    with refused(Transient, reason) as caught:
        world.token()
    if wish in (120, "date"):
        assert caught.value.retry_after is not None
        assert 117 < caught.value.retry_after.total_seconds() <= 120
    else:
        assert caught.value.retry_after is None


def test_fault_10_patience_is_for_the_client_and_its_endpoint(world: Backend) -> None:
    """Fault 10: Retry-After holds for whatever that client would ask there, and for nobody else; then it ends."""
    world.issuer.clients["twin"] = world.issuer.clients["credrotator"]
    exchanger = world.exchanger()
    world.issuer.faults.add(Answer(429, retry_after=60), path=TOKEN, times=1)
    for scope in ("openid", "profile", "email"):
        with refused(Transient, "IssuerThrottled") as caught:
            world.token(exchanger, scopes=(scope,))
        assert caught.value.retry_after is not None
    assert world.issuer.requests.count(TOKEN) == 1
    world.token(exchanger, client_id="twin")
    world.clock.offset = timedelta(seconds=61)
    world.token(exchanger, scopes=("openid",))


@pytest.mark.parametrize("words", ["", "the client secret has expired"])
def test_invariant_15_a_shared_refusal_names_the_askers_own_secret(world: Backend, words: str) -> None:
    """Equal requests of two namespaces are one; what each is told names nothing of the other's."""
    world.issuer.faults.add(ServiceError("invalid_client", words), path=TOKEN)
    exchanger, told, asked = world.exchanger(), [], 0
    for namespace in ("team-a", "team-b"):
        name = SecretKeyRef(ObjectKey(namespace, f"secret-of-{namespace}"), "client-secret", "spec.oidc")
        client, policy = world.oidc(client_secret=name), ObjectKey(namespace, "policy")
        request = exchanger.token_request(policy, client, lambda _: Sensitive("wrong"))
        with pytest.raises(Denied) as caught:
            exchanger.issuers.subject_token(request)
        told.append(f"{caught.value.message}; {caught.value.hint}")
        asked = asked or world.issuer.requests.count(TOKEN)
    assert world.issuer.requests.count(TOKEN) == asked
    for text, own, other in zip(told, ("team-a", "team-b"), ("team-b", "team-a"), strict=True):
        assert f"{own}/secret-of-{own}" in text
        assert other not in text


def test_i9_canaries_in_every_refusal(world: Backend) -> None:
    """I9: no refusal shows the client secret or a token; each has a hint and a reason."""
    faults: list[Fault] = [
        *(ServiceError(code, DEFAULT_CLIENT_SECRET) for code in ("invalid_client", "invalid_target", "x")),
        Override({"access_token": MISSING}),
        Override({"expires_in": DEFAULT_CLIENT_SECRET}),
        *GARBAGE.values(),
    ]
    for fault in faults:
        with world.issuer.faults.add(fault, path=TOKEN), pytest.raises(RotationError) as caught:
            world.token()
        check_showable(caught.value)
