"""Blocks that stand in an annotation only: strict, with each problem under the annotation's own path."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from credrotator.core.model import ObjectKey, OidcClient, RotatablePolicy, SubjectUse, TokenFile
from credrotator.policies.managed import header_mutation
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader, provider_of
from tests.unit.annotation_blocks import EXCHANGE, asking, path, problems, read

if TYPE_CHECKING:
    from tests.support.builders import Manifest

BLOCKS: dict[str, Manifest] = {
    "anthropic-credentials": {
        "federationRuleID": "fdrl_01AbC",
        "organizationID": "00000000-1111-2222-3333-444444444444",
        "serviceAccountID": "svac_01AbC",
        "workspaceID": "default",
        "oidcExchangeToken": EXCHANGE,
    },
    "openai-credentials": {
        "identityProviderID": "idp_1",
        "serviceAccountID": "sa_1",
        "subjectTokenType": "id_token",
        "oidcExchangeToken": EXCHANGE,
    },
}
KINDS = {"anthropic-credentials": "anthropic-oidc", "openai-credentials": "openai-oidc"}
blocks = pytest.mark.parametrize("name", BLOCKS)


@blocks
def test_a_sound_block(name: str) -> None:
    """The Secret is the one that the policy names, the provider the block's; no convertible form of it exists."""
    found = read(asking(name, BLOCKS[name]))
    assert isinstance(found, RotatablePolicy), found
    assert (found.provider, found.managed, found.data_key) == (KINDS[name], True, "apiKey")
    assert found.secret == ObjectKey("team-a", "token")
    assert isinstance(found.source.token_source, OidcClient)
    assert found.source.token_source.audience == "vendor"
    assert [str(reference.secret) for reference in found.references] == ["team-a/oidc-client"]
    assert not found.warnings
    assert found.source.identity
    assert not policy_reader(Defaults()).is_convertible(found)


@blocks
def test_an_edit_is_another_credential(name: str) -> None:
    """Every field of a block is part of the fingerprint."""
    sound = read(asking(name, BLOCKS[name]))
    assert isinstance(sound, RotatablePolicy)
    for field, value in BLOCKS[name].items():
        if field == "oidcExchangeToken":
            changed: Any = {**EXCHANGE, "aud": "other"}
        else:
            changed = {"default": "wrkspc_2", "id_token": "jwt"}.get(value, f"{value[:-1]}9")
        edited = read(asking(name, {**BLOCKS[name], field: changed}))
        assert isinstance(edited, RotatablePolicy), (field, edited)
        assert edited.fingerprint != sound.fingerprint, field


WRONG: list[tuple[str, str, object]] = [
    ("anthropic-credentials", "federationRuleID", "rule"),
    ("anthropic-credentials", "federationRuleID", "fdrl_a/b"),
    ("anthropic-credentials", "federationRuleID", 7),
    ("anthropic-credentials", "organizationID", "org_1"),
    ("anthropic-credentials", "serviceAccountID", "sa_1"),
    ("anthropic-credentials", "workspaceID", "mine"),
    ("anthropic-credentials", "workspaceID", ""),
    ("openai-credentials", "identityProviderID", "a b"),
    ("openai-credentials", "serviceAccountID", "ü"),
    ("openai-credentials", "subjectTokenType", "saml2"),
]


@pytest.mark.parametrize(("name", "field", "value"), WRONG)
def test_a_field_of_the_wrong_shape(name: str, field: str, value: object) -> None:
    """It is a policy error, with its field."""
    assert list(problems(asking(name, {**BLOCKS[name], field: value}))) == [path(name, field)]


@blocks
def test_missing_fields(name: str) -> None:
    """Each is named, and so is what may have been meant."""
    found = problems(asking(name, {}))
    needed = [field for field in BLOCKS[name] if field not in {"workspaceID", "subjectTokenType", "oidcExchangeToken"}]
    assert set(found) >= {path(name, field) for field in needed}


@blocks
def test_unknown_fields(name: str) -> None:
    """Strict: a typing error in an optional field must not pass in silence, neither here nor further in."""
    found = problems(asking(name, {**BLOCKS[name], "region": "x", "oidcExchangeToken": {**EXCHANGE, "audience": "y"}}))
    assert set(found) == {path(name, "region"), path(name, "oidcExchangeToken.audience")}


@blocks
def test_without_a_token_source(name: str) -> None:
    """No oidcExchangeToken, and nothing in its place, is told by the field that is missing."""
    block = {field: value for field, value in BLOCKS[name].items() if field != "oidcExchangeToken"}
    assert list(problems(asking(name, block))) == [path(name, "oidcExchangeToken.oidc")]
    found = read(asking(name, block, token_source="pod"))
    assert isinstance(found, RotatablePolicy)
    assert found.source.token_source == TokenFile("pod")


@blocks
def test_on_a_policy_of_another_type(name: str) -> None:
    """The gateway takes such a credential from type APIKey alone."""
    manifest = asking(name, BLOCKS[name])
    manifest["spec"] = {"type": "AWSCredentials", "awsCredentials": {"region": "us-east-1"}}
    assert "type APIKey with apiKey.secretRef" in problems(manifest)[path(name)]


@blocks
@pytest.mark.parametrize("text", ["[", "- a", "x", "&a {b: *a}", "{a: 1, a: 2}"])
def test_no_object(name: str, text: str) -> None:
    """What is no plain object is refused as a whole."""
    assert list(problems(asking(name, text))) == [path(name)]


def test_two_blocks() -> None:
    """Only one can be meant."""
    manifest = asking("openai-credentials", BLOCKS["openai-credentials"])
    manifest["metadata"]["annotations"]["credrotator.io/anthropic-credentials"] = json.dumps(
        BLOCKS["anthropic-credentials"]
    )
    assert any("only one of" in message for message in problems(manifest).values())


@blocks
def test_use_of_the_subject_token(name: str) -> None:
    """Anthropic takes a token once; whoever else says nothing is shown a shared one."""
    found = read(asking(name, BLOCKS[name]))
    assert isinstance(found, RotatablePolicy)
    once = name == "anthropic-credentials"
    assert found.source.subject_use is (SubjectUse.ONCE if once else SubjectUse.SHARED)


def test_headers() -> None:
    """What requests need beside the credential is the backend's to add, in the gateway's own words."""
    found = read(asking("anthropic-credentials", BLOCKS["anthropic-credentials"]))
    assert isinstance(found, RotatablePolicy)
    headers = [{"name": "anthropic-beta", "value": "oauth-2025-04-20"}]
    assert header_mutation(provider_of(found.source).managed) == {"headerMutation": {"set": headers}}
