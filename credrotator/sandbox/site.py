"""The sandbox as a whole: an issuer, and clouds and model vendors that trust it the way a real set-up would.

Owns their start, their stop and their default content. Must not serve anything itself. Specification: none.
"""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from credrotator.sandbox.anthropic import AUDIENCE as ANTHROPIC_AUDIENCE
from credrotator.sandbox.anthropic import DEFAULT_RULE, Anthropic, FederationRule
from credrotator.sandbox.apps import (
    DEFAULT_APP,
    DEFAULT_APP_SECRET,
    DEFAULT_TENANT,
    TOKEN_EXCHANGE_AUDIENCE,
    App,
    FederatedCredential,
)
from credrotator.sandbox.certificates import Certificates
from credrotator.sandbox.clients import DEFAULT_CLIENT
from credrotator.sandbox.entra import Entra
from credrotator.sandbox.exchange import AUDIENCE as EXCHANGE_AUDIENCE
from credrotator.sandbox.exchange import TokenExchange
from credrotator.sandbox.federation import Trusted
from credrotator.sandbox.google import Google
from credrotator.sandbox.googleaccounts import DEFAULT_ACCOUNT, DEFAULT_POOL, PoolProvider, ServiceAccount
from credrotator.sandbox.issuer import Issuer
from credrotator.sandbox.openai import AUDIENCE as OPENAI_AUDIENCE
from credrotator.sandbox.openai import DEFAULT_IDENTITY_PROVIDER, IdentityProvider, OpenAi
from credrotator.sandbox.proxy import Proxy
from credrotator.sandbox.roles import Role
from credrotator.sandbox.service import Place
from credrotator.sandbox.sts import DEFAULT_ROLE, Sts

if TYPE_CHECKING:
    from pathlib import Path

    from credrotator.sandbox.keys import Algorithm
    from credrotator.sandbox.service import Clock, Scheme, Service

DEFAULT_PRINCIPAL = f"principal:{DEFAULT_POOL.rpartition('/providers/')[0]}/subject/{DEFAULT_CLIENT}"


def system_clock() -> datetime:
    """Return the machine's time, aware UTC."""
    return datetime.now(UTC)


