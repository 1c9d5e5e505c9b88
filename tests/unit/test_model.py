"""The nouns: a secret that stays masked, keys that print and parse."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict

import pytest

from credrotator.core.model import ObjectKey, Problem, backend_key, generated_secret
from credrotator.core.secret_document import SecretDocument
from credrotator.core.sensitive import Sensitive
from tests.support.builders import aws_credential, azure_token

CANARY = "canary-7f3a"


def test_a_secret_masks_itself_everywhere() -> None:
    """I9: repr, str, format, %-format, inside containers and dataclasses, and as_dict show no secret."""
    secret = Sensitive(CANARY)
    document = SecretDocument(ObjectKey("a", "b"), {"key": secret}, {})
    credential = azure_token(CANARY)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", "%s" % secret, f"{[secret]}"]  # noqa: UP031
    shown += [repr(document), repr(credential), repr(asdict(credential)), repr(aws_credential(session=CANARY))]
    shown += [json.dumps(asdict(credential), default=str)]
    assert not [text for text in shown if CANARY in text]
    assert secret.reveal() == CANARY


def test_a_secret_has_no_dict_to_dump() -> None:
    """Nothing that walks attributes finds it by accident."""
    assert not hasattr(Sensitive(CANARY), "__dict__")


def test_a_secret_is_not_pickled() -> None:
    """A pickle is a file full of secrets; a copy of something that holds one shares it."""
    secret = Sensitive(CANARY)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


def test_secrets_compare_by_value() -> None:
    """Equal secrets are one key of a cache; a secret never equals its own text."""
    assert Sensitive("a") == Sensitive("a")
    assert hash(Sensitive("a")) == hash(Sensitive("a"))
    assert Sensitive("a") != Sensitive("b")
    assert Sensitive("a") != "a"
    assert not Sensitive("")


@pytest.mark.parametrize(
    ("text", "key"), [("a/b", ObjectKey("a", "b")), ("b", ObjectKey("ns", "b")), ("/b", ObjectKey("ns", "b"))]
)
def test_keys_parse_like_kubectl(text: str, key: ObjectKey) -> None:
    """``namespace/name``, or a name in the default namespace."""
    assert ObjectKey.parse(text, "ns") == key
    assert ObjectKey.parse(str(key), "other") == key


def test_names_of_the_gateway() -> None:
    """The generated Secret's name is the gateway's; an InferencePool's key is never an AIServiceBackend's."""
    assert generated_secret(ObjectKey("ns", "p")) == ("ns", "ai-eg-bsp-p")
    assert backend_key("ns", "AIServiceBackend", "x") == ("ns", "x")
    assert backend_key("ns", "InferencePool", "x") != ("ns", "x")


def test_a_problem_reads_as_path_and_message() -> None:
    """Without a path only the message."""
    assert str(Problem("spec.type", "wrong")) == "spec.type: wrong"
    assert str(Problem("", "wrong")) == "wrong"
