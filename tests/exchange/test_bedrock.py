"""Short-term Bedrock API keys: equal to those of AWS's own generator, and accepted and refused as they should be."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import aws_bedrock_token_generator.token_generator as generator
import botocore.auth
import pytest
import requests
from botocore.credentials import Credentials

from credrotator.core.errors import Denied, Transient
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.grants import AccessToken
from credrotator.providers.aws.source import AwsCredential, ChainedRole
from credrotator.providers.bedrock.presigned import api_key
from credrotator.providers.bedrock.source import BedrockApiKey
from credrotator.sandbox import DEFAULT_ROLE, Role, ServiceError
from tests.support.exchanging import POLICY, Backend, check_showable, refused

if TYPE_CHECKING:
    from typing import Any

NOW = datetime(2026, 11, 27, 12, 0, 7, 250_000, tzinfo=UTC)
HOUR = timedelta(hours=1)


def credential(expires_at: datetime = NOW + HOUR, region: str = "us-west-2") -> AwsCredential:
    """A role's credential, with characters that have to be escaped."""
    return AwsCredential("ASIAEXAMPLE", Sensitive("s3/cr+et"), Sensitive("to/k+en=="), region, NOW, expires_at)


def exchange(world: Backend, **changes: Any) -> AccessToken:
    """Get a key for the sandbox's role."""
    source = replace(BedrockApiKey(world.oidc(), DEFAULT_ROLE, "eu-central-1"), **changes)
    found = world.exchanger()(POLICY, source, world.secrets)
    assert isinstance(found, AccessToken)
    return found


def converse(world: Backend, key: str) -> requests.Response:
    """Call a model with a key, as the gateway would."""
    with requests.Session() as session:
        session.trust_env = False
        return session.post(
            f"{world.sandbox.sts.url}/model/some.model/converse",
            headers={"Authorization": f"Bearer {key}"},
            verify=str(world.sandbox.ca_file),
            timeout=10,
        )


@pytest.mark.parametrize("region", ["us-west-2", "eu-central-1", "us-gov-west-1"])
@pytest.mark.parametrize("life", [timedelta(hours=12), timedelta(minutes=15)])
def test_equal_to_awss_own_generator(monkeypatch: pytest.MonkeyPatch, region: str, life: timedelta) -> None:
    """Byte for byte, at the same second, for the same credential."""
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: NOW.replace(tzinfo=None))
    known = Credentials("ASIAEXAMPLE", "s3/cr+et", "to/k+en==")
    theirs = generator._generate_token(known, region, int(life.total_seconds()))
    assert api_key(credential(region=region), life, NOW).token.reveal() == theirs
    if life == timedelta(hours=12):
        assert generator.BedrockTokenGenerator().get_token(known, region) == theirs


def test_never_longer_than_the_roles_credential() -> None:
    """Twelve hours at most, and the role's end is the key's; the signature counts from its whole second."""
    twelve = timedelta(hours=12)
    assert api_key(credential(), twelve, NOW).expires_at == NOW + HOUR
    assert api_key(credential(NOW + 2 * twelve), twelve, NOW).expires_at == NOW.replace(microsecond=0) + twelve
    assert api_key(credential(), timedelta(minutes=15), NOW).expires_at < NOW + timedelta(minutes=15)


def test_accepted_and_refused(world: Backend) -> None:
    """The key stands for the role's session, until that ends or is revoked; a changed one stands for nobody."""
    key = exchange(world)
    answer = converse(world, key.token.reveal())
    assert answer.ok, answer.text
    assert "assumed-role/bedrock/ai-gateway-bedrock" in answer.text
    assert not converse(world, key.token.reveal()[:-8] + "AAAAAAA=").ok
    world.sandbox.sts.sessions.clear()
    assert converse(world, key.token.reveal()).status_code == 403


def test_the_key_expires(world: Backend) -> None:
    """At its stated end, and not before."""
    key = exchange(world, duration=timedelta(minutes=15))
    assert timedelta(minutes=14) < key.expires_at - world.clock() <= timedelta(minutes=15)
    world.clock.offset = timedelta(minutes=14)
    assert converse(world, key.token.reveal()).ok
    world.clock.offset = timedelta(minutes=15, seconds=1)
    assert not converse(world, key.token.reveal()).ok


def test_nothing_secret_shows(world: Backend) -> None:
    """Neither the key nor what it was made of."""
    key = exchange(world)
    assert key.token.reveal() not in repr(key)
    assert list(key.secret_data(None)) == ["apiKey"]


@pytest.mark.parametrize(
    ("code", "kind"), [("AccessDenied", Denied), ("InvalidIdentityToken", Denied), ("Throttling", Transient)]
)
def test_what_sts_refuses(world: Backend, code: str, kind: type[Denied | Transient]) -> None:
    """The role's refusals are those of any policy of AWS."""
    world.sandbox.sts.faults.add(ServiceError(code))
    with pytest.raises(kind) as caught:
        exchange(world)
    check_showable(caught.value)


def test_longer_than_the_role_allows(world: Backend) -> None:
    """The hint names the field of this block."""
    world.sandbox.sts.roles[DEFAULT_ROLE].max_life = HOUR
    with refused(Denied, "DurationTooLong") as caught:
        exchange(world, duration=timedelta(hours=12))
    assert caught.value.hint.startswith("lower duration")


def test_a_chain_of_roles(world: Backend) -> None:
    """The key stands for the last role, and ends with its credential."""
    shared = "arn:aws:iam::210987654321:role/shared"
    world.sandbox.sts.roles[shared] = Role(callers={DEFAULT_ROLE: "ours:42"})
    key = exchange(world, chain=(ChainedRole(shared, "ours:42"),))
    assert "210987654321:assumed-role/shared" in converse(world, key.token.reveal()).text
    assert key.expires_at - world.clock() <= HOUR


def test_the_machines_clock_counts_for_nothing(world: Backend) -> None:
    """Fault 23: the signature is dated by the clock that AWS's own date puts right."""
    world.clock.offset = timedelta(days=3)
    assert converse(world, exchange(world).token.reveal()).ok
