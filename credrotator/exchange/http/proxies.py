"""Which proxy a request takes, as curl, Go and requests have it: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY.

Small letters win. NO_PROXY lists hosts, domains (with what is below them), ``host:port``, networks, or ``*``.

NOTE: requests' own look-up reads the process's environment only, and changes it on its way.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


def environment_proxy(url: str, environment: Mapping[str, str]) -> str | None:
    """Return the proxy for ``url`` as it stands in the environment, or None."""

    def variable(name: str) -> str:
        return (environment.get(name) or environment.get(name.upper()) or "").strip()

    parts = urlsplit(url)
    host = parts.hostname or ""
    names = {host, f"{host}:{parts.port}"} if parts.port else {host}
    if any(_covers(part.strip().lower(), names, host) for part in variable("no_proxy").split(",")):
        return None
    return variable(f"{parts.scheme}_proxy") or variable("all_proxy") or None


def usable_proxy(setting: str) -> str | None:
    """Return a proxy as a URL, or None where it is none: SOCKS and the like would silently be gone without."""
    proxy = setting if "://" in setting else f"http://{setting}"
    try:
        parts = urlsplit(proxy)
        sound = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or True)
    except ValueError:
        return None
    return proxy if sound and not any(char.isspace() for char in proxy) else None


def _covers(entry: str, names: set[str], host: str) -> bool:
    entry = entry.removeprefix("*").removeprefix(".") or entry
    if not entry:
        return False
    return entry == "*" or any(name == entry or name.endswith(f".{entry}") for name in names) or _within(host, entry)


def _within(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
