"""Key files of Google service accounts: of all ages, and what is refused."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from joserfc.jwk import ECKey, OKPKey

from credrotator.core.errors import Denied, PolicyError
from tests.support.exchanging import Backend, refused

if TYPE_CHECKING:
    from collections.abc import Callable


def pem(key: ECKey | OKPKey) -> str:
    """Return a private key of another kind."""
    return key.as_pem(private=True).decode()


KEY_FILES: list[tuple[dict[str, Any], str]] = [
    ({"type": "external_account"}, "external_account"),
    ({"type": "external_account", "credential_source": {"executable": {"command": "x"}}}, "that is a command"),
    ({"type": "external_account", "credential_source": {"file": "/etc/passwd"}}, "that is a file"),
    ({"type": "external_account", "credential_source": {"url": "http://169.254.169.254"}}, "that is an address"),
    ({"type": "authorized_user"}, "authorized_user"),
    ({"type": None}, "of type none"),
    ({"type": 5}, "of type none"),
    ({"token_uri": "https://evil.example/token"}, "token_uri https://evil.example/token"),
    ({"token_uri": "http://169.254.169.254/"}, "token_uri"),
    ({"token_uri": ["x"]}, "token_uri"),
    ({"universe_domain": "example.com"}, "universe_domain example.com"),
    ({"client_email": None}, "client_email"),
    ({"client_email": "a\nb@c"}, "client_email"),
    ({"private_key": None}, "private_key"),
    ({"private_key": "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n"}, "private_key"),
    ({"private_key": "canary"}, "private_key"),
    ({"private_key": "-----BEGIN PRIVATE KEY-----\\ncanary\\n-----END PRIVATE KEY-----\\n"}, "escaped once more"),
    ({"private_key": "-----BEGIN PRIVATE KEY----- canary -----END PRIVATE KEY-----"}, "without its line ends"),
    ({"private_key": "MIIcanary"}, "no PEM"),
    ({"private_key": "canary" * 2000}, "more than 8192 characters"),
    ({"private_key": pem(ECKey.generate_key("P-256"))}, "no RS256 signature"),
    ({"private_key": pem(OKPKey.generate_key("Ed25519"))}, "no RS256 signature"),
]


@pytest.mark.parametrize(("changes", "word"), KEY_FILES)
def test_key_files_that_are_refused(world: Backend, changes: dict[str, Any], word: str) -> None:
    """A policy's author writes the key file: it may choose no address, no other kind of credential, no other cloud."""
    with refused(PolicyError, "KeyFileInvalid") as caught:
        world.exchange_gcp(world.gcp_key(**changes))
    assert word in caught.value.message
    assert "spec.gcp: key service_account.json of Secret team-a/gcp" in caught.value.message
    assert "canary" not in f"{caught.value!r}{caught.value.__cause__!r}{caught.value.__context__!r}"
    assert world.sandbox.google.requests.total == 0


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "[" * 100_000, "canary"])
def test_key_files_that_are_none(world: Backend, text: str) -> None:
    """What is no JSON object is refused with the Secret's name, and not shown."""
    source = world.gcp_key()
    world.values["gcp"] = text
    with refused(PolicyError, "KeyFileInvalid") as caught:
        world.exchange_gcp(source)
    assert "canary" not in caught.value.message


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda text: base64.b64encode(text.encode()).decode(), "Base64 of a key file"),
        (lambda text: base64.b64encode(text.encode()).decode() + "\n", "Base64 of a key file"),
        (json.dumps, "quoted once more"),
    ],
    ids=["base64", "base64 with a newline", "json"],
)
def test_key_files_that_were_encoded_twice(world: Backend, change: Callable[[str], str], word: str) -> None:
    """What was done to a file on its way is named, and so is how to put it there as it is."""
    source = world.gcp_key()
    world.values["gcp"] = change(world.values["gcp"])
    with refused(PolicyError, "KeyFileInvalid") as caught:
        world.exchange_gcp(source)
    assert word in caught.value.message
    assert "--from-file=service_account.json" in caught.value.hint


@pytest.mark.parametrize(
    "uri", ["https://accounts.google.com/o/oauth2/token", "https://oauth2.googleapis.com/token", None]
)
def test_key_files_of_all_ages(world: Backend, uri: str | None) -> None:
    """Google wrote several addresses over the years, all for one endpoint; old files have no universe_domain."""
    world.exchange_gcp(world.gcp_key(token_uri=uri, universe_domain=None))


def test_a_key_that_google_does_not_know(world: Backend) -> None:
    """A deleted key is denied; the account's other keys go on working."""
    source = world.gcp_key(private_key_id="deleted")
    with refused(Denied, "GoogleInvalidGrant") as caught:
        world.exchange_gcp(source)
    assert "Invalid JWT Signature" in caught.value.message
    world.exchange_gcp(world.gcp_key())
