"""Subject tokens from OIDC issuers, by Authlib: discovery, client credentials, one request for all who would send it.

Owns the issuer's side of an exchange. Sources: OpenID Connect Discovery 1.0 §4; RFC 6749 §2.3.1, §4.4, §5; RFC 8707 §2.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlencode, urljoin, urlsplit

import requests
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.client import OAuth2Client
from requests.auth import AuthBase

from credrotator.core.circuit_key import CircuitKey, client_account
from credrotator.core.claims import claim_time, read_claims
from credrotator.core.clock import suspend_aware
from credrotator.core.errors import Denied, OpaqueToken, PolicyError, RotationError, Transient, printable
from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.core.model import OidcClient, Sensitive, SubjectToken
from credrotator.exchange.http.circuit import CircuitBreakers
from credrotator.exchange.http.single_flight import Shared
from credrotator.exchange.http.transport import ISSUER, Transport, answering, json_object, refuse_failure, text
from credrotator.exchange.lifetimes import expiry, unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from credrotator.core.instrumentation import Instrumentation
    from credrotator.core.ports import Clock
    from credrotator.exchange.issuers.allowed import AllowedIssuers

log = logging.getLogger(__name__)

TOKEN_MARGIN = timedelta(seconds=30)
DISCOVERY_LIFE = timedelta(minutes=10)
LONGEST_DISCOVERY = timedelta(hours=24)
_REDIRECTS = 3
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})")
LONGEST_TOKEN_CHARACTERS = 20_000
"""What AWS STS takes at most (WebIdentityToken); nobody's token for a good reason is longer."""
LONGEST_ADDRESS, MOST_METHODS, LONGEST_METHOD = 2048, 16, 64
"""What is kept of discovery, in characters, entries and characters: an issuer may send a mebibyte of each."""
MOST_ISSUERS = 2048
UNAUTHORIZED = 401
_ENDPOINT = ISSUER.name.lower()
_BASIC, _POST = "client_secret_basic", "client_secret_post"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What discovery told of an issuer."""

    token_endpoint: str
    auth_methods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A client-credentials request with its references resolved: equal ones are sent once."""

    client: OidcClient
    client_id: str
    client_secret: Sensitive

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two requests the same, whoever's policy they are for."""
        client = self.client
        return (
            *(client.issuer, client.token_endpoint, self.client_id, self.client_secret),
            *(client.scopes, client.resources, client.audience, client.subject_token),
        )


