"""Token endpoints that a policy names: what is sent, where to, and what is made of the answer."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests

from credrotator.core.claims import read_claims
from credrotator.core.errors import Denied, RotationError, Transient
from credrotator.core.model import ObjectKey, ServiceAccountToken, SubjectToken, TokenFile
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.grants import AccessToken
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.providers import PROVIDERS
from credrotator.providers.token_exchange.any_endpoint import AnyTokenEndpoint
from credrotator.providers.token_exchange.source import TokenExchange
from credrotator.sandbox import (
    DEFAULT_CLIENT,
    MISSING,
    Answer,
    CutShort,
    GzipBomb,
    Huge,
    Override,
    Redirect,
    SkewedDate,
    garbage,
    hostile,
)
from tests.support.exchanging import POLICY, TOKEN, Backend, check_showable, refused

if TYPE_CHECKING:
    from pathlib import Path

    from credrotator.sandbox import Fault

AUDIENCE = "https://exchange.example"
MCP, TOOLS = "https://mcp.example", "https://tools.example"
TYPE = "urn:ietf:params:oauth:token-type:"


def by_exchange(world: Backend, **changes: Any) -> TokenExchange:
    """Describe a policy that the sandbox's endpoint serves."""
    endpoint = f"{world.sandbox.exchange.url}/token"
    return replace(TokenExchange(world.oidc(audience=AUDIENCE), endpoint, "token-exchange", "form"), **changes)


def exchanger(world: Backend) -> Exchanger:
    """Make an exchanger whose operator names issuer and endpoint."""
    return world.exchanger(world.issuer.url, f"{world.sandbox.exchange.url}/*")


def get(world: Backend, source: TokenExchange, through: Exchanger | None = None) -> AccessToken:
    """Get a token."""
    found = (through or exchanger(world))(POLICY, source, world.secrets)
    assert isinstance(found, AccessToken)
    return found


def who(world: Backend, token: str) -> requests.Response:
    """Ask an API that takes the endpoint's tokens."""
    with requests.Session() as session:
        session.trust_env = False
        url = f"{world.sandbox.exchange.url}/sandbox/whoami"
        return session.get(
            url, headers={"Authorization": f"Bearer {token}"}, verify=str(world.sandbox.ca_file), timeout=10
        )


def test_a_form_on_the_wire(world: Backend) -> None:
    """RFC 8693 §2.1: the standard's parameters, each resource by itself, further ones, and nothing else."""
    source = by_exchange(
        world,
        audience=MCP,
        resources=(MCP, TOOLS),
        scopes=("tools", "models"),
        requested_token_type="access_token",
        parameters=(("client_id", "gateway"), ("tenant", "a b&c")),
    )
    world.sandbox.exchange.parameters = {"client_id": "gateway", "tenant": "a b&c"}
    token = get(world, source)
    (request,) = world.sandbox.exchange.requests.matching(TOKEN)
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    form = request.form.to_dict(flat=False)
    assert form.pop("subject_token")[0].count(".") == 2
    assert form == {
        "grant_type": ["urn:ietf:params:oauth:grant-type:token-exchange"],
        "subject_token_type": [f"{TYPE}jwt"],
        "requested_token_type": [f"{TYPE}access_token"],
        "audience": [MCP],
        "resource": [MCP, TOOLS],
        "scope": ["tools models"],
        "client_id": ["gateway"],
        "tenant": ["a b&c"],
    }
    assert who(world, token.token.reveal()).json() == {"principal": DEFAULT_CLIENT}
    world.sandbox.exchange.revoke(token.token.reveal())
    assert who(world, token.token.reveal()).status_code == 401


def test_json_and_the_other_grant(world: Backend) -> None:
    """RFC 7523 §2.1 has an assertion, and no token types; JSON carries the same names."""
    get(world, by_exchange(world, grant="jwt-bearer", encoding="json", scopes=("tools",), resources=(MCP,)))
    (request,) = world.sandbox.exchange.requests.matching(TOKEN)
    body = json.loads(request.body)
    assert body.pop("assertion").count(".") == 2
    jwt_bearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert body == {"grant_type": jwt_bearer, "scope": "tools", "resource": MCP}


