"""Plain client credentials: the issuer's access token is the credential, and nothing but a good one is published."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests

from credrotator.core.errors import Denied, RotationError, Transient
from credrotator.exchange.grants import AccessToken
from credrotator.providers.client_credentials.source import ClientCredentials
from credrotator.sandbox import (
    DEFAULT_CLIENT,
    MISSING,
    Answer,
    CutShort,
    GzipBomb,
    Huge,
    Override,
    ServiceError,
    garbage,
    hostile,
)
from tests.support.exchanging import DISCOVERY, POLICY, TOKEN, Backend, check_showable, refused

if TYPE_CHECKING:
    from credrotator.exchange.exchanger import Exchanger
    from credrotator.sandbox import Fault

MCP = "https://mcp.example"


def get(world: Backend, through: Exchanger | None = None, **changes: Any) -> AccessToken:
    """Get the issuer's token as a credential."""
    source = ClientCredentials(world.oidc(**{"audience": MCP, **changes}))
    found = (through or world.exchanger())(POLICY, source, world.secrets)
    assert isinstance(found, AccessToken)
    return found


def test_the_issuers_token_itself(world: Backend) -> None:
    """RFC 6749 §4.4: one request for each attempt, so that a renewal is another token; for the audience asked for."""
    through = world.exchanger()
    tokens = {get(world, through).token.reveal() for _ in range(2)}
    assert len(tokens) == 2
    asked = world.issuer.requests.matching(TOKEN)
    assert [request.form["audience"] for request in asked] == [MCP, MCP]
    verified = world.sandbox.sts.issuers.verified(tokens.pop())
    assert (verified.subject, MCP in verified.audiences) == (DEFAULT_CLIENT, True)


def test_the_api_takes_it_until_it_is_revoked(world: Backend) -> None:
    """The sandbox's API verifies the issuer's own token, and knows which were taken back."""
    exchange, token = world.sandbox.exchange, get(world).token.reveal()

    def call() -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"}
        where = f"{exchange.url}/sandbox/whoami"
        return requests.get(where, headers=headers, verify=str(world.sandbox.ca_file), timeout=10)

    assert call().json() == {"principal": DEFAULT_CLIENT}
    exchange.revoke(token)
    assert call().status_code == 401


def test_nobody_else_is_asked(world: Backend) -> None:
    """The way of the exchange is the issuer's own."""
    source = ClientCredentials(world.oidc())
    assert world.exchanger().endpoint(source).url == world.issuer.url
    get(world)
    assert all(server.requests.total == 0 for server in world.sandbox.vendors)


def test_an_opaque_token_is_a_credential(world: Backend) -> None:
    """Nobody here has to read it; its end is what the issuer says."""
    world.issuer.access_token_format = "opaque"
    token = get(world)
    assert timedelta(minutes=4) < token.expires_at - world.clock() <= timedelta(minutes=5)
    assert token.token.reveal() not in repr(token)
    assert list(token.secret_data("token")) == ["token"]


def test_never_the_token_that_a_vendor_is_shown(world: Backend) -> None:
    """A token that is published is not the one that is shared for exchanges, and the other way round."""
    through = world.exchanger()
    shown = world.token(through).token.reveal()
    published = get(world, through, audience=None).token.reveal()
    assert published != shown
    assert world.token(through).token.reveal() == shown


UNSOUND: list[dict[str, Any]] = [
    {"access_token": ""},
    {"access_token": MISSING},
    {"access_token": 7},
    {"access_token": "a\nb"},
    {"access_token": "x" * 20_001},
    {"token_type": MISSING},
    {"token_type": "N_A"},
    {"token_type": "DPoP"},
    {"expires_in": 0},
    {"expires_in": "soon"},
    {"expires_in": True},
]


@pytest.mark.parametrize("changes", UNSOUND)
def test_nothing_is_published_that_is_not_called_valid(world: Backend, changes: dict[str, Any]) -> None:
    """Type, end and characters have to be right."""
    world.issuer.faults.add(Override(changes), path=TOKEN)
    with pytest.raises(RotationError) as caught:
        get(world)
    check_showable(caught.value)


def test_the_type_in_another_case(world: Backend) -> None:
    """RFC 6749 §5.1: the value is case insensitive."""
    world.issuer.faults.add(Override({"token_type": "BEARER"}), path=TOKEN)
    get(world)


def test_an_end_that_nobody_tells(world: Backend) -> None:
    """Without expires_in, an opaque token has no known end; a JWT has its own."""
    world.issuer.faults.add(Override({"expires_in": MISSING}), path=TOKEN)
    assert timedelta(minutes=4) < get(world).expires_at - world.clock() <= timedelta(minutes=5)
    world.issuer.access_token_format = "opaque"
    with refused(Transient, "InvalidResponse"):
        get(world)


HOSTILE: list[Fault] = [*garbage().values(), hostile("invalid_client"), Huge(), GzipBomb(), CutShort(), Answer(503)]


@pytest.mark.parametrize("fault", HOSTILE, ids=lambda fault: type(fault).__name__)
def test_hostile_answers(world: Backend, fault: Fault) -> None:
    """Whatever is answered ends in a classed error that shows nothing secret."""
    world.issuer.faults.add(fault, path=TOKEN)
    with pytest.raises(RotationError) as caught:
        get(world)
    check_showable(caught.value)


def test_what_the_issuer_refuses(world: Backend) -> None:
    """The issuer's refusals are as they always are, and so is the operator's word on issuers."""
    world.issuer.faults.add(ServiceError("invalid_client"), path=TOKEN)
    with refused(Denied, "InvalidClient"):
        get(world)
    asked = world.issuer.requests.count(DISCOVERY)
    with refused(Denied, "IssuerNotAllowed"):
        get(world, world.exchanger("https://idp.example"))
    assert world.issuer.requests.count(DISCOVERY) == asked