class Issuers:
    """Gets subject tokens; safe to share between threads.

    Args:
        guarded: Transport for issuers that only policies name.
        named: Transport for issuers that the operator named.
        own: Transport for an issuer that is reached in a way of its own, guarded or not; None for all others.
        seconds: Seconds that only grow; patience is reckoned by them.
    """

    def __init__(
        self,
        *,
        guarded: Transport,
        named: Transport,
        own: Callable[[str, bool], Transport | None] = lambda *_: None,
        allowed: AllowedIssuers,
        clock: Clock,
        circuits: CircuitBreakers | None = None,
        instrumentation: Instrumentation = NO_INSTRUMENTATION,
        seconds: Callable[[], float] = suspend_aware,
    ) -> None:
        self._circuits = circuits or CircuitBreakers()
        self._instrumentation = instrumentation
        self._guarded = guarded
        self._named = named
        self._own = own
        self._allowed = allowed
        self._clock = clock
        self._metadata: Shared[Metadata] = Shared(clock, seconds)
        # A token is kept with its claims, which take about three times as much.
        self._tokens: Shared[SubjectToken] = Shared(
            clock, seconds, size_bytes=lambda token: 1024 + 4 * len(token.token.reveal())
        )
        self._token_valid_until: dict[str, datetime] = {}

    def subject_token(self, request: TokenRequest) -> SubjectToken:
        """Return a token that is good for an exchange now.

        Raises:
            RotationError: The issuer is not allowed, cannot be reached, refuses, or answers nonsense.
        """
        flown = False

        def fetch() -> tuple[SubjectToken, datetime]:
            nonlocal flown
            flown = True
            return self._fetch(request)

        with _in_time(request.client.issuer):
            token = self._tokens.get(request.key, fetch)
        if not flown:
            self._instrumentation.token(shared=True)
        return token

    def has_valid_token(self, issuer: str) -> bool:
        """Tell whether an issuer's last answer was a token that is still good: most of its policies need none then."""
        until = self._token_valid_until.get(issuer)
        return until is not None and self._clock() < until

    def forget(self, request: TokenRequest, token: SubjectToken) -> None:
        """Drop a token that a vendor called expired, so that the next one is fresh."""
        self._tokens.drop(request.key, token)

    def transport_for(self, issuer: str) -> Transport:
        """Return how an issuer is talked to.

        Raises:
            Denied: The operator does not allow it.
        """
        return self._route_to(issuer, named=self._allowed.check(issuer))

    def token_transport(self, client: OidcClient, endpoint: str) -> Transport:
        """Return how a client's token endpoint is talked to.

        Raises:
            Denied: No client secret may be sent there.
        """
        named = self._allowed.check(client.issuer)
        trusted = self._allowed.names_endpoint(
            endpoint, client.issuer, issuer_named=named, discovered=client.token_endpoint is None
        )
        return self._route_to(client.issuer, named=trusted)

    def _route_to(self, issuer: str, *, named: bool) -> Transport:
        return self._own(issuer, not named) or (self._named if named else self._guarded)

    def metadata(self, issuer: str) -> Metadata:
        """Discover an issuer (OpenID Connect Discovery 1.0 §4), cached for as long as its answer allows.

        Raises:
            RotationError: As for ``subject_token``.
        """
        transport = self.transport_for(issuer)
        with _in_time(issuer):
            return self._metadata.get(issuer, lambda: self._discover(issuer, transport))

    def _fetch(self, request: TokenRequest) -> tuple[SubjectToken, datetime]:
        endpoint, methods = self._endpoint(request.client)
        transport = self.token_transport(request.client, endpoint)
        account = client_account(request.client_id, request.client_secret)
        try:
            with self._circuits.of(CircuitKey.of_url(_ENDPOINT, endpoint, account)).slot():
                token = self._read(self._request(transport, endpoint, request, methods), request)
        except RotationError:
            self._token_valid_until.pop(request.client.issuer, None)
            raise
        now = self._clock()
        good_until = token.expires_at - min(TOKEN_MARGIN, (token.expires_at - now) / 2)
        self._note_valid(request.client.issuer, good_until)
        return token, good_until

    def _note_valid(self, issuer: str, good_until: datetime) -> None:
        self._token_valid_until.pop(issuer, None)
        self._token_valid_until[issuer] = good_until
        if len(self._token_valid_until) > MOST_ISSUERS:
            self._token_valid_until.pop(next(iter(self._token_valid_until)), None)

    def _endpoint(self, client: OidcClient) -> tuple[str, tuple[str, ...]]:
        """Return token endpoint and authentication methods; with a policy's own endpoint there is no discovery."""
        self._allowed.check(client.issuer)
        if client.token_endpoint:
            return client.token_endpoint, (_BASIC, _POST)
        metadata = self.metadata(client.issuer)
        # Basic first: RFC 6749 §2.3.1 recommends it, and it is the default where an issuer says nothing.
        for method in (_BASIC, _POST):
            if method in metadata.auth_methods:
                return metadata.token_endpoint, (method,)
        offered = printable(", ".join(metadata.auth_methods))
        hint = f"allow {_BASIC} or {_POST} for this client at the issuer"
        raise PolicyError("ClientAuthUnsupported", f"the issuer takes clients by {offered} only", hint=hint)

    def _discover(self, issuer: str, transport: Transport) -> tuple[Metadata, datetime]:
        url = issuer.rstrip("/") + "/.well-known/openid-configuration"
        with self._circuits.of(CircuitKey.of_url(_ENDPOINT, url)).slot():
            return self._read_discovery(_follow(transport, url), issuer, url)

    def _read_discovery(self, response: requests.Response, issuer: str, url: str) -> tuple[Metadata, datetime]:
        refuse_failure(response, ISSUER, self._clock)
        if not response.ok:
            message = f"{printable(url)} answered {response.status_code}"
            hint = "see whether the issuer is written as the issuer writes it, or set tokenEndpoint"
            raise Denied("DiscoveryFailed", message, hint=hint)
        found = json_object(response)
        _check_issuer(found.get("issuer"), issuer)
        endpoint = found.get("token_endpoint")
        if not isinstance(endpoint, str) or len(endpoint) > LONGEST_ADDRESS or not _is_address(endpoint):
            hint = "set tokenEndpoint in the policy"
            raise Denied("DiscoveryFailed", f"{printable(url)} names no token_endpoint", hint=hint)
        if urlsplit(endpoint).netloc != urlsplit(issuer).netloc:
            log.info("issuer %s has its token endpoint elsewhere: %s", printable(issuer), printable(endpoint))
        methods = found.get("token_endpoint_auth_methods_supported", [_BASIC])
        return Metadata(endpoint, _offered(methods)), self._clock() + _lifetime(response.headers)

    def _request(
        self, transport: Transport, endpoint: str, request: TokenRequest, methods: tuple[str, ...]
    ) -> dict[str, Any]:
        """Send the token request; where no discovery told the method, invalid_client earns one try of the other."""
        for method in methods[:-1]:
            try:
                return self._send(transport, endpoint, request, method)
            except Denied as error:
                if error.reason != "InvalidClient":
                    raise
        return self._send(transport, endpoint, request, methods[-1])

    def _send(self, transport: Transport, endpoint: str, request: TokenRequest, method: str) -> dict[str, Any]:
        client = request.client
        authentication = _ClientAuthentication(method, client.resources)
        session = requests.Session()
        session.trust_env = False
        session.mount("https://", transport.adapter)
        session.mount("http://", transport.adapter)
        secret = request.client_secret.reveal()
        speaker = _Client(session, request.client_id, secret, token_endpoint_auth_method=authentication)
        speaker.register_compliance_hook("access_token_response", lambda answer: self._checked(answer, request))
        asked = {"scope": " ".join(client.scopes), "audience": client.audience}
        parameters = {name: value for name, value in asked.items() if value}
        with answering(ISSUER, endpoint):
            settings = transport.settings_for(endpoint)
            self._instrumentation.token(shared=False)
            speaker.SESSION_REQUEST_PARAMS = list(settings)
            return dict(speaker.fetch_token(endpoint, grant_type="client_credentials", **parameters, **settings))

    def _checked(self, response: requests.Response, request: TokenRequest) -> requests.Response:
        """Let Authlib see nothing but a well-formed success."""
        refuse_failure(response, ISSUER, self._clock)
        if not response.ok:
            raise _refusal(response, request)
        if "error" in json_object(response):
            raise _refusal(response, request)
        return response

    def _read(self, answer: Mapping[str, Any], request: TokenRequest) -> SubjectToken:
        """Read the token response (RFC 6749 §5.1) into the token that is exchanged."""
        now = self._clock()
        if str(answer.get("token_type")).lower() != "bearer":
            raise unusable(ISSUER, "token_type is not Bearer")
        name = request.client.subject_token
        value = answer.get(name)
        if not isinstance(value, str) or not value:
            if name == "id_token":
                hint = "add the scope openid, or remove the annotation credrotator.io/subject-token"
                raise Denied("NoIdToken", "the issuer gave no id_token for client credentials", hint=hint)
            raise unusable(ISSUER, "access_token is missing or empty")
        if len(value) > LONGEST_TOKEN_CHARACTERS:
            message = f"the issuer's {name} has {len(value)} characters, more than {LONGEST_TOKEN_CHARACTERS}"
            raise Denied("TokenTooLong", message, hint="have the issuer put fewer claims into this client's tokens")
        token = Sensitive(value)
        claims = read_claims(token)
        if claims is None:
            raise OpaqueToken(
                "OpaqueToken",
                f"the issuer's {name} is no signed JWT, so no vendor can verify it",
                hint="have the issuer give JWT access tokens to this client (often by naming an audience or a "
                "resource), or annotate the policy with credrotator.io/subject-token: id_token",
            )
        exp, iat = claim_time(claims, "exp"), claim_time(claims, "iat")
        if exp and iat and iat < exp <= now:
            # NOTE: just issued, and expired by this machine's clock. The vendor is to judge, and its date puts the
            # clock right; refused here, a clock that is ahead would never be put right (reliability.md 23).
            exp = now + (exp - iat)
        expires_at = expiry(ISSUER, answer.get("expires_in"), exp, now)
        return SubjectToken(token, expires_at, claims)


