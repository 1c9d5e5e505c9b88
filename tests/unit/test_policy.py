"""What a policy may say: every type, every mistake with its path, all mistakes at once, and what its identity is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from credrotator.core.model import (
    InvalidPolicy,
    ObjectKey,
    OidcClient,
    Policy,
    RotatablePolicy,
    SecretKeyRef,
    Static,
    Unsupported,
    fingerprint,
)
from credrotator.policies.reader import Defaults
from credrotator.providers.aws.policy import partition_of
from credrotator.providers.aws.source import AwsOidc
from credrotator.providers.azure.source import AzureClientSecret, AzureOidc
from credrotator.providers.gcp.source import GcpServiceAccount, GcpWorkloadIdentity
from tests.support.builders import (
    V1ALPHA1,
    V1BETA1,
    Manifest,
    annotated,
    aws,
    azure,
    azure_secret,
    changed,
    client_of,
    gcp,
    gcp_key,
    policy,
    problems,
    read,
    read_policy,
    valid,
)

EXCHANGE = "spec.awsCredentials.oidcExchangeToken"
OIDC = f"{EXCHANGE}.oidc"
ISSUER = f"{OIDC}.provider.issuer"
REF: Manifest = {"secretRef": {"name": "key"}}
GCP = {"projectName": "p", "region": "europe-west1"}
FEDERATION = "spec.gcpCredentials.workloadIdentityFederationConfig"

both_versions = pytest.mark.parametrize("version", [V1ALPHA1, V1BETA1])


# Every type of the API.


@both_versions
def test_aws_with_an_exchange(version: str) -> None:
    """All that the exchange needs, with the Secret of the contract and references in the policy's namespace (G12)."""
    found = valid(aws(version))
    secret = SecretKeyRef(ObjectKey("team-a", "oidc-client"), "client-secret", f"{OIDC}.clientSecret")
    client = OidcClient("https://idp.example/realms/ai", "gateway", secret, audience="sts.amazonaws.com")
    assert found == RotatablePolicy(
        key=ObjectKey("team-a", "bedrock"),
        source=AwsOidc(client, "arn:aws:iam::123456789012:role/bedrock", "us-east-1"),
        uid="team-a/bedrock",
        api_version=version,
        origin="policy.yaml:1",
        secret=ObjectKey("team-a", "ai-eg-bsp-bedrock"),
    )


@both_versions
def test_azure_with_an_exchange(version: str) -> None:
    """Tenant and client of the application beside the issuer's client; the public cloud and Azure OpenAI's scope."""
    found = valid(azure(version))
    assert isinstance(found.source, AzureOidc)
    assert (found.source.app.tenant_id, found.source.app.client_id) == ("contoso.example", "app")
    assert found.source.app.authority == "https://login.microsoftonline.com"
    assert found.source.app.scope == "https://cognitiveservices.azure.com/.default"
    assert client_of(found).client_id == "gateway"
    assert found.secret == ObjectKey("team-a", "ai-eg-bsp-openai")


@both_versions
def test_azure_with_a_client_secret(version: str) -> None:
    """The client secret is named by Secret key and field."""
    found = valid(azure_secret(version))
    assert isinstance(found.source, AzureClientSecret)
    path = "spec.azureCredentials.clientSecretRef"
    assert found.source.client_secret == SecretKeyRef(ObjectKey("team-a", "entra"), "client-secret", path)
    assert found.secret == ObjectKey("team-a", "ai-eg-bsp-openai")


@both_versions
@pytest.mark.parametrize(
    ("kind", "field", "provider"),
    [
        ("APIKey", "apiKey", "api-key"),
        ("AzureAPIKey", "azureAPIKey", "azure-api-key"),
        ("AnthropicAPIKey", "anthropicAPIKey", "anthropic-api-key"),
    ],
)
def test_static_keys(version: str, kind: str, field: str, provider: str) -> None:
    """A static key needs no rotation; its Secret key is ``apiKey`` whatever the vendor."""
    found = valid(policy("static", {"type": kind, field: REF}, version))
    ref = SecretKeyRef(ObjectKey("team-a", "key"), "apiKey", f"spec.{field}.secretRef")
    assert (found.source, found.secret) == (Static(provider, ref), ref.secret)


