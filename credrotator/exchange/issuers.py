"""Which issuers policies may use: the operator's ``--allowed-issuer`` globs, and what holds without one.

Without a glob every https issuer will do whose name does not lead to a loopback or link-local address. With globs
only what one of them names will do, and only such an issuer may be http or local. Source: faults.md, security 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from credrotator.errors import Denied, printable


@dataclass(frozen=True, slots=True)
class AllowedIssuers:
    """The operator's globs. In the host ``*`` does not cross a slash; a glob without a path means no path at all."""

    globs: tuple[str, ...] = ()

    def check(self, issuer: str) -> bool:
        """Tell whether a glob names the issuer.

        Raises:
            Denied: IssuerNotAllowed or InsecureIssuer; nothing may be sent there.
        """
        named = any(_matches(issuer, glob) for glob in self.globs)
        shown = printable(issuer)
        if self.globs and not named:
            hint = "ask the operator to add it to --allowed-issuer, or use one that is there"
            raise Denied("IssuerNotAllowed", f"issuer {shown} is not among the allowed ones", hint=hint)
        if urlsplit(issuer).scheme != "https" and not named:
            hint = "use https, or name the issuer with --allowed-issuer if plain http is meant"
            raise Denied("InsecureIssuer", f"{shown} is not https, so a client secret would travel in clear", hint=hint)
        return named

    def names_endpoint(self, url: str, issuer: str, *, issuer_named: bool) -> bool:
        """Tell whether an endpoint of an allowed issuer is as trusted as the issuer: of one origin, or named too.

        Raises:
            Denied: InsecureIssuer: it is plain http and not trusted.
        """
        named = (issuer_named and _origin(url) == _origin(issuer)) or any(_matches(url, glob) for glob in self.globs)
        if urlsplit(url).scheme != "https" and not named:
            hint = "use an https token endpoint"
            raise Denied("InsecureIssuer", f"token endpoint {printable(url)} is not https", hint=hint)
        return named


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _matches(url: str, glob: str) -> bool:
    """Match part by part: ``https://*.corp.example`` must not match ``https://evil.example/x.corp.example``."""
    if "://" not in glob:
        return False
    wanted, got = _split(glob), _split(url)
    return wanted[0] == got[0] and all(fnmatchcase(have, want) for have, want in zip(got[1:], wanted[1:], strict=True))


def _split(url: str) -> tuple[str, str, str]:
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return scheme.lower(), host.lower(), slash + path
