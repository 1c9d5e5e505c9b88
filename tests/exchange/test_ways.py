"""Issuers that are reached in a way of their own: a CA that counts for them only, a proxy or none (G26)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import Denied, Transient
from credrotator.exchange.issuers.routes import DIRECT, Way, Ways
from tests.exchange.world import refused

if TYPE_CHECKING:
    from credrotator.sandbox import Proxy
    from tests.exchange.world import World

NOWHERE = "http://localhost:1"


@pytest.fixture
def proxy(world: World) -> Proxy:
    """Run a proxy in front of the sandbox."""
    return world.sandbox.add_proxy()


def issuers(world: World) -> str:
    """Return a glob for the sandbox's issuer."""
    return f"{world.issuer.url}*"


def test_the_first_glob_counts() -> None:
    """CA and proxy are looked for by themselves; an issuer that no glob names goes as all do."""
    ways = Ways(
        (("https://*.corp.example/*", "corp.pem"), ("https://idp.corp.example/*", "never.pem")),
        (("https://idp.corp.example/*", "http://proxy"),),
    )
    assert ways.of("https://idp.corp.example/realms/a") == Way("corp.pem", "http://proxy")
    assert ways.of("https://other.corp.example/x") == Way("corp.pem", None)
    assert ways.of("https://idp.example/x") is None
    assert ways.of("https://evil.example/x.corp.example/") is None


@pytest.mark.parametrize("guarded", [False, True])
def test_g26_an_issuer_with_a_ca_of_its_own(world: World, guarded: bool) -> None:  # noqa: FBT001
    """G26: the issuer is trusted by its CA, for discovery and token; STS, which has the same CA here, is not."""
    own = Ways(ca_files=((issuers(world), str(world.sandbox.ca_file)),))
    elsewhere = Ways(ca_files=(("https://elsewhere.example/*", str(world.sandbox.ca_file)),))
    assert world.token(world.exchanger(ca_file=None, ways=own)).token
    with refused(Denied, "StsTLS"):
        world.exchange_aws(world.exchanger(ca_file=None, ways=own))
    with refused(Denied, "IssuerTLS"):
        world.token(world.exchanger(ca_file=None, ways=elsewhere))
    transport = world.exchanger(ca_file=None, ways=own)._own(world.issuer.url, guarded)
    assert transport is not None
    assert transport.guarded is guarded


def test_g26_an_issuer_with_a_proxy_of_its_own(world: World, proxy: Proxy) -> None:
    """G26: the issuer's requests, and no others, take its proxy, whatever the variables say."""
    ways = Ways(proxies=((issuers(world), proxy.url),))
    environment = {"HTTPS_PROXY": NOWHERE, "NO_PROXY": "localhost"}
    world.exchange_aws(world.exchanger(environment=environment, ways=ways))
    assert set(proxy.targets) == {f"localhost:{world.issuer.port}"}


def test_an_issuer_without_the_proxy_of_all(world: World, proxy: Proxy) -> None:
    """The others' proxy is left out where the operator says so."""
    ways = Ways(proxies=((issuers(world), DIRECT),))
    world.exchange_aws(world.exchanger(environment={"HTTPS_PROXY": proxy.url}, ways=ways))
    assert set(proxy.targets) == {f"localhost:{world.sandbox.sts.port}"}


def test_its_proxy_is_not_bypassed(world: World, proxy: Proxy) -> None:
    """An issuer whose own proxy is down is not reached in another way."""
    proxy.stop()
    with refused(Transient, "ProxyFailed"):
        world.token(world.exchanger(ways=Ways(proxies=((issuers(world), proxy.url),))))
    assert world.issuer.requests.total == 0


def test_a_policy_cannot_reach_what_only_the_operator_may_name(world: World) -> None:
    """A way of its own opens no address: a loopback issuer that nobody allowed stays forbidden."""
    exchanger = world.unlisted(ways=Ways(ca_files=((issuers(world), str(world.sandbox.ca_file)),)))
    with refused(Denied, "IssuerAddressForbidden"):
        world.token(exchanger)
