"""Which addresses a policy may lead to, by what they mean and not by how they are written (reliability.md 47, S11)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.exchange.http.addresses import is_forbidden, meant_by, written_address
from credrotator.exchange.http.connections import ForbiddenAddressError, check_literal

LOCAL = {
    "0.0.0.0": "this network",  # noqa: S104 - refused
    "0.1.2.3": "this network",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "169.254.169.254": "a cloud's metadata",
    "169.254.170.2": "ECS credentials",
    "169.254.170.23": "EKS Pod Identity",
    "168.63.129.16": "a cloud's metadata",
    "100.100.100.200": "a cloud's metadata",
    "224.0.0.1": "multicast",
    "255.255.255.255": "broadcast",
    "::": "unspecified",
    "::1": "loopback",
    "fe80::1": "link-local",
    "ff02::1": "multicast",
    "fd00:ec2::254": "EC2 metadata",
    "fd00:ec2::23": "EKS Pod Identity",
    "fd20:ce::254": "a cloud's metadata",
    "::ffff:127.0.0.1": "IPv4-mapped",
    "::127.0.0.1": "IPv4-compatible",
    "::169.254.169.254": "IPv4-compatible",
    "::ffff:0:127.0.0.1": "IPv4-translated",
    "64:ff9b::7f00:1": "NAT64",
    "64:ff9b::a9fe:a9fe": "NAT64",
    "64:ff9b:1::7f00:1": "NAT64 of a network's own, /96",
    "64:ff9b:1:7f00:0:100::": "NAT64 of a network's own, /48",
    "64:ff9b:1:7f:0:1::": "NAT64 of a network's own, /56",
    "64:ff9b:1:0:7f:0:100:0": "NAT64 of a network's own, /64",
    "64:ff9b:1::a9fe:a9fe": "NAT64 of a network's own",
    "2002:7f00:1::": "6to4",
    "2002:a9fe:a9fe::1": "6to4",
    "2001:0:4136:e378:8000:63bf:80ff:fffe": "Teredo, client 127.0.0.1",
    "2001:db8::5efe:7f00:1": "ISATAP",
    "2001:db8::200:5efe:a9fe:a9fe": "ISATAP",
}
PUBLIC = [
    *("8.8.8.8", "10.0.0.1", "192.168.1.1", "203.0.113.5", "2001:4860:4860::8888", "fd12:3456::1"),
    *("::ffff:8.8.8.8", "64:ff9b::808:808", "64:ff9b:1::808:808", "64:ff9b:1:808:8:800::", "2002:808:808::1"),
]


@pytest.mark.parametrize("address", LOCAL)
def test_security_11_what_an_address_means(address: str) -> None:
    """Security 11: an address that leads to a machine's own services does so in every notation of it."""
    assert is_forbidden(ipaddress.ip_address(address)), LOCAL[address]


@pytest.mark.parametrize("address", PUBLIC)
def test_others_pass(address: str) -> None:
    """An address is refused for what it means, not for its notation; private networks may have issuers."""
    assert not is_forbidden(ipaddress.ip_address(address))


@pytest.mark.parametrize("api_server", ["203.0.113.7", "::ffff:203.0.113.7"])
@pytest.mark.parametrize("address", ["203.0.113.7", "64:ff9b::cb00:7107", "2002:cb00:7107::"])
def test_security_11_the_api_server_in_disguise(api_server: str, address: str) -> None:
    """Security 11: the API server is found behind a translation too, where its address is an IPv4 one."""
    if api_server == "203.0.113.7":
        assert is_forbidden(ipaddress.ip_address(address), api_server)
    assert not is_forbidden(ipaddress.ip_address("203.0.113.8"), api_server)


LITERALS = [
    *("127.1", "127.0.1", "0x7f000001", "0x7F.1", "2130706433", "017700000001", "0177.0.0.1", "127.0.0.1."),
    *(
        "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021",
        "%31%32%37.0.0.1",
        "[::1]",
        "[::ffff:7f00:1]",
        "::1%lo",
        "0",
        "0x0",
    ),
    *("2852039166", "0xa9fea9fe", "169.254.43518", "4429195009", "1.2.3.4.5", "999.1", "a.0x7f"),
    *("localhost", "LOCALHOST.", "x.localhost", "localhost.localdomain", "ip6-localhost", "localhost6"),
    *("metadata.google.internal", "metadata", "instance-data", "kubernetes.default.svc", "kubernetes"),
]


@pytest.mark.parametrize("host", LITERALS)
def test_security_11_a_proxy_is_not_asked_for(host: str) -> None:
    """Security 11: what a proxy, or its resolver, would read as a local address is refused before the proxy is asked.

    What ends in a number and is no address is refused too: readers differ on it.
    """
    with pytest.raises(ForbiddenAddressError):
        check_literal(host)


@pytest.mark.parametrize(
    "host", ["idp.example", "8.8.8.8", "0x08080808", "10.1", "localhost.example", "1.example", "x"]
)
def test_a_proxy_is_asked_for_others(host: str) -> None:
    """Names, and addresses in whatever notation, that are not local."""
    check_literal(host)


@given(st.integers(0, 2**32 - 1))
def test_every_notation_of_an_address_is_the_same(number: int) -> None:
    """Decimal, hexadecimal, octal, short and dotted: all mean one address."""
    address = ipaddress.IPv4Address(number)
    first, *_, last = str(address).split(".")
    spellings = [str(number), hex(number), f"0{number:o}", str(address), f"{first}.{number & 0xFFFFFF}", f"{address}."]
    assert {written_address(spelling) for spelling in spellings} == {address}, last


@given(st.integers(0, 2**32 - 1))
def test_every_embedding_is_found(number: int) -> None:
    """Whatever address is embedded, it is among those that are judged."""
    address = ipaddress.IPv4Address(number)
    high, low = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    for text in (f"::ffff:{address}", f"64:ff9b::{high}:{low}", f"2002:{high}:{low}::", f"64:ff9b:1::{high}:{low}"):
        assert address in set(meant_by(ipaddress.IPv6Address(text))) or number < 1 << 24
