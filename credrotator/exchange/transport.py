"""HTTP for issuers and vendors: one place for trust, proxies, timeouts, size limits and what failures mean.

A :class:`Transport` is a requests session with its decisions made: it never follows a redirect, never reads ``.netrc``
or cookies into a request, reads at most 1 MiB (after decompression) and ends with the exchange's deadline. CA files
are looked at again at each request, so that a new CA needs no restart. Source: faults.md 1, 2, 6, 7, 10-12, 49.
"""

from __future__ import annotations

import io
import json
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests import exceptions as failures
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy

from credrotator.errors import Denied, RotationError, Transient, printable
from credrotator.exchange.connections import GUARDED_POOLS, OPEN_POOLS, ForbiddenAddressError, tls_context
from credrotator.exchange.deadline import remaining_s

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.ports import Clock

BODY_LIMIT = 1024 * 1024
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 15.0
LONGEST_RETRY_AFTER = timedelta(hours=1)
TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Whom a transport talks to, as it appears in reasons (``IssuerUnreachable``) and sentences (``the issuer``)."""

    name: str
    title: str


ISSUER = Endpoint("Issuer", "the issuer")
STS = Endpoint("Sts", "AWS STS")
ENTRA = Endpoint("Entra", "Microsoft Entra")


class BodyTooLargeError(Exception):
    """An answer of more than BODY_LIMIT bytes; nobody here sends one for a good reason."""


class Transport(requests.Session):
    """A requests session for one kind of endpoint; safe to share between threads.

    Args:
        endpoint: Named in errors.
        bundles: PEM files to trust; the default bundle of the requests package where empty.
        extra_ca: One more PEM file (``--ca-file``).
        proxy: For all requests; else the environment's HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
        guarded: Refuse loopback and link-local addresses after resolution.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        bundles: tuple[str, ...] = (),
        extra_ca: str | None = None,
        proxy: str | None = None,
        guarded: bool = False,
    ) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._proxy = proxy
        self.adapter = _Adapter(_Trust(bundles or (DEFAULT_CA_BUNDLE_PATH,), extra_ca), guarded=guarded)
        for scheme in ("https://", "http://"):
            self.mount(scheme, self.adapter)

    def settings_for(self, url: str) -> dict[str, Any]:
        """Return what each request to ``url`` is sent with, for libraries that bring a session of their own."""
        proxies = {"http": self._proxy, "https": self._proxy} if self._proxy else get_environ_proxies(url)
        return {
            "allow_redirects": False,
            "proxies": proxies,
            "timeout": (remaining_s(CONNECT_TIMEOUT_S), remaining_s(READ_TIMEOUT_S)),
        }

    def proxy_for(self, url: str) -> str | None:
        """Return the proxy that requests to ``url`` go through, if any."""
        return select_proxy(url, self.settings_for(url)["proxies"])

    def tls(self) -> ssl.SSLContext:
        """Return the context that connections are verified with at this moment."""
        return self.adapter.trust.context()

    def request(self, method: str, url: str | bytes, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        """Send one request; see requests.Session.request.

        Raises:
            RotationError: No answer, or none that may be read.
        """
        text = url if isinstance(url, str) else url.decode()
        with answering(self.endpoint, text):
            return super().request(method, text, **{**kwargs, **self.settings_for(text)})


class _Trust:
    """The TLS context for some CA files, made anew when one of them changes."""

    def __init__(self, bundles: tuple[str, ...], extra: str | None) -> None:
        self._files = (*bundles, extra) if extra else bundles
        self._made: tuple[object, ssl.SSLContext] | None = None

    def context(self) -> ssl.SSLContext:
        state = [(status.st_mtime_ns, status.st_size) for status in map(os.stat, self._files)]
        made = self._made
        if made is None or made[0] != state:
            # Two threads may both make one; either is right.
            made = self._made = (state, tls_context(self._files))
        return made[1]


class _Adapter(HTTPAdapter):
    def __init__(self, trust: _Trust, *, guarded: bool) -> None:
        self.trust = trust
        self._pools = GUARDED_POOLS if guarded else OPEN_POOLS
        super().__init__(pool_maxsize=32)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Give connections to a proxy our deadline; what lies behind it, the proxy resolves."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = OPEN_POOLS
        return manager

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:  # noqa: ARG002
        """Always verify, against our own context (requests' documented place for it)."""
        parts = urlsplit(request.url)
        host = {"scheme": parts.scheme.lower(), "host": parts.hostname, "port": parts.port}
        tls = {"ssl_context": self.trust.context(), "cert_reqs": "CERT_REQUIRED"} if host["scheme"] == "https" else {}
        return host, tls

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Do nothing: the context of the pool has it all."""

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send, and read the whole answer here, within the limits."""
        response = super().send(*args, **{**kwargs, "stream": True})
        try:
            body = response.raw.read(BODY_LIMIT + 1, decode_content=True)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise failures.ReadTimeout(error) from error
        except urllib3.exceptions.HTTPError as error:
            raise failures.ChunkedEncodingError(error) from error
        finally:
            response.raw.release_conn()
        if len(body) > BODY_LIMIT:
            response.raw.close()
            raise BodyTooLargeError
        response.raw = io.BytesIO(body)
        return response


class answering:  # noqa: N801 - reads as the context manager it is
    """Turn the failures of a request within the block into ours. ``url`` is named without its query."""

    def __init__(self, endpoint: Endpoint, url: str) -> None:
        self._endpoint = endpoint
        self._where = printable(url.partition("?")[0])

    def __enter__(self) -> None:
        """Start."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Map what went wrong, if it is ours to map."""
        if error is not None and (mapped := self._map(error)):
            raise mapped from error

    def _map(self, error: BaseException) -> RotationError | None:
        name, title, where = self._endpoint.name, self._endpoint.title, self._where
        match error:
            case ForbiddenAddressError():
                hint = "name the issuer with --allowed-issuer if this is meant"
                return Denied(f"{name}AddressForbidden", f"{error}, which a policy may not name", hint=hint)
            case BodyTooLargeError():
                hint = "see whether something else answers at this address"
                return Transient("InvalidResponse", f"{where} answered with more than 1 MiB", hint=hint)
            case failures.ProxyError():
                return Transient("ProxyFailed", f"the proxy for {where} failed: {_cause(error)}", hint=_PROXY_HINT)
            case failures.InvalidProxyURL():
                return Denied("ProxyInvalid", f"the proxy for {where} is not a URL", hint=_PROXY_HINT)
            case failures.SSLError() | ssl.SSLError():
                message = f"{title} at {where} has no certificate that can be trusted: {_cause(error)}"
                return Denied(
                    f"{name}TLS", message, hint="add its CA with --ca-file, or have the certificate corrected"
                )
            case failures.Timeout() | TimeoutError():
                hint = "see whether it is overloaded, or a firewall drops the packets"
                return Transient(f"{name}Timeout", f"{title} at {where} did not answer in time", hint=hint)
            case failures.ChunkedEncodingError() | failures.ContentDecodingError():
                hint = "see whether something else answers at this address"
                return Transient("InvalidResponse", f"the answer of {where} broke off or cannot be decoded", hint=hint)
            case failures.RequestException():
                message = f"{title} at {where} cannot be reached: {_cause(error)}"
                hint = "see whether the name resolves and the port is open from here"
                return Transient(f"{name}Unreachable", message, hint=hint)
            case OSError():
                hint = "see --ca-file, REQUESTS_CA_BUNDLE and AWS_CA_BUNDLE"
                return Denied("CaFileUnreadable", f"a CA file cannot be used: {printable(error)}", hint=hint)
        return None


_PROXY_HINT = "see HTTPS_PROXY and NO_PROXY, or AI_GATEWAY_STS_PROXY_URL and AI_GATEWAY_AZURE_PROXY_URL"


def _cause(error: BaseException) -> str:
    """Return the innermost sentence: the outer ones repeat URLs and object addresses."""
    inner: BaseException = error
    while True:
        nested = getattr(inner, "reason", None) or inner.__cause__ or inner.__context__
        if not isinstance(nested, BaseException):
            break
        inner = nested
    return printable(getattr(inner, "verify_message", None) or getattr(inner, "strerror", None) or inner)


def refuse_failure(response: requests.Response, endpoint: Endpoint, clock: Clock) -> None:
    """Raise for answers that say nothing about the request itself: redirects, 429, 5xx."""
    where = printable(response.url.partition("?")[0])
    if response.status_code == TOO_MANY_REQUESTS or (response.status_code >= SERVER_ERROR):
        throttled = response.status_code == TOO_MANY_REQUESTS
        raise Transient(
            f"{endpoint.name}Throttled" if throttled else f"{endpoint.name}Failed",
            f"{endpoint.title} at {where} answered {response.status_code}",
            hint="it asks for patience" if throttled else "see its status page or its log",
            retry_after=retry_after(response.headers, clock()),
        )
    if response.is_redirect or response.is_permanent_redirect:
        hint = "name the address that it redirects to in the policy"
        raise Denied("RedirectRefused", f"{where} redirects elsewhere, which is not followed", hint=hint)


def json_object(response: requests.Response) -> dict[str, Any]:
    """Read the body as a JSON object; the body itself never reaches a message.

    Raises:
        Transient: With reason InvalidResponse.
    """
    try:
        found = json.loads(response.content)
    except (ValueError, RecursionError) as error:
        raise _invalid(response, "is not JSON") from error
    if not isinstance(found, dict):
        raise _invalid(response, "is not a JSON object")
    return found


def _invalid(response: requests.Response, what: str) -> Transient:
    where, kind = printable(response.url.partition("?")[0]), printable(response.headers.get("Content-Type", "no type"))
    return Transient(
        "InvalidResponse",
        f"the answer of {where} ({response.status_code}, {kind}) {what}",
        hint="see whether something else (a login page, a proxy) answers at this address",
    )


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Read Retry-After as seconds or HTTP-date (RFC 9110 §10.2.3); None for garbage, never negative, at most 1 h."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=min(int(text[:9]), 10**6)), LONGEST_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    wait = (date if date.tzinfo else date.replace(tzinfo=UTC)) - now
    return min(max(wait, timedelta(0)), LONGEST_RETRY_AFTER)