def test_a_type_that_is_a_uri(world: Backend) -> None:
    """A type of somebody's own is sent as it is."""
    get(world, by_exchange(world, requested_token_type="urn:example:ticket"))
    (request,) = world.sandbox.exchange.requests.matching(TOKEN)
    assert request.form["requested_token_type"] == "urn:example:ticket"


CODES: list[tuple[dict[str, Any], str, str]] = [
    ({"audience": "https://other.example"}, "TokenExchangeInvalidTarget", "audience"),
    ({"scopes": ("root",)}, "TokenExchangeInvalidScope", "scopes"),
    ({"subject_token_type": "saml2"}, "TokenExchangeInvalidRequest", "subjectTokenType"),
]


@pytest.mark.parametrize(("changes", "reason", "hint"), CODES)
def test_what_the_endpoint_refuses(world: Backend, changes: dict[str, Any], reason: str, hint: str) -> None:
    """Each has a reason of its own, and the field to correct."""
    with refused(Denied, reason) as caught:
        get(world, by_exchange(world, **changes))
    assert hint in caught.value.hint


def test_a_subject_that_is_not_trusted(world: Backend) -> None:
    """The endpoint's own words are in the message."""
    world.sandbox.exchange.trusted[0].audience = "other"
    with refused(Denied, "TokenExchangeInvalidGrant") as caught:
        get(world, by_exchange(world))
    assert "audience does not match" in caught.value.message


def allowing(world: Backend, *globs: str, **further: Any) -> Exchanger:
    """Make an exchanger whose operator names just these."""
    settings = ExchangeSettings(AllowedIssuers(globs), str(world.sandbox.ca_file), **further.pop("settings", {}))
    return Exchanger(settings, world.clock, PROVIDERS, world.sandbox.environment(), **further)


def test_with_globs_only_what_one_names(world: Backend) -> None:
    """Security 2: issuer and endpoint are named each by itself; nothing was sent to an endpoint that is not."""
    with refused(Denied, "IssuerNotAllowed") as caught:
        get(world, by_exchange(world), allowing(world, world.issuer.url))
    assert "tokenEndpoint" not in caught.value.hint
    with refused(Denied, "IssuerNotAllowed"):
        get(world, by_exchange(world), allowing(world, f"{world.sandbox.exchange.url}/*"))
    assert world.issuer.requests.count(TOKEN) == 0
    assert world.sandbox.exchange.requests.total == 0


def test_without_globs_no_address_of_this_machine(world: Backend) -> None:
    """Security 2: a policy's author cannot reach what listens on loopback or link-local addresses."""
    source, token = by_exchange(world), world.token(audience=AUDIENCE)
    vendor = allowing(world).vendor(source)
    assert isinstance(vendor, AnyTokenEndpoint)
    with refused(Denied, "TokenExchangeAddressForbidden"):
        vendor.exchange(source, token)
    assert world.sandbox.exchange.requests.total == 0


def test_below_the_issuer_is_the_issuers_own(world: Backend) -> None:
    """An endpoint below an allowed issuer's path needs no glob; another path of its host does."""
    named = allowing(world, f"{world.issuer.url}/realms/ai")
    oidc = world.oidc(issuer=f"{world.issuer.url}/realms/ai")
    inside = by_exchange(world, oidc=oidc, token_endpoint=f"{world.issuer.url}/realms/ai/token")
    assert named.endpoint(inside).url.endswith("/realms/ai/token")
    outside = by_exchange(world, oidc=oidc, token_endpoint=f"{world.issuer.url}/realms/other/token")
    with refused(Denied, "IssuerNotAllowed"):
        named.endpoint(outside)


def test_a_token_file_goes_only_where_the_operator_says(world: Backend, tmp_path: Path) -> None:
    """Security 11's twin: a policy's author must not have a pod's token sent to a server of his own."""
    file = tmp_path / "token"
    file.write_text(world.issuer.issue(DEFAULT_CLIENT, AUDIENCE))
    files = {"token_files": {ObjectKey("", "pod"): file}}
    source = by_exchange(world, oidc=TokenFile("pod"))
    with refused(Denied, "SubjectTokenNotForHere") as caught:
        get(world, source, allowing(world, settings=files))
    assert "--allowed-issuer" in caught.value.hint
    assert world.sandbox.exchange.requests.total == 0
    get(world, source, allowing(world, f"{world.sandbox.exchange.url}/*", settings=files))


