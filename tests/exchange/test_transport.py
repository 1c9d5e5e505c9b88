"""Trust, addresses and proxies of every request, on real sockets (reliability.md 1, 6, 47, 49; G26)."""

from __future__ import annotations

import ipaddress
import shutil
import socket
from typing import TYPE_CHECKING, Any

import pytest

from credrotator import __version__
from credrotator.core.errors import Denied, RotationError, Transient
from credrotator.exchange.http import connections
from credrotator.exchange.http.connections import check_literal
from credrotator.exchange.http.endpoint import ISSUER
from credrotator.exchange.http.failures import answering
from credrotator.exchange.http.transport import Transport
from credrotator.sandbox import Certificate, Proxy, Refuse, Reset
from tests.exchange.every_endpoint import ASKS, everywhere
from tests.support.exchanging import TOKEN, Backend, check_showable, refused

if TYPE_CHECKING:
    from pathlib import Path


@everywhere
def test_fault_01_refused(world: Backend, name: str) -> None:
    """Fault 1: a refused connection is transient and unreachable, by the name of whom it was for."""
    service_of, ask = ASKS[name]
    with service_of(world).faults.add(Refuse()), refused(Transient, f"{name}Unreachable") as caught:
        ask(world, world.exchanger())
    assert "refused" in caught.value.message
    ask(world, world.exchanger())


def test_fault_01_no_such_name(world: Backend) -> None:
    """Fault 1: a name that does not resolve is transient and unreachable."""
    with refused(Transient, "IssuerUnreachable") as caught:
        world.token(world.exchanger("https://*"), issuer="https://nowhere.invalid")
    assert "nowhere.invalid" in caught.value.message


@everywhere
@pytest.mark.parametrize("after_bytes", [None, 3])
def test_a_reset_is_transient(world: Backend, name: str, after_bytes: int | None) -> None:
    """Fault 17 and its like: a connection that breaks before or in the answer is worth another try."""
    service_of, ask = ASKS[name]
    with service_of(world).faults.add(Reset(after_bytes)), pytest.raises(Transient) as caught:
        ask(world, world.exchanger())
    check_showable(caught.value)
    assert caught.value.reason in {f"{name}Unreachable", "InvalidResponse"}


@pytest.fixture
def proxy(world: Backend) -> Proxy:
    """Run a proxy in front of the sandbox."""
    return world.sandbox.add_proxy()


@everywhere
def test_fault_49_by_way_of_a_proxy(world: Backend, proxy: Proxy, name: str) -> None:
    """Fault 49: HTTPS_PROXY is taken by all, and certificates are verified through it."""
    service_of, ask = ASKS[name]
    ask(world, world.exchanger(environment={"HTTPS_PROXY": proxy.url}))
    assert f"localhost:{service_of(world).port}" in proxy.targets
    with service_of(world).faults.add(Certificate("wrong-host")), refused(Denied, f"{name}TLS"):
        ask(world, world.exchanger(environment={"HTTPS_PROXY": proxy.url}))


@everywhere
def test_we_name_ourselves(world: Backend, name: str) -> None:
    """Firewalls refuse what names a well-known library: every request is ours by name, the SDKs' and a proxy's too."""
    service_of, ask = ASKS[name]
    ask(world, world.exchanger())
    for request in service_of(world).requests:
        assert request.headers["User-Agent"] == f"credrotator/{__version__}"
        if request.method == "POST":
            assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"


@pytest.mark.parametrize("data", [None, {"a": "b c", "d": "é"}, "a=b", b"bytes"])
@pytest.mark.parametrize("headers", [{}, {"Accept": "application/json", "user-agent": "x", "X-Header": "y"}])
def test_a_plain_request_is_the_sessions(world: Backend, data: Any, headers: dict[str, str]) -> None:
    """What is sent without the session's own settings, since there are none, is what the session would send."""
    transport = Transport(ISSUER, bundles=(str(world.sandbox.ca_file),))
    url = f"{world.issuer.url}/p\u00e4th?q=a b"
    transport.request("POST", url, data=data, headers=headers)
    transport.request("POST", url, data=data, headers=headers, params=None)
    plain, by_session = world.issuer.requests.matching("/p*")
    assert (plain.method, plain.path, plain.body) == (by_session.method, by_session.path, by_session.body)
    assert dict(plain.headers.items()) == dict(by_session.headers.items())


def test_we_name_ourselves_to_a_proxy(world: Backend, proxy: Proxy) -> None:
    """So that its log, and its rules, know whose tunnel it is."""
    world.token(world.exchanger(environment={"HTTPS_PROXY": proxy.url}))
    assert set(proxy.agents) == {f"credrotator/{__version__}"}


@everywhere
def test_fault_49_no_proxy(world: Backend, proxy: Proxy, name: str) -> None:
    """Fault 49: NO_PROXY is honoured."""
    _, ask = ASKS[name]
    ask(world, world.exchanger(environment={"HTTPS_PROXY": proxy.url, "NO_PROXY": "localhost"}))
    assert proxy.targets == []


