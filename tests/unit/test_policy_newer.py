"""What a newer gateway may know, and choices: neither is taken for the other."""

from __future__ import annotations

from typing import Any

import pytest

from credrotator.core.model import (
    InvalidPolicy,
    Unsupported,
)
from tests.support.builders import (
    V1ALPHA1,
    Manifest,
    aws,
    azure,
    azure_secret,
    changed,
    gcp,
    gcp_key,
    policy,
    problems,
    read,
    valid,
)
from tests.unit.policy_parts import FEDERATION, GCP, OIDC, REF, both_versions


def unsupported(manifest: Manifest) -> str:
    """Read a policy that is left alone; return why."""
    found = valid(manifest)
    assert (found.source, found.secret) == (Unsupported("unknown"), None)
    (warning,) = found.warnings
    return warning


@pytest.mark.parametrize("version", ["v1", "v2", "v1alpha2", "v1beta2", "v2alpha11"])
def test_a_newer_version_is_left_alone(version: str) -> None:
    """To call it wrong would be wrong as soon as the gateway is newer than we are; what is in it is not judged."""
    named = f"aigateway.envoyproxy.io/{version}"
    assert f"apiVersion {named}" in unsupported(changed(aws(), "apiVersion", named))
    assert unsupported(changed(policy("new", {"anything": [1]}), "apiVersion", named))


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "GoogleAPIKey", "googleAPIKey": REF},
        {"type": "VendorToken"},
        {"type": "AzureCredentials", "azureCredentials": {"useManagedIdentity": True}},
        {"type": "AzureCredentials", "azureCredentials": {"managedIdentity": True, "tenantID": "x"}},
        {"type": "GCPCredentials", "gcpCredentials": {"isPassthrough": True}},
    ],
)
@both_versions
def test_a_newer_type_is_left_alone(version: str, spec: Manifest) -> None:
    """Types and ways that are being added upstream need no release of ours to be no failure."""
    assert unsupported(policy("new", spec, version))


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "AWSCredential"},
        {"type": "AWSCredentials "},
        {"type": "aws"},
        {"type": "VendorToken", "apiKey": REF},
        {"type": "GCPCredentials", "gcpCredentials": {"isPassthrough": "true"}},
        {"type": "GCPCredentials", "gcpCredentials": {"isPassthrough": False}},
    ],
)
def test_a_mistake_is_not_taken_for_something_new(spec: Manifest) -> None:
    """A slip of a known type, a type beside a block that is known, a value of another kind: each is a problem."""
    assert problems(policy("new", spec))


def test_without_a_name_nothing_is_left_alone() -> None:
    """Names become keys and files, whatever the version."""
    manifest = changed(changed(aws(), "metadata.name", "../x"), "apiVersion", "aigateway.envoyproxy.io/v9")
    assert "metadata.name" in problems(manifest)


# Choices: of a few fields an object has one, and a slip in one of their names is no absence.

BLOCK = "spec.awsCredentials"
SLIPS = [
    (gcp(), "spec.gcpCredentials", "workloadIdentityFederationConfig", "workLoadIdentityFederationConfig"),
    (gcp(), "spec.gcpCredentials", "workloadIdentityFederationConfig", "workloadIdentity"),
    (gcp(), FEDERATION, "serviceAccountImpersonation", "serviceAccountImpersonate"),
    (gcp(), FEDERATION, "serviceAccountImpersonation", "serviceAccount"),
    (gcp_key(), "spec.gcpCredentials", "credentialsFile", "credentialFile"),
    (aws(), BLOCK, "oidcExchangeToken", "oidcExchangetoken"),
    (aws(), BLOCK, "oidcExchangeToken", "OIDCExchangeToken"),
    (aws(), BLOCK, "oidcExchangeToken", "oidcExchange"),
    (azure(), "spec.azureCredentials", "oidcExchangeToken", "oidcExchangeTokens"),
    (azure_secret(), "spec.azureCredentials", "clientSecretRef", "clientSecret"),
    (aws(), OIDC, "clientID", "clientId"),
]


@pytest.mark.parametrize(("manifest", "path", "field", "slip"), SLIPS)
@both_versions
def test_a_misnamed_mechanism_is_no_default(version: str, manifest: Manifest, path: str, field: str, slip: str) -> None:
    """Passed over, it would make a policy that rotates into one that does nothing, or as somebody else; one problem."""
    node = changed(manifest, "apiVersion", version)
    block = node
    for name in path.split("."):
        block = block[name]
    block[slip] = block.pop(field)
    assert problems(node) == {f"{path}.{slip}": f"unknown field; did you mean {field}?"}


def test_other_unknown_fields_stay_warnings() -> None:
    """A newer gateway may know more."""
    manifest = changed(aws(), f"{BLOCK}.sessionTags", {})
    assert valid(manifest).warnings == (f"{BLOCK}.sessionTags: unknown field",)


@pytest.mark.parametrize(
    ("manifest", "path", "other"),
    [
        (aws(), BLOCK, "credentialsFile"),
        (azure(), "spec.azureCredentials", "clientSecretRef"),
        (gcp(), "spec.gcpCredentials", "credentialsFile"),
        (aws(), OIDC, "clientIDRef"),
    ],
)
def test_choices_are_judged_whatever_else_is_wrong(manifest: Manifest, path: str, other: str) -> None:
    """All mistakes at once: a field's mistake elsewhere, or in the very fields, hides none of two that exclude."""
    two = changed(manifest, f"{path}.{other}", {"secretRef": {"name": "key"}, "name": "key"})
    broken = changed(two, "spec.targetRefs", "x")
    assert {path, "spec.targetRefs"} == set(problems(broken))
    assert path in problems(changed(two, f"{path}.{other}", "nonsense"))


def test_a_choice_that_is_missing_beside_another_mistake() -> None:
    """Neither of two, and something else that is wrong."""
    manifest = changed(changed(azure(), "spec.azureCredentials.oidcExchangeToken", ...), "spec.targetRefs", "x")
    assert set(problems(manifest)) == {"spec.azureCredentials", "spec.targetRefs"}


def test_v1alpha1_has_no_default_chain_of_gcp() -> None:
    """Each release that knows the block at v1alpha1 wants exactly one; v1beta1 takes neither too."""
    found = problems(policy("chain", {"type": "GCPCredentials", "gcpCredentials": GCP}, V1ALPHA1))
    expected = "expected exactly one of credentialsFile and workloadIdentityFederationConfig"
    assert found == {"spec.gcpCredentials": expected}


@pytest.mark.parametrize("block", [[], "x", {"oidcExchangeToken": [1]}, {1: 2}, {"oidcExchangeToken": {"oidc": 1}}])
def test_choices_of_any_content(block: Any) -> None:
    """What has no shape at all is judged as far as it goes."""
    for kind, field in (("AWSCredentials", "awsCredentials"), ("AzureCredentials", "azureCredentials")):
        assert isinstance(read(policy("x", {"type": kind, field: block})), InvalidPolicy)