@both_versions
@pytest.mark.parametrize("profile", [None, "bedrock"])
def test_aws_credentials_file(version: str, profile: str | None) -> None:
    """A file needs no rotation; its profile is honoured (G13)."""
    block: Manifest = {"region": "us-east-1", "credentialsFile": REF | ({"profile": profile} if profile else {})}
    found = valid(policy("file", {"type": "AWSCredentials", "awsCredentials": block}, version))
    ref = SecretKeyRef(ObjectKey("team-a", "key"), "credentials", "spec.awsCredentials.credentialsFile.secretRef")
    assert found.source == Static("aws-credentials-file", ref, profile or "default")


@pytest.mark.parametrize(
    ("version", "kind", "field", "block", "provider"),
    [
        (V1ALPHA1, "AWSCredentials", "awsCredentials", {"region": "us-east-1"}, "aws-default-chain"),
        (V1BETA1, "AWSCredentials", "awsCredentials", {"region": "us-east-1"}, "aws-default-chain"),
        (V1BETA1, "GCPCredentials", "gcpCredentials", GCP, "gcp-default-chain"),
    ],
)
def test_default_chains(version: str, kind: str, field: str, block: Manifest, provider: str) -> None:
    """Neither file nor exchange: the SDK's default chain in the filter, without a Secret."""
    found = valid(policy("chain", {"type": kind, field: block}, version))
    assert (found.source, found.secret) == (Static(provider), None)


@both_versions
def test_gcp_workload_identity(version: str) -> None:
    """The pool's provider by its full name, the account by its address, and where the gateway calls Vertex AI."""
    found = valid(annotated(gcp(version), duration="30m", subject_token="id_token"))
    assert found.provider == "gcp-workload-identity"
    assert found.secret == ObjectKey("team-a", "ai-eg-bsp-vertex")
    source = found.source
    assert isinstance(source, GcpWorkloadIdentity)
    assert source.pool.audience == (
        "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/gateway/providers/idp"
    )
    assert (source.project, source.region) == ("my-project", "us-central1")
    assert source.service_account == "vertex@my-project.iam.gserviceaccount.com"
    assert source.duration == timedelta(minutes=30)
    assert (client_of(source).subject_token, client_of(source).references[0].path) == (
        "id_token",
        f"{FEDERATION}.oidcExchangeToken.oidc.clientSecret",
    )


@both_versions
def test_gcp_by_key_file(version: str) -> None:
    """The Secret's key is the gateway's: ``service_account.json``."""
    found = valid(gcp_key(version))
    ref = SecretKeyRef(
        ObjectKey("team-a", "key"), "service_account.json", "spec.gcpCredentials.credentialsFile.secretRef"
    )
    assert (found.provider, found.source) == ("gcp-service-account", GcpServiceAccount(ref))
    assert found.secret == ObjectKey("team-a", "ai-eg-bsp-vertex")


def test_gcp_without_impersonation() -> None:
    """Then the pool's principal itself speaks, and the life of its token is Google's choice."""
    manifest = changed(gcp(), f"{FEDERATION}.serviceAccountImpersonation", ...)
    source = valid(manifest).source
    assert isinstance(source, GcpWorkloadIdentity)
    assert source.service_account is None
    found = problems(annotated(manifest, duration="30m"))
    assert f"{FEDERATION}.serviceAccountImpersonation" in found["metadata.annotations[credrotator.io/duration]"]


def test_gcp_projects_of_an_organisation() -> None:
    """``example.com:project`` turns round in addresses of service accounts."""
    source = valid(changed(gcp(), "spec.gcpCredentials.projectName", "example.com:my-project")).source
    assert isinstance(source, GcpWorkloadIdentity)
    assert source.service_account == "vertex@my-project.example.com.iam.gserviceaccount.com"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.gcpCredentials.projectName", "My Project"),
        ("spec.gcpCredentials.projectName", "a/b"),
        ("spec.gcpCredentials.projectName", ":p"),
        ("spec.gcpCredentials.projectName", "nodomain:p"),
        ("spec.gcpCredentials.region", "../x"),
        (f"{FEDERATION}.projectID", "1/locations/x"),
        (f"{FEDERATION}.workloadIdentityPoolName", "pool/providers/x"),
        (f"{FEDERATION}.workloadIdentityProviderName", "Idp"),
        (f"{FEDERATION}.serviceAccountImpersonation.serviceAccountName", "vertex@my-project.iam.gserviceaccount.com"),
        (f"{FEDERATION}.serviceAccountImpersonation.serviceAccountName", "a:generateAccessToken?x"),
        (f"{FEDERATION}.serviceAccountImpersonation.serviceAccountName", "-"),
    ],
)
def test_what_enters_googles_addresses(path: str, value: str) -> None:
    """Names that become parts of a URL or an audience are what Google lets them be, and nothing that changes it."""
    assert "expected" in problems(changed(gcp(), path, value))[path]