@contextlib.contextmanager
def _in_time(issuer: str) -> Iterator[None]:
    """Name the issuer when waiting for another thread's request took too long."""
    try:
        yield
    except TimeoutError as error:
        hint = "see whether it is overloaded, or a firewall drops the packets"
        message = f"the issuer {printable(issuer)} did not answer in time"
        raise Transient("IssuerTimeout", message, hint=hint) from error


class _ClientAuth(AuthBase, ClientAuth):
    """Hands a prepared token request to Authlib for client authentication."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """See requests.auth.AuthBase."""
        prepared = self.prepare(request.method, request.url, request.headers, request.body)  # type: ignore[no-untyped-call]
        request.url, request.headers, request.body = prepared
        return request


class _Client(OAuth2Client):
    """Authlib's OAuth 2.0 client over a session of requests.

    NOTE: not its ``OAuth2Session``, whose package brings OAuth 1, OpenID Connect and JOSE along: 0.15 s of CPU at each
    start of ``rotate``.
    """

    client_auth_class = _ClientAuth

    def parse_response_token(self, resp: requests.Response) -> dict[str, Any]:
        """Return the token response as it is.

        NOTE: Authlib's own adds ``expires_at`` by the machine's clock, and fails on an ``expires_in`` that is odd.
        """
        return json_object(resp)


class _ClientAuthentication:
    """Client authentication as RFC 6749 §2.3.1 has it, for Authlib.

    NOTE: Authlib's own basic leaves out the form-encoding of id and secret, and its body is a dict, in which all but
    the last ``resource`` of RFC 8707 would be lost; both are put right here.
    """

    def __init__(self, method: str, resources: tuple[str, ...]) -> None:
        self._method = method
        self._resources = resources

    def __call__(
        self, client: Any, _verb: str, uri: str, headers: dict[str, str], body: str | None
    ) -> tuple[str, dict[str, str], str]:
        """Add credentials and resources to a prepared token request."""
        fields = [("resource", resource) for resource in self._resources]
        if self._method == _POST:
            fields += [("client_id", client.client_id), ("client_secret", client.client_secret)]
        else:
            pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        whole = "&".join(part for part in (body or "", urlencode(fields)) if part)
        return uri, headers, whole


def _follow(transport: Transport, url: str) -> requests.Response:
    """Get a discovery document; a redirect is followed to https on the same origin only."""
    response = transport.get(url)
    for _ in range(_REDIRECTS):
        if not response.is_redirect:
            break
        target = urljoin(response.url, response.headers["Location"])
        if urlsplit(target)[:2] != urlsplit(url)[:2] or urlsplit(target).scheme != "https":
            hint = "name the issuer in the policy as the issuer names itself"
            raise Denied("RedirectRefused", f"{printable(url)} redirects to {printable(target)}", hint=hint)
        response = transport.get(target)
    return response


def _offered(methods: object) -> tuple[str, ...]:
    """Return the methods of client authentication that discovery names: those we know, and some others to be shown."""
    if not isinstance(methods, list):
        return (_BASIC,)
    texts = [each for each in methods if isinstance(each, str)]
    others = [each[:LONGEST_METHOD] for each in texts if each not in {_BASIC, _POST}][:MOST_METHODS]
    return (*(method for method in (_BASIC, _POST) if method in texts), *others)


def _is_address(url: str) -> bool:
    """Tell whether a URL from discovery is one that a token request can be sent to."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"https", "http"} and parts.hostname and (parts.port or True)
        return bool(known and parts.username is None and not parts.fragment)
    except ValueError:
        return False


