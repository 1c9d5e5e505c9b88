"""What the gateway makes of a field, where that is not what the field says (Envoy AI Gateway v1.1)."""

from __future__ import annotations

from typing import Any

import pytest

from credrotator.core.model import Policy
from credrotator.policies.gateway_truth import falls_back, override_warnings
from credrotator.policies.reader import Defaults
from credrotator.providers import policy_reader

HEADERS: dict[str, Any] = {"fromRequestHeaders": {}}


def warnings(policy_type: str, **spec: Any) -> tuple[str, ...]:
    """Read a policy that works, and return what is odd about it."""
    manifest = {
        "apiVersion": "aigateway.envoyproxy.io/v1beta1",
        "kind": "BackendSecurityPolicy",
        "metadata": {"name": "p", "namespace": "team"},
        "spec": {"type": policy_type, **spec},
    }
    found = policy_reader(Defaults()).read(manifest, "here")
    assert isinstance(found, Policy), found
    return found.warnings


@pytest.mark.parametrize(
    ("policy_type", "block"),
    [("APIKey", "apiKey"), ("AzureAPIKey", "azureAPIKey"), ("AnthropicAPIKey", "anthropicAPIKey")],
)
@pytest.mark.parametrize("namespace", [None, "team", "other"])
def test_namespace_of_a_static_secret(policy_type: str, block: str, namespace: str | None) -> None:
    """The gateway reads static Secrets in the policy's namespace, whatever secretRef.namespace says."""
    ref = {"name": "key", **({"namespace": namespace} if namespace else {})}
    told = warnings(policy_type, **{block: {"secretRef": ref}})
    assert [text.partition(":")[0] for text in told] == [f"spec.{block}.secretRef.namespace"] * (namespace == "other")


@pytest.mark.parametrize(("profile", "count"), [(None, 0), ("default", 0), ("bedrock", 1)])
def test_profile_that_nobody_reads(profile: str | None, count: int) -> None:
    """The filter's SDK takes profile default of a credentials file, whatever credentialsFile.profile says."""
    file = {"secretRef": {"name": "key"}, **({"profile": profile} if profile else {})}
    told = warnings("AWSCredentials", awsCredentials={"region": "us-east-1", "credentialsFile": file})
    assert len(told) == count
    assert all("credentialsFile.profile" in text for text in told)


@pytest.mark.parametrize(
    ("override", "count"),
    [
        (None, 0),
        (HEADERS, 1),
        ({"fromRequestHeaders": {"fallbackToConfigured": True}}, 1),
        ({"fromRequestHeaders": {"fallbackToConfigured": False}}, 0),
        ({"fromDynamicMetadata": {"namespace": "x"}}, 1),
    ],
)
def test_default_chain_with_an_override(override: object, count: int) -> None:
    """The gateway drops a backend whose override falls back to a default chain; falling back is the default."""
    spec = {"gcpCredentials": {"projectName": "project-1", "region": "us-central1"}}
    told = warnings("GCPCredentials", **spec, **({"credentialOverride": override} if override else {}))
    assert len(told) == count
    assert all("fallbackToConfigured" in text for text in told)


@pytest.mark.parametrize(
    ("override", "count"),
    [
        (None, 0),
        (HEADERS, 0),
        ({"fromDynamicMetadata": {"namespace": "x"}}, 0),
        ({}, 1),
        ([], 1),
        ("x", 1),
        ({"fromRequestHeaders": {}, "fromDynamicMetadata": {}}, 1),
        ({"fromRequestHeader": {}}, 2),
        ({"somethingNewer": {}}, 1),
        ({"fromRequestHeaders": {}, 7: {}}, 0),
    ],
)
def test_override_of_one_source(override: object, count: int) -> None:
    """The API takes exactly one source of a request's credential; a slip is named."""
    assert len(list(override_warnings(override))) == count
    falls_back(override)
