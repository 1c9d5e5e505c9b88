"""Discovery: whose document it must be, when it is asked, and when a secret stays at home (OIDC Discovery 1.0 §4)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.errors import Denied, PolicyError, RotationError, Transient
from credrotator.sandbox import MISSING, Answer, Override, Redirect
from tests.support.exchanging import DISCOVERY, TOKEN, Backend, refused

if TYPE_CHECKING:
    from collections.abc import Callable


def says(world: Backend, **members: Any) -> None:
    """Let discovery say something else."""
    world.issuer.faults.add(Override(members), path=DISCOVERY)


def caches_for(world: Backend, header: str | None) -> None:
    """Let discovery carry this Cache-Control."""
    headers = {} if header is None else {"Cache-Control": header}
    world.issuer.faults.add(Answer(body=json.dumps(world.issuer.discovery_document()), headers=headers), path=DISCOVERY)


def test_fault_03_another_issuer(world: Backend) -> None:
    """Fault 3: an issuer that calls itself otherwise is refused, and no client secret is sent."""
    says(world, issuer="https://elsewhere.example")
    with refused(PolicyError, "IssuerMismatch") as caught:
        world.token()
    assert "https://elsewhere.example" in caught.value.message
    assert world.issuer.requests.count(TOKEN) == 0
    assert all("Authorization" not in request.headers for request in world.issuer.requests)


def test_the_trailing_slash_is_named(world: Backend) -> None:
    """G25: a slash too many is found out by its name, and the hint shows what to write."""
    with refused(PolicyError, "IssuerMismatch") as caught:
        world.token(world.exchanger("https://*", "https://*/"), issuer=world.issuer.url + "/")
    assert "trailing slash" in caught.value.message
    assert world.issuer.url in caught.value.hint
    assert world.issuer.requests.count(TOKEN) == 0


@pytest.mark.parametrize("found", [MISSING, None, 7, ["x"], "", "HTTPS://LOCALHOST"])
def test_an_issuer_that_is_none(world: Backend, found: object) -> None:
    """OIDC Discovery 1.0 §4.3: exactly equal; missing, of another type or case is not."""
    says(world, issuer=found)
    with refused(PolicyError, "IssuerMismatch") as caught:
        world.token()
    assert "no text" not in f"{caught.value.message} {caught.value.hint}"
    if not isinstance(found, str) or not found:
        assert "write provider.issuer as" not in caught.value.hint


@pytest.mark.parametrize("template", ["{tenantid}", "{tenant}", "{realm}"])
def test_a_document_for_all_tenants(world: Backend, template: str) -> None:
    """An issuer that is a template is nobody's: one tenant has to be named, and the braces are not to be copied."""
    says(world, issuer=f"https://login.example.com/{template}/v2.0")
    with refused(PolicyError, "IssuerMismatch") as caught:
        world.token()
    assert "all tenants" in caught.value.message
    assert "in place of the braces" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "word"),
    [(str.upper, "capital letters"), (lambda url: url.replace("https", "http"), "http and https")],
    ids=["case", "scheme"],
)
def test_how_the_names_differ(world: Backend, change: Callable[[str], str], word: str) -> None:
    """A difference that is hard to see is named."""
    says(world, issuer=change(world.issuer.url))
    with refused(PolicyError, "IssuerMismatch") as caught:
        world.token()
    assert word in caught.value.message


def test_a_policys_own_endpoint_needs_no_discovery(world: Backend) -> None:
    """G25: with an explicit tokenEndpoint the issuer is never asked for its document."""
    world.token(token_endpoint=world.issuer.url + TOKEN)
    assert [request.path for request in world.issuer.requests] == [TOKEN]


def test_g17_a_policys_own_endpoint_is_on_the_list(world: Backend) -> None:
    """G17: an allowed issuer does not make any tokenEndpoint beside it allowed; nothing is sent there."""
    other = world.sandbox.add_issuer()
    with refused(Denied, "IssuerNotAllowed"):
        world.token(world.exchanger(world.issuer.url), token_endpoint=other.url + TOKEN)
    assert other.requests.total == 0


