"""The proxy's variables, read as curl and Go read them (reliability.md 49)."""

from __future__ import annotations

import pytest

from credrotator.exchange.http.proxies import environment_proxy, usable_proxy

PROXY = "http://proxy.corp.example:3128"


@pytest.mark.parametrize(
    ("environment", "url", "wanted"),
    [
        ({"HTTPS_PROXY": PROXY}, "https://idp.example/x", PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other"}, "https://idp.example", PROXY),
        ({"HTTPS_PROXY": PROXY}, "http://idp.example", None),
        ({"HTTP_PROXY": PROXY}, "http://idp.example", PROXY),
        ({"ALL_PROXY": PROXY}, "https://idp.example", PROXY),
        ({"ALL_PROXY": "http://other", "HTTPS_PROXY": PROXY}, "https://idp.example", PROXY),
        ({"HTTPS_PROXY": " "}, "https://idp.example", None),
        ({}, "https://idp.example", None),
    ],
)
def test_which_variable(environment: dict[str, str], url: str, wanted: str | None) -> None:
    """The scheme's own variable before ALL_PROXY, small letters before capitals, white space is nothing."""
    assert environment_proxy(url, environment) == wanted


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("*", "https://idp.example", True),
        ("idp.example", "https://idp.example", True),
        ("IDP.example", "https://Idp.Example/x", True),
        ("example", "https://idp.example", True),
        (".example", "https://idp.example", True),
        ("*.example", "https://idp.example", True),
        ("a, idp.example ,b", "https://idp.example", True),
        ("idp.example:8443", "https://idp.example:8443", True),
        ("idp.example:8443", "https://idp.example", False),
        ("idp.example", "https://idp.example:8443", True),
        ("dp.example", "https://idp.example", False),
        ("idp.example", "https://idp.example.evil", False),
        ("10.0.0.0/8", "https://10.1.2.3:6443", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.0.0.0/8", "https://idp.example", False),
        ("::1", "https://[::1]:8443", True),
        ("", "https://idp.example", False),
        (",,", "https://idp.example", False),
        ("not/a/network", "https://10.1.2.3", False),
    ],
)
def test_no_proxy(no_proxy: str, url: str, direct: bool) -> None:  # noqa: FBT001 - a column of the table
    """NO_PROXY names hosts, what is below a domain, ports, networks; half a label is none of them."""
    found = environment_proxy(url, {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy})
    assert found == (None if direct else PROXY)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (PROXY, PROXY),
        ("proxy.corp.example:3128", PROXY),
        ("https://user:word@proxy.corp.example", "https://user:word@proxy.corp.example"),
        ("socks5://proxy.corp.example:1080", None),
        ("http://", None),
        ("http://proxy:port", None),
        ("http://proxy:99999", None),
        ("http://[proxy", None),
        ("http://pro xy", None),
        ("ftp://proxy", None),
    ],
)
def test_usable(text: str, wanted: str | None) -> None:
    """G26: what is no http or https proxy is told apart, so that nobody goes without it in silence."""
    assert usable_proxy(text) == wanted