@pytest.mark.parametrize(
    "field", ["projectID", "workloadIdentityPoolName", "workloadIdentityProviderName", "oidcExchangeToken"]
)
def test_gcp_needs_all_of_its_provider(field: str) -> None:
    """As the API says; each absence by its path."""
    found = problems(changed(gcp(), f"{FEDERATION}.{field}", ...))
    assert found == {f"{FEDERATION}.{field}": "required field is missing"}


# What an exchange may say.


def test_optional_fields_are_honoured() -> None:
    """Token endpoint, scopes and resources reach the request as written, no more (G13, G14)."""
    manifest = changed(aws(), f"{OIDC}.provider.tokenEndpoint", "https://idp.example/token?tenant=1")
    manifest = changed(manifest, f"{OIDC}.scopes", ["openid", "bedrock"])
    manifest = changed(manifest, f"{OIDC}.resources", ["urn:a", "urn:b"])
    source = valid(changed(manifest, f"{EXCHANGE}.grantType", "client_credentials")).source
    assert isinstance(source, AwsOidc)
    assert client_of(source).token_endpoint == "https://idp.example/token?tenant=1"
    assert (client_of(source).scopes, client_of(source).resources) == (("openid", "bedrock"), ("urn:a", "urn:b"))


def test_secret_references_may_name_a_namespace() -> None:
    """Whether it may be used is the ReferenceGrant's to say; the reference keeps it."""
    source = valid(changed(aws(), f"{OIDC}.clientSecret.namespace", "shared")).source
    assert isinstance(source, AwsOidc)
    assert client_of(source).references[0].secret == ObjectKey("shared", "oidc-client")


def test_client_id_by_reference() -> None:
    """G11: ``clientIDRef`` is read from the Secret key ``client-id``."""
    manifest = changed(changed(aws(), f"{OIDC}.clientID", ...), f"{OIDC}.clientIDRef", {"name": "ids"})
    source = valid(manifest).source
    assert isinstance(source, AwsOidc)
    assert client_of(source).client_id == SecretKeyRef(ObjectKey("team-a", "ids"), "client-id", f"{OIDC}.clientIDRef")


@pytest.mark.parametrize(
    "manifest", [changed(aws(), f"{OIDC}.clientID", ...), changed(aws(), f"{OIDC}.clientIDRef", {"name": "ids"})]
)
def test_client_id_in_exactly_one_way(manifest: Manifest) -> None:
    """Neither clientID nor clientIDRef, or both, is one mistake of their parent."""
    assert problems(manifest) == {OIDC: "expected exactly one of clientID and clientIDRef"}


@pytest.mark.parametrize("field", ["backendRef", "backendRefs", "backendSettings"])
def test_routing_by_envoy_is_refused_by_name(field: str) -> None:
    """G13: what would route the issuer's calls through Envoy is not ignored in silence."""
    assert (
        "routes through Envoy"
        in problems(changed(aws(), f"{OIDC}.provider.{field}", [{"name": "x"}]))[f"{OIDC}.provider.{field}"]
    )


def test_other_grant_types_are_refused_by_name() -> None:
    """G13: a grant type that would be ignored is refused."""
    found = problems(changed(aws(), f"{EXCHANGE}.grantType", "password"))
    assert found == {f"{EXCHANGE}.grantType": "only client_credentials is supported, got password; remove the field"}


def test_an_empty_audience_is_none() -> None:
    """``aud: ""`` asks for no audience."""
    source = valid(changed(aws(), f"{EXCHANGE}.aud", "")).source
    assert isinstance(source, AwsOidc)
    assert source.oidc.audience is None


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


# Shapes.


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


# Hostile input.

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


# The fingerprint: what a credential depends on.

