"""The gateway's API as declared types: BackendSecurityPolicy v1alpha1 (v0.2) and v1beta1 (v1.x), as far as it matters.

Owns shapes and nothing else; what a shape means is ``policy.py``'s. Unknown fields are kept, so that they can be
named: a newer gateway may know more than we do, and a typing error must not pass in silence.
Source: Envoy AI Gateway, ``api/v1alpha1`` and ``api/v1beta1``; Envoy Gateway, ``OIDC`` type.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

GROUP = "aigateway.envoyproxy.io"
VERSIONS = ("v1alpha1", "v1beta1")
INFERENCE_GROUP = "inference.networking.k8s.io"

Text = Annotated[str, StringConstraints(min_length=1)]


class Shape(BaseModel):
    """Base of all: camelCase aliases are the API's own, unknown fields are kept in ``model_extra``."""

    model_config = ConfigDict(extra="allow", frozen=True)


class SecretRef(Shape):
    """Gateway API's SecretObjectReference, restricted to core Secrets."""

    name: Text
    namespace: str | None = None
    group: Literal[""] = ""
    kind: Literal["Secret"] = "Secret"


class KeySecret(Shape):
    """A static API key."""

    secret_ref: SecretRef = Field(alias="secretRef")


class OidcProvider(Shape):
    """The issuer. ``backendRefs`` and ``backendSettings`` route Envoy's own calls to it."""

    issuer: Text
    token_endpoint: Text | None = Field(None, alias="tokenEndpoint")
    authorization_endpoint: str | None = Field(None, alias="authorizationEndpoint")
    end_session_endpoint: str | None = Field(None, alias="endSessionEndpoint")
    backend_ref: Any = Field(None, alias="backendRef")
    backend_refs: Any = Field(None, alias="backendRefs")
    backend_settings: Any = Field(None, alias="backendSettings")


class Oidc(Shape):
    """Envoy Gateway's OIDC type; what only serves a browser log-in is left as unknown and passed over."""

    provider: OidcProvider
    client_id: Text | None = Field(None, alias="clientID")
    client_id_ref: SecretRef | None = Field(None, alias="clientIDRef")
    client_secret: SecretRef = Field(alias="clientSecret")
    scopes: list[Text] = []
    resources: list[Text] = []


class OidcExchange(Shape):
    """A token from an OIDC issuer, to be exchanged."""

    oidc: Oidc
    grant_type: str | None = Field(None, alias="grantType")
    aud: str | None = None


class AwsOidcExchange(OidcExchange):
    """The same, for AWS STS."""

    aws_role_arn: Text = Field(alias="awsRoleArn")


class CredentialsFile(Shape):
    """An AWS shared-credentials file in a Secret."""

    secret_ref: SecretRef = Field(alias="secretRef")
    profile: Text = "default"


class AwsCredentials(Shape):
    """AWS: a file, an exchange, or neither (the SDK's default chain in the filter)."""

    region: Text
    credentials_file: CredentialsFile | None = Field(None, alias="credentialsFile")
    oidc_exchange_token: AwsOidcExchange | None = Field(None, alias="oidcExchangeToken")


class AzureCredentials(Shape):
    """Azure: a client secret or an exchange."""

    client_id: Text = Field(alias="clientID")
    tenant_id: Text = Field(alias="tenantID")
    client_secret_ref: SecretRef | None = Field(None, alias="clientSecretRef")
    oidc_exchange_token: OidcExchange | None = Field(None, alias="oidcExchangeToken")


class GcpCredentialsFile(Shape):
    """A service-account key in a Secret."""

    secret_ref: SecretRef = Field(alias="secretRef")


class GcpCredentials(Shape):
    """GCP: a key file, workload identity federation, or neither (application default credentials)."""

    project_name: Text = Field(alias="projectName")
    region: Text
    credentials_file: GcpCredentialsFile | None = Field(None, alias="credentialsFile")
    workload_identity: Any = Field(None, alias="workloadIdentityFederationConfig")


class TargetRef(Shape):
    """A backend that the policy is for (v1.x)."""

    group: str = GROUP
    kind: Literal["AIServiceBackend", "InferencePool"] = "AIServiceBackend"
    name: Text


class Spec(Shape):
    """``spec`` of a BackendSecurityPolicy, of both versions."""

    type: Literal["APIKey", "AWSCredentials", "AzureAPIKey", "AzureCredentials", "AnthropicAPIKey", "GCPCredentials"]
    target_refs: list[TargetRef] = Field([], alias="targetRefs", max_length=16)
    api_key: KeySecret | None = Field(None, alias="apiKey")
    azure_api_key: KeySecret | None = Field(None, alias="azureAPIKey")
    anthropic_api_key: KeySecret | None = Field(None, alias="anthropicAPIKey")
    aws_credentials: AwsCredentials | None = Field(None, alias="awsCredentials")
    azure_credentials: AzureCredentials | None = Field(None, alias="azureCredentials")
    gcp_credentials: GcpCredentials | None = Field(None, alias="gcpCredentials")
    credential_override: Any = Field(None, alias="credentialOverride")


class Metadata(Shape):
    """``metadata``, as far as it is used."""

    name: Text
    namespace: str | None = None
    uid: str | None = None
    annotations: dict[str, str] = {}


class BackendSecurityPolicy(Shape):
    """The whole object."""

    api_version: Text = Field(alias="apiVersion")
    kind: Literal["BackendSecurityPolicy"]
    metadata: Metadata
    spec: Spec
    status: Any = None
