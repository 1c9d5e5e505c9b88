"""Which issuers policies may use: the operator's ``--allowed-issuer`` globs, and what holds without one.

Without a glob every https issuer will do whose name does not lead to a loopback or link-local address. With globs
only what one of them names will do, and only such an issuer may be http or local. What is named is what is asked and
what comes of it: the issuer itself, the token endpoint with its path, and the issuer that the token names.
Source: reliability.md, security 2 and 11.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import unquote

from credrotator.core.errors import Denied, printable

GLOBS_SHOWN = 5
DECODINGS = 3
"""How often a path is decoded to see what it hides: a proxy and the server behind it may each do it once."""


@dataclass(frozen=True, slots=True)
class AllowedIssuers:
    """The operator's globs. In the host ``*`` does not cross a slash; a glob without a path means no path at all."""

    globs: tuple[str, ...] = ()

    def check(self, issuer: str) -> bool:
        """Tell whether a glob names the issuer.

        Raises:
            Denied: IssuerNotAllowed or InsecureIssuer; nothing may be sent there.
        """
        # A glob that names the issuer lifts the other rules as well: the operator knows what is local or in clear.
        named = self._names(issuer)
        shown = printable(issuer)
        if self.globs and not named:
            hint = f"ask the operator to add it to --allowed-issuer, or use one that is there{self._nearly(issuer)}"
            raise Denied("IssuerNotAllowed", f"issuer {shown} is not among the allowed ones{self._listed()}", hint=hint)
        if not _is_https(issuer) and not named:
            hint = "use https, or name the issuer with --allowed-issuer if plain http is meant"
            raise Denied("InsecureIssuer", f"{shown} is not https, so a client secret would travel in clear", hint=hint)
        return named

    def names_endpoint(self, url: str, issuer: str, *, issuer_named: bool, discovered: bool = True) -> bool:
        """Tell whether an endpoint of an allowed issuer is as trusted as the issuer.

        One that the issuer itself states is, if it is of the issuer's origin; one that the policy states must lie below
        the issuer's own path, since other paths of a shared host are other tenants. A glob may name either.

        Args:
            url: The token endpoint.
            issuer: Whose it is.
            issuer_named: What ``check`` told of the issuer.
            discovered: The issuer itself said so; else the policy did, whose word is not the issuer's.

        Raises:
            Denied: IssuerNotAllowed or InsecureIssuer; no client secret may be sent there.
        """
        # What the issuer's own document names is the issuer's word. What a policy names is a tenant's: on a host with
        # many tenants by path, another path is another tenant.
        own = _same_origin(url, issuer) if discovered else _is_below(url, issuer)
        if (issuer_named and own) or self._names(url):
            return True
        shown = printable(url)
        if self.globs and not discovered:
            hint = "leave tokenEndpoint out (the issuer names it), or ask the operator to add it to --allowed-issuer"
            message = (
                f"token endpoint {shown} is not among the allowed ones{self._listed()}, nor below {printable(issuer)}"
            )
            raise Denied("IssuerNotAllowed", message, hint=hint)
        if not (_is_https(url) and _is_https(issuer)):
            # What was discovered in clear may come from anybody.
            hint = "use an https token endpoint"
            raise Denied("InsecureIssuer", f"token endpoint {shown} is not https, or not told by https", hint=hint)
        return False

    def names_exchange(self, url: str, issuer: str, *, issuer_named: bool) -> bool:
        """Tell whether an endpoint that exchanges an issuer's tokens is trusted: see ``names_endpoint``.

        Raises:
            Denied: IssuerNotAllowed or InsecureIssuer; no token may be sent there.
        """
        try:
            return self.names_endpoint(url, issuer, issuer_named=issuer_named, discovered=False)
        except Denied as error:
            if error.reason != "IssuerNotAllowed":
                raise
            hint = "ask the operator to add it to --allowed-issuer, or use one that is there"
            raise Denied(error.reason, error.message, hint=hint) from None

    def check_token(self, stated: object, issuer: str) -> None:
        """See that a token is of an allowed issuer: the vendor goes by what the token says, not by whom we asked.

        Args:
            stated: The token's ``iss``; what is no text is for the vendor to refuse.
            issuer: The issuer that was asked, which is allowed.

        Raises:
            Denied: TokenIssuerInsecure or IssuerNotAllowed.
        """
        if not isinstance(stated, str) or not stated or stated.rstrip("/") == issuer.rstrip("/"):
            return
        shown = printable(stated)
        if _scheme(stated) == "http" and _is_https(issuer):
            message = f"the token names {shown} as its issuer, and nobody verifies tokens of an issuer by plain http"
            hint = "have the issuer name itself by https in its tokens (AD FS: Set-AdfsProperties -Identifier)"
            raise Denied("TokenIssuerInsecure", message, hint=hint)
        # Some name themselves without a scheme.
        if self.globs and not self._names(stated if "://" in stated else f"https://{stated}"):
            message = (
                f"the token of {printable(issuer)} names {shown} as its issuer, which is not among the allowed ones"
            )
            hint = "have the issuer name itself in its tokens, or ask the operator to add that one to --allowed-issuer"
            raise Denied("IssuerNotAllowed", message + self._listed(), hint=hint)

    def _names(self, url: str) -> bool:
        return any(matches(url, glob) for glob in self.globs)

    def _listed(self) -> str:
        """Say what the operator allows, and where."""
        more = f" and {len(self.globs) - GLOBS_SHOWN} more" * (len(self.globs) > GLOBS_SHOWN)
        return f" (credrotator's operator allows {printable(', '.join(self.globs[:GLOBS_SHOWN]))}{more})"

    def _nearly(self, issuer: str) -> str:
        other = issuer.rstrip("/") if issuer.endswith("/") else f"{issuer}/"
        return f"; {printable(other)}, with another end, is" if self._names(other) else ""


