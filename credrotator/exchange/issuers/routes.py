"""How issuers are reached that need something of their own: a CA that others' certificates must not come from, a proxy.

The operator's word, by globs as ``--allowed-issuer`` has them; a policy's author has no say. Source: G26.
"""

from __future__ import annotations

from dataclasses import dataclass

from credrotator.exchange.issuers.allowed import matches

DIRECT = "direct"
"""In place of a proxy's URL: none, whatever the environment says."""

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class IssuerRoute:
    """What one issuer, and its token endpoint, is reached by; None: as all others."""

    ca_file: str | None
    proxy: str | None


DEFAULT_ROUTE = IssuerRoute(None, None)


@dataclass(frozen=True, slots=True)
class IssuerRoutes:
    """Globs with CA files, and globs with proxies; of several that match, the first counts."""

    ca_files: Pairs = ()
    proxies: Pairs = ()

    def of(self, issuer: str) -> IssuerRoute | None:
        """Return the issuer's own way, if it has one."""
        ca_file, proxy = _first(self.ca_files, issuer), _first(self.proxies, issuer)
        return IssuerRoute(ca_file, proxy) if ca_file or proxy else None


def _first(pairs: Pairs, issuer: str) -> str | None:
    return next((value for glob, value in pairs if matches(issuer, glob)), None)
