"""Issuers that are reached in a way of their own: a CA that counts for them only, a proxy or none (G26)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import Denied, Transient
from credrotator.exchange.issuers.routes import DIRECT, IssuerRoute, IssuerRoutes
from tests.support.exchanging import refused

if TYPE_CHECKING:
    from credrotator.sandbox import Proxy
    from tests.support.exchanging import Backend

NOWHERE = "http://localhost:1"


@pytest.fixture
def proxy(world: Backend) -> Proxy:
    """Run a proxy in front of the sandbox."""
    return world.sandbox.add_proxy()


def issuers(world: Backend) -> str:
    """Return a glob for the sandbox's issuer."""
    return f"{world.issuer.url}*"


def test_the_first_glob_counts() -> None:
    """CA and proxy are looked for by themselves; an issuer that no glob names goes as all do."""
    routes = IssuerRoutes(
        (("https://*.corp.example/*", "corp.pem"), ("https://idp.corp.example/*", "never.pem")),
        (("https://idp.corp.example/*", "http://proxy"),),
    )
    assert routes.of("https://idp.corp.example/realms/a") == IssuerRoute("corp.pem", "http://proxy")
    assert routes.of("https://other.corp.example/x") == IssuerRoute("corp.pem", None)
    assert routes.of("https://idp.example/x") is None
    assert routes.of("https://evil.example/x.corp.example/") is None


@pytest.mark.parametrize("guarded", [False, True])
def test_g26_an_issuer_with_a_ca_of_its_own(world: Backend, guarded: bool) -> None:  # noqa: FBT001
    """G26: the issuer is trusted by its CA, for discovery and token; STS, which has the same CA here, is not."""
    own = IssuerRoutes(ca_files=((issuers(world), str(world.sandbox.ca_file)),))
    elsewhere = IssuerRoutes(ca_files=(("https://elsewhere.example/*", str(world.sandbox.ca_file)),))
    assert world.token(world.exchanger(ca_file=None, routes=own)).token
    with refused(Denied, "StsTLS"):
        world.exchange_aws(world.exchanger(ca_file=None, routes=own))
    with refused(Denied, "IssuerTLS"):
        world.token(world.exchanger(ca_file=None, routes=elsewhere))
    transport = world.exchanger(ca_file=None, routes=own)._own(world.issuer.url, guarded)
    assert transport is not None
    assert transport.guarded is guarded


def test_g26_an_issuer_with_a_proxy_of_its_own(world: Backend, proxy: Proxy) -> None:
    """G26: the issuer's requests, and no others, take its proxy, whatever the variables say."""
    routes = IssuerRoutes(proxies=((issuers(world), proxy.url),))
    environment = {"HTTPS_PROXY": NOWHERE, "NO_PROXY": "localhost"}
    world.exchange_aws(world.exchanger(environment=environment, routes=routes))
    assert set(proxy.targets) == {f"localhost:{world.issuer.port}"}


def test_an_issuer_without_the_proxy_of_all(world: Backend, proxy: Proxy) -> None:
    """The others' proxy is left out where the operator says so."""
    routes = IssuerRoutes(proxies=((issuers(world), DIRECT),))
    world.exchange_aws(world.exchanger(environment={"HTTPS_PROXY": proxy.url}, routes=routes))
    assert set(proxy.targets) == {f"localhost:{world.sandbox.sts.port}"}


def test_its_proxy_is_not_bypassed(world: Backend, proxy: Proxy) -> None:
    """An issuer whose own proxy is down is not reached in another way."""
    proxy.stop()
    with refused(Transient, "ProxyFailed"):
        world.token(world.exchanger(routes=IssuerRoutes(proxies=((issuers(world), proxy.url),))))
    assert world.issuer.requests.total == 0


def test_a_policy_cannot_reach_what_only_the_operator_may_name(world: Backend) -> None:
    """A way of its own opens no address: a loopback issuer that nobody allowed stays forbidden."""
    exchanger = world.unlisted(routes=IssuerRoutes(ca_files=((issuers(world), str(world.sandbox.ca_file)),)))
    with refused(Denied, "IssuerAddressForbidden"):
        world.token(exchanger)
