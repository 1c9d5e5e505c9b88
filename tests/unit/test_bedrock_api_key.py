"""``credrotator.io/bedrock-api-key``: what it may say, each problem under its field."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from credrotator.core.model import ObjectKey, RotatablePolicy, ServiceAccountToken
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from credrotator.providers.bedrock.source import BedrockApiKey
from tests.support.builders import Manifest, oidc
from tests.unit.annotation_blocks import asking, path, problems, read

NAME, ROLE = "bedrock-api-key", "arn:aws:iam::123456789012:role/bedrock"
EXCHANGE = {"awsRoleArn": ROLE, "aud": "sts.amazonaws.com", "oidc": oidc()}
BLOCK: Manifest = {"region": "us-east-1", "duration": "12h", "oidcExchangeToken": EXCHANGE}
SHARED = "arn:aws:iam::210987654321:role/shared"
CHAIN = json.dumps([{"roleArn": SHARED, "externalID": "ours:42"}])


def sound(block: Manifest, **annotations: str) -> tuple[RotatablePolicy, BedrockApiKey]:
    """Read a policy with nothing wrong with it."""
    found = read(asking(NAME, block, **annotations))
    assert isinstance(found, RotatablePolicy), found
    assert isinstance(found.source, BedrockApiKey)
    return found, found.source


def test_a_sound_block() -> None:
    """The Secret is the one that the policy names, the identity is the role."""
    found, source = sound(BLOCK)
    assert (found.provider, found.managed, found.data_key) == ("bedrock-api-key", True, "apiKey")
    assert found.secret == ObjectKey("team-a", "token")
    assert (source.identity, source.duration, source.region) == (ROLE, timedelta(hours=12), "us-east-1")
    assert source.asked == "sts us-east-1 123456789012"
    assert not policy_reader(Defaults()).is_convertible(found)


CHANGES: dict[str, Any] = {
    "region": "eu-central-1",
    "duration": "1h",
    "oidcExchangeToken": {**EXCHANGE, "awsRoleArn": f"{ROLE}2"},
}


@pytest.mark.parametrize("field", CHANGES)
def test_an_edit_is_another_credential(field: str) -> None:
    """Every field is part of the fingerprint."""
    assert sound({**BLOCK, field: CHANGES[field]})[0].fingerprint != sound(BLOCK)[0].fingerprint


def test_a_chain_of_roles() -> None:
    """As for other policies of AWS: the last role is whom the key stands for, an hour at most."""
    block = {name: value for name, value in BLOCK.items() if name != "duration"}
    found, source = sound(block, role_chain=CHAIN)
    assert source.identity == SHARED
    assert found.fingerprint != sound(block)[0].fingerprint
    assert list(problems(asking(NAME, BLOCK, role_chain=CHAIN))) == [path(NAME, "duration")]
    assert sound({**BLOCK, "duration": "1h"}, role_chain=CHAIN)[1].duration == timedelta(hours=1)


def test_a_service_account() -> None:
    """AWS's own audience is the default, as elsewhere."""
    block = {**BLOCK, "oidcExchangeToken": {"awsRoleArn": ROLE}}
    assert sound(block, service_account="gateway")[1].oidc == ServiceAccountToken("gateway", "sts.amazonaws.com")


WRONG: list[tuple[str, object, str]] = [
    ("region", "mars", ""),
    ("region", "cn-north-1", "oidcExchangeToken.awsRoleArn"),
    ("duration", "13h", ""),
    ("duration", "14m", ""),
    ("duration", "soon", ""),
    ("duration", "1000.5s", ""),
    ("oidcExchangeToken", {**EXCHANGE, "awsRoleArn": "bedrock"}, "oidcExchangeToken.awsRoleArn"),
    ("oidcExchangeToken", {"aud": "a", "oidc": oidc()}, "oidcExchangeToken.awsRoleArn"),
    ("lifetime", "1h", ""),
]


@pytest.mark.parametrize(("field", "value", "where"), WRONG)
def test_a_field_of_the_wrong_shape(field: str, value: object, where: str) -> None:
    """It is a policy error, with its field."""
    assert list(problems(asking(NAME, {**BLOCK, field: value}))) == [path(NAME, where or field)]


def test_the_annotation_of_other_policies() -> None:
    """The block has a duration of its own; two would contradict each other."""
    assert list(problems(asking(NAME, BLOCK, duration="1h"))) == [path("duration")]
