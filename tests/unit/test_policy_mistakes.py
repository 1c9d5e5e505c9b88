"""Mistakes in a policy: each with its path, all at once, unknown fields, and annotations that would do nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from credrotator.policies.reader import Defaults
from credrotator.providers.aws.source import AwsOidc
from credrotator.providers.azure.source import AzureClientSecret, AzureOidc
from tests.support.builders import (
    Manifest,
    annotated,
    aws,
    azure,
    azure_secret,
    changed,
    client_of,
    policy,
    problems,
    valid,
)
from tests.unit.policy_parts import EXCHANGE, ISSUER, OIDC, REF


@pytest.mark.parametrize(
    ("path", "value", "at", "message"),
    [
        ("spec", ..., "spec", "required field is missing"),
        ("spec", None, "spec", "required field is missing"),
        ("spec", [], "spec", "expected an object, got a list"),
        ("spec.type", ..., "spec.type", "required field is missing"),
        ("metadata", ..., "metadata", "required field is missing"),
        ("metadata.name", ..., "metadata.name", "required field is missing"),
        ("metadata.name", 12, "metadata.name", "expected a string, got a number; quote the value"),
        ("spec.awsCredentials", "x", "spec.awsCredentials", "expected an object, got a string"),
        ("spec.awsCredentials.region", ..., "spec.awsCredentials.region", "required field is missing"),
        ("spec.awsCredentials.region", "", "spec.awsCredentials.region", "must not be empty"),
        (EXCHANGE, [], EXCHANGE, "expected an object, got a list"),
        (f"{EXCHANGE}.aud", True, f"{EXCHANGE}.aud", "expected a string, got a boolean; quote the value"),
        (OIDC, ..., OIDC, "required field is missing"),
        (ISSUER, ..., ISSUER, "required field is missing"),
        (f"{OIDC}.clientID", {}, f"{OIDC}.clientID", "expected a string, got an object"),
        (f"{OIDC}.clientSecret", ..., f"{OIDC}.clientSecret", "required field is missing"),
        (f"{OIDC}.clientSecret.name", ..., f"{OIDC}.clientSecret.name", "required field is missing"),
        (f"{OIDC}.clientSecret.kind", "ConfigMap", f"{OIDC}.clientSecret.kind", "expected 'Secret', got 'ConfigMap'"),
        (f"{OIDC}.clientSecret.group", "x", f"{OIDC}.clientSecret.group", "expected '', got 'x'"),
        (f"{OIDC}.scopes", "openid", f"{OIDC}.scopes", "expected a list, got a string"),
        (f"{OIDC}.scopes", ["a", 1], f"{OIDC}.scopes[1]", "expected a string, got a number; quote the value"),
        (f"{OIDC}.scopes", [""], f"{OIDC}.scopes[0]", "must not be empty"),
        (
            f"{OIDC}.provider.tokenEndpoint",
            "x",
            f"{OIDC}.provider.tokenEndpoint",
            "expected an https URL without fragment, got x",
        ),
        ("spec.targetRefs", [{}], "spec.targetRefs[0].name", "required field is missing"),
        (
            "metadata.annotations",
            {"a.b/c": 1},
            "metadata.annotations[a.b/c]",
            "expected a string, got a number; quote the value",
        ),
    ],
)
def test_shapes(path: str, value: Any, at: str, message: str) -> None:
    """Each mistake of shape is one problem, at the field's path, in words of YAML rather than of Python."""
    assert problems(changed(aws(), path, value)) == {at: message}


def test_an_unknown_type_names_the_known() -> None:
    """A wrong type lists all right ones."""
    found = problems(changed(aws(), "spec.type", "AWS"))
    assert list(found) == ["spec.type"]
    assert "'AWSCredentials'" in found["spec.type"]
    assert found["spec.type"].endswith("got 'AWS'")


def test_a_field_without_a_value_is_absent() -> None:
    """``annotations:`` with nothing after it is common in YAML, and null is absent to the API server."""
    manifest = changed(aws(), "metadata.annotations", None)
    for path in ("spec.targetRefs", f"{OIDC}.scopes", f"{OIDC}.provider.tokenEndpoint", "spec.apiKey"):
        manifest = changed(manifest, path, None)
    assert valid(manifest) == valid(aws())


