"""HTTP for issuers and vendors: one place for trust, proxies, timeouts, size limits and what failures mean.

A :class:`Transport` is a requests session with its decisions made: it never follows a redirect, never reads ``.netrc``
or cookies into a request, reads at most 1 MiB (after decompression) and ends with the exchange's deadline. CA files
are looked at again at each request, so that a new CA needs no restart. Source: reliability.md 1, 2, 6, 7, 10-12, 49.
"""

from __future__ import annotations

import io
import os
import ssl
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests import exceptions as failures
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from credrotator import __version__
from credrotator.core.errors import Denied, Outage, Throttled, printable
from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.core.json_text import read_json
from credrotator.exchange.http.connections import (
    CONNECT_TIMEOUT_S,
    GUARDED_POOLS,
    OPEN_POOLS,
    ForbiddenAddressError,
    check_literal,
    tls_context,
)
from credrotator.exchange.http.deadline import remaining_s
from credrotator.exchange.http.failures import (
    BodyTooLargeError,
    CaFileError,
    UnfinishedError,
    answering,
    is_tls,
    proxy_settings,
)
from credrotator.exchange.http.foreign import said_to
from credrotator.exchange.http.proxies import environment_proxy, usable_proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from urllib3.util.ssltransport import SSLTransport

    from credrotator.core.instrumentation import Instrumentation
    from credrotator.core.ports import Clock
    from credrotator.exchange.http.endpoint import Endpoint

BODY_LIMIT = 1024 * 1024
READ_TIMEOUT_S = 15.0
LONGEST_RETRY_AFTER = timedelta(hours=1)
TOO_MANY_REQUESTS = 429
REQUEST_TIMEOUT = 408
SERVER_ERROR = 500
RATE_LIMITED = "wait until its rate limit has passed, or have the limit raised"
"""What to do about a rate limit; whoever tries again keeps to its Retry-After."""
USER_AGENT = f"credrotator/{__version__}"
"""For all requests, the SDKs' too: firewalls turn away what names a well-known library, and logs should name us."""
HOSTS_KEPT = 64
"""Hosts to which connections are kept; one vendor alone may have one for each region."""
MOST_TRUSTED = 64
"""Sets of CA files whose context is shared; the operator names them."""
_PLAIN = {"data", "headers"}


