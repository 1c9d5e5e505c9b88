"""What a policy may say: every type of the API, and the fields of its exchange."""

from __future__ import annotations

from datetime import timedelta

import pytest

from credrotator.core.model import (
    ObjectKey,
    OidcClient,
    RotatablePolicy,
    SecretKeyRef,
    Static,
)
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
    valid,
)
from tests.unit.policy_parts import EXCHANGE, FEDERATION, GCP, OIDC, REF, both_versions

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