def test_all_mistakes_at_once() -> None:
    """Mistakes of shape, of single fields and of the union are found in one reading, each with its path."""
    manifest = changed(aws(), "spec.awsCredentials.region", ...)
    manifest = changed(manifest, f"{EXCHANGE}.awsRoleArn", "nonsense")
    manifest = changed(manifest, ISSUER, "nonsense")
    manifest = changed(manifest, f"{OIDC}.clientSecret.name", "../x")
    manifest = changed(manifest, "spec.apiKey", REF)
    manifest = changed(manifest, "apiVersion", "v2")
    manifest = annotated(manifest, durations="1h")
    assert set(problems(manifest)) == {
        "apiVersion",
        "metadata.annotations[credrotator.io/durations]",
        "spec.apiKey",
        "spec.awsCredentials.region",
        f"{EXCHANGE}.awsRoleArn",
        ISSUER,
        f"{OIDC}.clientSecret.name",
    }


def test_all_contradictions_at_once() -> None:
    """Rules between fields are all checked, too."""
    manifest = changed(aws(), f"{EXCHANGE}.awsRoleArn", "arn:aws-cn:iam::123456789012:role/x")
    manifest = changed(manifest, "spec.awsCredentials.credentialsFile", REF)
    manifest = changed(manifest, f"{EXCHANGE}.grantType", "password")
    manifest = changed(manifest, f"{OIDC}.clientID", ...)
    manifest = annotated(manifest, duration="1s", subject_token="x", azure_scope="y/.default")
    assert set(problems(manifest)) == {
        "spec.awsCredentials",
        f"{EXCHANGE}.awsRoleArn",
        f"{EXCHANGE}.grantType",
        OIDC,
        "metadata.annotations[credrotator.io/duration]",
        "metadata.annotations[credrotator.io/subject-token]",
        "metadata.annotations[credrotator.io/azure-scope]",
    }


# Typing errors.


@pytest.mark.parametrize(
    ("path", "warning"),
    [
        ("spec.targetRef", "spec.targetRef: unknown field; did you mean targetRefs?"),
        ("spec.somethingElse", "spec.somethingElse: unknown field"),
        (f"{EXCHANGE}.audience", f"{EXCHANGE}.audience: unknown field; did you mean aud?"),
        (f"{OIDC}.scope", f"{OIDC}.scope: unknown field; did you mean scopes?"),
        (
            f"{OIDC}.provider.tokenEndPoint",
            f"{OIDC}.provider.tokenEndPoint: unknown field; did you mean tokenEndpoint?",
        ),
        (f"{OIDC}.clientSecret.nameSpace", f"{OIDC}.clientSecret.nameSpace: unknown field; did you mean namespace?"),
    ],
)
def test_unknown_fields_are_warned_of(path: str, warning: str) -> None:
    """An unknown field stops nothing (a newer gateway may know it) and is named, with what was probably meant."""
    assert valid(changed(aws(), path, "x")).warnings == (warning,)


@pytest.mark.parametrize("field", ["redirectURL", "logoutPath", "cookieNames", "forwardAccessToken", "denyRedirect"])
def test_fields_of_browser_log_in_are_passed_over(field: str) -> None:
    """The rest of Envoy Gateway's OIDC type serves log-in and is nothing to warn of."""
    assert valid(changed(aws(), f"{OIDC}.{field}", "x")).warnings == ()


def test_a_mistyped_required_field_is_one_problem() -> None:
    """The missing field names the unknown one that was probably meant."""
    manifest = changed(changed(aws(), f"{EXCHANGE}.awsRoleArn", ...), f"{EXCHANGE}.awsRoleARN", "x")
    assert problems(manifest) == {
        f"{EXCHANGE}.awsRoleArn": "required field is missing; there is awsRoleARN, is that a typing error?"
    }
    manifest = policy("typo", {"type": "AWSCredentials", "awsCredential": {"region": "us-east-1"}})
    assert problems(manifest) == {
        "spec.awsCredentials": "required with type AWSCredentials; there is awsCredential, is that a typing error?"
    }


# Annotations.


