"""``credrotator.io/token-exchange``: what it may say, each problem under its field."""

from __future__ import annotations

from typing import Any

import pytest

from credrotator.core.model import ObjectKey, OidcClient, RotatablePolicy, ServiceAccountToken, SubjectUse, TokenFile
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader
from credrotator.providers.token_exchange.source import TokenExchange
from tests.support.builders import Manifest, oidc
from tests.unit.annotation_blocks import asking, path, problems, read

NAME = "token-exchange"
EXCHANGE = {"aud": "exchange", "oidc": oidc()}
BLOCK: Manifest = {
    "tokenEndpoint": "https://tokens.example/token",
    "grant": "token-exchange",
    "encoding": "form",
    "audience": "https://mcp.example",
    "resources": ["https://mcp.example"],
    "scopes": ["tools"],
    "requestedTokenType": "access_token",
    "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt",
    "parameters": {"client_id": "gateway"},
    "oidcExchangeToken": EXCHANGE,
}


def sound(block: Manifest, **annotations: str) -> RotatablePolicy:
    """Read a policy with nothing wrong with it."""
    found = read(asking(NAME, block, **annotations))
    assert isinstance(found, RotatablePolicy), found
    return found


def test_a_sound_block() -> None:
    """The Secret is the one that the policy names; the subject token may be a shared one."""
    found = sound(BLOCK)
    assert (found.provider, found.managed, found.data_key) == ("token-exchange", True, "apiKey")
    assert found.secret == ObjectKey("team-a", "token")
    assert found.source.subject_use is SubjectUse.SHARED
    assert found.source.identity == "https://mcp.example"
    assert isinstance(found.source.token_source, OidcClient)
    assert not policy_reader(Defaults()).is_convertible(found)


def test_the_least_that_is_needed() -> None:
    """An endpoint and a subject token: by RFC 8693, as a form."""
    found = sound({name: BLOCK[name] for name in ("tokenEndpoint", "oidcExchangeToken")}).source
    assert isinstance(found, TokenExchange)
    assert (found.grant, found.encoding, found.identity) == ("token-exchange", "form", "tokens.example")


CHANGES: dict[str, Any] = {
    "tokenEndpoint": "https://other.example/token",
    "encoding": "json",
    "audience": "https://tools.example",
    "resources": [],
    "scopes": ["models"],
    "requestedTokenType": "jwt",
    "subjectTokenType": "id_token",
    "parameters": {"client_id": "other"},
    "oidcExchangeToken": {**EXCHANGE, "aud": "other"},
}


@pytest.mark.parametrize("field", CHANGES)
def test_an_edit_is_another_credential(field: str) -> None:
    """Every field is part of the fingerprint."""
    assert sound({**BLOCK, field: CHANGES[field]}).fingerprint != sound(BLOCK).fingerprint


def test_other_subject_tokens() -> None:
    """Of a file or a service account: the latter needs the audience that the endpoint wants."""
    block = {name: value for name, value in BLOCK.items() if name != "oidcExchangeToken"}
    assert sound(block, token_source="pod").source.token_source == TokenFile("pod")
    named = sound({**block, "oidcExchangeToken": {"aud": "exchange"}}, service_account="gateway")
    assert named.source.token_source == ServiceAccountToken("gateway", "exchange")
    assert list(problems(asking(NAME, block, service_account="gateway"))) == [path(NAME, "oidcExchangeToken.aud")]


WRONG: list[tuple[str, object, str]] = [
    ("tokenEndpoint", "http://tokens.example/token", ""),
    ("tokenEndpoint", "https://user@tokens.example/token", ""),
    ("tokenEndpoint", "https://tokens.example/token#x", ""),
    ("tokenEndpoint", 7, ""),
    ("grant", "password", ""),
    ("encoding", "xml", ""),
    ("audience", "a\nb", ""),
    ("scopes", ["a b"], "[0]"),
    ("scopes", [f"s{number}" for number in range(33)], ""),
    ("resources", [f"https://r{number}.example" for number in range(33)], ""),
    ("requestedTokenType", "a b", ""),
    ("subjectTokenType", "", ""),
    ("parameters", {"client secret": "x"}, ".client secret"),
    ("parameters", {"grant_type": "password"}, ".grant_type"),
    ("parameters", {"client_secret": "x"}, ".client_secret"),
    ("parameters", {"subject_token": "x"}, ".subject_token"),
    ("parameters", {f"p{number}": "x" for number in range(33)}, ""),
]


@pytest.mark.parametrize(("field", "value", "further"), WRONG)
def test_a_field_of_the_wrong_shape(field: str, value: object, further: str) -> None:
    """It is a policy error, with its field; https only, and no secret stands in an annotation."""
    assert list(problems(asking(NAME, {**BLOCK, field: value}))) == [path(NAME, f"{field}{further}")]


def test_an_assertion_has_no_token_types() -> None:
    """RFC 7523 §2.1 knows none."""
    found = problems(asking(NAME, {**BLOCK, "grant": "jwt-bearer"}))
    assert set(found) == {path(NAME, "requestedTokenType"), path(NAME, "subjectTokenType")}


def test_missing_and_unknown_fields() -> None:
    """Strict: a typing error in an optional field must not pass in silence."""
    assert path(NAME, "tokenEndpoint") in problems(asking(NAME, {}))
    assert list(problems(asking(NAME, {**BLOCK, "audiences": "x"}))) == [path(NAME, "audiences")]