class Sandbox:
    """An issuer and the vendors' servers on the loopback interface; use it as a context manager.

    Args:
        directory: Where ``ca.pem`` is written; made if it is missing.
        host: The name in the URLs and certificates; it must resolve to 127.0.0.1.
        clock: What the servers take for the time, aware UTC. TLS certificates go by the real time all the same.
        issuer_scheme: "http" makes an issuer in the clear, to see it refused.
        algorithm: What the issuer signs with.
        ports: TCP ports of the servers, as ``issuer_port``, ``sts_port`` and so on; the system chooses the others.
    """

    def __init__(
        self,
        directory: Path,
        *,
        host: str = "localhost",
        clock: Clock = system_clock,
        issuer_scheme: Scheme = "https",
        algorithm: Algorithm = "RS256",
        **ports: int,
    ) -> None:
        self._directory = directory
        self._algorithm = algorithm
        self._place = Place(Certificates(directory, host), clock, host)
        self.issuer = Issuer(self._place, ports.pop("issuer_port", 0), issuer_scheme, algorithm)
        self.issuers = [self.issuer]
        self.sts = Sts(self._place, ports.pop("sts_port", 0))
        self.entra = Entra(self._place, ports.pop("entra_port", 0))
        self.google = Google(self._place, ports.pop("google_port", 0))
        self.anthropic = Anthropic(self._place, ports.pop("anthropic_port", 0))
        self.openai = OpenAi(self._place, ports.pop("openai_port", 0))
        self.exchange = TokenExchange(self._place, ports.pop("exchange_port", 0))
        if ports:
            raise TypeError(f"no server has the port {next(iter(ports))}")
        self._federating = (self.sts, self.entra, self.google, self.anthropic, self.openai, self.exchange)
        self.vendors: tuple[Service, ...] = self._federating
        self._running = ExitStack()

    @property
    def ca_file(self) -> Path:
        """Return the PEM file of the CA that signed the servers' certificates."""
        return self._place.certificates.ca_file

    def __enter__(self) -> Self:
        """Start all; raises ``PortTaken`` where a port is in use, and then nothing is left running."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._prepare_ca()
        with ExitStack() as starting:
            for service in (self.issuer, *self.vendors):
                _start(service, starting)
            self._running = starting.pop_all()
        self.issuers = [self.issuer]
        self._trust(self.issuer)
        self.sts.roles.setdefault(DEFAULT_ROLE, Role(self.issuer.url, subject=DEFAULT_CLIENT))
        self.entra.tenants.setdefault(DEFAULT_TENANT, {DEFAULT_APP: self._default_app()})
        self.google.providers.setdefault(DEFAULT_POOL, PoolProvider(self.issuer.url, subject=DEFAULT_CLIENT))
        self.google.accounts.setdefault(DEFAULT_ACCOUNT, ServiceAccount(impersonators={DEFAULT_PRINCIPAL}))
        self._trust_at_model_vendors()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all that was started: sockets closed, threads ended."""
        self._running.close()

    def environment(self) -> dict[str, str]:
        """Return the variables with which credrotator and the vendors' SDKs find this sandbox.

        ``NO_PROXY`` is among them, and is complete: whoever needs the old one too joins the two.
        """
        return {
            "AWS_ENDPOINT_URL_STS": self.sts.url,
            "AZURE_AUTHORITY_HOST": self.entra.url,
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_STS": f"{self.google.url}/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS": f"{self.google.url}/",
            "CLOUDSDK_AUTH_TOKEN_HOST": f"{self.google.url}/token",
            "ANTHROPIC_BASE_URL": self.anthropic.url,
            "OPENAI_TOKEN_EXCHANGE_URL": f"{self.openai.url}/oauth/token",
            "OPENAI_BASE_URL": f"{self.openai.url}/v1",
            "CREDROTATOR_CA_FILE": str(self.ca_file),
            # The token exchange is named by policies, as an issuer is.
            "CREDROTATOR_ALLOWED_ISSUER": f"{self.issuer.url} {self.exchange.url}/token",
            "NO_PROXY": f"{self._place.host},localhost,127.0.0.1",
        }

    def write_key_file(self) -> Path:
        """Write a new key of the default service account beside ``ca.pem``, and return where."""
        file = self._directory / "service_account.json"
        file.touch(mode=0o600)
        file.write_text(self.google.accounts[DEFAULT_ACCOUNT].new_key(DEFAULT_ACCOUNT), encoding="utf-8")
        return file

    def add_issuer(self, port: int = 0, scheme: Scheme = "https") -> Issuer:
        """Start one more issuer, known to every vendor (roles, federated records, providers are still to be made)."""
        issuer = Issuer(self._place, port, scheme, self._algorithm)
        _start(issuer, self._running)
        self.issuers.append(issuer)
        self._trust(issuer)
        return issuer

    def add_proxy(self) -> Proxy:
        """Start a forward proxy in front of the servers; clients use it when they are told to."""
        proxy = Proxy()
        _start(proxy, self._running)
        return proxy

    def renew_ca(self) -> None:
        """Put a new CA in ``ca_file`` and serve with certificates by it; what trusts the old one now fails."""
        self._place.certificates.renew_ca()
        for service in (*self.issuers, *self.vendors):
            service.drop_connections()

    def _prepare_ca(self) -> None:
        self._place.certificates.renew_ca()

    def _trust(self, issuer: Issuer) -> None:
        for vendor in self._federating:
            vendor.issuers.trust(issuer.url, issuer.public_keys)

    def _trust_at_model_vendors(self) -> None:
        by_jwt = Trusted(self.issuer.url, ANTHROPIC_AUDIENCE, DEFAULT_CLIENT, longest_life=timedelta(hours=1))
        self.anthropic.rules.setdefault(DEFAULT_RULE, FederationRule(by_jwt))
        known = IdentityProvider(Trusted(self.issuer.url, OPENAI_AUDIENCE, DEFAULT_CLIENT))
        self.openai.identity_providers.setdefault(DEFAULT_IDENTITY_PROVIDER, known)
        self.exchange.trusted = self.exchange.trusted or [Trusted(self.issuer.url, EXCHANGE_AUDIENCE, DEFAULT_CLIENT)]

    def _default_app(self) -> App:
        record = FederatedCredential(self.issuer.url, DEFAULT_CLIENT, TOKEN_EXCHANGE_AUDIENCE)
        return App(secrets={DEFAULT_APP_SECRET: None}, federated=[record])


def _start(service: Service | Proxy, stack: ExitStack) -> None:
    service.start()
    stack.callback(service.stop)
