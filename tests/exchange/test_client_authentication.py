"""How a client shows its secret to the issuer, and what is tried when it is refused (RFC 6749 §2.3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.errors import Denied, PolicyError, Transient
from credrotator.sandbox import (
    DEFAULT_CLIENT,
    DEFAULT_CLIENT_SECRET,
    MISSING,
    Answer,
    Client,
    Override,
    Redirect,
    ServiceError,
)
from tests.exchange.token_requests import BASIC, POST, fields, sent
from tests.support.exchanging import DISCOVERY, TOKEN, Backend, refused

if TYPE_CHECKING:
    from credrotator.sandbox import Fault

ODD = "a:b%c+d e/f&g=h?i#jöß漢\"'\\~"


@pytest.mark.parametrize(
    ("methods", "basic"),
    [
        (["client_secret_basic", "client_secret_post"], True),
        (["client_secret_post", "client_secret_basic"], True),
        (["private_key_jwt", "client_secret_post"], False),
        (["client_secret_post"], False),
        (MISSING, True),
        (None, True),
        ([], True),
        ([7, None], True),
        ("client_secret_post", True),
    ],
)
def test_the_issuer_says_how_clients_authenticate(world: Backend, methods: Any, basic: bool) -> None:  # noqa: FBT001
    """OIDC Discovery 1.0 §3: the method is among those offered, basic where it is, or where nothing readable is."""
    world.issuer.faults.add(Override({"token_endpoint_auth_methods_supported": methods}), path=DISCOVERY)
    world.token()
    assert ("Authorization" in sent(world).headers) is basic
    assert ("client_secret" in fields(world)) is not basic
    assert ("client_id" in fields(world)) is not basic


def test_a_method_that_we_do_not_speak(world: Backend) -> None:
    """An issuer that takes neither basic nor post is refused by name, and no secret is sent."""
    offered = ["private_key_jwt", "tls_client_auth"]
    world.issuer.faults.add(Override({"token_endpoint_auth_methods_supported": offered}), path=DISCOVERY)
    with refused(PolicyError, "ClientAuthUnsupported") as caught:
        world.token()
    assert "private_key_jwt" in caught.value.message
    assert world.issuer.requests.count(TOKEN) == 0


@pytest.mark.parametrize("by_discovery", [True, False])
def test_g05_a_second_way_where_the_client_is_refused(world: Backend, by_discovery: bool) -> None:  # noqa: FBT001
    """G5: an issuer may list two ways, or none, and take this client by one alone: the other is tried once."""
    world.issuer.auth_methods = ["client_secret_post"]
    world.issuer.faults.add(Override({"token_endpoint_auth_methods_supported": [BASIC, POST]}), path=DISCOVERY)
    world.token(token_endpoint=None if by_discovery else world.issuer.url + TOKEN)
    first, second = world.issuer.requests.matching(TOKEN)
    assert "Authorization" in first.headers
    assert "Authorization" not in second.headers
    assert second.form["client_secret"] == DEFAULT_CLIENT_SECRET


@pytest.mark.parametrize(
    "fault",
    [
        *(ServiceError(code, status=400) for code in ("invalid_client", "invalid_request", "access_denied", "x")),
        *(ServiceError(code, status=401) for code in ("invalid_request", "access_denied", "unauthorized_client")),
        ServiceError("unauthorized_client"),
        ServiceError("invalid_client", status=403),
        ServiceError("invalid_client_secret", status=200),
        Answer(401, "<html>", content_type="text/html"),
        Answer(400, ""),
        Answer(401, '{"errorCode": "E0000004", "errorSummary": "Authentication failed"}'),
        Answer(400, '{"error": {"code": 400, "message": "no client id"}}'),
    ],
    ids=str,
)
def test_g05_whatever_the_code(world: Backend, fault: Fault) -> None:
    """G5: issuers have many words for a client that they do not take in this way."""
    world.issuer.faults.add(fault, path=TOKEN, when=lambda request: "Authorization" in request.headers)
    world.token()
    assert world.issuer.requests.count(TOKEN) == 2


@pytest.mark.parametrize(
    "fault",
    [
        *(ServiceError(code) for code in ("invalid_scope", "invalid_target", "unsupported_grant_type", "server_error")),
        ServiceError("unauthorized_client", "Client not enabled to retrieve service account", status=401),
        ServiceError("invalid_request", "Requested audience 'x' has not been whitelisted", status=400),
        ServiceError("access_denied", status=403),
        Answer(404),
        Answer(429),
        Redirect(status=308),
    ],
    ids=str,
)
def test_g05_never_a_second_try_otherwise(world: Backend, fault: Fault) -> None:
    """G5: what is refused for another cause is not answered by sending the secret again in another place."""
    world.issuer.faults.add(fault, path=TOKEN)
    with pytest.raises((Denied, Transient)):
        world.token(token_endpoint=world.issuer.url + TOKEN)
    assert world.issuer.requests.total == 1


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_g05_only_what_the_issuer_offers(world: Backend, method: str) -> None:
    """G5: where discovery offers one way there is no other to try."""
    world.issuer.auth_methods = [method]
    world.values["oidc"] = "wrong"
    with refused(Denied, "InvalidClient"):
        world.token()
    assert world.issuer.requests.count(TOKEN) == 1


def test_g05_both_are_named(world: Backend) -> None:
    """G5: a client that is taken in neither way is told which were tried, and what each brought."""
    world.values["oidc"] = "wrong"
    with refused(Denied, "InvalidClient") as caught:
        world.token()
    assert caught.value.message.count("client authentication failed") == 1
    assert "client_secret_basic and client_secret_post" in caught.value.message
    faults = world.issuer.faults
    faults.add(ServiceError("invalid_client", "not like this"), when=lambda request: "Authorization" in request.headers)
    with refused(Denied, "InvalidClient") as caught:
        world.token(client_id="other")
    assert "by client_secret_basic: " in caught.value.message
    assert "not like this; by client_secret_post: " in caught.value.message


@pytest.mark.parametrize("offered", [[BASIC], [POST, BASIC], []])
def test_g05_what_is_said_of_a_broken_header_does_not_decide(world: Backend, offered: list[str]) -> None:
    """G5: an issuer that decodes Basic calls it broken where it is not encoded; the cause is what it said before."""
    world.values["oidc"] = "100% &mine"
    said = "invalid basic auth header"
    faults = world.issuer.faults
    faults.add(Override({"token_endpoint_auth_methods_supported": offered}), path=DISCOVERY)
    for _ in range(len(offered or [BASIC, POST])):
        faults.add(ServiceError("unauthorized_client", "", status=400), path=TOKEN, times=1)
    faults.add(ServiceError("invalid_client", said), path=TOKEN)
    with refused(Denied, "UnauthorizedClient") as caught:
        world.token()
    assert "allow the client-credentials grant" in caught.value.hint
    assert said not in caught.value.message
    assert "without percent-encoding was refused too" in caught.value.message


def test_g05_the_way_that_worked_is_remembered(world: Backend) -> None:
    """G5: per endpoint and client; should it no longer work, the others are tried again."""
    exchanger = world.exchanger()
    world.issuer.clients["twin"] = Client(DEFAULT_CLIENT_SECRET, subject="twin")
    world.issuer.faults.add(Override({"token_endpoint_auth_methods_supported": [BASIC, POST]}), path=DISCOVERY)
    expected = [(POST, "credrotator", 2), (POST, "credrotator", 3), (POST, "twin", 5), (BASIC, "credrotator", 7)]
    for number, (method, client_id, requests) in enumerate(expected):
        world.issuer.auth_methods = [method]
        world.token(exchanger, client_id=client_id, audience=f"a{number}")
        assert world.issuer.requests.count(TOKEN) == requests


@pytest.mark.parametrize("text", ["a b", "p%ss+w/rd=", "ü", "100%"])
@pytest.mark.parametrize("offered", [["client_secret_basic"], ["client_secret_basic", "client_secret_post"], []])
def test_g05_basic_that_is_not_decoded(world: Backend, text: str, offered: list[str]) -> None:
    """G5: an issuer that takes Basic apart without decoding it is sent id and secret as they are, at the end."""
    world.values["oidc"] = text
    world.issuer.decodes_basic = False
    world.issuer.auth_methods = [BASIC]
    world.issuer.clients[DEFAULT_CLIENT] = Client(text, subject=DEFAULT_CLIENT)
    world.issuer.faults.add(Override({"token_endpoint_auth_methods_supported": offered}), path=DISCOVERY)
    exchanger = world.exchanger()
    world.token(exchanger)
    tried = world.issuer.requests.count(TOKEN)
    assert tried == (2 if offered == [BASIC] else 3)
    world.token(exchanger, audience="another")
    assert world.issuer.requests.count(TOKEN) == tried + 1


def test_g05_nothing_to_try_without_odd_characters(world: Backend) -> None:
    """G5: a secret that form-encoding leaves alone is sent in Basic once."""
    world.issuer.auth_methods = [BASIC]
    world.values["oidc"] = "wrong-._~"
    with refused(Denied, "InvalidClient"):
        world.token()
    assert world.issuer.requests.count(TOKEN) == 1


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
@pytest.mark.parametrize("text", [ODD, ":", "%", "+", " ", "/", "a%2Bb", "ü", "-._*~", "x" * 500])
def test_credentials_arrive_as_they_are(world: Backend, method: str, text: str) -> None:
    """RFC 6749 §2.3.1: id and secret are form-encoded before basic joins them, so that any character gets through."""
    world.issuer.auth_methods = [method]
    world.issuer.clients[text] = Client(text, subject="odd")
    world.values["oidc"] = text
    assert world.token(client_id=text).claims["client_id"] == text