def test_security_11_another_realm_of_a_shared_host(world: Backend) -> None:
    """Security 11: an endpoint beside the allowed issuer's own path is another tenant's, and gets no secret."""
    ours = f"{world.issuer.url}/realms/ours"
    exchanger = world.exchanger(ours, f"{ours}/*")
    for path in ("/realms/theirs/token", "/realms/ours/../theirs/token", "/realms/ours%2f..%2ftheirs/token", "/token"):
        with refused(Denied, "IssuerNotAllowed"):
            world.token(exchanger, issuer=ours, token_endpoint=world.issuer.url + path)
    assert world.issuer.requests.total == 0


def test_security_11_a_token_of_another_issuer(world: Backend) -> None:
    """Security 11: with a list, a token that names an issuer beside the list is shown to nobody."""
    world.issuer.extra_claims = {"iss": "https://other.example"}
    with refused(Denied, "IssuerNotAllowed") as caught:
        world.exchange_aws()
    assert "https://other.example" in caught.value.message
    assert world.sandbox.sts.requests.total == 0
    with refused(Denied, "InvalidIdentityToken"):
        world.exchange_aws(world.exchanger(world.issuer.url, "https://other.example"))


def test_fault_05_a_discovered_endpoint_elsewhere(world: Backend) -> None:
    """Fault 5: an endpoint elsewhere is used when discovery over TLS names it (and the address may be named)."""
    other = world.sandbox.add_issuer()
    other.extra_claims = {"iss": world.issuer.url}
    says(world, token_endpoint=other.url + TOKEN)
    world.token(world.exchanger(world.issuer.url, f"{other.url}/*"))
    assert other.requests.count(TOKEN) == 1
    assert world.issuer.requests.count(TOKEN) == 0


def test_g17_a_discovered_endpoint_is_guarded(world: Backend) -> None:
    """Fault 47: a named issuer cannot send the secret on to a local address that nobody named."""
    other = world.sandbox.add_issuer()
    says(world, token_endpoint=other.url + TOKEN)
    with refused(Denied, "IssuerAddressForbidden"):
        world.token(world.exchanger(world.issuer.url))
    assert other.requests.total == 0


@pytest.mark.parametrize(
    "endpoint",
    [
        MISSING,
        7,
        "",
        "/token",
        "ftp://localhost/token",
        "https://",
        "https://[bad",
        "https://localhost:99999/",
        "https://user:word@localhost/token",
        "https://localhost/token#x",
    ],
)
def test_an_endpoint_that_is_none(world: Backend, endpoint: object) -> None:
    """What discovery names must be an address; anything else is a refusal, not a crash."""
    says(world, token_endpoint=endpoint)
    with refused(Denied, "DiscoveryFailed"):
        world.token()


def test_fault_04_a_discovered_endpoint_in_the_clear(world: Backend) -> None:
    """Fault 4: discovery cannot lead to plain http; no secret is sent."""
    says(world, token_endpoint=f"http://localhost:{world.issuer.port}/token")
    with refused(Denied, "InsecureIssuer"):
        world.token()
    assert world.issuer.requests.count(TOKEN) == 0


@pytest.mark.parametrize(
    ("header", "held_s"),
    [
        ("public, max-age=60", 60),
        ("max-age=7200", 7200),
        ("s-maxage=5, max-age=60", 60),
        ("max-age=999999999", 86_400),
        (None, 600),
        ("max-age=soon", 600),
    ],
)
def test_g25_discovery_is_cached_for_its_http_lifetime(world: Backend, header: str | None, held_s: int) -> None:
    """G25: discovery is asked once per lifetime that its answer allows, at most a day, 10 min where it says nothing."""
    caches_for(world, header)
    exchanger = world.exchanger()
    moments = [("openid", 0, 1), ("profile", held_s - 20, 1), ("email", held_s + 20, 2)]
    for scope, moment, wanted in moments:
        # Another scope each time, so that no token answers in place of the document.
        world.clock.offset = timedelta(seconds=moment)
        world.token(exchanger, scopes=(scope,))
        assert world.issuer.requests.count(DISCOVERY) == wanted, moment


