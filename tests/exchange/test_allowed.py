"""Which issuers and token endpoints a policy may name (reliability.md 4, 5, 47; security 2; G17)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.errors import Denied
from credrotator.exchange.issuers.allowed import AllowedIssuers
from tests.support.exchanging import refused

ISSUER = "https://idp.corp.example/realms/gateway"


def names(glob: str, url: str) -> bool:
    """Tell whether a list of this one glob lets the issuer in."""
    try:
        return AllowedIssuers((glob,)).check(url)
    except Denied:
        return False


@pytest.mark.parametrize(
    ("glob", "url"),
    [
        (ISSUER, ISSUER),
        ("https://idp.corp.example/*", ISSUER),
        ("https://*.corp.example/realms/*", ISSUER),
        ("https://IDP.corp.example/realms/gateway", ISSUER),
        ("https://*", "https://idp.corp.example"),
        ("https://idp.corp.example:*", "https://idp.corp.example:8443"),
        ("http://localhost:*", "http://localhost:8080"),
        ("https://[::1]:8443", "https://[::1]:8443"),
    ],
)
def test_named(glob: str, url: str) -> None:
    """A glob names what it says, scheme and host in any case of letters."""
    assert names(glob, url)


@pytest.mark.parametrize(
    ("glob", "url"),
    [
        ("https://*.corp.example", "https://evil.example/x.corp.example"),
        ("https://*.corp.example", "https://evil.example?.corp.example"),
        ("https://*.corp.example", "https://evil.example#.corp.example"),
        ("https://*.corp.example", "https://evil.example\\.corp.example"),
        ("https://*.corp.example", "https://evil.example\uff0f.corp.example"),
        ("https://*.corp.example", "https://evil.example\t.corp.example"),
        ("https://*.corp.example", "https://idp.corp.example.evil.example"),
        ("https://*.corp.example", "https://idp.corp.example@evil.example"),
        ("https://idp.corp.example*", "https://idp.corp.example:x@evil.example"),
        ("https://*.corp.example", "https://corp.example"),
        ("https://*.corp.example", "http://idp.corp.example"),
        ("https://*.corp.example", "https://idp.corp.example/"),
        ("https://*.corp.example", "https://idp.corp.example:8443"),
        ("https://idp.corp.example/ours/*", "https://idp.corp.example/ours/../theirs"),
        ("https://idp.corp.example/ours/*", "https://idp.corp.example/ours/%2e%2E/theirs"),
        ("https://idp.corp.example/ours", "https://idp.corp.example/OURS"),
        ("*", ISSUER),
        ("", ISSUER),
    ],
)
def test_not_named(glob: str, url: str) -> None:
    """A glob in the host crosses neither slash nor port, and a URL that two readers split differently is not named."""
    assert not names(glob, url)


@given(host=st.text(min_size=1, max_size=30))
def test_no_text_smuggles_another_host(host: str) -> None:
    """What is matched as a host below the domain is one: letters, digits, dots, dashes, a port."""
    if names("https://*.corp.example", f"https://{host}.corp.example"):
        assert all(char.isascii() and (char.isalnum() or char in "._:-[]") for char in host)


def test_without_a_glob_any_https_issuer_will_do() -> None:
    """Security 2: without a list any public https issuer, none of them more trusted than the policy."""
    assert AllowedIssuers().check(ISSUER) is False


@pytest.mark.parametrize(
    "url", ["http://idp.corp.example", "HTTP://idp.corp.example", "ftp://x", "idp.corp.example", ""]
)
def test_fault_04_plain_http(url: str) -> None:
    """Fault 4: plain http is refused where no glob names it."""
    with refused(Denied, "InsecureIssuer"):
        AllowedIssuers().check(url)


TWISTED = [
    *("ours/../theirs", "ours/./x", "ours/..", "ours/.", "../x", "ours/%2e%2e/theirs", "ours/.%2E/theirs"),
    *(
        "ours/..%2ftheirs",
        "ours%2F..%2Ftheirs",
        "ours/%2f",
        "ours/..%5ctheirs",
        "ours/%252e%252e/theirs",
        "ours/%25252fx",
    ),
    *(
        "ours/..;/theirs",
        "ours/;x/theirs",
        "ours;x",
        "ours/%3b/x",
        "ours//theirs",
        "/ours",
        "ours///",
        "ours/%00",
        "ours/%0d%0a",
    ),
    *("ours/%20", "ours/%2e", "ours/a%2fb"),
]
"""Paths that some servers, or what stands before them, take for others."""


@pytest.mark.parametrize("path", TWISTED)
def test_security_11_a_path_that_reads_in_two_ways_is_not_named(path: str) -> None:
    """Security 11: what is asked is bound after normalisation, so that no spelling leads out of what a glob names."""
    url = f"https://idp.example/{path}"
    assert not names("https://idp.example/ours/*", url)
    assert not names("https://idp.example/*", url)
    issuer = "https://idp.example/ours"
    with refused(Denied, "IssuerNotAllowed"):
        AllowedIssuers((issuer,)).names_endpoint(f"{issuer}/{path}", issuer, issuer_named=True, discovered=False)


@pytest.mark.parametrize(
    "path", ["ours", "ours/", "ours/a-b_c~d.e/f", "ours/%C3%BC", "ours/a:b@c", "ours/...", "ours/?x=../y"]
)
def test_a_path_that_reads_in_one_way_is_named(path: str) -> None:
    """Escapes that mean themselves, dots that are no segment, and a query are nobody's trick."""
    assert names("https://idp.example/*", f"https://idp.example/{path}")