def test_duration() -> None:
    """G24: the session's length, in Go's notation."""
    source = valid(annotated(aws(), duration="1h30m")).source
    assert isinstance(source, AwsOidc)
    assert source.duration == timedelta(minutes=90)


@pytest.mark.parametrize("text", ["14m59s", "12h1s", "soon", "", "-1h", "900s500ms", "0"])
def test_durations_that_sts_refuses(text: str) -> None:
    """STS takes 15 min to 12 h, in whole seconds."""
    assert list(problems(annotated(aws(), duration=text))) == ["metadata.annotations[credrotator.io/duration]"]


def test_subject_token() -> None:
    """G29: the ID token on request, the access token by default."""
    for manifest, wanted in ((aws(), "access_token"), (annotated(azure(), subject_token="id_token"), "id_token")):
        source = valid(manifest).source
        assert isinstance(source, AwsOidc | AzureOidc)
        assert client_of(source).subject_token == wanted


@pytest.mark.parametrize("written", ["login.microsoftonline.us", "https://login.microsoftonline.us/"])
def test_national_clouds(written: str) -> None:
    """G28: an authority of a national cloud brings that cloud's scope."""
    source = valid(annotated(azure_secret(), azure_authority_host=written)).source
    assert isinstance(source, AzureClientSecret)
    assert source.app.authority == "https://login.microsoftonline.us"
    assert source.app.scope == "https://cognitiveservices.azure.us/.default"


@pytest.mark.parametrize("host", ["evil.example", "login.microsoftonline.com.evil.example", "", "http://localhost"])
def test_other_authorities_are_the_operators(host: str) -> None:
    """A policy must not have client secrets posted to a host of its author's choice; the operator may."""
    path = "metadata.annotations[credrotator.io/azure-authority-host]"
    assert list(problems(annotated(azure(), azure_authority_host=host))) == [path]
    operator = Defaults(options={"azure-authority-host": "https://localhost:9445"})
    source = valid(annotated(azure(), azure_authority_host="localhost:9445"), operator).source
    assert isinstance(source, AzureOidc)
    assert source.app.authority == "https://localhost:9445"


def test_scopes_of_entra() -> None:
    """The policy's scope wins over the operator's, which wins over the cloud's; each must end in /.default."""
    operator = Defaults(options={"azure-scope": "https://ai.azure.com/.default"})
    for manifest, wanted in ((azure(), "ai.azure.com"), (annotated(azure(), azure_scope="api://x/.default"), "x")):
        source = valid(manifest, operator).source
        assert isinstance(source, AzureOidc)
        assert source.app.scope.endswith(f"{wanted}/.default")
    path = "metadata.annotations[credrotator.io/azure-scope]"
    assert list(problems(annotated(azure(), azure_scope="api://x"))) == [path]
    assert list(problems(azure(), Defaults(options={"azure-scope": "api://x"}))) == ["--azure-scope"]


@pytest.mark.parametrize(
    ("manifest", "name"),
    [
        (azure(), "duration"),
        (policy("static", {"type": "APIKey", "apiKey": REF}), "duration"),
        (policy("chain", {"type": "AWSCredentials", "awsCredentials": {"region": "us-east-1"}}), "duration"),
        (azure_secret(), "subject-token"),
        (aws(), "azure-scope"),
        (aws(), "azure-authority-host"),
    ],
)
def test_annotations_that_would_do_nothing(manifest: Manifest, name: str) -> None:
    """An annotation where it has no effect is a mistake, not decoration."""
    values = {"duration": "1h", "subject-token": "id_token"}
    found = problems(annotated(manifest, **{name: values.get(name, "https://login.microsoftonline.us/.default")}))
    assert list(found) == [f"metadata.annotations[credrotator.io/{name}]"]
    assert "applies to" in found[f"metadata.annotations[credrotator.io/{name}]"]


def test_unknown_annotations_of_ours() -> None:
    """A typing error in an annotation is refused, with what was probably meant; others' annotations are theirs."""
    message = "unknown to credrotator; did you mean credrotator.io/duration?"
    found = problems(annotated(aws(), durations="1h"))
    assert found == {"metadata.annotations[credrotator.io/durations]": message}
    valid(changed(aws(), "metadata.annotations", {"example.com/duration": "1h"}))
