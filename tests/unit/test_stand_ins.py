"""What is no secret although it stands where one should, and what is one although it looks odd."""

from __future__ import annotations

import logging
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.errors import PolicyError
from credrotator.core.model import ObjectKey, SecretKeyRef
from credrotator.policies.characters import odd_character
from credrotator.policies.inventory import Inventory
from credrotator.policies.stand_ins import stand_in

POLICY = ObjectKey("team-a", "bedrock")
CLIENT = ObjectKey("team-a", "oidc-client")

ENCRYPTED = [
    "ENC[AES256_GCM,data:p0gyk2Y=,iv:0Kc=,tag:bRQ==,type:str]",
    '{"type": "service_account", "private_key": "ENC[AES256_GCM,data:x,iv:y,tag:z,type:str]"}',
    "[default]\naws_secret_access_key = ENC[AES256_GCM,data:x,iv:y,tag:z,type:str]\n",
    "ENC[PKCS7,MIIBeQYJKoZIhvcNAQcDoIIBajCCAWYCAQAxggEhMIIBHQIBADAFMAACAQEw]",
    "$ANSIBLE_VAULT;1.1;AES256\n6234\n",
    "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----",
    "-----BEGIN PGP MESSAGE-----\n\nhQEM",
    "age-encryption.org/v1\n-> X25519 x",
    "vault:v1:8SDd3WHDOjf7mq69CyCqYjBXAiQQAVZRkFM13ok481zoCmHnSeDX9vyf7w==",
    "ENC(G6N718UuyPE5bHyWKyuLQSm02auQPUtm)",
    "{cipher}682bc583f4641835fa2db009355293665d2647dade3375c0ee201de2a49f7bda",
]
PLACEHOLDERS = [
    "vault:secret/data/oidc#client-secret",
    ">>vault:secret/data/oidc#client-secret",
    "vault:secret/oidc",
    "<path:secret/data/oidc#client-secret>",
    "<path:secret/data/oidc#client-secret | base64encode>",
    "<client-secret>",
    "<your client secret>",
    "ref+vault://secret/data/oidc#/client-secret",
    "ref+file://secrets.yaml",
    "secretref+vault://secret/data/oidc",
    "op://vault/item/field",
    "@Vendor.KeyVault(SecretUri=https://x.example/secrets/y)",
    "arn:aws:secretsmanager:us-east-1:123456789012:secret:x",
    "{{ .Values.clientSecret }}",
    '{{ lookup "v1" "Secret" "x" "y" }}',
    "{{resolve:secretsmanager:x}}",
    "${OIDC_CLIENT_SECRET}",
    "${OIDC_CLIENT_SECRET:-none}",
    "$OIDC_CLIENT_SECRET",
    "$(OIDC_CLIENT_SECRET)",
    "$(cat /run/secrets/x)",
    "%OIDC_CLIENT_SECRET%",
    "#{OidcClientSecret}#",
    "__OIDC_CLIENT_SECRET__",
    "@@client_secret@@",
    "@CLIENT_SECRET@",
    "OIDC_CLIENT_SECRET",
    "OPENAI_API_KEY",
    "changeme",
    "change-me",
    "CHANGE_ME",
    "ChangeIt",
    "please change me",
    "replace-me",
    "REPLACE_WITH_YOUR_SECRET",
    "replaced-at-runtime",
    "your-client-secret",
    "YOUR_API_KEY_HERE",
    "your api key here",
    "[REDACTED]",
    "TODO",
    "placeholder",
    "********",
    "xxxxxxxx",
    '"${SECRET}"',
    "  ${SECRET}\n",
]
SECRETS = [
    "s",
    "x",
    "xx",
    "secret",
    "hunter2",
    "sandbox-client-secret",
    "pass$(word)",
    "a${b}c",
    "$2b$12$abcdefghijklmnopqrstuv",
    "<3 this <>",
    "100%sure%of%it",
    "todo-list-of-secrets",
    "Abc~8Q~aBcDeFgHiJkLmNoPqRsTuVwXyZ012345678",
    "5Kb8kLf9zgWQnogidDA76MzPL6TsZZY36hWXMssSzNydYXYB9KF",
    "190:20:30",
    "c2VjcmV0",
    "sk-proj-123",
    "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
    '{"type": "service_account", "auth_uri": "https://accounts.example/o/oauth2/auth"}',
    "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n",
    "adde0ff1ce",
    "",
]


def reader(value: bytes, key: str = "client-secret") -> tuple[Inventory, SecretKeyRef]:
    """An inventory with one value, and the reference to it."""
    return Inventory(secrets={CLIENT: {key: value}}), SecretKeyRef(CLIENT, key, "spec.x.clientSecret")


