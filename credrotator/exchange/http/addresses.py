"""Which addresses a policy may not lead to, and which address a spelling means. Pure.

Owns the judgement; who resolves and connects asks here. An IPv6 address may stand for an IPv4 one (RFC 4291 §2.5.5,
RFC 6052, RFC 8215, RFC 3056, RFC 4380, RFC 5214), and a host may be a number in the notation of inet_aton(3): both are
judged by what they lead to. Source: reliability.md 47, security 2 and 11.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

Address = IPv4Address | IPv6Address

METADATA = (
    *("fd00:ec2::254", "fd00:ec2::23", "fd00:ec2::253", "fd00:ec2::123"),
    *("fd20:ce::254", "168.63.129.16", "100.100.100.200", "fd00:c1::a9fe:a9fe", "fd00:42::42"),
)
"""Services of a cloud's own machines, its credentials among them, that are not at a link-local address.

A machine, its pod identity, resolver and clock over IPv6; then five more clouds, as each documents it.
"""
THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
"""Some systems connect to themselves for any of these (RFC 1122 §3.2.1.3)."""
BROADCAST = IPv4Address("255.255.255.255")

LOCAL_NAMES = re.compile(
    r"(.+\.)?(localhost|localhost6|localdomain|localdomain6)|ip6-(localhost|loopback)"
    r"|metadata(\.goog(le\.internal)?)?|instance-data(\.ec2\.internal)?|kubernetes(\.default(\..+)?)?"
)
"""Names that lead to a machine's own services wherever they are resolved, the API server's among them."""

_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_EMBEDDING = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"), IPv6Network("::ffff:0:0:0/96"))
"""Networks whose last 32 bits are an IPv4 address: NAT64, IPv4-compatible, IPv4-translated."""
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")


def is_forbidden(address: Address, api_server: str = "") -> bool:
    """Tell whether only the operator may lead there.

    Args:
        address: As it was resolved, or written.
        api_server: The API server's address, if it is one, in any spelling; empty where there is none.
    """
    return any(_is_local(meant) or _is(meant, api_server) for meant in (address, *meant_by(address)))


def meant_by(address: Address) -> Iterator[IPv4Address]:
    """Yield the IPv4 addresses that an IPv6 address stands for; usually none."""
    if not isinstance(address, IPv6Address) or address.is_loopback or address.is_unspecified:
        return
    # A translator on the way reaches the IPv4 address within: by IPv6 alone, a policy could lead to the metadata
    # service.
    packed = address.packed
    for embedded in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())):
        if embedded is not None:
            yield embedded
    if any(address in network for network in _EMBEDDING) or packed[8:12] in _ISATAP:
        yield IPv4Address(packed[12:])
    if address in _LOCAL_NAT64:
        yield from _by_local_nat64(packed)


def _by_local_nat64(packed: bytes) -> Iterator[IPv4Address]:
    """Yield what RFC 6052 §2.2 reads there: whoever runs the translator chose how long its prefix is."""
    readings = [IPv4Address(packed[12:])]
    if not packed[8]:
        bits = packed[:8] + packed[9:]
        # What comes behind the address is zero, or else the prefix is a longer one.
        readings += [IPv4Address(bits[start : start + 4]) for start in (6, 7, 8) if not any(bits[start + 4 :])]
    # The zeros behind an address are no address.
    yield from [each for each in readings if each not in THIS_NETWORK] or readings


def written_address(host: str) -> Address | None:
    """Return the address that a host is, in whatever spelling a resolver or a proxy takes; None for a name.

    Raises:
        ValueError: It ends in a number and is no address, so that nobody knows what a proxy makes of it.
    """
    plain = plain_host(host)
    try:
        return ipaddress.ip_address(plain.partition("%")[0])
    except ValueError:
        pass
    if not _NUMBER.fullmatch(plain.rpartition(".")[2]):
        return None
    try:
        # As the C library reads it: 127.1, 0x7f000001 and 2130706433 are all this machine.
        return IPv4Address(socket.inet_aton(plain))
    except (OSError, ValueError) as error:
        raise ValueError(f"{host} is no address") from error


def plain_host(host: str) -> str:
    """Return a host as a resolver reads it: in small letters, decoded, without brackets and the dot of the root."""
    # The ideographic full stop separates labels too (RFC 3490 §3.1).
    return unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".").lower().strip("[]").rstrip(".")


def _is_local(address: Address) -> bool:
    kinds = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    return kinds or address == BROADCAST or _in_this_network(address) or any(_is(address, each) for each in METADATA)


def _in_this_network(address: Address) -> bool:
    return isinstance(address, IPv4Address) and address in THIS_NETWORK


def _is(address: Address, text: str) -> bool:
    """Compare addresses, not their spelling: IPv6 has several."""
    try:
        return address == ipaddress.ip_address(text)
    except ValueError:
        return False
