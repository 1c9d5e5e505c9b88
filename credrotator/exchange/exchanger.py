"""The Exchange port: which issuer and vendor a policy needs, under one total deadline.

Knows no vendor: each provider brings its own side (``vendors.Vendor``), made when the first policy needs it.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from credrotator.core.clock import suspend_aware
from credrotator.core.errors import Denied, printable
from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.core.model import (
    ClientKey,
    ObjectKey,
    OidcClient,
    Rotatable,
    ServiceAccountToken,
    SubjectToken,
    SubjectUse,
    TokenFile,
)
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.http.circuit import SLOTS, CircuitBreakers
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.exchange.http.deadline import deadline
from credrotator.exchange.http.endpoint import ISSUER, Endpoint
from credrotator.exchange.http.retry_after import ignoring_retry_after
from credrotator.exchange.http.single_flight import Shared
from credrotator.exchange.http.transport import Transport
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.exchange.issuers.client_assertions import ClientProof, KeyProof, TokenProof
from credrotator.exchange.issuers.oidc import Issuers, TokenRequest
from credrotator.exchange.issuers.routes import DEFAULT_ROUTE, DIRECT, IssuerRoute, IssuerRoutes
from credrotator.exchange.single_use import UsedTokens
from credrotator.exchange.subject_tokens import (
    FileTokens,
    IssuerTokens,
    ServiceAccountTokens,
    SubjectTokenSource,
    no_cluster,
)
from credrotator.exchange.token_files import TokenFiles
from credrotator.exchange.vendors import ExchangeSteps, NetworkEndpoint, Vendor, VendorContext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from credrotator.core.instrumentation import Instrumentation
    from credrotator.core.model import ClientAssertion, Credential, SecretKeyRef, TokenSource
    from credrotator.core.ports import AccountTokens, Clock, SecretReader


VERIFY_TIMEOUT = timedelta(seconds=10)
"""For the call that verifies a credential; a slow answer is none, and the attempt has a write before it."""


class ExchangeProvider(Protocol):
    """A provider, as far as exchanges need it."""

    @property
    def sources(self) -> tuple[type[Rotatable], ...]:
        """List the sources that it can get credentials for."""

    def vendor(self, context: VendorContext) -> Vendor:
        """Return the vendor's side of exchanges."""


@dataclass(frozen=True, slots=True)
class ExchangeSettings:
    """The operator's word on how exchanges are made; ``slots``: requests to one host at a time."""

    allowed: AllowedIssuers = field(default_factory=AllowedIssuers)
    ca_file: str | None = None
    timeout: timedelta = timedelta(seconds=30)
    routes: IssuerRoutes = field(default_factory=IssuerRoutes)
    token_files: Mapping[ObjectKey, Path] = field(default_factory=dict)
    slots: int = SLOTS


