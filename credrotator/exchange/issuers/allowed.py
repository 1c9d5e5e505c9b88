"""Which issuers policies may use: the operator's ``--allowed-issuer`` globs, and what holds without one.

Without a glob every https issuer will do whose name does not lead to a loopback or link-local address. With globs
only what one of them names will do, and only such an issuer may be http or local. Source: reliability.md, security 2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import unquote

from credrotator.core.errors import Denied, printable


@dataclass(frozen=True, slots=True)
class AllowedIssuers:
    """The operator's globs. In the host ``*`` does not cross a slash; a glob without a path means no path at all."""

    globs: tuple[str, ...] = ()

    def check(self, issuer: str) -> bool:
        """Tell whether a glob names the issuer.

        Raises:
            Denied: IssuerNotAllowed or InsecureIssuer; nothing may be sent there.
        """
        named = any(matches(issuer, glob) for glob in self.globs)
        shown = printable(issuer)
        if self.globs and not named:
            hint = "ask the operator to add it to --allowed-issuer, or use one that is there"
            raise Denied("IssuerNotAllowed", f"issuer {shown} is not among the allowed ones", hint=hint)
        if not _is_https(issuer) and not named:
            hint = "use https, or name the issuer with --allowed-issuer if plain http is meant"
            raise Denied("InsecureIssuer", f"{shown} is not https, so a client secret would travel in clear", hint=hint)
        return named

    def names_endpoint(self, url: str, issuer: str, *, issuer_named: bool, discovered: bool = True) -> bool:
        """Tell whether an endpoint of an allowed issuer is as trusted as the issuer: of one origin, or named too.

        Args:
            url: The token endpoint.
            issuer: Whose it is.
            issuer_named: What ``check`` told of the issuer.
            discovered: The issuer itself said so; else the policy did, whose word is not the issuer's.

        Raises:
            Denied: IssuerNotAllowed or InsecureIssuer; no client secret may be sent there.
        """
        named = (issuer_named and _same_origin(url, issuer)) or any(matches(url, glob) for glob in self.globs)
        if named:
            return True
        shown = printable(url)
        if self.globs and not discovered:
            hint = "ask the operator to add it to --allowed-issuer, or leave tokenEndpoint out"
            raise Denied("IssuerNotAllowed", f"token endpoint {shown} is not among the allowed ones", hint=hint)
        if not (_is_https(url) and _is_https(issuer)):
            # What was discovered in clear may come from anybody.
            hint = "use an https token endpoint"
            raise Denied("InsecureIssuer", f"token endpoint {shown} is not https, or not told by https", hint=hint)
        return False


def _is_https(url: str) -> bool:
    return url.partition("://")[0].lower() == "https"


def _same_origin(url: str, other: str) -> bool:
    one, two = _split(url), _split(other)
    return one is not None and two is not None and one[:2] == two[:2]


def matches(url: str, glob: str) -> bool:
    """Match part by part: ``https://*.corp.example`` must not match ``https://evil.example/x.corp.example``."""
    wanted, got = glob.partition("://"), _split(url)
    if not wanted[1] or got is None:
        return False
    host, slash, path = wanted[2].partition("/")
    globs = (wanted[0].lower(), host.lower(), slash + path)
    return got[0] == globs[0] and all(
        have == want or fnmatchcase(have, want) for have, want in zip(got[1:], globs[1:], strict=True)
    )


def _split(url: str) -> tuple[str, str, str] | None:
    """Split into scheme, host with port, and the rest; None for what another reader might split differently.

    ``https://evil.example?.corp.example`` has no slash, ``https://idp.example/ours/../theirs`` is sent as ``/theirs``.
    """
    found = _PLAIN_URL.fullmatch(url)
    if found is None or any(unquote(part) in {".", ".."} for part in found[3].partition("?")[0].split("/")):
        return None
    return found[1].lower(), found[2].lower(), found[3]


_PLAIN_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([A-Za-z0-9._:\[\]-]+)((?:/[^\\\s#]*)?)")