DEPENDS = {
    "role": (aws(), f"{EXCHANGE}.awsRoleArn", "arn:aws:iam::123456789012:role/other"),
    "region": (aws(), "spec.awsCredentials.region", "us-west-2"),
    "issuer": (aws(), ISSUER, "https://idp.example/realms/ai/"),
    "client": (aws(), f"{OIDC}.clientID", "other"),
    "audience": (aws(), f"{EXCHANGE}.aud", "other"),
    "scopes": (aws(), f"{OIDC}.scopes", ["openid"]),
    "resources": (aws(), f"{OIDC}.resources", ["urn:a"]),
    "token endpoint": (aws(), f"{OIDC}.provider.tokenEndpoint", "https://idp.example/token"),
    "duration": (aws(), "metadata.annotations", {"credrotator.io/duration": "1h"}),
    "subject token": (aws(), "metadata.annotations", {"credrotator.io/subject-token": "id_token"}),
    "tenant": (azure(), "spec.azureCredentials.tenantID", "other"),
    "application": (azure(), "spec.azureCredentials.clientID", "other"),
    "Azure's issuer": (
        azure(),
        "spec.azureCredentials.oidcExchangeToken.oidc.provider.issuer",
        "https://other.example",
    ),
    "authority": (
        azure_secret(),
        "metadata.annotations",
        {
            "credrotator.io/azure-authority-host": "login.microsoftonline.us",
            "credrotator.io/azure-scope": "https://cognitiveservices.azure.com/.default",
        },
    ),
    "scope": (azure_secret(), "metadata.annotations", {"credrotator.io/azure-scope": "https://x.example/.default"}),
    "pool": (gcp(), f"{FEDERATION}.workloadIdentityPoolName", "other"),
    "pool's project": (gcp(), f"{FEDERATION}.projectID", "1"),
    "pool's provider": (gcp(), f"{FEDERATION}.workloadIdentityProviderName", "other"),
    "service account": (gcp(), f"{FEDERATION}.serviceAccountImpersonation.serviceAccountName", "other"),
    "no service account": (gcp(), f"{FEDERATION}.serviceAccountImpersonation", ...),
    "project": (gcp(), "spec.gcpCredentials.projectName", "other"),
    "place": (gcp(), "spec.gcpCredentials.region", "europe-west4"),
    "life": (gcp(), "metadata.annotations", {"credrotator.io/duration": "30m"}),
    "key file": (gcp_key(), "spec.gcpCredentials.credentialsFile.secretRef.name", "other"),
}


@pytest.mark.parametrize("what", DEPENDS)
def test_the_fingerprint_changes_with(what: str) -> None:
    """G15: an edit of any of these makes the published credential the wrong one."""
    base, path, value = DEPENDS[what]
    assert fingerprint(valid(base).source) != fingerprint(valid(changed(base, path, value)).source)


def test_the_fingerprint_changes_with_the_provider() -> None:
    """Azure by exchange and by client secret are different credentials, of the same application."""
    assert fingerprint(valid(azure()).source) != fingerprint(valid(azure_secret()).source)


@pytest.mark.parametrize(
    ("base", "path", "value"),
    [
        (aws(), f"{OIDC}.clientSecret.name", "other"),
        (aws(), f"{OIDC}.clientSecret.namespace", "other"),
        (azure_secret(), "spec.azureCredentials.clientSecretRef.name", "other"),
        (gcp(), f"{FEDERATION}.oidcExchangeToken.oidc.clientSecret.name", "other"),
        (gcp_key(), "spec.gcpCredentials.region", "europe-west4"),
        (aws(), "spec.targetRefs", [{"name": "other"}]),
        (aws(), "metadata.name", "other"),
        (aws(), "metadata.uid", "other"),
        (aws(), "metadata.labels", {"a": "b"}),
        (aws(), "apiVersion", V1ALPHA1),
        (aws(), f"{OIDC}.redirectURL", "https://x.example"),
        (aws(), f"{EXCHANGE}.grantType", "client_credentials"),
    ],
)
def test_the_fingerprint_does_not_change_with(base: Manifest, path: str, value: Any) -> None:
    """What does not alter the credential rotates nothing: a new client secret leaves a good credential good."""
    assert fingerprint(valid(base).source) == fingerprint(valid(changed(base, path, value)).source)


def test_the_fingerprint_does_not_change_with_the_origin() -> None:
    """Moving a policy to another file rotates nothing."""
    other = read_policy(aws(), "elsewhere.yaml:7", Defaults())
    assert isinstance(other, Policy)
    assert fingerprint(other.source) == fingerprint(valid(aws()).source)


def test_fingerprints_are_pinned() -> None:
    """The same in every release: a changed fingerprint would rotate every credential at the upgrade."""
    assert fingerprint(valid(aws()).source) == "226a4779ba4f7cea"
    assert fingerprint(valid(azure_secret()).source) == "b765e1d0999ce204"
    assert fingerprint(valid(gcp()).source) == "81d5054c795c3faf"
    assert fingerprint(valid(gcp_key()).source) == "7b873e89b0ff327f"


# What a newer gateway may know.


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