def refused(value: bytes, key: str = "client-secret") -> PolicyError:
    """Read a value that has to be refused."""
    stock, ref = reader(value, key)
    with pytest.raises(PolicyError) as caught:
        stock.reader(POLICY)(ref)
    assert "spec.x.clientSecret of team-a/bedrock" in caught.value.message
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("value", ENCRYPTED)
def test_ciphertext(value: str) -> None:
    """Refused before it is sent, with what has to be done; also where only a part of a file is encrypted."""
    found = stand_in(value)
    assert found
    assert found.encrypted
    for key in ("client-secret", "credentials"):
        error = refused(value.encode(), key)
        assert error.reason == "SecretEncrypted"
        assert "decrypt" in error.hint
        assert found.what in error.message
        assert value.strip() not in str(vars(error))


@pytest.mark.parametrize("value", PLACEHOLDERS)
def test_placeholders(value: str) -> None:
    """Refused by what they are; they are not shown, a part may be real."""
    error = refused(value.encode())
    assert error.reason == "SecretPlaceholder"
    assert error.kind == "policy"


@pytest.mark.parametrize("value", SECRETS)
def test_secrets(value: str) -> None:
    """What may be a secret is one."""
    assert stand_in(value) is None


@given(st.text(string.ascii_letters + string.digits + string.punctuation, min_size=24, max_size=64))
def test_generated_secrets(value: str) -> None:
    """Every printable character, anywhere: only what is a stand-in from end to end could be mistaken."""
    assert stand_in("a" + value + "1") is None


class TestCharacters:
    """RFC 6749 appendix A: a client secret has characters from %x20 to %x7E."""

    ODD = (
        ("\ufeffs3cret", "a byte order mark (U+FEFF)", 1),
        ("s3\tcret", "a tab (U+0009)", 3),
        ("s3cret\nmore", "a line feed (U+000A)", 7),
        ("s3cré", "latin small letter e with acute (U+00E9)", 5),
        ("s3cret\xa0", "a no-break space (U+00A0)", 7),
        ("s3cret\u200b", "zero width space (U+200B)", 7),
        ("s3\x7fcret", "a control character (U+007F)", 3),
        ("\u201cs3cret\u201d", "left double quotation mark (U+201C)", 1),
    )

    @pytest.mark.parametrize(("value", "name", "place"), ODD)
    def test_odd_ones_are_named(self, value: str, name: str, place: int, caplog: pytest.LogCaptureFixture) -> None:
        """With their place, and without the rest; the value is used as it is, an issuer may take it."""
        assert odd_character(value) == (name, place)
        stock, ref = reader(value.encode())
        with caplog.at_level(logging.WARNING):
            assert stock.reader(POLICY)(ref).reveal() == value
        (record,) = caplog.records
        assert f"client-secret of Secret team-a/oidc-client has {name} at character {place}" in record.getMessage()
        assert "cret" not in record.getMessage().replace("client-secret", "").replace("Secret", "")

    def test_blanks_around(self, caplog: pytest.LogCaptureFixture) -> None:
        """A blank at the end is a character like any, and hardly meant."""
        stock, ref = reader(b"s3cret ")
        assert stock.reader(POLICY)(ref).reveal() == "s3cret "
        assert "begins or ends with a blank" in caplog.text

    @pytest.mark.parametrize("key", ["credentials", "service_account.json"])
    def test_files_have_lines(self, key: str, caplog: pytest.LogCaptureFixture) -> None:
        """And may have comments in any language."""
        stock, ref = reader("[default]\n# für dich\n".encode(), key)
        stock.reader(POLICY)(ref)
        assert not caplog.records

    def test_every_printable_character(self, caplog: pytest.LogCaptureFixture) -> None:
        """None is odd."""
        value = "".join(map(chr, range(0x21, 0x7F)))
        assert odd_character(value) is None
        stock, ref = reader(value.encode())
        assert stock.reader(POLICY)(ref).reveal() == value
        assert not caplog.records


@pytest.mark.parametrize(
    ("encoding", "place"), [("utf-16-le", 2), ("utf-16-be", 1), ("utf-32-le", 2), ("utf-16", None), ("utf-32", None)]
)
@pytest.mark.parametrize("key", ["client-secret", "credentials"])
def test_utf_16(encoding: str, place: int | None, key: str) -> None:
    """PowerShell's own encoding: refused by its NULs, or by its byte order mark, with what to do."""
    error = refused("s3cret".encode(encoding), key)
    assert error.reason == "SecretNotText"
    assert "UTF-16" in error.hint
    if place:
        assert f"a NUL (U+0000) at character {place}" in error.message


def test_a_nul_is_no_character_of_a_secret() -> None:
    """Nothing that takes a secret takes one."""
    assert refused(b"s3cret\0").message.endswith("has a NUL (U+0000) at character 7")
