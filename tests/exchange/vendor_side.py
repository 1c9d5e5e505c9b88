"""One model vendor of the sandbox, and a policy that it serves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from credrotator.core.model import ObjectKey, TokenFile
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.grants import AccessToken
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.providers import PROVIDERS
from credrotator.providers.anthropic.source import AnthropicFederation
from credrotator.providers.openai.source import OpenAiWorkloadIdentity
from credrotator.sandbox import (
    DEFAULT_ACCOUNT_ID,
    DEFAULT_IDENTITY_PROVIDER,
    DEFAULT_ORGANIZATION,
    DEFAULT_RULE,
    DEFAULT_SERVICE_ACCOUNT,
    DEFAULT_WORKSPACE,
)
from tests.support.exchanging import POLICY, Backend

if TYPE_CHECKING:
    from pathlib import Path

    from credrotator.core.model import TokenSource
    from credrotator.sandbox.federation import ModelVendor, Trusted
    from credrotator.sandbox.recording import RecordedRequest

AUDIENCES = {"anthropic": "https://api.anthropic.com", "openai": "https://api.openai.com/v1"}
PATHS = {"anthropic": "/v1/oauth/token", "openai": "/oauth/token"}
NAMES = {"anthropic": "Anthropic", "openai": "OpenAi"}


@dataclass
class VendorSide:
    """One vendor of the sandbox, and a policy that it serves."""

    world: Backend
    name: str

    @property
    def server(self) -> ModelVendor:
        """The vendor's server."""
        server: ModelVendor = getattr(self.world.sandbox, self.name)
        return server

    @property
    def path(self) -> str:
        """Where its token endpoint is."""
        return PATHS[self.name]

    @property
    def trusted(self) -> Trusted:
        """Whom it trusts."""
        sandbox = self.world.sandbox
        if self.name == "anthropic":
            return sandbox.anthropic.rules[DEFAULT_RULE].trusted
        return sandbox.openai.identity_providers[DEFAULT_IDENTITY_PROVIDER].trusted

    def reason(self, rest: str) -> str:
        """Name a reason of this vendor's."""
        return f"{NAMES[self.name]}{rest}"

    def source(self, **changes: Any) -> AnthropicFederation | OpenAiWorkloadIdentity:
        """Describe a policy, with some fields changed."""
        oidc = self.world.oidc(audience=AUDIENCES[self.name])
        if self.name == "anthropic":
            ids = DEFAULT_RULE, DEFAULT_ORGANIZATION, DEFAULT_SERVICE_ACCOUNT, DEFAULT_WORKSPACE
            return replace(AnthropicFederation(oidc, *ids), **changes)
        return replace(OpenAiWorkloadIdentity(oidc, DEFAULT_IDENTITY_PROVIDER, DEFAULT_ACCOUNT_ID), **changes)

    def exchange(self, exchanger: Exchanger | None = None, **changes: Any) -> AccessToken:
        """Get a token."""
        credential = (exchanger or self.exchanger())(POLICY, self.source(**changes), self.world.secrets)
        assert isinstance(credential, AccessToken)
        return credential

    def exchanger(self) -> Exchanger:
        """Make an exchanger that finds the sandbox's vendors."""
        return self.world.exchanger(environment=self.world.sandbox.environment())

    def with_file(self, path: Path) -> tuple[Exchanger, TokenSource]:
        """Make an exchanger over a token file, and name that file."""
        sandbox, name = self.world.sandbox, ObjectKey("", "pod")
        settings = ExchangeSettings(
            AllowedIssuers((sandbox.issuer.url,)), str(sandbox.ca_file), token_files={name: path}
        )
        exchanger = Exchanger(settings, self.world.clock, PROVIDERS, sandbox.environment())
        return exchanger, TokenFile("pod", AUDIENCES[self.name])

    def token_requests(self) -> list[RecordedRequest]:
        """Return what the token endpoint was asked."""
        return self.server.requests.matching(self.path)
