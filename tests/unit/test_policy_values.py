"""What single fields of a policy may hold: addresses, regions, roles, names, targets."""

from __future__ import annotations

import pytest

from credrotator.core.model import (
    InvalidPolicy,
    ObjectKey,
)
from credrotator.policies.reader import Defaults
from credrotator.providers.aws.policy import partition_of
from credrotator.providers.aws.source import AwsOidc
from tests.support.builders import (
    V1ALPHA1,
    V1BETA1,
    aws,
    azure,
    changed,
    client_of,
    gcp,
    policy,
    problems,
    read,
    valid,
)
from tests.unit.policy_parts import EXCHANGE, ISSUER, OIDC, REF, both_versions

URLS = {
    "https://idp.example": True,
    "https://idp.example/": True,
    "https://idp.example:8443/realms/a-b_c~d": True,
    "http://localhost:8080/realms/ai": True,  # whether http may be used is the operator's to say
    "https://[2001:db8::1]:8443": True,
    "https://[fe80::1%25eth0]": False,
    "idp.example": False,
    "ftp://idp.example": False,
    "https://": False,
    "https:///realms": False,
    "https://idp.example?x=1": False,
    "https://idp.example#x": False,
    "https://user:hunter2@idp.example": False,
    "https://@idp.example": False,
    "https://idp.example:99999": False,
    "https://idp.example:port": False,
    "https://idp.example/\nX-Evil: 1": False,
    "https://idp.example/a b": False,
    " https://idp.example": False,
    "https://good.example\\.evil.example": False,
    "https://idp.exämple": False,
    "https://idp..example": False,
    "https://[::1": False,
    "https://idp.example/" + "a" * 3000: False,
}


@pytest.mark.parametrize(("url", "sound"), URLS.items())
def test_issuer_urls(url: str, sound: bool) -> None:  # noqa: FBT001 - a column of the table
    """OIDC Discovery 1.0 §4.1, and nothing that two parsers could read in two ways."""
    manifest = changed(aws(), ISSUER, url)
    if sound:
        source = valid(manifest).source
        assert isinstance(source, AwsOidc)
        assert client_of(source).issuer == url, "the issuer is compared, so it is kept as written"
    else:
        assert list(problems(manifest)) == [ISSUER]


def test_a_password_in_a_url_is_not_shown() -> None:
    """I9: what stands before the @ is refused without being repeated."""
    assert "hunter2" not in problems(changed(aws(), ISSUER, "https://user:hunter2@idp.example"))[ISSUER]


# What enters a URL or a request is checked against a pattern.

LONG_REGION = "us-" + "a" * 100 + "-1"


@pytest.mark.parametrize("region", ["us-east-1", "us-gov-west-1", "cn-north-1", "eusc-de-east-1", "ap-southeast-5"])
def test_regions(region: str) -> None:
    """Regions of all partitions, with a role in the same partition."""
    arn = f"arn:{partition_of(region)}:iam::123456789012:role/x"
    valid(changed(changed(aws(), "spec.awsCredentials.region", region), f"{EXCHANGE}.awsRoleArn", arn))


@pytest.mark.parametrize(
    "region",
    [
        "US-EAST-1",
        "us-east",
        "us-east-1.evil.example",
        "us-east-1/",
        "us-east-1\n",
        "us-east-\uff11",
        "x@y",
        LONG_REGION,
    ],
)
def test_a_region_is_a_host_label(region: str) -> None:
    """The region becomes part of STS's host name: nothing but a region passes."""
    assert list(problems(changed(aws(), "spec.awsCredentials.region", region))) == ["spec.awsCredentials.region"]


