"""Discovery of an issuer: whose document it must be, and what is taken from it.

Owns the document at ``/.well-known/openid-configuration`` and the redirects on the way to it. No secret is sent here.
Source: OpenID Connect Discovery 1.0 §3, §4.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from credrotator.core.errors import Denied, PolicyError, printable
from credrotator.exchange.http.transport import json_object, redirect_target
from credrotator.exchange.issuers.client_auth import ClientAuthMethod

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

    from credrotator.exchange.http.transport import Transport

log = logging.getLogger(__name__)

# Where the answer has no max-age. An issuer that moves its token endpoint leaves the old one for longer than this.
DISCOVERY_LIFE = timedelta(minutes=10)
# An issuer may say a year, and would be asked where it was then.
LONGEST_DISCOVERY = timedelta(hours=24)
LONGEST_ADDRESS, MOST_METHODS, LONGEST_METHOD = 2048, 16, 64
"""What is kept of a document, in characters, entries and characters: an issuer may send a mebibyte of each."""
KNOWN_METHODS = tuple(map(str, ClientAuthMethod))
# To a slash or another case, on the same origin: more is a circle.
_REDIRECTS = 3
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})")
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True, slots=True)
class Metadata:
    """What discovery tells of an issuer; the lists are empty where it does not say.

    Attributes:
        auth_methods: How clients authenticate.
        algorithms: By which clients may sign their assertions.
    """

    token_endpoint: str
    auth_methods: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ()


def discovery_url(issuer: str) -> str:
    """Return where an issuer's document is."""
    # §4: a slash at the end of the issuer is left out before the path is appended.
    return issuer.rstrip("/") + "/.well-known/openid-configuration"


def discover(
    issuer: str, transport: Transport, refuse_failure: Callable[[requests.Response], None]
) -> tuple[Metadata, timedelta]:
    """Read an issuer's document.

    Args:
        issuer: As the policy names it.
        transport: How the issuer is talked to.
        refuse_failure: Raises for answers that say nothing about the request itself.

    Returns:
        What it says, and for how long that may be kept.

    Raises:
        RotationError: DiscoveryFailed, IssuerMismatch, RedirectRefused, or what the transport raises.
    """
    url = discovery_url(issuer)
    response = _follow(transport, url)
    refuse_failure(response)
    if not response.ok:
        message = f"{printable(url)} answered {response.status_code}"
        hint = "see whether the issuer is written as the issuer writes it, or set tokenEndpoint"
        raise Denied("DiscoveryFailed", message, hint=hint)
    document = json_object(response)
    # Before anything else of the document is used: whoever can answer in an issuer's place could name its own token
    # endpoint, and be sent the client secret.
    _check_issuer(document.get("issuer"), issuer)
    endpoint = document.get("token_endpoint")
    if not isinstance(endpoint, str) or len(endpoint) > LONGEST_ADDRESS or not _is_address(endpoint):
        hint = "set tokenEndpoint in the policy"
        raise Denied("DiscoveryFailed", f"{printable(url)} names no token_endpoint", hint=hint)
    if urlsplit(endpoint).netloc != urlsplit(issuer).netloc:
        log.info("issuer %s has its token endpoint elsewhere: %s", printable(issuer), printable(endpoint))
    return Metadata(endpoint, _methods(document), _algorithms(document)), _lifetime(response.headers)


def _follow(transport: Transport, url: str) -> requests.Response:
    """Get a discovery document; a redirect is followed to https on the same origin only."""
    response = transport.get(url)
    for _ in range(_REDIRECTS):
        if not response.is_redirect:
            break
        target = urljoin(response.url, response.headers["Location"])
        if urlsplit(target)[:2] != urlsplit(url)[:2] or urlsplit(target).scheme != "https":
            hint = "name the issuer in the policy as the issuer names itself"
            message = f"{printable(url)} redirects to {redirect_target(response)}"
            raise Denied("RedirectRefused", message, hint=hint)
        response = transport.get(target)
    return response


def _is_address(url: str) -> bool:
    """Tell whether a URL from discovery is one that a token request can be sent to."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"https", "http"} and parts.hostname and (parts.port or True)
        return bool(known and parts.username is None and not parts.fragment)
    except ValueError:
        return False


def _methods(document: Mapping[str, object]) -> tuple[str, ...]:
    """Return how clients may authenticate; an empty list, or none, says nothing (OIDC Discovery 1.0 §3)."""
    methods = document.get("token_endpoint_auth_methods_supported")
    if not isinstance(methods, list):
        return ()
    texts = [each for each in methods if isinstance(each, str)]
    others = [each[:LONGEST_METHOD] for each in texts if each not in KNOWN_METHODS][:MOST_METHODS]
    # Those that we know first, in our order; the others are kept for the message that names them.
    return (*(method for method in KNOWN_METHODS if method in texts), *others)


def _algorithms(document: Mapping[str, object]) -> tuple[str, ...]:
    listed = document.get("token_endpoint_auth_signing_alg_values_supported")
    texts = [each[:LONGEST_METHOD] for each in listed if isinstance(each, str)] if isinstance(listed, list) else []
    return tuple(texts[:MOST_METHODS])


def _check_issuer(stated: object, issuer: str) -> None:
    """OpenID Connect Discovery 1.0 §4.3: exactly equal, or no secret is sent.

    Raises:
        PolicyError: IssuerMismatch, with what to write where that is known.
    """
    if stated == issuer:
        return
    if not isinstance(stated, str) or not stated:
        message = f"the discovery document of {printable(issuer)} does not say whose it is (issuer is missing)"
        hint = "see whether provider.issuer leads to an OpenID Connect issuer, or set tokenEndpoint"
        raise PolicyError("IssuerMismatch", message, hint=hint)
    shown = printable(stated)
    message = f"the issuer calls itself {shown}, the policy calls it {printable(issuer)}; {_difference(stated, issuer)}"
    hint = f"write provider.issuer as {shown} if that is the one you mean"
    if _PLACEHOLDER.search(stated):
        message = f"the document at {printable(issuer)} is for all tenants: it names the issuer {shown}"
        hint = f"name one tenant: write provider.issuer as {shown} with your tenant's id in place of the braces"
    elif not _is_address(stated):
        hint = "have the issuer state its https address in its discovery document"
    raise PolicyError("IssuerMismatch", message, hint=hint)


def _difference(stated: str, issuer: str) -> str:
    if stated.rstrip("/") == issuer.rstrip("/"):
        return "they differ in the trailing slash"
    if stated.lower() == issuer.lower():
        return "they differ in capital letters"
    if stated.partition("://")[2] == issuer.partition("://")[2]:
        return "they differ in http and https"
    return "they must be equal"


def _lifetime(headers: Mapping[str, str]) -> timedelta:
    max_age = _MAX_AGE.search(headers.get("Cache-Control", ""))
    # Nine digits at most by the pattern: more would be an OverflowError of timedelta.
    return min(timedelta(seconds=int(max_age[1])), LONGEST_DISCOVERY) if max_age else DISCOVERY_LIFE