def _is_https(url: str) -> bool:
    return _scheme(url) == "https"


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def _same_origin(url: str, other: str) -> bool:
    one, two = _split(url), _split(other)
    return one is not None and two is not None and one[:2] == two[:2]


def _is_below(url: str, issuer: str) -> bool:
    """Tell whether a URL is on the issuer's origin, at the issuer's path or below it."""
    one, two = _split(url), _split(issuer)
    if one is None or two is None or one[:2] != two[:2]:
        return False
    # With a slash at both ends, or ``/realms/a`` would be above ``/realms/ab``.
    return f"{one[2].partition('?')[0]}/".startswith(f"{two[2].rstrip('/')}/")


def matches(url: str, glob: str) -> bool:
    """Match part by part: ``https://*.corp.example`` must not match ``https://evil.example/x.corp.example``."""
    scheme, separator, rest = glob.partition("://")
    parts = _split(url)
    if not separator or parts is None:
        return False
    host, slash, path = rest.partition("/")
    globs = (scheme.lower(), host.lower(), slash + path)
    return parts[0] == globs[0] and all(
        # Equal first: an address may have brackets in it (IPv6), which fnmatch takes for a set.
        part == pattern or fnmatchcase(part, pattern)
        for part, pattern in zip(parts[1:], globs[1:], strict=True)
    )


def _split(url: str) -> tuple[str, str, str] | None:
    """Split into scheme, host with port, and the rest; None for what another reader might split, or read, differently.

    ``https://evil.example?.corp.example`` has no slash, ``https://idp.example/ours/../theirs`` is sent as ``/theirs``,
    and so may ``/ours/..%2ftheirs``, ``/ours/..;/theirs`` or ``/ours//../theirs`` be read by the server.
    """
    # No user name, no backslash, no fragment: urllib, requests and servers disagree about these, and what was checked
    # must be what is asked.
    parts = _PLAIN_URL.fullmatch(url)
    if parts is None or not _is_plain_path(parts[3].partition("?")[0]):
        return None
    # A path is compared by case (RFC 3986 §6.2.2.1).
    return parts[1].lower(), parts[2].lower(), parts[3]


def _is_plain_path(path: str) -> bool:
    """Tell whether every server takes a path for the same one, however often it is decoded on its way."""
    segments = path.split("/")[1:]
    # A slash at the end is common, and means what it says.
    return all(_is_plain_segment(segment) for segment in segments[:-1]) and (
        not segments or segments[-1] == "" or _is_plain_segment(segments[-1])
    )


def _is_plain_segment(segment: str) -> bool:
    for _ in range(DECODINGS):
        if segment in {"", ".", ".."} or _AMBIGUOUS.search(segment):
            return False
        decoded = unquote(segment)
        if decoded == segment:
            return True
        segment = decoded
    return False


_AMBIGUOUS = re.compile(r"[/\\;\x00-\x20\x7f]")
_PLAIN_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([A-Za-z0-9._:\[\]-]+)((?:/[^\\\s#]*)?)")