def _check_issuer(found: object, issuer: str) -> None:
    """OpenID Connect Discovery 1.0 §4.3: exactly equal, or no secret is sent."""
    if found == issuer:
        return
    shown = printable(found) if isinstance(found, str) else "(no text)"
    slash = isinstance(found, str) and found.rstrip("/") == issuer.rstrip("/")
    differ = "they differ in the trailing slash" if slash else "they must be equal"
    message = f"the issuer calls itself {shown}, the policy calls it {printable(issuer)}; {differ}"
    raise PolicyError("IssuerMismatch", message, hint=f"write provider.issuer as {shown} if that is the one you mean")


def _lifetime(headers: Mapping[str, str]) -> timedelta:
    found = _MAX_AGE.search(headers.get("Cache-Control", ""))
    return min(timedelta(seconds=int(found[1])), LONGEST_DISCOVERY) if found else DISCOVERY_LIFE


def _refusal(response: requests.Response, request: TokenRequest) -> Denied:
    """Class an error response of the token endpoint (RFC 6749 §5.2, RFC 8707 §2)."""
    try:
        found = json_object(response)
    except Transient:
        found = {}
    code = printable(_without(request, text(found, "error")), 60)
    described = printable(_without(request, text(found, "error_description")))
    client = request.client
    said = f": {described}" if described else ""
    if response.status_code == UNAUTHORIZED and code == "unauthorized_client":
        # 401 is for failed client authentication only (RFC 6749 §5.2); Keycloak says so with this code.
        code = "invalid_client"
    match code:
        case "invalid_client":
            hint = f"compare client id and {client.client_secret.secret} with what the issuer has"
            return Denied(
                "InvalidClient", f"the issuer does not accept client {printable(request.client_id)}{said}", hint=hint
            )
        case "invalid_scope":
            scopes = printable(" ".join(client.scopes) or "that it adds by itself")
            hint = "remove the scope from the policy, or allow it for this client at the issuer"
            return Denied("InvalidScope", f"the issuer refuses the scopes {scopes}{said}", hint=hint)
        case "invalid_target":
            resources = printable(" ".join((*client.resources, client.audience or "")))
            hint = "correct resources and aud in the policy"
            return Denied("InvalidTarget", f"the issuer refuses the audience {resources}{said}", hint=hint)
        case "unauthorized_client" | "unsupported_grant_type":
            hint = "allow the client-credentials grant for this client at the issuer"
            scopes = f" for the scopes {printable(' '.join(client.scopes))}" if client.scopes else ""
            message = f"the issuer does not let the client use client credentials{scopes}{said}"
            return Denied("UnauthorizedClient", message, hint=hint)
    hint = "see the issuer's log, and whether the token endpoint is the right one"
    message = f"the token endpoint answered {response.status_code}{' ' if code else ''}{code}{said}"
    return Denied("TokenRefused", message, hint=hint)


def _without(request: TokenRequest, said: str) -> str:
    """Take the client secret out of what the issuer says, before it is cut: half a secret would not be found."""
    secret = request.client_secret.reveal()
    for form in {secret, quote_plus(secret), secret.strip()} - {""}:
        said = said.replace(form, "***")
    return said
