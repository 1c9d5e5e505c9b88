"""The gateway's API as declared types: BackendSecurityPolicy v1alpha1 (v0.2 on) and v1beta1 (v0.6 on), as it matters.

Owns the shape of each field and nothing else; what fields mean together is ``policy.py``'s. What later enters a URL,
a file name or a request is checked against a pattern here, so that one reading finds all that is wrong. Unknown fields
are kept, so that they can be named: a newer gateway may know more than we do, and a typing error must not pass in
silence.
Source: Envoy AI Gateway, ``api/v1alpha1`` and ``api/v1beta1``; Envoy Gateway, ``OIDC`` type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import SplitResult, quote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from credrotator.core.errors import printable

GROUP = "aigateway.envoyproxy.io"
KIND = "BackendSecurityPolicy"
# In the order of age; the reader takes the first for v0.2's rules.
VERSIONS = ("v1alpha1", "v1beta1")
INFERENCE_GROUP = "inference.networking.k8s.io"

NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
"""Names of objects; RFC 1123 subdomain, as Kubernetes wants it."""
NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""Names of namespaces; RFC 1123 label."""
REGION = re.compile(r"(?=.{1,40}\Z)[a-z]{2,6}(-[a-z]+)+-[0-9]{1,2}")
# Path and name together have 512 + 64 characters at most (IAM quotas); the loose bound only keeps out what is absurd.
ROLE_ARN = re.compile(r"arn:(?P<partition>aws[a-z-]{0,20}):iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}", re.ASCII)
# This and the two below are the patterns of AssumeRole's own API reference.
EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
SOURCE_IDENTITY = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
TAG_KEY, TAG_VALUE = re.compile(r"(?!aws:)[\w .:/=+@-]{1,128}"), re.compile(r"[\w .:/=+@-]{0,256}")
TENANT = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]{0,252}")
GOOGLE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
GOOGLE_PROJECT = re.compile(r"((?=.{1,253}:)[a-z0-9-]+(\.[a-z0-9-]+)+:)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""An ID or a number; of an organisation's old projects, with its domain before a colon."""
# Names or IPv6 addresses, without a check whether they exist: who is asked is decided by the rules for issuers.
HOST = re.compile(r"[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
URL = re.compile(r"[!-~]{1,2048}")
"""Printable ASCII without blanks (RFC 3986)."""


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("wrong", "{reason}", {"reason": message})


def matching(pattern: re.Pattern[str], expected: str) -> AfterValidator:
    """Check a text against a pattern; ``expected`` says in a message what was meant."""

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise _wrong(f"expected {expected}, got {printable(text, 80)}")
        return text

    return AfterValidator(check)


def _url(text: str, *, query: bool) -> str:
    """An issuer has no query and no fragment (OIDC Discovery 1.0 §4.1); nobody hides a user name in either."""
    # An issuer's name has neither; an endpoint may have a query (RFC 6749 §3.2).
    without = "fragment" if query else "query or fragment"
    try:
        parts = urlsplit(text)
        sound = parts.scheme in {"https", "http"} and HOST.fullmatch(parts.hostname or "") and (parts.port or True)
    except ValueError:
        raise _wrong(f"expected an https URL, got {printable(text, 80)}") from None
    if parts.username is not None:
        # NOTE: not shown, a password may stand beside it.
        raise _wrong("a URL here carries no user name and no password")
    if not sound or not URL.fullmatch(text) or "\\" in text or parts.fragment or (parts.query and not query):
        raise _wrong(_url_flaw(text, parts) or f"expected an https URL without {without}, got {printable(text, 80)}")
    return text


def _url_flaw(text: str, parts: SplitResult) -> str:
    """Say what is wrong with the characters of a URL, and what to write; nothing where it is something else."""
    shown, host = printable(text, 80), parts.hostname or ""
    if any(char.isspace() for char in text):
        return f"expected a URL without blanks and line ends, got {shown!r}"
    if not host.isascii():
        try:
            return f"expected a URL in ASCII, got {shown}; write its host as {host.encode('idna').decode()}"
        except UnicodeError:
            return f"expected a URL in ASCII, got {shown}, whose host is no name that there can be"
    if not text.isascii():
        return f"expected a URL in ASCII, got {shown}; write its path as {quote(parts.path, safe='/%')}"
    return ""


def _issuer(text: str) -> str:
    return _url(text, query=False)


def _endpoint(text: str) -> str:
    return _url(text, query=True)


def _https_endpoint(text: str) -> str:
    if not text.lower().startswith("https://"):
        raise _wrong(f"expected an https URL, got {printable(text.partition('?')[0], 80)}")
    return _url(text, query=True)


Text = Annotated[str, StringConstraints(min_length=1)]
Name = Annotated[
    Text, matching(NAME, "a Kubernetes name (lower-case letters, digits, - and ., at most 253 characters)")
]
Namespace = Annotated[
    Text, matching(NAMESPACE, "a Kubernetes namespace (lower-case letters, digits and -, at most 63 characters)")
]
Region = Annotated[Text, matching(REGION, "an AWS region such as us-east-1")]
RoleArn = Annotated[Text, matching(ROLE_ARN, "arn:aws:iam::<12 digits>:role/<name>")]
ExternalId = Annotated[str, matching(EXTERNAL_ID, "2 to 1224 letters, digits and +=,.@:/_-")]
SourceIdentity = Annotated[str, matching(SOURCE_IDENTITY, "2 to 64 letters, digits and +=,.@_-")]
TagKey = Annotated[
    str, matching(TAG_KEY, "a tag's key: 1 to 128 letters, digits and .:/=+@_-, not beginning with aws:")
]
TagValue = Annotated[str, matching(TAG_VALUE, "a tag's value: at most 256 letters, digits and .:/=+@_-")]
Tenant = Annotated[Text, matching(TENANT, "a tenant id or domain")]
GoogleName = Annotated[Text, matching(GOOGLE_NAME, "lower-case letters, digits and -, at most 63 characters")]
GoogleProject = Annotated[Text, matching(GOOGLE_PROJECT, "a Google Cloud project's ID or number")]
HttpsUrl = Annotated[Text, AfterValidator(_https_endpoint)]
IssuerUrl = Annotated[Text, AfterValidator(_issuer)]
EndpointUrl = Annotated[Text, AfterValidator(_endpoint)]


@dataclass(frozen=True, slots=True)
class Choice:
    """Fields of which an object has one, at most.

    Attributes:
        fields: Their names in the API.
        required: Whether it has exactly one; by ``v1alpha1``, and by later versions.
        both: What comes of two, where there is more to be said than that they are too many.
    """

    fields: tuple[str, ...]
    required: tuple[bool, bool] = (False, False)
    both: str = ""


class SchemaModel(BaseModel):
    """Base of all: camelCase aliases are the API's own, unknown fields are kept in ``model_extra``."""

    choice: ClassVar[Choice | None] = None
    # Deferred: only what a policy has is built, at its first reading.
    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nothing(cls, value: Any) -> Any:
        """Take ``field:`` without a value as absent, as the API server does."""
        if not isinstance(value, dict):
            return value
        # Here and not by Optional types: a list field set to null has to fall back to its default.
        return {name: value for name, value in value.items() if value is not None}


def _api_name(attribute: str) -> str:
    """Return a field's name as the API would write it: ``federation_rule_id`` is ``federationRuleID``."""
    first, *rest = attribute.split("_")
    return first + "".join(part.upper() if part == "id" else part.capitalize() for part in rest)


class OwnBlock(SchemaModel):
    """Base of blocks that the gateway's API does not have: they stand in annotations only, and each is a provider's."""

    model_config = ConfigDict(alias_generator=_api_name)


class SecretRef(SchemaModel):
    """Gateway API's SecretObjectReference, restricted to core Secrets."""

    name: Name
    namespace: Namespace | None = None
    group: Literal[""] = ""
    kind: Literal["Secret"] = "Secret"


class KeySecret(SchemaModel):
    """A static API key."""

    secret_ref: SecretRef = Field(alias="secretRef")


class OidcProvider(SchemaModel):
    """The issuer. ``backendRefs`` and ``backendSettings`` route Envoy's own calls to it."""

    issuer: IssuerUrl
    token_endpoint: EndpointUrl | None = Field(None, alias="tokenEndpoint")
    authorization_endpoint: str | None = Field(None, alias="authorizationEndpoint")
    end_session_endpoint: str | None = Field(None, alias="endSessionEndpoint")
    backend_ref: Any = Field(None, alias="backendRef")
    backend_refs: Any = Field(None, alias="backendRefs")
    backend_settings: Any = Field(None, alias="backendSettings")


class Oidc(SchemaModel):
    """Envoy Gateway's OIDC type; what only serves a browser log-in is left as unknown and passed over.

    ``clientSecret`` is required, unless the client proves itself otherwise.
    """

    choice = Choice(("clientID", "clientIDRef"), required=(True, True))

    provider: OidcProvider
    client_id: Text | None = Field(None, alias="clientID")
    client_id_ref: SecretRef | None = Field(None, alias="clientIDRef")
    client_secret: SecretRef | None = Field(None, alias="clientSecret")
    scopes: list[Text] = []
    resources: list[Text] = []


class OidcExchange(SchemaModel):
    """A token from an OIDC issuer, to be exchanged. ``oidc`` is required, unless the token comes from elsewhere."""

    oidc: Oidc | None = None
    grant_type: str | None = Field(None, alias="grantType")
    aud: str | None = None


class AwsOidcExchange(OidcExchange):
    """The same, for AWS STS."""

    aws_role_arn: RoleArn = Field(alias="awsRoleArn")


class NextRole(SchemaModel):
    """A role of AWS that is assumed with the credential of the one before it; the annotation's own object."""

    role_arn: RoleArn = Field(alias="roleArn")
    external_id: ExternalId | None = Field(None, alias="externalID")
    # STS takes 50 (API reference of AssumeRole).
    session_tags: dict[TagKey, TagValue] = Field({}, alias="sessionTags", max_length=50)
    session_policy: str | dict[str, Any] | None = Field(None, alias="sessionPolicy")
    source_identity: SourceIdentity | None = Field(None, alias="sourceIdentity")


class RoleChain(SchemaModel):
    """The roles of a chain, in the order in which they are assumed."""

    # Each is one more request within the one deadline of an exchange.
    roles: list[NextRole] = Field(min_length=1, max_length=4)


class CredentialsFile(SchemaModel):
    """An AWS shared-credentials file in a Secret."""

    secret_ref: SecretRef = Field(alias="secretRef")
    profile: Text = "default"


class AwsCredentials(SchemaModel):
    """AWS: a file, an exchange, or neither (the SDK's default chain in the filter)."""

    choice = Choice(
        ("credentialsFile", "oidcExchangeToken"),
        both="credentialsFile and oidcExchangeToken are both set: the gateway reads the file, so a rotated credential "
        "would reach nobody; remove one of them",
    )

    region: Region
    credentials_file: CredentialsFile | None = Field(None, alias="credentialsFile")
    oidc_exchange_token: AwsOidcExchange | None = Field(None, alias="oidcExchangeToken")


class AzureCredentials(SchemaModel):
    """Azure: a client secret or an exchange."""

    choice = Choice(("clientSecretRef", "oidcExchangeToken"), required=(True, True))

    client_id: Text = Field(alias="clientID")
    tenant_id: Tenant = Field(alias="tenantID")
    client_secret_ref: SecretRef | None = Field(None, alias="clientSecretRef")
    oidc_exchange_token: OidcExchange | None = Field(None, alias="oidcExchangeToken")


class GcpCredentialsFile(SchemaModel):
    """A service-account key in a Secret."""

    secret_ref: SecretRef = Field(alias="secretRef")


class GcpImpersonation(SchemaModel):
    """The service account that speaks for the pool's principal; its name is what stands before the @."""

    service_account_name: GoogleName = Field(alias="serviceAccountName")


class GcpFederation(SchemaModel):
    """A provider in a workload identity pool, and the token that it takes."""

    choice = Choice(("serviceAccountImpersonation",))

    project_id: GoogleProject = Field(alias="projectID")
    pool_name: GoogleName = Field(alias="workloadIdentityPoolName")
    provider_name: GoogleName = Field(alias="workloadIdentityProviderName")
    oidc_exchange_token: OidcExchange = Field(alias="oidcExchangeToken")
    impersonation: GcpImpersonation | None = Field(None, alias="serviceAccountImpersonation")


class GcpCredentials(SchemaModel):
    """GCP: a key file, workload identity federation, or (not in v1alpha1) neither: application default credentials."""

    choice = Choice(("credentialsFile", "workloadIdentityFederationConfig"), required=(True, False))

    project_name: GoogleProject = Field(alias="projectName")
    region: GoogleName
    credentials_file: GcpCredentialsFile | None = Field(None, alias="credentialsFile")
    workload_identity: GcpFederation | None = Field(None, alias="workloadIdentityFederationConfig")


class TargetRef(SchemaModel):
    """A backend that the policy is for (v1.x)."""

    group: str = GROUP
    kind: Literal["AIServiceBackend", "InferencePool"] = "AIServiceBackend"
    name: Name


class Spec(SchemaModel):
    """``spec`` of a BackendSecurityPolicy, of both versions."""

    type: Literal["APIKey", "AWSCredentials", "AzureAPIKey", "AzureCredentials", "AnthropicAPIKey", "GCPCredentials"]
    # The CRD's own limit.
    target_refs: list[TargetRef] = Field([], alias="targetRefs", max_length=16)
    api_key: KeySecret | None = Field(None, alias="apiKey")
    azure_api_key: KeySecret | None = Field(None, alias="azureAPIKey")
    anthropic_api_key: KeySecret | None = Field(None, alias="anthropicAPIKey")
    aws_credentials: AwsCredentials | None = Field(None, alias="awsCredentials")
    azure_credentials: AzureCredentials | None = Field(None, alias="azureCredentials")
    gcp_credentials: GcpCredentials | None = Field(None, alias="gcpCredentials")
    # Not ours to rotate; ``gateway_truth`` looks at it.
    credential_override: Any = Field(None, alias="credentialOverride")


class ObjectMeta(SchemaModel):
    """``metadata``, as far as it is used."""

    name: Name
    namespace: Namespace | None = None
    uid: str | None = None
    annotations: dict[str, str] = {}


class BackendSecurityPolicy(SchemaModel):
    """The whole object."""

    api_version: Text = Field(alias="apiVersion")
    kind: Literal["BackendSecurityPolicy"]
    metadata: ObjectMeta
    spec: Spec
    status: Any = None


@dataclass(frozen=True, slots=True)
class Mechanism:
    """The block that a type of policy is about.

    Attributes:
        block: The block's name in ``spec``.
        static: Name of the provider, where the block is a key that a person put there and nothing rotates.
        unmanaged: Fields of the block by which the gateway comes to a credential that nobody has to rotate.
    """

    block: str
    static: str = ""
    unmanaged: tuple[str, ...] = ()


MECHANISMS = {
    "APIKey": Mechanism("apiKey", "api-key"),
    "AWSCredentials": Mechanism("awsCredentials"),
    "AzureAPIKey": Mechanism("azureAPIKey", "azure-api-key"),
    "AzureCredentials": Mechanism("azureCredentials", unmanaged=("useManagedIdentity", "managedIdentity")),
    "AnthropicAPIKey": Mechanism("anthropicAPIKey", "anthropic-api-key"),
    "GCPCredentials": Mechanism("gcpCredentials", unmanaged=("isPassthrough",)),
}
"""By ``spec.type``."""
FIRST_TYPES = ("APIKey", "AWSCredentials", "AzureCredentials")
"""Those that v0.2 of the gateway has; the others came with later releases of ``v1alpha1``."""
SPEC_FIELDS = {info.alias or name: name for name, info in Spec.model_fields.items()}
"""Attributes of ``Spec`` by the API's own names."""