class Exchanger:
    """Gets a credential for a policy; safe to share between threads.

    Args:
        settings: The operator's word.
        clock: The present moment; one that can be put right is, by the dates of vendors.
        providers: Who gets credentials for which sources.
        environment: Holds the vendors' variables.
        instrumentation: Told of stages and requests.
        seconds: Seconds that only grow; waits are reckoned by them.
        account_tokens: Gets tokens of service accounts.

    Attributes:
        circuits: What stands before each endpoint.
    """

    def __init__(
        self,
        settings: ExchangeSettings,
        clock: Clock,
        providers: Sequence[ExchangeProvider],
        environment: Mapping[str, str] = os.environ,
        instrumentation: Instrumentation = NO_INSTRUMENTATION,
        *,
        seconds: Callable[[], float] = suspend_aware,
        account_tokens: AccountTokens = no_cluster,
    ) -> None:
        self.circuits = CircuitBreakers(instrumentation.throttled, slots=settings.slots, seconds=seconds)
        self._instrumentation = instrumentation
        self._settings = settings
        self._clock = clock
        self._seconds = seconds
        self._environment = environment
        self._used = UsedTokens(clock)
        self._providers = {source: provider for provider in providers for source in provider.sources}
        # NOTE: since Python 3.12 two threads may both compute a cached_property.
        self._making = threading.Lock()
        # Made when first needed: the vendors' SDKs take time and memory to import, and most installations use one of
        # them.
        self._vendors: dict[int, Vendor] = {}
        # One for each route, so that connections are kept: a handshake for each token would be most of its time.
        self._route_transports: dict[tuple[Endpoint, IssuerRoute, bool], Transport] = {}
        self._account_tokens = account_tokens
        # Apart from the issuers' tokens: these are kept by policy and audience (docs/decisions.md).
        self._kept_account_tokens: Shared[SubjectToken] = Shared(clock, seconds, size_bytes=_token_size)

    def has_valid_token(self, issuer: str) -> bool:
        """Tell whether an issuer's last answer was a token that is still good."""
        return self.issuers.has_valid_token(issuer)

    def __call__(
        self, policy: ObjectKey, source: Rotatable, secrets: SecretReader, *, ignore_retry_after: bool = False
    ) -> Credential:
        """See ``ports.Exchange``."""
        # Context variables, all three: they have to reach sockets and circuits through libraries whose calls take no
        # such parameters.
        with deadline(self._settings.timeout), ignoring_retry_after(ignore_retry_after), self.circuits.asking(policy):
            token_source, use = source.token_source, source.subject_use
            steps = ExchangeSteps(
                policy,
                secrets,
                self.subject(policy, token_source, secrets, use) if token_source else None,
                used=self._used if use is SubjectUse.ONCE else None,
                circuits=self.circuits,
                instrumentation=self._instrumentation,
            )
            return self.vendor(source).credential(source, steps)

    def verify(
        self, policy: ObjectKey, source: Rotatable, credential: Credential, *, ignore_retry_after: bool = False
    ) -> None:
        """See ``ports.Exchange``; by the same circuits and slots as the exchange, within a deadline of its own."""
        limit = min(self._settings.timeout, VERIFY_TIMEOUT)
        with deadline(limit), ignoring_retry_after(ignore_retry_after), self.circuits.asking(policy):
            steps = ExchangeSteps(
                policy,
                _no_secrets,
                None,
                circuits=self.circuits,
                instrumentation=self._instrumentation,
                stage="verify",
            )
            self.vendor(source).verify(source, credential, steps)

    def subject_token(self, policy: ObjectKey, source: TokenSource, secrets: SecretReader) -> SubjectToken:
        """Get a policy's subject token and nothing else, within the deadline of an exchange.

        Raises:
            RotationError: Of the class that says what to do next.
        """
        with deadline(self._settings.timeout), self.circuits.asking(policy):
            return self.subject(policy, source, secrets).token()

    def subject(
        self,
        policy: ObjectKey,
        source: TokenSource,
        secrets: SecretReader,
        use: SubjectUse = SubjectUse.SHARED,
    ) -> SubjectTokenSource:
        """Return where a policy's subject token comes from.

        Raises:
            PolicyError: A Secret or key is missing, or may not be read by this policy.
        """
        match source:
            case TokenFile():
                return FileTokens(TokenFiles(self._settings.token_files), policy.namespace, source, self._clock)
            case ServiceAccountToken(name=name, audience=audience):
                account, ask = ObjectKey(policy.namespace, name), self._account_tokens
                # What a vendor takes once is asked for anew each time.
                kept = self._kept_account_tokens if use is not SubjectUse.ONCE else None
                return ServiceAccountTokens(kept, ask, self._clock, policy, account, audience)
            case OidcClient():
                return IssuerTokens(self.issuers, self.token_request(policy, source, secrets, use))

    def token_request(
        self,
        policy: ObjectKey,
        client: OidcClient,
        secrets: SecretReader,
        use: SubjectUse = SubjectUse.SHARED,
    ) -> TokenRequest:
        """Resolve what an OIDC client refers to; ``use``: what becomes of the token.

        Raises:
            PolicyError: A Secret or key is missing, or may not be read by this policy.
        """
        client_id = client.client_id if isinstance(client.client_id, str) else secrets(client.client_id).reveal()
        if client.assertion:
            proof = self._proof(policy, client_id, client.assertion, secrets)
            return TokenRequest(client, client_id, Sensitive(""), proof, use)
        assert client.client_secret is not None  # noqa: S101 - the one or the other is there
        return TokenRequest(client, client_id, secrets(client.client_secret), use=use)

    def _proof(
        self, policy: ObjectKey, client_id: str, assertion: ClientAssertion, secrets: SecretReader
    ) -> ClientProof:
        """Return how a client comes to its assertions, none of which is kept: an issuer may take each but once."""
        match assertion:
            case ServiceAccountToken(name=name, audience=audience):
                account, ask = ObjectKey(policy.namespace, name), self._account_tokens
                who = f"service account {account}"
                return TokenProof(Sensitive(who), who, lambda: ask(account, audience))
            case TokenFile(name=name):
                # Made for each request: it holds nothing, and the file is read when the token is asked for.
                files = TokenFiles(self._settings.token_files)
                identity = Sensitive(f"token file {name} for {policy.namespace}")
                return TokenProof(identity, f"token file {name}", lambda: files.token(policy.namespace, assertion))
            case ClientKey(private_key=private_key, key_id=key_id):
                # Read anew at each attempt, as a client secret is: whoever replaces the key has not to tell anybody.
                key, known_as = secrets(private_key), secrets(key_id).reveal()
                return KeyProof(client_id, key, known_as, private_key, self._clock)

    def endpoint(self, source: Rotatable) -> NetworkEndpoint:
        """Return where the exchange itself takes place.

        Raises:
            RotationError: The vendor's SDK cannot tell.
        """
        return self.vendor(source).endpoint(source)

    @property
    def issuers(self) -> Issuers:
        """Where subject tokens come from; one for all threads, or requests would not be shared."""
        with self._making:
            return self._issuers

    def vendor(self, source: Rotatable) -> Vendor:
        """Return the vendor's side of a source's exchanges; one for all threads."""
        provider = self._providers[type(source)]
        with self._making:
            if id(provider) not in self._vendors:
                self._vendors[id(provider)] = provider.vendor(
                    VendorContext(self._transport, self._clock, self._environment, self._named, self._issuer_address)
                )
            return self._vendors[id(provider)]

    @cached_property
    def _issuers(self) -> Issuers:
        return Issuers(
            guarded=self._transport(ISSUER, guarded=True),
            named=self._transport(ISSUER),
            own=self._own,
            allowed=self._settings.allowed,
            clock=self._clock,
            circuits=self.circuits,
            instrumentation=self._instrumentation,
            seconds=self._seconds,
        )

    def _own(self, issuer: str, guarded: bool) -> Transport | None:  # noqa: FBT001 - a part of the key
        """Return the transport of an issuer that is reached by a route of its own."""
        route = self._settings.routes.of(issuer)
        if route is None:
            return None
        return self._kept_transport(ISSUER, route, guarded=guarded)

    def _kept_transport(self, endpoint: Endpoint, route: IssuerRoute, *, guarded: bool) -> Transport:
        with self._making:
            key = endpoint, route, guarded
            if key not in self._route_transports:
                self._route_transports[key] = self._transport(endpoint, guarded=guarded, route=route)
            return self._route_transports[key]

    def _named(self, endpoint: Endpoint, url: str, token_source: TokenSource | None) -> Transport:
        """See ``vendors.NamedTransportMaker``."""
        allowed = self._settings.allowed
        if isinstance(token_source, OidcClient):
            issuer = token_source.issuer
            trusted = allowed.names_exchange(url, issuer, issuer_named=allowed.check(issuer))
        else:
            trusted = allowed.check(url)
            _keep_at_home(token_source, url, named=trusted)
        route = self._settings.routes.of(url) or DEFAULT_ROUTE
        return self._kept_transport(endpoint, route, guarded=not trusted)

    def _issuer_address(self, client: OidcClient) -> NetworkEndpoint:
        """See ``vendors.IssuerAddress``."""
        return NetworkEndpoint(
            ISSUER.name.lower(), ISSUER.title, client.issuer, self.issuers.transport_for(client.issuer)
        )

    def _transport(self, endpoint: Endpoint, *, guarded: bool = False, route: IssuerRoute = DEFAULT_ROUTE) -> Transport:
        # The first that is set counts alone, as in the SDKs; our own --ca-file is in addition to it.
        bundle = next((path for name in endpoint.ca_variables if (path := self._environment.get(name))), None)
        direct = route.proxy == DIRECT
        return Transport(
            endpoint,
            bundles=(bundle,) if bundle else (),
            extra_cas=tuple(file for file in (self._settings.ca_file, route.ca_file) if file),
            proxy=None if direct else route.proxy or self._environment.get(endpoint.proxy_variable) or None,
            # An empty environment and not only no proxy: requests would read HTTPS_PROXY by itself.
            environment={} if direct else self._environment,
            guarded=guarded,
            dated=self._date,
            instrumentation=self._instrumentation,
        )

    def _date(self, endpoint: Endpoint, date: str | None) -> None:
        """Compare clocks; a policy's author chooses the issuer, so an issuer's word is noted and not believed."""
        if isinstance(self._clock, SkewedClock):
            self._clock.observe(endpoint.name.lower(), date, trusted=not endpoint.of_tenants)


def _no_secrets(reference: SecretKeyRef) -> Sensitive:
    raise TypeError(f"a credential is verified by itself, not by {reference.path}: a provider's defect")


def _token_size(token: SubjectToken) -> int:
    # With its claims, which take about three times as much.
    return 1024 + 4 * len(token.token.reveal())


def _keep_at_home(token_source: TokenSource | None, url: str, *, named: bool) -> None:
    """Send a token that nobody but the operator or the cluster vouches for nowhere but where the operator says.

    Raises:
        Denied: SubjectTokenNotForHere: whoever wrote the policy could have it sent to a server of his own.
    """
    if token_source is None or named:
        return
    where = printable(url.partition("?")[0])
    whose = "service account" if isinstance(token_source, ServiceAccountToken) else "token file"
    message = f"the token of a {whose} is sent to endpoints only that the operator names, and {where} is not among them"
    raise Denied("SubjectTokenNotForHere", message, hint=f"have the operator name it: --allowed-issuer {where}")
