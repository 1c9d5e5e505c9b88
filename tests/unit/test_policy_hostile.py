"""Policies that mean harm, or are anything at all: what is read of them, and what of them is shown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from credrotator.core.model import (
    InvalidPolicy,
    Policy,
)
from credrotator.policies.reader import Defaults
from tests.support.builders import (
    V1ALPHA1,
    Manifest,
    annotated,
    aws,
    azure,
    changed,
    policy,
    problems,
    read,
    read_policy,
    valid,
)
from tests.unit.policy_parts import EXCHANGE, ISSUER, OIDC

FIELDS = [
    "apiVersion",
    "kind",
    "metadata.name",
    "metadata.namespace",
    "spec.type",
    "spec.targetRefs",
    "spec.awsCredentials.region",
    f"{EXCHANGE}.awsRoleArn",
    f"{EXCHANGE}.grantType",
    ISSUER,
    f"{OIDC}.provider.tokenEndpoint",
    f"{OIDC}.clientSecret.name",
    f"{OIDC}.clientSecret.namespace",
    f"{OIDC}.clientSecret.kind",
]
HOSTILE = ["\x1b[2J\r\nlevel=error forged", "\u202egnp.exe", "x" * 1_000_000, "\ud800", "\x00" * 100_000]


@pytest.mark.parametrize("text", HOSTILE, ids=["ansi", "bidi", "long", "surrogate", "nul"])
@pytest.mark.parametrize("path", FIELDS)
def test_hostile_values(path: str, text: str) -> None:
    """Fault 46: no field's text reaches a message unescaped or at full length."""
    assert_printable(read(changed(aws(), path, text)))


@pytest.mark.parametrize("text", HOSTILE, ids=["ansi", "bidi", "long", "surrogate", "nul"])
def test_hostile_names_of_fields(text: str) -> None:
    """Nor does a field's name, or an annotation's."""
    for manifest in (
        changed(aws(), f"{OIDC}.provider.tokenEndpoint" + text.replace(".", ""), "x"),
        changed(aws(), "metadata.annotations", {"credrotator.io/" + text: "x"}),
        changed(aws(), "metadata.annotations", {"credrotator.io/duration": text}),
        changed(aws(), "metadata.annotations", {text: 1}),
        changed(aws(), f"spec.{text.replace('.', '')}", {}),
        annotated(azure(), azure_scope=text, azure_authority_host=text, subject_token=text),
    ):
        assert_printable(read(manifest))


def assert_printable(found: Policy | InvalidPolicy) -> None:
    """Check every text that is meant for people."""
    texts = found.warnings if isinstance(found, Policy) else tuple(map(str, found.problems))
    for text in (*texts, str(found.key)):
        assert text.isprintable()
        assert len(text) <= 1200


def test_a_thousand_mistakes_are_counted() -> None:
    """The first twenty are listed, the rest is counted: a status message has to be read."""
    found = read(changed(aws(), f"{OIDC}.scopes", [1] * 1000))
    assert isinstance(found, InvalidPolicy)
    assert len(found.problems) == 21
    assert str(found.problems[-1]) == "and 980 more"
    many = {f"x{number}": 1 for number in range(1000)}
    assert len(valid(policy("many", aws()["spec"] | many)).warnings) == 20


def test_a_document_that_contains_itself() -> None:
    """YAML can say ``&a [*a]``; such a value is as wrong as any other, or as harmless."""
    loop: list[Any] = []
    loop.append(loop)
    ring: Manifest = {}
    ring["ring"] = ring
    for value in (loop, ring):
        assert list(problems(changed(aws(), "spec.awsCredentials.region", value))) == ["spec.awsCredentials.region"]
        valid(changed(aws(), "spec.credentialOverride", value))
        assert list(problems(changed(aws(), "spec.type", value))) == ["spec.type"]


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@given(document=st.dictionaries(st.text(max_size=10), json_like, max_size=5))
def test_any_document_is_a_policy_or_a_list_of_problems(document: Manifest) -> None:
    """Nothing raises, whatever stands there."""
    found = read_policy(document, "x", Defaults())
    assert isinstance(found, InvalidPolicy)
    assert found.problems


PATHS = [*FIELDS, "spec", "metadata", "spec.awsCredentials", EXCHANGE, OIDC, f"{OIDC}.provider", f"{OIDC}.scopes"]
PATHS += [
    "metadata.annotations",
    f"{OIDC}.resources",
    f"{OIDC}.clientIDRef",
    f"{OIDC}.clientID",
    "spec.azureCredentials",
]


@settings(max_examples=300)
@given(path=st.sampled_from(PATHS), value=json_like, base=st.sampled_from([aws(), aws(V1ALPHA1), azure()]))
def test_any_value_in_any_field(path: str, value: Any, base: Manifest) -> None:
    """A sound policy with any value in any field is read or refused with printable problems; nothing raises."""
    found = read(changed(base, path, value))
    assert isinstance(found, Policy) or found.problems
    assert_printable(found)