@everywhere
def test_fault_49_proxy_down(world: Backend, proxy: Proxy, name: str) -> None:
    """Fault 49: a proxy that is down has a reason of its own, and is not gone around."""
    service_of, ask = ASKS[name]
    proxy.stop()
    with refused(Transient, "ProxyFailed"):
        ask(world, world.exchanger(environment={"HTTPS_PROXY": proxy.url}))
    assert service_of(world).requests.total == 0


@everywhere
def test_fault_49_proxy_wants_credentials(world: Backend, proxy: Proxy, name: str) -> None:
    """Fault 49: a proxy that asks who is there has the same reason; with credentials in its URL it lets in."""
    _, ask = ASKS[name]
    proxy.credentials = ("me", "canary-word")
    with refused(Transient, "ProxyFailed") as caught:
        ask(world, world.exchanger(environment={"HTTPS_PROXY": proxy.url}))
    assert "407" in caught.value.message
    known = proxy.url.replace("http://", "http://me:canary-word@")
    ask(world, world.exchanger(environment={"HTTPS_PROXY": known}))


@everywhere
@pytest.mark.parametrize("url", ["socks5://localhost:1", "http://", "http://canary-user:pass@:x", "http://[", "::::"])
def test_g26_a_bad_proxy_is_never_bypassed(world: Backend, name: str, url: str) -> None:
    """G26: what is no proxy that can be used is refused; nothing goes out without one, and its URL is not shown."""
    service_of, ask = ASKS[name]
    with refused(Denied, "ProxyInvalid") as caught:
        ask(world, world.exchanger(environment={"HTTPS_PROXY": url}))
    assert "canary" not in caught.value.message
    assert service_of(world).requests.total == 0


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("AI_GATEWAY_STS_PROXY_URL", "Sts"),
        ("AI_GATEWAY_AZURE_PROXY_URL", "Entra"),
        ("AI_GATEWAY_GCP_AUTH_PROXY_URL", "Google"),
    ],
)
def test_the_gateways_own_proxies(world: Backend, proxy: Proxy, variable: str, name: str) -> None:
    """The gateway's variables send that vendor's traffic, and no other, to a proxy; before HTTPS_PROXY and NO_PROXY."""
    service_of, ask = ASKS[name]
    ask(world, world.exchanger(environment={variable: proxy.url, "HTTPS_PROXY": "http://localhost:1", "NO_PROXY": "*"}))
    assert set(proxy.targets) == {f"localhost:{service_of(world).port}"}
    with refused(Denied, "ProxyInvalid"):
        ask(world, world.exchanger(environment={variable: "nonsense://"}))


def test_an_https_proxy_is_verified_by_our_trust(world: Backend) -> None:
    """G26: a proxy behind TLS is verified by the same CAs, also after their file changed, and obeys the deadline."""
    own = world.sandbox.ca_file.with_name("own.pem")
    shutil.copy(world.sandbox.ca_file, own)
    transport = Transport(ISSUER, bundles=(str(own),), proxy=f"https://localhost:{world.sandbox.sts.port}")
    for _ in range(2):
        # The sandbox's STS is no proxy: it answers CONNECT with an error, which only a verified connection can carry.
        with transport, pytest.raises(RotationError) as caught:
            transport.get("https://idp.example/")
        assert caught.value.reason == "ProxyFailed"
        assert "certificate" not in caught.value.message
        world.sandbox.renew_ca()
        shutil.copy(world.sandbox.ca_file, own)


LOCAL = [
    "127.0.0.1",
    "127.9.9.9",
    "::1",
    "169.254.169.254",
    "fe80::1",
    "0.0.0.0",  # noqa: S104
    "::",
    "::ffff:127.0.0.1",
    "224.0.0.1",
]


@pytest.mark.parametrize("address", LOCAL)
def test_fault_47_local_addresses(address: str) -> None:
    """Fault 47: loopback, link-local, unspecified, mapped: a policy may name none of them."""
    host = f"[{address}]" if ":" in address else address
    with Transport(ISSUER, guarded=True) as transport, refused(Denied, "IssuerAddressForbidden"):
        transport.get(f"https://{host}/")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "x.localhost", "localhost.", "127.0.0.1", "127.1", "0x7f.0.0.1"]
)
def test_fault_47_names_of_local_addresses(world: Backend, host: str) -> None:
    """Fault 47: checked after resolution, whatever the name looks like; unnamed issuers only."""
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        pytest.skip("does not resolve here")
    with pytest.raises(RotationError) as caught:
        world.unlisted().issuers.transport_for("https://x").get(f"https://{host}:{world.issuer.port}/")
    assert caught.value.reason == "IssuerAddressForbidden"
    assert world.issuer.requests.total == 0


def test_fault_47_without_a_list_no_local_issuer(world: Backend) -> None:
    """Fault 47: without --allowed-issuer a local issuer is refused before anything is sent."""
    with refused(Denied, "IssuerAddressForbidden") as caught:
        world.token(world.unlisted())
    assert "--allowed-issuer" in caught.value.hint
    assert world.issuer.requests.total == 0