def test_a_service_accounts_token_goes_only_where_the_operator_says(world: Backend) -> None:
    """Its audience is the policy's to choose, the API server's own too: it is not even asked for, for other places."""
    asked: list[str] = []

    def account_tokens(account: ObjectKey, audience: str) -> SubjectToken:
        asked.append(f"{account} for {audience}")
        token = Sensitive(world.issuer.issue(DEFAULT_CLIENT, audience))
        return SubjectToken(token, world.clock() + timedelta(minutes=5), read_claims(token) or {})

    source = by_exchange(world, oidc=ServiceAccountToken("gateway", AUDIENCE))
    with refused(Denied, "SubjectTokenNotForHere") as caught:
        get(world, source, allowing(world, account_tokens=account_tokens))
    assert "service account" in caught.value.message
    assert (asked, world.sandbox.exchange.requests.total) == ([], 0)
    get(world, source, allowing(world, f"{world.sandbox.exchange.url}/*", account_tokens=account_tokens))
    assert asked == [f"{POLICY.namespace}/gateway for {AUDIENCE}"]


def test_redirects_are_not_followed(world: Backend) -> None:
    """A token is sent once, to the address that was allowed."""
    world.sandbox.exchange.faults.add(Redirect(f"{world.issuer.url}/token"), path=TOKEN)
    asked = world.issuer.requests.count(TOKEN)
    with refused(Denied, "RedirectRefused"):
        get(world, by_exchange(world))
    assert world.issuer.requests.count(TOKEN) == asked + 1


def test_its_word_on_the_time_is_not_believed(world: Backend) -> None:
    """Fault 68: a tenant's server may not move the clock that all policies go by."""
    clock = SkewedClock(lambda: datetime.now(UTC))
    through = world.exchanger(world.issuer.url, f"{world.sandbox.exchange.url}/*", clock=clock)
    for _ in range(5):
        world.sandbox.exchange.faults.add(SkewedDate(timedelta(hours=3)), times=1)
        get(world, by_exchange(world), through)
    assert abs(clock() - datetime.now(UTC)) < timedelta(minutes=1)


UNSOUND: list[dict[str, Any]] = [
    {"access_token": ""},
    {"access_token": MISSING},
    {"access_token": 7},
    {"access_token": "a\nb"},
    {"access_token": "x" * 20_001},
    {"token_type": MISSING},
    {"token_type": "N_A"},
    {"token_type": "DPoP"},
    {"expires_in": MISSING},
    {"expires_in": 0},
    {"expires_in": "soon"},
    {"expires_in": True},
]


@pytest.mark.parametrize("changes", UNSOUND)
def test_nothing_is_published_that_is_not_called_valid(world: Backend, changes: dict[str, Any]) -> None:
    """Type, end and characters have to be right."""
    world.sandbox.exchange.faults.add(Override(changes), path=TOKEN)
    with pytest.raises(RotationError) as caught:
        get(world, by_exchange(world))
    check_showable(caught.value)


def test_the_type_in_another_case(world: Backend) -> None:
    """RFC 6749 §5.1: the value is case insensitive."""
    world.sandbox.exchange.faults.add(Override({"token_type": "BEARER"}), path=TOKEN)
    get(world, by_exchange(world))


HOSTILE: list[Fault] = [*garbage().values(), hostile("invalid_grant"), Huge(), GzipBomb(), CutShort(), Answer(503)]


@pytest.mark.parametrize("fault", HOSTILE, ids=lambda fault: type(fault).__name__)
def test_hostile_answers(world: Backend, fault: Fault) -> None:
    """Whatever a tenant's server answers ends in a classed error that shows nothing secret."""
    world.sandbox.exchange.faults.add(fault, path=TOKEN)
    with pytest.raises(RotationError) as caught:
        get(world, by_exchange(world))
    check_showable(caught.value)


def test_nobody_pays_for_a_neighbour(world: Backend) -> None:
    """A refusal that limits one namespace's rate is none of another's."""
    through = exchanger(world)
    world.sandbox.exchange.faults.add(Answer(429, retry_after=60), path=TOKEN, times=1)
    with refused(Transient, "TokenExchangeThrottled"):
        get(world, by_exchange(world), through)
    through(ObjectKey("team-b", "models"), by_exchange(world), world.secrets)
