"""``v1alpha1`` as the releases of the gateway have it: which types, and whether another mechanism may stand beside."""

from __future__ import annotations

from typing import Any

import pytest

from credrotator.core.model import InvalidPolicy, Policy
from credrotator.policies.reader import Defaults
from credrotator.policies.served import ServedSchema, contradicts
from credrotator.providers import policy_reader
from tests.support.builders import V1ALPHA1, V1BETA1, Manifest, aws, azure, changed, gcp, policy
from tests.support.served_schemas import ALPHA_SCHEMAS

REF: dict[str, Any] = {"secretRef": {"name": "key"}}
TARGETS = [{"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend", "name": "claude"}]
NOBODY_SAID = None


def wrong(manifest: Manifest, served: ServedSchema | None) -> list[str]:
    """Read a policy of a cluster, and return the fields that are wrong."""
    found = policy_reader(Defaults(), served).read(manifest, "here")
    return [problem.path for problem in found.problems] if isinstance(found, InvalidPolicy) else []


def keyed(kind: str, version: str = V1ALPHA1) -> Manifest:
    """A policy with a static key."""
    return policy("key", {"type": kind, kind[0].lower() + kind[1:]: REF}, version)


@pytest.mark.parametrize(("release", "gcp_known", "azure_key_known"), [("v0.2", 0, 0), ("v0.3", 1, 0), ("v0.4", 1, 1)])
def test_types_that_the_served_version_knows(release: str, gcp_known: int, azure_key_known: int) -> None:
    """The types of v1alpha1 grew with the releases; the other types and v1beta1 are the same in all."""
    served = ALPHA_SCHEMAS[release]
    assert wrong(aws(V1ALPHA1), served) == wrong(azure(V1ALPHA1), served) == []
    assert wrong(gcp(V1ALPHA1), served) == ["spec.type"] * (not gcp_known)
    azure_key = policy("key", {"type": "AzureAPIKey", "azureAPIKey": REF}, V1ALPHA1)
    assert wrong(azure_key, served) == ["spec.type"] * (not azure_key_known)
    assert wrong(gcp(V1BETA1), served) == wrong(gcp(V1ALPHA1), NOBODY_SAID) == []


def test_the_message_names_what_the_cluster_knows() -> None:
    """Type, field, and where the list comes from."""
    found = policy_reader(Defaults(), ALPHA_SCHEMAS["v0.2"]).read(gcp(V1ALPHA1), "here")
    assert isinstance(found, InvalidPolicy)
    assert found.problems[0].message == (
        "expected one of APIKey, AWSCredentials, AzureCredentials, which the v1alpha1 of this cluster's gateway has, "
        "got GCPCredentials"
    )


@pytest.mark.parametrize("release", ALPHA_SCHEMAS)
def test_another_mechanism_beside_the_types(release: str) -> None:
    """v0.2 takes two fields at most, v0.3 and later no other mechanism, as v1beta1."""
    assert wrong(changed(aws(V1ALPHA1), "spec.apiKey", REF), ALPHA_SCHEMAS[release]) == ["spec.apiKey"]


@pytest.mark.parametrize(
    ("manifest", "field", "value"),
    [
        (aws(V1ALPHA1), "spec.targetRefs", TARGETS),
        (aws(V1ALPHA1), "spec.azureAPIKey", REF),
        (gcp(V1ALPHA1), "spec.targetRefs", TARGETS),
        (gcp(V1ALPHA1), "spec.targetRefs", []),
    ],
)
def test_where_nobody_tells_the_policy_itself_does(manifest: Manifest, field: str, value: Any) -> None:
    """What v0.2 does not have makes a policy one of v0.3 or later, which refuse a second mechanism."""
    assert "spec.apiKey" in wrong(changed(changed(manifest, field, value), "spec.apiKey", REF), NOBODY_SAID)


def test_nothing_of_later_versions_is_judged_as_by_the_oldest() -> None:
    """A file that may be for v0.2 is not refused for what v0.2 ignores."""
    found = policy_reader(Defaults()).read(changed(aws(V1ALPHA1), "spec.apiKey", REF), "here")
    assert isinstance(found, Policy)
    assert found.warnings == ("spec.apiKey: ignored, the type is AWSCredentials",)


@pytest.mark.parametrize("served", [NOBODY_SAID, *ALPHA_SCHEMAS.values()])
def test_no_v1alpha1_has_an_override(served: ServedSchema | None) -> None:
    """The API server drops the field without a word to programs, so that requests would not bring their credential."""
    override = {"fromRequestHeaders": {"fallbackToConfigured": False}}
    found = policy_reader(Defaults(), served).read(changed(aws(V1ALPHA1), "spec.credentialOverride", override), "here")
    assert isinstance(found, Policy)
    dropped = "v1alpha1 has no such field, so the API server drops it"
    assert found.warnings == (f"spec.credentialOverride: {dropped}; write apiVersion {V1BETA1}",)


def test_what_an_annotation_asks_for_is_no_policy_of_the_servers() -> None:
    """The managed form of Google Cloud works beside a gateway that has no such type."""
    block = gcp()["spec"]["gcpCredentials"]
    managed = changed(keyed("APIKey"), "metadata.annotations", {"credrotator.io/gcp-credentials": str(block)})
    managed["spec"] = {"type": "APIKey", "apiKey": REF}
    assert wrong(managed, ALPHA_SCHEMAS["v0.2"]) == wrong(managed, ALPHA_SCHEMAS["v0.4"]) == []


@pytest.mark.parametrize(
    ("manifest", "release", "expected"),
    [
        (aws(V1ALPHA1), "v0.2", False),
        (changed(aws(V1ALPHA1), "spec.targetRefs", TARGETS), "v0.2", True),
        (changed(aws(V1ALPHA1), "spec.targetRefs", TARGETS), "v0.3", False),
        (gcp(V1ALPHA1), "v0.2", True),
        (keyed("AnthropicAPIKey"), "v0.3", True),
        (keyed("AnthropicAPIKey"), "v0.4", False),
        (keyed("AnthropicAPIKey", V1BETA1), "v0.2", False),
        (changed(aws(V1ALPHA1), "spec", "nonsense"), "v0.2", False),
        (changed(aws(V1ALPHA1), "spec.type", ["x"]), "v0.2", False),
    ],
)
def test_policies_that_contradict_the_schema(manifest: Manifest, release: str, *, expected: bool) -> None:
    """What the server has, but could not have by its schema, tells that the schema is out of date."""
    assert contradicts(manifest, ALPHA_SCHEMAS[release]) is expected
    assert contradicts(manifest, NOBODY_SAID) is (manifest["apiVersion"] == V1ALPHA1)
