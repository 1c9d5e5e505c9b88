"""Every vendor of a bearer token when it is away: hung, refused, throttled or garbled, and well again afterwards."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import Transient
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.exchange.grants import AccessToken
from credrotator.exchange.issuers.allowed import AllowedIssuers
from credrotator.providers import PROVIDERS
from credrotator.providers.anthropic.source import AnthropicFederation
from credrotator.providers.bedrock.source import BedrockApiKey
from credrotator.providers.client_credentials.source import ClientCredentials
from credrotator.providers.openai.source import OpenAiWorkloadIdentity
from credrotator.providers.token_exchange.source import TokenExchange
from credrotator.sandbox import (
    DEFAULT_ACCOUNT_ID,
    DEFAULT_IDENTITY_PROVIDER,
    DEFAULT_ORGANIZATION,
    DEFAULT_ROLE,
    DEFAULT_RULE,
    DEFAULT_SERVICE_ACCOUNT,
    DEFAULT_WORKSPACE,
    Answer,
    CutShort,
    Drip,
    Hang,
    Refuse,
    Reset,
    garbage,
)
from tests.support.exchanging import POLICY, TOKEN, Backend, check_showable

if TYPE_CHECKING:
    from collections.abc import Callable

    from credrotator.core.model import Rotatable
    from credrotator.sandbox import Fault
    from credrotator.sandbox.service import Service

SHORT = timedelta(seconds=1)
"""For what never ends; everything else answers at once."""


def _anthropic(world: Backend) -> tuple[Rotatable, Service, str]:
    ids = DEFAULT_RULE, DEFAULT_ORGANIZATION, DEFAULT_SERVICE_ACCOUNT, DEFAULT_WORKSPACE
    source = AnthropicFederation(world.oidc(audience="https://api.anthropic.com"), *ids)
    return source, world.sandbox.anthropic, "/v1/oauth/token"


def _openai(world: Backend) -> tuple[Rotatable, Service, str]:
    oidc = world.oidc(audience="https://api.openai.com/v1")
    source = OpenAiWorkloadIdentity(oidc, DEFAULT_IDENTITY_PROVIDER, DEFAULT_ACCOUNT_ID)
    return source, world.sandbox.openai, "/oauth/token"


def _token_exchange(world: Backend) -> tuple[Rotatable, Service, str]:
    endpoint = world.sandbox.exchange
    source = TokenExchange(
        world.oidc(audience="https://exchange.example"), f"{endpoint.url}/token", "token-exchange", "form"
    )
    return source, endpoint, "/token"


def _client_credentials(world: Backend) -> tuple[Rotatable, Service, str]:
    return ClientCredentials(world.oidc(audience="https://mcp.example")), world.issuer, TOKEN


def _bedrock(world: Backend) -> tuple[Rotatable, Service, str]:
    return BedrockApiKey(world.oidc(), DEFAULT_ROLE, "eu-central-1"), world.sandbox.sts, "/"


VENDORS: dict[str, Callable[[Backend], tuple[Rotatable, Service, str]]] = {
    "anthropic": _anthropic,
    "openai": _openai,
    "token exchange": _token_exchange,
    "client credentials": _client_credentials,
    "bedrock": _bedrock,
}
NEVER_ENDING: dict[str, Callable[[], Fault]] = {"hung": Hang, "drips": lambda: Drip(0.3)}
AWAY: dict[str, Callable[[], Fault]] = {
    "refused": Refuse,
    "reset": Reset,
    "cut short": CutShort,
    "500": lambda: Answer(500),
    "503": lambda: Answer(503, retry_after=7),
    "429": lambda: Answer(429, retry_after=7),
    "a web page": lambda: garbage()["html"],
    "nested without end": lambda: garbage()["deep nesting"],
}


def _exchanger(world: Backend, timeout: timedelta) -> Exchanger:
    allowed = AllowedIssuers((world.issuer.url, f"{world.sandbox.exchange.url}/*"))
    settings = ExchangeSettings(allowed, str(world.sandbox.ca_file), timeout=timeout)
    return Exchanger(settings, world.clock, PROVIDERS, world.sandbox.environment())


def _is_away_and_back(world: Backend, vendor: str, fault: Fault, timeout: timedelta) -> Transient:
    source, service, path = VENDORS[vendor](world)
    with service.faults.add(fault, path=path), pytest.raises(Transient) as caught:
        _exchanger(world, timeout)(POLICY, source, world.secrets)
    check_showable(caught.value)
    credential = _exchanger(world, timedelta(seconds=30))(POLICY, source, world.secrets)
    assert isinstance(credential, AccessToken)
    return caught.value


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("name", NEVER_ENDING)
def test_fault_02_a_vendor_that_never_ends(world: Backend, vendor: str, name: str) -> None:
    """The deadline ends it, as a time-out of this endpoint; the next attempt is served."""
    error = _is_away_and_back(world, vendor, NEVER_ENDING[name](), SHORT)
    assert error.reason.endswith("Timeout")
    assert error.hangs


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("name", AWAY)
def test_fault_01_a_vendor_that_is_away(world: Backend, vendor: str, name: str) -> None:
    """It passes by itself, whatever is in the vendor's place; what the vendor asks for is kept."""
    error = _is_away_and_back(world, vendor, AWAY[name](), timedelta(seconds=30))
    assert not error.hangs
    assert error.retry_after == (timedelta(seconds=7) if name in {"429", "503"} else None)
