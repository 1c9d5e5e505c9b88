"""Secrets in manifests: encoded or plain, mended, and what is not text."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from credrotator.core.errors import PolicyError
from tests.support.builders import Manifest, changed, from_stdin, secret
from tests.unit.manifest_texts import problem, text_of, value


def with_data(data: Any, string_data: Any = None) -> Manifest:
    """Secret team-a/key with ``data`` and ``stringData`` as they are."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "key", "namespace": "team-a"},
        "data": data,
        "stringData": string_data,
    }


@pytest.mark.parametrize("data", ["c2stMTIz", "c2st\n  MTIz\n", b64encode(b"sk-123\n").decode()])
def test_data_is_base64(data: str) -> None:
    """Folded over lines as well; a newline that was encoded along is stripped."""
    assert value(from_stdin(text_of(with_data({"apiKey": data})))) == "sk-123"


def test_string_data_wins() -> None:
    """As on the API server, value by value; text is not decoded."""
    found = from_stdin(text_of(with_data({"apiKey": "c2stMTIz", "other": "b3RoZXI="}, {"apiKey": "c2stMTIz"})))
    assert (value(found), value(found, "other")) == ("c2stMTIz", "other")


@pytest.mark.parametrize("data", ["sk-123!", "c2st=MTIz", "é", "c2stMTI"])
def test_what_is_not_base64_names_the_key(data: str) -> None:
    """Secret, key and remedy, but not the value, which may be a secret in plain text; and it is one problem."""
    reading = from_stdin(text_of(with_data({"apiKey": data, "other": "b3RoZXI="})))
    assert reading.problems == [
        "stdin:1: Secret team-a/key: data[apiKey]: not base64; encode it, or move it to stringData as it is"
    ]
    assert value(reading, "other") == "other"
    with pytest.raises(PolicyError) as caught:
        value(reading)
    assert caught.value.reason == "SecretNotReadable"


def test_string_data_mends_data() -> None:
    """The API server refuses it, but the value is there: the mistake is reported, the policy works."""
    reading = from_stdin(text_of(with_data({"apiKey": "?"}, {"apiKey": "sk-123"})))
    assert len(reading.problems) == 1
    assert value(reading) == "sk-123"


@pytest.mark.parametrize("block", ["data", "stringData"])
def test_values_are_strings(block: str) -> None:
    """An unquoted number is named with its key and what to do; the value is not shown."""
    text = text_of(changed(secret("key"), block, {"apiKey": 123456}))
    assert problem(text) == f"stdin:1: Secret team-a/key: {block}[apiKey]: expected a string; quote the value"
    text = text_of(changed(secret("key"), block, [1]))
    assert problem(text) == f"stdin:1: Secret team-a/key: {block}: expected an object"


def test_absent_values_are_empty() -> None:
    """A key without a value is an empty key, which the reader names."""
    reading = from_stdin(text_of(with_data({"apiKey": None})))
    assert reading.problems == []
    with pytest.raises(PolicyError, match="has an empty key apiKey"):
        value(reading)


def test_a_secret_that_is_not_text() -> None:
    """Bytes are kept as they are until somebody needs text; a lone surrogate of JSON is no text either."""
    for manifest in (with_data({"apiKey": "//79"}), with_data({}, {"apiKey": "\ud800"})):
        reading = from_stdin(json.dumps(manifest))
        assert reading.problems == []
        with pytest.raises(PolicyError) as caught:
            value(reading)
        assert caught.value.reason == "SecretNotText"