@pytest.mark.parametrize(
    "arn",
    [
        "bedrock",
        "arn:aws:iam::12345678901:role/x",
        "arn:aws:iam::123456789012:user/x",
        "arn:aws:iam::123456789012:role/",
        "arn:aws:sts::123456789012:assumed-role/x/y",
        "arn:aws:iam::123456789012:role/x&Action=y",
        "arn:aws:iam::123456789012:role/x\n",
        "arn:aws:iam::\uff11" + "23456789012:role/x",
        "arn:gcp:iam::123456789012:role/x",
    ],
)
def test_role_arns(arn: str) -> None:
    """Only the ARN of an IAM role passes; the message shows one."""
    found = problems(changed(aws(), f"{EXCHANGE}.awsRoleArn", arn))
    assert list(found) == [f"{EXCHANGE}.awsRoleArn"]
    assert "arn:aws:iam::<12 digits>:role/<name>" in found[f"{EXCHANGE}.awsRoleArn"]


def test_a_role_with_a_path() -> None:
    """Roles may have paths."""
    valid(changed(aws(), f"{EXCHANGE}.awsRoleArn", "arn:aws:iam::123456789012:role/team/a=b,c@d_e+f.g-h"))


def test_a_role_of_another_partition() -> None:
    """A role of China cannot be assumed in us-east-1; both partitions are named."""
    found = problems(changed(aws(), f"{EXCHANGE}.awsRoleArn", "arn:aws-cn:iam::123456789012:role/x"))
    assert "partition aws-cn" in found[f"{EXCHANGE}.awsRoleArn"]
    assert "us-east-1 is in aws" in found[f"{EXCHANGE}.awsRoleArn"]


@pytest.mark.parametrize("tenant", ["../common", "a/b", "a?b", "a#b", "-a", "a b", "a\n", "x" * 300, "ä"])
def test_tenants(tenant: str) -> None:
    """The tenant becomes a path segment of Entra's URLs."""
    path = "spec.azureCredentials.tenantID"
    assert list(problems(changed(azure(), path, tenant))) == [path]


def test_azure_needs_exactly_one_mechanism() -> None:
    """Neither or both of clientSecretRef and oidcExchangeToken is one mistake."""
    wanted = {"spec.azureCredentials": "expected exactly one of clientSecretRef and oidcExchangeToken"}
    assert problems(changed(azure(), "spec.azureCredentials.oidcExchangeToken", ...)) == wanted
    assert problems(changed(azure(), "spec.azureCredentials.clientSecretRef", {"name": "x"})) == wanted


def test_both_aws_mechanisms_are_refused_with_the_reason() -> None:
    """G34: the gateway would read the file, and the rotated credential would reach nobody."""
    found = problems(changed(aws(), "spec.awsCredentials.credentialsFile", REF))
    assert "would reach nobody" in found["spec.awsCredentials"]
    assert len(found) == 1


def test_gcp_takes_at_most_one_mechanism() -> None:
    """Both the key file and workload identity contradict each other."""
    found = problems(changed(gcp(), "spec.gcpCredentials.credentialsFile", REF))
    assert list(found) == ["spec.gcpCredentials"]


# Names become names of files and parts of requests.

BAD_NAMES = ["../x", "a/b", "/etc", ".", "..", "-a", "a-", "a..b", "A", "a_b", "a b", "a\n", "ä", "", "a" * 254]
BAD_NAMESPACES = ["../x", "a/b", "..", "a.b", "-a", "A", "a\n", "", "a" * 64]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("path", ["metadata.name", f"{OIDC}.clientSecret.name", f"{OIDC}.clientIDRef.name"])
def test_names_are_kubernetes_names(path: str, name: str) -> None:
    """RFC 1123 subdomain; anything else is refused with its path and becomes no key."""
    manifest = changed(aws(), f"{OIDC}.clientID", ...) if "clientIDRef" in path else aws()
    found = read(changed(manifest, path, name))
    assert isinstance(found, InvalidPolicy)
    assert [problem.path for problem in found.problems] == [path]
    assert "/" not in found.key.name
    assert "." not in found.key.name


@pytest.mark.parametrize("namespace", BAD_NAMESPACES)
@pytest.mark.parametrize("path", ["metadata.namespace", f"{OIDC}.clientSecret.namespace"])
def test_namespaces_are_kubernetes_names(path: str, namespace: str) -> None:
    """RFC 1123 label; anything else is refused with its path and becomes no key."""
    found = read(changed(aws(), path, namespace))
    assert isinstance(found, InvalidPolicy)
    assert [problem.path for problem in found.problems] == [path]
    assert found.key.namespace in {"team-a", "default"}


