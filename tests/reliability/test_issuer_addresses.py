"""Security 2 and fault 47 on the level of the sockets: where a policy's issuer may lead, whatever DNS says and when."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.errors import Denied, RotationError
from credrotator.exchange.http import addresses, connections
from credrotator.exchange.http.endpoint import ISSUER
from credrotator.exchange.http.transport import Transport
from credrotator.sandbox import Sandbox
from tests.support.exchanging import Backend, MovableClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PUBLIC, API_SERVER, LOOPBACK = "203.0.113.5", "203.0.113.7", "127.0.0.1"
NAME = "idp.rebinding.example"


class Resolver:
    """DNS for one name: each look-up gets the next answer, the last one from then on."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, host: str, port: int | None, **_: object) -> list[Any]:
        assert host == NAME
        found = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in found
        ]


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the addresses that anybody tries to connect to; none of them answers."""
    tried: list[str] = []

    def connect(_socket: object, address: tuple[str, int]) -> None:
        tried.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(connections._DeadlineSocket, "connect", connect)
    return tried


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Backend]:
    """A sandbox, whose issuer listens on the loopback interface."""
    with Sandbox(tmp_path) as sandbox:
        yield Backend(sandbox, MovableClock())


def _get(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> RotationError:
    """Ask the name once as a policy's issuer; return how it ended."""
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    with Transport(ISSUER, guarded=True) as transport, pytest.raises(RotationError) as caught:
        transport.get(f"https://{NAME}/.well-known/openid-configuration")
    return caught.value


def test_security_02_rebinding(monkeypatch: pytest.MonkeyPatch, connected: list[str]) -> None:
    """One look-up for each connection, and the connection goes to what was looked up and checked."""
    resolver = Resolver([PUBLIC], [LOOPBACK])
    assert _get(resolver, monkeypatch).reason == "IssuerUnreachable"
    assert (resolver.asked, connected) == (1, [PUBLIC])
    # The next connection looks up again, and is checked again.
    assert _get(resolver, monkeypatch).reason == "IssuerAddressForbidden"
    assert (resolver.asked, connected) == (2, [PUBLIC])


@pytest.mark.parametrize("addresses", [[PUBLIC, LOOPBACK], [LOOPBACK, PUBLIC], [PUBLIC, "::1"]])
def test_security_02_one_bad_address_is_enough(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch, connected: list[str]
) -> None:
    """Of several addresses all must be fit; else whoever is first to refuse would lead inside."""
    found = _get(Resolver(addresses), monkeypatch)
    assert (type(found), found.reason) == (Denied, "IssuerAddressForbidden")
    assert connected == []


@pytest.mark.parametrize(("variable", "address"), [
    (API_SERVER, API_SERVER),
    (API_SERVER, f"::ffff:{API_SERVER}"),
    ("fd00:10:96::1", "fd00:10:96::1"),
    ("FD00:0010:0096:0:0:0:0:0001", "fd00:10:96::1"),
    ("[fd00:10:96::1]", "fd00:10:96::1"),
    (NAME.upper(), PUBLIC),
])  # fmt: skip
def test_security_02_the_api_server(
    variable: str, address: str, monkeypatch: pytest.MonkeyPatch, connected: list[str]
) -> None:
    """The API server is nobody's issuer, by whatever spelling of its address, or by its own name."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", variable)
    assert _get(Resolver([address]), monkeypatch).reason == "IssuerAddressForbidden"
    assert connected == []


def test_security_02_another_address_than_the_api_servers(
    monkeypatch: pytest.MonkeyPatch, connected: list[str]
) -> None:
    """A neighbour of it may be one."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", API_SERVER)
    assert _get(Resolver([PUBLIC]), monkeypatch).reason == "IssuerUnreachable"
    assert connected == [PUBLIC]


@pytest.mark.parametrize("address", [*addresses.METADATA, "169.254.169.254", "fe80::a9fe:a9fe"])
def test_fault_47_metadata_services(address: str, monkeypatch: pytest.MonkeyPatch, connected: list[str]) -> None:
    """Also those of clouds that keep theirs elsewhere than at a link-local address."""
    assert _get(Resolver([address]), monkeypatch).reason == "IssuerAddressForbidden"
    assert connected == []


def test_security_02_no_secret_on_the_way(world: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """An issuer whose name turns to a local service after discovery gets no client secret there."""
    monkeypatch.setattr(socket, "getaddrinfo", Resolver([LOOPBACK]))
    with pytest.raises(RotationError) as caught:
        world.token(world.unlisted(), issuer=f"https://{NAME}:{world.issuer.port}")
    assert caught.value.reason == "IssuerAddressForbidden"
    assert world.issuer.requests.total == 0
