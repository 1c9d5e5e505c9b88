"""Subject tokens of service accounts: by whom they are shared, for how long, and what is done with a stale one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.claims import read_claims
from credrotator.core.errors import PolicyError
from credrotator.core.model import ObjectKey, ServiceAccountToken, SubjectToken
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.exchanger import Exchanger, ExchangeSettings
from credrotator.providers import PROVIDERS
from credrotator.providers.anthropic.source import AnthropicFederation
from credrotator.sandbox import (
    DEFAULT_CLIENT,
    DEFAULT_ORGANIZATION,
    DEFAULT_RULE,
    DEFAULT_SERVICE_ACCOUNT,
    FederatedCredential,
    ServiceError,
)
from credrotator.sandbox.apps import DEFAULT_APP, DEFAULT_TENANT
from tests.support.exchanging import POLICY, POOL_AUDIENCE, Backend, refused

if TYPE_CHECKING:
    from credrotator.core.model import Rotatable

LIFE = timedelta(hours=1)
AUDIENCES = {"aws": "sts.amazonaws.com", "azure": "api://AzureADTokenExchange", "gcp": POOL_AUDIENCE}


class Accounts:
    """Stands for an API server whose issuer the vendors trust; keeps what it was asked for."""

    def __init__(self, world: Backend) -> None:
        self.world = world
        self.asked: list[tuple[ObjectKey, str]] = []
        world.issuer.token_life = LIFE

    def __call__(self, account: ObjectKey, audience: str) -> SubjectToken:
        """See ``ports.AccountTokens``."""
        self.asked.append((account, audience))
        token = Sensitive(self.world.issuer.issue(DEFAULT_CLIENT, audience=audience))
        return SubjectToken(token, self.world.clock() + LIFE, read_claims(token) or {})

    def exchanger(self) -> Exchanger:
        """Return an exchanger that asks here."""
        settings = ExchangeSettings(ca_file=str(self.world.sandbox.ca_file))
        environment = self.world.sandbox.environment()
        return Exchanger(settings, self.world.clock, PROVIDERS, environment, account_tokens=self)

    def source(self, way: str, name: str = "bedrock") -> Rotatable:
        """Describe a policy that wants an account's token."""
        wanted = ServiceAccountToken(name, AUDIENCES[way])
        match way:
            case "aws":
                return self.world.aws(oidc=wanted)
            case "azure":
                return replace(self.world.azure(), oidc=wanted)
            case _:
                pass
        return self.world.gcp(oidc=wanted)


@pytest.fixture
def accounts(world: Backend) -> Accounts:
    """Return an API server's part."""
    record = FederatedCredential(world.issuer.url, DEFAULT_CLIENT)
    world.sandbox.entra.tenants[DEFAULT_TENANT][DEFAULT_APP].federated = [record]
    return Accounts(world)


@pytest.mark.parametrize("way", AUDIENCES)
def test_without_a_client_secret(world: Backend, accounts: Accounts, way: str) -> None:
    """No issuer is asked and no Secret read; the account is the policy's namespace's, whatever its name."""
    world.values.clear()
    world.exchange(accounts.source(way), accounts.exchanger())
    assert accounts.asked == [(ObjectKey(POLICY.namespace, "bedrock"), AUDIENCES[way])]
    assert world.issuer.requests.total == 0


def test_kept_for_half_of_its_life(world: Backend, accounts: Accounts) -> None:
    """One token serves a policy for half an hour; what is shown to a vendor has half an hour left, at least."""
    exchanger = accounts.exchanger()
    for _ in range(2):
        world.exchange(accounts.source("aws"), exchanger)
    assert len(accounts.asked) == 1
    world.clock.offset = LIFE / 2
    world.exchange(accounts.source("aws"), exchanger)
    assert len(accounts.asked) == 2


def test_one_for_each_policy_and_audience(world: Backend, accounts: Accounts) -> None:
    """Neither another policy nor another vendor is shown the same token."""
    exchanger = accounts.exchanger()
    for policy in (POLICY, ObjectKey(POLICY.namespace, "other"), ObjectKey("team-b", POLICY.name)):
        exchanger(policy, accounts.source("aws"), world.secrets)
    exchanger(POLICY, accounts.source("azure"), world.secrets)
    assert len(accounts.asked) == 4
    assert {account.namespace for account, _ in accounts.asked} == {POLICY.namespace, "team-b"}


def test_a_new_one_for_each_exchange_where_it_is_taken_once(world: Backend, accounts: Accounts) -> None:
    """A vendor that takes each token once is never shown one again, nor one that another vendor was shown."""
    exchanger, audience = accounts.exchanger(), "https://api.anthropic.com"
    wanted = ServiceAccountToken("bedrock", audience)
    source = AnthropicFederation(wanted, DEFAULT_RULE, DEFAULT_ORGANIZATION, DEFAULT_SERVICE_ACCOUNT)
    kept = exchanger.subject_token(POLICY, wanted, world.secrets).token.reveal()
    for _ in range(3):
        exchanger(POLICY, source, world.secrets)
    requests = world.sandbox.anthropic.requests.matching("/v1/oauth/token")
    shown = {json.loads(request.body)["assertion"] for request in requests}
    assert len(shown - {kept}) == len(requests) == 3
    assert accounts.asked == [(ObjectKey(POLICY.namespace, "bedrock"), audience)] * 4


def test_fault_19_a_stale_one_is_replaced(world: Backend, accounts: Accounts) -> None:
    """One that the vendor calls expired is got anew within the attempt."""
    world.sandbox.sts.faults.add(ServiceError("ExpiredTokenException"), times=1)
    world.exchange(accounts.source("aws"), accounts.exchanger())
    assert len(accounts.asked) == 2


def test_without_a_cluster(world: Backend, accounts: Accounts) -> None:
    """Policies from manifests have no API server to ask; what to do instead is said."""
    with refused(PolicyError, "ServiceAccountNeedsCluster") as caught:
        world.exchange(accounts.source("aws"), world.exchanger())
    assert "credrotator.io/token-source" in caught.value.hint
