"""Who is asked, and as whom: what a circuit breaker and a rate limit stand for. Pure.

Built by whoever asks, of what is really asked: a name in a policy counts for nothing until then.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from credrotator.core.errors import printable

if TYPE_CHECKING:
    from credrotator.core.sensitive import Sensitive

PORTS = {"https": 443, "http": 80}
ADDRESS_LIMIT = 2048
"""Characters of an address that count; a key must not be as long as somebody likes."""


@dataclass(frozen=True, slots=True)
class CircuitKey:
    """Who is asked, and as whom.

    Attributes:
        endpoint: The kind of endpoint in small letters: a metric's label, and the beginning of reasons.
        address: The URL as it is called, without its query; or a name such as a region, where the SDK has the URL.
        account: As whom it is asked: a client with its secret (``client_account``), an account, a project; empty where
            everybody asks as the same.
    """

    endpoint: str
    address: str
    account: str = ""

    @classmethod
    def parse(cls, text: str) -> CircuitKey:
        """Read ``endpoint address account``, the last two of which may be missing."""
        endpoint, _, rest = text.partition(" ")
        address, _, account = rest.partition(" ")
        return cls(endpoint, address[:ADDRESS_LIMIT], account[:ADDRESS_LIMIT])

    @classmethod
    def of_url(cls, endpoint: str, url: str, account: str = "") -> CircuitKey:
        """Make the key of a URL: scheme, host, port and path count; case of the host, user and query do not."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port or PORTS.get(parts.scheme, 0)
        # A port that is no number. The request fails later with a better message; a key is needed all the same.
        except ValueError:
            return cls(endpoint, url[:ADDRESS_LIMIT], account)
        host = f"[{host}]" if ":" in host else host
        return cls(endpoint, f"{parts.scheme}://{host}:{port}{parts.path or '/'}"[:ADDRESS_LIMIT], account)

    @property
    def host(self) -> str:
        """Host and port as connected; what stands in their place where only the SDK knows them."""
        scheme, separator, rest = self.address.partition("://")
        return rest.partition("/")[0] if separator and scheme else f"{self.endpoint} {self.address}"

    @property
    def title(self) -> str:
        """Name it for people."""
        if "://" in self.address:
            return printable(self.address)
        return printable(f"{self.endpoint.capitalize()} {self.address}".strip())


def client_account(client_id: str, secret: Sensitive) -> str:
    """Return what tells one client with one secret from all others; neither can be read from it."""
    digest = hashlib.sha256()
    for part in (client_id, secret.reveal()):
        # With the length, or "ab" and "c" would be the client "a" with "bc".
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()[:32]