class Transport(requests.Session):
    """A requests session for one kind of endpoint; safe to share between threads.

    Args:
        endpoint: Named in errors.
        bundles: PEM files to trust; the default bundle of the requests package where empty.
        extra_cas: More PEM files (``--ca-file``, ``--issuer-ca``).
        proxy: For all requests; else the environment's HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.
        environment: Where these are looked up.
        guarded: Refuse loopback and link-local addresses after resolution.
        dated: Told of each answer's Date header.
        instrumentation: Told of each request.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        bundles: tuple[str, ...] = (),
        extra_cas: tuple[str, ...] = (),
        proxy: str | None = None,
        environment: Mapping[str, str] = os.environ,
        guarded: bool = False,
        dated: Callable[[Endpoint, str | None], None] = lambda *_: None,
        instrumentation: Instrumentation = NO_INSTRUMENTATION,
    ) -> None:
        super().__init__()
        self.endpoint = endpoint
        # Off, since it also reads ~/.netrc, from which it would add an Authorization header of somebody else; proxies
        # are looked up here instead.
        self.trust_env = False
        # A session is shared by all policies of a kind of endpoint: one's cookies must not go along with another's
        # requests.
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._proxy = proxy
        self._environment = environment
        self.guarded = guarded
        self.adapter = _Adapter(
            _trust_in((*(bundles or (DEFAULT_CA_BUNDLE_PATH,)), *extra_cas)),
            guarded=guarded,
            dated=lambda date: dated(endpoint, date),
            counted=partial(_count, instrumentation, endpoint),
        )
        for scheme in ("https://", "http://"):
            self.mount(scheme, self.adapter)

    def settings_for(self, url: str) -> dict[str, Any]:
        """Return what each request to ``url`` is sent with, for libraries that bring a session of their own."""
        proxy = self.proxy_for(url)
        if proxy and self.guarded:
            check_literal(urlsplit(url).hostname or "")
        return {
            # The body holds a client secret or a token, which would be sent on to wherever the answer says.
            "allow_redirects": False,
            "proxies": {"http": proxy, "https": proxy} if proxy else {},
            "timeout": (remaining_s(CONNECT_TIMEOUT_S), remaining_s(READ_TIMEOUT_S)),
        }

    def proxy_for(self, url: str) -> str | None:
        """Return the proxy that requests to ``url`` go through, if any.

        Raises:
            Denied: ProxyInvalid: there should be one, but it cannot be used; going without it is no way out.
        """
        parsed = self._proxy or environment_proxy(url, self._environment)
        if parsed is None:
            return None
        if proxy := usable_proxy(parsed):
            return proxy
        where = printable(url.partition("?")[0])
        message = f"the proxy for {where} is not an http or https URL"
        raise Denied("ProxyInvalid", message, hint=proxy_settings(self.endpoint))

    @contextmanager
    def connection(self, url: str) -> Iterator[ssl.SSLSocket | SSLTransport]:
        """Connect to the host of an https URL as a request would, and yield the verified connection.

        Raises:
            RotationError: ProxyFailed where the proxy is not reached or does not let through; else no connection, or
                no trust.
        """
        with answering(self.endpoint, url):
            proxies = self.settings_for(url)["proxies"]
            asked = requests.Request("GET", url).prepare()
            pool: Any = self.adapter.get_connection_with_tls_context(asked, verify=True, proxies=proxies)
            with _as_requests_says(proxied=bool(proxies)):
                connection = pool.connected()
            with closing(connection):
                yield connection.sock

    def request(self, method: str, url: str | bytes, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        """Send one request; see requests.Session.request.

        Raises:
            RotationError: No answer, or none that may be read.
        """
        where = url if isinstance(url, str) else url.decode()
        with answering(self.endpoint, where):
            settings = self.settings_for(where)
            if kwargs.keys() <= _PLAIN:
                return self._sent(method, where, settings, **kwargs)
            return super().request(method, where, **{**kwargs, **settings})

    def _sent(
        self,
        method: str,
        url: str,
        settings: dict[str, Any],
        *,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request of which the session has nothing to add: no cookies, no hooks, no redirect to look for.

        A session merges eleven settings of its own and of the environment into each request, which takes as long as
        what goes over the wire.
        """
        request = requests.PreparedRequest()
        request.method, request.url = method, _prepared_url(url)
        request.headers = self.headers.copy()  # type: ignore[assignment]  # CaseInsensitiveDict, as there
        request.headers.update(headers or {})
        request.prepare_body(data, None)
        return self.adapter.send(request, timeout=settings["timeout"], proxies=settings["proxies"])


class _Trust:
    """The TLS context for some CA files, made anew when one of them changes."""

    def __init__(self, files: tuple[str, ...]) -> None:
        self._files = files
        self._made: tuple[object, ssl.SSLContext] | None = None

    def context(self) -> ssl.SSLContext:
        try:
            # Looked at for each request, a few microseconds each: a CA that is rotated takes effect without a restart.
            state = [(parsed.st_ino, parsed.st_mtime_ns, parsed.st_size) for parsed in map(os.stat, self._files)]
            made = self._made
            if made is None or made[0] != state:
                # Two threads may both make one; either is right.
                made = self._made = (state, tls_context(self._files))
        except OSError as error:
            # Without this, a file that is no PEM would look like a certificate that is not trusted.
            raise CaFileError(f"{error.filename}: {error.strerror}") from error
        return made[1]


@lru_cache(maxsize=MOST_TRUSTED)
def _trust_in(files: tuple[str, ...]) -> _Trust:
    """Return the trust in some files, one for all transports: to read the default bundle takes 20 ms and 1 MiB."""
    return _Trust(files)