def test_a_bad_default_namespace_is_refused() -> None:
    """The operator's namespace is checked like a written one."""
    found = problems(changed(aws(), "metadata.namespace", ...), Defaults(namespace="../x"))
    assert list(found) == ["metadata.namespace"]


@pytest.mark.parametrize("length", [243, 244, 253])
def test_the_generated_secret_has_a_valid_name(length: int) -> None:
    """``ai-eg-bsp-<name>`` must fit 253 characters; a policy without a generated Secret may use them all."""
    name = "a" * length
    static = policy(name, {"type": "APIKey", "apiKey": REF})
    assert valid(static).key.name == name
    rotated = changed(aws(), "metadata.name", name)
    if length <= 243:
        secret = valid(rotated).secret
        assert secret is not None
        assert len(secret.name) == length + 10 <= 253
    else:
        assert "at most 243" in problems(rotated)["metadata.name"]


def test_the_default_namespace_is_the_operators() -> None:
    """A manifest without a namespace is in the operator's."""
    assert valid(changed(aws(), "metadata.namespace", ...), Defaults(namespace="ops")).key == ("ops", "bedrock")


def test_the_uid_is_the_objects_own() -> None:
    """The seed of jitter is the UID where there is one."""
    assert valid(changed(aws(), "metadata.uid", "1234")).uid == "1234"


# Versions, unions, targets.


@pytest.mark.parametrize(
    "version", ["v1beta1", "example.com/v1alpha1", "aigateway.envoyproxy.io/v1bata1", "aigateway.envoyproxy.io/"]
)
def test_other_versions(version: str) -> None:
    """Only served versions are read; the message names them."""
    assert problems(changed(aws(), "apiVersion", version)) == {
        "apiVersion": f"expected {V1ALPHA1} or {V1BETA1}, got {version}"
    }


def test_another_mechanism_beside_is_ignored_by_v1alpha1_and_refused_by_v1beta1() -> None:
    """v0.2 makes no cross-check and uses the type's; v1.x wants exactly the mechanism that the type names."""
    path, value = "spec.apiKey", REF
    assert valid(changed(aws(V1ALPHA1), path, value)).warnings == ("spec.apiKey: ignored, the type is AWSCredentials",)
    assert list(problems(changed(aws(V1BETA1), path, value))) == ["spec.apiKey"]


@both_versions
def test_the_types_mechanism_is_required(version: str) -> None:
    """A type without its block is refused."""
    found = problems(policy("empty", {"type": "AzureCredentials"}, version))
    assert found == {"spec.azureCredentials": "required with type AzureCredentials"}


def test_the_wrong_block_is_two_facts() -> None:
    """Type and block that do not match: what is missing and what is too much."""
    found = problems(policy("mixed", {"type": "APIKey", "awsCredentials": {"region": "us-east-1"}}))
    assert list(found) == ["spec.apiKey", "spec.awsCredentials"]


def test_targets() -> None:
    """Targets are backends of the policy's namespace; an InferencePool is no AIServiceBackend of that name."""
    pool = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "llm"}
    backend = {"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend", "name": "llm"}
    targets = valid(changed(aws(), "spec.targetRefs", [backend, pool])).targets
    assert targets[0] == ObjectKey("team-a", "llm")
    assert len(set(targets)) == 2


def test_targets_of_another_group() -> None:
    """The group has to be the one of the kind."""
    pool = {"group": "aigateway.envoyproxy.io", "kind": "InferencePool", "name": "llm"}
    found = problems(changed(aws(), "spec.targetRefs", [pool]))
    assert list(found) == ["spec.targetRefs[0].group"]


def test_at_most_16_targets() -> None:
    """The API's limit."""
    found = problems(changed(aws(), "spec.targetRefs", [{"name": f"b{number}"} for number in range(17)]))
    assert found == {"spec.targetRefs": "expected at most 16 items"}