def test_max_age_zero_is_not_cached(world: Backend) -> None:
    """RFC 9111 §5.2.2.1: max-age=0 is stale at once."""
    caches_for(world, "max-age=0")
    exchanger = world.exchanger()
    for scope in ("openid", "profile"):
        world.token(exchanger, scopes=(scope,))
    assert world.issuer.requests.count(DISCOVERY) == 2


def test_discovery_is_shared_by_clients(world: Backend) -> None:
    """G25: one document serves all policies of an issuer."""
    exchanger = world.exchanger()
    for scope in ("openid", "profile", "email"):
        world.token(exchanger, scopes=(scope,))
    assert world.issuer.requests.count(DISCOVERY) == 1
    assert world.issuer.requests.count(TOKEN) == 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_fault_07_discovery_follows_its_own_origin(world: Backend, status: int) -> None:
    """Fault 7: a redirect of discovery is followed on the same origin, by https."""
    world.issuer.faults.add(Redirect("same-origin", status), path=DISCOVERY)
    world.token()
    assert world.issuer.requests.count(DISCOVERY) == 2


@pytest.mark.parametrize("to", ["other-origin", "http", "https://user@localhost/", "https://[bad", "\xff", "//evil"])
def test_fault_07_discovery_goes_nowhere_else(world: Backend, to: str) -> None:
    """Fault 7: any other redirect is refused, whatever its Location is; nobody is asked and no secret sent."""
    world.issuer.faults.add(Redirect(to), path=DISCOVERY)
    with pytest.raises(RotationError) as caught:
        world.token()
    assert caught.value.reason in {"RedirectRefused", "InvalidResponse"}
    assert world.issuer.requests.total == 1


def test_fault_07_never_led_on_in_the_clear(world: Backend) -> None:
    """Fault 7: what an issuer in the clear redirects to may come from anybody, on its own origin too."""
    clear = world.sandbox.add_issuer(scheme="http")
    clear.faults.add(Redirect("same-origin"), path=DISCOVERY)
    with refused(Denied, "RedirectRefused"):
        world.token(world.exchanger(clear.url), issuer=clear.url)
    assert clear.requests.total == 1


def test_fault_07_a_loop_of_redirects_ends(world: Backend) -> None:
    """Fault 7: discovery is led on a few times, not for ever."""
    world.issuer.faults.add(Redirect(f"{world.issuer.url}{DISCOVERY}"), path=DISCOVERY)
    with refused(Denied, "RedirectRefused"):
        world.token()
    assert world.issuer.requests.total <= 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_no_document(world: Backend, status: int) -> None:
    """An issuer without a document is refused with what to do; its body is not shown (G19)."""
    world.issuer.faults.add(Answer(status, "<html>canary</html>"), path=DISCOVERY)
    with refused(Denied, "DiscoveryFailed") as caught:
        world.token()
    assert "canary" not in caught.value.message
    assert "tokenEndpoint" in caught.value.hint


def test_discovery_fails_once_for_all(world: Backend) -> None:
    """I7: an issuer that just failed is not asked again by the next policy."""
    world.issuer.faults.add(Answer(500), path=DISCOVERY)
    exchanger = world.exchanger()
    for scope in ("openid", "profile", "email"):
        with refused(Transient, "IssuerFailed"):
            world.token(exchanger, scopes=(scope,))
    assert world.issuer.requests.total == 1


def test_fault_58_of_discovery_little_is_kept(world: Backend) -> None:
    """A mebibyte of methods and of what else there is leaves some hundred bytes."""
    long = ["x" * 1000 for _ in range(500)]
    says(world, token_endpoint_auth_methods_supported=[*long, "client_secret_post"], more=long)
    exchanger = world.exchanger()
    metadata = exchanger.issuers.metadata(world.issuer.url)
    assert metadata.auth_methods[0] == "client_secret_post"
    assert sum(map(len, metadata.auth_methods)) < 2000


def test_fault_58_an_endpoint_without_end_is_none(world: Backend) -> None:
    """What would be kept for as long as a discovery lives is not as long as an issuer likes."""
    says(world, token_endpoint=f"{world.issuer.url}/{'x' * 10_000}")
    with refused(Denied, "DiscoveryFailed"):
        world.token()