def test_fault_47_the_api_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 47: the cluster's API server is nobody's issuer."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "203.0.113.7")
    with Transport(ISSUER, guarded=True) as transport, refused(Denied, "IssuerAddressForbidden"):
        transport.get("https://203.0.113.7/")


@pytest.mark.parametrize("host", [*LOCAL, "localhost", "LocalHost.", "a.localhost"])
def test_fault_47_behind_a_proxy(host: str) -> None:
    """Fault 47: where a proxy resolves, what is plainly local is refused before it is asked."""
    url = f"https://[{host}]/" if ":" in host else f"https://{host}/"
    with (
        Transport(ISSUER, guarded=True, proxy="http://localhost:1") as transport,
        refused(Denied, "IssuerAddressForbidden"),
    ):
        transport.get(url)


@pytest.mark.parametrize(
    "host", ["127.1", "0x7f000001", "2130706433", "017700000001", "0177.1", "[::ffff:7f00:1]", "[64:ff9b::a9fe:a9fe]"]
)
def test_security_11_no_proxy_is_asked_for_it(world: Backend, proxy: Proxy, host: str) -> None:
    """Security 11: an address in a notation that a proxy reads as local never reaches it."""
    transport = Transport(ISSUER, guarded=True, proxy=proxy.url, bundles=(str(world.sandbox.ca_file),))
    with transport, refused(Denied, "IssuerAddressForbidden"):
        transport.get(f"https://{host}:{world.issuer.port}/")
    assert proxy.targets == []


def test_security_11_the_host_as_it_is_sent(world: Backend, proxy: Proxy) -> None:
    """Security 11: where two readers of URLs differ on the host, the one that is sent is judged."""
    transport = Transport(ISSUER, guarded=True, proxy=proxy.url, bundles=(str(world.sandbox.ca_file),))
    with transport, pytest.raises(RotationError):
        transport.get(f"https://127.0.0.1:{world.issuer.port}\\@idp.example/")
    assert [target for target in proxy.targets if target.startswith("127.")] == []


def test_public_addresses_pass() -> None:
    """Fault 47: an address is refused for what it is, not for being one."""
    for host in ("idp.example", "192.0.2.1", "2001:db8::1", "10.0.0.1"):
        check_literal(host)


def test_fault_47_no_second_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 47: the address that was checked is the one that is connected to, however DNS answers next time."""
    asked: list[str] = []

    def resolve(host: str, port: int | None, _timeout_s: float | None) -> list[object]:
        asked.append(host)
        address = "192.0.2.1" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    reached: list[ipaddress.IPv4Address] = []

    def connect(addresses: list[tuple[object, object, object, str, tuple[str, int]]], _timeout_s: object) -> None:
        reached.extend(ipaddress.IPv4Address(address[4][0]) for address in addresses)
        raise ConnectionRefusedError

    monkeypatch.setattr(connections, "resolve", resolve)
    monkeypatch.setattr(connections, "_connect", connect)
    with Transport(ISSUER, guarded=True) as transport, pytest.raises(Transient):
        transport.get("https://rebinding.example/")
    assert asked == ["rebinding.example"]
    assert reached == [ipaddress.IPv4Address("192.0.2.1")]


def test_fault_04_http_where_it_is_named(world: Backend) -> None:
    """Fault 4: an issuer in the clear is used where the operator names it with http, and refused otherwise."""
    clear = world.sandbox.add_issuer(scheme="http")
    with refused(Denied, "InsecureIssuer"):
        world.token(world.unlisted(), issuer=clear.url)
    assert clear.requests.total == 0
    clear.clients = world.issuer.clients
    world.token(world.exchanger(clear.url), issuer=clear.url)
    assert clear.requests.count(TOKEN) == 1


def test_nothing_of_the_machine_is_added(world: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A .netrc never replaces the client's own credentials, and no cookie is kept."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login evil password evil\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    world.exchange_aws()
    for service in (world.issuer, world.sandbox.sts):
        for request in service.requests:
            assert "Cookie" not in request.headers
    assert "Authorization" not in world.sandbox.sts.requests[0].headers


@pytest.mark.parametrize("url", ["https://", "https://host:99999/", "https://ho st/", "ftp://host/", "https://xn--a/"])
def test_an_address_that_is_none(url: str) -> None:
    """What cannot be an address is a refusal with a hint, whoever named it; never another exception."""
    with Transport(ISSUER) as transport, pytest.raises(RotationError) as caught:
        transport.get(url)
    check_showable(caught.value)


def test_causes_are_the_requests_own() -> None:
    """A message tells the innermost cause of this request, and nothing of what the caller was handling meanwhile."""
    failure = ConnectionRefusedError(111, "Connection refused")
    failure.__context__ = ValueError("canary of the caller")
    with pytest.raises(RotationError) as caught, answering(ISSUER, "https://idp.example/?code=canary"):
        raise failure
    assert "canary" not in caught.value.message
    assert "refused" in caught.value.message
