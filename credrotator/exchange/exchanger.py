"""The Exchange port: which issuer and vendor a policy needs, under one total deadline.

A vendor's module is imported when the first policy needs it (an SDK costs 0.1..0.2 s). A new provider is one more
branch here.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from credrotator.core.clock import suspend_aware
from credrotator.core.errors import Denied
from credrotator.core.instrumentation import NO_INSTRUMENTATION
from credrotator.core.model import (
    AwsOidc,
    AzureClientSecret,
    AzureOidc,
    GcpServiceAccount,
    GcpWorkloadIdentity,
    ObjectKey,
    Rotatable,
    SubjectToken,
    TokenFile,
)
from credrotator.exchange.http.circuit import CircuitBreaker, CircuitBreakers
from credrotator.exchange.http.clock_offset import SkewedClock
from credrotator.exchange.http.deadline import deadline
from credrotator.exchange.http.retry_after import ignoring_retry_after
from credrotator.exchange.http.transport import ENTRA, GOOGLE, ISSUER, STS, Endpoint, Transport
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.exchange.issuers.oidc import Issuers, TokenRequest
from credrotator.exchange.issuers.routes import DEFAULT_ROUTE, DIRECT, IssuerRoute, IssuerRoutes
from credrotator.exchange.subject_tokens import FileTokens, IssuerTokens, SubjectTokenSource
from credrotator.exchange.token_files import TokenFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from credrotator.core.instrumentation import Instrumentation
    from credrotator.core.model import Credential, GcpToken, OidcClient, TokenSource
    from credrotator.core.ports import Clock, SecretReader
    from credrotator.providers.aws.sts import Sts
    from credrotator.providers.azure.entra import Entra
    from credrotator.providers.gcp.google import Google

Given = TypeVar("Given")
"""What the exchange of a subject token gives."""


@dataclass(frozen=True, slots=True)
class ExchangeSettings:
    """The operator's word on how exchanges are made."""

    allowed: AllowedIssuers = field(default_factory=AllowedIssuers)
    ca_file: str | None = None
    timeout: timedelta = timedelta(seconds=30)
    routes: IssuerRoutes = field(default_factory=IssuerRoutes)
    token_files: Mapping[ObjectKey, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NetworkEndpoint:
    """An address that an exchange goes to, and how; ``name`` is stable, and fit for machines."""

    name: str
    url: str
    transport: Transport


class Exchanger:
    """Gets a credential for a policy; safe to share between threads.

    Args:
        settings: The operator's word.
        clock: The present moment; one that can be put right is, by the dates of vendors.
        environment: Holds the vendors' variables.
        meter: Told of stages and requests.
        seconds: Seconds that only grow; patience is reckoned by them.

    Attributes:
        gates: What stands before each endpoint.
    """

    def __init__(
        self,
        settings: ExchangeSettings,
        clock: Clock,
        environment: Mapping[str, str] = os.environ,
        instrumentation: Instrumentation = NO_INSTRUMENTATION,
        *,
        seconds: Callable[[], float] = suspend_aware,
    ) -> None:
        self.circuits = CircuitBreakers(throttled=instrumentation.throttled)
        self._instrumentation = instrumentation
        self._settings = settings
        self._clock = clock
        self._seconds = seconds
        self._environment = environment
        # NOTE: since Python 3.12 two threads may both compute a cached_property.
        self._making = threading.Lock()
        self._route_transports: dict[tuple[IssuerRoute, bool], Transport] = {}

    def has_valid_token(self, issuer: str) -> bool:
        """Tell whether an issuer's last answer was a token that is still good."""
        return self.issuers.has_valid_token(issuer)

    def __call__(
        self, policy: ObjectKey, source: Rotatable, secrets: SecretReader, *, ignore_retry_after: bool = False
    ) -> Credential:
        """See ``ports.Exchange``."""
        with deadline(self._settings.timeout), ignoring_retry_after(ignore_retry_after):
            match source:
                case AwsOidc():
                    subject, circuit = (
                        self.subject(policy, source.oidc, secrets),
                        self.circuits.of(f"sts {source.region}"),
                    )
                    return self._with_token(subject, circuit, lambda token: self.sts.exchange(policy, source, token))
                case AzureOidc():
                    subject = self.subject(policy, source.oidc, secrets)
                    circuit = self.circuits.of(f"entra {source.app.authority}")
                    return self._with_token(subject, circuit, lambda token: self.entra.by_assertion(source.app, token))
                case AzureClientSecret():
                    secret = secrets(source.client_secret)
                    with (
                        self._instrumentation.stage("exchange"),
                        self.circuits.of(f"entra {source.app.authority}").slot(),
                    ):
                        return self.entra.by_secret(source.app, secret)
                case GcpWorkloadIdentity():
                    return self._google_identity(source, self.subject(policy, source.oidc, secrets))
                case GcpServiceAccount():
                    key_file = secrets(source.key_file)
                    with self._instrumentation.stage("exchange"), self.circuits.of("google token").slot():
                        return self.google.by_key(source, key_file)

    def _google_identity(self, source: GcpWorkloadIdentity, subject: SubjectTokenSource) -> GcpToken:
        circuit = self.circuits.of("google sts")
        federated = self._with_token(subject, circuit, lambda token: self.google.exchange(source, token))
        if source.service_account is None:
            return federated
        with self._instrumentation.stage("exchange"), self.circuits.of("google iamcredentials").slot():
            return self.google.impersonate(source, federated)

    def subject(self, policy: ObjectKey, source: TokenSource, secrets: SecretReader) -> SubjectTokenSource:
        """Return where a policy's subject token comes from.

        Raises:
            PolicyError: A Secret or key is missing, or may not be read by this policy.
        """
        if isinstance(source, TokenFile):
            return FileTokens(TokenFiles(self._settings.token_files), policy.namespace, source, self._clock)
        return IssuerTokens(self.issuers, token_request(source, secrets))

    def vendor(self, source: Rotatable) -> NetworkEndpoint:
        """Return where the exchange itself takes place.

        Raises:
            RotationError: The vendor's SDK cannot tell.
        """
        match source:
            case AwsOidc():
                return NetworkEndpoint("sts", self.sts.endpoint(source.region), self.sts.transport)
            case AzureOidc() | AzureClientSecret():
                return NetworkEndpoint("entra", source.app.authority, self.entra.transport)
            case GcpWorkloadIdentity():
                return NetworkEndpoint("google", self.google.endpoints.sts, self.google.transport)
            case GcpServiceAccount():
                return NetworkEndpoint("google", self.google.endpoints.token, self.google.transport)

    def _with_token(
        self, subject: SubjectTokenSource, circuit: CircuitBreaker, exchange: Callable[[SubjectToken], Given]
    ) -> Given:
        """Exchange a subject token; one that the vendor calls stale is replaced once, in the same attempt."""
        with self._instrumentation.stage("token"):
            token = subject.token()
        try:
            with self._instrumentation.stage("exchange"), circuit.slot():
                return exchange(token)
        except Denied as error:
            if error.reason not in STALE_TOKEN:
                raise
            with self._instrumentation.stage("token"):
                token = subject.fresh(token, error)
        with self._instrumentation.stage("exchange"), circuit.slot():
            return exchange(token)

    @property
    def issuers(self) -> Issuers:
        """Where subject tokens come from; one for all threads, or requests would not be shared."""
        with self._making:
            return self._issuers

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

    @property
    def sts(self) -> Sts:
        """AWS."""
        with self._making:
            return self._sts

    @property
    def entra(self) -> Entra:
        """Azure."""
        with self._making:
            return self._entra

    @property
    def google(self) -> Google:
        """Google Cloud."""
        with self._making:
            return self._google

    @cached_property
    def _sts(self) -> Sts:
        from credrotator.providers.aws.sts import Sts  # noqa: PLC0415 - only where a policy needs it

        # Botocore falls back in the same way.
        bundle = "AWS_CA_BUNDLE" if self._environment.get("AWS_CA_BUNDLE") else "REQUESTS_CA_BUNDLE"
        return Sts(self._transport(STS, bundle, "AI_GATEWAY_STS_PROXY_URL"), self._clock)

    @cached_property
    def _entra(self) -> Entra:
        from credrotator.providers.azure.entra import Entra  # noqa: PLC0415 - only where a policy needs it

        return Entra(self._transport(ENTRA, "REQUESTS_CA_BUNDLE", "AI_GATEWAY_AZURE_PROXY_URL"), self._clock)

    @cached_property
    def _google(self) -> Google:
        from credrotator.providers.gcp.google import Endpoints, Google  # noqa: PLC0415 - only where a policy needs it

        transport = self._transport(GOOGLE, "REQUESTS_CA_BUNDLE", "AI_GATEWAY_GCP_AUTH_PROXY_URL")
        return Google(transport, self._clock, Endpoints.of(self._environment))

    def _own(self, issuer: str, guarded: bool) -> Transport | None:  # noqa: FBT001 - a part of the key
        """Return the transport of an issuer that is reached in a way of its own."""
        route = self._settings.routes.of(issuer)
        if route is None:
            return None
        with self._making:
            if (route, guarded) not in self._route_transports:
                self._route_transports[route, guarded] = self._transport(ISSUER, guarded=guarded, route=route)
            return self._route_transports[route, guarded]

    def _transport(
        self,
        endpoint: Endpoint,
        bundle: str = "REQUESTS_CA_BUNDLE",
        proxy: str = "",
        *,
        guarded: bool = False,
        route: IssuerRoute = DEFAULT_ROUTE,
    ) -> Transport:
        found = self._environment.get(bundle)
        direct = route.proxy == DIRECT
        return Transport(
            endpoint,
            bundles=(found,) if found else (),
            extra_cas=tuple(file for file in (self._settings.ca_file, route.ca_file) if file),
            proxy=None if direct else route.proxy or self._environment.get(proxy) or None,
            environment={} if direct else self._environment,
            guarded=guarded,
            dated=self._date,
            instrumentation=self._instrumentation,
        )

    def _date(self, endpoint: Endpoint, date: str | None) -> None:
        """Compare clocks; a policy's author chooses the issuer, so an issuer's word is noted and not believed."""
        if isinstance(self._clock, SkewedClock):
            self._clock.observe(endpoint.name.lower(), date, trusted=endpoint is not ISSUER)


STALE_TOKEN = {"ExpiredTokenException", "ExpiredToken", "InvalidIdentityToken", "AADSTS700024", "GoogleStaleToken"}
"""Refusals for which a fresh token is worth one more try."""


def token_request(client: OidcClient, secrets: SecretReader) -> TokenRequest:
    """Resolve what an OIDC client refers to.

    Raises:
        PolicyError: A Secret or key is missing, or may not be read by this policy.
    """
    client_id = client.client_id if isinstance(client.client_id, str) else secrets(client.client_id).reveal()
    return TokenRequest(client, client_id, secrets(client.client_secret))