def test_security_11_the_tokens_issuer_is_bound_too() -> None:
    """Security 11: the vendor goes by what the token says, so an allowed issuer may not hand out another's tokens."""
    allowed = AllowedIssuers((ISSUER, "https://sts.corp.example/*"))
    for stated in (ISSUER, f"{ISSUER}/", "https://sts.corp.example/tenant", None, "", 7, ["x"]):
        allowed.check_token(stated, ISSUER)
    for stated in ("https://idp.corp.example/realms/other", "https://evil.example", "evil.example"):
        with refused(Denied, "IssuerNotAllowed") as caught:
            allowed.check_token(stated, ISSUER)
        assert stated in caught.value.message
        assert ISSUER in caught.value.message
    AllowedIssuers().check_token("https://elsewhere.example", ISSUER)
    AllowedIssuers(("https://accounts.example", ISSUER)).check_token("accounts.example", ISSUER)


@pytest.mark.parametrize("globs", [(), (ISSUER,), ("http://adfs.example/*",)])
def test_a_token_of_an_issuer_by_plain_http(globs: tuple[str, ...]) -> None:
    """No vendor verifies tokens whose issuer is not https; an issuer that is asked by http may name itself so."""
    with refused(Denied, "TokenIssuerInsecure"):
        AllowedIssuers(globs).check_token("http://adfs.example/adfs/services/trust", ISSUER)
    AllowedIssuers(("http://idp.test",)).check_token("http://idp.test", "http://idp.test")


def test_what_is_allowed_and_by_whom_is_said() -> None:
    """A refusal lists what would do, and who says so; many are cut short."""
    many = tuple(f"https://idp{number}.corp.example/*" for number in range(9))
    with refused(Denied, "IssuerNotAllowed") as caught:
        AllowedIssuers(many).check("https://evil.example")
    assert "operator allows https://idp0.corp.example/*, https://idp1.corp.example/*" in caught.value.message
    assert "and 4 more" in caught.value.message
    with refused(Denied, "IssuerNotAllowed") as caught:
        AllowedIssuers((ISSUER,)).check(f"{ISSUER}/")
    assert f"{ISSUER}, with another end, is" in caught.value.hint


def test_with_globs_only_what_they_name() -> None:
    """Security 2: a list is the whole list, and text from the policy comes out escaped."""
    with refused(Denied, "IssuerNotAllowed") as caught:
        AllowedIssuers((ISSUER,)).check("https://evil.example/\x1b[31m")
    assert "\\x1b" in caught.value.message


def test_fault_05_an_endpoint_elsewhere() -> None:
    """Fault 5: an endpoint on another host is right when discovery over TLS says so; trusted like any stranger."""
    allowed = AllowedIssuers((ISSUER,))
    assert allowed.names_endpoint("https://idp.corp.example/token", ISSUER, issuer_named=True) is True
    assert allowed.names_endpoint("https://tokens.example/token", ISSUER, issuer_named=True) is False
    assert AllowedIssuers().names_endpoint("https://tokens.example/token", ISSUER, issuer_named=False) is False


def test_a_policy_cannot_lead_around_the_list() -> None:
    """G17: with a list, a policy's own tokenEndpoint is below the issuer, or named too; else the secret stays."""
    allowed = AllowedIssuers((ISSUER, "https://tokens.corp.example/*"))
    for url in (f"{ISSUER}/token", ISSUER, f"{ISSUER}/a/b?c=../d", "https://tokens.corp.example/token"):
        assert allowed.names_endpoint(url, ISSUER, issuer_named=True, discovered=False)
    elsewhere = ("https://evil.example/token", "https://idp.corp.example:8443/x", "http://idp.corp.example/token")
    beside = ("https://idp.corp.example/token", "https://idp.corp.example/realms/gateway2/token")
    for url in (*elsewhere, *beside):
        with refused(Denied, "IssuerNotAllowed"):
            allowed.names_endpoint(url, ISSUER, issuer_named=True, discovered=False)


@pytest.mark.parametrize(
    ("url", "issuer"),
    [("http://tokens.example/token", ISSUER), ("https://tokens.example/token", "http://idp.corp.example")],
)
def test_fault_04_an_endpoint_in_the_clear(url: str, issuer: str) -> None:
    """Faults 4 and 5: an endpoint is https, and said by https, unless it is named."""
    with refused(Denied, "InsecureIssuer"):
        AllowedIssuers((issuer,)).names_endpoint(url, issuer, issuer_named=True)


def test_two_unreadable_urls_are_not_of_one_origin() -> None:
    """What cannot be split is never trusted by being equally unreadable."""
    with refused(Denied, "InsecureIssuer"):
        AllowedIssuers(("http://a",)).names_endpoint("http://a\\b", "http://a\\c", issuer_named=True)