class _Adapter(HTTPAdapter):
    def __init__(
        self,
        trust: _Trust,
        *,
        guarded: bool,
        dated: Callable[[str | None], None],
        counted: Callable[[requests.PreparedRequest, int | Exception], None],
    ) -> None:
        self.trust = trust
        self._dated = dated
        self._counted = counted
        self._guarded = guarded
        self._pools = GUARDED_POOLS if guarded else OPEN_POOLS
        super().__init__(pool_connections=HOSTS_KEPT, pool_maxsize=32)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Give connections to a proxy our deadline and our trust; what lies behind it, the proxy resolves."""
        context = self.trust.context()
        manager = super().proxy_manager_for(proxy, proxy_ssl_context=context, **kwargs)
        if manager.proxy_config.ssl_context is not context:
            # Kept from before a CA file changed.
            del self.proxy_manager[proxy]
            manager = super().proxy_manager_for(proxy, proxy_ssl_context=context, **kwargs)
        manager.pool_classes_by_scheme = OPEN_POOLS
        return manager

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:  # noqa: ARG002
        """Always verify, against our own context (requests' documented place for it)."""
        parts = urlsplit(request.url)
        host = {"scheme": parts.scheme.lower(), "host": parts.hostname, "port": parts.port}
        tls = {"ssl_context": self.trust.context(), "cert_reqs": "CERT_REQUIRED"} if host["scheme"] == "https" else {}
        return host, tls

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """Name ourselves to a proxy too."""
        return {**super().proxy_headers(proxy), "User-Agent": USER_AGENT}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Do nothing: the context of the pool has it all."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send, and read the whole answer here, within the limits."""
        request.headers["User-Agent"] = USER_AGENT
        try:
            if self._guarded and kwargs.get("proxies"):
                # The host as it is sent: requests reads a URL in its own way.
                check_literal(urlsplit(str(request.url)).hostname or "")
            response = self._send(request, *args, **kwargs)
        except Exception as error:
            self._counted(request, error)
            raise
        self._counted(request, response.status_code)
        return response

    def _send(self, *args: Any, **kwargs: Any) -> requests.Response:
        response = super().send(*args, **{**kwargs, "stream": True})
        # An answer from a cache is as old as its Age says, and its Date as well.
        self._dated(None if "Age" in response.headers else response.headers.get("Date"))
        # A connection whose answer was read to its end is back in the pool by then, and closing is too late to touch
        # it; any other still holds a rest that the next request would take for its own answer.
        with closing(response.raw):
            try:
                # One more than is allowed tells that there is more; after decompression, since a small body may be a
                # gigabyte.
                body = response.raw.read(BODY_LIMIT + 1, decode_content=True)
            except urllib3.exceptions.ReadTimeoutError as error:
                raise UnfinishedError(error) from error
            except urllib3.exceptions.HTTPError as error:
                raise failures.ChunkedEncodingError(error) from error
        if len(body) > BODY_LIMIT:
            raise BodyTooLargeError
        response.raw = io.BytesIO(body)
        return response


@lru_cache(maxsize=256)
def _prepared_url(url: str) -> str | None:
    """Return a URL as requests would send it: encoded, and its host in IDNA."""
    prepared = requests.PreparedRequest()
    prepared.prepare_url(url, None)
    return prepared.url


def _count(
    instrumentation: Instrumentation, endpoint: Endpoint, request: requests.PreparedRequest, end: int | Exception
) -> None:
    """Tell how a request ended: a status that HTTP knows, or a word; whoever answers makes up no label of his own."""
    match end:
        case int():
            # Labels are made of what HTTP knows: a server that answers with a new status each time must not make a new
            # time series each time.
            code = str(end) if end in _STATUSES else "other"
        case failures.ProxyError():
            code = "proxy"
        case _ if is_tls(end):
            code = "tls"
        case failures.Timeout() | TimeoutError():
            code = "timeout"
        case ForbiddenAddressError():
            code = "forbidden"
        case BodyTooLargeError() | failures.ChunkedEncodingError() | failures.ContentDecodingError():
            code = "unreadable"
        case _:
            code = "unreachable"
    instrumentation.request(endpoint.name.lower(), endpoint.call(request.method, request.url), code)


_STATUSES = frozenset(HTTPStatus)


@contextmanager
def _as_requests_says(*, proxied: bool) -> Iterator[None]:
    """Turn what urllib3 says of a connection into what requests would make of it; TLS errors are left as they are."""
    try:
        yield
    except urllib3.exceptions.NewConnectionError as error:
        raise (failures.ProxyError if proxied else failures.ConnectionError)(error) from error
    except urllib3.exceptions.ConnectTimeoutError as error:
        raise (failures.ProxyError if proxied else failures.ConnectTimeout)(error) from error
    except OSError as error:
        # What http.client says of a CONNECT that was refused, a plain OSError without a number.
        if proxied and error.errno is None and not isinstance(error, TimeoutError | ssl.SSLError):
            raise failures.ProxyError(error) from error
        raise


def refuse_failure(response: requests.Response, endpoint: Endpoint, clock: Clock) -> None:
    """Raise for answers that say nothing about the request itself: redirects, 429, 5xx."""
    where = printable(response.url.partition("?")[0])
    if response.status_code in {REQUEST_TIMEOUT, TOO_MANY_REQUESTS} or response.status_code >= SERVER_ERROR:
        throttled = response.status_code == TOO_MANY_REQUESTS
        kind = Throttled if throttled else Outage
        raise kind(
            f"{endpoint.name}Throttled" if throttled else f"{endpoint.name}Failed",
            f"{endpoint.title} at {where} answered {response.status_code}",
            hint=RATE_LIMITED if throttled else "see its status page or its log",
            retry_after=retry_after(response.headers, clock()),
        )
    if response.is_redirect or response.is_permanent_redirect:
        message = f"{where} redirects to {redirect_target(response)}, which is not followed"
        setting = f" ({endpoint.address_setting})" if endpoint.address_setting else ""
        hint = f"name the address that it redirects to{setting}, if it is the right one"
        raise Denied("RedirectRefused", message, hint=hint)


def redirect_target(response: requests.Response) -> str:
    """Return where an answer redirects to, as a message may show it: without a query, which may repeat the request."""
    try:
        location = urljoin(response.url, response.headers.get("Location", ""))
    except ValueError:
        return "an address that is none"
    return said_to(response.request, location.partition("?")[0].partition("#")[0])


def json_object(response: requests.Response) -> dict[str, Any]:
    """Read the body as a JSON object; the body itself never reaches a message.

    Raises:
        Transient: With reason InvalidResponse.
    """
    try:
        document = read_json(response.content, parse_constant=_no_constant)
    except ValueError as error:
        raise _invalid(response, "is not JSON") from error
    if not isinstance(document, dict):
        raise _invalid(response, "is not a JSON object")
    return document


def _no_constant(name: str) -> None:
    """Refuse what Python takes for a number and RFC 8259 §6 does not."""
    raise ValueError(f"{name} is no JSON")


def text(parsed: Mapping[str, Any], name: str) -> str:
    """Return a member that should be text; what is none can be nested too deeply even to be shown."""
    value = parsed.get(name)
    return value if isinstance(value, str) else ""


def _invalid(response: requests.Response, what: str) -> Outage:
    where = printable(response.url.partition("?")[0])
    kind = said_to(response.request, response.headers.get("Content-Type", "no type"), 80)
    return Outage(
        "InvalidResponse",
        f"the answer of {where} ({response.status_code}, {kind}) {what}",
        hint="see whether something else (a login page, a proxy) answers at this address",
    )


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Read Retry-After as seconds or HTTP-date (RFC 9110 §10.2.3); None for garbage, never negative, at most 1 h."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        # Nine digits first: int() refuses, or takes long for, thousands of them.
        return min(timedelta(seconds=min(int(value[:9]), 10**6)), LONGEST_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    wait = (date if date.tzinfo else date.replace(tzinfo=UTC)) - now
    return min(max(wait, timedelta(0)), LONGEST_RETRY_AFTER)
